"""`decide`: one row in the register on the target, by compare-and-set. The single point of no return."""

from __future__ import annotations

from typing import cast

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.proof import prove_frozen
from statehub_plan.postgres.register import Outcome, decide
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.postgres.sessions import end_sessions
from statehub_plan.postgres.standbys import await_standbys, close_standbys
from statehub_plan.postgres.state import read_state
from statehub_plan.postgres.transaction import LEAST_STANDBY_WAIT_S, StandbySilent, require_confirmed
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """The decision stands, or StatehubError: somebody burned or took the term, or the target is not what was proved
    before the freeze. OutcomeUnknown when nobody can tell."""
    endpoint, term = stage.subject(step), stage.plan.term
    hold, proof = _frozen_for(stage, stage.away(endpoint), term)
    _finish_freeze(stage, stage.away(endpoint), endpoint)
    with connect(stage.dsn(endpoint), purpose="decide") as connection:
        try:
            outcome = decide(
                connection, term=term, primary=endpoint, run=stage.run, epoch=stage.epoch, hold=hold, proof=proof
            )
        except StandbySilent as error:  # clients are to be told of what stands
            outcome = cast(Outcome, error.value)
            stage.reporter.note(str(error))
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
    try:
        stage.record_decision()
    except StatehubError as error:  # nobody accepts writes now: the opening does not wait for a record
        stage.later(f"the decision is not on record: {error.what}")
    return {"summary": f"term {term}: {endpoint} is primary", "outcome": outcome.value, "term": term}


def _finish_freeze(stage: Stage, source: str, target: str) -> None:
    """What lies between a freeze and its decision, in case that a run died there: whoever may still use the old side
    ends, and numbers that were handed out until then are not handed out again."""
    roles = stage.plan.spec.spec.endpoints[source].app_roles
    with connect(stage.dsn(source), purpose="prove freeze") as old, connect(stage.dsn(target), purpose="decide") as new:
        end_sessions(old)
        problems = prove_frozen(old, app_roles=roles, app_dsn=stage.app_dsn(source))
        if problems:
            raise StatehubError(
                code="freeze-not-proved",
                what=f"{source} is frozen and something there could still write",
                hint="remove what is listed; until then nothing opens elsewhere",
                details=tuple(str(problem) for problem in problems),
            )
        sync_sequences(old, new, epoch=stage.epoch)


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
    with connect(stage.dsn(source), purpose="confirm fence") as connection:
        what = f"the freeze of {source} for term {term}"
        standbys = close_standbys(connection)
        require_confirmed(connection, what=what)
        await_standbys(connection, standbys, what=what, timeout_s=LEAST_STANDBY_WAIT_S)
    return mark.hold, mark.proof
