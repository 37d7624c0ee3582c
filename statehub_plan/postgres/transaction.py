"""One transaction whose commit is never guessed at: committed, not committed, or said to be unknown."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from statehub_plan.errors import OutcomeUnknown, StatehubError
from statehub_plan.postgres.connect import AWAITED_SETTING, Connection, connect_again

T = TypeVar("T")

OBSERVE_FOR_S = 30.0
STANDBY_WAIT_S = 30.0
"""Longest wait for a synchronous standby's answer to a commit, where nobody else waits for it."""
LEAST_STANDBY_WAIT_S = 1.0
"""At least so long where others wait as well, however long they have by then."""
_POLL_S = 0.05
_CANCEL_S = 5.0
_CANCEL_AGAIN_S = 1.0
_CANCELS_UNHEARD = 3

_AWAIT = f"SELECT set_config('synchronous_commit', coalesce(current_setting('{AWAITED_SETTING}', true), 'on'), true)"

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
    StatehubError `standby-silent` when it is committed here, and no synchronous standby has confirmed it within 30 s.
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
    if not commit(connection, backend, lambda observer: landed(observer, value), what=what):
        raise StandbySilent(what, value)
    return value


class StandbySilent(StatehubError):
    """Something is committed, and no synchronous standby has confirmed it; `value` is what its work came to."""

    def __init__(self, what: str, value: object = None) -> None:
        self.value = value
        super().__init__(
            code="standby-silent",
            what=f"{what} is committed here, and no synchronous standby has confirmed that it has it: after a failover "
            "to one it may be missing",
            hint="bring a standby of synchronous_standby_names back, or take it out of them; then run again",
        )


def require_confirmed(connection: Connection, *, what: str) -> None:
    """StandbySilent unless a synchronous standby, where one is demanded, has all that was committed here until now."""
    if not _confirmed(connection, what, None):
        raise StandbySilent(what)


def begin(connection: Connection) -> None:
    """Opens a durable, READ COMMITTED, writable transaction on an idle autocommit session; ValueError on any other."""
    _require_idle(connection)
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    await_standby(connection)


def await_standby(connection: Connection) -> None:
    """The commit of the open transaction waits for a synchronous standby, where one is demanded, and so for all that
    was committed before it: for what must survive a failover. See `no_longer_than`."""
    connection.execute(_AWAIT.encode())


@contextmanager
def confirmed(connection: Connection, *, what: str, standby_wait_s: float) -> Iterator[None]:
    """Around a transaction with `await_standby`: StandbySilent when its commit stands, and no standby has confirmed it
    within that time, of which everything else in the block is a part."""
    with _told(connection) as warnings, no_longer_than(connection, standby_wait_s):
        yield
    if warnings:
        raise StandbySilent(what)


def commit(
    connection: Connection,
    backend: Backend,
    landed: Callable[[Connection], bool],
    *,
    what: str,
    standby_wait_s: float | None = None,
) -> bool:
    """Commits the open transaction; a session lost meanwhile is answered by observing, as in `commit_once`.

    False when it is committed and no synchronous standby has confirmed it for `standby_wait_s` (default 30): the
    server's own wait has no end, and counts no statement_timeout (postgres.c, finish_xact_command)."""
    with _told(connection) as warnings:
        try:
            with no_longer_than(connection, STANDBY_WAIT_S if standby_wait_s is None else standby_wait_s):
                tag = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if not connection.closed:
                raise
            if not _observed(connection, backend, landed, what):
                raise _lost(what) from error
            return _confirmed_again(connection, what, standby_wait_s)
    if tag != "COMMIT":  # the server answers ROLLBACK to the COMMIT of a failed transaction (manual, COMMIT)
        raise StatehubError(
            code="not-committed",
            what=f"the server rolled {what} back",
            hint="look into the server's log, then run again",
        )
    return not warnings


def _confirmed(connection: Connection, what: str, standby_wait_s: float | None) -> bool:
    """A standby that has one more commit has all before it."""
    begin(connection)
    connection.execute("SELECT pg_logical_emit_message(true, 'statehub_plan', 'confirm')")
    one_more = f"a commit after {what}"
    return commit(connection, backend_of(connection), lambda _: False, what=one_more, standby_wait_s=standby_wait_s)


def _confirmed_again(lost: Connection, what: str, standby_wait_s: float | None) -> bool:
    """The same in a new session, for whoever ended the lost one may have ended its wait. False also where nobody can be
    asked: what was observed stands."""
    try:
        with connect_again(lost, purpose="observe commit") as observer:
            return _confirmed(observer, what, standby_wait_s)
    except (StatehubError, psycopg.Error):
        return False


@contextmanager
def no_longer_than(connection: Connection, seconds: float) -> Iterator[None]:
    """What the session does is cancelled after so long; a commit that waits for a standby then stands without it.

    Where the server cannot be told so either (a tunnel whose far end is gone keeps the near one alive, so that no
    keepalive notices), the session is hung up: whoever waits for it finds it lost."""
    over = threading.Event()
    # A descriptor of its own: it is nobody else's, should the session be closed meanwhile.
    line = socket.socket(fileno=os.dup(connection.fileno()))

    def cancel() -> None:
        wait_s, unheard = seconds, 0
        while not over.wait(wait_s):
            wait_s = _CANCEL_AGAIN_S
            try:
                connection.cancel_safe(timeout=_CANCEL_S)
            except (psycopg.Error, OSError):
                unheard += 1
            if unheard >= _CANCELS_UNHEARD:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=cancel, name="statehub-plan cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # whatever comes next in this session is not what it cancels
        line.close()


@contextmanager
def _told(connection: Connection) -> Iterator[list[str]]:
    """The server's warnings that a wait for a standby was ended, known by where they come from: they have no code. None
    comes where nobody is demanded any more: what rests on an answer asks the standbys (`standbys.await_standbys`)."""
    warnings: list[str] = []

    def note(diagnosis: psycopg.errors.Diagnostic) -> None:
        if diagnosis.source_function == "SyncRepWaitForLSN":
            warnings.append(str(diagnosis.message_primary))

    connection.add_notice_handler(note)
    try:
        yield warnings
    finally:
        connection.remove_notice_handler(note)


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
