"""`compare.underHold: stream`, and rows that the stream left out between rehearsal and hold without an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from statehub_plan.demo.cluster import SUPERUSER
from statehub_plan.demo.world import SOURCE, DemoWorld
from statehub_plan.errors import StatehubError
from tests.integration.applying import At, applied_with
from tests.integration.replicating import approved_move, away_from, carried_out, keeps_writing, run_at, writable
from tests.integration.served_database import eventually


@pytest.fixture(scope="module")
def world(world: DemoWorld) -> DemoWorld:
    """The demo's document with the default; a table that only these tests write to is there too."""
    text = world.plan_file.read_text()
    world.plan_file.write_text(text.replace("underHold: changes", "underHold: stream"))
    run_at(
        world,
        SOURCE,
        "CREATE TABLE public.left_out (id integer PRIMARY KEY)",
        "ALTER TABLE public.left_out OWNER TO statehub_owner",
    )
    return world


class Told:
    """What the tests tell each other: who is primary."""

    primary = SOURCE


def reconnect(world: DemoWorld, old: str, between: Callable[[psycopg.Connection, str], object]) -> None:
    """The stream into the other side ends, something happens at the old one, and it begins again."""
    new, primary = (psycopg.connect(world.sites[one].dsn(SUPERUSER), autocommit=True) for one in (away_from(old), old))
    with closing(new), closing(primary):
        new.execute("SET default_transaction_read_only = off")
        row = new.execute("SELECT subname, subslotname FROM pg_subscription WHERE subenabled").fetchone()
        assert row is not None
        subscription, slot = row
        new.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(subscription)))
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        assert eventually(lambda: primary.execute(active, [slot]).fetchone() == (False,))
        between(primary, slot)
        new.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(subscription)))


def skip_rows(primary: psycopg.Connection, slot: str) -> None:
    """Rows that were committed and will not be sent."""
    primary.execute("INSERT INTO public.left_out SELECT generate_series(1, 100)")
    primary.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [slot])


def moved(world: DemoWorld, name: str, at: At) -> tuple[Path, StatehubError | None]:
    """An approved move during which something happens."""
    file = approved_move(world, name, away_from(Told.primary))
    error = applied_with(file, at)
    assert at.acted
    return file, error


def rows(world: DemoWorld, site: str) -> int:
    """How many the table has there."""
    with psycopg.connect(world.sites[site].dsn(SUPERUSER)) as session:
        (count,) = session.execute("SELECT count(*) FROM public.left_out").fetchone() or (0,)
    return int(count)


def test_a_stream_that_only_connected_again_costs_one_rehearsal(world: DemoWorld) -> None:
    """It may have left out something; content says that it did not, and the same approved plan goes on."""
    new = away_from(Told.primary)
    at = At("ended:rehearse", lambda: reconnect(world, Told.primary, lambda _primary, _slot: None))
    file, error = moved(world, "again", at)
    assert error is None or error.code == "waiting", (error, error.details)
    assert 2 == at.steps.count("rehearse")
    carried_out(file)
    Told.primary = new
    assert {new} == writable(world)


def test_rows_that_were_skipped_without_an_error_are_found_before_anything_is_decided(world: DemoWorld) -> None:
    """A slot that was moved forward looks as ever and sends every later row; the old primary goes on."""
    old = Told.primary
    at = At("ended:rehearse", lambda: reconnect(world, old, skip_rows))
    _, error = moved(world, "skipped", at)
    assert error is not None
    assert "content-different" == error.code
    assert "left_out" in " ".join(error.details)
    assert ({old}, 100) == (writable(world), rows(world, old))
    assert keeps_writing(world)


def test_after_all_of_this_nothing_is_lost(world: DemoWorld) -> None:
    """The client's ledger against the primary."""
    assert 0 == world.stop_client()
    found = world.verify(Told.primary)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
