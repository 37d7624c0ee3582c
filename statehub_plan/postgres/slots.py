"""Replication slots on the sending side: made with the snapshot that they begin with, looked at, dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import APPLICATION_PREFIX, Connection, connect
from statehub_plan.redact import redact

__all__ = ["ExportedSlot", "SlotStatus", "create_slot", "drop_slot", "drop_sync_slots", "read_slot", "slot_refused"]

_SLOT_GONE_S = 10.0
_POLL_S = 0.02
_LOOK_S = 0.25
_GRACE_S = 10.0
"""A server that is merely slow has nobody to name yet."""

_QUERY_CHARACTERS = 120

OnWait = Callable[[tuple[str, ...]], None]
"""Takes a description of each transaction that a slot's creation waits for; called about four times a second."""


class SlotStatus(Frozen):
    """A slot as its own server shows it. `lost`: the server has removed WAL that it needs, it can only be dropped.
    `confirmed`: the receiver has everything before it. `retained_bytes`: WAL that is kept for it."""

    name: str
    active: bool
    lost: bool
    confirmed: str | None
    retained_bytes: int | None


@dataclass(frozen=True)
class ExportedSlot:
    """A new slot and what it exported: everything before `consistent_point` is in the snapshot, everything after it in
    the slot. The snapshot can be joined until `close`, or until the tool dies; the slot stays."""

    name: str
    consistent_point: str
    snapshot: str
    session: psycopg.Connection

    def close(self) -> None:
        """Gives the snapshot up; the slot stays."""
        self.session.close()


def nobody_waits(held_up_by: tuple[str, ...]) -> None:
    """The on_wait of whoever gives none."""


def create_slot(dsn: str, name: str, *, timeout_s: float | None = None, on_wait: OnWait = nobody_waits) -> ExportedSlot:
    """A new logical slot, and the snapshot that it begins with, exported for as long as its session lives.

    Waits for every transaction of that cluster that has written and is running now, in whatever database (manual,
    49.2.5), at most `timeout_s`; `on_wait` is told which, and what it raises ends the waiting. StatehubError
    `slot-not-created` with what is in the way or missing; no slot is left then.
    """
    with connect(dsn, purpose="slot watch") as observer:  # whatever is wrong with the DSN is explained there
        session = _replication_session(dsn)
        try:
            point = _create(session, name, observer, timeout_s, on_wait)
        except BaseException:
            session.close()
            raise
    return ExportedSlot(name=point[0], consistent_point=point[1], snapshot=point[2], session=session)


def read_slot(connection: Connection, name: str) -> SlotStatus | None:
    """The slot of this name in this database; None when there is none."""
    row = connection.execute(
        "SELECT slot_name, active, coalesce(wal_status = 'lost', false), confirmed_flush_lsn::text, "
        "CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 END "
        "FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()",
        [name],
    ).fetchone()
    return None if row is None else SlotStatus(**dict(zip(SlotStatus.model_fields, row, strict=True)))


def drop_slot(connection: Connection, name: str, *, timeout_s: float = _SLOT_GONE_S) -> bool:
    """No slot of this name is left in this database; False when there was none. Ends whoever still reads from it.

    StatehubError `slot-in-use` when it is still being read after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    found = False
    while True:
        row = connection.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()", [name]
        ).fetchone()
        if row is None:
            return found
        found = True
        try:
            if row[0] is not None:
                connection.execute("SELECT pg_terminate_backend(%s)", [row[0]])
            else:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
                return True
        except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            pass  # taken, or dropped by somebody, since it was looked at
        except psycopg.errors.InsufficientPrivilege as error:
            raise slot_refused(name, error) from error
        if time.monotonic() > deadline:
            raise StatehubError(
                code="slot-in-use",
                what=f"the slot {name} is still being read from after {timeout_s:g} s and was not dropped",
                hint="disable the subscription that reads it, or end its walsender, then run again",
            )
        time.sleep(_POLL_S)


def drop_sync_slots(sender: Connection, receiver: Connection) -> int:
    """Drops slots in the sender's database by which a table's first copy went to the receiver's cluster, of
    subscriptions that exist there no more; how many there were.

    They are left when a subscription is dropped while the sender is out of reach. Named by PostgreSQL after the
    subscription, the table and the receiver's system identifier (replication/logical/tablesync.c).
    """
    left = [
        name
        for name, subscription in sender.execute(
            "SELECT slot_name, (regexp_match(slot_name, '^pg_(\\d+)_sync_\\d+_'))[1]::int8 FROM pg_replication_slots "
            "WHERE database = current_database() AND slot_name ~ ('^pg_\\d+_sync_\\d+_' || %s || '$')",
            [_system_identifier(receiver)],
        ).fetchall()
        if receiver.execute("SELECT FROM pg_subscription WHERE oid = %s::oid", [subscription]).fetchone() is None
    ]
    return sum(drop_slot(sender, name) for name in left)


def slot_refused(name: str, error: psycopg.Error | str) -> StatehubError:
    """What the server said about a slot, with what helps."""
    text = redact(" ".join(str(error).split()))
    hint = "the message is the server's own"
    if "permission denied to" in text or "must be superuser or replication role" in text or "REPLICATION" in text:
        hint = "as superuser: ALTER ROLE … REPLICATION for the role of this DSN"
    elif "pg_hba.conf" in text:
        hint = "let pg_hba.conf admit this role to its database for logical replication (the database's own line does)"
    elif "all replication slots are in use" in text:
        hint = "raise max_replication_slots and restart that server, or drop slots that nobody reads"
    elif "max_wal_senders" in text:
        hint = "raise max_wal_senders and restart that server, or end walsenders that nobody needs"
    elif "wal_level" in text:
        hint = "as superuser: ALTER SYSTEM SET wal_level = logical; then restart that server"
    return StatehubError(
        code="slot-not-created", what=f"no replication slot {name} could be made: {text}".replace("  ", " "), hint=hint
    )


def _create(
    session: psycopg.Connection, name: str, observer: Connection, timeout_s: float | None, on_wait: OnWait
) -> tuple[str, str, str]:
    # Option syntax by parentheses came with 15.
    form = "(SNAPSHOT 'export')" if session.info.server_version >= 150000 else "EXPORT_SNAPSHOT"
    command = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput " + form).format(sql.Identifier(name))

    def ask() -> tuple[Any, ...] | None:
        return session.execute(command).fetchone()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="statehub-plan") as pool:
        asked = pool.submit(ask)
        try:
            held_up_by = _watch(asked, session.info.backend_pid, observer, timeout_s, on_wait)
        finally:
            while not asked.done():  # again and again: one that comes between two statements is lost
                with suppress(psycopg.Error):
                    session.cancel_safe(timeout=2.0)
                wait([asked], timeout=_LOOK_S)
    if held_up_by is not None:
        raise _held_up(name, timeout_s or 0.0, held_up_by)
    try:
        row = asked.result()
    except psycopg.Error as error:
        raise slot_refused(name, error) from error
    if row is None:
        raise slot_refused(name, "the server answered nothing")
    return str(row[0]), str(row[1]), str(row[2])


def _watch(
    asked: Future[tuple[Any, ...] | None], pid: int, observer: Connection, timeout_s: float | None, on_wait: OnWait
) -> tuple[str, ...] | None:
    """None once there is an answer; what is in the way when the time is up."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not wait([asked], timeout=_LOOK_S).done:
        blockers = _blockers(observer, pid)
        on_wait(blockers)
        late_s = 0.0 if deadline is None else time.monotonic() - deadline
        if late_s > (0 if blockers else _GRACE_S):
            return blockers
    return None


_BLOCKERS = """
SELECT coalesce(a.pid, 0), a.datname, a.usename, a.application_name, a.state, left(a.query, %s),
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8, p.gid
FROM pg_locks l
CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) b (pid)
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
LEFT JOIN pg_prepared_xacts p ON b.pid = 0 AND p.transaction = l.transactionid
WHERE l.pid = %s AND NOT l.granted
"""
# A prepared transaction blocks as process 0 (manual, 9.26, pg_blocking_pids).


def _blockers(observer: Connection, pid: int) -> tuple[str, ...]:
    found = []
    for blocker, database, user, application, state, query, age_s, gid in observer.execute(
        _BLOCKERS, [_QUERY_CHARACTERS, pid]
    ):
        if gid is not None:
            found.append(f"prepared transaction {gid}, open for {age_s:.0f} s")
            continue
        who = f"session {blocker} (database {database or '?'}, user {user or '?'}, application {application or '?'})"
        doing = f"{state or 'state not visible'}" + ("" if age_s is None else f", open for {age_s:.0f} s")
        asked = redact(" ".join((query or "").split()))
        found.append(f"{who}, {doing}" + (f", last statement: {asked}" if asked else ""))
    return tuple(found)


def _held_up(name: str, timeout_s: float, held_up_by: tuple[str, ...]) -> StatehubError:
    return StatehubError(
        code="slot-not-created",
        what=f"the slot {name} could not be made within {timeout_s:g} s: it has to wait for transactions that have "
        "written and were running before it",
        hint="let them end, or end them (pg_terminate_backend, ROLLBACK PREPARED), then run again",
        details=held_up_by,
    )


def _replication_session(dsn: str) -> psycopg.Connection:
    """A walsender's session in that database. Commands of the replication protocol go by the simple protocol only."""
    parameters: dict[str, Any] = conninfo_to_dict(dsn)
    # It idles in the transaction of its snapshot: limits meant for applications must not end it.
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
    parameters |= {
        "replication": "database",
        "application_name": f"{APPLICATION_PREFIX}slot",
        "connect_timeout": 5,
        "options": " ".join(f"-c {name}=0" for name in limits),
    }
    try:
        return psycopg.connect(make_conninfo(**parameters), autocommit=True)
    except psycopg.Error as error:
        raise slot_refused("", error) from error


def _system_identifier(connection: Connection) -> str:
    row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    return str(row[0]) if row else ""
