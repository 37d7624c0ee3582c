"""Who may write is told first where that is nobody, both sides, or not where clients are pointed; real databases and
real kills, one world, tests in this order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.schemas import problems
from tests.integration.applying import Ran, ran
from tests.integration.killed_apply import killed_apply
from tests.integration.replicating import approved_move, carried_out, served_world, writable
from tests.integration.served_database import eventually


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Nobody writes here: what counts is who could."""
    with served_world(rows=2_000, method="dump", fallback="frozen") as built:
        yield built


@pytest.fixture(scope="module")
def file(world: DemoWorld) -> Path:
    """The cutover, approved."""
    return approved_move(world, "there", TARGET)


def _monitored(world: DemoWorld) -> Ran:
    return ran("status", world.plan_file, "--exit-code")


def _alarmed(world: DemoWorld, what: str, remedy: str, guarded: str | None = None) -> None:
    """`status` begins with it in all of its forms, and `guard` ends with it."""
    for form in ((), ("--exit-code",)):
        told = ran("status", world.plan_file, *form)
        assert (Exit.ERROR if form else Exit.DONE) == told.status
        first = " ".join(told.out.split())
        assert first.startswith(what), first
        assert remedy in first.partition(": observed ")[0]
    assert f"**{what}" in ran("status", world.plan_file, "--format", "markdown").out.replace("\\", "")
    lanes = ran("status", world.plan_file, "--json")
    assert () == problems("output-status", lanes.json)
    (alarm,) = {one["alarm"]["kind"] for one in lanes.json["lanes"] if one["alarm"] is not None}
    guard: list[Ran] = []

    def free() -> bool:
        guard.append(ran("guard", world.plan_file, "--json"))
        return guard[-1].status != Exit.LOCKED

    assert eventually(free, timeout_s=60)
    error = guard[-1].json["error"]
    assert (Exit.ERROR, guarded or alarm) == (guard[-1].status, error["code"])
    assert what in " ".join((error["what"], *error["details"]))


def test_before_a_move_two_open_sides_are_no_news(world: DemoWorld) -> None:
    """What the target holds until it is prepared counts for nothing."""
    assert {SOURCE, TARGET} == writable(world)
    assert Exit.DONE == _monitored(world).status
    assert "nothing to guard" in ran("guard", world.plan_file).out


def test_between_freeze_and_decision_nobody_can_write(world: DemoWorld, file: Path) -> None:
    """Whoever looks sees the outage first, and the command that ends it."""
    assert -signal.SIGKILL == killed_apply(file, "ended:freeze")
    assert set() == writable(world)
    _alarmed(world, f"NOBODY CAN WRITE NOW: {SOURCE} and {TARGET} are frozen", "run `apply` again")


def test_behind_the_decision_nobody_can_write_either(world: DemoWorld, file: Path) -> None:
    """The new primary is not open yet."""
    assert -signal.SIGKILL == killed_apply(file, "ended:decide")
    if not writable(world):
        _alarmed(world, f"NOBODY CAN WRITE NOW: {SOURCE} and {TARGET} are frozen", "run `apply` again")


def test_before_the_redirect_clients_are_pointed_at_the_frozen_side(world: DemoWorld, file: Path) -> None:
    """Somebody accepts writes, and nobody sends any there."""
    assert -signal.SIGKILL == killed_apply(file, "started:redirect")
    assert {TARGET} == writable(world)
    _alarmed(
        world, "CLIENTS ARE POINTED AT THE SIDE THAT REFUSES WRITES: bridge, mcp at wsl2", "Go on: run `apply` again"
    )


def test_a_move_that_is_done_raises_no_alarm(world: DemoWorld, file: Path) -> None:
    """One side accepts writes, and every path leads there."""
    carried_out(file)
    assert {TARGET} == writable(world)
    assert (Exit.DONE, False) == ((told := _monitored(world)).status, "CLIENTS" in told.out)
    assert Exit.DONE == ran("guard", world.plan_file).status


def _thaw(world: DemoWorld, site: str) -> None:
    dsn = world.sites[site].cluster.dsn("statehub")
    with psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=off") as superuser:
        superuser.execute("SELECT statehub_plan.fence_tables(false)")
        superuser.execute("ALTER DATABASE statehub RESET default_transaction_read_only")


def test_two_writable_sides_are_told_before_anything_else(world: DemoWorld) -> None:
    """A superuser took the fence off. A plan that is made then begins with shutting that side."""
    _thaw(world, SOURCE)
    assert {SOURCE, TARGET} == writable(world)
    _alarmed(
        world,
        f"BOTH SIDES ACCEPT WRITES: {SOURCE} and {TARGET}; primary is {TARGET} (decision term 1)",
        f"Keep the clients off {SOURCE} at once",
    )
    assert f" 1 FREEZE    freeze {SOURCE} durably" in ran("plan", world.plan_file).out


def test_a_primary_that_nobody_sees_is_no_success_for_a_monitor(world: DemoWorld) -> None:
    """Status 7: look. The old side is open still, and the decision is in the register that nobody can read."""
    server = world.sites[TARGET].cluster
    server.stop()
    try:
        told = _monitored(world)
        assert Exit.OUTCOME_UNKNOWN == told.status
        assert told.out.startswith(f"WHETHER BOTH SIDES ACCEPT WRITES IS NOT KNOWN: {SOURCE} does")
    finally:
        server.start()
