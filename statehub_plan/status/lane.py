"""One lane: what its document says, what was observed, and which of the two is told where they disagree. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from statehub_plan.history import Lane, Unfinished, decided_term, stabilizing_run, unfinished_run
from statehub_plan.model.facts import Evidence
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import CriterionStatus, GateState, History, Record
from statehub_plan.model.record import Lease as LeaseHeld
from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.model.spec import Lane as DeclaredLane
from statehub_plan.model.steps import StepKind
from statehub_plan.registers import Register, observed_decision, read_register
from statehub_plan.render.words import named
from statehub_plan.status.alarm import Alarm, AlarmKind, alarm_of
from statehub_plan.status.facts import (
    decider,
    fallback_status,
    primary_status,
    slots_left,
    stabilization_status,
    to_mend,
)
from statehub_plan.status.gates import gate_of_run, gate_status, idle_gate
from statehub_plan.status.model import (
    CriterionStanding,
    GateStatus,
    LaneStanding,
    LaneStatus,
    TaskStanding,
    TaskStatus,
)
from statehub_plan.status.runs import Standing, go_on, run_standing, way_back
from statehub_plan.status.tasks import current_runs, steps_done, task_status
from statehub_plan.world import Role, Stable

_RETIRED_BY_ANOTHER_LANE = "fallback-retired"


@dataclass(frozen=True, slots=True)
class LaneInput:
    """Everything known about one lane. `plan` is the plan made now, None for an observed lane and where none could be
    made; then `problem` says why. `lease` is who is at work on the service now. `records` are all of the service,
    `gates` the plan's gates as approved now."""

    document: CutoverPlan | ObservedLane
    history: History
    reached: Lane
    records: tuple[Record, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    plan: Plan | None = None
    gates: tuple[GateState, ...] = ()
    problem: str | None = None
    lease: LeaseHeld | None = None


def lane_status(lane: LaneInput) -> LaneStatus:
    """Where one lane stands."""
    document = lane.document
    narrative, meta = document.spec.narrative, document.metadata
    register = read_register(lane.plan.spec, lane.plan.observation) if lane.plan is not None else None
    tasks = _tasks(lane, register)
    begun = unfinished_run(meta.name, lane.records)
    waiting = stabilizing_run(meta.name, lane.records)
    back = _way_back(lane, register, waiting)
    standing, because = _standing(lane, register, tasks, begun, back)
    observed = _observed(lane, register)
    mend = to_mend(lane.plan, lane.history.drills) if standing is LaneStanding.DONE else ()
    if back is not None and standing is LaneStanding.WAITING:
        observed["steps_left"] = back
    return LaneStatus(
        name=meta.name,
        title=meta.title,
        kind=document.kind,
        standing=standing,
        because=because,
        alarm=_alarm(lane, register, standing, begun),
        **observed,  # type: ignore[arg-type]
        reached=lane.reached.states,
        drills=lane.history.drills,
        tasks_called=narrative.tasks_called,
        tasks=tasks,
        criteria=_criteria(lane),
        gates=_gates(lane, register, standing, begun if back is None else waiting),
        to_mend=mend,
        next_action=_next_action(lane, register, tasks, standing, begun, back, mend),
        decision=narrative.decision,
        rationale=narrative.rationale,
        pickup=narrative.pickup,
        updated=meta.updated,
    )


def _alarm(
    lane: LaneInput, register: Register | None, standing: LaneStanding, begun: Unfinished | None
) -> Alarm | None:
    """With the run that is to be gone on with, where there is one; none for a lane that stands apart."""
    if lane.plan is None or register is None or standing in (LaneStanding.DEFERRED, LaneStanding.SUPERSEDED):
        return None
    alarm = alarm_of(lane.plan.spec, lane.plan.observation, register)
    if alarm is None or begun is None or alarm.kind not in (AlarmKind.NOBODY, AlarmKind.MISDIRECTED):
        return alarm
    if standing is LaneStanding.RUNNING:
        return alarm.model_copy(update={"remedy": f"run {begun.run} is at work; if it is not, {alarm.remedy}"})
    return alarm.model_copy(update={"remedy": go_on(begun, register).removesuffix(".")})


def _observed(lane: LaneInput, register: Register | None) -> dict[str, object]:
    """What only a plan, that is an observation, can tell."""
    if lane.plan is None or register is None or not isinstance(lane.document, CutoverPlan):
        return {}
    plan = lane.plan
    fallback = fallback_status(plan)
    return {
        "wished_primary": plan.new,
        "primary": primary_status(plan, register),
        "fallback": fallback,
        "slots": slots_left(plan, fallback, register.decided),
        "stabilization": stabilization_status(plan, register.decided),
        "steps_left": tuple(step.title for step in plan.steps),
        "refused": plan.refused,
        "unknown": plan.observation.unknown(),
    }


def _runs(lane: LaneInput, register: Register | None) -> tuple[frozenset[str], str | None]:
    """The lane's runs that count under the newest decision (by the journal alone where the register could not be read),
    and why the journal cannot tell where it can't."""
    decided = decided_term(lane.records) if register is None else register.decided
    ahead = decided_term(lane.records)
    if lane.plan is not None and not decided and ahead and observed_decision(lane.plan.spec, lane.plan.observation):
        return (
            frozenset(),
            f"this journal knows of decision term {ahead}, and the registers of none: of other databases",
        )
    made_by = decider(lane.plan, register) if lane.plan is not None and register is not None else None
    runs = current_runs(lane.document.metadata.name, lane.records, decided, made_by)
    if runs is None:
        return frozenset(), f"decision term {decided} was not made by a run in this journal"
    return runs, None


def _tasks(lane: LaneInput, register: Register | None) -> tuple[TaskStatus, ...]:
    runs, gap = _runs(lane, register)
    done = steps_done(lane.records, runs)
    return tuple(task_status(task, lane.evidence, done, gap) for task in lane.document.spec.tasks)


def _criteria(lane: LaneInput) -> tuple[CriterionStanding, ...]:
    declared = {one.name: one for one in lane.document.spec.entry_criteria}
    told = []
    for state in lane.history.criteria:
        one = declared[state.name]
        title = one.title or f"{one.lane.upper()} being {' or '.join(wanted.value for wanted in one.any_of)}"
        told.append(CriterionStanding(title=title, state=state))
    return tuple(told)


def _gates(
    lane: LaneInput, register: Register | None, standing: LaneStanding, begun: Unfinished | None
) -> tuple[GateStatus, ...]:
    if not isinstance(lane.document, CutoverPlan):
        return ()
    if standing in (LaneStanding.DEFERRED, LaneStanding.SUPERSEDED):
        return tuple(idle_gate(gate, f"the lane is {standing.value}") for gate in lane.document.spec.gates)
    if begun is not None:
        return tuple(gate_of_run(gate, begun) for gate in lane.document.spec.gates)
    runs, _ = _runs(lane, register)
    states = {state.gate: state for state in lane.gates}
    return tuple(
        gate_status(gate, lane.plan, states.get(gate.name), lane.records, runs) for gate in lane.document.spec.gates
    )


def _way_back(lane: LaneInput, register: Register | None, waiting: Unfinished | None) -> tuple[str, ...] | None:
    if waiting is None or lane.plan is None or register is None:
        return None
    return way_back(waiting, lane.plan, register)


def _standing(
    lane: LaneInput,
    register: Register | None,
    tasks: tuple[TaskStatus, ...],
    begun: Unfinished | None,
    back: tuple[str, ...] | None,
) -> Standing:
    """The first that holds; a lane that could not be looked at is blocked, never done."""
    meta = lane.document.metadata
    finished = bool(tasks) and all(task.standing is TaskStanding.DONE for task in tasks)
    if meta.superseded_by is not None:
        return LaneStanding.SUPERSEDED, f"superseded by {meta.superseded_by}"
    if isinstance(lane.document, ObservedLane):
        done = LaneStanding.DONE, "every task is shown to be done"
        return done if finished else (LaneStanding.OBSERVED, "it is watched and never carried out")
    unmet = [one.detail for one in lane.history.criteria if one.status is not CriterionStatus.MET]
    if meta.lane is DeclaredLane.DEFERRED and unmet:
        return LaneStanding.DEFERRED, "; ".join(unmet)
    if begun is not None:
        return run_standing(begun, lane.plan, register, lane.lease)
    if back is not None:
        return LaneStanding.WAITING, "stabilization of the way back runs"
    return _running(lane.plan, lane.problem, tasks, finished)


def _running(plan: Plan | None, problem: str | None, tasks: tuple[TaskStatus, ...], finished: bool) -> Standing:
    if plan is None:
        return LaneStanding.BLOCKED, problem or "it was not observed"
    if plan.refused is not None and not plan.steps:
        if finished and plan.refused.code == _RETIRED_BY_ANOTHER_LANE:
            return LaneStanding.DONE, "done; its fallback was retired by a later lane"
        return LaneStanding.BLOCKED, named(plan.refused.what, plan.old, plan.new)
    if not plan.steps:
        missing = ", ".join(task.id for task in tasks if task.standing is not TaskStanding.DONE)
        if not missing:
            return LaneStanding.DONE, "the wish holds"
        return LaneStanding.ACTIVE, f"the wish holds; not shown to be done: {missing}"
    first, world = plan.steps[0], plan.trajectory[0]
    if first.kind is StepKind.STABILIZE and world.stabilization is Stable.RUNNING:
        return LaneStanding.WAITING, "stabilization runs"
    return LaneStanding.ACTIVE, f"next: {first.title}, because {named(first.because, plan.old, plan.new)}"


def _next_action(
    lane: LaneInput,
    register: Register | None,
    tasks: tuple[TaskStatus, ...],
    standing: LaneStanding,
    begun: Unfinished | None,
    back: tuple[str, ...] | None,
    mend: tuple[str, ...],
) -> str:
    """The document's own sentence until a run of this lane has begun to change the world, else what is left by plan."""
    narrative = lane.document.spec.narrative.next_action or ""
    task = next((one for one in tasks if one.standing is not TaskStanding.DONE), None)
    if standing is LaneStanding.DONE and mend:
        return f"No step is left in this lane, but: {'; '.join(mend)}."
    if standing is LaneStanding.DONE:
        return "Nothing is left to do in this lane."
    if standing in (LaneStanding.DEFERRED, LaneStanding.OBSERVED, LaneStanding.SUPERSEDED):
        return narrative or "Nothing to do here now."
    if standing is LaneStanding.RUNNING:
        return "Wait for the run that is under way."
    if standing is LaneStanding.INTERRUPTED and begun is not None:
        return go_on(begun, register)
    if standing is LaneStanding.WAITING and back is not None:
        return f"Go on with the way back's own plan (`watch`, or `apply` again later): {', then '.join(back)}."
    prefix, plan = f"{task.id}: " if task is not None else "", lane.plan
    if plan is None:
        return f"{prefix}make it observable first: {lane.problem or 'it was not observed'}"
    if plan.refused is not None and not plan.steps:
        return f"Before anything else: {named(plan.refused.remedy, plan.old, plan.new)}"
    if plan.steps and _runs(lane, register)[0] and not _untouched(plan):
        return f"{_stepwise(tasks, prefix)}{', then '.join(step.title for step in plan.steps)}."
    if task is not None:
        return f"{prefix}{task.next_action or task.title}"
    own = narrative if lane.document.metadata.lane is DeclaredLane.ACTIVE else ""
    return own or (plan.steps[0].title if plan.steps else "")


def _stepwise(tasks: tuple[TaskStatus, ...], otherwise: str) -> str:
    """The task that the steps under way belong to."""
    return next((f"{task.id}: " for task in tasks if task.steps_left), otherwise)


def _untouched(plan: Plan) -> bool:
    """No cutover of this plan is under way or over: then its document knows best what comes next."""
    world = plan.trajectory[0]
    return world.primary is Role.OLD and world.old.writes.value == "open"
