"""The new primary is lost for good: how a person gets the fallback to serve, as README tells it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from tests.integration.applying import approved, demo_world, planned, ran
from tests.integration.replicating import carried_out, writable
from tests.integration.served_database import eventually


def assert_a_backup_restores(world: DemoWorld) -> None:
    """Of the new primary as the move has left it: fenced once, and publishing to a fallback where that follows."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER ROLE statehub_cutover CREATEDB")
    for command in (("backup", world.plan_file), ("drill", "restore", world.plan_file, "--endpoint", TARGET)):
        done = ran(*command)
        assert Exit.DONE == done.status, done.told


def lose(world: DemoWorld) -> None:
    """Nothing of the target's database answers any more; what it holds is kept, as on a disk that is pulled."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'statehub'")
        for (slot,) in connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute("ALTER DATABASE statehub RENAME TO lost")


def bring_back(world: DemoWorld) -> None:
    """The target's database answers again where it did, as it was."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE statehub (FORCE)")
        connection.execute("ALTER DATABASE lost RENAME TO statehub")
        connection.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS true")


def greet(world: DemoWorld, site: str, *handles: str) -> int:
    """The number of the last of these new people, acknowledged by a site."""
    last = 0
    with psycopg.connect(world.sites[site].dsn("statehub_app"), autocommit=True) as connection:
        for handle in handles:
            row = connection.execute(
                "INSERT INTO person (handle, display_name) VALUES (%s, %s) RETURNING id", [handle, handle]
            ).fetchone()
            assert row is not None
            last = row[0]
    return last


def people(world: DemoWorld, site: str) -> set[str]:
    """Who is known there."""
    with psycopg.connect(world.sites[site].dsn("statehub_app"), autocommit=True) as connection:
        return {handle for (handle,) in connection.execute("SELECT handle FROM person").fetchall()}


def put_an_empty_one_in_its_place(world: DemoWorld) -> None:
    """What an operator does with a fresh server, or with a connection string that leads to one."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE statehub OWNER statehub_owner")
    with psycopg.connect(world.sites[TARGET].cluster.dsn("statehub"), autocommit=True) as connection:
        connection.execute("GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO statehub_cutover")


def pointed(world: DemoWorld) -> set[str]:
    """Where the access paths lead."""
    facts = ran("observe", world.plan_file, "--json").json["observation"]["facts"]
    return {fact["value"]["endpoint"] for fact in facts if fact["id"].startswith("access.")}


@pytest.mark.parametrize(("method", "fallback"), [("replication", "following"), ("dump", "frozen")])
def test_a_fallback_serves_again_once_a_person_has_said_that_the_primary_is_gone(
    pg_installations: tuple[PgInstallation, ...],
    opa_path: Path,
    ssh_keygen: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fallback: str,
) -> None:
    """No plan opens it by itself: a primary that does not answer may be alive. An empty database in its place and a
    journal that begins anew are that word."""
    with demo_world(stabilization="1s", method=method, fallback=fallback) as world:
        carried_out(approved(world, "there"))
        assert_a_backup_restores(world)
        last = greet(world, TARGET, *(f"arrived {number}" for number in range(5)))
        assert method == "dump" or eventually(lambda: "arrived 4" in people(world, SOURCE))
        lose(world)
        for way in ("abort", "switchback"):
            refused = ran(way, world.plan_file)
            assert Exit.ERROR == refused.status
            assert f"on record made {TARGET} primary, and its register could not be read" in refused.told
            assert "When the primary is lost" in refused.told
        put_an_empty_one_in_its_place(world)
        assert Exit.ERROR == ran("abort", world.plan_file).status
        monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", str(world.directory / "state" / "after-the-loss.db"))
        told = ran("apply", planned(world, "lost", "abort"))
        assert Exit.DONE == told.status, told.told
        assert f"{SOURCE} is primary by term 2 of its own register" in told.told
        assert "may give numbers a second time (setval mends it): public.ticket_number" in told.told
        assert {SOURCE} == writable(world)
        assert {SOURCE} == pointed(world)
        assert greet(world, SOURCE, "late") > last


@pytest.mark.parametrize("journal", ["begun anew", "as before"])
def test_a_primary_that_comes_back_is_shut_and_not_believed(
    pg_installations: tuple[PgInstallation, ...],
    opa_path: Path,
    ssh_keygen: Path,
    monkeypatch: pytest.MonkeyPatch,
    journal: str,
) -> None:
    """The fallback has taken over by a later term: whichever journal is asked, `abort` shuts what came back, and what
    the fallback has acknowledged since stays."""
    with demo_world(stabilization="1s", method="replication", fallback="following") as world:
        carried_out(approved(world, "there"))
        lose(world)
        put_an_empty_one_in_its_place(world)
        monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", str(world.directory / "state" / "after-the-loss.db"))
        carried_out(planned(world, "lost", "abort"))
        greet(world, SOURCE, "served meanwhile")
        bring_back(world)
        assert {SOURCE, TARGET} == writable(world)
        if journal == "as before":
            monkeypatch.delenv("STATEHUB_PLAN_JOURNAL")
        told = ran("status", world.plan_file, "--exit-code")
        assert Exit.ERROR == told.status
        assert f"{SOURCE} since term 2" in told.told
        assert "BOTH SIDES ACCEPT WRITES" in told.told
        assert "one that `abort` makes" in " ".join(told.told.split())
        carried_out(planned(world, "shut", "abort"))
        assert {SOURCE} == writable(world)
        assert {SOURCE} == pointed(world)
        assert "served meanwhile" in people(world, SOURCE)
