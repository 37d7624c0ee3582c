"""What a failed run leaves behind: before the point of no return the old primary open again, or word that it isn't."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.apply.around import Glance, Surroundings
from statehub_plan.apply.staleness import changed_identities
from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish, unfold
from statehub_plan.planning import dress, turned
from statehub_plan.steps.stage import Stage
from statehub_plan.world import Role, Term, Writes

_WAY_OUT = (StepKind.BURN, StepKind.FREEZE, StepKind.OPEN)
"""Burn the term, shut whatever opened meanwhile, open the old primary."""

_REMEDY = "run `apply` or `abort` as soon as that is mended; until then writes may be refused everywhere"

_ELSEWHERE = (
    "mend the connection string, then run `apply` or `abort`: in the database that answers now there is nothing to "
    "burn, and where a decision may stand two sides would accept writes; until then writes may be refused everywhere"
)


def recorded(
    around: Surroundings, kind: RecordKind, step: str | None, payload: dict[str, JsonValue]
) -> tuple[str, ...]:
    """Appends; a journal that cannot take it is told instead of raised: ending an outage does not wait for it."""
    try:
        around.append(kind, step, payload)
    except StatehubError as error:
        return not_on_record(error)
    return ()


def not_on_record(error: StatehubError) -> tuple[str, ...]:
    """How it is told that the journal could not take something."""
    return (f"not on record: {error.what}",)


def end_pending(
    plan: Plan, stage: Stage, around: Surroundings, look: Callable[[], Glance], because: str
) -> tuple[str, ...]:
    """Burns a pending term and opens the old primary, if that is the world we are in, and the databases that answer are
    the plan's. Reads nothing of the journal.

    Returns what a person has to know besides the failure itself: that this was done, or what of it could not be;
    nothing when the old primary accepts writes anyway, or the decision has fallen."""
    try:
        glance = look()
        world = glance.world
        changed = {name: changed_identities(plan, glance.observation, [name]) for name in (plan.old, plan.new)}
        serves = world.old.writes is Writes.OPEN and not changed[plan.old]
        if serves or (world.primary is Role.NEW and not changed[plan.new]):
            return ()
        if others := (*changed[plan.old], *changed[plan.new]):
            return (f"nothing was done about {plan.old}: another database answers than the plan's", *others, _ELSEWHERE)
        if world.primary is Role.UNKNOWN or world.term not in (Term.PENDING, Term.BURNED):
            return (_unseen(plan, glance), _REMEDY)
        stage.require_not_taken()
        told = _burn_and_open(plan, stage, around, glance, because)
    except StatehubError as error:
        return (f"{plan.old} could not be opened again: {error.what}", _REMEDY)
    except psycopg.Error as error:
        return (f"{plan.old} could not be opened again: {' '.join(str(error).split())}", _REMEDY)
    aborted: dict[str, JsonValue] = {"because": because, "term": plan.term}
    told += recorded(around, RecordKind.RUN_ABORTED, None, aborted)
    return (f"{plan.old} accepts writes again; term {plan.term} is burned, so it takes a new plan to go on", *told)


def _burn_and_open(plan: Plan, stage: Stage, around: Surroundings, glance: Glance, because: str) -> tuple[str, ...]:
    """The planner's own way out, seen by somebody who wishes the old primary to stay; returns what is not on record."""
    back = turned(plan.spec, plan.old)
    grounded = ground(back, glance.observation, (), now=around.now())
    unfolded = unfold(grounded.world, Wish(settle=False))
    told: tuple[str, ...] = ()
    opened = False
    stage = replace(stage, look=around.observe_unrecorded)
    for index, (found, before) in enumerate(zip(unfolded.steps, unfolded.trajectory, strict=False), start=1):
        if found.kind not in _WAY_OUT:
            break
        step = dress(back, grounded, index, found, before)
        around.executor(step.kind)(stage, step.model_copy(update={"id": f"abort-{step.id}"}))
        told += recorded(around, RecordKind.STEP_ABORTED, step.id, {"kind": step.kind.value, "because": because})
        opened = step.kind is StepKind.OPEN
    if not opened:
        why = unfolded.refused.what if unfolded.refused is not None else "nothing that was planned opens it"
        raise StatehubError(code="not-reopened", what=why, hint=_REMEDY)
    return told


def _unseen(plan: Plan, glance: Glance) -> str:
    """Which fact is missing for saying that the old primary accepts writes."""
    what = f"whether {plan.old} accepts writes is not known"
    for fact_id in (f"{plan.old}.writes", f"{plan.old}.register", f"{plan.new}.register"):
        fact = glance.observation.get(fact_id)
        if fact is not None and fact.reason is not None:
            return f"{what}: {fact.id}: {fact.reason}"
    return f"{what}: it is {glance.observation.value(f'{plan.old}.writes', 'not observed')}"
