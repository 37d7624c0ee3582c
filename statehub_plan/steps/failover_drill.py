"""`failover-drill`: the platform is made to fail over by the plan's own command, and probes must pass afterwards."""

from __future__ import annotations

import time

from pydantic import JsonValue

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.plan import Step
from statehub_plan.model.spec import CommandProbe, FailoverDrill, Task, duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.observe import observe_evidence
from statehub_plan.steps.stage import Stage

_POLL_S = 1.0


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Runs the command once, then looks until every probe passes or the drill's time-out; records which it was."""
    drill = stage.plan.spec.spec.drills.failover
    if drill is None:
        raise Refusal(
            code="drill-undeclared",
            what="retiring the fallback needs a failover drill and the plan declares none",
            hint="declare `drills.failover` with the command and the probes that prove it",
        )
    started = time.monotonic()
    command = CommandProbe(kind="command", name="failover", argv=drill.argv, timeout=drill.timeout)
    seen = _probe(stage, Task(id="drill", title="the failover command", probes=(command,)))
    if all(one.status is EvidenceStatus.PASSED for one in seen):
        seen = _until_passed(stage, drill, started)
    passed = all(one.status is EvidenceStatus.PASSED for one in seen)
    detail: dict[str, JsonValue] = {
        "endpoint": stage.subject(step),
        "definition": drill.definition,
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
