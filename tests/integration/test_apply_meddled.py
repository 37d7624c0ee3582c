"""Somebody else acts on the databases in the middle of a run, or acted on them under a journal that is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from statehub_plan.cli.workspace import load_plan
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.postgres.connect import connect, owned_by
from statehub_plan.postgres.register import read_decisions
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.state import EndpointState, read_state
from tests.integration.applying import At, accepts_writes, applied_with, approved, demo_world, ran


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Nobody writes here: what counts is what is decided. The tests run in this order."""
    with demo_world(stabilization="1s") as built:
        yield built


def state_of(world: DemoWorld, name: str) -> EndpointState:
    """What the tool has written into a side."""
    with closing(connect(world.sites[name].dsn(), purpose="test")) as session:
        found = read_state(session)
    assert found is not None
    return found


def decided(world: DemoWorld, name: str) -> list[tuple[int, str | None]]:
    """The register of a side."""
    with closing(connect(world.sites[name].dsn(), purpose="test")) as session:
        return [(row.term, row.primary) for row in read_decisions(session)]


def empty_target(world: DemoWorld, owner: str | None) -> None:
    """Another operator prepares the target for the same term, under the epoch that was claimed there last."""
    source, target = world.sites[SOURCE].dsn(), world.sites[TARGET].dsn()
    mark = state_of(world, TARGET)
    assert mark.transfer is not None
    assert mark.transfer.term is not None
    prepare_schema(
        source,
        target if owner is None else owned_by(target, owner),
        run="another",
        epoch=mark.epoch,
        term=mark.transfer.term,
        replace=False,
        safety_dir=world.directory / "backups",
        endpoint=TARGET,
    )


def set_connections(world: DemoWorld, name: str, limit: int) -> None:
    """How many sessions that are no superuser's a side's database admits; -1 for any number."""
    with psycopg.connect(world.sites[name].cluster.dsn(), autocommit=True) as session:
        session.execute(f"ALTER DATABASE statehub CONNECTION LIMIT {limit}".encode())


def owner_at(world: DemoWorld, name: str) -> str:
    """Whose lease claimed a side last."""
    with closing(connect(world.sites[name].dsn(), purpose="test")) as session:
        row = session.execute("SELECT owner FROM statehub_plan.state").fetchone()
    assert row is not None
    return str(row[0])


def test_a_target_that_stops_answering_before_the_freeze_keeps_no_writer_waiting(world: DemoWorld) -> None:
    """The hold ends with the run, in a process that lives on."""
    file = approved(world, "silent")
    closing_down = At("started:freeze", lambda: set_connections(world, TARGET, 0))
    try:
        ended = applied_with(file, closing_down)
        assert closing_down.acted
        assert ended is not None
        assert accepts_writes(world, SOURCE)
    finally:
        set_connections(world, TARGET, -1)


def test_a_target_emptied_between_the_look_and_the_decision_is_not_decided_for(world: DemoWorld) -> None:
    """The database itself compares what is there with what was proved; the old primary then serves again."""
    file = approved(world, "emptied")
    emptying = At("started:decide", lambda: empty_target(world, owner_at(world, TARGET)))
    ended = applied_with(file, emptying)
    assert emptying.acted
    assert ended is not None
    assert ("target-changed", Exit.STALE_PLAN) == (ended.code, ended.exit_status)
    term = load_plan(file).term
    assert [(term, None)] == decided(world, TARGET)
    assert (True, False) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_a_rival_with_the_same_epoch_from_another_journal_changes_nothing(world: DemoWorld) -> None:
    """It is told that the epoch is not its own; the run that it met decides for what it proved."""
    refused: list[StatehubError] = []

    def rival() -> None:
        with pytest.raises(StatehubError) as caught:
            empty_target(world, None)
        refused.append(caught.value)

    file = approved(world, "rivalled")
    meeting = At("started:decide", rival)
    ended = applied_with(file, meeting)
    assert ended is None or Exit.WAITING == ended.exit_status
    assert [("fenced-out", Exit.LOCKED)] == [(error.code, error.exit_status) for error in refused]
    if ended is not None:
        finish(file)
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_a_new_journal_goes_on_where_a_lost_one_had_come(world: DemoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, or the same one without its journal: the way back takes a higher epoch and is carried out."""
    before = max(state_of(world, name).epoch for name in (SOURCE, TARGET))
    monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", str(world.directory / "state" / "elsewhere.db"))
    file = approved(world, "back", "switchback")
    finish(file)
    assert (True, False) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))
    assert before < min(state_of(world, name).epoch for name in (SOURCE, TARGET))


def exchange_target(world: DemoWorld) -> None:
    """Another database answers under the target's name; the real one lives on, decided and open, under another."""
    cluster = world.sites[TARGET].cluster
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'statehub'")
        connection.execute("ALTER DATABASE statehub RENAME TO statehub_real")
        connection.execute("ALTER DATABASE statehub_real ALLOW_CONNECTIONS true")
        connection.execute("CREATE DATABASE statehub OWNER statehub_owner")
    with psycopg.connect(cluster.dsn("statehub"), autocommit=True) as connection:
        connection.execute("GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO statehub_cutover")


def test_a_run_that_ends_behind_its_decision_opens_nothing_beside_what_was_decided(
    pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path
) -> None:
    """Right before clients are redirected the new side's connection string leads elsewhere, and Ctrl-C is pressed: an
    empty register knows of no decision, and the run that took it does."""
    with demo_world(stabilization="1s", method="replication", fallback="following") as world:

        def bound_anew() -> None:
            exchange_target(world)
            raise KeyboardInterrupt

        ending = At("switching:redirect", bound_anew)
        ended = applied_with(approved(world, "there"), ending)
        assert (True, "interrupted") == (ending.acted, ended and ended.code)
        with psycopg.connect(world.sites[TARGET].cluster.dsn("statehub_real")) as real:
            assert [(1, TARGET)] == real.execute("SELECT term, primary_endpoint FROM statehub_plan.decision").fetchall()
        assert not accepts_writes(world, SOURCE)


def finish(file: Path) -> None:
    """`apply`, and again while stabilization waits."""
    until = time.monotonic() + 60
    while Exit.WAITING == (found := ran("apply", file)).status and time.monotonic() < until:
        time.sleep(0.2)
    assert Exit.DONE == found.status, found.told
