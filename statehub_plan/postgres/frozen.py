"""The last looks at an old side around its freeze: who may have written still, and whether the fence holds."""

from __future__ import annotations

from collections.abc import Sequence

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection, Table, user_tables
from statehub_plan.postgres.fence import canary, fence_status
from statehub_plan.postgres.proof import Probes, doubtful_tables
from statehub_plan.postgres.sessions import end_open_transactions, end_others_at_once

__all__ = ["end_all_others", "late_tables", "require_frozen", "require_no_writer", "why_not_refused"]

_GONE_S = 2.0
_ACTIVE_GONE_S = 0.5


def require_no_writer(source: Connection, *, timeout_s: float) -> None:
    """Under the hold, while everything can still be released: ends whoever may have written. StatehubError
    `writers-left` that names those who may not be ended, after two seconds or `timeout_s`.

    The locks leave some: a transaction that has made a table, or has done what no lock on a table keeps back."""
    left = end_open_transactions(source, timeout_s=min(timeout_s, _GONE_S))
    if left:
        raise StatehubError(
            code="writers-left",
            what=f"{len(left)} transactions that may have written could not be ended; everything was released",
            hint="let what is listed come to its end (a superuser ends sessions by pg_terminate_backend; "
            "COMMIT PREPARED or ROLLBACK PREPARED), then run again",
            details=left,
        )


def end_all_others(source: Connection) -> tuple[str, ...]:
    """After the freeze was committed: all other sessions end; what has a transaction still, for people.

    By the locks that were held, nobody had written to a table and not ended; what is left to exclude is a table made by
    a transaction that was open all the while. Whoever waited for a sequence's lock gets a number now, unless it ends
    first, for the fence does not bind nextval(): so sessions at work are waited for."""
    end_others_at_once(source)
    left = end_open_transactions(source, timeout_s=_GONE_S, active_s=_ACTIVE_GONE_S)
    return tuple(f"{who} still has a transaction" for who in left)


def why_not_refused(source: Connection, tables: Sequence[Table], probes: Probes) -> tuple[str, ...]:
    """After the freeze was committed: whether a write is let through. `probes` are those of `find_probes`.

    One is enough here: the fences are alike, each is seen enabled, and whoever waits is paying."""
    return tuple(
        f"a write on {one.table} as {one.role}: {one.result} {one.detail or ''}"
        for one in canary(source, tables=tables[:1], probes=probes)
        if one.result not in ("frozen", "no-privilege")
    )


def late_tables(source: Connection, held: Sequence[Table]) -> tuple[str, ...]:
    """Once nobody is left who could bring a table: those that nobody held, which never arrive, and those without a
    fence; for people."""
    known = {table.oid for table in held}
    if not doubtful_tables(source, list(known)):
        return ()
    late = [table.qualified for table in user_tables(source) if table.oid not in known]
    unfenced = [name for name in fence_status(source).unfenced if name not in late]
    return (
        *(f"table {name} has come after everything was locked" for name in late),
        *(f"table {name} has come without a fence" for name in unfenced),
    )


def require_frozen(details: Sequence[str]) -> None:
    """StatehubError `freeze-not-proved` with what could still write, if anything could."""
    if details:
        raise StatehubError(
            code="freeze-not-proved",
            what="the old side is frozen and something there could still write",
            hint="remove what is listed; until then nothing opens elsewhere",
            details=tuple(details),
        )
