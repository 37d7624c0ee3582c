"""One consistent view of a database for many sessions at once."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from psycopg import sql

from statehub_plan.postgres.connect import Connection, connect

__all__ = ["RENDERING", "Snapshot", "join_snapshot", "pin_rendering"]

RENDERING = {
    # What a value looks like as text depends on these; connect() pins TimeZone, DateStyle and the search_path.
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "xmloption": "content",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    # A table that would show fewer rows than it has is an error instead (manual, 20.11.1).
    "row_security": "off",
    # Work is split by the tool; servers that split it again would only fight over the same cores.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
"""Settings under which values and definitions look the same on every server."""


class Snapshot:
    """A read-only REPEATABLE READ transaction that other sessions can join; a context manager.

    As long as it is open the server keeps what it sees: dead rows of the whole database stay until it ends. Works on a
    database whose default is read-only. Not thread-safe, but every joined session may live in a thread of its own.
    """

    def __init__(self, dsn: str, *, purpose: str) -> None:
        """Connects, takes the snapshot at once and exports it."""
        self._dsn = dsn
        self._purpose = purpose
        self.id: str
        self.leader = connect(dsn, purpose=purpose)
        try:
            _begin(self.leader)
            self.id = _export(self.leader)
        except BaseException:
            self.leader.close()
            raise

    @classmethod
    def of(cls, dsn: str, snapshot_id: str, *, purpose: str) -> Self:
        """The view that a session of this database exported (`pg_export_snapshot`), under a leader of its own that
        exports it again: once this returns, the exporting session may end or write on.

        `dsn` may name another role than the exporter's, but the same database. psycopg.Error when nobody holds that
        snapshot open any more (manual, SET TRANSACTION).
        """
        snapshot = cls.__new__(cls)
        snapshot._dsn, snapshot._purpose = dsn, purpose
        snapshot.leader = connect(dsn, purpose=purpose)
        try:
            _begin(snapshot.leader, snapshot_id)
            snapshot.id = _export(snapshot.leader)
        except BaseException:
            snapshot.leader.close()
            raise
        return snapshot

    def join(self) -> Connection:
        """A new session that sees exactly what the leader sees; the caller closes it."""
        return join_snapshot(self._dsn, self.id, purpose=self._purpose)

    def close(self) -> None:
        """Ends the leader's transaction; sessions that have joined keep their view."""
        self.leader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def join_snapshot(dsn: str, snapshot: str, *, purpose: str) -> Connection:
    """A new session in a read-only transaction that sees what `snapshot` (an exported one, while its exporter lives)
    sees; the caller closes it."""
    connection = connect(dsn, purpose=purpose)
    try:
        _begin(connection, snapshot)
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: Connection, snapshot_id: str | None = None) -> None:
    pin_rendering(connection)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot_id is not None:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot_id)))


def _export(connection: Connection) -> str:
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    if row is None:
        raise RuntimeError("pg_export_snapshot returned no row")
    return str(row[0])


def pin_rendering(connection: Connection) -> None:
    """Values of this session look the same on every server, and hidden rows are errors. Needs no privilege."""
    connection.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS x(name, value)",
        [list(RENDERING), list(RENDERING.values())],
    )
