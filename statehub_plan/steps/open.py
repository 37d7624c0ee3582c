"""`open`: the primary accepts writes. The database itself checks its right to, in the same transaction."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Refusal
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import open_writes
from statehub_plan.postgres.register import Decision, read_decisions
from statehub_plan.postgres.state import read_state
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Opens the subject under its own decision, or under the other side's burned term when it is reopened."""
    endpoint = stage.subject(step)
    with connect(stage.dsn(endpoint), purpose="open") as connection:
        term, burned = _right(stage, endpoint, connection)
        opened = open_writes(connection, run=stage.run, epoch=stage.epoch, endpoint=endpoint, term=term, burned=burned)
    ended = len(opened.sessions.ended)
    return {"summary": f"{endpoint} accepts writes; {ended} read-only sessions ended", "term": term}


def _right(stage: Stage, endpoint: str, connection: Connection) -> tuple[int, Decision | None]:
    state = read_state(connection)
    fenced = state.fence.term if state is not None and state.fence is not None else 0
    decided = max((row.term for row in read_decisions(connection) if row.primary == endpoint), default=0)
    if decided and fenced <= decided:
        return decided, None
    with connect(stage.dsn(stage.away(endpoint)), purpose="read register", read_only=True) as away:
        burned = next((row for row in read_decisions(away) if row.term == fenced and row.primary is None), None)
    if burned is None:
        raise Refusal(
            code="no-right-to-open",
            what=f"{endpoint} is frozen for term {fenced}, which is neither decided for it nor burned",
            hint="run `abort` on the plan document: it burns the term first",
        )
    return fenced, burned
