"""`decide`: one row in the register on the target, by compare-and-set. The single point of no return."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.register import decide
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """The decision stands, or StatehubError: somebody burned or took the term. OutcomeUnknown when nobody can tell."""
    endpoint, term = stage.subject(step), stage.plan.term
    with connect(stage.dsn(endpoint), purpose="decide") as connection:
        outcome = decide(connection, term=term, primary=endpoint, run=stage.run, epoch=stage.epoch)
    if not outcome.stands:
        raise StatehubError(
            code="decision-lost",
            what=f"term {term} could not be decided for {endpoint}: {outcome.value}",
            hint="`observe` shows both registers; make a new plan from there",
            exit_status=Exit.STALE_PLAN,
        )
    stage.reporter.note(f"the decision register says: term {term}, {endpoint} ({outcome.value})")
    stage.record_fact(StepKind.DECIDE.value, "passed", {"term": term, "primary": endpoint})
    return {"summary": f"term {term}: {endpoint} is primary", "outcome": outcome.value, "term": term}
