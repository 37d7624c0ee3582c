"""A plan as a Mermaid flowchart."""

from __future__ import annotations

from statehub_plan.model.plan import Plan


def plan_mermaid(plan: Plan) -> str:
    """Steps, gates, the point of no return, what a crash leaves."""
    lines = ["flowchart TD"]
    lines += [f'  s{number}["{step.id}"]' for number, step in enumerate(plan.steps, start=1)]
    return "\n".join(lines) + "\n"
