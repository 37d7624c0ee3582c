"""A new primary that goes away while it is watched: bad looks on record, and a watch that goes on.

One world serves the whole file; the tests run in this order.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from statehub_plan.cli import runs
from statehub_plan.cli.workspace import Workspace, load_plan, utc_now
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.journal.protocol import Locked
from statehub_plan.model.record import RecordKind
from tests.integration.applying import accepts_writes, approved, demo_world, ran

TOLERATED = 100


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Nobody writes here; the plan bears with many bad looks."""
    with demo_world(stabilization="6s") as built:
        patient = built.plan_file.read_text().replace("interval: 1s", f"interval: 1s, maxFailures: {TOLERATED}")
        built.plan_file.write_text(patient)
        yield built


@pytest.fixture(scope="module")
def file(world: DemoWorld) -> Path:
    """One approved plan of the cutover, which has been carried out as far as the first look."""
    file = approved(world, "cutover")
    assert Exit.WAITING == ran("apply", file).status
    return file


def admit(world: DemoWorld, limit: int) -> None:
    """How many of the tool's sessions the new primary admits; -1 for any number."""
    with psycopg.connect(world.sites[TARGET].cluster.dsn(), autocommit=True) as session:
        session.execute(f"ALTER DATABASE statehub CONNECTION LIMIT {limit}".encode())


def last_look(file: Path) -> dict[str, Any]:
    """The newest look on record."""
    with Workspace.of_plan(load_plan(file)) as workspace:
        facts = [one.payload for one in workspace.records() if one.kind is RecordKind.FACT]
    return [one for one in facts if one["kind"] == "stabilize"][-1]


def until(holds: Callable[[], bool], watching: subprocess.Popen[str]) -> None:
    """Waits while the watch goes on."""
    end = time.monotonic() + 60.0
    while not holds():
        assert watching.poll() is None, watching.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_primary_that_does_not_answer_is_a_bad_look_each_time(world: DemoWorld, file: Path) -> None:
    """The run is refused, and what it could not see is on record; the lane waits and was not interrupted."""
    admit(world, 0)
    for count in (1, 2):
        refused = ran("apply", file, "--json")
        assert (Exit.ERROR, "primary-unknown") == (refused.status, refused.json["error"]["code"])
        assert ("running", count) == (last_look(file)["state"], last_look(file)["failures"])
    lanes = ran("status", world.plan_file.parent, "--json").json["lanes"]
    assert "blocked" == next(one for one in lanes if one["name"] == "cust-wp-0011")["standing"]


def test_a_watch_does_not_wait_for_ever_for_a_lease_that_somebody_keeps(
    world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour without a look, and it says who has it."""
    clock, slept = itertools.count(0.0, 1_800.0), list[float]()
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=slept.append))
    before = last_look(file)
    with Workspace.of_plan(load_plan(file)) as workspace:
        lease = workspace.journal.acquire(workspace.service, "somebody", ttl_s=30.0, now=utc_now())
        try:
            ended = ran("watch", file)
        finally:
            workspace.journal.release(lease)
    assert (Exit.LOCKED, [1.0, 1.0, 1.0], before) == (ended.status, slept, last_look(file))
    assert "is held by somebody" in ended.told


def test_a_watch_goes_on_after_bad_looks_and_after_somebody_else_has_had_the_lease(
    world: DemoWorld, file: Path
) -> None:
    """It tells both, and is done in the end."""
    command = [sys.executable, "-m", "statehub_plan", "watch", str(file)]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: last_look(file)["failures"] > 2, watching)
        hold_lease(file, seconds=3.0)
        admit(world, -1)
        told, _ = watching.communicate(timeout=120)
    finally:
        watching.kill()
    assert Exit.DONE == watching.returncode, told
    assert "which endpoint is primary could not be observed" in told
    assert "the lease of state-hub is held by the guard" in told
    assert ("passed", "healthy") == (last_look(file)["state"], last_look(file)["last"])
    assert accepts_writes(world, TARGET)


def hold_lease(file: Path, seconds: float) -> None:
    """As `guard` does, between two looks of somebody else."""
    with Workspace.of_plan(load_plan(file)) as workspace:
        end, lease = time.monotonic() + 60.0, None
        while lease is None:
            assert time.monotonic() < end
            with suppress(Locked):
                lease = workspace.journal.acquire(workspace.service, "the guard", ttl_s=30.0, now=utc_now())
            time.sleep(0.05)
        time.sleep(seconds)
        workspace.journal.release(lease)


def test_a_run_that_waits_for_nothing_ends_at_the_first_lease_collision(file: Path) -> None:
    """Nobody stays where nothing is watched."""
    plan = load_plan(file)
    with Workspace.of_plan(plan) as workspace:
        lease = workspace.journal.acquire(workspace.service, "somebody", ttl_s=30.0, now=utc_now())
        try:
            assert Exit.LOCKED == ran("watch", file).status
        finally:
            workspace.journal.release(lease)
