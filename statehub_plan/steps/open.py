"""`open`: the primary accepts writes. The database itself checks its right to, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import open_writes
from statehub_plan.postgres.register import Decision, read_decisions, take_over
from statehub_plan.postgres.sequences import outrun_columns
from statehub_plan.postgres.state import EndpointState, read_state
from statehub_plan.steps.stage import Stage


@dataclass(frozen=True, slots=True)
class _Right:
    """Why an endpoint may be opened: its own decision of `term`, or, frozen for it, the row that `burned` it. `alone`:
    the term by which it takes over, where that row stands in another database than the one it was frozen for."""

    term: int
    burned: Decision | None = None
    alone: int | None = None


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Opens the subject under its own decision, or under the other side's burned term when it is reopened.

    Where another database stands in the place of the one that it was frozen for, that one may have decided, and may
    come back: then the subject takes over first, by a later term in its own register.
    """
    endpoint = stage.subject(step)
    with connect(stage.dsn(endpoint), purpose="open") as connection:
        right = _right(stage, endpoint, connection)
        if right.alone is not None:
            _take_over(stage, endpoint, connection, right.term, right.alone)
            right = _Right(right.alone)
        opened = open_writes(
            connection, run=stage.run, epoch=stage.epoch, endpoint=endpoint, term=right.term, burned=right.burned
        )
    ended = len(opened.sessions.ended)
    return {"summary": f"{endpoint} accepts writes; {ended} read-only sessions ended", "term": right.term}


def _right(stage: Stage, endpoint: str, connection: Connection) -> _Right:
    state = read_state(connection)
    mark = state.fence if state is not None else None
    fenced = mark.term if mark is not None else 0
    own = read_decisions(connection)
    decided = max((row.term for row in own if row.primary == endpoint), default=0)
    if decided and fenced <= decided:
        return _Right(decided)
    with connect(stage.dsn(stage.away(endpoint)), purpose="read register", read_only=True) as away:
        rows, found = read_decisions(away), read_state(away)
    burned = next((row for row in rows if row.term == fenced and row.primary is None), None)
    if burned is None or mark is None:
        raise Refusal(
            code="no-right-to-open",
            what=f"{endpoint} is frozen for term {fenced}, which is neither decided for it nor burned",
            hint="run `abort` on the plan document: it burns the term first",
        )
    if mark.hold is None or _frozen_for(fenced, found):
        return _Right(fenced, burned)
    return _Right(fenced, burned, max(row.term for row in (*own, *rows)) + 1)


def _frozen_for(term: int, found: EndpointState | None) -> bool:
    """Whether this is the state of the database that the decision was to fall in: something was transferred there for
    that term."""
    return found is not None and not found.copied and found.transfer is not None and found.transfer.term == term


def _take_over(stage: Stage, endpoint: str, connection: Connection, frozen_for: int, term: int) -> None:
    """Its sequences first: a stream has brought it rows and no values. It is frozen, so none is handed out."""
    outrun = outrun_columns(connection, epoch=stage.epoch)
    outcome = stage.standing(
        lambda: take_over(
            connection, term=term, frozen_for=frozen_for, primary=endpoint, run=stage.run, epoch=stage.epoch
        )
    )
    if not outcome.stands:
        raise StatehubError(
            code="take-over-lost",
            what=f"{endpoint} could not take over by term {term}: {outcome.value}",
            hint="somebody else acted on it meanwhile: `observe` shows both registers; plan again from there",
            exit_status=Exit.STALE_PLAN,
        )
    stage.later(
        f"the database that {endpoint} was frozen for by term {frozen_for} is not there: {endpoint} is primary by term "
        f"{term} of its own register. Should that one come back, run `abort`: it shuts it, and what was acknowledged "
        "there and had not arrived here is there alone"
    )
    if outrun.moved:
        stage.later(
            f"{len(outrun.moved)} sequences were moved past what their columns hold, and further for what is lost"
        )
    if outrun.unknown:
        stage.later(
            "no column tells how far these sequences had come, so they may give numbers a second time (setval mends "
            f"it): {', '.join(outrun.unknown)}"
        )
