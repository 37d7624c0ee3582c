"""`burn`: the pending term is spent without a primary, so that no late process can decide it."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.register import burn
from statehub_plan.postgres.state import install, read_state
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Burns the term for which the subject is frozen, in the register of the other side."""
    frozen = stage.subject(step)
    with connect(stage.dsn(frozen), purpose="read fence", read_only=True) as connection:
        state = read_state(connection)
    if state is None or state.fence is None:
        raise StatehubError(
            code="nothing-pending",
            what=f"{frozen} is not frozen for any term",
            hint="observe again: somebody else ended the pending decision",
            exit_status=Exit.STALE_PLAN,
        )
    term = state.fence.term
    with connect(stage.dsn(stage.away(frozen)), purpose="burn") as connection:
        install(connection)  # a target that was lost and made anew has no register yet
        outcome = stage.standing(lambda: burn(connection, term=term, run=stage.run, epoch=stage.epoch))
    if not outcome.stands:
        raise StatehubError(
            code="burn-lost",
            what=f"term {term} could not be burned: {outcome.value}",
            hint="the decision fell after all: run `apply` again, it goes forward from there",
            exit_status=Exit.STALE_PLAN,
        )
    return {"summary": f"term {term} is burned", "term": term, "outcome": outcome.value}
