"""Looks that a refusal keeps a stabilizing run from taking: they count as the bad looks that they are."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.apply.around import Glance, Surroundings
from statehub_plan.apply.refusals import refused
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.history import stabilizing
from statehub_plan.model.plan import Plan, Refused
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.steps.stabilize import refused_look
from statehub_plan.steps.stage import Stage


class Unseen(Refusal):
    """What kept a stabilizing run from looking at its primary, once that is on record as a bad look: the next may be a
    good one."""


def refusal(found: Refused, plan: Plan, stage: Stage, around: Surroundings, glance: Glance) -> Refusal:
    """The planner's refusal, Unseen where it keeps a stabilizing run from a look."""
    look = bad_look(plan, stage, around, glance, found.what)
    if look is None:
        return refused(found)
    tolerated = plan.spec.spec.stabilization.max_failures
    detail = f"on record as a bad look of the stabilization: {look['failures']} so far, {tolerated} tolerated"
    return Unseen(code=found.code, what=found.what, hint=found.remedy, details=(detail,))


def bad_look(plan: Plan, stage: Stage, around: Surroundings, glance: Glance, why: str) -> dict[str, JsonValue] | None:
    """What is on record now as if the step had seen it; None where this run does not stabilize, or `glance` shows no
    bad sign. A StatehubError, on record as the step's failure, when there were too many of them."""
    step = next((one for one in plan.steps if one.kind is StepKind.STABILIZE), None)
    if step is None or not stabilizing(around.records(), stage.run):
        return None
    try:
        look = refused_look(stage, glance.observation, glance.grounded)
    except StatehubError as error:
        error.details += (why,)
        around.append(RecordKind.STEP_FAILED, step.id, {"code": error.code, "what": error.what})
        raise
    if look is not None:
        around.append(RecordKind.STEP_WAITING, step.id, look)
    return look
