"""The finite transition model: what a world is, what each step does to it, which worlds a crash can leave. Pure.

Used five times: the planner unfolds it, the diff draws it, policies see every world on the way, the applier compares
it with what it observes after each step, and a test enumerates all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum


class Word(StrEnum):
    """A closed set of words. Hashed as the string it is: `Enum`'s own hash is three times slower, and the exhaustive
    check hashes worlds millions of times."""

    __hash__ = str.__hash__


class Reach(Word):
    """Whether the endpoint's database answers."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


class Writes(Word):
    """`held`: writers wait and go on when the tool dies. `frozen`: durable, survives restarts."""

    OPEN = "open"
    HELD = "held"
    FROZEN = "frozen"
    UNKNOWN = "unknown"


class Data(Word):
    """Content relative to the authoritative side. `equal` only where it was proved; `diverged` has rows of its own."""

    ABSENT = "absent"
    STALE = "stale"
    EQUAL = "equal"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"


class Follows(Word):
    """Whether this side receives the other side's changes. `ready`: all is in place to begin at a known point.
    `broken`: interrupted, and able to go on where it stopped. `lost`: what it has missed can't be replayed any more."""

    NOBODY = "nobody"
    COPYING = "copying"
    READY = "ready"
    STREAMING = "streaming"
    BROKEN = "broken"
    LOST = "lost"


class Health(Word):
    """The API's own answer."""

    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"


class Role(Word):
    """`new` is the endpoint that the wish names as primary, `old` the other one."""

    OLD = "old"
    NEW = "new"
    UNKNOWN = "unknown"


class Term(Word):
    """`pending`: the primary is durably frozen for a decision that has not fallen. `burned`: that decision can no
    longer fall and the primary is still frozen."""

    SETTLED = "settled"
    PENDING = "pending"
    BURNED = "burned"
    UNKNOWN = "unknown"


class TransferStage(Word):
    """How far the final copy has come under the current hold; nothing beyond `prepared` outlives a hold."""

    NONE = "none"
    PREPARED = "prepared"
    ARRIVED = "arrived"
    SEQUENCED = "sequenced"
    PROVED = "proved"


class Access(Word):
    """Where clients are really pointed."""

    OLD = "old"
    NEW = "new"
    SPLIT = "split"
    UNKNOWN = "unknown"


class Due(Word):
    """State of something that must have happened recently enough."""

    DONE = "done"
    DUE = "due"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Evidence(Word):
    """Evidence of earlier tasks: `recorded` in this run's journal, `complete` but not recorded yet, or not there."""

    RECORDED = "recorded"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNKNOWN = "unknown"


class Stable(Word):
    """Stabilization of the new primary."""

    NONE = "none"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Side:
    """One endpoint, abstracted."""

    reach: Reach = Reach.REACHABLE
    writes: Writes = Writes.UNKNOWN
    data: Data = Data.UNKNOWN
    follows: Follows = Follows.NOBODY
    health: Health = Health.UNKNOWN


@dataclass(frozen=True, slots=True)
class World:
    """One finite world. `primary` is what the decision register says (before any decision: the declared old side)."""

    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)
    primary: Role = Role.UNKNOWN
    term: Term = Term.UNKNOWN
    transfer: TransferStage = TransferStage.NONE
    access: Access = Access.UNKNOWN
    evidence: Evidence = Evidence.UNKNOWN
    backup: Due = Due.UNKNOWN
    restore_drill: Due = Due.UNKNOWN
    failover_drill: Due = Due.UNKNOWN
    rehearsal: Due = Due.UNKNOWN
    stabilization: Stable = Stable.NONE
    document: Due = Due.UNKNOWN
    retired: bool = False


def side(world: World, role: Role) -> Side:
    """The side that plays `role`; ValueError for the unknown role."""
    if role is Role.UNKNOWN:
        raise ValueError("the unknown role has no side")
    return world.old if role is Role.OLD else world.new


def other(role: Role) -> Role:
    """The opposite role; unknown stays unknown."""
    return {Role.OLD: Role.NEW, Role.NEW: Role.OLD}.get(role, Role.UNKNOWN)


def receives(one: Side) -> bool:
    """Whether a stream into this side exists that can still bring everything: without it a frozen side with the other
    one's rows would have to be filled anew."""
    return one.follows in (Follows.COPYING, Follows.READY, Follows.STREAMING, Follows.BROKEN)


def prepared_by_stream(one: Side) -> bool:
    """Whether this side is as good as prepared because it is kept current by a stream, and by nobody else."""
    return receives(one) and one.writes is Writes.FROZEN and one.data in (Data.STALE, Data.EQUAL)


def with_side(world: World, role: Role, **changes: object) -> World:
    """The world with some fields of one side changed."""
    changed = replace(side(world, role), **changes)  # type: ignore[arg-type]
    return replace(world, old=changed) if role is Role.OLD else replace(world, new=changed)


def exchange(world: World) -> World:
    """The same world seen by somebody who wishes the other endpoint to be primary. Its own inverse but for the
    progress of a transfer, which belongs to one direction only: a side that follows is prepared for the way back."""
    access = {Access.OLD: Access.NEW, Access.NEW: Access.OLD}.get(world.access, world.access)
    return replace(
        world,
        old=world.new,
        new=world.old,
        primary=other(world.primary),
        access=access,
        transfer=TransferStage.PREPARED if prepared_by_stream(world.old) else TransferStage.NONE,
        rehearsal=Due.DUE,
    )


def writable(world: World) -> tuple[Role, ...]:
    """The roles whose side accepts writes now or as soon as a waiting hold ends."""
    accepting = (Writes.OPEN, Writes.HELD)
    return tuple(role for role in (Role.OLD, Role.NEW) if side(world, role).writes in accepting)


def hold_lost(world: World) -> World:
    """What is left when the session that holds the locks dies: writers go on, and every stage that was reached under
    the hold is worth nothing any more. A one-time copy is stale at once and has to be made again from the schema up; a
    stream goes on."""
    lost = world
    for role in (Role.OLD, Role.NEW):
        if side(world, role).writes is Writes.HELD:
            lost = with_side(lost, role, writes=Writes.OPEN)
            away = other(role)
            if side(lost, away).data is Data.EQUAL:
                lost = with_side(lost, away, data=Data.STALE)
            if lost.transfer not in (TransferStage.NONE, TransferStage.PREPARED):
                streams = receives(side(lost, away))
                lost = replace(lost, transfer=TransferStage.PREPARED if streams else TransferStage.NONE)
    return lost


def difference(expected: World, observed: World) -> tuple[str, ...]:
    """`field: expected → observed` for every field that differs, in the order of the model."""
    lines = []
    for name in ("old", "new"):
        for part in fields(Side):
            want, got = (getattr(getattr(world, name), part.name) for world in (expected, observed))
            if want != got:
                lines.append(f"{name}.{part.name}: {want} → {got}")
    for part in fields(World):
        want, got = getattr(expected, part.name), getattr(observed, part.name)
        if part.name not in ("old", "new") and want != got:
            lines.append(f"{part.name}: {want} → {got}")
    return tuple(lines)
