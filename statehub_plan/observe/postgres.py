"""Facts of one database: writes that touch no row for what it really accepts, and one read-only transaction for what it
says about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
from psycopg.pq import TransactionStatus
from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import Endpoint
from statehub_plan.observe import catalog, replication, writability
from statehub_plan.observe.gather import Answers, Clock, Source, reason
from statehub_plan.observe.parallel import Attempt
from statehub_plan.observe.session import session
from statehub_plan.postgres.connect import Connection, resolve_dsn
from statehub_plan.world import Writes

_Read = Callable[[Connection], JsonValue]

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_MARGIN_S = 0.5  # the driver's own time-out, which knows the cause, is to come before ours

_SHALLOW: tuple[tuple[str, str, _Read], ...] = (
    ("identity", "pg_control_system(), pg_database", catalog.identity),
    ("version_num", "server_version_num", catalog.version_num),
    ("in_recovery", "pg_is_in_recovery()", catalog.in_recovery),
    ("timeline", "pg_walfile_name()", catalog.timeline),
    ("transfer", "statehub_plan.state", catalog.transfer),
    ("register", "statehub_plan.decision", catalog.decisions),
    ("tables", "pg_class", catalog.tables),
    ("sessions", "pg_stat_activity", catalog.sessions),
    ("prepared_transactions", "pg_prepared_xacts", catalog.prepared_transactions),
    ("long_transactions", "pg_stat_activity", catalog.long_transactions),
    ("slots", "pg_replication_slots", replication.slots),
    ("published", "pg_publication_tables", catalog.published),
    ("unpublished", "pg_publication_tables", catalog.unpublished),
    ("subscriptions", "pg_subscription, pg_stat_subscription", replication.subscriptions),
    ("settings", "current_setting()", catalog.settings),
    ("extensions", "pg_extension", catalog.extensions),
    ("definitions", "which definitions changed last, by every catalog", catalog.definitions),
    ("encoding", "pg_database", catalog.encoding),
)
_STREAMS: tuple[tuple[str, str, _Read], ...] = (("wal_bytes", "pg_ls_waldir()", replication.wal_bytes),)
_DEEP: tuple[tuple[str, str, _Read], ...] = (
    ("size_bytes", "pg_database_size()", catalog.size_bytes),
    ("schema_revision", "every definition in the catalog; alembic_version", catalog.schema_revision),
    ("row_counts", "SELECT count(*) FROM ONLY each table", catalog.row_counts),
)


def database_source(
    name: str, endpoint: Endpoint, base_dir: Path, *, now: Clock, deep: bool, streams: bool = False
) -> Source:
    """All facts of an endpoint's database; a quick look leaves out size, schema revision, row counts and the WAL's
    size, which is looked at with `streams` only.

    Changes nothing: the canaries begin a transaction, have one table's lock for an instant, and roll back. Everything
    else is read in one snapshot, which is given up for a new one only when a query in it fails.
    """
    shallow: tuple[tuple[str, str, _Read], ...] = (
        ("clock_skew_s", "clock_timestamp() less this host's clock", partial(_clock_skew, now=now)),
        *_SHALLOW,
        ("roles", "pg_roles", partial(catalog.roles, app_roles=endpoint.app_roles)),
    )
    slow = (*(_STREAMS if streams else ()), *_DEEP) if deep else ()
    promises = {f"{name}.{fact}": how for fact, how, _ in (*shallow, *slow)} | {
        f"{name}.reach": "connect",
        f"{name}.fence": writability.FENCE_HOW,
        f"{name}.writes": writability.WRITES_HOW,
    }

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        dsn = resolve_dsn(endpoint.database.dsn, base_dir)
        with session(
            dsn, attempt, purpose="observe", connect_timeout_s=attempt.remaining_s() - _MARGIN_S
        ) as connection:
            answers.know(f"{name}.reach", "reachable", began)
            reader = _Reader(name, connection, answers)
            found = _look_at_writes(reader, endpoint, thorough=deep)
            for fact, _, read in shallow:
                reader.read(fact, read)
            if found is not None:
                found = _look_as_app(endpoint, base_dir, found, attempt)
                _answer_writes(reader, found, began)
            for fact, _, read in slow:
                reader.read(fact, read, limit_s=attempt.remaining_s())

    return Source(name=f"database of {name}", promises=promises, look=look)


def _look_at_writes(reader: _Reader, endpoint: Endpoint, *, thorough: bool) -> writability.Findings | None:
    """None, with both facts answered, when something forbids to look."""
    began = time.monotonic()
    try:
        return writability.look_as_owner(reader.connection, endpoint.app_roles, thorough=thorough)
    except psycopg.Error as error:
        if reader.connection.closed:
            raise
        for fact in ("writes", "fence"):
            reader.answers.miss(f"{reader.name}.{fact}", _why(error, time.monotonic() - began), began)
        return None


def _look_as_app(
    endpoint: Endpoint, base_dir: Path, found: writability.Findings, attempt: Attempt
) -> writability.Findings:
    """With the application's own session as well; half of the time left, so that others' facts don't wait for it."""
    if endpoint.database.app_dsn is None or found.in_recovery:
        return found
    try:
        dsn = resolve_dsn(endpoint.database.app_dsn, base_dir)
        with session(dsn, attempt, purpose="observe", connect_timeout_s=attempt.remaining_s() / 2) as connection:
            return writability.look_as_app(connection, found)
    except StatehubError as error:
        return writability.without_app(found, reason(error))


def _answer_writes(reader: _Reader, found: writability.Findings, began: float) -> None:
    writes, doubt = writability.judge(reader.connection, found)
    if writes is Writes.UNKNOWN:
        reader.answers.miss(f"{reader.name}.writes", doubt, began)
    else:
        reader.answers.know(f"{reader.name}.writes", writes.value, began)
    if found.status.copied:
        reader.answers.miss(f"{reader.name}.fence", reason(catalog.state_copied()), began)
    else:
        reader.answers.know(f"{reader.name}.fence", writability.fence_fact(found), began)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads facts in one read-only transaction of a session in autocommit mode."""

    name: str
    connection: Connection
    answers: Answers

    def read(self, fact: str, read: _Read, *, limit_s: float | None = None) -> None:
        """Answer one fact. An error that leaves the session alive makes only this fact unknown."""
        began = time.monotonic()
        fact_id = f"{self.name}.{fact}"
        try:
            if self.connection.info.transaction_status is TransactionStatus.IDLE:
                self.connection.execute(_BEGIN)
            if limit_s is not None:
                self.connection.execute(f"SET LOCAL statement_timeout = {max(1, round(limit_s * 1000))}".encode())
            self.answers.know(fact_id, read(self.connection), began)
        except psycopg.Error as error:
            if self.connection.closed:
                raise
            self.answers.miss(fact_id, _why(error, time.monotonic() - began), began)
            self.connection.execute("ROLLBACK")
        except StatehubError as error:
            self.answers.miss(fact_id, reason(error), began)


def _why(error: psycopg.Error, after_s: float) -> str:
    if isinstance(error, psycopg.errors.QueryCanceled):
        return f"not counted to the end within the {after_s:.1f} s that were left; allow a longer time-out"
    hint = "; GRANT it, or use the role that owns the database" if error.sqlstate == "42501" else ""
    return f"{error.diag.message_primary or ' '.join(str(error).split())}{hint}"


def _clock_skew(connection: Connection, now: Clock) -> JsonValue:
    before = now()
    (there,) = connection.execute("SELECT clock_timestamp()").fetchone() or (before,)
    after = now()
    skew: timedelta = there - before - (after - before) / 2
    return round(skew.total_seconds(), 3) + 0.0  # never -0.0
