"""The journal in one SQLite file, its leases in lock files beside it.

One file holds everything (rollback journal, not WAL): a copy made while nothing runs is complete, and a network drive
or a read-only mount can still read it. `synchronous=EXTRA` also makes the commit itself durable, which FULL does not in
this mode (https://sqlite.org/pragma.html#pragma_synchronous); an append costs about 1 ms more than with WAL.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from statehub_plan.journal import chain
from statehub_plan.journal.chain import COLUMNS, Head
from statehub_plan.journal.leases import (
    LEASE_COLUMNS,
    held_by,
    lease_of,
    new_lease,
    renewed,
    require_lease_or_knowledge,
    superseded,
)
from statehub_plan.journal.lock import LeaseLock, is_held
from statehub_plan.journal.protocol import LeaseLost, Locked
from statehub_plan.journal.sqlite_file import BUSY_S, checked, connect, explained, transaction
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import Lease, Record, RecordKind
from statehub_plan.redact import redact_json

_RECORD_COLUMNS = ", ".join(COLUMNS)


class SqliteJournal:
    """A `Journal` in the file `path`, which is made by the first thing written; its directory must exist.

    No other code of this process may open the file by itself: closing it would drop SQLite's own locks (POSIX locks,
    fcntl(2)).
    """

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        """Opens the file if it exists; StatehubError when it can't be read or is not this tool's.

        `busy_s` is how long a write waits for another process to finish its own.
        """
        self._path = checked(path)
        self._busy_s = busy_s
        self._main: sqlite3.Connection | None = None
        self._pulse: sqlite3.Connection | None = None
        self._read = chain.Reading()
        self._main_guard = threading.RLock()
        self._pulse_guard = threading.RLock()
        self._locks: dict[tuple[str, int], LeaseLock] = {}
        with self._reading():
            pass

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def identity(self) -> Identity | None:
        """None: a file."""
        return None

    def append(
        self,
        lease: Lease | None,
        *,
        service: str,
        plan_name: str,
        run: str,
        kind: RecordKind,
        step: str | None,
        payload: dict[str, Any],
        at: datetime,
    ) -> Record:
        """See Journal."""
        require_lease_or_knowledge(lease, service, kind)
        clean = redact_json(payload)
        assert isinstance(clean, dict)
        with self._writing() as db:
            if lease is not None:
                _require_current(db, lease)
            head = _head(db)
            chain.require_same_head(_last(db), head, self.location)
            record = chain.link(
                head,
                service=service,
                plan_name=plan_name,
                run=run,
                epoch=lease.epoch if lease else 0,
                at=at,
                kind=kind,
                step=step,
                payload=clean,
            )
            db.execute(
                f"INSERT INTO record ({_RECORD_COLUMNS}) VALUES ({', '.join('?' * len(COLUMNS))})",
                chain.row_of(record),
            )
            db.execute("UPDATE head SET seq = ?, hash = ?", (record.seq, record.hash))
        return record

    def records(
        self, *, service: str | None = None, plan_name: str | None = None, run: str | None = None
    ) -> tuple[Record, ...]:
        """See Journal."""
        wanted = {"service": service, "plan_name": plan_name, "run": run}
        with self._reading() as db:
            rows = (
                []
                if db is None
                else db.execute(
                    f"SELECT {_RECORD_COLUMNS} FROM record WHERE (:service IS NULL OR service = :service) "
                    "AND (:plan_name IS NULL OR plan_name = :plan_name) AND (:run IS NULL OR run = :run) ORDER BY seq",
                    wanted,
                ).fetchall()
            )
        return self._read.records(rows, self.location)

    def verify(self) -> int:
        """See Journal."""
        with self._reading() as db:
            if db is None:
                return 0
            head = _head(db)
            rows = db.execute(f"SELECT {_RECORD_COLUMNS} FROM record ORDER BY seq").fetchall()
        return chain.check(rows, head, self.location)

    def acquire(self, service: str, holder: str, *, ttl_s: float, now: datetime, at_least: int = 0) -> Lease:
        """See Journal."""
        lock_path = self._lock_path(service)
        lock = LeaseLock.take(lock_path)
        if lock is None:
            raise self._locked(service, now)
        try:
            with self._writing() as db:
                before = db.execute("SELECT epoch FROM lease WHERE service = ?", (service,)).fetchone()
                epoch = max(before[0] if before else 0, at_least) + 1
                lease = new_lease(service, holder, epoch, ttl_s=ttl_s, now=now)
                _store(db, lease)
        except BaseException:
            lock.release()
            raise
        self._locks[service, lease.epoch] = lock
        return lease

    def heartbeat(self, lease: Lease, now: datetime) -> Lease:
        """See Journal. Written on a connection of its own, so that a long append never delays it."""
        lock = self._locks.get((lease.service, lease.epoch))
        if lock is None:
            raise LeaseLost(lease, "it was released, or was never this process's")
        if not lock.intact():
            raise LeaseLost(lease, f"its lock file {lock.path} was removed or replaced")
        renewal = renewed(lease, now)
        with self._writing(pulse=True) as db:
            _require_current(db, lease)
            _store(db, renewal)
        return renewal

    def release(self, lease: Lease) -> None:
        """See Journal."""
        lock = self._locks.pop((lease.service, lease.epoch), None)
        if lock is None:
            return
        try:
            with self._writing() as db:
                db.execute(
                    "UPDATE lease SET released = 1 WHERE service = ? AND epoch = ?", (lease.service, lease.epoch)
                )
        finally:
            lock.release()

    def current_lease(self, service: str) -> Lease | None:
        """See Journal."""
        with self._reading() as db:
            lease, released = (None, True) if db is None else _lease(db, service)
        return lease if not released and is_held(self._lock_path(service)) else None

    def close(self) -> None:
        """See Journal."""
        with self._main_guard, self._pulse_guard:
            for lock in self._locks.values():
                lock.release()
            self._locks.clear()
            for connection in (self._main, self._pulse):
                if connection is not None:
                    connection.close()
            self._main = self._pulse = None

    def _lock_path(self, service: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{quote(service, safe='')}.lock")

    def _locked(self, service: str, now: datetime) -> Locked:
        with self._reading() as db:
            lease, released = (None, True) if db is None else _lease(db, service)
        where = str(self._lock_path(service))
        return held_by(
            None if released else lease,
            service,
            now=now,
            where=where,
            end_it=f"end the process that `fuser {where}` names, on the host that runs it",
        )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A read transaction, or None while there is no journal yet."""
        with self._main_guard, explained(self._path):
            if self._main is None:
                self._main = connect(self._path, create=False, busy_s=self._busy_s)
            if self._main is None:
                yield None
                return
            with transaction(self._main, "BEGIN"):
                yield self._main

    @contextmanager
    def _writing(self, *, pulse: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable once left without an exception."""
        with self._pulse_guard if pulse else self._main_guard, explained(self._path):
            connection = self._pulse if pulse else self._main
            if connection is None:
                connection = connect(self._path, create=True, busy_s=self._busy_s)
                assert connection is not None
                if pulse:
                    self._pulse = connection
                else:
                    self._main = connection
            with transaction(connection, "BEGIN IMMEDIATE"):
                yield connection


def _head(db: sqlite3.Connection) -> Head:
    return Head(*db.execute("SELECT seq, hash FROM head").fetchone())


def _last(db: sqlite3.Connection) -> Head:
    row = db.execute("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head()


def _store(db: sqlite3.Connection, lease: Lease) -> None:
    """The lease written over the one before it, as not released."""
    changed = ", ".join(f"{column} = excluded.{column}" for column in (*LEASE_COLUMNS[1:], "released"))
    values = ", ".join(f":{column}" for column in LEASE_COLUMNS)
    db.execute(
        f"INSERT INTO lease ({', '.join(LEASE_COLUMNS)}, released) VALUES ({values}, 0) "
        f"ON CONFLICT (service) DO UPDATE SET {changed}",
        lease.model_dump(mode="json"),
    )


def _lease(db: sqlite3.Connection, service: str) -> tuple[Lease | None, bool]:
    """The newest lease as written, and whether it was released."""
    query = f"SELECT {', '.join(LEASE_COLUMNS)}, released FROM lease WHERE service = ?"
    return lease_of(db.execute(query, (service,)).fetchone())


def _require_current(db: sqlite3.Connection, lease: Lease) -> None:
    newest, released = _lease(db, lease.service)
    if newest is None or newest.epoch != lease.epoch or released:
        raise superseded(lease, newest)
