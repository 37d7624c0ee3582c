"""`sync-sequences`: every sequence of the target gets its value on the source, under the hold."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.steps.marking import mark_stage
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Idempotent; StatehubError names every sequence that is missing or will not stand still."""
    with (
        connect(stage.dsn(stage.plan.old), purpose="read sequences", read_only=True) as source,
        connect(stage.dsn(stage.plan.new), purpose="set sequences") as target,
    ):
        values = sync_sequences(source, target, epoch=stage.epoch)
    mark_stage(stage, TransferStage.SEQUENCED)
    return {"summary": f"{len(values)} sequences set", "sequences": len(values)}
