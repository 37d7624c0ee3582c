"""`prepare-reverse`: the stream back is in place, disabled, before the primary moves."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.reverse import ReverseEnds, prepare_reverse
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Made anew each time; writers wait for nothing."""
    endpoint = stage.subject(step)
    prepared = prepare_reverse(reverse_ends(stage, endpoint), epoch=stage.epoch, moment=stage.moment)
    return {
        "summary": f"{endpoint} can follow {stage.away(endpoint)} from its first write on: {prepared.tables} tables",
        "reverse": prepared.model_dump(mode="json"),
    }


def reverse_ends(stage: Stage, receiver: str) -> ReverseEnds:
    """How the stream into `receiver`, the present primary, is reached."""
    sender = stage.away(receiver)
    return ReverseEnds(
        receiver_dsn=stage.dsn(receiver),
        subscriber_dsn=stage.subscriber_dsn(receiver),
        sender_dsn=stage.dsn(sender),
        publisher=stage.publisher(sender),
    )
