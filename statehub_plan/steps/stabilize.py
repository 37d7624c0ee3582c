"""`stabilize`: looks at the new primary until it has been healthy for as long as the plan demands. Waits by exit 8."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.errors import StatehubError
from statehub_plan.history import journal_facts
from statehub_plan.model.base import epoch_s
from statehub_plan.model.plan import Step
from statehub_plan.model.spec import duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.steps.stage import Stage, Waiting
from statehub_plan.world import Access, Health, World, Writes


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """One look a call. Passed when `duration` is over with at most `maxFailures` bad looks; Waiting before that; a
    StatehubError when there were more, after which the clock starts anew with the next call."""
    wanted = stage.plan.spec.spec.stabilization
    now_s = epoch_s(stage.now())
    observation, evidence = stage.look()
    grounded = ground(stage.plan.spec, observation, evidence, now=stage.now())
    term = grounded.register.decided
    so_far = _so_far(stage, now_s, term)
    bad = bad_signs(grounded.world, has_api=stage.plan.spec.spec.endpoints[stage.plan.new].api is not None)
    failures = so_far["failures"] + bool(bad)
    payload: dict[str, JsonValue] = {
        "endpoint": stage.subject(step),
        "term": term,
        "since": so_far["since"],
        "until": so_far["since"] + round(duration_s(wanted.duration)),
        "looks": so_far["looks"] + 1,
        "failures": failures,
        "last": "; ".join(bad) or "healthy",
    }
    if failures > wanted.max_failures:
        stage.record_fact(StepKind.STABILIZE.value, "failed", payload)
        raise StatehubError(
            code="stabilization-failed",
            what=f"the new primary looked bad {failures} times: {'; '.join(bad)}",
            hint="mend it and run `apply` again (the clock starts anew), or plan the way back with `switchback`",
        )
    if now_s - so_far["since"] < duration_s(wanted.duration) or bad:
        stage.record_fact(StepKind.STABILIZE.value, "running", payload)
        left_s = max(0, so_far["since"] + round(duration_s(wanted.duration)) - now_s)
        raise Waiting(
            what=f"stabilization: {payload['last']}, {payload['looks']} looks, {left_s} s left",
            hint="run `apply` again later, or `watch` to stay; `status` shows how it goes",
            payload=payload,
        )
    stage.record_fact(StepKind.STABILIZE.value, "passed", payload)
    return {"summary": f"healthy for {wanted.duration} in {payload['looks']} looks", **payload}


def _so_far(stage: Stage, now_s: int, term: int) -> dict[str, int]:
    """Progress of a running stabilization of this very term, else a fresh start."""
    fact = next((one for one in journal_facts(stage.records(), stage.now()) if one.id == "stabilization"), None)
    value = fact.value if fact is not None and isinstance(fact.value, dict) else {}
    if value.get("term") != term or value.get("state") != "running":
        return {"since": now_s, "looks": 0, "failures": 0}
    return {name: int(str(value[name])) for name in ("since", "looks", "failures")}


def bad_signs(world: World, *, has_api: bool) -> list[str]:
    """Everything about a world that a stabilized primary must not show; unknown is bad."""
    signs = (
        (world.new.writes is Writes.OPEN, f"writes on the primary: {world.new.writes}"),
        (not has_api or world.new.health is Health.OK, f"health of the primary's API: {world.new.health}"),
        (world.access is Access.NEW, f"clients are pointed at: {world.access}"),
        (world.old.writes is not Writes.OPEN, "the fallback accepts writes"),
    )
    return [what for fine, what in signs if not fine]
