"""`check-evidence`: the probes' results are put on this run's record, with the digest that approvals are bound to."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Refusal
from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.planning import evidence_digest, probe_digests
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Records every probe; a refusal when one no longer passes."""
    _, evidence = stage.look()
    missing = [one for one in evidence if one.status is not EvidenceStatus.PASSED]
    if missing:
        raise Refusal(
            code="evidence-incomplete",
            what="evidence of earlier tasks is no longer complete",
            hint="finish what the probes look for, then plan again",
            details=tuple(f"{one.task}/{one.probe}: {one.status}: {one.detail}" for one in missing),
        )
    shown: list[JsonValue] = [one.model_dump(mode="json") for one in evidence]
    digest = evidence_digest(evidence)
    probes: dict[str, JsonValue] = {"probes": probe_digests(stage.plan.spec)}
    stage.record_fact(StepKind.CHECK_EVIDENCE.value, "passed", {**probes, "evidence_digest": digest, "evidence": shown})
    return {"summary": f"{len(evidence)} probes pass", "evidence_digest": digest}
