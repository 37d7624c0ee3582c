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


def assert_a_backup_restores(world: DemoWorld) -> None:
    """Of the new primary as the move has left it: fenced once, and publishing to a fallback where that follows."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER ROLE statehub_cutover CREATEDB")
    for command in (("backup", world.plan_file), ("drill", "restore", world.plan_file, "--endpoint", TARGET)):
        done = ran(*command)
        assert Exit.DONE == done.status, done.told


def lose(world: DemoWorld) -> None:
    """The target's database is gone with everything in it; nothing answers under its name."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER DATABASE statehub ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'statehub'")
        for (slot,) in connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute("DROP DATABASE statehub")


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
        lose(world)
        for way in ("abort", "switchback"):
            refused = ran(way, world.plan_file)
            assert Exit.ERROR == refused.status
            assert f"on record made {TARGET} primary, and its register could not be read" in refused.told
            assert "When the primary is lost" in refused.told
        put_an_empty_one_in_its_place(world)
        assert Exit.ERROR == ran("abort", world.plan_file).status
        monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", str(world.directory / "state" / "after-the-loss.db"))
        carried_out(planned(world, "lost", "abort"))
        assert {SOURCE} == writable(world)
        assert {SOURCE} == pointed(world)
