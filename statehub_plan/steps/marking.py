"""How far the transfer has come, written on the target itself, so that the next process can believe or dismiss it."""

from __future__ import annotations

from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.state import claim_epoch, identity, set_transfer
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def mark_stage(stage: Stage, reached: TransferStage, proof: str | None = None) -> None:
    """Durably records `reached` under this run's hold and term; refused to a run with an older epoch."""
    with connect(stage.dsn(stage.plan.old), purpose="identify", read_only=True) as source:
        source_identity = identity(source)
    with connect(stage.dsn(stage.plan.new), purpose="mark") as target, target.transaction():
        claim_epoch(target, stage.epoch)
        set_transfer(
            target,
            stage=reached,
            hold=stage.hold_id,
            term=stage.plan.term,
            source_identity=source_identity,
            proof=proof,
        )
