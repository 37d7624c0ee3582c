"""What one database says about the streams out of it and into it, and how much its WAL may still grow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import Database
from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.observe.gather import Answers, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import sql_qualified
from statehub_plan.processes import run

DISK_FREE_TIMEOUT_S = 5.0

_EPOCH = "floor(extract(epoch FROM {}))::int8"


def slots(connection: Connection) -> JsonValue:
    """[{name, type, database, plugin, active, restart_lsn, confirmed_lsn, retained_bytes, lag_bytes, wal_status,
    safe_wal_size, conflicting, invalidation_reason, inactive_since, ours}] of the whole cluster.

    `lag_bytes`: WAL that whoever reads it has not confirmed. `safe_wal_size`: bytes left before the server drops it,
    null where max_slot_wal_keep_size is unlimited. `conflicting` is null before 16, the next two before 17."""
    version = connection.info.server_version
    recent = "CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), {})::int8 END"
    columns = {
        "name": "slot_name",
        "type": "slot_type",
        "database": "database",
        "plugin": "plugin",
        "active": "active",
        "restart_lsn": "restart_lsn::text",
        "confirmed_lsn": "confirmed_flush_lsn::text",
        "retained_bytes": recent.format("restart_lsn"),
        "lag_bytes": recent.format("confirmed_flush_lsn"),
        "wal_status": "wal_status",
        "safe_wal_size": "safe_wal_size",
        "conflicting": "conflicting" if version >= 160000 else "NULL::bool",
        "invalidation_reason": "invalidation_reason" if version >= 170000 else "NULL::text",
        "inactive_since": _EPOCH.format("inactive_since") if version >= 170000 else "NULL::int8",
        "ours": f"slot_name ~ '{OWN_STREAMS}'",
    }
    return _table(connection, columns, "pg_replication_slots WHERE NOT temporary ORDER BY slot_name")


def subscriptions(connection: Connection) -> JsonValue:
    """[{name, oid, enabled, slot, publications, running, received_lsn, applied_lsn, last_received, last_applied,
    errors, tables, tables_ready, subscribed, ours}] of this database.

    `running`: its apply worker is alive. `errors` counts failed applies since statistics began (null before 15),
    `tables_ready` those past their first synchronization; `subscribed`: every "schema.table" of a stream of the tool's,
    null for others; instants in whole seconds since 1970."""
    version = connection.info.server_version
    # Workers that apply one large transaction in parallel (16) stand beside the one that leads them.
    leader = "AND w.leader_pid IS NULL" if version >= 160000 else ""
    errors = "(SELECT t.apply_error_count FROM pg_stat_subscription_stats t WHERE t.subid = s.oid)"
    relations = "(SELECT count(*) FROM pg_subscription_rel r WHERE r.srsubid = s.oid{})"
    ours = f"s.subname ~ '{OWN_STREAMS}'"
    qualified = sql_qualified("n.nspname", "c.relname")
    names = (
        f"ARRAY(SELECT {qualified} FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.srsubid = s.oid ORDER BY 1)"
    )
    columns = {
        "name": "s.subname",
        "oid": "s.oid::int8",
        "enabled": "s.subenabled",
        "slot": "s.subslotname",
        "publications": "s.subpublications",
        "running": "w.pid IS NOT NULL",
        "received_lsn": "w.received_lsn::text",
        "applied_lsn": "w.latest_end_lsn::text",
        "last_received": _EPOCH.format("w.last_msg_receipt_time"),
        "last_applied": _EPOCH.format("w.latest_end_time"),
        "errors": errors if version >= 150000 else "NULL::int8",
        "tables": relations.format(""),
        "tables_ready": relations.format(" AND r.srsubstate = 'r'"),
        "subscribed": f"CASE WHEN {ours} THEN {names} END",
        "ours": ours,
    }
    return _table(
        connection,
        columns,
        f"pg_subscription s LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL {leader} "
        "AND w.pid IS NOT NULL "
        "WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY s.subname",
    )


def wal_bytes(connection: Connection) -> JsonValue:
    """How much WAL the server keeps now, for whatever reason; StatehubError with the grant where it may not be seen."""
    allowed = connection.execute("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')").fetchone()
    if allowed is None or not allowed[0]:
        raise StatehubError(
            code="privilege-missing",
            what="this role may not see how much WAL there is",
            hint=f'as superuser: GRANT pg_monitor TO "{connection.info.user}"',
        )
    row = connection.execute("SELECT coalesce(sum(size), 0)::int8 FROM pg_ls_waldir()").fetchone()
    return None if row is None else int(row[0])


def disk_free_bytes(argv: Sequence[str] | None, base_dir: Path, *, timeout_s: float = DISK_FREE_TIMEOUT_S) -> int:
    """What the plan's `database.diskFree` prints: bytes left where a server keeps its WAL.

    Runs the command in `base_dir`, without a shell, for at most `timeout_s`. StatehubError where none is declared, it
    fails, or prints anything but one number."""
    if argv is None:
        raise StatehubError(
            code="disk-unwatched",
            what="nobody knows how much disk is left where this server keeps its WAL",
            hint="declare database.diskFree for it, a command that prints the number of bytes left there",
        )
    ended = run(argv, timeout_s=timeout_s, cwd=base_dir)
    text = ended.stdout.strip()
    if ended.exit_status != 0:
        wrong = f"failed with {ended.complaint()}"
    elif text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    else:
        wrong = f"printed {text[:80]!r}, which is not one number of bytes"
    raise StatehubError(
        code="disk-free-unknown",
        what=f"database.diskFree ({argv[0]}) {wrong}",
        hint="let it print nothing but the number of bytes left, such as 85899345920",
    )


def disk_source(name: str, database: Database, base_dir: Path) -> Source:
    """disk_free_bytes of one endpoint; a source of its own, so that a slow command keeps nothing else waiting."""
    fact_id = f"{name}.disk_free_bytes"

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        left_s = min(attempt.remaining_s(), DISK_FREE_TIMEOUT_S)
        answers.know(fact_id, disk_free_bytes(database.disk_free, base_dir, timeout_s=left_s), began)

    how = "database.diskFree" if database.disk_free is None else " ".join(database.disk_free)
    return Source(name=f"disk of {name}", promises={fact_id: how}, look=look)


def _table(connection: Connection, columns: dict[str, str], source: str) -> JsonValue:
    rows: list[tuple[Any, ...]] = connection.execute(
        f"SELECT {', '.join(columns.values())} FROM {source}".encode()
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]
