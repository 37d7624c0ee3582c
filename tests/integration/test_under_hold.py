"""`compare.underHold: changes`: every row that was written since the baseline is compared in the hold."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statehub_plan.cli.workspace import Workspace, load_plan
from statehub_plan.demo.cluster import SUPERUSER
from statehub_plan.demo.world import SOURCE, DemoWorld
from statehub_plan.errors import StatehubError
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.baseline import Baseline
from tests.integration.applying import At, applied_with
from tests.integration.killed_apply import killed_apply
from tests.integration.replicating import (
    approved_move,
    away_from,
    carried_out,
    keeps_writing,
    run_at,
    writable,
)


@pytest.fixture(scope="module")
def world(world: DemoWorld) -> DemoWorld:
    """The demo's document asks for it; a table without a key is there too."""
    run_at(
        world,
        SOURCE,
        "CREATE TABLE public.no_key (v text)",
        "ALTER TABLE public.no_key OWNER TO statehub_owner",
        "ALTER TABLE public.no_key REPLICA IDENTITY FULL",
        "INSERT INTO public.no_key SELECT 'x' FROM generate_series(1, 5)",
    )
    return world


class Told:
    """What the tests tell each other: who is primary."""

    primary = SOURCE


def proofs(file: Path) -> list[dict[str, Any]]:
    """What the comparisons under the hold of this service left on record."""
    with Workspace.of_plan(load_plan(file)) as workspace:
        done = [one.payload for one in workspace.journal.records() if one.kind is RecordKind.STEP_DONE]
    return [one for one in done if one.get("kind") == StepKind.COMPARE.value]


def slots(world: DemoWorld) -> list[str]:
    """Every slot of a change log, on either side."""
    found: list[str] = []
    for site in world.sites.values():
        with psycopg.connect(site.dsn(SUPERUSER), autocommit=True) as session:
            rows = session.execute("SELECT slot_name FROM pg_replication_slots WHERE temporary").fetchall()
            found += [name for (name,) in rows]
    return found


def moved(world: DemoWorld, name: str, at: At) -> tuple[Path, StatehubError | None]:
    """A whole move during which something happens."""
    new = away_from(Told.primary)
    file = approved_move(world, name, new)
    error = applied_with(file, at)
    assert at.acted
    if error is None or error.code == "waiting":
        carried_out(file)
        Told.primary = new
        error = None
    return file, error


def test_what_was_written_since_is_compared_in_both_directions(world: DemoWorld) -> None:
    """There and back; only what has no key is read whole, and only once it was written to."""
    for number, whole in enumerate((1, 0)):
        old = Told.primary
        write = "INSERT INTO public.no_key VALUES ('y')" if whole else "SELECT"
        at = At("ended:rehearse", lambda old=old, write=write: run_at(world, old, write))  # type: ignore[misc]
        file, error = moved(world, f"both-{number}", at)
        assert error is None, (error, error.details)
        proof = proofs(file)[-1]
        assert ("changes", whole) == (proof["under_hold"], len(proof["read_whole"])), proof
        assert proof["compared"]
    assert [] == slots(world)


def test_a_row_that_somebody_changed_on_the_target_is_found_under_the_hold(world: DemoWorld) -> None:
    """No stream carries it and no definition tells; its key is in the target's log. Everything is released."""
    old, new = Told.primary, away_from(Told.primary)
    change = (
        "SET session_replication_role = replica",
        "UPDATE public.progress_event SET summary = summary || '!' "
        "WHERE id = (SELECT min(id) FROM public.progress_event)",
    )
    at = At("switching:drain", lambda: run_at(world, new, *change))
    _, error = moved(world, "meddled", at)
    assert error is not None
    assert "content-different" == error.code
    assert "progress_event" in " ".join(error.details)
    assert {old} == writable(world)
    assert keeps_writing(world)
    undo = change[1].replace("summary || '!'", "rtrim(summary, '!')")
    run_at(world, new, change[0], undo)


def test_a_truncation_since_the_baseline_makes_another_baseline(world: DemoWorld) -> None:
    """Its table would have to be read whole while writers wait; it is compared online instead, and no one signs."""
    old = Told.primary
    at = At("ended:rehearse", lambda: run_at(world, old, "TRUNCATE public.no_key", "SELECT pg_sleep(0.5)"))
    file, error = moved(world, "truncated", at)
    assert error is None, (error, error.details)
    assert 2 == at.steps.count("rehearse")
    assert [] == proofs(file)[-1]["read_whole"]


def test_another_process_makes_a_baseline_of_its_own(world: DemoWorld) -> None:
    """The one that rehearsed was killed: its slots went with it, and the next one rehearses again."""
    new = away_from(Told.primary)
    file = approved_move(world, "killed", new)
    assert -signal.SIGKILL == killed_apply(file, "ended:rehearse")
    at = At("nothing:at-all", lambda: None)
    applied_with(file, at)
    assert 1 == at.steps.count("rehearse")
    carried_out(file)
    Told.primary = new
    assert [] == slots(world)


def test_a_role_that_may_not_replicate_learns_what_to_do(world: DemoWorld) -> None:
    """Before anything is compared, and by name."""
    app = world.sites[Told.primary].dsn("statehub_app")
    with pytest.raises(StatehubError) as caught:
        Baseline(app, app)
    assert ("changes-slot-refused", True) == (caught.value.code, "REPLICATION" in caught.value.hint)
    assert [] == slots(world)


def test_a_side_that_publishes_nothing_is_refused_before_anybody_waits(source_db: str, target_db: str) -> None:
    """Without a fallback that follows, nothing is published on the new side, and nobody tells what is written there."""
    with pytest.raises(StatehubError) as caught:
        Baseline(source_db, target_db)
    assert ("changes-not-known", True) == (caught.value.code, "desired.fallback.mode" in caught.value.hint)
    for dsn in (source_db, target_db):
        with psycopg.connect(dsn, autocommit=True) as session:
            assert [] == session.execute("SELECT slot_name FROM pg_replication_slots WHERE temporary").fetchall()


def test_after_all_of_this_nothing_is_lost(world: DemoWorld) -> None:
    """The client's ledger against the primary."""
    assert 0 == world.stop_client()
    found = world.verify(Told.primary)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
