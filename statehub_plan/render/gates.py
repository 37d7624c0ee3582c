"""The gates of a plan and the approvals given for them."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.record import ApprovalStatus, GateState, JudgedApproval
from statehub_plan.render.words import moment, plain


def gates_text(states: tuple[GateState, ...]) -> str:
    """Every gate with how far it is, and every approval with whether and why it counts."""
    if not states:
        return "this plan has no gates\n"
    return "\n".join(line for state in states for line in _gate(state)) + "\n"


def _gate(state: GateState) -> Iterator[str]:
    verdict = "approved" if state.satisfied else "NOT APPROVED"
    yield f"gate {plain(state.gate)}: {verdict}, {len(state.fingerprints)} of {state.quorum} keys"
    if not state.approvals:
        yield "  no approval found"
    for approval in state.approvals:
        yield from _approval(approval)


def _approval(approval: JudgedApproval) -> Iterator[str]:
    counts = "counts" if approval.status is ApprovalStatus.VALID else "does not count"
    why = f" ({plain(approval.detail)})" if approval.detail else ""
    who = plain(approval.principal or approval.source)
    yield f"  {approval.status.value}: {who} {approval.fingerprint or 'no key'}, {counts}{why}"
    if approval.signed_at is not None:
        clocks = [f"signed {moment(approval.signed_at)}"]
        if approval.decide_by is not None:
            clocks.append(f"decide by {moment(approval.decide_by)}")
        if approval.execute_by is not None:
            clocks.append(f"execute by {moment(approval.execute_by)}")
        yield f"    {', '.join(clocks)}"
    if approval.reason:
        yield f"    reason: {plain(approval.reason)}"
