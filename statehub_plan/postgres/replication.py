"""Publication, slot and subscription: the pieces of a stream from one database into another, each step idempotent.

A stream has one name everywhere: slot, subscription and what people see in `pg_replication_slots` are named after the
database that receives it. One publication per database, named `statehub_plan`, lists the user's tables one by one: that
takes ownership of them, while FOR ALL TABLES would take a superuser (manual, CREATE PUBLICATION).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.stream import stream_name
from statehub_plan.postgres.connect import Connection, Table, connect
from statehub_plan.postgres.workers import nothing_to_lose
from statehub_plan.redact import redact

__all__ = [
    "BARRIER",
    "PUBLICATION",
    "ExportedSlot",
    "SubscriptionState",
    "advance_origin",
    "create_slot",
    "create_subscription",
    "drop_publication",
    "drop_slot",
    "drop_subscription",
    "enable_subscription",
    "publish",
    "read_subscription",
    "stream_name",
    "wait_until_streaming",
]

PUBLICATION = "statehub_plan"
BARRIER = sql.Identifier("statehub_plan", "barrier")
"""One row in every database of the tool; changing it on the publisher is how a barrier is sent down the stream."""

_SLOT_GONE_S = 10.0
_POLL_S = 0.02


class SubscriptionState(Frozen):
    """A subscription as its own database shows it. `running`: its apply worker is alive. `tables_ready` of `tables` are
    past their initial synchronization. `errors` counts failed applies since statistics began (0 before 15)."""

    oid: int
    name: str
    enabled: bool
    slot: str | None
    running: bool
    tables: int
    tables_ready: int
    errors: int


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


def publish(connection: Connection, tables: Iterable[Table]) -> None:
    """The tool's publication lists exactly these tables (leaves, where partitioned) and the barrier; in the caller's
    transaction, or one of its own. Needs ownership of each and CREATE on the database."""
    names = [table.identifier for table in tables if table.kind == "ordinary" and table.persistence == "permanent"]
    listed = sql.SQL(", ").join(sql.SQL("ONLY {}").format(name) for name in (*names, BARRIER))
    publication = sql.Identifier(PUBLICATION)
    with connection.transaction():
        present = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [PUBLICATION]).fetchone()
        verb = "ALTER PUBLICATION {} SET TABLE {}" if present is not None else "CREATE PUBLICATION {} FOR TABLE {}"
        connection.execute(sql.SQL(verb).format(publication, listed))


def drop_publication(connection: Connection) -> None:
    """No publication of the tool is left here. Idempotent."""
    connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(PUBLICATION)))


def create_slot(dsn: str, name: str) -> ExportedSlot:
    """A new logical slot, and the snapshot that it begins with, exported for as long as its session lives.

    Waits for every transaction of that cluster that is running now (manual, 49.2.5): no longer than the statement's
    time-out in `dsn`'s options, if any. StatehubError `slot-not-created` with what is in the way or missing.
    """
    session = _replication_session(dsn)
    try:
        # Option syntax by parentheses came with 15.
        form = "(SNAPSHOT 'export')" if session.info.server_version >= 150000 else "EXPORT_SNAPSHOT"
        command = sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput " + form).format(sql.Identifier(name))
        row = session.execute(command).fetchone()
    except psycopg.Error as error:
        session.close()
        raise _slot_refused(name, error) from error
    if row is None:
        session.close()
        raise _slot_refused(name, "the server answered nothing")
    return ExportedSlot(name=str(row[0]), consistent_point=str(row[1]), snapshot=str(row[2]), session=session)


def drop_slot(connection: Connection, name: str, *, timeout_s: float = _SLOT_GONE_S) -> bool:
    """No slot of this name is left on this cluster; False when there was none. Ends whoever still reads from it.

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
            raise _slot_refused(name, error) from error
        if time.monotonic() > deadline:
            raise StatehubError(
                code="slot-in-use",
                what=f"the slot {name} is still being read from after {timeout_s:g} s and was not dropped",
                hint="disable the subscription that reads it, or end its walsender, then run again",
            )
        time.sleep(_POLL_S)


def create_subscription(
    connection: Connection, *, name: str, publisher: str, slot: str, enabled: bool, copy_data: bool = False
) -> None:
    """A subscription to the tool's publication at `publisher` (a conninfo as *this server* reaches it), on a slot that
    exists already. Does not stream before it is enabled.

    Superuser on 14 and 15; on newer ones membership in pg_create_subscription and CREATE on the database. Contacts the
    publisher, also when disabled, so that its relations are known before they are needed. StatehubError
    `subscription-refused` with the statement that helps.
    """
    # `connect = false` would leave the relation list empty; with `create_slot = false` the slot is only named.
    # Values travel as text, which works across majors; large transactions are sent while they are still open.
    command = sql.SQL(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} "
        "WITH (create_slot = false, slot_name = {}, copy_data = {}, enabled = {}, "
        "streaming = on)"
    ).format(
        sql.Identifier(name),
        sql.Literal(_plain_conninfo(publisher)),
        sql.Identifier(PUBLICATION),
        sql.Literal(slot),
        sql.SQL("true" if copy_data else "false"),
        sql.SQL("true" if enabled else "false"),
    )
    try:
        connection.execute(command)
    except psycopg.Error as error:
        raise _subscription_refused(connection, error) from error


def enable_subscription(connection: Connection, name: str, *, enabled: bool = True) -> None:
    """Starts or stops streaming. Idempotent; a stopped one keeps its place."""
    word = sql.SQL("ENABLE" if enabled else "DISABLE")
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} {}").format(sql.Identifier(name), word))


def drop_subscription(connection: Connection, name: str) -> bool:
    """No subscription of this name is left in this database; False when there was none. Leaves the slot alone, so it
    works also while the publisher is out of reach."""
    if read_subscription(connection, name) is None:
        return False
    identifier = sql.Identifier(name)
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(identifier))
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(identifier))
    connection.execute(sql.SQL("DROP SUBSCRIPTION IF EXISTS {}").format(identifier))
    return True


def read_subscription(connection: Connection, name: str) -> SubscriptionState | None:
    """What this database says about a subscription; None when there is none. Reads only what everybody may read."""
    errors = (
        "coalesce((SELECT t.apply_error_count FROM pg_stat_subscription_stats t WHERE t.subid = s.oid), 0)"
        if connection.info.server_version >= 150000
        else "0"
    )
    row = connection.execute(
        "SELECT s.oid::int8, s.subname, s.subenabled, s.subslotname, "
        "EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL), "
        "(SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid), "
        f"(SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid AND r.srsubstate = 'r'), {errors} "
        "FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database() AND s.subname = %s".encode(),
        [name],
    ).fetchone()
    return None if row is None else SubscriptionState(**dict(zip(SubscriptionState.model_fields, row, strict=True)))


def advance_origin(connection: Connection, subscription_oid: int, lsn: str) -> None:
    """Makes a disabled subscription begin at `lsn`: of what the publisher committed before, nothing is asked for.

    Not undone by a rollback. Durable with the next commit that is flushed after it on this server; unlike
    `pg_replication_slot_advance`, which the publisher forgets in a crash before its next checkpoint. Needs EXECUTE
    (PostgreSQL 14: superuser, or GRANT)."""
    connection.execute("SELECT pg_replication_origin_advance(%s, %s::pg_lsn)", [f"pg_{subscription_oid}", lsn])


def wait_until_streaming(
    connection: Connection,
    name: str,
    *,
    timeout_s: float,
    check: Callable[[], None] = nothing_to_lose,
) -> SubscriptionState:
    """The subscription once its worker runs and every table is past its synchronization; StatehubError `not-streaming`
    with what the server shows otherwise. Calls `check` about twice a second."""
    deadline = time.monotonic() + timeout_s
    while True:
        state = read_subscription(connection, name)
        if state is not None and state.running and state.tables_ready == state.tables:
            return state
        check()
        if time.monotonic() > deadline:
            raise StatehubError(
                code="not-streaming",
                what=f"the subscription {name} does not stream after {timeout_s:g} s: {_shown(state)}",
                hint="its server's log says why: who refuses the connection, or which row cannot be applied",
            )
        time.sleep(0.05)


def _shown(state: SubscriptionState | None) -> str:
    if state is None:
        return "it does not exist"
    worker = "its worker runs" if state.running else "its worker does not run"
    enabled = "enabled" if state.enabled else "disabled"
    return f"{enabled}, {worker}, {state.tables_ready} of {state.tables} tables ready, {state.errors} errors"


def _plain_conninfo(dsn: str) -> str:
    """Without what only the tool's own sessions want; a server keeps this text and connects by it for weeks."""
    parameters: dict[str, Any] = conninfo_to_dict(dsn)
    for name in ("options", "application_name", "client_encoding"):
        parameters.pop(name, None)
    return make_conninfo(**parameters)


def _replication_session(dsn: str) -> psycopg.Connection:
    """A walsender's session in that database. Commands of the replication protocol go by the simple protocol only."""
    with connect(dsn, purpose="slot"):  # whatever is wrong with the DSN is explained there
        pass
    parameters: dict[str, Any] = conninfo_to_dict(dsn)
    parameters |= {"replication": "database", "application_name": "statehub-plan slot", "connect_timeout": 5}
    parameters.pop("options", None)
    try:
        return psycopg.connect(make_conninfo(**parameters), autocommit=True)
    except psycopg.Error as error:
        raise _slot_refused("", error) from error


def _slot_refused(name: str, error: psycopg.Error | str) -> StatehubError:
    text = redact(" ".join(str(error).split()))
    hint = "the message is the server's own"
    if "permission denied to" in text or "must be superuser or replication role" in text or "REPLICATION" in text:
        hint = "as superuser: ALTER ROLE … REPLICATION for the role of this DSN"
    elif "pg_hba.conf" in text:
        hint = "let pg_hba.conf admit this role to its database for logical replication (the database's own line does)"
    elif "all replication slots are in use" in text:
        hint = "raise max_replication_slots and restart that server, or drop slots that nobody reads"
    elif "wal_level" in text:
        hint = "as superuser: ALTER SYSTEM SET wal_level = logical; then restart that server"
    return StatehubError(
        code="slot-not-created", what=f"no replication slot {name} could be made: {text}".replace("  ", " "), hint=hint
    )


def _subscription_refused(connection: Connection, error: psycopg.Error) -> StatehubError:
    text = redact(" ".join(str(error).split()))
    role = connection.info.user
    hint = "the message is the server's own"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        if connection.info.server_version >= 160000:
            hint = (
                f"GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE {connection.info.dbname} TO {role}"
            )
        else:
            hint = "before 16 PostgreSQL lets superusers only subscribe: name one by database.subscriberDsn"
    elif "password" in text:
        hint = (
            "a role that is no superuser must subscribe with a password in database.replicationDsn, and be asked for it"
        )
    return StatehubError(code="subscription-refused", what=f"the subscription was refused: {text}", hint=hint)
