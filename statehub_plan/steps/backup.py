"""`backup`: a dump of the primary with a checksummed manifest, taken online."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.backup import take_backup
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Appears whole or not at all; writers go on."""
    endpoint = stage.subject(step)
    backup = take_backup(
        stage.dsn(endpoint),
        stage.base_dir / stage.plan.spec.spec.backup.directory,
        endpoint=endpoint,
        jobs=stage.plan.spec.spec.transfer.jobs,
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    return {"summary": f"backup {backup.path.name}", "backup": backup.path.name}
