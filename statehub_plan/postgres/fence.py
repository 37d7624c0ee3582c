"""The durable freeze: statement triggers that refuse every writer, and the database's read-only default with them.

Binds owners, superusers and `BEGIN READ WRITE`; lets reads and a replication apply worker pass. Does not bind a
superuser with `session_replication_role = replica`, an owner who drops the trigger, `nextval`, DDL or (before
PostgreSQL 16) large objects in a session that insists on READ WRITE: the read-only default is there for those.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import cast

import psycopg
from psycopg import sql

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, user_tables
from statehub_plan.postgres.privileges import require_privileges
from statehub_plan.postgres.proof import (
    Canary,
    FenceStatus,
    canary,
    fence_status,
    prove_frozen,
    read_only_default,
    unsound_tables,
    writes,
)
from statehub_plan.postgres.register import Decision, read_decisions
from statehub_plan.postgres.sessions import Ended, end_sessions
from statehub_plan.postgres.transaction import StandbySilent, commit_once

__all__ = [
    "FENCE_ALL_SQL",
    "Canary",
    "FenceStatus",
    "Installed",
    "Opened",
    "arm",
    "canary",
    "fence",
    "fence_status",
    "install",
    "is_marked",
    "mark_sealed",
    "open_by_gate",
    "open_writes",
    "pass_for_session",
    "prove_frozen",
    "seal",
    "seal_tables",
    "set_read_only_default",
    "settle_fence",
    "writes",
]

FENCE_ALL_SQL = "SELECT statehub_plan.fence_tables(true)"
"""For a script that creates tables: run in its transaction, it leaves no table unfenced."""

_INSTALL_WAITS_MS = (100, 200, 400, 800, 1500)
"""Longest wait for one table's lock, round by round. The last exceeds deadlock_timeout's default: only then does the
server cancel an autovacuum that is in the way (manual, 24.1.6)."""
_ARM_WAITS_MS = (10, 25, 50)
"""As above, where a table that could not be had costs a hold no more than it would have anyway."""
_MOST_BUSY = 20
"""After so many tables that could not be had in one round the others are left as well: for each, writers queued up."""
_LOCK_WAIT_MS = 3000
_LOCK_ATTEMPTS = 5
_BRIEFLY = "SELECT set_config('lock_timeout', %s, true)"


class Installed(Frozen):
    """What `install` came to. `busy` tables could not be had between writers; a hold fences them under its locks."""

    tables: int
    added: tuple[str, ...]
    busy: tuple[str, ...]


class Opened(Frozen):
    """What `open_writes` came to: the sessions ended because they still had the read-only default of the freeze."""

    sessions: Ended


def install(connection: Connection) -> Installed:
    """The tool's schema, and a fence trigger on every user table: disabled, or enabled where this database is frozen.

    Online: asks for each table's lock for 0.1 s at first and 1.5 s at last, so that no writer queues for longer behind
    it; at most five rounds. Idempotent.
    """
    require_privileges(connection)
    state.install(connection)
    added: list[str] = []
    missing = unsound_tables(connection)
    for wait_ms in _INSTALL_WAITS_MS:
        busy: list[str] = []
        for oid, name in missing:
            (added if _fence_table(connection, oid, wait_ms) else busy).append(name)
        missing = [(oid, name) for oid, name in missing if name in busy]
        if not missing:
            break
        time.sleep(random.uniform(0.5, 1.5) * wait_ms / 1000)
    return Installed(tables=len(user_tables(connection)), added=tuple(added), busy=tuple(name for _, name in missing))


def fence(connection: Connection, *, term: int, run: str, epoch: int, primary: str | None = None) -> Ended:
    """Freezes a database that is not the primary (a target, a stray writable side), durably and proved.

    Read-only default first, then other sessions are ended, then all triggers enabled and the state recorded in one
    transaction, then sessions are ended again and the freeze is proved. StatehubError when it could not be proved; what
    was done by then stays, it only ever refuses more. Idempotent; a mark with a higher term is not lowered. The primary
    is frozen by `Hold.freeze` alone, which keeps its writers' acknowledged rows in order.
    """
    require_privileges(connection)
    state.install(connection)

    def make_read_only(conn: Connection) -> None:
        state.claim_epoch(conn, epoch)
        set_read_only_default(conn, True)

    commit_once(connection, make_read_only, lambda conn, _: read_only_default(conn), what="the read-only default")
    for attempt in range(_LOCK_ATTEMPTS):
        ended = end_sessions(connection)
        try:
            commit_once(
                connection,
                lambda conn: _seal_target(conn, term=term, run=run, epoch=epoch, primary=primary),
                lambda conn, _: is_marked(conn, term, run),
                what=f"the freeze for term {term}",
            )
            break
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == _LOCK_ATTEMPTS - 1:
                raise _locks_missing("fenced", ended) from error
    again = end_sessions(connection)
    problems = prove_frozen(connection)
    if problems:
        raise StatehubError(
            code="fence-incomplete",
            what="the database was fenced, but not everything proves to refuse writes",
            hint="remove what is listed, then run again; nothing is opened elsewhere before this is proved",
            details=tuple(str(problem) for problem in problems),
        )
    return Ended(ended=(*ended.ended, *again.ended), remaining=again.remaining)


def seal(
    connection: Connection, *, term: int, run: str, hold: str | None, primary: str | None, proof: str | None
) -> None:
    """Enables every trigger, sets the read-only default, forgets passages and writes the mark, in the caller's
    transaction after `claim_epoch`. Waits for each table's lock under the caller's lock_timeout."""
    seal_tables(connection)
    mark_sealed(connection, term=term, run=run, hold=hold, primary=primary, proof=proof)


def seal_tables(connection: Connection) -> None:
    """The part of `seal` that takes time with the number of tables; nothing of it counts before `mark_sealed`."""
    state.require_transaction(connection)
    statements = [
        "DELETE FROM statehub_plan.passage",
        _gate_sql(open_to_all=False),
        FENCE_ALL_SQL,
        _read_only_default_sql(connection, True),
    ]
    connection.execute("; ".join(statements).encode(), prepare=False)  # writers wait: one round trip


def mark_sealed(
    connection: Connection, *, term: int, run: str, hold: str | None, primary: str | None, proof: str | None
) -> None:
    """The mark that makes a freeze one, in the transaction of `seal_tables`."""
    connection.execute(
        "UPDATE statehub_plan.state SET fence_term = %s, fence_run = %s, fence_hold = %s, fence_primary = %s, "
        "fence_proof = %s, frozen_at = clock_timestamp()",
        [term, run, hold, primary, proof],
    )


def open_writes(
    connection: Connection, *, run: str, epoch: int, endpoint: str, term: int, burned: Decision | None = None
) -> Opened:
    """Lets this database, which is `endpoint`, accept writes again; in one transaction that reads the register.

    Either this database's own register decided `term`, its highest, for `endpoint`; or, to reopen an old primary,
    `burned` is the row that the caller read from the other side's register: the same term, without a primary. Refusal
    otherwise, and for a retired database. Waits for no table: the gate opens. Afterwards other sessions are ended, as
    those that began during the freeze would stay read-only, and fences that can be had at once are disabled.
    Idempotent.
    """

    def work(conn: Connection) -> datetime | None:
        state.claim_epoch(conn, epoch)
        _require_right_to_open(conn, endpoint, term, burned)
        conn.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_LOCK_WAIT_MS}ms"])
        _open_gate(conn)
        return _note_opening(conn, term)

    def landed(conn: Connection, _: datetime | None) -> bool:
        current = state.read_state(conn)
        return current is not None and current.fence is None

    silent: StandbySilent | None = None
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            stale_until = commit_once(connection, work, landed, what=f"the opening of {endpoint} (run {run})")
            break
        except StandbySilent as error:  # it is open: those who began meanwhile are not to stay read-only
            silent, stale_until = error, None
            break
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == _LOCK_ATTEMPTS - 1:
                raise _locks_missing("opened", None) from error
    sessions = end_sessions(connection, began_before=stale_until)
    if silent is not None:
        raise silent
    with suppress(StatehubError, psycopg.Error):  # writers need not pay for them; whatever is left lets everybody pass
        settle_fence(connection, epoch=epoch, at_once=True)
    return Opened(sessions=sessions)


def open_by_gate(connection: Connection, *, term: int) -> None:
    """Lets everybody through the fence and new sessions write, in the caller's transaction, which has shown it may.

    Takes no lock on any table, so neither their number nor autovacuum delays it; the triggers stay enabled, and each
    statement pays for its fence, until `settle_fence`."""
    state.require_transaction(connection)
    _open_gate(connection, ", opened_term = %s, opened_at = clock_timestamp()", [term])


def _open_gate(connection: Connection, noted: str = "", values: Sequence[int] = ()) -> None:
    connection.execute(_gate_sql(open_to_all=True).encode())
    set_read_only_default(connection, False)
    connection.execute("DELETE FROM statehub_plan.passage")
    connection.execute(
        "UPDATE statehub_plan.state SET fence_term = NULL, fence_run = NULL, fence_hold = NULL, fence_primary = NULL, "
        f"fence_proof = NULL, frozen_at = NULL{noted}".encode(),
        values,
    )


def arm(connection: Connection, *, epoch: int) -> None:
    """Enables the fence's triggers on a database that accepts writes, one table at a time between writers, whom its
    open gate lets through: a freeze then has no table to touch, only the gate to shut, however many tables there are.

    Tables that could not be had within 50 ms are left to the freeze, as is everything where the database is frozen.
    Until `settle_fence` each statement pays for its fence. Idempotent."""
    _claim(connection, epoch)
    _switch_fences(connection, _ARM_WAITS_MS, epoch=epoch, enable=True, most_busy=_MOST_BUSY)


def settle_fence(connection: Connection, *, epoch: int, at_once: bool = False) -> tuple[str, ...]:
    """Disables the fence's triggers on a database that was opened by its gate or armed, one table at a time between
    writers. Returns the tables whose fence is enabled still (all of them where the database was frozen meanwhile);
    repeat for those. Idempotent. `at_once`: only those that can be had within 50 ms each."""
    _claim(connection, epoch)
    if at_once:
        _switch_fences(connection, _ARM_WAITS_MS, epoch=epoch, enable=False, most_busy=_MOST_BUSY)
    else:
        _switch_fences(connection, _INSTALL_WAITS_MS, epoch=epoch, enable=False)
    state.require_epoch(connection, epoch)
    return tuple(name for _, name in _fenced_tables(connection, enabled=True))


def pass_for_session(connection: Connection, *, epoch: int | None = None) -> None:
    """Lets this one session write through the fence: until it ends, a higher epoch is claimed, or the next freeze.

    For the tool's copies into a fenced target. `epoch` is the run's own (default: the one in force now).
    """
    connection.execute("SELECT statehub_plan.admit(%s)", [epoch])


def set_read_only_default(connection: Connection, on: bool) -> None:
    """The database's `default_transaction_read_only`, for sessions that begin after the caller's commit."""
    connection.execute(_read_only_default_sql(connection, on).encode())


def is_marked(connection: Connection, term: int, run: str) -> bool:
    """Whether the state row says: frozen for this term by this run."""
    current = state.read_state(connection)
    mark = current.fence if current else None
    return mark is not None and (mark.term, mark.run) == (term, run)


def _fence_table(connection: Connection, oid: int, wait_ms: int) -> bool:
    """False when the table's lock was not to be had in time. A table dropped meanwhile needs no fence."""
    fence_it = "SELECT statehub_plan.fence_table(oid::oid, %s) FROM statehub_plan.user_table WHERE oid = %s"
    try:
        with connection.transaction():
            connection.execute(_BRIEFLY, [f"{wait_ms}ms"])
            connection.execute(fence_it, [True, oid])
            # Asked with the table's lock: a freeze may have come while it was waited for, and none comes now.
            row = connection.execute("SELECT fence_term IS NULL FROM statehub_plan.state FOR SHARE").fetchone()
            if row == (True,):
                connection.execute(fence_it, [False, oid])
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    except psycopg.errors.UndefinedTable:
        return True
    return True


def _fenced_tables(connection: Connection, *, enabled: bool) -> list[tuple[int, str]]:
    """OID and name of the tables whose fence is, or is not, enabled."""
    rows = connection.execute(
        "SELECT t.tgrelid::int8, t.tgrelid::regclass::text FROM pg_trigger t WHERE t.tgname = 'statehub_plan_fence' "
        "AND NOT t.tgisinternal AND (t.tgenabled <> 'D') = %s ORDER BY 2",
        [enabled],
    )
    return [(int(oid), str(name)) for oid, name in rows]


def _gate_sql(*, open_to_all: bool) -> str:
    """What the fence's triggers find when they fire, from the caller's commit on."""
    answer = "true" if open_to_all else "false"
    return (
        "CREATE OR REPLACE FUNCTION statehub_plan.gate() RETURNS boolean LANGUAGE plpgsql AS "
        f"'BEGIN RETURN {answer}; END'"
    )


def _read_only_default_sql(connection: Connection, on: bool) -> str:
    database = sql.Identifier(connection.info.dbname)
    change = sql.SQL("SET default_transaction_read_only = on" if on else "RESET default_transaction_read_only")
    return (sql.SQL("ALTER DATABASE {} ").format(database) + change).as_string(connection)


def _switch_fences(
    connection: Connection, waits_ms: Sequence[int], *, epoch: int, enable: bool, most_busy: int | None = None
) -> None:
    """After `most_busy` tables that could not be had in one round nobody else's is asked for."""
    for wait_ms in waits_ms:
        tables = _fenced_tables(connection, enabled=not enable)
        busy = 0
        for oid, _name in tables:
            if most_busy is not None and busy >= most_busy:
                return
            if not _switch_fence(connection, oid, wait_ms, epoch=epoch, enable=enable):
                busy += 1
        if not busy:
            break


def _claim(connection: Connection, epoch: int) -> None:
    with connection.transaction():
        state.claim_epoch(connection, epoch)


def _switch_fence(connection: Connection, oid: int, wait_ms: int, *, epoch: int, enable: bool) -> bool:
    """False when its lock could not be had within `wait_ms`. A frozen or retired database's fence is never touched, and
    nobody's once a newer run has claimed it; of any other the gate is open, so that nobody but a freeze makes writers
    fail."""
    try:
        with connection.transaction():
            connection.execute(_BRIEFLY, [f"{wait_ms}ms"])
            row = connection.execute(
                "SELECT fence_term IS NULL AND retired_run IS NULL AND epoch <= %s FROM statehub_plan.state FOR SHARE",
                [epoch],
            ).fetchone()
            if row != (True,):
                return True
            connection.execute("SELECT statehub_plan.fence_table(%s::oid, %s)", [oid, enable])
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    except psycopg.errors.UndefinedTable:
        return True  # dropped meanwhile
    return True


def _seal_target(connection: Connection, *, term: int, run: str, epoch: int, primary: str | None) -> None:
    state.claim_epoch(connection, epoch)
    current = state.read_state(connection)
    if current is not None and current.fence is not None and current.fence.term > term:
        raise Refusal(
            code="term-outdated",
            what=f"this database is already frozen for term {current.fence.term} by run {current.fence.run}; "
            f"term {term} is older",
            hint="plan again: the plan is based on an older decision term",
        )
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_LOCK_WAIT_MS}ms"])
    seal(connection, term=term, run=run, hold=None, primary=primary, proof=None)


def _require_right_to_open(connection: Connection, endpoint: str, term: int, burned: Decision | None) -> None:
    current = state.read_state(connection)
    if current is None or current.retired_run is not None:
        raise Refusal(
            code="endpoint-retired",
            what=f"{endpoint} was retired by run {current.retired_run if current else '?'}; it is not opened again",
            hint="restore it as a new endpoint, or make another endpoint primary",
        )
    decisions = {decision.term: decision.primary for decision in read_decisions(connection)}
    if term in decisions:
        allowed = decisions[term] == endpoint and term == max(decisions)
    else:
        frozen_for = current.fence.term if current.fence else current.opened_term
        allowed = (
            burned is not None
            and (burned.term, burned.primary) == (term, None)
            and frozen_for == term
            and term > max(decisions, default=0)
        )
    if not allowed:
        raise Refusal(
            code="not-decided",
            what=f"{endpoint} may not accept writes: no decision of term {term} in the register allows it",
            hint="`statehub-plan observe` shows the registers; apply decides (or burns) a term before it opens a side",
            details=tuple(f"term {t}: {primary or 'burned'}" for t, primary in sorted(decisions.items())),
        )


def _note_opening(connection: Connection, term: int) -> datetime | None:
    """None at the first opening for this term; at a later one, when sessions had ceased to begin read-only."""
    row = connection.execute(
        "SELECT CASE WHEN opened_term = %s THEN opened_at + interval '1 s' END FROM statehub_plan.state", [term]
    ).fetchone()
    if row is None or row[0] is None:
        connection.execute("UPDATE statehub_plan.state SET opened_term = %s, opened_at = clock_timestamp()", [term])
        return None
    return cast(datetime, row[0])


def _locks_missing(verb: str, sessions: Ended | None) -> StatehubError:
    remaining = sessions.remaining if sessions else ()
    return StatehubError(
        code="fence-locked",
        what=f"the tables could not be {verb}: other sessions or maintenance kept them locked "
        f"through {_LOCK_ATTEMPTS} attempts of {_LOCK_WAIT_MS} ms",
        hint="look at pg_locks and pg_stat_activity of that database, end what holds a lock, then run again",
        details=tuple(str(session) for session in remaining),
    )
