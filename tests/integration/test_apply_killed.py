"""SIGKILL between and inside all steps of a cutover by dump, in both directions, on the demo's real world.

A move is killed again and again, each time a little further on, and then carried out. After each kill both databases
are looked at. A client writes through the access path all the time and keeps a ledger of what it was told.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from tests.integration.killed_apply import killed_apply
from tests.integration.replicating import approved_move, away_from, carried_out, served_world, writable
from tests.integration.served_database import eventually

BEFORE_THE_FREEZE = ("check-evidence", "backup", "prepare-target", "hold", "copy", "sync-sequences", "compare")
THERE = (
    *("ended:check-evidence", "ended:backup", "inside:prepare-target", "ended:prepare-target", "started:hold"),
    *("ended:hold", "inside:copy", "ended:copy", "inside:compare", "started:freeze", "ended:freeze", "ended:decide"),
    *("ended:open", "started:redirect", "ended:redirect", "ended:document"),
)
BACK = (
    *("inside:hold", "ended:sync-sequences", "ended:compare", "inside:freeze", "inside:decide", "started:open"),
    *("inside:redirect", "ended:stabilize"),
)
"""Each is reached after all that come before it, whatever a kill in the middle of a commit has left."""


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows, one client that writes during everything, one verdict at the end."""
    with served_world(rows=5_000, method="dump", fallback="frozen", rate=20.0) as built:
        built.start_client()
        yield built


STORIES = {
    "there": (TARGET, THERE),
    "back": (SOURCE, BACK),
    "there again": (TARGET, BACK),
    "back again": (SOURCE, THERE[1:]),  # earlier tasks say nothing about the way back
}


@pytest.mark.parametrize(("name", "new", "moments"), [(name, *story) for name, story in STORIES.items()], ids=STORIES)
def test_a_move_that_is_killed_again_and_again_loses_nothing(
    world: DemoWorld, name: str, new: str, moments: tuple[str, ...]
) -> None:
    """Whatever moment the tool dies at: never two writable sides, before the freeze the old one serves at once, and
    running `apply` again ends with the new primary serving."""
    old = away_from(new)
    file = approved_move(world, name.replace(" ", "-"), new)
    for moment in moments:
        before = writable(world)
        while (status := killed_apply(file, moment)) == Exit.WAITING:
            time.sleep(0.2)
        assert -signal.SIGKILL == status, moment
        if moment.partition(":")[2] in BEFORE_THE_FREEZE:
            # The server needs a moment to see that a client is gone.
            assert eventually(lambda: old in writable(world)), moment
            assert new not in writable(world) - before, moment
        else:
            assert len(writable(world)) <= 1, moment
    carried_out(file)
    assert {new} == writable(world)


def test_after_all_of_this_no_acknowledged_write_is_lost_or_doubled(world: DemoWorld) -> None:
    """The client's ledger against the database that is primary at the end."""
    assert 0 == world.stop_client()
    found = world.verify(SOURCE)
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
    assert found.acknowledged > 2 * len(THERE) + 2 * len(BACK)
