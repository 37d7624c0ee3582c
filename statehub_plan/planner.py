"""(wish, world) → ordered steps, each with the wish it serves and the fact that made it necessary. Pure.

`next_step` looks at one world and names one step, nothing, or a refusal; `unfold` repeats it on the model's effects.
There is no memory: a crash is just another world, an abort is the same question with the present primary as wish, and
a switchback is the same question with the roles exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from statehub_plan.model.plan import Refused
from statehub_plan.model.spec import FallbackMode, TransferMethod
from statehub_plan.model.steps import StepKind
from statehub_plan.transitions import effect
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Evidence,
    Follows,
    Reach,
    Role,
    Stable,
    Term,
    TransferStage,
    World,
    Writes,
    side,
)

MAX_STEPS = 64


@dataclass(frozen=True, slots=True)
class Wish:
    """What of the plan document matters for choosing steps. The primary is always the role `new`."""

    fallback: FallbackMode = FallbackMode.FROZEN
    method: TransferMethod = TransferMethod.DUMP
    replace_target: bool = False
    drill_before_cutover: bool = False
    document: bool = True
    settle: bool = True
    """Without it the wish holds as soon as the primary serves and clients reach it: what an abort is after."""


@dataclass(frozen=True, slots=True)
class Next:
    """One step to take now."""

    kind: StepKind
    role: Role
    serves: str
    because: str


@dataclass(frozen=True, slots=True)
class Unfolded:
    """Steps until the wish holds (`refused` is None) or cannot be served further, with every world on the way."""

    steps: tuple[Next, ...]
    trajectory: tuple[World, ...]
    refused: Refused | None


_PRIMARY = "desired.primary"
_FALLBACK = "desired.fallback"
_ACCESS = "access"
_SAFETY = "safety"


_WHY_NOT_PROVED = "`observe` names the reason: a foreign lock, a half-enabled fence or a missing privilege"
_OF_A_FALLBACK = f"{_WHY_NOT_PROVED}; of a fallback that follows, `refresh` completes the fence"
_FILL_ANEW = 'fill it anew while the primary goes on serving: README, "When the fallback is lost or no longer follows"'
_COPY_ON = (
    "`refresh` shows how far its tables are and waits for them; a rehearsal that was interrupted goes on if repeated"
)

_STREAMS = {
    Follows.NOBODY: "is not there",
    Follows.COPYING: "is being filled",
    Follows.READY: "is in place and not started",
    Follows.STREAMING: "runs",
    Follows.BROKEN: "is broken and can go on",
    Follows.LOST: "has lost what it missed",
}


def _told(follows: Follows, side_name: str) -> str:
    return f"the stream into {side_name} side {_STREAMS[follows]}"


def _refuse(code: str, what: str, remedy: str) -> Refused:
    return Refused(code=code, what=what, remedy=remedy)


def next_step(world: World, wish: Wish) -> Next | Refused | None:
    """The one step to take in this world, a refusal that says what stands in the way, or None when all holds."""
    if world.primary is Role.UNKNOWN or world.term is Term.UNKNOWN:
        return _refuse(
            "primary-unknown",
            "which endpoint is primary could not be observed",
            "make the databases reachable and observe again; nothing is moved on a guess",
        )
    if world.primary is Role.NEW:
        return _finish(world, wish)
    return _cross(world, wish)


def _finish(world: World, wish: Wish) -> Next | Refused | None:
    """The desired primary is primary by the register: what is left, in the order in which it ends the outage."""
    return _serve(world) or _reach_clients(world, wish) or (_settle(world, wish) if wish.settle else None)


def _serve(world: World) -> Next | Refused | None:
    """Make the primary writable, and nothing else."""
    if world.new.reach is Reach.UNREACHABLE:
        return _refuse(
            "primary-unreachable",
            "the primary's database does not answer",
            "bring it back; the other side stays frozen, so nothing can diverge meanwhile",
        )
    if world.term is Term.PENDING:
        if world.old.reach is Reach.UNREACHABLE:
            return _refuse(
                "cannot-burn",
                "a decision is pending and the register that could still record it does not answer",
                "make the other endpoint reachable, so that the pending term can be burned there first",
            )
        return Next(StepKind.BURN, Role.NEW, _PRIMARY, "a decision is pending that is no longer wanted")
    if world.new.writes in (Writes.HELD, Writes.UNKNOWN):
        return _refuse(
            "writability-unknown",
            f"whether the primary accepts writes is {world.new.writes}",
            "see who holds its locks with `observe`; end that run or wait for it",
        )
    if world.old.writes in (Writes.OPEN, Writes.HELD):
        return Next(StepKind.FREEZE, Role.OLD, _SAFETY, "the side that is not primary accepts writes")
    if world.new.writes is Writes.FROZEN and world.old.writes is Writes.UNKNOWN and world.old.reach is Reach.REACHABLE:
        return _refuse(
            "old-writability-unknown",
            "the other side answers, and whether it accepts writes could not be proved",
            _WHY_NOT_PROVED,
        )
    if world.new.writes is Writes.FROZEN:
        because = "the pending term is burned" if world.term is Term.BURNED else "the register names it primary"
        return Next(StepKind.OPEN, Role.NEW, _PRIMARY, f"it is frozen and {because}")
    return None


def _reach_clients(world: World, wish: Wish) -> Next | Refused | None:
    """Take the clients along, then keep the way back open: the stream that it needs retains what it misses."""
    if world.access in (Access.OLD, Access.SPLIT):
        return Next(StepKind.REDIRECT, Role.NEW, _ACCESS, f"clients are pointed at: {world.access}")
    return _turn_streams(world, wish) or _access_known(world)


def _access_known(world: World) -> Refused | None:
    if world.access is not Access.UNKNOWN:
        return None
    return _refuse(
        "access-unknown",
        "where clients are pointed could not be observed",
        "make every access path of the plan readable, or correct its value to one of the declared ones",
    )


def _turn_streams(world: World, wish: Wish) -> Next | None:
    """The primary follows nobody; the fallback follows it where that is wished, and if it did, until it is retired.
    What an abort finds lost is cleared away. Waits for a side out of sight."""
    if world.old.reach is Reach.UNREACHABLE:
        return None
    if world.new.follows is not Follows.NOBODY:
        because = f"{_told(world.new.follows, 'the new')}, and has no purpose once that side is primary"
        return Next(StepKind.UNFOLLOW, Role.NEW, _FALLBACK, because)
    if wish.fallback is FallbackMode.FOLLOWING:
        if world.old.follows in (Follows.READY, Follows.BROKEN):
            return Next(StepKind.REVERSE_FOLLOW, Role.OLD, _FALLBACK, _told(world.old.follows, "the old"))
        if world.old.follows is Follows.LOST and not wish.settle:
            because = f"{_told(world.old.follows, 'the old')}, which leads nowhere, and may keep WAL"
            return Next(StepKind.UNFOLLOW, Role.OLD, _FALLBACK, because)
    elif wish.fallback is FallbackMode.FROZEN or world.retired:
        return _follow_no_more(world)
    return None


def _follow_no_more(world: World) -> Next | None:
    if world.old.follows is Follows.NOBODY:
        return None
    because = f"{_told(world.old.follows, 'the old')}, and none is wished"
    return Next(StepKind.UNFOLLOW, Role.OLD, _FALLBACK, because)


def _settle(world: World, wish: Wish) -> Next | Refused | None:
    """Watch, write down, and only then touch the fallback."""
    if world.stabilization is not Stable.PASSED:
        return Next(StepKind.STABILIZE, Role.NEW, "stabilization", f"stabilization is {world.stabilization}")
    if wish.document and world.document is not Due.DONE:
        return Next(StepKind.DOCUMENT, Role.NEW, "operatingModel", f"the operating model is {world.document}")
    if wish.fallback is FallbackMode.RETIRED:
        return _retire(world)
    if world.retired:
        return _refuse(
            "fallback-retired",
            "the fallback is retired and the plan wishes it retained",
            "say `mode: retired`, or set up a new fallback under a plan of its own",
        )
    if world.old.writes is not Writes.FROZEN:
        return _refuse(
            "fallback-unobservable",
            "whether the retained fallback is frozen could not be observed",
            _unproved(world, "make the fallback reachable and plan again"),
        )
    if wish.fallback is FallbackMode.FOLLOWING and world.old.follows is not Follows.STREAMING:
        return _refuse(
            "fallback-not-following",
            f"the fallback is to follow, and {_told(world.old.follows, 'the old')}: the way back is not lossless",
            _COPY_ON if world.old.follows is Follows.COPYING else _FILL_ANEW,
        )
    return None


def _unproved(world: World, otherwise: str) -> str:
    """The remedy where the fallback is not proved frozen; `otherwise` where it does not answer."""
    if world.old.reach is not Reach.REACHABLE:
        return otherwise
    return f"it answers: {_OF_A_FALLBACK}"


def _retire(world: World) -> Next | Refused | None:
    if world.retired:
        return None
    if world.old.writes is not Writes.FROZEN:
        return _refuse(
            "fallback-unobservable",
            "the fallback that is to be retired could not be observed",
            _unproved(world, "make it reachable: retiring records the retirement on it"),
        )
    serves = f"{_FALLBACK}.mode"
    if world.backup is not Due.DONE:
        return Next(StepKind.BACKUP, Role.NEW, "drills.restore", f"the backup is {world.backup}")
    if world.restore_drill is not Due.DONE:
        return Next(StepKind.RESTORE_DRILL, Role.NEW, "drills.restore", f"the restore drill is {world.restore_drill}")
    if world.failover_drill is not Due.DONE:
        return Next(
            StepKind.FAILOVER_DRILL, Role.NEW, "drills.failover", f"the failover drill is {world.failover_drill}"
        )
    return Next(StepKind.RETIRE, Role.OLD, serves, "the fallback is retained and the plan wishes it retired")


def _cross(world: World, wish: Wish) -> Next | Refused | None:
    """The other side is primary: cross over, or say why not. A pending decision comes first, it is an outage."""
    return _observable(world) or _unblock(world) or _ready(world, wish) or _fill(world, wish) or _switch(world, wish)


def _observable(world: World) -> Refused | None:
    for role in (Role.OLD, Role.NEW):
        one = side(world, role)
        if one.reach is Reach.UNREACHABLE:
            return _refuse(
                f"{role}-unreachable",
                f"the {role} side's database does not answer; nothing about it can be known",
                "bring it back, or check its DSN with `doctor`",
            )
        if one.writes is Writes.UNKNOWN:
            return _refuse(
                f"{role}-writability-unknown",
                f"whether the {role} side accepts writes could not be proved",
                _OF_A_FALLBACK if role is Role.NEW else _WHY_NOT_PROVED,
            )
    if world.new.writes is Writes.HELD:
        return _refuse("new-held", "the new side is held by a session", "end the run that holds it, then plan again")
    return None


def _unblock(world: World) -> Next | Refused | None:
    """End a write outage that an earlier run left before the decision, in the direction that is proved."""
    if world.new.writes is Writes.OPEN and world.access in (Access.NEW, Access.SPLIT):
        return _refuse(
            "clients-on-both-sides",
            "clients are pointed at the new side, it accepts writes, and it is not primary",
            "point every access path back at the primary and compare both sides before planning again",
        )
    if world.old.writes is not Writes.FROZEN:
        return None
    if world.term is Term.PENDING:
        if world.transfer is TransferStage.PROVED and world.new.writes is Writes.FROZEN:
            return Next(StepKind.DECIDE, Role.NEW, _PRIMARY, "the old side is frozen and content is proved equal")
        return Next(StepKind.BURN, Role.OLD, _SAFETY, "a decision is pending without a proof of content")
    if world.new.writes is Writes.OPEN:
        return Next(StepKind.FREEZE, Role.NEW, _SAFETY, "the side that is not primary accepts writes")
    because = "the pending term is burned" if world.term is Term.BURNED else "the register names it primary"
    return Next(StepKind.OPEN, Role.OLD, _SAFETY, f"it is frozen and {because}")


def _ready(world: World, wish: Wish) -> Next | Refused | None:
    """What must be shown before anything is touched. Under a hold there is no time for it any more."""
    if world.old.writes is Writes.HELD:
        return None
    if world.retired:
        return _refuse("fallback-retired", "the desired primary was retired", "set it up anew under a plan of its own")
    if (unknown := _access_known(world)) is not None:
        return unknown
    if world.evidence in (Evidence.INCOMPLETE, Evidence.UNKNOWN):
        return _refuse(
            "evidence-incomplete",
            f"evidence of the earlier tasks is {world.evidence}",
            "`observe` names each probe that failed or could not be asked; finish those tasks first",
        )
    if world.evidence is Evidence.COMPLETE:
        return Next(StepKind.CHECK_EVIDENCE, Role.OLD, "tasks", "all probes pass and are not on record for this run")
    if world.backup is not Due.DONE:
        return Next(StepKind.BACKUP, Role.OLD, "backup", f"the newest backup is {world.backup}")
    if wish.drill_before_cutover and world.restore_drill is not Due.DONE:
        return Next(StepKind.RESTORE_DRILL, Role.NEW, "drills.restore", f"the restore drill is {world.restore_drill}")
    return None


def _fill(world: World, wish: Wish) -> Next | Refused | None:
    """Make the new side ready to receive, online, and the way back with it."""
    if world.old.writes is not Writes.OPEN:
        return None
    return _without_foreign_stream(world, wish) or _prepare(world, wish) or _follow(world, wish)


def _without_foreign_stream(world: World, wish: Wish) -> Next | None:
    """No stream runs against the copy that is about to be made, and none besides it."""
    replicates = wish.method is TransferMethod.REPLICATION
    keeps_reverse = replicates and wish.fallback is FallbackMode.FOLLOWING and world.transfer is not TransferStage.NONE
    fine = (Follows.NOBODY, Follows.READY, Follows.LOST) if keeps_reverse else (Follows.NOBODY,)
    if world.old.follows not in fine:
        because = f"{_told(world.old.follows, 'the old')}, against the copy that is to be made"
        return Next(StepKind.UNFOLLOW, Role.OLD, _SAFETY, because)
    if not replicates and world.new.follows is not Follows.NOBODY:
        because = f"{_told(world.new.follows, 'the new')}, and rows are to travel by a dump"
        return Next(StepKind.UNFOLLOW, Role.NEW, "transfer.method", because)
    return None


def _prepare(world: World, wish: Wish) -> Next | Refused | None:
    if world.transfer is TransferStage.NONE:
        if world.new.data in (Data.DIVERGED, Data.UNKNOWN) and not wish.replace_target:
            return _refuse(
                "target-not-empty",
                f"the new side holds content of its own ({world.new.data})",
                "empty it, or say `transfer.targetContent: replace`: it is then dumped to the backup folder first",
            )
        state = f"its content is {world.new.data} and it is {world.new.writes} for writes"
        return Next(StepKind.PREPARE_TARGET, Role.NEW, "transfer", state)
    return None


def _follow(world: World, wish: Wish) -> Next | None:
    if wish.method is not TransferMethod.REPLICATION:
        return None
    if world.new.follows is not Follows.STREAMING:
        return Next(StepKind.FOLLOW, Role.NEW, "transfer.method", _told(world.new.follows, "the new"))
    if wish.fallback is FallbackMode.FOLLOWING and world.old.follows is not Follows.READY:
        because = f"{_told(world.old.follows, 'the old')}; it has to be in place before the new side opens"
        return Next(StepKind.PREPARE_REVERSE, Role.OLD, _FALLBACK, because)
    if world.rehearsal is not Due.DONE:
        return Next(StepKind.REHEARSE, Role.OLD, "transfer.rehearsal", f"the rehearsal is {world.rehearsal}")
    return None


def _switch(world: World, wish: Wish) -> Next | Refused | None:
    """The write pause: hold, complete, prove, freeze. `decide` follows from the frozen world."""
    if world.old.writes is Writes.OPEN:
        return Next(StepKind.HOLD, Role.OLD, _PRIMARY, "the old side accepts writes and the new side is prepared")
    if world.transfer is TransferStage.PREPARED:
        if wish.method is TransferMethod.DUMP:
            return Next(StepKind.COPY, Role.NEW, _PRIMARY, "writers wait and the new side holds no final copy")
        return Next(StepKind.DRAIN, Role.NEW, _PRIMARY, "writers wait and what they wrote last may be on its way")
    if world.transfer is TransferStage.ARRIVED:
        return Next(StepKind.SYNC_SEQUENCES, Role.NEW, _PRIMARY, "rows have arrived; sequence values have not")
    if world.transfer is TransferStage.SEQUENCED:
        return Next(StepKind.COMPARE, Role.NEW, "compare", "everything has arrived and nothing is proved yet")
    return Next(StepKind.FREEZE, Role.OLD, _PRIMARY, "content is proved equal and only the hold keeps it so")


def implied(wish: Wish) -> frozenset[StepKind]:
    """Kinds of steps whose effect is there once the wish holds, whoever brought it about; drills and the retirement
    only where the fallback is to be retired."""
    replicates, following = wish.method is not TransferMethod.DUMP, wish.fallback is FallbackMode.FOLLOWING
    retires = wish.settle and wish.fallback is FallbackMode.RETIRED
    demanded = {
        StepKind.BURN: False,
        StepKind.COPY: not replicates,
        StepKind.STABILIZE: wish.settle,
        StepKind.DOCUMENT: wish.settle and wish.document,
        **dict.fromkeys((StepKind.FOLLOW, StepKind.REHEARSE, StepKind.DRAIN), replicates),
        **dict.fromkeys((StepKind.PREPARE_REVERSE, StepKind.REVERSE_FOLLOW), following),
        **dict.fromkeys((StepKind.RESTORE_DRILL, StepKind.FAILOVER_DRILL, StepKind.RETIRE), retires),
    }
    return frozenset(kind for kind in StepKind if demanded.get(kind, True))


def unfold(world: World, wish: Wish) -> Unfolded:
    """All steps from `world` until the wish holds or a refusal. RuntimeError if the model did not converge, which the
    exhaustive check excludes."""
    steps: list[Next] = []
    trajectory = [world]
    while len(steps) < MAX_STEPS:
        found = next_step(trajectory[-1], wish)
        if found is None or isinstance(found, Refused):
            return Unfolded(tuple(steps), tuple(trajectory), found)
        steps.append(found)
        trajectory.append(effect(found.kind, trajectory[-1], found.role))
    raise RuntimeError(f"the planner did not converge within {MAX_STEPS} steps from {world}")
