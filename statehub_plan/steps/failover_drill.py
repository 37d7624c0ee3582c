"""`failover-drill`: the platform is made to fail over by the plan's own command, and probes must pass afterwards."""

from __future__ import annotations

import time

from pydantic import JsonValue

from statehub_plan.abstraction import BEGUN
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.plan import Step
from statehub_plan.model.record import CriterionState, CriterionStatus
from statehub_plan.model.spec import CommandProbe, CutoverPlan, FailoverDrill, Lane, Task, duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.observe import observe_evidence
from statehub_plan.registers import identity_of
from statehub_plan.steps.stage import Stage
from statehub_plan.world import Role, Term, World, Writes

_POLL_S = 1.0


def declared(document: CutoverPlan) -> FailoverDrill:
    """The drill that the document declares; a refusal where it declares none."""
    drill = document.spec.drills.failover
    if drill is None:
        raise Refusal(
            code="drill-undeclared",
            what="the plan declares no failover drill, and retiring a fallback needs one",
            hint="declare `drills.failover` with the command and the probes that prove it",
        )
    return drill


def require_now(document: CutoverPlan, step: Step, world: World, criteria: tuple[CriterionState, ...]) -> None:
    """A refusal where a drill on its own could make an outage worse, or is not for one person to order."""
    unmet = [f"{one.name}: {one.detail}" for one in criteria if one.status is not CriterionStatus.MET]
    reasons = (
        (
            document.metadata.lane is Lane.DEFERRED and (bool(unmet) or not criteria),
            "the lane is deferred and its entry criteria do not hold",
            "wait for what is listed; `status` shows it",
        ),
        (
            world.primary is not Role.NEW or world.term is not Term.SETTLED or world.new.writes is not Writes.OPEN,
            f"{step.subject} is not the primary, settled and open for writes",
            "`observe` shows who is; a drill is for a primary that has moved and serves",
        ),
        (
            world.retired or world.old.writes is not Writes.FROZEN,
            "the fallback is not there and refusing writes, as the way back should this go wrong",
            "`observe` shows what became of it",
        ),
    )
    for applies, what, hint in reasons:
        if applies:
            details = tuple(unmet) if "criteria" in what else ()
            raise Refusal(code="drill-not-now", what=f"no failover is drilled: {what}", hint=hint, details=details)


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Runs the command once, then looks until every probe passes or the drill's time-out; records which it was.

    That it was begun is on record before: whatever ends this early, what an earlier drill showed is not true of the
    platform any more as far as anybody knows."""
    drill = declared(stage.plan.spec)
    observation, _ = stage.look()
    about: dict[str, JsonValue] = {
        "endpoint": stage.subject(step),
        "identity": identity_of(observation, stage.subject(step)).model_dump(mode="json"),
        "definition": drill.definition,
    }
    stage.record_fact(StepKind.FAILOVER_DRILL.value, BEGUN, about)
    started = time.monotonic()
    command = CommandProbe(kind="command", name="failover", argv=drill.argv, timeout=drill.timeout)
    seen = _probe(stage, Task(id="drill", title="the failover command", probes=(command,)))
    if all(one.status is EvidenceStatus.PASSED for one in seen):
        seen = _until_passed(stage, drill, started)
    passed = all(one.status is EvidenceStatus.PASSED for one in seen)
    detail: dict[str, JsonValue] = {
        **about,
        "duration_s": round(time.monotonic() - started, 1),
        "probes": {one.probe: f"{one.status}: {one.detail}" for one in seen},
    }
    stage.record_fact(StepKind.FAILOVER_DRILL.value, "passed" if passed else "failed", detail)
    if not passed:
        raise StatehubError(
            code="drill-failed",
            what=f"the failover drill did not pass within {drill.timeout}",
            hint="mend the platform; the fallback stays retained until a drill passes",
            details=tuple(f"{one.probe}: {one.status}: {one.detail}" for one in seen),
        )
    return {"summary": f"failed over and verified in {detail['duration_s']} s", **detail}


def _until_passed(stage: Stage, drill: FailoverDrill, started: float) -> tuple[Evidence, ...]:
    verify = Task(id="drill", title="the drill's verification", probes=drill.verify)
    while True:
        stage.checkpoint()
        seen = _probe(stage, verify)
        over = time.monotonic() - started > duration_s(drill.timeout)
        if over or all(one.status is EvidenceStatus.PASSED for one in seen):
            return seen
        time.sleep(_POLL_S)


def _probe(stage: Stage, task: Task) -> tuple[Evidence, ...]:
    return observe_evidence((task,), stage.plan.spec, stage.base_dir, stage.now)
