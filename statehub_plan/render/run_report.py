"""One self-contained HTML page about a run."""

from __future__ import annotations

import html
from datetime import datetime

from statehub_plan.model.plan import Plan
from statehub_plan.model.record import GateState, Record


def run_report_html(plan: Plan, records: tuple[Record, ...], gates: tuple[GateState, ...], now: datetime) -> str:
    """Timeline, write gap, proofs, approvals, verdicts, final state."""
    return f"<!doctype html><title>{html.escape(plan.spec.metadata.title)}</title>"
