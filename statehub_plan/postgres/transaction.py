"""One transaction whose commit is never guessed at: committed, not committed, or said to be unknown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from statehub_plan.errors import OutcomeUnknown, StatehubError
from statehub_plan.postgres.connect import Connection, connect_again

T = TypeVar("T")

OBSERVE_FOR_S = 30.0
_POLL_S = 0.05

Backend = tuple[int, str]
"""Process id and start of a session's server process: unlike the process id alone, never used twice."""


def commit_once(
    connection: Connection,
    work: Callable[[Connection], T],
    landed: Callable[[Connection, T], bool],
    *,
    what: str,
) -> T:
    """The value of `work` after its transaction is known to be committed.

    Begins a transaction on an idle autocommit session, runs `work`, commits durably. If the session is lost at COMMIT,
    a new one waits (up to 30 s) until the old server process is gone and asks `landed` what became of it: when it did
    not commit, StatehubError `connection-lost`; when nobody can tell, OutcomeUnknown. Nothing is ever tried twice.
    """
    _require_idle(connection)
    try:
        begin(connection)
        backend = backend_of(connection)
        value = work(connection)
    except BaseException as error:
        roll_back(connection)
        if isinstance(error, psycopg.OperationalError) and connection.closed:
            raise _lost(what) from error
        raise
    commit(connection, backend, lambda observer: landed(observer, value), what=what)
    return value


def begin(connection: Connection) -> None:
    """Opens a durable, READ COMMITTED, writable transaction on an idle autocommit session; ValueError on any other."""
    _require_idle(connection)
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    # A commit that the server may forget is none; a stricter setting than `on` stays.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', true) "
        "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )


def commit(connection: Connection, backend: Backend, landed: Callable[[Connection], bool], *, what: str) -> None:
    """Commits the open transaction; a session lost meanwhile is answered by observing, as in `commit_once`."""
    try:
        tag = connection.execute("COMMIT").statusmessage
    except psycopg.Error as error:
        if not connection.closed:
            raise
        if not _observed(connection, backend, landed, what):
            raise _lost(what) from error
        return
    if tag != "COMMIT":  # the server answers ROLLBACK to the COMMIT of a failed transaction (manual, COMMIT)
        raise StatehubError(
            code="not-committed",
            what=f"the server rolled {what} back",
            hint="look into the server's log, then run again",
        )


def roll_back(connection: Connection) -> None:
    """Ends the open transaction, if there still is one to end."""
    if not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()  # the server rolls back what loses its session


def backend_of(connection: Connection) -> Backend:
    """Process id and start of this session's server process."""
    row = connection.execute("SELECT pid, backend_start::text FROM pg_stat_get_activity(pg_backend_pid())").fetchone()
    if row is None:
        raise RuntimeError("a session does not see itself")
    return int(row[0]), str(row[1])


def _require_idle(connection: Connection) -> None:
    busy = connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    if busy or not connection.autocommit:
        raise ValueError("this needs an idle session in autocommit mode")


def _observed(lost: Connection, backend: Backend, landed: Callable[[Connection], bool], what: str) -> bool:
    deadline = time.monotonic() + OBSERVE_FOR_S
    reason = ""
    while time.monotonic() < deadline:
        try:
            with connect_again(lost, purpose="observe commit") as observer:
                if _gone(observer, backend, deadline):
                    return landed(observer)
                reason = f"its server process {backend[0]} is still there"
        except (psycopg.OperationalError, StatehubError) as error:
            reason = str(error).splitlines()[0]
            time.sleep(_POLL_S)
    raise OutcomeUnknown(
        code="commit-unknown",
        what=f"the connection was lost while committing {what}, and for {OBSERVE_FOR_S:.0f} s nobody could tell "
        f"whether it took place: {reason}",
        hint="make the database reachable, then run `statehub-plan observe`; nothing is tried again before that",
    )


def _gone(observer: Connection, backend: Backend, deadline: float) -> bool:
    """Ends what is left of the lost session, so that its transaction has one fate or the other."""
    while time.monotonic() < deadline:
        rows = observer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
            backend,
        ).fetchall()
        if not rows:
            return True
        time.sleep(_POLL_S)
    return False


def _lost(what: str) -> StatehubError:
    return StatehubError(
        code="connection-lost",
        what=f"the connection was lost before {what} was committed; it did not take place",
        hint="check the server and the network, then run again",
    )
