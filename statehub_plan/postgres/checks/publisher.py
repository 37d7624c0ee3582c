"""Checks of the side that sends changes: WAL, slots, senders, and who else sends or receives there."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.catalog_sql import OWN_PUBLICATIONS
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident, literal
from statehub_plan.postgres.checks.questions import OWN, ROLE, SETTINGS, integer, role, setting

__all__: list[str] = []

_SENDERS_NEEDED = 2  # one that streams, one that creates the slot and exports its snapshot
_SLOTS = Query(
    "SELECT slot_name, slot_type, plugin, active, database = current_database(), wal_status, "
    "CASE WHEN NOT pg_is_in_recovery() THEN (pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576)::int8 END "
    f"FROM pg_replication_slots WHERE slot_name !~ '{OWN}' AND NOT temporary ORDER BY slot_name"
)
_SLOTS_TAKEN = Query(f"SELECT count(*), count(*) FILTER (WHERE slot_name ~ '{OWN}') FROM pg_replication_slots")
_SENDERS = Query(
    "SELECT count(*), (SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_get_wal_senders() w "
    f"ON w.pid = s.active_pid WHERE s.slot_name ~ '{OWN}') FROM pg_stat_get_wal_senders()"
)
_ROLES = Query("SELECT rolname, rolcanlogin AND (rolreplication OR rolsuper) FROM pg_roles")
_PUBLICATIONS = Query(
    f"SELECT pubname, puballtables FROM pg_publication WHERE pubname !~ '{OWN_PUBLICATIONS}' ORDER BY pubname"
)


@check(
    "wal-level",
    Severity.ERROR,
    Place.PUBLISHER,
    title="wal_level is logical",
    reason="without it no logical slot can be made, and changing it takes a restart, which nobody wants during a move",
    here=(SETTINGS,),
)
def _wal_level(look: Look) -> Iterator[Seen]:
    level = setting(look.here, "wal_level")
    if level != "logical":
        yield Seen(
            f"wal_level is {level} on the {look.side}",
            "ALTER SYSTEM SET wal_level = logical, then restart the server",
        )


@check(
    "replication-slots-full",
    Severity.ERROR,
    Place.PUBLISHER,
    title="replication slots are free",
    reason="following needs one, `compare.underHold: changes` another; raising max_replication_slots takes a restart",
    here=(SETTINGS, _SLOTS_TAKEN),
)
def _slots_full(look: Look) -> Iterator[Seen]:
    most = integer(look.here, "max_replication_slots")
    taken, own = look.here.row(_SLOTS_TAKEN)
    needed = 2 if look.move.reads_changes else 1
    if most - taken + own < needed:
        yield Seen(
            f"{taken - own} of {most} replication slots of the {look.side} are taken, and {needed} are needed",
            f"drop one that nobody needs, or: ALTER SYSTEM SET max_replication_slots = {taken - own + needed + 2}, "
            "then restart",
        )


@check(
    "wal-senders-full",
    Severity.ERROR,
    Place.PUBLISHER,
    title="WAL senders are free",
    reason="following needs one for as long as it lasts and another while it begins",
    here=(SETTINGS, _SENDERS),
)
def _senders_full(look: Look) -> Iterator[Seen]:
    most = integer(look.here, "max_wal_senders")
    running, own = look.here.row(_SENDERS)
    if most - running + own < _SENDERS_NEEDED:
        yield Seen(
            f"{running} of {most} WAL senders of the {look.side} are in use, and {_SENDERS_NEEDED} are needed",
            f"ALTER SYSTEM SET max_wal_senders = {running + _SENDERS_NEEDED + 2}, then restart the server",
        )


@check(
    "slot-wal-unlimited",
    Severity.WARNING,
    Place.PUBLISHER,
    title="max_slot_wal_keep_size is limited",
    reason="a slot whose receiver is gone keeps WAL until the sender's disk is full and it stops accepting writes",
    here=(SETTINGS,),
)
def _unlimited(look: Look) -> Iterator[Seen]:
    if integer(look.here, "max_slot_wal_keep_size") < 0:
        yield Seen(
            f"slots may keep any amount of WAL on the {look.side}",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (what its disk can spare); SELECT pg_reload_conf()",
        )


@check(
    "slot-wal-small",
    Severity.WARNING,
    Place.PUBLISHER,
    title="max_slot_wal_keep_size is above max_wal_size",
    reason="one burst of writes or a short interruption invalidates the slot, and following has to begin anew",
    here=(SETTINGS,),
)
def _small(look: Look) -> Iterator[Seen]:
    most, checkpoint = integer(look.here, "max_slot_wal_keep_size"), integer(look.here, "max_wal_size")
    if 0 <= most < checkpoint:
        yield Seen(
            f"slots of the {look.side} may keep {most} MB of WAL, less than max_wal_size ({checkpoint} MB)",
            f"ALTER SYSTEM SET max_slot_wal_keep_size = '{4 * checkpoint}MB'; SELECT pg_reload_conf()",
        )


@check(
    "slot-idle-timeout",
    Severity.WARNING,
    Place.PUBLISHER,
    title="idle slots are not invalidated by a clock",
    reason="a receiver that is down for longer than idle_replication_slot_timeout has to begin anew",
    here=(SETTINGS,),
)
def _idle_timeout(look: Look) -> Iterator[Seen]:
    limit = setting(look.here, "idle_replication_slot_timeout")  # since PostgreSQL 18
    if limit not in (None, "0"):
        yield Seen(
            f"idle_replication_slot_timeout is {limit} s on the {look.side}",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf()",
        )


@check(
    "wal-sender-timeout-off",
    Severity.WARNING,
    Place.PUBLISHER,
    title="wal_sender_timeout is on",
    reason="a receiver whose host vanished is never noticed: its slot stays active and cannot be taken over",
    here=(SETTINGS,),
)
def _sender_timeout(look: Look) -> Iterator[Seen]:
    if integer(look.here, "wal_sender_timeout") == 0:
        yield Seen(
            f"wal_sender_timeout is 0 on the {look.side}",
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()",
        )


@check(
    "slot-forgotten",
    Severity.WARNING,
    Place.EACH,
    title="no slot that nobody reads keeps WAL",
    reason="an orphaned slot fills the disk with WAL, sooner while the database is filled or followed",
    here=(_SLOTS,),
)
def _forgotten(look: Look) -> Iterator[Seen]:
    for name, _, _, active, _, status, retained_mb in look.here.rows(_SLOTS):
        if not active:
            kept = f", keeping {retained_mb} MB of WAL" if retained_mb else ""
            yield Seen(
                f"nobody reads replication slot {name} of the {look.side} (WAL {status}{kept})",
                f"if its reader will not come back: SELECT pg_drop_replication_slot({literal(name)})",
                name,
            )


@check(
    "logical-consumers",
    Severity.WARNING,
    Place.SOURCE,
    title="nobody else reads the source's changes",
    reason="slots do not move with the primary: a consumer (a search index, an audit, another database) goes on "
    "reading the old side and silently receives nothing any more",
    here=(_SLOTS,),
)
def _consumers(look: Look) -> Iterator[Seen]:
    for name, kind, plugin, active, here, _, _ in look.here.rows(_SLOTS):
        if kind == "logical" and here and active:
            yield Seen(
                f"a consumer reads the source's changes through slot {name} (plugin {plugin})",
                "plan its move: stop it under the hold, make its slot on the target, point it there",
                name,
            )


@check(
    "publication-of-all-tables",
    Severity.WARNING,
    Place.SOURCE,
    title="no publication FOR ALL TABLES exists",
    reason="it publishes the tool's own tables too, and its subscribers stop on tables that they do not have",
    here=(_PUBLICATIONS,),
)
def _all_tables(look: Look) -> Iterator[Seen]:
    for name, everything in look.here.rows(_PUBLICATIONS):
        if everything:
            yield Seen(
                f"publication {name} is FOR ALL TABLES",
                f"let its subscribers CREATE the schema statehub_plan too, or replace {ident(name)} by one that lists "
                "its tables",
                name,
            )


@check(
    "publications",
    Severity.INFO,
    Place.SOURCE,
    title="publications of the source are carried",
    reason="publications travel as definitions; their subscribers must be pointed at the new primary by hand",
    here=(_PUBLICATIONS,),
)
def _publications(look: Look) -> Iterator[Seen]:
    names = [name for name, _ in look.here.rows(_PUBLICATIONS)]
    if names:
        yield Seen(f"publications {', '.join(names)} are carried; their subscribers are not told")


@check(
    "replication-privilege",
    Severity.ERROR,
    Place.PUBLISHER,
    title="the tool's role may replicate",
    reason="only a role with REPLICATION creates a slot and exports its snapshot",
    here=(ROLE,),
)
def _replication(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    if not (mine.superuser or mine.replication):
        yield Seen(
            f"role {mine.name} may not create a replication slot on the {look.side}",
            f"ALTER ROLE {ident(mine.name)} REPLICATION",
        )


@check(
    "replication-login",
    Severity.ERROR,
    Place.PUBLISHER,
    title="the role by which the other server comes here may log in and replicate",
    reason="a subscription is made and never streams: its server is refused again and again, in a log nobody reads",
    here=(ROLE, _ROLES),
)
def _login(look: Look) -> Iterator[Seen]:
    name = look.here.info.replication_user
    if name in (None, role(look.here).name):
        return
    able = next((may for known, may in look.here.rows(_ROLES) if known == name), None)
    if able is None:
        remedy = f"CREATE ROLE {ident(str(name))} LOGIN REPLICATION (with the password of database.replicationDsn)"
        yield Seen(f"role {name}, named by replicationDsn, does not exist on the {look.side}", remedy, str(name))
    elif not able:
        yield Seen(
            f"role {name}, by which the other server comes to the {look.side}, may not log in and replicate",
            f"ALTER ROLE {ident(str(name))} LOGIN REPLICATION",
            str(name),
        )


@check(
    "publication-not-creatable",
    Severity.ERROR,
    Place.PUBLISHER,
    title="the tool's role may create a publication",
    reason="CREATE PUBLICATION takes CREATE on the database besides ownership of the tables",
    here=(ROLE,),
)
def _publication(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    if not mine.may_create_in_database:
        yield Seen(
            f"role {mine.name} may not create a publication in database {mine.database} of the {look.side}",
            f"GRANT CREATE ON DATABASE {ident(mine.database)} TO {ident(mine.name)}",
        )
