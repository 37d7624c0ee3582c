"""A fallback that no longer follows is filled anew while the primary goes on serving, as README tells it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from statehub_plan.cli.workspace import JOURNAL_ENV
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.postgres.slots import drop_slot
from tests.integration.applying import GATE, planned, ran
from tests.integration.replicating import (
    approved_move,
    carried_out,
    drop_slot_into,
    equal_after_a_drain,
    following_world,
    keeps_writing,
    run_at,
    stream_into,
    streams,
    writable,
)


@pytest.fixture
def moved(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Moved once: a fallback that follows, and a client that writes during everything."""
    with following_world() as built:
        built.start_client()
        carried_out(approved_move(built, "there", TARGET))
        yield built


def _slot_dropped(world: DemoWorld) -> tuple[str, ...]:
    """As `guard` does it when the primary's disk fills; no slot is left on the primary."""
    drop_slot_into(world, SOURCE)
    return ()


def _database_lost(world: DemoWorld) -> tuple[str, ...]:
    """An empty database answers under the fallback's name, granted as `doctor` and `compare` want it; the slot that
    fed the old one is left."""
    left = stream_into(world, SOURCE)
    change = f"ALTER SUBSCRIPTION {left}"
    run_at(world, SOURCE, f"{change} DISABLE", f"{change} SET (slot_name = NONE)", f"DROP SUBSCRIPTION {left}")
    _put_an_empty_one_in_its_place(world)
    return (left,)


def _put_an_empty_one_in_its_place(world: DemoWorld) -> None:
    with psycopg.connect(world.sites[SOURCE].cluster.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE statehub (FORCE)")
        connection.execute("CREATE DATABASE statehub OWNER statehub_owner")
        connection.execute("REVOKE ALL ON DATABASE statehub FROM PUBLIC")
        connection.execute("GRANT CONNECT ON DATABASE statehub TO statehub_app, statehub_cutover, statehub_reader")
    with psycopg.connect(world.sites[SOURCE].cluster.dsn("statehub"), autocommit=True) as connection:
        connection.execute("GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO statehub_cutover")


def _primary_lost(world: DemoWorld) -> tuple[str, ...]:
    """After a switchback the primary was lost, and the side that the document wishes primary was opened, as README
    tells it: the empty database is the fallback now."""
    carried_out(approved_move(world, "back-before", SOURCE))
    into = stream_into(world, TARGET)
    with psycopg.connect(world.sites[SOURCE].cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'statehub'")
        drop_slot(connection, into)
    _put_an_empty_one_in_its_place(world)
    os.environ[JOURNAL_ENV] = str(world.directory / "state" / "after-the-loss.db")
    carried_out(planned(world, "lost", "abort"))
    return ()


@pytest.mark.parametrize(
    "lose", [_slot_dropped, _database_lost, _primary_lost], ids=["slot dropped", "database lost", "primary lost"]
)
def test_a_fallback_is_filled_anew_without_moving_the_primary(
    moved: DemoWorld, lose: Callable[[DemoWorld], tuple[str, ...]]
) -> None:
    """A rehearsal of the way back fills it; the document's own plan then keeps the primary, and what was only for a
    switch goes. The way back is lossless again, and a complete switchback loses nothing."""
    left = lose(moved)
    refused = ran("plan", moved.plan_file)
    assert Exit.ERROR == refused.status
    assert "[fallback-not-following]" in refused.out
    assert "When the fallback is lost or no longer follows" in " ".join(refused.out.split())
    back = approved_move(moved, "back", SOURCE)
    rehearsed = ran("rehearse", back)
    assert Exit.DONE == rehearsed.status, rehearsed.told
    assert {TARGET} == writable(moved)
    carried_out(planned(moved, "keep"))
    revoked = ran("revoke", back, "--gate", GATE, "--key", moved.key_file, "--reason", "it was to fill", "--yes")
    assert Exit.DONE == revoked.status, revoked.told
    assert Exit.APPROVAL_MISSING == ran("apply", back).status
    into = stream_into(moved, SOURCE)
    slots = [f"{TARGET}: slot {name}" for name in (*left, into)]
    assert sorted([*slots, f"{SOURCE}: subscription {into}"]) == streams(moved)
    assert "way back: lossless" in ran("guard", moved.plan_file).out
    assert {TARGET} == writable(moved)
    assert keeps_writing(moved)
    carried_out(approved_move(moved, "again", SOURCE))
    assert {SOURCE} == writable(moved)
    assert 0 == moved.stop_client()
    found = moved.verify(SOURCE)
    assert (0, 0) == (found.lost, found.duplicated), found
    assert equal_after_a_drain(moved, SOURCE)
