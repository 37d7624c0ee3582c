"""What the pre-flight checks of both sides say, as one fact."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from pydantic import JsonValue

from statehub_plan.model.preflight import Severity
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.observe.gather import Answers, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.observe.session import session
from statehub_plan.postgres.checks.ends import end_of, move_of
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import run_checks
from statehub_plan.postgres.connect import Connection, resolve_dsn
from statehub_plan.registers import endpoints_by_role

_MARGIN_S = 0.5  # the driver's own time-out, which knows the cause, is to come before ours
_HOW = "the read-only checks of both sides (`doctor --list`)"


def preflight_source(document: CutoverPlan, base_dir: Path) -> Source:
    """preflight {source, target, found: [{id, severity, side, what, remedy}], replication_errors: [id of what stands in
    the way of replication only]}: of the move to the desired primary, as the document has it; unknown while either side
    does not answer."""
    old, new = endpoints_by_role(document)

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        endpoints = document.spec.endpoints
        with ExitStack() as stack:

            def opened(dsn: str) -> Connection:
                limit_s = attempt.remaining_s() - _MARGIN_S
                return stack.enter_context(session(dsn, attempt, purpose="observe", connect_timeout_s=limit_s))

            source, target = (
                end_of(one, opened(resolve_dsn(one.database.dsn, base_dir)), base_dir, opened)
                for one in (endpoints[old], endpoints[new])
            )
            found = run_checks(
                source,
                target,
                move_of(document),
                statement_timeout_ms=max(1, round(attempt.remaining_s() * 1000)),
            )
        listed: list[JsonValue] = [one.model_dump(mode="json", exclude={"subject", "reason"}) for one in found]
        told = {one.id for one in found if one.severity is Severity.ERROR}
        forbids: list[JsonValue] = [one.id for one in CHECKS if one.id in told and one.replication_only]
        fact: dict[str, JsonValue] = {"source": old, "target": new, "found": listed, "replication_errors": forbids}
        answers.know("preflight", fact, began)

    return Source(name="pre-flight", promises={"preflight": _HOW}, look=look)
