"""`stabilize`: looks at the new primary until it has been healthy for as long as the plan demands. Waits by exit 8."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.abstraction import Grounded, ground, looks_at, watched_s
from statehub_plan.errors import StatehubError
from statehub_plan.history import decided_term, journal_facts
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Identity, Step
from statehub_plan.model.spec import duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.registers import identity_of
from statehub_plan.steps.guarding import guard_fallback, guard_orphans
from statehub_plan.steps.stage import Stage, Waiting
from statehub_plan.world import Access, Health, Role, World, Writes

COUNTED_INTERVALS = 5
"""Time between two looks counts up to this many of the plan's intervals; nobody looked during the rest."""


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """One look a call. Passed when `duration` has been observed with at most `maxFailures` bad looks; Waiting before
    that; a StatehubError when there were more, after which the clock starts anew with the next call."""
    wanted = stage.plan.spec.spec.stabilization
    now_s = epoch_s(stage.now())
    observation, evidence = stage.look()
    grounded = ground(stage.plan.spec, observation, evidence, now=stage.now())
    guard_fallback(stage, observation, grounded)
    guard_orphans(stage, observation, grounded)
    bad = _bad(stage, observation, grounded)
    payload = _counted(stage, now_s, observation, grounded, bad)
    left_s = watched_s(wanted) - int(str(payload["observed_s"]))
    if left_s > 0 or bad:
        stage.record_fact(StepKind.STABILIZE.value, "running", payload)
        raise Waiting(
            what=f"stabilization: {payload['last']}, {payload['looks']} looks, {max(0, left_s)} s left to observe",
            hint="run `apply` again later, or `watch` to stay; `status` shows how it goes",
            payload=payload,
        )
    stage.record_fact(StepKind.STABILIZE.value, "passed", payload)
    return {"summary": f"healthy for {wanted.duration} in {payload['looks']} looks", **payload}


def refused_look(stage: Stage, observation: Observation, grounded: Grounded) -> dict[str, JsonValue] | None:
    """Puts on record what was seen where a refusal keeps a stabilizing run from this step, as the step would have;
    None, and nothing on record, where no bad sign was seen. A StatehubError when there were too many of them."""
    bad = _bad(stage, observation, grounded)
    if not bad:
        return None
    payload = _counted(stage, epoch_s(stage.now()), observation, grounded, bad)
    stage.record_fact(StepKind.STABILIZE.value, "running", payload)
    return payload


def _counted(
    stage: Stage, now_s: int, observation: Observation, grounded: Grounded, bad: list[str]
) -> dict[str, JsonValue]:
    """Progress with this look; on record as failed, and a StatehubError, where it is one bad look too many."""
    wanted = stage.plan.spec.spec.stabilization
    term, identity = _term(stage, grounded), _identity(stage, observation)
    so_far = _so_far(stage, now_s, term, identity)
    gap_s = min(max(0, now_s - so_far["last_look"]), COUNTED_INTERVALS * duration_s(wanted.interval))
    observed_s = so_far["observed_s"] + round(gap_s)
    failures = so_far["failures"] + bool(bad)
    payload: dict[str, JsonValue] = {
        "endpoint": stage.plan.new,
        "identity": identity.model_dump(mode="json"),
        "term": term,
        "since": so_far["since"],
        "until": now_s + max(0, watched_s(wanted) - observed_s),
        "last_look": now_s,
        "observed_s": observed_s,
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
    return payload


def _term(stage: Stage, grounded: Grounded) -> int:
    """The decision that is stabilized; of a primary that does not answer only the journal tells which one that is."""
    known = grounded.world.primary is Role.NEW
    return grounded.register.decided if known else decided_term(stage.records())


def _identity(stage: Stage, observation: Observation) -> Identity:
    """Which database is watched: one that does not answer is the plan's, as each step makes sure when it does."""
    seen = identity_of(observation, stage.plan.new)
    return seen if seen.known else stage.plan.identities[stage.plan.new]


def _so_far(stage: Stage, now_s: int, term: int, identity: Identity) -> dict[str, int]:
    """Progress of a stabilization of this very term and database that runs, or that passed for a plan which demands
    less; else, and where another plan bore with more failures than this one may, a fresh start."""
    fact = next((one for one in journal_facts(stage.records(), stage.now()) if one.id == "stabilization"), None)
    looks = looks_at(fact.value if fact is not None else None, term, identity)
    value = looks[0] if looks else {}
    fresh = {"since": now_s, "last_look": now_s, "observed_s": 0, "looks": 0, "failures": 0}
    if value.get("state") not in ("running", "passed"):
        return fresh
    known = {name: int(str(value[name])) for name in fresh}
    return known if known["failures"] <= stage.plan.spec.spec.stabilization.max_failures else fresh


def _bad(stage: Stage, observation: Observation, grounded: Grounded) -> list[str]:
    has_api = stage.plan.spec.spec.endpoints[stage.plan.new].api is not None
    return [*bad_signs(grounded.world, has_api=has_api), *_silent_paths(stage, observation)]


def _silent_paths(stage: Stage, observation: Observation) -> list[str]:
    signs = []
    for path in stage.plan.spec.spec.access:
        value = observation.value(f"access.{path.name}")
        if isinstance(value, dict) and value.get("answers") is False:
            signs.append(f"access path {path.name} does not answer: {value.get('detail')}")
    return signs


def bad_signs(world: World, *, has_api: bool) -> list[str]:
    """Everything about a world that a stabilized primary must not show; unknown is bad."""
    signs = (
        (world.new.writes is Writes.OPEN, f"writes on the primary: {world.new.writes}"),
        (not has_api or world.new.health is Health.OK, f"health of the primary's API: {world.new.health}"),
        (world.access is Access.NEW, f"clients are pointed at: {world.access}"),
        (world.old.writes is not Writes.OPEN, "the fallback accepts writes"),
    )
    return [what for fine, what in signs if not fine]
