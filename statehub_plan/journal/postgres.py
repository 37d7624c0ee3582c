"""The journal in a PostgreSQL database, in a schema of its own, its leases held by session-level advisory locks."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from statehub_plan.errors import StatehubError
from statehub_plan.journal import chain
from statehub_plan.journal.chain import COLUMNS, Head, Row
from statehub_plan.journal.leases import (
    LEASE_COLUMNS,
    held_by,
    lease_of,
    new_lease,
    renewed,
    require_lease_or_knowledge,
    superseded,
)
from statehub_plan.journal.postgres_schema import explained, install, is_installed
from statehub_plan.journal.protocol import ANOTHER_JOURNAL, LeaseLost, Locked
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import Lease, Record, RecordKind
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.transaction import StandbySilent, await_standby, confirmed
from statehub_plan.redact import redact_json

_STATEMENT_TIMEOUT_MS = 10_000
_STANDBY_WAIT_S = 5.0
_LOCK_PATIENCE_S = 0.25  # the server notices a killed holder within milliseconds
_LOCK_RETRY_S = 0.02
_RECORD = "statehub_plan_journal.record"
_LEASE = "statehub_plan_journal.lease"
_HEAD = "statehub_plan_journal.head"
_RECORD_COLUMNS = ", ".join(COLUMNS)
_LEASE_COLUMNS = ", ".join(LEASE_COLUMNS)
_LOCKED_BY = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = ((%(key)s::bigint >> 32) & 4294967295)::oid AND objid = (%(key)s::bigint & 4294967295)::oid
"""  # how a bigint key is shown: PostgreSQL manual, 54.12 pg_locks


_sessions: weakref.WeakSet[Connection] = weakref.WeakSet()


class PostgresJournal:
    """A `Journal` in the database of `dsn`; its schema is made by the first thing written.

    Each lease holds a session of its own: when the process dies, its host vanishes (about ten seconds, TCP keepalives)
    or the server restarts, the lock is gone. That session also writes the heartbeats, and so proves that it lives.
    """

    def __init__(self, dsn: str) -> None:
        """Connects; StatehubError when the database can't be had or holds a newer journal."""
        self._dsn = dsn
        self._location = "in PostgreSQL"
        self._guard = threading.RLock()
        self._main: Connection | None = None
        self._holds: dict[tuple[str, int], Connection] = {}
        self._read = chain.Reading()
        self._alone = False
        info = self._connection().info
        self._location = f"in database {info.dbname} at {info.host}:{info.port}"
        try:
            with self._reading():
                pass
        except StatehubError:
            self.close()
            raise

    @property
    def location(self) -> str:
        """Database and host."""
        return self._location

    def identity(self) -> Identity | None:
        """The database's own; parts of it are unknown where the role may not look."""
        with self._guard, explained(self.location):
            return identity(self._connection())

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
            head = Head(*_one(db, f"SELECT seq, hash FROM {_HEAD} FOR UPDATE"))
            if lease is not None:
                # FOR SHARE: a takeover waits for this record, or this record sees the takeover.
                _require_current(db, lease, "FOR SHARE")
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
                f"INSERT INTO {_RECORD} ({_RECORD_COLUMNS}) VALUES ({', '.join(['%s'] * len(COLUMNS))})",
                chain.row_of(record),
            )
            db.execute(f"UPDATE {_HEAD} SET seq = %s, hash = %s", (record.seq, record.hash))
        return record

    def records(
        self, *, service: str | None = None, plan_name: str | None = None, run: str | None = None
    ) -> tuple[Record, ...]:
        """See Journal."""
        given = {"service": service, "plan_name": plan_name, "run": run}
        wanted = {column: value for column, value in given.items() if value is not None}
        where = " AND ".join(f"{column} = %({column})s" for column in wanted) or "true"
        with self._reading() as db:
            rows = [] if db is None else _rows(db, f"WHERE {where}", wanted)
        return self._read.records(rows, self.location)

    def verify(self) -> int:
        """See Journal."""
        with self._reading() as db:
            if db is None:
                return 0
            head = Head(*_one(db, f"SELECT seq, hash FROM {_HEAD}"))
            rows = _rows(db, "", {})
        return chain.check(rows, head, self.location)

    def acquire(self, service: str, holder: str, *, ttl_s: float, now: datetime, at_least: int = 0) -> Lease:
        """See Journal."""
        with self._writing():
            pass  # the schema is there from here on
        hold = connect(self._dsn, purpose=f"lease {service}", statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
        try:
            with explained(self.location):
                if not _lock(hold, service):
                    raise self._locked(service, now)
                with hold.transaction():
                    before = hold.execute(f"SELECT epoch FROM {_LEASE} WHERE service = %s", [service]).fetchone()
                    epoch = max(before[0] if before else 0, at_least) + 1
                    lease = new_lease(service, holder, epoch, ttl_s=ttl_s, now=now)
                    _store(hold, lease)
        except BaseException:
            hold.close()
            raise
        self._holds[service, lease.epoch] = hold
        _sessions.add(hold)
        return lease

    def heartbeat(self, lease: Lease, now: datetime) -> Lease:
        """See Journal. Written by the session that holds the lock."""
        hold = self._holds.get((lease.service, lease.epoch))
        if hold is None:
            raise LeaseLost(lease, "it was released, or was never this process's")
        renewal = renewed(lease, now)
        with explained(self.location, lease), hold.transaction():
            _require_current(hold, lease, "FOR UPDATE")
            if (hold.info.backend_pid,) not in hold.execute(_LOCKED_BY, {"key": _key(lease.service)}).fetchall():
                raise LeaseLost(lease, "its session no longer has the lock")
            _store(hold, renewal)
        return renewal

    def release(self, lease: Lease) -> None:
        """See Journal."""
        hold = self._holds.pop((lease.service, lease.epoch), None)
        if hold is None:
            return
        try:
            with explained(self.location):
                hold.execute(
                    f"UPDATE {_LEASE} SET released = true WHERE service = %s AND epoch = %s",
                    (lease.service, lease.epoch),
                )
        finally:
            hold.close()

    def current_lease(self, service: str) -> Lease | None:
        """See Journal."""
        with self._reading() as db:
            if db is None:
                return None
            lease, released = _lease(db, service)
            held = db.execute(_LOCKED_BY, {"key": _key(service)}).fetchone() is not None
        return lease if held and not released else None

    def close(self) -> None:
        """See Journal."""
        with self._guard:
            for connection in (*self._holds.values(), self._main):
                if connection is not None:
                    connection.close()
            self._holds.clear()
            self._main = None

    def _locked(self, service: str, now: datetime) -> Locked:
        with self._writing() as db:
            lease, released = _lease(db, service)
            session = db.execute(_LOCKED_BY, {"key": _key(service)}).fetchone()
        backend = session[0] if session else "(already gone)"
        return held_by(
            None if released else lease,
            service,
            now=now,
            where=f"an advisory lock of server process {backend}, {self.location}",
            end_it=f"`SELECT pg_terminate_backend({backend})` {self.location} ends it",
        )

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """A transaction with one snapshot, or None while there is no journal yet."""
        with self._guard, explained(self.location):
            db = self._connection()
            with db.transaction():
                db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield db if is_installed(db, self.location) else None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction, durable once left without an exception; StandbySilent when only here."""
        with self._guard, explained(self.location):
            db = self._connection()
            with self._confirmed(db), db.transaction():
                if not self._alone:
                    await_standby(db)
                if not is_installed(db, self.location):
                    install(db)
                yield db

    @contextmanager
    def _confirmed(self, db: Connection) -> Iterator[None]:
        """Once a record was not confirmed by any standby, this process waits for none any more: people may be waiting
        for what it does."""
        if self._alone:
            yield
            return
        try:
            with confirmed(db, what="a record of the journal", standby_wait_s=_STANDBY_WAIT_S):
                yield
        except StandbySilent:
            self._alone = True
            raise

    def _connection(self) -> Connection:
        if self._main is None or self._main.closed:
            try:
                self._main = connect(self._dsn, purpose="journal", statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
            except StatehubError as error:
                error.hint += f"; {ANOTHER_JOURNAL}"
                raise
            # A process stopped in the middle blocks nobody for long.
            self._main.execute(
                "SELECT set_config(name, value, false) FROM (VALUES "
                "('lock_timeout', '5s'), ('idle_in_transaction_session_timeout', '10s')) AS wanted (name, value)"
            )
        return self._main


def _key(service: str) -> int:
    """The advisory lock of a service: 64 bits of a hash, so that other users of such locks are not met."""
    return int.from_bytes(hashlib.sha256(f"statehub-plan lease {service}".encode()).digest()[:8], signed=True)


def _lock(hold: Connection, service: str) -> bool:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while not _one(hold, "SELECT pg_try_advisory_lock(%s)", [_key(service)])[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOCK_RETRY_S)
    return True


def _store(db: Connection, lease: Lease) -> None:
    changed = ", ".join(f"{column} = EXCLUDED.{column}" for column in (*LEASE_COLUMNS[1:], "released"))
    db.execute(
        f"INSERT INTO {_LEASE} ({_LEASE_COLUMNS}, released) VALUES ({', '.join(['%s'] * len(LEASE_COLUMNS))}, false) "
        f"ON CONFLICT (service) DO UPDATE SET {changed}",
        [getattr(lease, column) for column in LEASE_COLUMNS],
    )


def _lease(db: Connection, service: str, locking: str = "") -> tuple[Lease | None, bool]:
    query = f"SELECT {_LEASE_COLUMNS}, released FROM {_LEASE} WHERE service = %s {locking}"
    return lease_of(db.execute(query, [service]).fetchone())


def _require_current(db: Connection, lease: Lease, locking: str) -> None:
    newest, released = _lease(db, lease.service, locking)
    if newest is None or newest.epoch != lease.epoch or released:
        raise superseded(lease, newest)


def _last(db: Connection) -> Head:
    row = db.execute(f"SELECT seq, hash FROM {_RECORD} ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(*row) if row else Head()


def _rows(db: Connection, where: str, parameters: dict[str, str]) -> list[Row]:
    query = f"SELECT {_RECORD_COLUMNS} FROM {_RECORD} {where} ORDER BY seq"
    return db.execute(query, parameters).fetchall()


def _one(db: Connection, query: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
    row = db.execute(query, parameters).fetchone()
    assert row is not None
    return row


def _hang_up_in_child() -> None:
    """A forked child that kept the socket open would keep the lock after its parent's death.

    Replaced, not closed: libpq must not later find something else under the same descriptor.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for session in list(_sessions):
        if not session.closed:
            os.dup2(null, session.fileno(), inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_hang_up_in_child)
