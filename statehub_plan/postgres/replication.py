"""Publication, slot and subscription: the pieces of a stream from one database into another, each step idempotent.

A stream has one name everywhere: slot, subscription and what people see in `pg_replication_slots` are named after the
database that receives it. One publication per database, named `statehub_plan`, lists the user's tables one by one: that
takes ownership of them, while FOR ALL TABLES would take a superuser (manual, CREATE PUBLICATION).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.stream import OWN_STREAMS, stream_name
from statehub_plan.postgres.connect import USER_TABLES, Connection, Table
from statehub_plan.postgres.names import sql_qualified
from statehub_plan.postgres.slots import ExportedSlot, create_slot, drop_slot
from statehub_plan.postgres.state import TIMELINE, identity
from statehub_plan.postgres.workers import nothing_to_lose
from statehub_plan.redact import redact, register_secret

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
    "follows_by_stream",
    "publish",
    "publish_also",
    "published_tables",
    "read_subscription",
    "refresh_subscription",
    "stream_marks",
    "stream_name",
    "subscribed_tables",
    "wait_until_streaming",
    "without_identity",
]

PUBLICATION = "statehub_plan"
_WITHOUT_IDENTITY = f"""
SELECT {sql_qualified("t.nspname", "t.relname")} FROM ({USER_TABLES}) t JOIN pg_class c ON c.oid = t.oid::oid
WHERE t.kind = 'ordinary' AND t.persistence = 'permanent' AND c.relreplident <> 'f'
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
                  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)
ORDER BY 1
"""
_UNLOGGED = """
SELECT count(set_config(name, value, true))
FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'),
             ('log_min_error_statement', 'panic'), ('pg_stat_statements.track_utility', 'off'), ('pgaudit.log', 'none')
     ) AS kept_out (name, value) JOIN pg_settings USING (name)
WHERE {}
"""
_PROCESS = "concat_ws(' ', a.pid, extract(epoch FROM a.backend_start))"
_SENT = f"""
SELECT (SELECT string_agg(concat_ws(' ', x.oid, x.xmin), ',' ORDER BY x.oid) FROM (
            SELECT oid, xmin FROM pg_publication WHERE pubname = %s UNION ALL SELECT r.oid, r.xmin
            FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s) AS x),
       (SELECT {_PROCESS} FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
        WHERE s.slot_name = %s),
       {TIMELINE}
"""
BARRIER = sql.Identifier("statehub_plan", "barrier")
"""One row in every database of the tool; changing it on the publisher is how a barrier is sent down the stream."""


class SubscriptionState(Frozen):
    """A subscription as its own database shows it. `running`: its apply worker is alive. `tables_ready` of `tables` are
    past their initial synchronization. `errors` counts failures of its workers since statistics began (0 before 15)."""

    oid: int
    name: str
    enabled: bool
    slot: str | None
    running: bool
    tables: int
    tables_ready: int
    errors: int


def publish(connection: Connection, tables: Iterable[Table], *, publication: str = PUBLICATION) -> None:
    """The tool's publication lists exactly these tables (leaves, where partitioned) and the barrier; in the caller's
    transaction, or one of its own. Needs ownership of each and CREATE on the database. Without an identity a table's
    own writers are refused UPDATE and DELETE from then on: see `without_identity`."""
    names = [table.identifier for table in tables if table.kind == "ordinary" and table.persistence == "permanent"]
    listed = sql.SQL(", ").join(sql.SQL("ONLY {}").format(name) for name in (*names, BARRIER))
    with connection.transaction():
        present = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication]).fetchone()
        verb = "ALTER PUBLICATION {} SET TABLE {}" if present is not None else "CREATE PUBLICATION {} FOR TABLE {}"
        connection.execute(sql.SQL(verb).format(sql.Identifier(publication), listed))


def publish_also(connection: Connection, tables: Iterable[Table]) -> None:
    """The tool's publication, which is there, lists these ordinary tables besides; in the caller's transaction. Locks
    each against maintenance and DDL, not against writers (manual, 13.3.1: SHARE UPDATE EXCLUSIVE)."""
    listed = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in tables)
    command = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}")
    connection.execute(command.format(sql.Identifier(PUBLICATION), listed))


def published_tables(connection: Connection) -> frozenset[tuple[str, str]]:
    """Schema and name of what the tool's publication lists, the barrier included; nothing where there is none."""
    rows = connection.execute(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = %s", [PUBLICATION]
    )
    return frozenset((schema, name) for schema, name in rows)


def without_identity(connection: Connection) -> tuple[str, ...]:
    """Permanent user tables whose rows have no replica identity: published, they would refuse UPDATE and DELETE."""
    rows = connection.execute(_WITHOUT_IDENTITY.encode())
    return tuple(name for (name,) in rows)


def drop_publication(connection: Connection, *, publication: str = PUBLICATION) -> bool:
    """No publication of this name is left here; False when there was none."""
    present = connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [publication]).fetchone()
    connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication)))
    return present is not None


def create_subscription(
    connection: Connection,
    *,
    name: str,
    publisher: str,
    slot: str,
    enabled: bool,
    copy_data: bool = False,
    tables_of: str = PUBLICATION,
) -> None:
    """A subscription to the tool's publication at `publisher` (a conninfo as *this server* reaches it), on a slot that
    exists already; in the caller's transaction, or one of its own. Does not stream before it is enabled.

    `tables_of`: another publication there, whose tables it takes changes of at first; of the others it takes none
    before `refresh_subscription`.

    Superuser on 14 and 15; on newer ones membership in pg_create_subscription and CREATE on the database. Contacts the
    publisher, also when disabled, so that its relations are known before they are needed. The statement, which may hold
    a password, stays out of this server's log as far as the role may say so. StatehubError `subscription-refused` with
    the statement that helps.
    """
    # `connect = false` would leave the relation list empty; with `create_slot = false` the slot is only named.
    # Values travel as text, which works across majors; large transactions are sent while they are still open.
    # With `synchronous_commit = on` every small transaction would be flushed, and awaited, by itself. Without it a
    # failover of this server may lose what it has confirmed: `stream_marks` and the observed timeline tell.
    command = sql.SQL(
        "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} "
        "WITH (create_slot = false, slot_name = {}, copy_data = {}, enabled = {}, "
        "streaming = on)"
    ).format(
        sql.Identifier(name),
        sql.Literal(_plain_conninfo(publisher)),
        sql.Identifier(tables_of),
        sql.Literal(slot),
        sql.SQL("true" if copy_data else "false"),
        sql.SQL("true" if enabled and tables_of == PUBLICATION else "false"),
    )
    subscription = sql.Identifier(name)
    try:
        with connection.transaction():
            _log_no_statement(connection)
            connection.execute(command)
            if tables_of != PUBLICATION:
                change = "ALTER SUBSCRIPTION {} SET PUBLICATION {} WITH (refresh = false)"
                connection.execute(sql.SQL(change).format(subscription, sql.Identifier(PUBLICATION)))
                enable_subscription(connection, name, enabled=enabled)
    except psycopg.Error as error:
        raise _subscription_refused(connection, error) from error


def _log_no_statement(connection: Connection) -> None:
    """For the open transaction, as far as the role may say so: superusers, and those who were granted SET (from 15)."""
    since_15 = connection.info.server_version >= 150000
    may = "has_parameter_privilege(name, 'SET')" if since_15 else "current_setting('is_superuser') = 'on'"
    connection.execute(_UNLOGGED.format(may).encode())


def enable_subscription(connection: Connection, name: str, *, enabled: bool = True) -> None:
    """Starts or stops streaming. Idempotent; a stopped one keeps its place."""
    word = sql.SQL("ENABLE" if enabled else "DISABLE")
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} {}").format(sql.Identifier(name), word))


def refresh_subscription(connection: Connection, name: str) -> None:
    """Tables that are published and not yet taken are copied by the server and then taken, each from its own position
    (manual, 31.7.1). The subscription must be enabled. Contacts the publisher. StatehubError `subscription-refused`."""
    command = sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = true)")
    try:
        connection.execute(command.format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise _subscription_refused(connection, error) from error


def subscribed_tables(connection: Connection, name: str) -> dict[tuple[str, str], str]:
    """Schema and name of each table that the subscription takes changes of → pg_subscription_rel.srsubstate; `r`:
    past its initial synchronization."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname, r.srsubstate::text FROM pg_subscription s "
        "JOIN pg_database d ON d.oid = s.subdbid JOIN pg_subscription_rel r ON r.srsubid = s.oid "
        "JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE d.datname = current_database() AND s.subname = %s",
        [name],
    )
    return {(schema, table): state for schema, table, state in rows}


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
        "coalesce((SELECT t.apply_error_count + t.sync_error_count FROM pg_stat_subscription_stats t "
        "WHERE t.subid = s.oid), 0)"
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


def follows_by_stream(connection: Connection) -> bool:
    """Whether a subscription of the tool is enabled in this database."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database() AND s.subenabled AND s.subname ~ %s)",
        [OWN_STREAMS],
    ).fetchone()
    return row == (True,)


def stream_marks(source: Connection, target: Connection) -> dict[str, str]:
    """What must not have changed for the stream to have delivered everything: the publication and its tables, by the
    versions of their catalog rows; the subscription, what it takes, and how often applying has failed; the processes
    that send and apply; both servers' timelines. Three short queries. `sending` and `applying` are empty where no
    process is seen, which vouches for nothing, twice no more than once.

    A slot can be moved, and a subscription made to take something else or to skip something, only while nobody streams
    (manual, 9.28.6; `worker.c`, maybe_reread_subscription): afterwards other processes do, whatever else looks as it
    did. When they began tells those of the same number apart, where the role may see it (pg_read_all_stats).

    A receiver that has failed over may lack what it had confirmed: the sender's slot is ahead of it then, and leaves
    that out without an error. A slot that has survived its own server's failover may be behind, or ahead, of the rows.
    """
    name = stream_name(identity(target))
    taken = target.execute(_taken(target.info.server_version).encode(), [name], prepare=True).fetchone()
    slot, applied, applying, receiver_timeline = taken or ("", "", "", None)
    sent = source.execute(_SENT.encode(), [PUBLICATION, PUBLICATION, slot], prepare=True).fetchone()
    published, sending, sender_timeline = sent or ("", "", None)
    return {
        "published": str(published),
        "sending": sending or "",
        "applied": applied,
        "applying": applying or "",
        "sender_timeline": str(sender_timeline),
        "receiver_timeline": str(receiver_timeline),
    }


def _taken(server_version: int) -> str:
    """SQL: slot, subscription with the versions of what it takes, its apply worker, and the timeline; one row, or none
    where there is no such subscription. Reads only what everybody may read."""
    since_15 = server_version >= 150000
    skipped = "s.subskiplsn" if since_15 else "''"
    failed = (
        "(SELECT concat_ws(' ', t.apply_error_count, t.sync_error_count, t.stats_reset) "
        "FROM pg_stat_subscription_stats t WHERE t.subid = s.oid)"
        if since_15
        else "''"
    )
    return f"""
    SELECT s.subslotname,
           concat_ws(' ', s.oid, s.subenabled, s.subslotname, s.subpublications::text, {skipped}, {failed},
                     (SELECT sum(hashint8extended(r.srrelid::int8, r.xmin::text::int8))
                      FROM pg_subscription_rel r WHERE r.srsubid = s.oid)),
           (SELECT string_agg({_PROCESS}, ',' ORDER BY a.pid)
            FROM pg_stat_subscription w JOIN pg_stat_activity a ON a.pid = w.pid
            WHERE w.subid = s.oid AND w.relid IS NULL AND (to_jsonb(w)->>'leader_pid') IS NULL),
           {TIMELINE}
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
    WHERE d.datname = current_database() AND s.subname = %s
    """


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
    if parameters.get("password"):
        register_secret(str(parameters["password"]))
    return make_conninfo(**parameters)


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
