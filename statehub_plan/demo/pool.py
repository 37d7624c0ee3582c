"""A few PostgreSQL connections for the demo's State Hub, and what a database error means to an HTTP client.

Own rather than psycopg_pool: forty lines, and no request is handed a connection that the server has already ended.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, LifoQueue

import psycopg
from psycopg.rows import DictRow, dict_row

_ACQUIRE_TIMEOUT_S = 2.0
_SETTINGS = "-c statement_timeout=15s -c TimeZone=UTC -c search_path=public,pg_catalog"

Connection = psycopg.Connection[DictRow]


@dataclass(frozen=True)
class Problem:
    """An HTTP error. `reason` is a stable word; `retry_after_s` is given where the same request may be sent again."""

    status: int
    reason: str
    detail: str
    retry_after_s: int | None = None


class Refused(Exception):
    """A request that is answered with a problem of the hub's own."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Pool:
    """At most `size` connections, opened when needed. Thread-safe."""

    def __init__(self, dsn: str, size: int, application_name: str) -> None:
        self._dsn = dsn
        self._application_name = application_name
        # A slot is an idle connection, or None: the right to open one.
        self._slots: LifoQueue[Connection | None] = LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection inside a transaction that commits at the end; at most two seconds' wait for a free one.

        Raises Refused when there is none, or psycopg.Error as it came; a connection that broke is thrown away.
        """
        try:
            slot = self._slots.get(timeout=_ACQUIRE_TIMEOUT_S)
        except Empty:
            raise Refused(Problem(503, "busy", "every database connection is in use", retry_after_s=1)) from None
        conn = None
        try:
            conn = slot if slot is not None and _is_alive(slot) else self._open(slot)
            with conn.transaction():
                yield conn
        finally:
            self._slots.put(conn if conn is not None and not conn.closed else None)

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                slot = self._slots.get_nowait()
            except Empty:
                return
            if slot is not None:
                slot.close()

    def _open(self, stale: Connection | None) -> Connection:
        if stale is not None:
            stale.close()
        return psycopg.connect(
            self._dsn,
            autocommit=True,  # transactions are opened explicitly, so an idle connection is never inside one
            row_factory=dict_row,
            application_name=self._application_name,
            connect_timeout=5,
            options=_SETTINGS,
        )


_TRY_AGAIN = {
    "25006": "read-only",
    "57014": "canceled",
    "55P03": "locked",
    "57P01": "terminated",
    "57P02": "terminated",
    "57P03": "starting",
    "40001": "serialization",
    "40P01": "deadlock",
    "53300": "too-many-connections",
}
_CLIENT_ERRORS = {"23503": (409, "missing-reference"), "23505": (409, "exists")}


def problem_of(error: psycopg.Error) -> Problem:
    """What to answer for a database error: 503 where trying again may help, 4xx for the client's own, else 500."""
    state = error.sqlstate or ""
    detail = error.diag.message_primary or str(error).strip().split("\n")[0]
    if state in _TRY_AGAIN:
        return Problem(503, _TRY_AGAIN[state], detail, retry_after_s=1)
    if state.startswith("08") or (not state and isinstance(error, psycopg.OperationalError)):
        # Not the driver's own text: it names the server's address and user.
        return Problem(503, "connection-lost", "the database can't be reached", retry_after_s=1)
    if state in _CLIENT_ERRORS:
        status, reason = _CLIENT_ERRORS[state]
        return Problem(status, reason, detail)
    if state.startswith(("22", "23")):
        return Problem(422, "invalid", detail)
    return Problem(500, "database-error", detail)


def _is_alive(conn: Connection) -> bool:
    # The server says nothing to an idle connection except that it ends it, so readable means gone.
    if conn.closed:
        return False
    readable, _, _ = select.select([conn.fileno()], [], [], 0)
    return not readable
