"""Enumerates every world that the planner can meet: steps, crashes inside them, and what the world does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from statehub_plan.model.plan import Refused
from statehub_plan.model.spec import FallbackMode, TransferMethod
from statehub_plan.planner import Next, Wish, next_step
from statehub_plan.transitions import crashes, effect, requires
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Evidence,
    Follows,
    Health,
    Reach,
    Role,
    Side,
    Stable,
    Term,
    TransferStage,
    World,
    Writes,
    exchange,
    hold_lost,
    prepared_by_stream,
    side,
    with_side,
)

WISHES = (
    Wish(),
    Wish(replace_target=True, document=False),
    Wish(replace_target=True, drill_before_cutover=True),
    Wish(fallback=FallbackMode.RETIRED, replace_target=True),
    Wish(method=TransferMethod.REPLICATION, fallback=FallbackMode.FOLLOWING, replace_target=True),
    Wish(method=TransferMethod.REPLICATION, replace_target=True, document=False),
)


BY_ITSELF = {
    Follows.STREAMING: (Follows.BROKEN, Follows.READY),
    Follows.BROKEN: (Follows.STREAMING, Follows.READY),
}
"""What becomes of a stream without the tool: it breaks, it heals, somebody switches it off."""


def initial_worlds() -> Iterator[World]:
    """Before any run: the old side serves; the new one is empty, holds an earlier restore, or accepts writes."""
    served = Side(writes=Writes.OPEN, data=Data.EQUAL, health=Health.OK)
    for data in (Data.ABSENT, Data.STALE, Data.DIVERGED):
        for writes in (Writes.OPEN, Writes.FROZEN):
            for evidence in (Evidence.COMPLETE, Evidence.INCOMPLETE, Evidence.UNKNOWN):
                yield World(
                    old=served,
                    new=Side(writes=writes, data=data, health=Health.OK),
                    primary=Role.OLD,
                    term=Term.SETTLED,
                    access=Access.OLD,
                    evidence=evidence,
                    backup=Due.DUE,
                    restore_drill=Due.DUE,
                    failover_drill=Due.DUE,
                    rehearsal=Due.DUE,
                    stabilization=Stable.PASSED,
                    document=Due.DONE,
                )


def meanwhile(world: World, wish: Wish) -> Iterator[World]:
    """What happens without the tool: time passes, people and networks act. The tool's own session is not running,
    so a hold is already gone. Only fields that this wish reads are varied."""
    for role in (Role.OLD, Role.NEW):
        one = side(world, role)
        if one.writes is Writes.OPEN:
            away = Role.NEW if role is Role.OLD else Role.OLD
            if side(world, away).data is Data.EQUAL and side(world, away).follows is not Follows.STREAMING:
                yield with_side(world, away, data=Data.STALE)
        for follows in BY_ITSELF.get(one.follows, ()):
            yield with_side(world, role, follows=follows)
        if one.follows not in (Follows.NOBODY, Follows.LOST):
            yield slot_dropped(world, role)
    if world.primary is Role.OLD and world.transfer is TransferStage.PROVED:
        yield mark_lost(world)
    for evidence in (Evidence.COMPLETE, Evidence.INCOMPLETE):
        yield replace(world, evidence=evidence)
    yield replace(world, backup=Due.DUE)
    for access in Access:
        yield replace(world, access=access)
    if world.primary is Role.NEW:
        yield replace(world, stabilization=Stable.FAILED)
    if wish.drill_before_cutover or wish.fallback is FallbackMode.RETIRED:
        yield replace(world, restore_drill=Due.DUE)
    if wish.fallback is FallbackMode.RETIRED:
        yield replace(world, failover_drill=Due.DUE)
    if wish.method is TransferMethod.REPLICATION:
        yield replace(world, rehearsal=Due.DUE)


def mark_lost(world: World) -> World:
    """The new side's server crashed before the mark of the proof, which nobody waits for, had reached its disk."""
    stale = with_side(world, Role.NEW, data=Data.STALE)
    return replace(stale, transfer=TransferStage.PREPARED if prepared_by_stream(stale.new) else TransferStage.NONE)


def slot_dropped(world: World, role: Role) -> World:
    """The slot behind a stream is gone: by the guard of a disk, by a failover of the sender, by hand."""
    lost = with_side(world, role, follows=Follows.LOST)
    prepared = role is Role.NEW and world.primary is Role.OLD and world.transfer is TransferStage.PREPARED
    return replace(lost, transfer=TransferStage.NONE) if prepared else lost


def strays(world: World) -> Iterator[World]:
    """Somebody opens by hand the side that is not primary. The only way to two writable sides."""
    for role in (Role.OLD, Role.NEW):
        one = side(world, role)
        if world.primary is not role and one.writes is Writes.FROZEN and world.term is Term.SETTLED:
            transfer = TransferStage.NONE if role is Role.NEW else world.transfer
            yield replace(with_side(world, role, writes=Writes.OPEN, data=Data.DIVERGED), transfer=transfer)


def veils(world: World) -> Iterator[World]:
    """What a process with a restricted view sees of this world: a dead side, an unreadable fact."""
    for role in (Role.OLD, Role.NEW):
        dark = Side(reach=Reach.UNREACHABLE, writes=Writes.UNKNOWN, data=Data.UNKNOWN)
        yield replace(world, old=dark) if role is Role.OLD else replace(world, new=dark)
        yield with_side(world, role, writes=Writes.UNKNOWN)
    yield replace(world, primary=Role.UNKNOWN)
    yield replace(world, term=Term.UNKNOWN)
    yield replace(world, access=Access.UNKNOWN)
    yield replace(world, evidence=Evidence.UNKNOWN)
    yield replace(world, backup=Due.UNKNOWN)


@dataclass
class Exploration:
    """All worlds reachable under one wish, and every planned transition between them."""

    wish: Wish
    worlds: set[World] = field(default_factory=set)
    transitions: list[tuple[World, Next, World]] = field(default_factory=list)
    outcomes: list[tuple[World, Next, tuple[World, ...]]] = field(default_factory=list)
    """Beside the same transitions: every world that the step can leave, done or interrupted anywhere."""
    crashed: int = 0
    refusals: dict[World, Refused] = field(default_factory=dict)
    satisfied: set[World] = field(default_factory=set)


def explore(wish: Wish) -> Exploration:
    """Breadth first from all initial worlds. A world in which the tool holds locks is followed only by steps and
    crashes: nothing else can happen to it while the locks are held."""
    found = Exploration(wish)
    todo = list(initial_worlds())
    while todo:
        world = todo.pop()
        if world in found.worlds:
            continue
        found.worlds.add(world)
        step = next_step(world, wish)
        held = world != hold_lost(world)
        if isinstance(step, Next):
            after = effect(step.kind, world, step.role)
            found.transitions.append((world, step, after))
            left = crashes(step.kind, world, step.role)
            found.outcomes.append((world, step, (after, *left)))
            found.crashed += len(left)
            todo.extend((after, *left))
        elif isinstance(step, Refused):
            found.refusals[world] = step
        else:
            found.satisfied.add(world)
        if not held:
            todo.extend(meanwhile(world, wish))
            todo.extend(strays(world))
            todo.append(exchange(world))
    return found


def unmet_requirement(step: Next, world: World) -> str | None:
    """What the executor would object to if it were asked for this step in this (true) world."""
    return requires(step.kind, world, step.role)
