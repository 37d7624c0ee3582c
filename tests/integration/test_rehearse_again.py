"""What comes between rehearsal and hold: the same approved plan proves everything anew, or finds what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statehub_plan.cli.workspace import Workspace, load_plan
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from tests.integration.applying import At, applied_with, approve, demo_world, planned, ran
from tests.integration.replicating import (
    approved_move,
    away_from,
    carried_out,
    keeps_writing,
    run_at,
    writable,
)
from tests.integration.streaming import promote


class Told:
    """What the tests tell each other: who is primary."""

    primary = SOURCE


def change_and_undo(world: DemoWorld, site: str) -> None:
    """A migration that comes to nothing: the definitions are the same as before, and nobody can know that at once."""
    said = "Who changed what; written by triggers only"
    run_at(world, site, "COMMENT ON SCHEMA audit IS 'something else'", f"COMMENT ON SCHEMA audit IS '{said}'")


def cut_stream(world: DemoWorld, receiver: str) -> None:
    """The sender's process of the stream ends; the receiver counts that as a failure and connects again."""
    run_at(
        world,
        away_from(receiver),
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL",
    )


def rehearsals(file: Path) -> list[str]:
    """The outcome of each one in the journal."""
    with Workspace.of_plan(load_plan(file)) as workspace:
        facts = [one.payload for one in workspace.journal.records() if one.kind is RecordKind.FACT]
    return [str(one["state"]) for one in facts if one.get("kind") == StepKind.REHEARSE.value]


class Always(At):
    """Does it every time that moment comes."""

    def _reached(self, when: str) -> None:
        super()._reached(when)
        self.acted = False


@pytest.mark.parametrize("moment", ["ended:rehearse", "switching:compare"])
@pytest.mark.parametrize("side", ["old", "new"])
def test_a_change_that_came_to_nothing_costs_a_rehearsal_and_no_approval(
    world: DemoWorld, moment: str, side: str
) -> None:
    """Before the hold and under it, on either side: the same plan goes on, and nobody signs again."""
    old, new = Told.primary, away_from(Told.primary)
    file = approved_move(world, f"undone-{moment[:4]}-{side}", new)
    at = At(moment, lambda: change_and_undo(world, old if side == "old" else new))
    assert applied_with(file, at) is None or at.acted
    assert 2 == at.steps.count("rehearse"), at.steps
    carried_out(file)
    Told.primary = new
    assert {new} == writable(world)


def test_a_stream_that_was_cut_since_is_proved_again(world: DemoWorld) -> None:
    """Its receiver has counted an error, which may have been any: content is compared once more."""
    new = away_from(Told.primary)
    file = approved_move(world, "cut", new)
    at = At("ended:rehearse", lambda: cut_stream(world, new))
    applied_with(file, at)
    assert at.acted
    carried_out(file)
    Told.primary = new
    assert {new} == writable(world)


def streams(world: DemoWorld) -> dict[str, Any]:
    """What `observe` says of each one, by its receiver."""
    found: dict[str, Any] = ran("observe", world.plan_file, "--json").json["streams"]
    return found


def _rehearsed_once_more(file: Path, new: str) -> None:
    """The plan is carried out to its end, after one rehearsal by the same run."""
    at = At("nothing:at-all", lambda: None)
    error = applied_with(file, at)
    assert error is None or error.exit_status is Exit.WAITING, (error, error.details)
    assert 1 == at.steps.count("rehearse")
    carried_out(file)
    Told.primary = new


def test_a_receiver_that_has_failed_over_since_is_proved_again(world: DemoWorld) -> None:
    """Its promoted standby may lack what was confirmed: nothing is lossless, and nothing moves, before all of it was
    compared anew."""
    old, new = Told.primary, away_from(Told.primary)
    first = approved_move(world, "before-a-failover", new)
    assert Exit.DONE == ran("rehearse", first).status
    assert streams(world)[new]["lossless"]
    cluster = world.sites[new].cluster
    cluster.stop()
    promote(cluster)
    assert "has failed over" in streams(world)[new]["why"]
    assert Exit.DONE == ran("rehearse", first).status
    assert streams(world)[new]["lossless"]
    cluster.stop()
    promote(cluster)
    file = planned(world, "after-a-failover", "plan" if new == TARGET else "switchback")
    assert Exit.DONE == approve(world, file).status
    _rehearsed_once_more(file, new)
    assert {new} == writable(world)
    assert streams(world)[old]["lossless"]


def test_a_plan_that_was_made_after_a_rehearsal_may_repeat_it(world: DemoWorld) -> None:
    """Such a plan shows no rehearsal; the approved switch asks for one that holds."""
    old, new = Told.primary, away_from(Told.primary)
    first = approved_move(world, "first", new)
    assert Exit.DONE == ran("rehearse", first).status
    file = planned(world, "after-a-rehearsal", "plan" if new == TARGET else "switchback")
    assert Exit.DONE == approve(world, file).status
    change_and_undo(world, old)
    _rehearsed_once_more(file, new)


def test_a_change_that_never_ends_ends_the_run_and_writers_go_on(world: DemoWorld) -> None:
    """Two more rehearsals, then the error, with nothing held; a later run of the same plan succeeds."""
    old, new = Told.primary, away_from(Told.primary)
    file = approved_move(world, "restless", new)
    at = Always("ended:rehearse", lambda: change_and_undo(world, old))
    error = applied_with(file, at)
    assert error is not None
    assert ("rehearsal-outdated", Exit.STALE_PLAN) == (error.code, error.exit_status)
    assert 3 == at.steps.count("rehearse")
    assert {old} == writable(world)
    assert keeps_writing(world)
    carried_out(file)
    Told.primary = new


def test_what_differs_in_earnest_is_found_by_the_second_rehearsal(world: DemoWorld) -> None:
    """A row of the target that somebody took away while the stream was stopped: everything is released, and it says
    which table; the old side stays primary."""
    old, new = Told.primary, away_from(Told.primary)
    file = approved_move(world, "meddled", new)

    def meddle() -> None:
        run_at(
            world,
            new,
            "SET session_replication_role = replica",
            "DELETE FROM public.progress_event WHERE id = (SELECT max(id) FROM public.progress_event)",
        )
        change_and_undo(world, new)

    at = At("ended:rehearse", meddle)
    error = applied_with(file, at)
    assert at.acted
    assert error is not None
    assert "progress_event" in f"{error.what} {error.details}"
    assert {old} == writable(world)
    assert ["passed", "failed"] == rehearsals(file)[-2:]
    assert 0 == world.stop_client()
    found = world.verify(Told.primary)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)


def test_a_rehearsal_waits_for_no_approval(
    pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path
) -> None:
    """Whoever is to approve wants to see the expected gap; the switch itself is refused until they have. Where content
    is to be replaced, as on the way there, they are asked before."""
    with demo_world(stabilization="1s", method="replication", fallback="following") as unasked:
        replacing = planned(unasked, "there")
        assert Exit.APPROVAL_MISSING == ran("rehearse", replacing).status
        assert Exit.DONE == approve(unasked, replacing).status
        carried_out(replacing)
        back = planned(unasked, "back", "switchback")
        rehearsed = ran("rehearse", back)
        assert Exit.DONE == rehearsed.status, rehearsed.told
        assert Exit.APPROVAL_MISSING == ran("apply", back).status
        assert {TARGET} == writable(unasked)
