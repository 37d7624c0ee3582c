"""What each kind of step requires, what it does to a world, and which worlds a crash inside it can leave. Pure.

Each entry is one `Transition`; the table at the end is the whole dynamics of the tool. `requires` is written for the
executor and for the model check: the planner has its own reasons, and a test shows that it never asks for a step
whose requirement does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from statehub_plan.model.steps import StepClass, StepKind
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Evidence,
    Follows,
    Reach,
    Role,
    Side,
    Stable,
    Term,
    TransferStage,
    World,
    Writes,
    hold_lost,
    other,
    prepared_by_stream,
    side,
    with_side,
)

Effect = Callable[[World, Role], World]
Crashes = Callable[[World, Role], tuple[World, ...]]
Requires = Callable[[World, Role], str | None]


@dataclass(frozen=True, slots=True)
class Transition:
    """One kind of step: its class, what must hold (None = fine, else what is missing), its effect on a world, and
    every world in which a crash in the middle of it can leave the endpoints."""

    step_class: StepClass
    requires: Requires
    effect: Effect
    crashes: Crashes


def _need(*conditions: tuple[bool, str]) -> str | None:
    return next((what for holds, what in conditions if not holds), None)


def _reachable(one: Side) -> bool:
    return one.reach is Reach.REACHABLE


def _closed(one: Side) -> bool:
    """Frozen, or out of sight: then the register's decision is the proof that it was frozen first."""
    return one.writes is Writes.FROZEN or (one.writes is Writes.UNKNOWN and not _reachable(one))


def _before_or_after(kind: StepKind) -> Crashes:
    return lambda world, role: (world, effect(kind, world, role))


def _release(world: World, _role: Role) -> tuple[World, ...]:
    return (hold_lost(world),)


def _unchanged(world: World, _role: Role) -> tuple[World, ...]:
    return (world,)


def _held(world: World) -> tuple[bool, str]:
    return world.old.writes is Writes.HELD, "the old side is not held"


def _cutover_pending(world: World) -> tuple[bool, str]:
    return world.primary is Role.OLD, "the old side is not primary"


def _moved(world: World) -> tuple[bool, str]:
    return world.primary is Role.NEW, "the new side is not primary"


def _stage(world: World, stage: TransferStage) -> tuple[bool, str]:
    return world.transfer is stage, f"the transfer is {world.transfer}, not {stage}"


def _prepare(world: World, _role: Role) -> World:
    """Whatever was rehearsed was with what was there before."""
    prepared = replace(world.new, writes=Writes.FROZEN, data=Data.STALE, follows=Follows.NOBODY)
    rehearsal = Due.DUE if world.rehearsal is Due.DONE else world.rehearsal
    return replace(world, new=prepared, transfer=TransferStage.PREPARED, rehearsal=rehearsal)


def _prepare_crashes(world: World, role: Role) -> tuple[World, ...]:
    """What was there counts for nothing, it is shut, an older stream into it is taken down, and then it is replaced."""
    dismissed = replace(world, transfer=TransferStage.NONE)
    fenced = with_side(dismissed, Role.NEW, writes=Writes.FROZEN)
    streams = () if world.new.follows is Follows.NOBODY else (Follows.LOST, Follows.NOBODY)
    alone = tuple(with_side(fenced, Role.NEW, follows=follows) for follows in streams)
    loaded = with_side(fenced, Role.NEW, data=Data.STALE, follows=Follows.NOBODY)
    return world, dismissed, fenced, *alone, loaded, _prepare(world, role)


def _with_follows(world: World, role: Role, *outcomes: Follows) -> tuple[World, ...]:
    return (world, *(with_side(world, role, follows=follows) for follows in outcomes))


def _follow_crashes(world: World, role: Role) -> tuple[World, ...]:
    """A slot that nothing is recorded of yet is worth nothing: the side is prepared again."""
    lost = replace(with_side(world, role, follows=Follows.LOST), transfer=TransferStage.NONE)
    return lost, *_with_follows(world, role, Follows.COPYING, Follows.READY, Follows.STREAMING)


def _no_loop(world: World, role: Role) -> tuple[bool, str]:
    """Two streams at once would send each other's changes round and round; one that cannot run does no harm."""
    away = side(world, other(role)).follows
    return away in (Follows.NOBODY, Follows.READY, Follows.LOST), f"the {other(role)} side follows too ({away})"


def _unfollow(world: World, role: Role) -> World:
    alone = with_side(world, role, follows=Follows.NOBODY)
    if role is Role.NEW and world.primary is Role.OLD:
        return replace(alone, transfer=TransferStage.NONE)
    return alone


def _unfollow_crashes(world: World, role: Role) -> tuple[World, ...]:
    """Half removed, a stream cannot be taken up again."""
    return world, with_side(_unfollow(world, role), role, follows=Follows.LOST), _unfollow(world, role)


def _freeze_requires(world: World, role: Role) -> str | None:
    frozen = side(world, role)
    if frozen.writes is Writes.HELD:
        return _need(_cutover_pending(world), _stage(world, TransferStage.PROVED))
    return _need(
        (_reachable(frozen), f"the {role} side is unreachable"),
        (world.primary is other(role), f"the {role} side is primary and not held"),
    )


def _freeze(world: World, role: Role) -> World:
    if side(world, role).writes is Writes.HELD:
        return replace(with_side(world, role, writes=Writes.FROZEN), term=Term.PENDING)
    data = Data.ABSENT if side(world, role).data is Data.ABSENT else Data.DIVERGED
    return with_side(world, role, writes=Writes.FROZEN, data=data)


def _freeze_crashes(world: World, role: Role) -> tuple[World, ...]:
    return hold_lost(world), _freeze(world, role)


def _decide(world: World, _role: Role) -> World:
    return replace(
        with_side(world, Role.OLD, data=Data.EQUAL),
        primary=Role.NEW,
        term=Term.SETTLED,
        transfer=TransferStage.NONE,
        backup=Due.DUE,
        rehearsal=Due.DUE,
        stabilization=Stable.NONE,
        document=Due.DUE,
    )


def _decide_crashes(world: World, role: Role) -> tuple[World, ...]:
    """In a switch the commit that decides opens, too."""
    decided = _decide(world, role)
    return world, decided, _open(decided, role)


def _burn(world: World, role: Role) -> World:
    """What was proved was proved for the burned term only; a stream goes on, and is as good for the next one."""
    burned = replace(world, term=Term.BURNED)
    away = other(role)
    if side(burned, away).data is Data.EQUAL and side(burned, away).follows is not Follows.STREAMING:
        burned = with_side(burned, away, data=Data.STALE)
    return replace(burned, transfer=_left_prepared(burned, role))


def _left_prepared(world: World, role: Role) -> TransferStage:
    """What is left of a transfer once its term is spent."""
    prepared = role is Role.OLD and prepared_by_stream(world.new)
    return TransferStage.PREPARED if prepared else TransferStage.NONE


def _open_requires(world: World, role: Role) -> str | None:
    return _need(
        (world.primary is role, f"the {role} side is not primary"),
        (world.term is not Term.PENDING, "a decision is pending"),
        (_reachable(side(world, role)), f"the {role} side is unreachable"),
        (_closed(side(world, other(role))), f"the {other(role)} side is not proved frozen"),
    )


def _open(world: World, role: Role) -> World:
    opened = replace(with_side(world, role, writes=Writes.OPEN), term=Term.SETTLED)
    away = side(world, other(role))
    if away.data is Data.EQUAL and away.follows is not Follows.STREAMING:
        opened = with_side(opened, other(role), data=Data.STALE)
    return replace(opened, transfer=_left_prepared(opened, role))


def _open_crashes(world: World, role: Role) -> tuple[World, ...]:
    """Where another database stands in the place of the one it was frozen for, it takes over first: by a decision of
    its own, under which it is still frozen."""
    taken_over = replace(world, term=Term.SETTLED) if world.term is Term.BURNED else world
    return tuple(dict.fromkeys((world, taken_over, _open(world, role))))


def _copy_crashes(world: World, role: Role) -> tuple[World, ...]:
    """A half-filled target is not prepared any more: it is prepared again before the next hold."""
    return world, replace(world, transfer=TransferStage.NONE)


def _redirect_crashes(world: World, _role: Role) -> tuple[World, ...]:
    return world, replace(world, access=Access.SPLIT), replace(world, access=Access.NEW)


def _drill_crashes(world: World, _role: Role) -> tuple[World, ...]:
    """Once it was begun, no drill of before counts, nor that one failed."""
    begun = replace(world, failover_drill=Due.DUE)
    return (*dict.fromkeys((world, begun)), replace(world, failover_drill=Due.DONE))


def _retire_requires(world: World, role: Role) -> str | None:
    return _need(
        _moved(world),
        (world.stabilization is Stable.PASSED, "stabilization has not passed"),
        (world.restore_drill is Due.DONE, "no fresh restore drill"),
        (world.failover_drill is Due.DONE, "no fresh failover drill"),
        (side(world, role).writes is Writes.FROZEN, "the fallback is not frozen"),
    )


TRANSITIONS: dict[StepKind, Transition] = {
    StepKind.CHECK_EVIDENCE: Transition(
        StepClass.READ,
        lambda w, _: _need((w.evidence is Evidence.COMPLETE, "evidence is not complete")),
        lambda w, _: replace(w, evidence=Evidence.RECORDED),
        _before_or_after(StepKind.CHECK_EVIDENCE),
    ),
    StepKind.BACKUP: Transition(
        StepClass.ONLINE,
        lambda w, r: _need((_reachable(side(w, r)), f"the {r} side is unreachable")),
        lambda w, _: replace(w, backup=Due.DONE),
        _before_or_after(StepKind.BACKUP),
    ),
    StepKind.RESTORE_DRILL: Transition(
        StepClass.ONLINE,
        lambda w, r: _need(
            (_reachable(side(w, r)), f"the {r} side is unreachable"), (w.backup is Due.DONE, "no fresh backup")
        ),
        lambda w, _: replace(w, restore_drill=Due.DONE),
        _before_or_after(StepKind.RESTORE_DRILL),
    ),
    StepKind.PREPARE_TARGET: Transition(
        StepClass.ONLINE,
        lambda w, _: _need(
            _cutover_pending(w),
            (w.old.writes is Writes.OPEN, "the old side does not serve"),
            (_reachable(w.new), "the new side is unreachable"),
            (w.term is Term.SETTLED, "a decision is pending"),
            (w.old.follows is Follows.NOBODY, "the old side follows the new one"),
        ),
        _prepare,
        _prepare_crashes,
    ),
    StepKind.FOLLOW: Transition(
        StepClass.ONLINE,
        lambda w, r: _need(_cutover_pending(w), _stage(w, TransferStage.PREPARED), _no_loop(w, r)),
        lambda w, r: with_side(w, r, follows=Follows.STREAMING),
        _follow_crashes,
    ),
    StepKind.PREPARE_REVERSE: Transition(
        StepClass.ONLINE,
        lambda w, _: _need(
            _cutover_pending(w),
            (w.old.writes is Writes.OPEN, "the old side does not serve"),
            (w.new.writes is Writes.FROZEN, "the new side is not fenced"),
            (w.new.follows is Follows.STREAMING, "the new side does not follow"),
        ),
        lambda w, r: with_side(w, r, follows=Follows.READY),
        lambda w, r: _with_follows(w, r, Follows.LOST, Follows.NOBODY, Follows.READY),
    ),
    StepKind.REHEARSE: Transition(
        StepClass.HOLD,
        lambda w, _: _need(
            _cutover_pending(w),
            (w.old.writes is Writes.OPEN, "the old side is not open"),
            (w.new.follows is Follows.STREAMING, "the new side does not follow"),
            _stage(w, TransferStage.PREPARED),
        ),
        lambda w, _: replace(w, rehearsal=Due.DONE),
        _before_or_after(StepKind.REHEARSE),
    ),
    StepKind.HOLD: Transition(
        StepClass.HOLD,
        lambda w, _: _need(
            _cutover_pending(w),
            (w.term is Term.SETTLED, "a decision is pending"),
            (w.old.writes is Writes.OPEN, "the old side is not open"),
            (w.new.writes is Writes.FROZEN, "the new side is not fenced"),
            _stage(w, TransferStage.PREPARED),
        ),
        lambda w, r: with_side(w, r, writes=Writes.HELD),
        _unchanged,
    ),
    StepKind.COPY: Transition(
        StepClass.HOLD,
        lambda w, _: _need(
            _held(w),
            _stage(w, TransferStage.PREPARED),
            (w.new.follows is Follows.NOBODY, "the new side follows: a copy would come on top of the stream"),
        ),
        lambda w, _: replace(w, transfer=TransferStage.ARRIVED),
        _copy_crashes,
    ),
    StepKind.DRAIN: Transition(
        StepClass.HOLD,
        lambda w, _: _need(
            _held(w),
            _stage(w, TransferStage.PREPARED),
            (w.new.follows is Follows.STREAMING, "the new side does not follow"),
        ),
        lambda w, _: replace(w, transfer=TransferStage.ARRIVED),
        _release,
    ),
    StepKind.SYNC_SEQUENCES: Transition(
        StepClass.HOLD,
        lambda w, _: _need(_held(w), _stage(w, TransferStage.ARRIVED)),
        lambda w, _: replace(w, transfer=TransferStage.SEQUENCED),
        _release,
    ),
    StepKind.COMPARE: Transition(
        StepClass.HOLD,
        lambda w, _: _need(_held(w), _stage(w, TransferStage.SEQUENCED)),
        lambda w, _: replace(with_side(w, Role.NEW, data=Data.EQUAL), transfer=TransferStage.PROVED),
        _release,
    ),
    StepKind.FREEZE: Transition(StepClass.DECISION, _freeze_requires, _freeze, _freeze_crashes),
    StepKind.DECIDE: Transition(
        StepClass.DECISION,
        lambda w, _: _need(
            _cutover_pending(w),
            (w.term is Term.PENDING, "nothing is pending"),
            (w.old.writes is Writes.FROZEN, "the old side is not frozen"),
            (w.new.writes is Writes.FROZEN, "the new side is not fenced"),
            (w.new.data is Data.EQUAL, "content is not proved equal"),
            _stage(w, TransferStage.PROVED),
        ),
        _decide,
        _decide_crashes,
    ),
    StepKind.BURN: Transition(
        StepClass.AFTER,
        lambda w, r: _need(
            (w.term is Term.PENDING, "nothing is pending"),
            (_reachable(side(w, other(r))), "the register of the pending decision is unreachable"),
        ),
        _burn,
        _before_or_after(StepKind.BURN),
    ),
    StepKind.OPEN: Transition(StepClass.AFTER, _open_requires, _open, _open_crashes),
    StepKind.UNFOLLOW: Transition(
        StepClass.AFTER,
        lambda w, r: _need(
            (_reachable(side(w, r)), f"the {r} side is unreachable"),
            (side(w, other(r)).writes is not Writes.HELD, "the stream is needed by a hold"),
            (w.term is not Term.PENDING, "a decision is pending"),
        ),
        _unfollow,
        _unfollow_crashes,
    ),
    StepKind.REVERSE_FOLLOW: Transition(
        StepClass.AFTER,
        lambda w, r: _need(
            _moved(w),
            (side(w, r).follows in (Follows.READY, Follows.BROKEN), "there is no stream to take up"),
            (side(w, other(r)).follows is Follows.NOBODY, "the primary still follows the fallback"),
        ),
        lambda w, r: with_side(w, r, follows=Follows.STREAMING),
        lambda w, r: _with_follows(w, r, Follows.BROKEN, Follows.STREAMING),
    ),
    StepKind.REDIRECT: Transition(
        StepClass.AFTER,
        lambda w, _: _need(_moved(w), (w.new.writes is Writes.OPEN, "the new side does not accept writes")),
        lambda w, _: replace(w, access=Access.NEW),
        _redirect_crashes,
    ),
    StepKind.STABILIZE: Transition(
        StepClass.AFTER,
        lambda w, _: _need(_moved(w), (w.access is Access.NEW, "access does not point at the new side")),
        lambda w, _: replace(w, stabilization=Stable.PASSED),
        lambda w, _: (w, replace(w, stabilization=Stable.RUNNING), replace(w, stabilization=Stable.FAILED)),
    ),
    StepKind.DOCUMENT: Transition(
        StepClass.AFTER,
        lambda w, _: _need(_moved(w)),
        lambda w, _: replace(w, document=Due.DONE),
        _before_or_after(StepKind.DOCUMENT),
    ),
    StepKind.FAILOVER_DRILL: Transition(
        StepClass.AFTER,
        lambda w, _: _need(_moved(w), (w.stabilization is Stable.PASSED, "stabilization has not passed")),
        lambda w, _: replace(w, failover_drill=Due.DONE),
        _drill_crashes,
    ),
    StepKind.RETIRE: Transition(
        StepClass.DECISION,
        _retire_requires,
        lambda w, _: replace(w, retired=True),
        _before_or_after(StepKind.RETIRE),
    ),
}


def requires(kind: StepKind, world: World, role: Role) -> str | None:
    """None when a step of this kind may begin in `world`, else what is missing."""
    return TRANSITIONS[kind].requires(world, role)


def effect(kind: StepKind, world: World, role: Role) -> World:
    """The world after a step of this kind on the side `role`; says nothing about whether it was allowed."""
    return TRANSITIONS[kind].effect(world, role)


def crashes(kind: StepKind, world: World, role: Role) -> tuple[World, ...]:
    """Every world that a crash inside the step can leave, each as a later process would observe it."""
    return tuple(hold_lost(left) for left in TRANSITIONS[kind].crashes(world, role))
