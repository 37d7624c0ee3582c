"""`reverse-follow`: the fallback follows the new primary, from that one's first write on."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import settle_fence
from statehub_plan.postgres.replication import enable_subscription, stream_name, wait_until_streaming
from statehub_plan.postgres.state import claim_epoch, identity
from statehub_plan.steps.stage import Stage

_STREAMS_WITHIN_S = 60.0


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Idempotent; returns once the stream runs. What it has missed until then, the new primary's slot has kept."""
    endpoint = stage.subject(step)
    with (
        connect(stage.dsn(endpoint), purpose="reverse") as receiver,
        connect(stage.subscriber_dsn(endpoint), purpose="reverse") as subscriber,
    ):
        name = stream_name(identity(receiver))
        with receiver.transaction():
            claim_epoch(receiver, stage.epoch)
            enable_subscription(subscriber, name)
        stage.moment("enabled")
        state = wait_until_streaming(receiver, name, timeout_s=_STREAMS_WITHIN_S, check=stage.checkpoint)
    with connect(stage.dsn(stage.away(endpoint)), purpose="settle") as primary:
        left = settle_fence(primary, epoch=stage.epoch)
    return {
        "summary": f"{endpoint} follows {stage.away(endpoint)}: {state.tables} tables",
        "stream": name,
        "fences_left": list(left),
    }
