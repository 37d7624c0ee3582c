"""Checks of what is going on in the databases: transactions that a hold or a slot would have to wait for."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident, literal

__all__: list[str] = []

_PREPARED = Query(
    "SELECT gid, owner, database, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts "
    "WHERE database = current_database() ORDER BY prepared"
)
# A slot is created only when every transaction that has an id, in whatever database, has ended (manual, 47.2.5).
_TRANSACTIONS = Query(
    """
    SELECT a.pid, a.usename, a.datname, a.application_name, a.state LIKE 'idle in transaction%',
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8, a.datname = current_database()
    FROM pg_stat_activity a
    WHERE a.xact_start IS NOT NULL AND a.backend_type = 'client backend'
      AND (a.datname = current_database() OR a.backend_xid IS NOT NULL)
      AND NOT starts_with(a.application_name, 'statehub-plan ')
    ORDER BY a.xact_start
    """
)
_HIDDEN = Query(
    """
    SELECT DISTINCT a.usename FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.usename IS NOT NULL AND a.query = '<insufficient privilege>'
      AND a.pid NOT IN (SELECT s.pid FROM pg_stat_get_wal_senders() s)
    ORDER BY 1
    """
)


@check(
    "prepared-transactions",
    Severity.ERROR,
    Place.EACH,
    title="no prepared transaction is left lying",
    reason="it keeps its locks for ever, so a hold waits for it in vain; it can still commit after a freeze; a "
    "replication slot is not created before it ends",
    here=(_PREPARED,),
)
def _prepared(look: Look) -> Iterator[Seen]:
    for gid, owner, _, age_s in look.here.rows(_PREPARED):
        if age_s >= look.move.patience_s:
            yield Seen(
                f"transaction {gid} of {owner} was prepared {age_s:.0f} s ago and never finished",
                f"COMMIT PREPARED {literal(gid)} or ROLLBACK PREPARED {literal(gid)}, whichever its coordinator says",
                gid,
            )


@check(
    "long-transactions",
    Severity.WARNING,
    Place.SOURCE,
    title="no transaction has been running for long",
    reason="a hold has to wait for its locks or end it, and a replication slot is not created before it ends",
    here=(_TRANSACTIONS,),
)
def _long(look: Look) -> Iterator[Seen]:
    yield from _open(look, idle=False)


@check(
    "idle-in-transaction",
    Severity.WARNING,
    Place.SOURCE,
    title="no session sits idle in a transaction",
    reason="somebody forgot it with its locks: a hold ends in its time-out, a replication slot is never created",
    here=(_TRANSACTIONS,),
)
def _idle(look: Look) -> Iterator[Seen]:
    yield from _open(look, idle=True)


def _open(look: Look, *, idle: bool) -> Iterator[Seen]:
    for pid, user, database, application, is_idle, age_s, here in look.here.rows(_TRANSACTIONS):
        if bool(is_idle) is idle and age_s >= look.move.patience_s:
            where = "" if here else f" in database {database}"
            doing = "is idle in" if idle else "has been running"
            yield Seen(
                f"session {pid} (user {user}, application {application or '?'}){where} {doing} a transaction "
                f"for {age_s:.0f} s",
                f"let it end, or: SELECT pg_terminate_backend({pid})",
                str(pid),
            )


@check(
    "sessions-hidden",
    Severity.WARNING,
    Place.EACH,
    title="the tool's role sees what every session does",
    reason="a transaction that cannot be seen cannot be named when a hold waits for it",
    here=(_HIDDEN,),
)
def _hidden(look: Look) -> Iterator[Seen]:
    names = [name for (name,) in look.here.rows(_HIDDEN)]
    if names:
        yield Seen(
            f"role {look.here.info.role} may not see what sessions of {', '.join(names)} are doing on the {look.side}",
            f"GRANT pg_monitor TO {ident(look.here.info.role)}",
        )
