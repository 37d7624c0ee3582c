"""A small plan with two gates, for the tests of approvals; everything in it can be replaced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from statehub_plan.model.base import digest
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Identity, Plan, Step
from statehub_plan.model.spec import CutoverPlan, Gate
from statehub_plan.model.steps import StepClass, StepKind
from statehub_plan.world import World

NOW = datetime(2026, 6, 27, 10, 0, 0, 123_456, tzinfo=UTC)
ALICE, BOB, CAROL, EVE = "alice@ops", "bob@ops", "carol@ops", "eve@ops"
IDENTITIES = {
    "wsl2": Identity(system_identifier="7300000000000000001", database="statehub", database_oid=16384),
    "railiance01": Identity(system_identifier="7300000000000000002", database="statehub", database_oid=16385),
}


def gate_document(name: str = "T07", **other: Any) -> dict[str, Any]:
    """A gate as a plan document has it."""
    return {
        "name": name,
        "title": "Freeze writes and make the cluster primary",
        "guards": ["freeze", "decide"],
        "approvers": [ALICE, BOB, CAROL],
        "allowedSigners": "allowed_signers",
        **other,
    }


def document(*gates: dict[str, Any]) -> CutoverPlan:
    """A plan document with these gates."""
    endpoint = {"title": "Here", "database": {"dsn": {"env": "DSN"}}}
    return CutoverPlan.model_validate(
        {
            "apiVersion": "statehub-plan/v1",
            "kind": "CutoverPlan",
            "metadata": {"name": "cust-wp-0011", "title": "Pragmatic", "service": "state-hub"},
            "spec": {
                "endpoints": {"wsl2": endpoint, "railiance01": endpoint},
                "desired": {"primary": "railiance01", "fallback": {"endpoint": "wsl2", "mode": "frozen"}},
                "backup": {"directory": "backups"},
                "gates": list(gates),
            },
        }
    )


def step(name: str, kind: StepKind, gate: str | None) -> Step:
    """A step that stands behind `gate`."""
    return Step(
        id=name,
        kind=kind,
        subject=None,
        step_class=StepClass.DECISION,
        title=f"Do {name}",
        serves="desired.primary",
        because="it is elsewhere",
        gate=gate,
    )


def plan(*gates: dict[str, Any], **other: Any) -> Plan:
    """A plan by a CI robot: copy, then freeze and decide behind T07, then retire behind T08."""
    given: dict[str, Any] = {
        "tool_version": "0",
        "created_at": NOW,
        "author": "Robot <ci@ops>",
        "spec": document(*(gates or (gate_document(),))),
        "spec_digest": digest("spec"),
        "spec_path": "plans/cust-wp-0011.yaml",
        "old": "wsl2",
        "new": "railiance01",
        "term": 1,
        "identities": IDENTITIES,
        "observation": Observation(observed_at=NOW, facts=()),
        "evidence": (),
        "steps": (
            step("copy", StepKind.COPY, None),
            step("freeze", StepKind.FREEZE, "T07"),
            step("decide", StepKind.DECIDE, "T07"),
            step("retire", StepKind.RETIRE, "T08"),
        ),
        "trajectory": (World(),),
        "effects_digest": digest("effects"),
        "evidence_digest": digest("evidence"),
    }
    return Plan(**{**given, **other})


def gate_of(planned: Plan, name: str = "T07") -> Gate:
    """The gate of this name."""
    return next(gate for gate in planned.spec.spec.gates if gate.name == name)
