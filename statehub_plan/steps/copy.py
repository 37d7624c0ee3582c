"""`copy`: every row under the hold, then indexes, constraints and whatever else the bare schema left out."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.copy import copy_data
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.schema import refresh_schema
from statehub_plan.steps.compare import tell
from statehub_plan.steps.marking import mark_stage
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Begun anew each time: what an earlier, lost hold copied is replaced. Checked for a lost hold every 50 ms."""
    source, target = stage.dsn(stage.plan.old), stage.dsn(stage.plan.new)
    jobs = stage.plan.spec.spec.transfer.jobs
    refreshed = refresh_schema(source, target, run=stage.run, epoch=stage.epoch, check=stage.checkpoint)
    copied = copy_data(
        source,
        target,
        epoch=stage.epoch,
        jobs=jobs,
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    finished = finish_schema(
        source,
        target,
        epoch=stage.epoch,
        jobs=jobs,
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    mark_stage(stage, TransferStage.ARRIVED)
    return {
        "summary": f"{copied.rows} rows, {copied.bytes / 1e6:.1f} MB",
        "rows": copied.rows,
        "bytes": copied.bytes,
        "copy_ms": copied.elapsed_ms,
        "finish_ms": finished.elapsed_ms,
        "schema_refreshed": refreshed,
    }
