"""`redirect`: every access path points at the new primary; each path atomically, the rest of its file untouched."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from statehub_plan.access import redirect, try_redirect
from statehub_plan.errors import OutcomeUnknown, StatehubError, refused_by_system
from statehub_plan.model.plan import Step
from statehub_plan.steps.stage import Stage


def require_redirectable(stage: Stage) -> None:
    """Raises what pointing clients at the new primary would fail with; asked before writers wait, when there is still
    a way not to begin."""
    for path in stage.plan.spec.spec.access:
        stage.checkpoint()
        try_redirect(path, stage.plan.new, stage.base_dir)


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """One path after the other; a path that already points there is left as it is.

    Nothing keeps another path in the outage, neither one that fails nor a journal that is away: all are tried before a
    StatehubError names those that failed, an OutcomeUnknown where that is so of any of them. Only another run that has
    taken over ends it."""
    endpoint = stage.subject(step)
    changes: list[JsonValue] = []
    failed: dict[str, StatehubError] = {}
    for path in stage.plan.spec.spec.access:
        stage.require_not_taken()
        try:
            change = redirect(path, endpoint, stage.base_dir)
        except StatehubError as error:
            failed[path.name] = error
            continue
        except OSError as error:
            failed[path.name] = refused_by_system(error, f"access path {path.name}")
            continue
        changes.append({"path": path.name, "before": change.before, "after": change.after})
        stage.later(f"{path.name}: {change.before} → {change.after}")
    if failed:
        raise _incomplete(failed, endpoint, len(changes))
    return {"summary": f"{len(changes)} access paths point at {endpoint}", "changes": changes}


def _incomplete(failed: Mapping[str, StatehubError], endpoint: str, done: int) -> StatehubError:
    whys = (f"{name}: {error.what.removeprefix(f'access path {name}: ')}" for name, error in failed.items())
    what = (
        f"{len(failed)} of {len(failed) + done} access paths are not proved to point at {endpoint}: {'; '.join(whys)}"
    )
    hint = "mend what is listed, then run `apply` again: it tries every path anew, and leaves alone what is right"
    details = tuple(f"{name}: {line}" for name, error in failed.items() for line in (*error.details, error.hint))
    kind = OutcomeUnknown if any(isinstance(error, OutcomeUnknown) for error in failed.values()) else StatehubError
    return kind(code="redirect-incomplete", what=what, hint=hint, details=details)
