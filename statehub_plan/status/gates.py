"""One human gate of a lane: passed, approved, missing, or with nothing behind it. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from statehub_plan.history import Unfinished
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, GateState, Record, RecordKind
from statehub_plan.model.spec import Gate
from statehub_plan.status.model import GateStanding, GateStatus


def gate_status(
    gate: Gate, plan: Plan | None, state: GateState | None, records: tuple[Record, ...], runs: frozenset[str]
) -> GateStatus:
    """The gate as the plan made now needs it; `runs` are the lane's runs that still count."""
    standing, detail = _standing(gate, plan, state, records, runs)
    return _told(gate, standing, detail, len(state.fingerprints) if state is not None else 0)


def gate_of_run(gate: Gate, begun: Unfinished) -> GateStatus:
    """The gate as a run that is not over has left it. That run goes by its own plan: what its approvals say would count
    for nothing of a plan made now, and nothing of that matters to the run."""
    if gate.name in begun.gates:
        return _told(gate, GateStanding.PASSED, f"by run {begun.run}, which goes on under its own approvals", 0)
    asked = f"run {begun.run} has not come to it and goes by its own plan: `approvals PLANFILE` tells what counts there"
    return _told(gate, GateStanding.UNKNOWN, asked, 0)


def idle_gate(gate: Gate, why: str) -> GateStatus:
    """A gate that nobody is asked to open now."""
    return _told(gate, GateStanding.IDLE, why, 0)


def _told(gate: Gate, standing: GateStanding, detail: str, given: int) -> GateStatus:
    return GateStatus(
        gate=gate.name,
        title=gate.title,
        standing=standing,
        approvers=tuple(sorted(gate.approvers)),
        quorum=gate.quorum,
        given=given,
        detail=detail,
    )


def _standing(
    gate: Gate, plan: Plan | None, state: GateState | None, records: tuple[Record, ...], runs: frozenset[str]
) -> tuple[GateStanding, str]:
    needed = plan is not None and any(step.gate == gate.name for step in plan.steps)
    if needed and state is not None:
        return (GateStanding.APPROVED if state.satisfied else GateStanding.MISSING), _approvals(state)
    passed = [one for one in records if one.kind is RecordKind.GATE_PASSED and one.run in runs and _is(one, gate)]
    if passed:
        return GateStanding.PASSED, f"run {passed[0].run}"
    if plan is None:
        return GateStanding.UNKNOWN, "no plan could be made"
    if needed:
        return GateStanding.UNKNOWN, "its approvals were not looked at"
    return GateStanding.IDLE, "no step that it guards is planned now"


def _is(record: Record, gate: Gate) -> bool:
    return record.payload.get("gate") == gate.name


def _approvals(state: GateState) -> str:
    """Those that count with their clock; the others as a number for each reason."""
    valid = [one for one in state.approvals if one.status is ApprovalStatus.VALID]
    useless = Counter(one.status.value for one in state.approvals if one.status is not ApprovalStatus.VALID)
    told = [f"{one.principal}{_until(one.execute_by)}" for one in valid]
    if not state.satisfied:
        told += [
            f"{count} found that {'does' if count == 1 else 'do'} not count: {why}" for why, count in useless.items()
        ]
    return "; ".join(told) or "no approval yet"


def _until(moment: datetime | None) -> str:
    return f", valid until {moment:%Y-%m-%d %H:%M UTC}" if moment else ""
