"""What a database says about itself: one function per fact, each a short read-only query. Needs a session of
`postgres.connect` (search_path `pg_catalog`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from psycopg import sql
from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import epoch_s
from statehub_plan.postgres import register, state
from statehub_plan.postgres.catalog_queries import queries
from statehub_plan.postgres.connect import Connection, user_tables
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.replication import PUBLICATION, published_tables
from statehub_plan.postgres.sessions import SESSIONS
from statehub_plan.postgres.watermark import catalog_watermark

OWN_SESSION = "statehub-plan observe"  # start of the application_name of every session that only observes
LONG_TRANSACTION_S = 5.0

_SETTINGS = (
    "data_checksums",
    "fsync",
    "full_page_writes",
    "max_connections",
    "max_logical_replication_workers",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "synchronous_commit",
    "wal_level",
)
_COUNTS_PER_QUERY = 100


def identity(connection: Connection) -> JsonValue:
    """{system_identifier, database, database_oid}."""
    return state.identity(connection).model_dump(mode="json")


def version_num(connection: Connection) -> JsonValue:
    """The server's version in its own form (150018 is 15.18)."""
    return connection.info.server_version


def in_recovery(connection: Connection) -> JsonValue:
    """Whether the server is a standby, or still recovering."""
    return bool(_one(connection, "SELECT pg_is_in_recovery()"))


def timeline(connection: Connection) -> JsonValue:
    """The timeline that the server writes, another one after each promotion; null on a standby."""
    return state.timeline(connection)


def tables(connection: Connection) -> JsonValue:
    """How many user tables there are, partitions and their parents each counted."""
    return len(user_tables(connection))


def transfer(connection: Connection) -> JsonValue:
    """{stage, hold, term, source, fill_stage, fill_slot, fill_point, fill_timeline} of the transfer into this database,
    `source` as system identifier; null if there is none."""
    current = _own_state(connection)
    if current is None or (current.transfer is None and current.fill is None):
        return None
    mark, fill = current.transfer, current.fill
    return {
        "stage": None if mark is None else mark.stage.value,
        "hold": None if mark is None else mark.hold,
        "term": None if mark is None else mark.term,
        "source": None if mark is None or mark.source is None else mark.source.system_identifier,
        "fill_stage": None if fill is None else fill.stage,
        "fill_slot": None if fill is None else fill.slot,
        "fill_point": None if fill is None else fill.point,
        "fill_timeline": None if fill is None else fill.timeline,
    }


def decisions(connection: Connection) -> JsonValue:
    """[{term, primary, run, decided_at}], lowest term first; `primary` null where the term was burned."""
    _own_state(connection)
    return [
        {"term": each.term, "primary": each.primary, "run": each.run, "decided_at": epoch_s(each.decided_at)}
        for each in register.read_decisions(connection)
    ]


def roles(connection: Connection, app_roles: Sequence[str]) -> JsonValue:
    """{tool_role, tool_is_superuser, owner, app_roles: [{name, exists, login, superuser}], superusers}."""
    found = {
        name: (login, superuser)
        for name, login, superuser in connection.execute(
            "SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolsuper OR rolname = ANY (%s) "
            "OR rolname = current_user",
            [list(app_roles)],
        )
    }
    tool_role, owner = _row(
        connection,
        "SELECT current_user, pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()",
    )
    return {
        "tool_role": tool_role,
        "tool_is_superuser": found[tool_role][1],
        "owner": owner,
        "app_roles": [
            {
                "name": name,
                "exists": name in found,
                "login": found.get(name, (False, False))[0],
                "superuser": found.get(name, (False, False))[1],
            }
            for name in sorted(set(app_roles))
        ],
        "superusers": sorted(name for name, (_, superuser) in found.items() if superuser),
    }


def sessions(connection: Connection) -> JsonValue:
    """[{user, application, state, count}] of client sessions, observers left out; `state` null where hidden."""
    return _rows(
        connection,
        f"SELECT usename, application_name, state, count(*) FROM ({SESSIONS}) AS s "
        "WHERE NOT coalesce(starts_with(application_name, %s), false) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        ("user", "application", "state", "count"),
        OWN_SESSION,
    )


def prepared_transactions(connection: Connection) -> JsonValue:
    """[{gid, owner, age_s}] of this database."""
    return _rows(
        connection,
        "SELECT gid, owner, round(extract(epoch FROM clock_timestamp() - prepared))::int8 FROM pg_prepared_xacts "
        "WHERE database = current_database() ORDER BY gid",
        ("gid", "owner", "age_s"),
    )


def long_transactions(connection: Connection, *, at_least_s: float = LONG_TRANSACTION_S) -> JsonValue:
    """[{pid, user, age_s, state}] of transactions open for that long; StatehubError when some can't be seen."""
    rows = connection.execute(
        f"SELECT pid, usename, round(transaction_age_s)::int8, state FROM ({SESSIONS}) AS s "
        "WHERE transaction_age_s >= %s OR state IS NULL ORDER BY pid",
        [at_least_s],
    ).fetchall()
    hidden = sorted({user for _, user, _, session_state in rows if session_state is None})
    if hidden:
        raise StatehubError(
            code="privilege-missing",
            what=f"this role may not see what sessions of {', '.join(hidden)} are doing",
            hint="as superuser: GRANT pg_monitor to it, or membership in those roles",
        )
    return _named(rows, ("pid", "user", "age_s", "state"))


def settings(connection: Connection) -> JsonValue:
    """The settings that decide what this server can do for a cutover, each as the server writes it: what it gives a
    session, not what a session of the tool sets for itself."""
    found = connection.execute(
        "SELECT name, reset_val FROM unnest(%s::text[]) AS name LEFT JOIN pg_settings USING (name)", [list(_SETTINGS)]
    )
    return {name: int(value) if value is not None and value.isdigit() else value for name, value in found}


def extensions(connection: Connection) -> JsonValue:
    """{name: version}."""
    return dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY extname").fetchall())


def published(connection: Connection) -> JsonValue:
    """["schema.table"] that this database publishes to a follower, the tool's barrier included; called as what is
    `subscribed` is."""
    return [*sorted(qualified(*table) for table in published_tables(connection))]


def unpublished(connection: Connection) -> JsonValue:
    """["schema.table"] that hold rows, were made since this database publishes to a follower, and are not published;
    empty where it publishes nothing."""
    if connection.execute("SELECT FROM pg_publication WHERE pubname = %s", [PUBLICATION]).fetchone() is None:
        return []
    published = published_tables(connection)
    found = (
        table for table in user_tables(connection) if table.kind == "ordinary" and table.persistence == "permanent"
    )
    return [*sorted(table.qualified for table in found if (table.schema, table.name) not in published)]


def definitions(connection: Connection) -> JsonValue:
    """The watermark that moves when any definition changes; see `postgres.watermark`."""
    return catalog_watermark(connection)


def encoding(connection: Connection) -> JsonValue:
    """{encoding, collate, ctype, provider, collation_version, collation_version_recorded}: the version that the library
    on that host has now, and the one that the database's indexes were built with; null where the server keeps none."""
    version = connection.info.server_version
    own_locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL"
    provider, actual, recorded = (
        ("datlocprovider::text", "pg_database_collation_actual_version(oid)", "datcollversion")
        if version >= 150000
        else ("'c'", "NULL", "NULL")
    )
    names = ("encoding", "collate", "ctype", "provider", "collation_version", "collation_version_recorded")
    row = _row(
        connection,
        f"SELECT pg_encoding_to_char(encoding), coalesce({own_locale}, datcollate), coalesce({own_locale}, datctype), "
        f"{provider}, {actual}, {recorded} FROM pg_database WHERE datname = current_database()",
    )
    described = dict(zip(names, row, strict=True))
    described["provider"] = {"c": "libc", "i": "icu", "b": "builtin"}.get(described["provider"], described["provider"])
    return described


def size_bytes(connection: Connection) -> JsonValue:
    """Size of the database on disk."""
    return int(_one(connection, "SELECT pg_database_size(current_database())"))


def schema_revision(connection: Connection) -> JsonValue:
    """{alembic, fingerprint}: the revision that Alembic recorded (several joined by commas, null if none), and a digest
    of the whole catalog. The latter tells whether this database changed; `compare` tells two databases apart."""
    digest = hashlib.sha256()
    for kind, query in sorted(queries(connection.info.server_version).items()):
        if kind in ("large object", "role"):
            continue  # the ones are the service's rows, which come and go; the others are the server's
        found = _one(
            connection,
            "SELECT md5(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\")) "
            f"FROM (SELECT concat_ws(E'\\t', o, t, d) FROM ({query}) AS q(o, t, d)) AS lines(line)",
            {"ignored": [""], "movers": [""]},
        )
        digest.update(f"{kind}\t{found}\n".encode())
    return {"alembic": _alembic(connection), "fingerprint": "sha256:" + digest.hexdigest()}


def row_counts(connection: Connection) -> JsonValue:
    """{"schema.table": n}, exact, for every table that holds rows itself (partitions, not their parents).

    Runs under the session's statement_timeout. Never counts what row-level security lets through: that is an error.
    """
    connection.execute("SET LOCAL row_security = off")
    counts: dict[str, JsonValue] = {}
    relations = [table for table in user_tables(connection) if table.kind == "ordinary"]
    for first in range(0, len(relations), _COUNTS_PER_QUERY):
        some = relations[first : first + _COUNTS_PER_QUERY]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*) FROM ONLY {}").format(sql.Literal(index), table.identifier)
            for index, table in enumerate(some)
        )
        counts |= {some[index].qualified: count for index, count in connection.execute(query)}
    return dict(sorted(counts.items()))


def state_copied() -> StatehubError:
    """Why nothing that the tool wrote can be believed in a database that it was copied to."""
    return StatehubError(
        code="state-copied",
        what="the schema statehub_plan was written in another database and came here with a dump or a copy",
        hint="DROP SCHEMA statehub_plan CASCADE in this database, then run again",
    )


def _alembic(connection: Connection) -> str | None:
    revisions = []
    for table in user_tables(connection):
        if table.name == "alembic_version":
            query = sql.SQL("SELECT version_num::text FROM {} ORDER BY 1").format(table.identifier)
            revisions += [str(revision) for (revision,) in connection.execute(query)]
    return ",".join(sorted(revisions)) or None


def _own_state(connection: Connection) -> state.EndpointState | None:
    """The state row, if it was written here; StatehubError when it came from another database with a copy."""
    current = state.read_state(connection)
    if current is not None and current.copied:
        raise state_copied()
    return current


def _one(connection: Connection, query: str, parameters: dict[str, Any] | None = None) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise StatehubError(code="database-gone", what="this database is no longer in pg_database", hint="run again")
    return row


def _rows(connection: Connection, query: str, names: Sequence[str], *parameters: object) -> JsonValue:
    return _named(connection.execute(query.encode(), parameters or None).fetchall(), names)


def _named(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> JsonValue:
    return [dict(zip(names, row, strict=True)) for row in rows]
