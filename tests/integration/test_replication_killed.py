"""SIGKILL between and inside all steps of a cutover by replication, in both directions, on the demo's real world.

A move is killed again and again, each time a little further on, and then carried out or aborted. After each kill both
databases are looked at. A client writes through the access path all the time and keeps a ledger of what it was told.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.demo.world import SOURCE, DemoWorld
from statehub_plan.errors import Exit
from tests.integration.applying import At, applied_with, ran
from tests.integration.killed_apply import killed_apply
from tests.integration.replicating import (
    aborted,
    acknowledged,
    approved_move,
    away_from,
    carried_out,
    drop_slot_into,
    equal_after_a_drain,
    keeps_writing,
    streams,
    writable,
)
from tests.integration.served_database import eventually

AT_THE_FREEZE = ("decision-prepared:switch",)
"""One thread prepares the decision while another commits the freeze: it may have been committed or not."""
FROZEN = ("freeze-committed:switch", "proved-frozen:switch", "switching:decide")
AFTER_THE_DECISION = ("decide", "open", "redirect", "unfollow", "reverse-follow", "stabilize", "document")
DECIDED = ("decision-committed:switch", "switching:open", "switching:redirect")


@dataclass(frozen=True)
class Story:
    """One move: where it is killed, one moment after the other, and how it ends. `slot_dropped`: it begins with a
    fallback that has lost its stream, and has to be filled again."""

    name: str
    moments: tuple[str, ...]
    aborted: bool = False
    slot_dropped: bool = False


STORIES = (
    Story(
        "there",
        (
            *("inside:prepare-target", "ended:prepare-target", "inside:follow", "ended:follow"),
            *("slot-made:prepare-reverse", "recorded:prepare-reverse", "subscribed:prepare-reverse"),
            *("locked:rehearse", "inside:rehearse", "ended:rehearse"),
            *("switching:hold", "locked:switch", "sealed:switch", "freeze-committed:switch"),
            *("started:unfollow", "ended:unfollow", "ended:reverse-follow"),
        ),
    ),
    Story(
        "back",
        (
            *("started:prepare-reverse", "ended:prepare-reverse", "arrived:rehearse"),
            *("switching:drain", "barrier-sent:switch", "switching:compare", "proved-frozen:switch"),
            *("unsubscribed:unfollow", "enabled:reverse-follow", "ended:stabilize"),
        ),
    ),
    Story(
        "there, aborted under the hold", ("armed:rehearse", "sealed:rehearse", "switching:sync-sequences"), aborted=True
    ),
    Story(
        "there, filled anew",
        (
            *("inside:follow", "origin-moved:switch", "decision-committed:switch"),
            *("slot-dropped:unfollow", "started:reverse-follow"),
        ),
        slot_dropped=True,
    ),
    Story("back, aborted when frozen", ("armed:switch", "arrived:switch", "switching:decide"), aborted=True),
    Story(
        "back, without the slot",
        (
            *("unsubscribed:prepare-target", "slot-dropped:prepare-target", "ended:prepare-target"),
            *("inside:follow", "ended:follow", "switching:freeze", "switching:open", "started:unfollow"),
        ),
        slot_dropped=True,
    ),
    Story("there again", ("switching:decide", "ended:decide", "inside:redirect")),
    Story("back, aborted at the freeze", ("decision-prepared:switch",), aborted=True),
    Story("back again", ("switching:redirect", "ended:redirect")),
    Story("there, aborted in the fill", ("inside:follow",), aborted=True, slot_dropped=True),
)


@dataclass(frozen=True)
class Crash:
    """One server dies at one moment of a move and comes back; the tool was killed just before, or lives on."""

    moment: str
    side: str
    tool_lives: bool = False


CRASHES = (
    (
        Crash("ended:prepare-reverse", "new"),
        Crash("arrived:rehearse", "new", tool_lives=True),
        Crash("arrived:rehearse", "old", tool_lives=True),
        Crash("ended:rehearse", "old"),
        Crash("freeze-committed:switch", "old", tool_lives=True),
    ),
    (Crash("freeze-committed:switch", "new"),),
    (Crash("decision-committed:switch", "new"), Crash("ended:unfollow", "old")),
    (Crash("ended:unfollow", "new"), Crash("ended:stabilize", "old")),
    (Crash("decision-committed:switch", "old", tool_lives=True), Crash("ended:stabilize", "new")),
)


class Told:
    """What the tests tell each other: who is primary, and how often something was killed."""

    primary = SOURCE
    killed = 0
    crashed = 0


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_move_that_is_killed_again_and_again_loses_nothing(world: DemoWorld, story: Story) -> None:
    """Whatever moment the tool dies at: never two writable sides; before the freeze the old one serves at once; between
    freeze and decision nobody does. Another `apply` goes forward from there, `abort` leads back, both in good order."""
    old, new = Told.primary, away_from(Told.primary)
    if story.slot_dropped:
        drop_slot_into(world, new)
    file = approved_move(world, story.name.replace(" ", "-"), new)
    for moment in story.moments:
        before = writable(world)
        while (status := killed_apply(file, moment)) == Exit.WAITING:
            pass
        assert -signal.SIGKILL == status, moment
        Told.killed += 1
        assert_in_order(world, old, new, moment, before)
    if story.aborted:
        aborted(world, story.name.replace(" ", "-"))
        # Once there was a decision there is a fallback: giving up a move keeps it following, but for a half-made fill.
        kept = [] if story.slot_dropped else sorted([f"{old}: slot", f"{new}: subscription"])
        assert ({old}, kept) == (writable(world), [one.rpartition(" ")[0] for one in streams(world)])
    else:
        carried_out(file)
        assert {new} == writable(world)
        assert sorted([f"{new}: slot", f"{old}: subscription"]) == [one.rpartition(" ")[0] for one in streams(world)]
        Told.primary = new
    assert keeps_writing(world)


def assert_in_order(world: DemoWorld, old: str, new: str, moment: str, before: set[str]) -> None:
    """What must hold right after the tool has died at a moment; `before`: which sites accepted writes until then."""
    kind = moment.partition(":")[2]
    if moment in FROZEN:
        assert set() == writable(world), moment
    elif moment in DECIDED:
        assert {new} == writable(world), moment
    elif moment in AT_THE_FREEZE or kind in AFTER_THE_DECISION:
        assert len(writable(world)) <= 1, moment
    else:
        # The server needs a moment to see that a client is gone.
        assert eventually(lambda: old in writable(world)), moment
        assert new not in writable(world) - before, moment


@pytest.mark.parametrize("crashes", CRASHES, ids=lambda crashes: f"{crashes[0].side} at {crashes[0].moment}")
def test_a_move_whose_servers_crash_loses_nothing(world: DemoWorld, crashes: tuple[Crash, ...]) -> None:
    """Immediate crashes of either server, recovery, and on with the same plan, or a new one where its term was burned:
    the new side is primary in the end, and the fallback follows it from its first write on."""
    old, new = Told.primary, away_from(Told.primary)
    file = approved_move(world, f"crash-{Told.crashed}", new)
    for crash in crashes:
        site = old if crash.side == "old" else new
        strike(world, file, crash, site)
        Told.crashed += 1
        assert len(writable(world)) <= 1, crash
        file = gone_on_with(world, file, f"crash-{Told.crashed}", new) if "freeze" in crash.moment else file
    carried_out(file)
    Told.primary = new
    assert {new} == writable(world)
    assert keeps_writing(world)


def strike(world: DemoWorld, file: Path, crash: Crash, site: str) -> None:
    """The crash of that site's server while the plan is carried out, and its recovery."""
    cluster = world.sites[site].cluster
    if crash.tool_lives:
        at = At(crash.moment, lambda: power_cut(cluster))
        ended = applied_with(file, at)
        assert at.acted, (crash, ended)
        return
    while (status := killed_apply(file, crash.moment)) == Exit.WAITING:
        pass
    assert -signal.SIGKILL == status, crash
    power_cut(cluster)


def power_cut(cluster: Cluster) -> None:
    """Every process of the server is gone at once; it comes back and recovers."""
    cluster.kill()
    cluster.start()


def gone_on_with(world: DemoWorld, file: Path, name: str, new: str) -> Path:
    """The plan to go on with after a crash between freeze and decision: the same, unless what was proved is not on
    record any more, or could not be proved; then the old side serves again and it takes another one."""
    if ran("apply", file).status in (Exit.DONE, Exit.WAITING):
        return file
    assert {away_from(new)} == writable(world)
    return approved_move(world, name, new)


def test_after_all_of_this_no_acknowledged_write_is_lost_or_doubled(world: DemoWorld) -> None:
    """The client's ledger against the database that is primary at the end; and the fallback holds the same, once it
    follows again and has caught up."""
    assert 0 == world.stop_client()
    found = world.verify(Told.primary)
    print(f"\n{Told.killed} kills, {acknowledged(world)} acknowledged writes")
    assert (0, 0, 0) == (found.lost, found.duplicated, found.unresolved)
    assert found.acknowledged > Told.killed
    assert equal_after_a_drain(world, Told.primary)
