"""What a plan's observation says about primary, fallback and stabilization. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import JsonValue

from statehub_plan.abstraction import stabilization_for
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import DrillRecord
from statehub_plan.model.spec import FallbackMode, size_bytes
from statehub_plan.model.stream import IdleSlot, StreamState
from statehub_plan.registers import Register, identity_of_primary
from statehub_plan.status.model import FallbackStatus, PrimaryStatus, StabilizationStatus
from statehub_plan.streams import idle_slots, stream_between
from statehub_plan.world import Role, other, side


def instant(value: JsonValue) -> datetime | None:
    """Whole seconds since 1970 as an instant; None for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return datetime.fromtimestamp(value, UTC)


def primary_status(plan: Plan, register: Register) -> PrimaryStatus:
    """Who is primary, since when, and whether it serves."""
    world = plan.trajectory[0]
    known = world.primary is not Role.UNKNOWN
    access = {"old": plan.old, "new": plan.new}.get(world.access.value, world.access.value)
    row = _decision(plan, register)
    return PrimaryStatus(
        endpoint=register.primary,
        basis=register.basis,
        term=register.decided,
        decided_at=instant(row.get("decided_at")),
        decided_by=decider(plan, register),
        writes=side(world, world.primary).writes.value if known else "unknown",
        health=side(world, world.primary).health.value if known else "unknown",
        access=access,
    )


def decider(plan: Plan, register: Register) -> str | None:
    """The run that made the newest decision, by the register itself; None before any."""
    run = _decision(plan, register).get("run")
    return run if isinstance(run, str) else None


def _decision(plan: Plan, register: Register) -> dict[str, JsonValue]:
    for name in plan.spec.spec.endpoints:
        rows = plan.observation.value(f"{name}.register")
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("term") == register.decided and row.get("primary") is not None:
                return row
    return {}


def fallback_status(plan: Plan) -> FallbackStatus | None:
    """The side that is not primary; None where nobody knows which one that is."""
    world = plan.trajectory[0]
    if world.primary is Role.UNKNOWN:
        return None
    role = other(world.primary)
    away = side(world, role)
    wished = plan.spec.spec.desired.fallback
    endpoint, primary = (plan.old, plan.new) if role is Role.OLD else (plan.new, plan.old)
    stream = stream_between(plan.observation, endpoint, primary)
    there = stream.observed and stream.state is not StreamState.NOBODY
    told = there or (wished.mode is FallbackMode.FOLLOWING and wished.endpoint == endpoint)
    return FallbackStatus(
        endpoint=endpoint,
        mode=wished.mode.value,
        writes=away.writes.value,
        follows=away.follows.value,
        retired=world.retired,
        stream=stream if told else None,
        retained_limit_bytes=size_bytes(wished.limits.drop_slot_at_retained) if told else None,
    )


def to_mend(plan: Plan | None, drills: tuple[DrillRecord, ...]) -> tuple[str, ...]:
    """What is wrong where the wish holds and no plan has a step against it."""
    found = []
    fallback = fallback_status(plan) if plan is not None else None
    if fallback is not None and not fallback.retired and fallback.stream is not None and not fallback.stream.lossless:
        found.append(f"mend the way back, which is not lossless ({fallback.stream.why})")
    found += [f"repeat the {one.kind} drill, the newest of which does not count" for one in drills if not one.passed]
    return tuple(found)


def slots_left(plan: Plan, fallback: FallbackStatus | None, decided: int) -> tuple[IdleSlot, ...]:
    """Slots that nobody reads, but for the one that is told with the stream into the fallback."""
    told = fallback.stream.slot if fallback is not None and fallback.stream is not None and decided else None
    return tuple(one for one in idle_slots(plan.observation, (plan.old, plan.new)) if one.name != told)


def stabilization_status(plan: Plan, decided: int) -> StabilizationStatus | None:
    """Stabilization under the current decision as this plan demands it, None before any decision."""
    if decided == 0:
        return None
    seen, primary = plan.observation, identity_of_primary(plan.spec, plan.observation)
    value = stabilization_for(plan.spec.spec.stabilization, seen.value("stabilization"), decided, primary)
    if not value:
        return StabilizationStatus(state="not begun")
    return StabilizationStatus(
        state=str(value.get("state")),
        since_at=instant(value.get("since")),
        until_at=instant(value.get("until")),
        looks=_count(value.get("looks")),
        failures=_count(value.get("failures")),
        last=str(value.get("last") or ""),
    )


def _count(value: JsonValue) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
