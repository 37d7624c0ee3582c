"""SIGKILL at every step boundary and inside the long steps, in both directions, on the demo's real world.

Each kill is followed by a look at both databases and by another `apply` of the same plan. A client writes through the
access path all the time and keeps a ledger of what was acknowledged.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import APPROVER, SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit

GATE = "CUST-WP-0011-T07"
BEFORE_THE_FREEZE = ("check-evidence", "backup", "prepare-target", "hold", "copy", "sync-sequences", "compare")
AFTER_IT = ("freeze", "decide", "open", "redirect", "stabilize", "document")
MOMENTS = [
    *(f"{when}:{kind}" for kind in (*BEFORE_THE_FREEZE, *AFTER_IT) for when in ("started", "ended")),
    "inside:prepare-target",
    "inside:copy",
    "inside:compare",
    "inside:freeze",
    "inside:redirect",
]


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows, one client that writes during everything, one verdict at the end."""
    with DemoWorld(rows=5_000, stabilization="1s", settings={"fsync": "off"}) as built:
        built.start_client()
        yield built


def run(world: DemoWorld, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the tool, as a person would run it."""
    return subprocess.run(
        world.command(*arguments),
        env=world.command_env,
        cwd=world.directory,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


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
    planned = run(world, making, "plans/cust-wp-0011.yaml", "-out", str(file))
    assert Exit.DONE == planned.returncode, planned.stdout + planned.stderr
    key = str(world.key_file)
    signed = run(
        world, "approve", str(file), "--gate", GATE, "--key", key, "--as", APPROVER, "--reason", "drill", "--yes"
    )
    assert Exit.DONE == signed.returncode, signed.stderr
    return file, old, new


def applied_until_done(world: DemoWorld, file: Path) -> None:
    """`apply` again, and again while stabilization waits."""
    until = time.monotonic() + 60
    while True:
        done = run(world, "apply", str(file))
        if done.returncode == Exit.DONE or time.monotonic() > until:
            break
        assert Exit.WAITING == done.returncode, done.stderr
        time.sleep(0.2)
    assert Exit.DONE == done.returncode, done.stderr


@pytest.mark.parametrize(("index", "moment"), list(enumerate(MOMENTS)), ids=MOMENTS)
def test_a_killed_apply_loses_nothing_and_another_one_finishes(world: DemoWorld, index: int, moment: str) -> None:
    """Whatever moment the tool dies at: never two writable sides, before the freeze the old one serves at once, and
    running `apply` again ends with the new primary serving."""
    file, old, new = approved_plan(world, index)
    killer = [sys.executable, "-m", "tests.integration.killed_apply", str(file), moment]
    while True:
        died = subprocess.run(
            killer, env=world.command_env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
        )
        if died.returncode != Exit.WAITING:
            break
    old_open, new_open = accepts_writes(world, old), accepts_writes(world, new)
    evidence_less = index % 2 == 1 and moment.endswith("check-evidence")
    if not evidence_less:
        assert -signal.SIGKILL == died.returncode, died.stderr
    assert not (old_open and new_open and moment.split(":")[1] not in ("check-evidence", "backup"))
    if moment.split(":")[1] in BEFORE_THE_FREEZE and not evidence_less:
        assert soon(world, old)
    if died.returncode != Exit.DONE:
        applied_until_done(world, file)
    assert (False, True) == (accepts_writes(world, old), accepts_writes(world, new))


def test_after_all_of_this_no_acknowledged_write_is_lost_or_doubled(world: DemoWorld) -> None:
    """The client's ledger against the database that is primary at the end."""
    assert 0 == world.stop_client()
    found = world.verify(SOURCE if len(MOMENTS) % 2 == 0 else TARGET)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
    assert found.acknowledged > len(MOMENTS)
