"""`redirect`: every access path points at the new primary; each path atomically, the rest of its file untouched."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.access import redirect, try_redirect
from statehub_plan.model.plan import Step
from statehub_plan.steps.stage import Stage


def require_redirectable(stage: Stage) -> None:
    """Raises what pointing clients at the new primary would fail with; asked before writers wait, when there is still
    a way not to begin."""
    for path in stage.plan.spec.spec.access:
        stage.checkpoint()
        try_redirect(path, stage.plan.new, stage.base_dir)


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """One path after the other; a path that already points there is left as it is."""
    endpoint = stage.subject(step)
    changes: list[JsonValue] = []
    for path in stage.plan.spec.spec.access:
        stage.checkpoint()
        change = redirect(path, endpoint, stage.base_dir)
        changes.append({"path": path.name, "before": change.before, "after": change.after})
        stage.later(f"{path.name}: {change.before} → {change.after}")
    return {"summary": f"{len(changes)} access paths point at {endpoint}", "changes": changes}
