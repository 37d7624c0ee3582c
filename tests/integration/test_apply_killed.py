"""SIGKILL at every step boundary and inside the long steps, in both directions, on the demo's real world.

Each kill is followed by a look at both databases and by another `apply` of the same plan. A client writes through the
access path all the time and keeps a ledger of what was acknowledged.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from statehub_plan import cli
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import APPROVER, SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from tests.integration.killed_apply import killed_apply

GATE = "CUST-WP-0011-T07"
BEFORE_THE_FREEZE = ("check-evidence", "backup", "prepare-target", "hold", "copy", "sync-sequences", "compare")
FROM_THE_FREEZE_ON = ("freeze", "decide", "open", "redirect", "stabilize", "document")
MOMENTS = [
    *(f"ended:{kind}" for kind in (*BEFORE_THE_FREEZE, *FROM_THE_FREEZE_ON)),
    *(f"inside:{kind}" for kind in ("prepare-target", "hold", "copy", "compare", "freeze", "decide", "redirect")),
    *(f"started:{kind}" for kind in ("hold", "freeze", "open", "redirect")),
]


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows, one client that writes during everything, one verdict at the end."""
    kept = {"fsync": "off"}
    with DemoWorld(rows=5_000, stabilization="1s", settings=kept, method="dump", fallback="frozen") as built:
        before = dict(os.environ)
        os.environ.update(built.env)
        built.start_client()
        yield built
        os.environ.clear()
        os.environ.update(before)


def accepts_writes(world: DemoWorld, name: str) -> bool:
    """Whether the service's own role could write there now; waits for nothing, changes nothing."""
    with psycopg.connect(world.sites[name].dsn("statehub_app"), autocommit=True) as connection:
        try:
            connection.execute("BEGIN READ WRITE")
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            connection.execute(
                "INSERT INTO public.idempotency_key (key, request_sha256) SELECT 'x', 'x' WHERE pg_backend_pid() < 0"
            )
        except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.LockNotAvailable):
            return False
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return False  # a target that is being refilled
        return True


def soon(world: DemoWorld, name: str) -> bool:
    """Whether it accepts writes within two seconds: the server needs a moment to see that a client is gone."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        if accepts_writes(world, name):
            return True
        time.sleep(0.05)
    return False


def approved_plan(world: DemoWorld, index: int) -> tuple[Path, str, str]:
    """A saved and approved plan for the next move, with the names of its old and new primary."""
    making, old, new = ("plan", SOURCE, TARGET) if index % 2 == 0 else ("switchback", TARGET, SOURCE)
    file = world.directory / f"{index}.plan"
    assert Exit.DONE == cli.run([making, str(world.plan_file), "-out", str(file)])
    signing = ["--gate", GATE, "--key", str(world.key_file), "--as", APPROVER, "--reason", "drill", "--yes"]
    assert Exit.DONE == cli.run(["approve", str(file), *signing])
    return file, old, new


def applied_until_done(file: Path) -> None:
    """`apply` again, and again while stabilization waits."""
    until = time.monotonic() + 60
    while (status := cli.run(["apply", str(file)])) == Exit.WAITING and time.monotonic() < until:
        time.sleep(0.2)
    assert Exit.DONE == status


@pytest.mark.parametrize(("index", "moment"), list(enumerate(MOMENTS)), ids=MOMENTS)
def test_a_killed_apply_loses_nothing_and_another_one_finishes(world: DemoWorld, index: int, moment: str) -> None:
    """Whatever moment the tool dies at: never two writable sides, before the freeze the old one serves at once, and
    running `apply` again ends with the new primary serving."""
    file, old, new = approved_plan(world, index)
    was_writable = accepts_writes(world, new)
    while (status := killed_apply(file, moment)) == Exit.WAITING:
        time.sleep(0.2)
    kind = moment.partition(":")[2]
    absent_on_the_way_back = making_back(index) and kind == "check-evidence"
    assert (Exit.DONE if absent_on_the_way_back else -signal.SIGKILL) == status
    assert not (accepts_writes(world, old) and accepts_writes(world, new) and not was_writable)
    if kind in BEFORE_THE_FREEZE and not absent_on_the_way_back:
        assert soon(world, old)
    if not absent_on_the_way_back:
        applied_until_done(file)
    assert (False, True) == (accepts_writes(world, old), accepts_writes(world, new))


def making_back(index: int) -> bool:
    """Every second move is the way back."""
    return index % 2 == 1


def test_after_all_of_this_no_acknowledged_write_is_lost_or_doubled(world: DemoWorld) -> None:
    """The client's ledger against the database that is primary at the end."""
    assert 0 == world.stop_client()
    found = world.verify(TARGET if making_back(len(MOMENTS)) else SOURCE)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
    assert found.acknowledged > len(MOMENTS)
