"""Other sessions of this database: who they are, ending them, and which hold is alive."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime

import psycopg

from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import APPLICATION_PREFIX, Connection
from statehub_plan.redact import redact

HOLD_PURPOSE = "hold "
HOLD_LOCK = (0x5348504C, 1)
"""Advisory lock that a hold takes first: there is one hold at a time, also in a database without tables."""

_QUERY_CHARACTERS = 120
_POLL_S = 0.02


class Session(Frozen):
    """One client session. Ages are seconds; what this role may not see of others (`pg_read_all_stats`) is None."""

    pid: int
    began_at: datetime | None
    user: str
    application: str
    client: str | None
    state: str | None
    transaction_age_s: float | None
    query: str | None
    writes: bool

    def __str__(self) -> str:
        """For people: who it is, what it is doing and for how long."""
        doing = self.state or "state not visible"
        if self.transaction_age_s is not None:
            doing += f", transaction open for {self.transaction_age_s:.1f} s"
        asked = f", last statement: {self.query}" if self.query else ""
        return f"session {self.pid} (user {self.user}, application {self.application or '?'}, {doing}{asked})"


class Ended(Frozen):
    """What ending sessions came to. `remaining` are those that this role may not end, or that didn't go in time."""

    ended: tuple[Session, ...]
    remaining: tuple[Session, ...]


# A walsender is told apart by pg_stat_get_wal_senders, which everyone may ask: backend_type is hidden without
# pg_read_all_stats. Processes without a user (autovacuum) are no sessions.
SESSIONS = """
SELECT a.pid, a.backend_start, a.usename, a.application_name,
       coalesce(a.client_addr::text, CASE WHEN a.client_port = -1 THEN 'local socket' END) AS client, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_age_s, a.query,
       a.backend_xid IS NOT NULL AS writes
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.usename IS NOT NULL
  AND coalesce(a.backend_type, 'client backend') = 'client backend'
  AND a.pid NOT IN (SELECT s.pid FROM pg_catalog.pg_stat_get_wal_senders() s)
"""
_OTHERS = (
    SESSIONS
    + """
  AND a.pid <> pg_catalog.pg_backend_pid()
  AND NOT (a.usename = current_user AND starts_with(a.application_name, %s))
ORDER BY a.pid
"""
)


def session_of(row: tuple[object, ...]) -> Session:
    """A row of `SESSIONS` as a model; the statement shortened and without secrets."""
    fields = dict(zip(Session.model_fields, row, strict=True))
    query = fields["query"]
    if isinstance(query, str):
        fields["query"] = redact(" ".join(query.split()))[:_QUERY_CHARACTERS]
    return Session.model_validate(fields)


def other_sessions(connection: Connection) -> tuple[Session, ...]:
    """Every client session of this database but the tool's own (same role, named `statehub-plan …`)."""
    return tuple(session_of(row) for row in connection.execute(_OTHERS, [APPLICATION_PREFIX]))


def end_sessions(connection: Connection, *, began_before: datetime | None = None, timeout_s: float = 5.0) -> Ended:
    """Ends every other client session of this database and waits for them to be gone, at most `timeout_s`.

    With `began_before` only those that began before that moment.
    Spares the tool's own sessions, replication and background processes. Ending one of another role takes membership
    in it or pg_signal_backend; a superuser's takes a superuser (manual, 9.28.2).
    """
    found = {
        session.pid: session
        for session in other_sessions(connection)
        if began_before is None or (session.began_at is not None and session.began_at < began_before)
    }
    for session in found.values():
        end_session(connection, session)
    deadline = time.monotonic() + timeout_s
    while True:
        present = {(session.pid, session.began_at) for session in other_sessions(connection)}
        remaining = tuple(s for s in found.values() if (s.pid, s.began_at) in present)
        if not remaining or time.monotonic() > deadline or not any(may_end(connection, s) for s in remaining):
            break
        time.sleep(_POLL_S)
    return Ended(ended=tuple(s for s in found.values() if s not in remaining), remaining=remaining)


_MAY_END = (
    "(me.rolsuper OR (NOT other.rolsuper AND "
    "(pg_has_role(other.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))"
)


def end_others_at_once(connection: Connection, *, end: bool = True) -> None:
    """Asks every other client session of this database to end that this role may end, in one statement, without waiting
    for any. Spares whom `end_sessions` spares. Without `end` nobody is asked, and the statement is warm."""
    connection.execute(
        f"SELECT count(pg_terminate_backend(o.pid)) FROM ({_OTHERS.replace('ORDER BY a.pid', '')}) AS o "
        "JOIN pg_roles other ON other.rolname = o.usename, pg_roles me WHERE me.rolname = current_user "
        f"AND {_MAY_END} AND %s".encode(),
        [APPLICATION_PREFIX, end],
    )


_AT_WORK = f"""
SELECT o.pid, format('session %%s (user %%s, application %%s)', o.pid, o.usename, o.application_name), o.writes
FROM ({_OTHERS.replace("ORDER BY a.pid", "")}) AS o JOIN pg_roles other ON other.rolname = o.usename, pg_roles me
WHERE me.rolname = current_user AND (o.writes OR %s AND o.state = 'active' AND {_MAY_END})
UNION ALL SELECT 0, format('prepared transaction %%L', gid), true FROM pg_prepared_xacts
WHERE database = current_database()
"""


def end_open_transactions(
    connection: Connection, *, timeout_s: float, end: bool = True, active_s: float = 0.0
) -> tuple[str, ...]:
    """Ends every other session of this database that has a transaction id, and waits for their transactions to be over;
    returns those that were still there in the end, prepared ones among them. One round trip where there is none, which
    is the rule. Without `end` it only looks, once.

    Waits for at most `active_s` for sessions that are at work without a transaction id and were asked to end before."""
    began = time.monotonic()
    asked: set[int] = set()
    while True:
        waited_s = time.monotonic() - began
        rows = connection.execute(_AT_WORK.encode(), [APPLICATION_PREFIX, waited_s < active_s]).fetchall()
        if not rows or not end or waited_s > timeout_s:
            return tuple(str(who) for _, who, writes in rows if writes)
        for pid, _, writes in rows:
            if pid and writes and pid not in asked:
                asked.add(pid)
                with suppress(psycopg.errors.InsufficientPrivilege):
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        time.sleep(0.001)


def end_session(connection: Connection, session: Session) -> bool:
    """Asks one session's server process to end; False when this role may not."""
    try:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid = %s AND backend_start IS NOT DISTINCT FROM %s",
            [session.pid, session.began_at],
        )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def may_end(connection: Connection, session: Session) -> bool:
    """Whether this role may end sessions of that one's user."""
    row = connection.execute(
        "SELECT me.rolsuper OR (NOT other.rolsuper AND "
        "(pg_has_role(other.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) "
        "FROM pg_roles me, pg_roles other WHERE me.rolname = current_user AND other.rolname = %s",
        [session.user],
    ).fetchone()
    return row is not None and bool(row[0])


def lock_holders(connection: Connection) -> tuple[str, ...]:
    """For people: who else has locks here on which others may wait, on what; the tool's own sessions left out."""
    rows = connection.execute(
        f"SELECT o.*, string_agg(DISTINCT l.mode || ' on ' || l.relation::regclass, ', ') FROM ({SESSIONS}) AS o "
        "JOIN pg_locks l ON l.pid = o.pid AND l.granted AND l.locktype = 'relation' AND l.relation >= 16384 "
        "JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() "
        "WHERE l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND NOT starts_with(o.application_name, %s) "
        "GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1".encode(),
        [APPLICATION_PREFIX],
    ).fetchall()
    return tuple(f"{session_of(row[:9])} has {row[9]}" for row in rows)


def held_by(connection: Connection) -> str | None:
    """The id of the hold that keeps writers of this database waiting now; None when there is none.

    A hold counts only while its session has EXCLUSIVE locks on every user table that exists.
    """
    row = connection.execute(
        """
        SELECT substr(a.application_name, length(%(prefix)s) + 1)
        FROM pg_stat_activity a
        JOIN pg_locks marker ON marker.pid = a.pid AND marker.locktype = 'advisory' AND marker.granted
             AND marker.database = a.datid
             AND (marker.classid, marker.objid, marker.objsubid) = (%(class)s, %(object)s, 2)
        WHERE a.datname = current_database() AND starts_with(a.application_name, %(prefix)s)
          AND NOT EXISTS (
              SELECT FROM statehub_plan.user_table t
              WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation = t.oid::oid
                  AND l.database = a.datid AND l.locktype = 'relation' AND l.mode = 'ExclusiveLock' AND l.granted))
        """,
        {"prefix": APPLICATION_PREFIX + HOLD_PURPOSE, "class": HOLD_LOCK[0], "object": HOLD_LOCK[1]},
    ).fetchone()
    return None if row is None else str(row[0])


def prepared_transactions(connection: Connection) -> tuple[str, ...]:
    """The global ids of transactions prepared in this database: they keep their locks and can still commit."""
    rows = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid")
    return tuple(str(gid) for (gid,) in rows)
