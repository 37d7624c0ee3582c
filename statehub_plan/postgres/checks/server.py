"""Checks of what both servers are, and of settings that a move depends on whatever its method."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.components import PgTool, client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check
from statehub_plan.postgres.checks.questions import IDENTITY, SETTINGS, TABLES, integer, setting, tables

__all__: list[str] = []

_TOOLS: tuple[PgTool, ...] = ("pg_dump", "pg_restore")
_LOCKS_PER_TABLE = 5  # heap, TOAST and its index, primary key, one more
_SPARE_CONNECTIONS = 8
_RECOVERING = Query("SELECT pg_is_in_recovery()")
_COMMITS_WAIT = Query(
    "SELECT current_setting('synchronous_standby_names') <> '' "
    "AND NOT EXISTS (SELECT FROM pg_stat_get_wal_senders() s WHERE coalesce(s.sync_state, 'hidden') <> 'async')"
)
_ASYNCHRONOUS = Query(
    "SELECT count(*) FROM pg_stat_get_wal_senders() s WHERE current_setting('synchronous_standby_names') = '' "
    "AND coalesce(s.state, 'streaming') = 'streaming' AND NOT EXISTS "
    "(SELECT FROM pg_replication_slots r WHERE r.active_pid = s.pid AND r.slot_type = 'logical')"
)
_ARCHIVER = Query(
    "SELECT failed_count, last_failed_wal FROM pg_stat_archiver WHERE last_failed_time IS NOT NULL "
    "AND last_failed_time > coalesce(last_archived_time, '-infinity')"
)
_CONNECTIONS = Query(
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' OR backend_type IS NULL"
)
_SQL_SETTINGS = (
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "default_text_search_config",
    "default_transaction_isolation",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "transform_null_equals",
    "xmloption",
)


@check(
    "same-database",
    Severity.ERROR,
    Place.TARGET,
    title="the endpoints are two databases",
    reason="a database that is copied over itself is lost",
    here=(IDENTITY,),
    there=(IDENTITY,),
)
def _same_database(look: Look) -> Iterator[Seen]:
    if look.here.row(IDENTITY) == look.there.row(IDENTITY):
        yield Seen(
            f"both endpoints lead to the same database, {look.here.info.database} of one cluster",
            "correct the DSN of one of them",
        )


@check(
    "in-recovery",
    Severity.ERROR,
    Place.EACH,
    title="the server is no standby",
    reason="a standby takes no locks and no writes, so it can be neither held nor filled",
    here=(_RECOVERING,),
)
def _in_recovery(look: Look) -> Iterator[Seen]:
    if look.here.value(_RECOVERING):
        yield Seen(
            f"the {look.side} is a standby: it accepts no writes and no locks",
            "let its DSN lead to the primary of that cluster",
        )


@check(
    "client-tool-missing",
    Severity.ERROR,
    Place.TARGET,
    title="pg_dump and pg_restore of the newer version are installed here",
    reason="pg_dump refuses servers newer than itself, in the middle of a move",
)
def _tools(look: Look) -> Iterator[Seen]:
    wanted = max(look.here.info.major, look.there.info.major)
    for tool in _TOOLS:
        try:
            client_tool(tool, wanted)
        except StatehubError as error:
            yield Seen(error.what, error.hint, tool)


@check(
    "target-older",
    Severity.WARNING,
    Place.TARGET,
    title="the target is not of an older major version",
    reason="what only the newer version knows (syntax, types, defaults) does not load, or means another thing",
)
def _target_older(look: Look) -> Iterator[Seen]:
    if look.here.info.major < look.there.info.major:
        yield Seen(
            f"the target is PostgreSQL {look.here.info.major}, the source {look.there.info.major}",
            f"take a target of PostgreSQL {look.there.info.major} or newer",
        )


def _switched_off(name: str, danger: str) -> None:
    @check(
        f"{name.replace('_', '-')}-off",
        Severity.WARNING,
        Place.EACH,
        title=f"{name} is on",
        reason=danger,
        here=(SETTINGS,),
    )
    def _off(look: Look) -> Iterator[Seen]:
        if setting(look.here, name) == "off":
            yield Seen(f"{name} is off on the {look.side}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()")


_switched_off("fsync", "a crash of the machine loses acknowledged commits, the decision among them")
_switched_off("full_page_writes", "a crash of the machine can leave torn pages that recovery does not mend")


@check(
    "commits-wait",
    Severity.ERROR,
    Place.EACH,
    title="a synchronous standby answers where one is demanded",
    reason="every commit waits for a standby that is not there: a freeze would not be confirmed, and nothing decided",
    here=(_COMMITS_WAIT,),
)
def _commits_wait(look: Look) -> Iterator[Seen]:
    if look.here.value(_COMMITS_WAIT):
        yield Seen(
            f"synchronous_standby_names is set on the {look.side} and no synchronous standby is connected",
            "bring the standby back, or: ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()",
        )


@check(
    "standbys-asynchronous",
    Severity.WARNING,
    Place.EACH,
    title="standbys confirm what is committed",
    reason="a standby that takes over right after a freeze or a decision may not have it yet: the old side would be "
    "open again, or the decision gone; after a freeze the tool itself waits for those that follow closely, as far as "
    "its role sees them (pg_read_all_stats), after a decision for none",
    here=(_ASYNCHRONOUS,),
)
def _asynchronous(look: Look) -> Iterator[Seen]:
    standbys = look.here.value(_ASYNCHRONOUS)
    if standbys:
        yield Seen(
            f"{standbys} standbys of the {look.side} follow it, and no commit waits for any of them",
            "for the move: ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; SELECT pg_reload_conf() (with "
            "CloudNativePG: spec.minSyncReplicas), or see to it that nothing fails over meanwhile",
        )


@check(
    "archiver-failing",
    Severity.WARNING,
    Place.EACH,
    title="WAL archiving succeeds",
    reason="WAL that cannot be archived is kept until the disk is full, and a fill writes a lot of it",
    here=(_ARCHIVER,),
)
def _archiver(look: Look) -> Iterator[Seen]:
    for count, segment in look.here.rows(_ARCHIVER):
        yield Seen(
            f"archive_command has failed {count} times on the {look.side}, last for {segment}",
            "look into the server's log for its message and repair archive_command",
        )


@check(
    "connections-scarce",
    Severity.WARNING,
    Place.EACH,
    title=f"at least {_SPARE_CONNECTIONS} connections are free",
    reason="the tool's workers, the replication and retrying clients compete for the last connections",
    here=(SETTINGS, _CONNECTIONS),
)
def _connections(look: Look) -> Iterator[Seen]:
    most, reserved = integer(look.here, "max_connections"), integer(look.here, "superuser_reserved_connections")
    free = most - reserved - int(look.here.value(_CONNECTIONS))
    if free < _SPARE_CONNECTIONS:
        yield Seen(
            f"{max(0, free)} of {most} connections are free on the {look.side}",
            f"ALTER SYSTEM SET max_connections = {most + _SPARE_CONNECTIONS - free}, then restart the server",
        )


@check(
    "max-connections-lower",
    Severity.WARNING,
    Place.TARGET,
    title="the target allows as many connections as the source",
    reason="after the redirect clients are refused with `too many clients` although nothing else is wrong",
    here=(SETTINGS,),
    there=(SETTINGS,),
)
def _max_connections(look: Look) -> Iterator[Seen]:
    ours, theirs = integer(look.here, "max_connections"), integer(look.there, "max_connections")
    if ours < theirs:
        yield Seen(
            f"max_connections is {ours} on the target and {theirs} on the source",
            f"ALTER SYSTEM SET max_connections = {theirs}, then restart the server",
        )


@check(
    "two-phase-lower",
    Severity.WARNING,
    Place.TARGET,
    title="the target allows prepared transactions where the source does",
    reason="a service that uses PREPARE TRANSACTION fails on its first one after the redirect",
    here=(SETTINGS,),
    there=(SETTINGS,),
)
def _two_phase(look: Look) -> Iterator[Seen]:
    ours, theirs = integer(look.here, "max_prepared_transactions"), integer(look.there, "max_prepared_transactions")
    if ours < theirs:
        yield Seen(
            f"max_prepared_transactions is {ours} on the target and {theirs} on the source",
            f"ALTER SYSTEM SET max_prepared_transactions = {theirs}, then restart the server",
        )


@check(
    "sql-settings-differ",
    Severity.WARNING,
    Place.TARGET,
    title="settings that change what SQL means are the same",
    reason="the same statement answers differently after the redirect, and nobody has changed the service",
    here=(SETTINGS,),
    there=(SETTINGS,),
)
def _sql_settings(look: Look) -> Iterator[Seen]:
    for name in _SQL_SETTINGS:
        ours, theirs = setting(look.here, name), setting(look.there, name)
        if None not in (ours, theirs) and ours != theirs:
            yield Seen(
                f"{name} is '{ours}' on the target and '{theirs}' on the source",
                f"ALTER SYSTEM SET {name} = '{theirs}'; SELECT pg_reload_conf()",
                name,
            )


@check(
    "preload-libraries-differ",
    Severity.WARNING,
    Place.TARGET,
    title="libraries that the source loads at its start are loaded by the target",
    reason="auditing, statistics or an extension that needs preloading is silently gone after the move",
    here=(SETTINGS,),
    there=(SETTINGS,),
)
def _preload(look: Look) -> Iterator[Seen]:
    ours, theirs = (
        {one.strip() for one in (setting(answers, "shared_preload_libraries") or "").split(",")} - {""}
        for answers in (look.here, look.there)
    )
    for name in sorted(theirs - ours):
        yield Seen(
            f"the source preloads {name}, the target does not",
            f"ALTER SYSTEM SET shared_preload_libraries = {', '.join(sorted(ours | theirs))}, then restart the server",
            name,
        )


@check(
    "target-lock-table",
    Severity.ERROR,
    Place.TARGET,
    title="the target's lock table has room for creating every table in one transaction",
    reason="`out of shared memory` in the middle of loading the schema",
    here=(SETTINGS,),
    there=(TABLES,),
)
def _target_lock_table(look: Look) -> Iterator[Seen]:
    needed, each, room = len(tables(look.there)) * _LOCKS_PER_TABLE, *_lock_table(look)
    if needed > room:
        yield Seen(
            f"creating all tables in one transaction takes about {needed} locks; the target has room for {room}",
            f"raise max_locks_per_transaction there to {each * needed // room + 1} and restart it",
        )


@check(
    "hold-lock-table",
    Severity.ERROR,
    Place.EACH,
    title="the lock table has room for holding every table at once",
    reason="`out of shared memory` while locking fails the hold, and every other session with it",
    here=(SETTINGS, TABLES),
)
def _hold_lock_table(look: Look) -> Iterator[Seen]:
    needed, each, room = len(tables(look.here)), *_lock_table(look)
    if needed > room:
        yield Seen(
            f"holding writes takes {needed} locks on the {look.side}; its lock table has room for {room}",
            f"raise max_locks_per_transaction there to {each * needed // room + 1} and restart it",
        )


def _lock_table(look: Look) -> tuple[int, int]:
    each = integer(look.here, "max_locks_per_transaction")
    return each, each * (integer(look.here, "max_connections") + integer(look.here, "max_prepared_transactions"))
