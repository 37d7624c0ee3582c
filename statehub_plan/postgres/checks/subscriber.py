"""Checks of the side that applies changes: workers, origins, and the privileges of the role that would subscribe."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident, read_write
from statehub_plan.postgres.checks.questions import OWN, ROLE, SETTINGS, TABLES, integer, role, setting, tables

__all__: list[str] = []

_PREDEFINED_SINCE = 16  # pg_create_subscription; before, only a superuser creates subscriptions
_WORKERS = Query(
    "SELECT count(w.pid), count(w.pid) FILTER (WHERE s.subname ~ "
    f"'{OWN}') FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid"
)
_ORIGINS = Query(
    "SELECT count(*), (SELECT count(*) FROM pg_subscription s JOIN pg_replication_origin o "
    f"ON o.roname = 'pg_' || s.oid WHERE s.subname ~ '{OWN}') FROM pg_replication_origin"
)
_MAY_SUBSCRIBE = Query(
    "SELECT bool_or(rolname = 'pg_create_subscription' AND pg_has_role(oid, 'USAGE')) FROM pg_roles "
    "WHERE rolname = 'pg_create_subscription'"
)
# To become the owner of a table is a privilege of its own since 16; before, membership was.
_MAY_BECOME = Query(
    "SELECT rolname, rolsuper OR rolbypassrls, pg_has_role(oid, CASE WHEN current_setting('server_version_num')::int "
    ">= 160000 THEN 'SET' ELSE 'MEMBER' END) FROM pg_roles"
)
_ADVANCE = "pg_catalog.pg_replication_origin_advance(text, pg_lsn)"
_MAY_ADVANCE = Query(f"SELECT has_function_privilege('{_ADVANCE}', 'EXECUTE')")
# A session of the tool overrides it, an apply worker does not.
_LOCK_TIMEOUTS = Query(
    """
    SELECT coalesce(d.datname, ''), coalesce(r.rolname, ''), substr(s.setting, strpos(s.setting, '=') + 1)
    FROM pg_db_role_setting x LEFT JOIN pg_database d ON d.oid = x.setdatabase
    LEFT JOIN pg_roles r ON r.oid = x.setrole, unnest(x.setconfig) AS s(setting)
    WHERE split_part(s.setting, '=', 1) = 'lock_timeout' AND substr(s.setting, strpos(s.setting, '=') + 1) !~ '^0'
      AND (x.setdatabase = 0 OR d.datname = current_database()) AND (x.setrole = 0 OR r.rolname = current_user)
    ORDER BY 1, 2
    """
)


@check(
    "logical-workers-full",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="a logical replication worker is free",
    reason="the subscription exists and nothing ever arrives, without any error",
    here=(SETTINGS, _WORKERS),
)
def _workers(look: Look) -> Iterator[Seen]:
    most = integer(look.here, "max_logical_replication_workers")
    running, own = look.here.row(_WORKERS)
    if running >= most and not own:
        yield Seen(
            f"all {most} logical replication workers of the {look.side} are in use",
            f"ALTER SYSTEM SET max_logical_replication_workers = {running + 4}, then restart the server",
        )


@check(
    "worker-processes-few",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="background workers are left for the launcher and for applying",
    reason="the launcher cannot start a worker that max_worker_processes has no place for: nothing ever arrives",
    here=(SETTINGS, _WORKERS),
)
def _processes(look: Look) -> Iterator[Seen]:
    most = integer(look.here, "max_worker_processes")
    running, own = look.here.row(_WORKERS)
    if most < 2 + running - own:
        yield Seen(
            f"max_worker_processes is {most} on the {look.side}, with {running} of them applying changes already",
            f"ALTER SYSTEM SET max_worker_processes = {running + 8}, then restart the server",
        )


@check(
    "worker-processes-tight",
    Severity.WARNING,
    Place.SUBSCRIBER,
    title="max_worker_processes is above max_logical_replication_workers",
    reason="parallel queries or index builds take the place of a replication worker, which then does not start",
    here=(SETTINGS,),
)
def _tight(look: Look) -> Iterator[Seen]:
    most, logical = integer(look.here, "max_worker_processes"), integer(look.here, "max_logical_replication_workers")
    if most <= logical:
        yield Seen(
            f"max_worker_processes is {most} on the {look.side}, max_logical_replication_workers {logical}",
            f"ALTER SYSTEM SET max_worker_processes = {logical + 4}, then restart the server",
        )


@check(
    "sync-workers-none",
    Severity.WARNING,
    Place.SUBSCRIBER,
    title="max_sync_workers_per_subscription is above zero",
    reason="a fill that was killed is carried on with by the server's own table synchronization, which never starts",
    here=(SETTINGS,),
)
def _sync_workers(look: Look) -> Iterator[Seen]:
    if integer(look.here, "max_sync_workers_per_subscription") == 0:
        yield Seen(
            f"max_sync_workers_per_subscription is 0 on the {look.side}",
            "ALTER SYSTEM SET max_sync_workers_per_subscription = 2; SELECT pg_reload_conf()",
        )


@check(
    "wal-receiver-timeout-off",
    Severity.WARNING,
    Place.SUBSCRIBER,
    title="wal_receiver_timeout is on",
    reason="a sender whose host vanished is never noticed: following stands still and looks alive",
    here=(SETTINGS,),
)
def _receiver_timeout(look: Look) -> Iterator[Seen]:
    if integer(look.here, "wal_receiver_timeout") == 0:
        yield Seen(
            f"wal_receiver_timeout is 0 on the {look.side}",
            "ALTER SYSTEM SET wal_receiver_timeout = '60s'; SELECT pg_reload_conf()",
        )


@check(
    "origins-full",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="a replication origin is free",
    reason="the apply worker stops with `could not find free replication state slot`, and raising the limit takes a "
    "restart",
    here=(SETTINGS, _ORIGINS),
)
def _origins(look: Look) -> Iterator[Seen]:
    name = "max_active_replication_origins"
    if setting(look.here, name) is None:
        name = "max_replication_slots"  # which limits origins too until PostgreSQL 17
    most = integer(look.here, name)
    taken, own = look.here.row(_ORIGINS)
    if taken >= most and not own:
        yield Seen(
            f"all {most} replication origins of the {look.side} are taken",
            f"ALTER SYSTEM SET {name} = {taken + 4}, then restart the server",
        )


@check(
    "subscription-not-creatable",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="the role that subscribes may create subscriptions",
    reason="CREATE SUBSCRIPTION takes a superuser until PostgreSQL 15, pg_create_subscription from 16 on",
    actor=(ROLE, _MAY_SUBSCRIBE),
)
def _subscription(look: Look) -> Iterator[Seen]:
    mine = role(look.actor)
    if mine.superuser or look.actor.value(_MAY_SUBSCRIBE):
        return
    remedy = f"GRANT pg_create_subscription TO {ident(mine.name)}"
    if look.actor.info.major < _PREDEFINED_SINCE:
        remedy = (
            f"let the plan's database.subscriberDsn of the {look.side} lead to a superuser, or: "
            f"ALTER ROLE {ident(mine.name)} SUPERUSER"
        )
    yield Seen(f"role {mine.name} may not create subscriptions on the {look.side}", remedy)


@check(
    "subscription-without-create",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="the role that subscribes has CREATE on the database",
    reason="from PostgreSQL 16 on CREATE SUBSCRIPTION takes CREATE on the database as well",
    actor=(ROLE,),
)
def _create(look: Look) -> Iterator[Seen]:
    mine = role(look.actor)
    if look.actor.info.major >= _PREDEFINED_SINCE and not mine.may_create_in_database:
        yield Seen(
            f"role {mine.name} has no CREATE on database {mine.database} of the {look.side}",
            f"GRANT CREATE ON DATABASE {ident(mine.database)} TO {ident(mine.name)}",
        )


@check(
    "subscription-without-password",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="a subscription of a role that is no superuser connects with a password",
    reason="password_required refuses a connection string without one, and a server that does not ask for it",
    actor=(ROLE,),
)
def _password(look: Look) -> Iterator[Seen]:
    mine = role(look.actor)
    if look.actor.info.major < _PREDEFINED_SINCE or mine.superuser or look.there.info.replication_password:
        return
    there = "source" if look.side.value == "target" else "target"
    yield Seen(
        f"the {look.side}'s role {mine.name} is no superuser, and the {there} is reached without a password",
        f"put a password into the plan's database.replicationDsn of the {there}, scram-sha-256 into its pg_hba.conf",
    )


@check(
    "apply-cannot-become-owner",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="the role that subscribes may become the owner of every table",
    reason="from PostgreSQL 16 on each change is applied as the table's owner: following stops at the first one",
    here=(),
    actor=(ROLE, _MAY_BECOME),
    there=(TABLES,),
)
def _become(look: Look) -> Iterator[Seen]:
    mine = role(look.actor)
    if look.actor.info.major < _PREDEFINED_SINCE or mine.superuser:
        return
    able = {name: may for name, _, may in look.actor.rows(_MAY_BECOME)}
    for owner in sorted({each.owner for each in tables(look.there)}):
        if able.get(owner) is False:
            yield Seen(
                f"role {mine.name} may not become {owner}, who owns tables, on the {look.side}",
                f"GRANT {ident(owner)} TO {ident(mine.name)} WITH SET TRUE",
                owner,
            )


@check(
    "row-security-forced",
    Severity.ERROR,
    Place.SUBSCRIBER,
    title="no row-level security binds whoever applies changes",
    reason="an apply worker stops at a table whose row-level security would bind its role",
    actor=(ROLE, _MAY_BECOME),
    there=(TABLES,),
)
def _forced(look: Look) -> Iterator[Seen]:
    mine = role(look.actor)
    bypasses = {name: able for name, able, _ in look.actor.rows(_MAY_BECOME)}
    for each in tables(look.there):
        applies = each.owner if look.actor.info.major >= _PREDEFINED_SINCE else mine.name
        able = bypasses.get(applies, False)
        if each.sends_rows and each.row_security and each.forced and not able:
            yield Seen(
                f"row-level security of {each.name} is forced on {applies}, who applies its changes on the {look.side}",
                f"ALTER TABLE {each.name} NO FORCE ROW LEVEL SECURITY, or on the {look.side}: "
                f"ALTER ROLE {ident(applies)} BYPASSRLS",
                each.plain,
            )


@check(
    "origin-not-advanceable",
    Severity.ERROR,
    Place.REVERSE_SUBSCRIBER,
    title="the role that subscribes may advance a replication origin",
    reason="without a durable starting point a crash of the new primary makes the fallback receive what it already "
    "has, and it stops following without a word",
    actor=(ROLE, _MAY_ADVANCE),
)
def _advance(look: Look) -> Iterator[Seen]:
    if not look.actor.value(_MAY_ADVANCE):
        mine = role(look.actor)
        yield Seen(
            f"role {mine.name} may not advance a replication origin on the {look.side}",
            read_write(f"GRANT EXECUTE ON FUNCTION {_ADVANCE} TO {ident(mine.name)}"),
        )


@check(
    "apply-lock-timeout",
    Severity.WARNING,
    Place.SUBSCRIBER,
    title="no lock_timeout is set for whoever applies changes",
    reason="an apply worker that waits for a lock is ended by it and begins its transaction again, for ever",
    actor=(_LOCK_TIMEOUTS, ROLE),
)
def _lock_timeout(look: Look) -> Iterator[Seen]:
    for database, user, value in look.actor.rows(_LOCK_TIMEOUTS):
        whose = f"ROLE {ident(user)}" if user else f"DATABASE {ident(database)}"
        within = f" IN DATABASE {ident(database)}" if user and database else ""
        yield Seen(
            f"lock_timeout is {value} for {user or 'every role'} on the {look.side}",
            f"ALTER {whose}{within} RESET lock_timeout",
        )
