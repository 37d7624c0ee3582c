"""The transition model against two real clusters: whatever is done to them, the world that is then observed is one that
the model says this leads to.

A walk with a seed: the planner's next step, the same killed in the middle, and what people and the world do meanwhile.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from statehub_plan.apply.staleness import unexplained
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.model.steps import StepKind
from statehub_plan.transitions import crashes
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Follows,
    Role,
    TransferStage,
    World,
    Writes,
    exchange,
    hold_lost,
    side,
    with_side,
)
from tests.integration.replicating import drop_slot_into, following_world
from tests.integration.served_database import eventually
from tests.integration.walking import Ground, section
from tests.unit.explorer import meanwhile, slot_dropped, strays

SEEDS = (3, 20)
EVENTS = 35

PLACES: dict[StepKind, tuple[str, ...]] = {
    StepKind.BACKUP: ("inside",),
    StepKind.PREPARE_TARGET: ("inside", "unsubscribed", "slot-dropped"),
    StepKind.FOLLOW: ("inside",),
    StepKind.PREPARE_REVERSE: ("slot-made", "recorded", "subscribed"),
    StepKind.REHEARSE: ("locked", "arrived", "inside"),
    StepKind.UNFOLLOW: ("unsubscribed", "slot-dropped"),
    StepKind.REVERSE_FOLLOW: ("enabled",),
    StepKind.HOLD: ("switching", "locked"),
    StepKind.DRAIN: ("switching", "barrier-sent", "arrived"),
    StepKind.SYNC_SEQUENCES: ("switching",),
    StepKind.COMPARE: ("switching",),
    StepKind.FREEZE: ("switching", "origin-moved", "decision-prepared", "freeze-committed", "proved-frozen"),
    StepKind.DECIDE: ("switching", "decision-committed"),
    StepKind.OPEN: ("switching",),
    StepKind.REDIRECT: ("switching", "inside"),
}
"""Where a step of each kind can be killed in the middle."""

_WORDS_OF_A_SWITCH = ("switching", "inside")


@dataclass(frozen=True)
class Event:
    """Something happened, and the worlds that the model then allows."""

    name: str
    allowed: tuple[World, ...]


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows."""
    with following_world() as built:
        yield built


class Walk:
    """One walk: what was seen last, and the events that may come next."""

    def __init__(self, ground: Ground, rng: random.Random) -> None:
        self.ground = ground
        self.rng = rng
        self.world, self.plan = ground.look()
        self.trace: list[str] = []

    def go(self) -> None:
        """One event, and a look at what it has led to. Before any decision it is the next step: until then nothing but
        the access paths says who is primary, so somebody who changes them leaves nothing to be known."""
        event = self._event() if self.plan.term > 1 or not self.plan.steps else self._step()
        self.trace.append(event.name)
        assert eventually(lambda: self._explained(event)), self._told(event)

    def _explained(self, event: Event) -> bool:
        """A stream takes a moment to break, or to heal."""
        self.world, self.plan = self.ground.look()
        return any(not unexplained(allowed, self.world) for allowed in event.allowed)

    def _told(self, event: Event) -> str:
        nearest = min((unexplained(allowed, self.world) for allowed in event.allowed), key=len)
        return f"{event.name}: {'; '.join(nearest)}\n" + "\n".join(self.trace)

    def _event(self) -> Event:
        steps = bool(self.plan.steps)
        chosen = self.rng.random()
        if steps and chosen < 0.5:
            return self._step()
        if steps and chosen < 0.75:
            return self._killed()
        happenings = list(self._happenings())
        return self.rng.choice(happenings)()

    # What the tool does

    def _step(self) -> Event:
        plan, before = self.plan, self.world
        count = len(section(plan)) if plan.steps[0].kind is StepKind.HOLD else 1
        after = plan.trajectory[count]
        status = self.ground.do(plan, "never:never")
        name = f"{plan.steps[0].kind.value} on {plan.steps[0].subject}"
        if status == Exit.WAITING:
            return Event(f"{name} waits", crashes(plan.steps[0].kind, before, Role.NEW))
        assert status == Exit.DONE, f"{name} ended with {status}\n" + "\n".join(self.trace)
        return Event(name, (after,))

    def _killed(self) -> Event:
        plan = self.plan
        switch = plan.steps[0].kind is StepKind.HOLD
        index = self.rng.randrange(len(section(plan))) if switch else 0
        step, before = plan.steps[index], plan.trajectory[index]
        place = self.rng.choice([one for one in PLACES.get(step.kind, ("started",)) if switch or one != "switching"])
        of = step.kind.value if place in _WORDS_OF_A_SWITCH or not switch else "switch"
        status = self.ground.do(plan, f"{place}:{of}")
        name = f"{step.kind.value} on {step.subject} killed at {place}"
        role = Role.NEW if step.subject == self.ground.wished.new else Role.OLD
        if status == Exit.DONE:  # it never came there
            return Event(f"{name}, not reached", (plan.trajectory[len(section(plan)) if switch else 1],))
        assert status in (-signal.SIGKILL, Exit.WAITING), f"{name} ended with {status}\n" + "\n".join(self.trace)
        return Event(name, (hold_lost(before), *crashes(step.kind, before, role)))

    # What people and the world do

    def _happenings(self) -> Iterator[Callable[[], Event]]:
        yield self._time
        yield self._wish
        yield self._path
        for role in (Role.OLD, Role.NEW):
            one = side(self.world, role)
            if one.follows not in (Follows.NOBODY, Follows.LOST):
                yield lambda role=role: self._slot(role)  # type: ignore[misc]
            if one.follows is Follows.STREAMING:
                yield lambda role=role: self._off(role)  # type: ignore[misc]
                yield lambda role=role: self._walsender(role)  # type: ignore[misc]
            if with_side(self.world, role, writes=Writes.OPEN, data=Data.DIVERGED) in strays(self.world):
                yield lambda role=role: self._opened(role)  # type: ignore[misc]

    def _time(self) -> Event:
        before = self.world
        for role in (Role.OLD, Role.NEW):
            if before.primary is role and side(before, role).writes is Writes.OPEN:
                self.ground.write(self.ground.site(role))
        return Event("time passes", (before, *meanwhile(before, self.ground.wished.wish)))

    def _wish(self) -> Event:
        before, was = self.world, self.ground.wished.new
        wished = self.rng.choice([SOURCE, TARGET, None])
        self.ground.wished = self.ground.wish_for(wished)
        seen = before if self.ground.wished.new == was else exchange(before)
        # Who comes back to an earlier wish finds what was prepared and rehearsed for it.
        found = [replace(seen, rehearsal=due) for due in (Due.DUE, Due.DONE)]
        if seen.primary is Role.OLD and seen.new.writes is Writes.FROZEN and seen.new.data is Data.STALE:
            found += [
                replace(one, transfer=TransferStage.PREPARED) for one in found if one.new.follows is not Follows.LOST
            ]
        return Event(f"wish: {wished or 'abort'} ({self.ground.wished.direction.value})", (*found, seen))

    def _path(self) -> Event:
        before, site = self.world, self.rng.choice([SOURCE, TARGET])
        self.ground.repoint(site)
        return Event(f"a path is pointed at {site}", tuple(replace(before, access=one) for one in Access))

    def _slot(self, role: Role) -> Event:
        before, site = self.world, self.ground.site(role)
        drop_slot_into(self.ground.sites, site)
        return Event(f"the slot into {site} is dropped", (slot_dropped(before, role),))

    def _off(self, role: Role) -> Event:
        before, site = self.world, self.ground.site(role)
        self.ground.switch_off(site)
        return Event(f"the stream into {site} is switched off", (with_side(before, role, follows=Follows.READY),))

    def _walsender(self, role: Role) -> Event:
        before, site = self.world, self.ground.site(role)
        self.ground.end_walsender(site)
        return Event(f"the walsender into {site} is ended", (before,))

    def _opened(self, role: Role) -> Event:
        before, site = self.world, self.ground.site(role)
        self.ground.open_by_hand(site)
        opened = [one for one in strays(before) if side(one, role).writes is Writes.OPEN]
        return Event(f"{site} is opened by hand", tuple(opened))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_observed_is_what_the_model_says(world: DemoWorld, seed: int) -> None:
    """From wherever an earlier walk has ended; `seed` is all that is needed to walk the same way again."""
    walk = Walk(Ground(world, f"walk-{seed}"), random.Random(seed))
    for _ in range(EVENTS):
        walk.go()
    print(f"\nseed {seed}: {len(walk.trace)} events\n" + "\n".join(walk.trace))
