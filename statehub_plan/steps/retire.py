"""`retire`: the fallback is marked retired. Its fence stays, nothing is deleted, and the tool never opens it again."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.state import retire
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Idempotent."""
    endpoint = stage.subject(step)
    with connect(stage.dsn(endpoint), purpose="retire") as connection:
        retire(connection, run=stage.run, epoch=stage.epoch)
    stage.record_fact(StepKind.RETIRE.value, "passed", {"endpoint": endpoint})
    return {"summary": f"{endpoint} is retired and stays frozen; its data is untouched"}
