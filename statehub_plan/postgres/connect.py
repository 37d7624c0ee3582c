"""Sessions of the tool: where their DSN comes from, what they pin, why they could not be had; and the user's tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import SecretRef
from statehub_plan.postgres.dsn import parameters_of
from statehub_plan.postgres.names import qualified
from statehub_plan.redact import redact, register_secret

__all__ = [
    "APPLICATION_PREFIX",
    "SCHEMA",
    "Connection",
    "Table",
    "connect",
    "connect_again",
    "owned_by",
    "resolve_dsn",
    "user_tables",
]

Connection = psycopg.Connection[TupleRow]

SCHEMA = "statehub_plan"
"""The tool's own schema in every database it works on; never dumped, compared, fenced or dropped with the rest."""

APPLICATION_PREFIX = "statehub-plan "
"""Every session of the tool has an `application_name` that starts so."""

OWNER_SETTING = "statehub_plan.owner"
"""The session setting that says for whom a session claims epochs; see `state.claim_epoch`."""

AWAITED_SETTING = "statehub_plan.awaited"
"""The session setting that keeps what a commit has to wait for which must survive a failover (`synchronous_commit`: the
server's own, never less than `on`); see `transaction.await_standby`."""

_NAME_BYTES = 63  # NAMEDATALEN - 1: the server cuts longer names, and keeps ASCII only
_MINIMUM_VERSION = 140000
_SESSION_SETTINGS = {
    # Result formats and name resolution never depend on how a role, a database or a host is configured.
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    # What waits for somebody else's commit has to see it.
    "default_transaction_isolation": "read committed",
    # Limits meant for applications; what the tool waits for it limits itself.
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # That a commit has ended its wait for a standby is told as a warning, and in no other way.
    "client_min_messages": "notice",
    # A tool whose host vanished is noticed by the server within about ten seconds, so that its locks go.
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_connection_check_interval": "1000",
}
_SETTLE = f"""
SELECT pg_backend_pid(),
       (SELECT count(set_config(pinned.key, pinned.value, false)) FROM jsonb_each_text(%s::jsonb) AS pinned),
       (SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name = 'transaction_timeout'
        OR name = 'log_transaction_sample_rate' AND current_setting('is_superuser') = 'on'),
       set_config('{AWAITED_SETTING}', CASE WHEN here IN ('off', 'local') THEN 'on' ELSE here END, false),
       set_config('synchronous_commit', 'local', false)
FROM current_setting('synchronous_commit') here
"""
_CLIENT_SETTINGS = {
    # The same in the other direction: a server that vanished is noticed instead of waited for.
    "keepalives": "1",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
}


@dataclass(frozen=True, slots=True, order=True)
class Table:
    """One table that holds the user's rows; a partitioned one holds them through its partitions."""

    schema: str
    name: str
    oid: int
    kind: Literal["ordinary", "partitioned"]
    persistence: Literal["permanent", "unlogged"]
    is_partition: bool
    owner: str

    @property
    def qualified(self) -> str:
        """`schema.table`, for people and for facts: `names.qualified`, so never for SQL."""
        return qualified(self.schema, self.name)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, schema-qualified name, for SQL."""
        return sql.Identifier(self.schema, self.name)


def resolve_dsn(ref: SecretRef, base_dir: Path) -> str:
    """The connection string that `ref` names, in key=value form; its password is registered with the redactor.

    A relative `file` is relative to `base_dir`, the directory of the plan document. Reads the environment or the file,
    contacts nothing. StatehubError when the source is missing, empty or no connection string.
    """
    if ref.service is not None:
        return make_conninfo(service=ref.service)
    source, text = _read_secret(ref, base_dir)
    if not text:
        raise StatehubError(
            code="dsn-missing",
            what=f"{source} is empty; a connection string is expected there",
            hint=f"put postgresql://user@host:port/database (or host=… dbname=… user=…) into {source}",
        )
    return make_conninfo(**parameters_of(text, source))


def connect(
    dsn: str,
    *,
    purpose: str,
    autocommit: bool = True,
    connect_timeout_s: float = 5.0,
    statement_timeout_ms: int = 0,
    read_only: bool = False,
) -> Connection:
    """A session named `statehub-plan <purpose>` with pinned settings that a role's or database's own don't change.

    Its search_path is `pg_catalog` alone: qualify every other name. It may write even where the database's default is
    read-only, unless `read_only`. Its commits are flushed here and wait for no standby, which a wait has no end for:
    see `transaction.await_standby`. Blocks for at most `connect_timeout_s` per host of the DSN (libpq: at least 2 s).
    StatehubError with the cause and its remedy when no session is had, or when a pooler sits in between.
    """
    name = (APPLICATION_PREFIX + purpose).encode("ascii", errors="replace")[:_NAME_BYTES].decode()
    parameters = parameters_of(dsn, "what should name a database")
    settings = _SESSION_SETTINGS | {
        "default_transaction_read_only": "on" if read_only else "off",
        "statement_timeout": str(statement_timeout_ms),
    }
    own_options = " ".join(f"-c {key}={_escaped(value)}" for key, value in settings.items())
    # Start-up options rank above ALTER DATABASE and ALTER ROLE (manual 20.1.3), and the last one given wins.
    parameters |= {"options": f"{parameters.get('options') or ''} {own_options}".strip(), "application_name": name}
    parameters |= _CLIENT_SETTINGS | {"connect_timeout": max(2, round(connect_timeout_s))}
    try:
        connection = psycopg.connect(make_conninfo(**parameters), autocommit=True)
    except psycopg.Error as error:
        raise _explained(error, parameters) from error
    try:
        _settle(connection, settings | {"application_name": name}, autocommit)
    except psycopg.Error as error:
        connection.close()
        raise _explained(error, parameters) from error
    except StatehubError:
        connection.close()
        raise
    return connection


def owned_by(dsn: str, owner: str) -> str:
    """`dsn` for sessions that act for `owner`, the holder of one lease: an epoch that they claim is that holder's."""
    options = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{options} -c {OWNER_SETTING}={_escaped(owner)}".lstrip())


def _escaped(value: str) -> str:
    """For libpq's connection parameter `options` (manual, 34.1.2)."""
    return re.sub(r"([\\\s])", r"\\\1", value)


def keep_plans(connection: Connection) -> None:
    """From now on each statement is planned once in this session: for one that asks the same again while others wait.

    A text of several statements needs `prepare=False`. Of no use where something is rolled back or altered: psycopg
    forgets all plans then."""
    connection.prepare_threshold = 0
    connection.execute("SET plan_cache_mode = force_generic_plan")


def connect_again(lost: Connection, *, purpose: str) -> Connection:
    """A new session to where `lost` went, also after the other side closed it; for observing what became of it."""
    return connect(make_conninfo(lost.info.dsn, password=lost.info.password or None), purpose=purpose)


USER_TABLES = """
SELECT n.nspname, c.relname, c.oid::int8 AS oid, CASE c.relkind WHEN 'p' THEN 'partitioned' ELSE 'ordinary' END AS kind,
       CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END AS persistence,
       c.relispartition, pg_catalog.pg_get_userbyid(c.relowner) AS owner
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
  AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema'
  AND n.nspname <> 'statehub_plan'
  AND n.nspname !~ '^pg_'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
"""What `user_tables` asks, as SQL for use inside the server too."""


def user_tables(connection: Connection) -> tuple[Table, ...]:
    """Every ordinary and partitioned table (partitions included), sorted by name.

    Left out: system schemas, the tool's own schema, temporary tables and members of extensions. Foreign tables and
    materialized views hold no rows of their own and are not tables here.
    """
    return tuple(sorted(Table(*row) for row in connection.execute(USER_TABLES)))


def _read_secret(ref: SecretRef, base_dir: Path) -> tuple[str, str]:
    if ref.env is not None:
        value = os.environ.get(ref.env)
        if value is None:
            raise StatehubError(
                code="dsn-missing",
                what=f"the environment variable {ref.env} is not set; the plan takes a connection string from it",
                hint=f"export {ref.env}=postgresql://user:password@host:port/database",
            )
        return f"the environment variable {ref.env}", value.strip()
    path = base_dir / Path(ref.file or "").expanduser()
    try:
        return f"the file {path}", path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StatehubError(
            code="dsn-missing",
            what=f"the file {path}, which should hold a connection string, cannot be read: {_reason(error)}",
            hint=f"write the connection string into {path} and make it readable for this user only (chmod 600)",
        ) from None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"


def _settle(connection: Connection, settings: Mapping[str, str], autocommit: bool) -> None:
    """What can only be done or known once connected: version, pooler, passwords from elsewhere, newer time-outs, and
    settings once more, which a login event trigger (17) may have set after start-up options did."""
    if connection.info.password:
        register_secret(connection.info.password)
    if connection.info.server_version < _MINIMUM_VERSION:
        raise _too_old(str(connection.info.server_version // 10000))
    row = connection.execute(_SETTLE.encode(), [json.dumps(dict(settings))]).fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        raise StatehubError(
            code="database-pooled",
            what=f"{_place(conninfo_to_dict(connection.info.dsn))} answers through a connection pooler: "
            "sessions, locks and settings would not stay together",
            hint="point this DSN at the PostgreSQL server itself; the application may keep using the pooler",
        )
    connection.autocommit = autocommit


def _too_old(version: str) -> StatehubError:
    return StatehubError(
        code="server-too-old",
        what=f"the server is PostgreSQL {version}; 14 or newer is needed",
        hint="upgrade the server first, for example with pg_upgrade",
    )


def _place(parameters: Mapping[str, Any]) -> str:
    if parameters.get("service") and not parameters.get("host"):
        return f"service {parameters['service']}"
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
    port = parameters.get("port") or os.environ.get("PGPORT") or "5432"
    database = parameters.get("dbname") or os.environ.get("PGDATABASE") or parameters.get("user") or "?"
    return f"database {database} at {host}:{port}"


# libpq hands over no SQLSTATE for a refused start-up, so the text has to tell. Most specific first. In a remedy
# {database} and {user} stand for their quoted names.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"password authentication failed", "wrong-password", "check user and password in the DSN (or in ~/.pgpass)"),
    (r"no password supplied", "password-missing", "add the password to the DSN, or to ~/.pgpass"),
    (r'role ".*" does not exist', "unknown-role", "check the user in the DSN, or create that role"),
    (r'database ".*" does not exist', "unknown-database", "check the database in the DSN, or create it"),
    (r"is not permitted to log in", "role-without-login", "use a role with LOGIN in the DSN"),
    (
        r"too many (clients|connections)|remaining connection slots",
        "too-many-connections",
        "close idle sessions (pg_stat_activity shows them), or raise max_connections or the role's or database's limit",
    ),
    (
        r"permission denied for database",
        "connect-not-allowed",
        "as owner of the database: GRANT CONNECT ON DATABASE {database} TO {user}",
    ),
    (
        r"not currently accepting connections",
        "database-closed",
        "as superuser: ALTER DATABASE {database} ALLOW_CONNECTIONS true",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "host-not-allowed",
        "add a line to pg_hba.conf, then pg_reload_conf()",
    ),
    (
        r"SSL|TLS|certificate",
        "tls-failed",
        "check sslmode, sslrootcert, sslcert and sslkey in the DSN against what the server offers",
    ),
    (
        r"definition of service .* not found|service file .* not found",
        "unknown-service",
        "define the service in ~/.pg_service.conf, or name the file in PGSERVICEFILE",
    ),
    (
        r"starting up|shutting down|in recovery mode|not yet accepting connections|not accepting connections",
        "server-not-ready",
        "wait until the server accepts connections; its log says what it is busy with",
    ),
    (
        r"could not translate host name|Name or service not known|failed to resolve|nodename nor servname"
        r"|Temporary failure in name resolution|No address associated",
        "unknown-host",
        "check the host in the DSN and this machine's name resolution",
    ),
    (
        r"timeout expired|timed out|Connection timed out",
        "connect-timeout",
        "check host, port, firewall, VPN or tunnel; nothing answered at all",
    ),
    (
        r"Connection refused|No such file or directory|could not connect|No route to host|Network is unreachable",
        "connection-refused",
        "check host and port in the DSN, and that the server runs and listens there (or that the tunnel is up)",
    ),
    (
        r"server closed the connection|Connection reset|unexpectedly|received invalid response|EOF detected"
        r"|expected authentication request",
        "connection-dropped",
        "something answered but is no PostgreSQL server, or hung up: check the port, the tunnel and the server's log",
    ),
)


def _quoted_names(parameters: Mapping[str, Any]) -> dict[str, str]:
    """As SQL; dots where a service file or the system's own user name says it."""
    user = parameters.get("user") or os.environ.get("PGUSER")
    database = parameters.get("dbname") or os.environ.get("PGDATABASE") or user
    named = {"database": database, "user": user}
    return {what: sql.Identifier(str(name)).as_string() if name else "…" for what, name in named.items()}


def _explained(error: psycopg.Error, parameters: Mapping[str, Any]) -> StatehubError:
    place, names = _place(parameters), _quoted_names(parameters)
    text = redact(" ".join(str(error).split()))
    if re.search(r"unrecognized configuration parameter", text):
        return _too_old("13 or older")
    for pattern, code, hint in _CAUSES:
        if re.search(pattern, text):
            return StatehubError(code=code, what=f"cannot connect to {place}: {text}", hint=hint.format(**names))
    return StatehubError(
        code="connection-failed",
        what=f"cannot connect to {place}: {text}",
        hint="try the same DSN with psql; the server's log says more",
    )
