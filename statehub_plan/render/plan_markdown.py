"""A plan as Markdown for a pull request."""

from __future__ import annotations

from statehub_plan.model.plan import Plan
from statehub_plan.render.diff import changes
from statehub_plan.render.words import mark, plain


def plan_markdown(plan: Plan) -> str:
    """The same story as on the screen, with details folded."""
    lines = [f"## {plain(plan.spec.metadata.title)}", ""]
    lines += [f"- {one.fact}: {one.now} → {one.after}" for one in changes(plan)]
    lines += [f"{number}. {mark(step)}: {plain(step.title)}" for number, step in enumerate(plan.steps, start=1)]
    return "\n".join(lines) + "\n"
