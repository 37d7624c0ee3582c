"""`follow`: the target is filled online and follows the source; what an earlier, killed run left is carried on with."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Returns once changes get through; writers wait for nothing."""
    endpoint = stage.subject(step)
    away = stage.away(endpoint)
    followed = fill_and_follow(
        stage.dsn(away),
        stage.dsn(endpoint),
        epoch=stage.epoch,
        publisher=stage.publisher(away),
        subscriber_dsn=stage.subscriber_dsn(endpoint),
        jobs=stage.plan.spec.spec.transfer.jobs,
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    copied = f"{followed.rows} rows, {followed.bytes / 1e6:.1f} MB copied; " if followed.rows else ""
    return {"summary": f"{copied}{endpoint} follows {away}", "followed": followed.model_dump(mode="json")}
