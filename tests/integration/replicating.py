"""The demo's world with a fallback that follows: who may write where, which streams there are, when both are equal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from statehub_plan.components import find_opa
from statehub_plan.demo.cluster import SUPERUSER
from statehub_plan.demo.ledger import read_ledger
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.policy.bundle import read_bundle
from statehub_plan.policy.server import OpaServer
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.replication import stream_name
from statehub_plan.postgres.slots import drop_slot
from statehub_plan.postgres.state import identity
from tests.integration.applying import approve, ran
from tests.integration.served_database import eventually

SETTINGS = {"fsync": "off", "full_page_writes": "off", "wal_retrieve_retry_interval": "100ms"}
ROWS = 2_000


def following_world(*, rate: float = 20.0) -> AbstractContextManager[DemoWorld]:
    """Two sites with few rows, and streams that are tried again at once."""
    return served_world(rows=ROWS, rate=rate)


@contextmanager
def served_world(**options: Any) -> Iterator[DemoWorld]:
    """Two sites, one OPA for all commands, and this process's environment as their user's."""
    with DemoWorld(stabilization="1s", settings=SETTINGS, **options) as built:
        opa = OpaServer(find_opa(), read_bundle(built.directory / "policies"), work_dir=None)
        before = dict(os.environ)
        try:
            opa.wait(20.0)
            served = {"STATEHUB_PLAN_OPA_URL": f"http://127.0.0.1:{opa.port}", "STATEHUB_PLAN_OPA_TOKEN": opa.token}
            os.environ.update(built.env | served)
            yield built
        finally:
            opa.stop()
            os.environ.clear()
            os.environ.update(before)


def away_from(name: str) -> str:
    """The other site."""
    return TARGET if name == SOURCE else SOURCE


def accepts_writes(world: DemoWorld, name: str) -> bool:
    """Whether the service's own role could write there now; waits for nothing, changes nothing."""
    with psycopg.connect(world.sites[name].dsn("statehub_app"), autocommit=True) as connection:
        try:
            connection.execute("BEGIN READ WRITE")
            connection.execute("SET LOCAL lock_timeout = '500ms'")
            connection.execute("DELETE FROM public.idempotency_key WHERE false")
        except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.LockNotAvailable):
            return False
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return False  # a target that is being refilled
        return True


def writable(world: DemoWorld) -> set[str]:
    """The sites that accept writes now."""
    return {name for name in world.sites if accepts_writes(world, name)}


def streams(world: DemoWorld) -> list[str]:
    """Every slot and every subscription of both sites, as `SITE: slot NAME` and `SITE: subscription NAME`."""
    found = []
    for name, site in world.sites.items():
        with psycopg.connect(site.dsn(SUPERUSER), autocommit=True) as session:
            for kind, catalog in (
                ("slot", "slot_name FROM pg_replication_slots"),
                ("subscription", "subname FROM pg_subscription"),
            ):
                found += [f"{name}: {kind} {one}" for (one,) in session.execute(f"SELECT {catalog}".encode())]
    return sorted(found)


def stream_into(world: DemoWorld, receiver: str) -> str:
    """What slot and subscription of the stream into a site are called."""
    with connect(world.sites[receiver].dsn(), purpose="test", read_only=True) as session:
        return stream_name(identity(session))


def run_at(world: DemoWorld, site: str, *statements: str) -> None:
    """As a superuser, each by itself, also where new sessions are read-only."""
    with psycopg.connect(world.sites[site].dsn(SUPERUSER), autocommit=True) as session:
        session.execute("SET default_transaction_read_only = off")
        for statement in statements:
            session.execute(statement.encode())


def drop_slot_into(world: DemoWorld, receiver: str) -> None:
    """Somebody drops the slot of the stream into a site."""
    with connect(world.sites[away_from(receiver)].dsn(SUPERUSER), purpose="test") as sender:
        drop_slot(sender, stream_into(world, receiver))


def approved_move(world: DemoWorld, name: str, new: str) -> Path:
    """A saved and approved plan that makes `new` the primary."""
    file = world.directory / f"{name}.plan"
    made = ran("plan" if new == TARGET else "switchback", world.plan_file, "-out", file)
    assert Exit.DONE == made.status, made.told
    signed = approve(world, file)
    assert Exit.DONE == signed.status, signed.told
    return file


def carried_out(file: Path) -> None:
    """`apply`, and again while stabilization waits."""
    assert eventually(lambda: Exit.WAITING != (status := _applied(file)) and Exit.DONE == status, timeout_s=60)


def _applied(file: Path) -> int:
    found = ran("apply", file)
    assert found.status in (Exit.DONE, Exit.WAITING), found.told
    return found.status


def aborted(world: DemoWorld, name: str) -> None:
    """The present primary is kept: an abort is planned and carried out."""
    file = world.directory / f"{name}-abort.plan"
    made = ran("abort", world.plan_file, "-out", file)
    assert Exit.DONE == made.status, made.told
    carried_out(file)


def equal_after_a_drain(world: DemoWorld, primary: str) -> bool:
    """Whether the fallback comes to hold exactly what the primary holds; nobody may write meanwhile."""
    dsns = [world.sites[name].dsn() for name in (primary, away_from(primary))]
    return eventually(lambda: compare(*dsns, sequences=False).answer is Answer.EQUAL, timeout_s=30)


def acknowledged(world: DemoWorld) -> int:
    """How many writes the client was told are safe."""
    return len(read_ledger(world.ledger_file).acknowledged)


def keeps_writing(world: DemoWorld) -> bool:
    """Whether the client gets a write through before long."""
    so_far = acknowledged(world)
    return eventually(lambda: acknowledged(world) > so_far)
