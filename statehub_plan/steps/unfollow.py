"""`unfollow`: the stream into one side is taken down, and the slot that kept WAL for it."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Idempotent. StatehubError when the other side is out of reach and its slot had to be left there."""
    endpoint = stage.subject(step)
    away = stage.away(endpoint)
    stopped = stop_following(
        stage.dsn(endpoint),
        stage.dsn(away),
        epoch=stage.epoch,
        subscriber_dsn=stage.subscriber_dsn(endpoint),
        moment=stage.moment,
    )
    if stopped.slot == "left":
        raise StatehubError(
            code="slot-left",
            what=f"{endpoint} follows nobody any more, and the slot {stopped.stream} is still on {away}, "
            f"where it keeps WAL: {stopped.out_of_reach}",
            hint=f"make {away} reachable and run `apply` again; it is dropped then",
        )
    return {"summary": f"{endpoint} follows nobody; slot {stopped.slot}", "stopped": stopped.model_dump(mode="json")}
