"""Looks after the slot of a following fallback on every look at a stabilizing primary; not a step of its own."""

from __future__ import annotations

from contextlib import closing

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import Grounded
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.facts import Observation
from statehub_plan.model.spec import FallbackMode, size_bytes
from statehub_plan.model.stream import stream_name
from statehub_plan.observe.replication import disk_free_bytes
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.guard import Dropped, guard_slot
from statehub_plan.redact import redact
from statehub_plan.registers import identity_of
from statehub_plan.steps.stage import Stage
from statehub_plan.streams import ORPHAN_DROPPED_KIND, SLOT_DROPPED_KIND, orphans, slots_into_others
from statehub_plan.world import Role, Term


def guard_fallback(
    stage: Stage, observation: Observation, grounded: Grounded, *, remembered: bool = True
) -> Dropped | None:
    """Drops the slot of the stream into the fallback when a hard limit of the plan is reached, records that before and
    after as a fact, and tells the person; None where nothing had to be done, or it could not be.

    Only once the primary has moved for good: the slot of a cutover under way is never touched. Reads everything it
    decides by anew, under this run's lease and epoch. What prevents it is told and recorded and ends nothing; losing
    the lease does (exit 6). Blocks for at most about twenty seconds.

    Not `remembered`: the journal is damaged, so it cannot show that a register forgot a decision (ADR 0018). The same
    limits count, and the sender has to be primary by a decision in its own register: had it been left by a later one,
    its freeze for that would stand there too, as that comes first. Where no decision is known, access paths may be all
    that tells who is primary, and would tell the same of a register that forgot: the slot, maybe the way back, stays.
    """
    fallback = stage.plan.spec.spec.desired.fallback
    moved = grounded.world.primary is Role.NEW and grounded.world.term is Term.SETTLED
    if not moved or fallback.mode is FallbackMode.FROZEN:  # one that is to be retired follows until it is
        return None
    if remembered and not grounded.register.decided:  # a first fill under way: there is no fallback yet
        return None
    names = _names(stage, observation)
    if names and not remembered and not grounded.register.decided:
        why = f"that {stage.plan.new} is primary rests on no decision ({grounded.register.basis}), and the journal, "
        why += "which may know of one, is damaged"
        _told_as_failed(stage, ", ".join(names), why)
        return None
    if len(names) > 1:
        why = f"while {stage.plan.old} is away nobody knows which one is for it; drop_replication_slot the others"
        _told_as_failed(stage, ", ".join(names), why)
    if len(names) != 1:
        return None
    dropped = _guarded(stage, names[0], SLOT_DROPPED_KIND)
    if dropped is not None:
        stage.reporter.note(
            f"THE WAY BACK IS NO LONGER LOSSLESS: the slot {names[0]} on {stage.plan.new} was dropped, because "
            f"{dropped.why}; {stage.plan.old} misses what is written from now on"
        )
    return dropped


def guard_orphans(stage: Stage, observation: Observation, grounded: Grounded) -> tuple[Dropped, ...]:
    """The same for slots of the tool's on the primary that nobody reads and nobody is going to, such as that of a
    fallback which was replaced by another database: they keep WAL for nobody, whatever the fallback is wished to be.
    Only by a decision in a register, so with a damaged journal too."""
    moved = grounded.world.primary is Role.NEW and grounded.world.term is Term.SETTLED
    if not moved or not grounded.register.decided:
        return ()
    following = stage.plan.spec.spec.desired.fallback.mode is not FallbackMode.FROZEN
    fallbacks = _names(stage, observation) if following else ()
    found = []
    for one in orphans(observation, (stage.plan.old, stage.plan.new)):
        if one.endpoint != stage.plan.new or one.name in fallbacks:
            continue
        dropped = _guarded(stage, one.name, ORPHAN_DROPPED_KIND)
        if dropped is not None:
            stage.reporter.note(
                f"the slot {one.name} on {one.endpoint}, which nobody reads, was dropped, because {dropped.why}"
            )
            found.append(dropped)
    return tuple(found)


def _guarded(stage: Stage, name: str, kind: str) -> Dropped | None:
    try:
        return _guard(stage, name, kind)
    except StatehubError as error:
        if error.exit_status is Exit.LOCKED:
            raise
        _told_as_failed(stage, name, f"{error.what}; {error.hint}", kind)
    except psycopg.Error as error:
        _told_as_failed(stage, name, redact(" ".join(str(error).split())), kind)
    return None


def _names(stage: Stage, observation: Observation) -> tuple[str, ...]:
    """The slot of the stream into the fallback. A receiver that is away is the very reason for WAL to pile up: it is
    known by what the plan knew, or else by what is left on the sender for it."""
    for receiver in (identity_of(observation, stage.plan.old), stage.plan.identities[stage.plan.old]):
        if receiver.known:
            return (stream_name(receiver),)
    return slots_into_others(observation, stage.plan.new)


def _guard(stage: Stage, name: str, kind: str) -> Dropped | None:
    sender, limits = stage.plan.new, stage.plan.spec.spec.desired.fallback.limits

    def about_to(dropped: Dropped) -> None:
        stage.check_lease()
        state.require_epoch(session, stage.epoch)
        stage.record_fact(kind, "begun", _payload(stage, dropped))

    with closing(connect(stage.dsn(sender), purpose="guard", statement_timeout_ms=10_000)) as session:
        dropped = guard_slot(
            session,
            name=name,
            retained_limit_bytes=size_bytes(limits.drop_slot_at_retained),
            disk_free_bytes=_disk_free(stage, sender),
            disk_limit_bytes=size_bytes(limits.drop_slot_at_disk_free),
            idle_only=kind == ORPHAN_DROPPED_KIND,
            before_drop=about_to,
        )
    if dropped is not None:
        stage.record_fact(kind, "passed", _payload(stage, dropped))
    return dropped


def _disk_free(stage: Stage, endpoint: str) -> int | None:
    """None where nobody watches that disk, or its command failed; the latter is told."""
    argv = stage.plan.spec.spec.endpoints[endpoint].database.disk_free
    if argv is None:
        return None
    try:
        return disk_free_bytes(argv, stage.base_dir)
    except StatehubError as error:
        stage.reporter.note(f"how much disk {endpoint} has left is not known: {error.what}")
        return None


def _payload(stage: Stage, dropped: Dropped) -> dict[str, JsonValue]:
    return {"endpoint": stage.plan.new, **dropped.model_dump(mode="json")}


def _told_as_failed(stage: Stage, name: str, why: str, kind: str = SLOT_DROPPED_KIND) -> None:
    stage.record_fact(kind, "failed", {"endpoint": stage.plan.new, "slot": name, "why": why})
    stage.reporter.note(f"the slot {name} on {stage.plan.new} could not be guarded: {why}")
