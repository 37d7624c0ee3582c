"""What can be known to go wrong with moving a schema and its rows, before anything is touched: the checks' errors."""

from __future__ import annotations

from statehub_plan.model.preflight import Found, Severity
from statehub_plan.model.spec import TransferMethod
from statehub_plan.postgres.checks.content import left_by_undecided_transfer
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.privileges import Problem

__all__ = ["left_by_undecided_transfer", "preflight_schema"]

_SCHEMA = tuple(
    one
    for one in CHECKS
    if one.severity is Severity.ERROR and (one.theme != "privileges" or one.id == "table-unreadable")
)


def preflight_schema(source: Connection, target: Connection, *, replace: bool = False) -> tuple[Problem, ...]:
    """Everything that stands in the way of a dump and restore from `source` to `target`, each with its remedy, but for
    what `check_privileges` asks; reads catalogs only.

    `replace`: what the target holds may be replaced. What only a trial can tell (features that an older target lacks,
    for example) is found by `prepare_schema`, which loads the schema before anything is held.
    """
    move = Move(method=TransferMethod.DUMP, replace=replace)
    return tuple(map(problem, run_checks(End(source), End(target), move, checks=_SCHEMA)))


def problem(found: Found) -> Problem:
    """The same without what only a report needs."""
    return Problem(code=found.id, what=found.what, remedy=found.remedy)
