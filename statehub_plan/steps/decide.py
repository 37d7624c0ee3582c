"""`decide`: one row in the register on the target, by compare-and-set. The single point of no return."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.register import Outcome, decide
from statehub_plan.postgres.state import read_state
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """The decision stands, or StatehubError: somebody burned or took the term, or the target is not what was proved
    before the freeze. OutcomeUnknown when nobody can tell."""
    endpoint, term = stage.subject(step), stage.plan.term
    hold, proof = _frozen_for(stage, stage.away(endpoint), term)
    with connect(stage.dsn(endpoint), purpose="decide") as connection:
        outcome = decide(
            connection, term=term, primary=endpoint, run=stage.run, epoch=stage.epoch, hold=hold, proof=proof
        )
    if outcome is Outcome.UNPROVED:
        raise StatehubError(
            code="target-changed",
            what=f"{endpoint} is not what was proved equal before the freeze: something refilled or opened it since",
            hint="find out who else works on it (`history`, `observe`), then make a new plan; nothing was decided",
            exit_status=Exit.STALE_PLAN,
        )
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


def _frozen_for(stage: Stage, source: str, term: int) -> tuple[str, str]:
    """The hold and the proof under which the source was frozen for this decision. It can only be opened again once the
    term is burned in the target's register, so this stays true until the target's own transaction."""
    with connect(stage.dsn(source), purpose="read fence", read_only=True) as connection:
        state = read_state(connection)
    mark = state.fence if state is not None and not state.copied else None
    if mark is None or mark.term != term or mark.hold is None or mark.proof is None:
        raise StatehubError(
            code="source-not-frozen",
            what=f"{source} is not frozen for term {term} after a proof; without that nothing is decided",
            hint="`observe` shows its fence; make a new plan from there",
            exit_status=Exit.STALE_PLAN,
        )
    return mark.hold, mark.proof
