"""`unfollow`: the stream into one side is taken down, and the slot that kept WAL for it."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import settle_fence
from statehub_plan.postgres.state import is_installed, read_state
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.postgres.views import refresh_views
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
    told: dict[str, JsonValue] = {"stopped": stopped.model_dump(mode="json")}
    summary = f"{endpoint} follows nobody; slot {stopped.slot}"
    if endpoint == stage.plan.new:
        told |= _settle_primary(stage, endpoint)
    else:
        _disarm(stage, away)
    return {"summary": summary, **told}


def _disarm(stage: Stage, endpoint: str) -> None:
    """What a switch that was killed before it froze anything has left there: each statement pays for it."""
    with connect(stage.dsn(endpoint), purpose="settle") as primary:
        if is_installed(primary):
            settle_fence(primary, epoch=stage.epoch, at_once=True)


def _settle_primary(stage: Stage, endpoint: str) -> dict[str, JsonValue]:
    """What could wait until clients had the new primary: its fence's triggers, and what the stream does not carry."""
    with connect(stage.dsn(endpoint), purpose="settle") as primary:
        state = read_state(primary)
        if state is None or state.fence is not None:
            return {}
        return {
            "fences_left": list(settle_fence(primary, epoch=stage.epoch)),
            "views_refreshed": list(refresh_views(primary, check=stage.checkpoint)),
        }
