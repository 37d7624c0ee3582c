"""Checks of what is defined in the source: what a copy or replication of tables does not carry is refused or told."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.catalog_sql import OWN_FENCE
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident
from statehub_plan.postgres.checks.questions import TABLES, USER_SCHEMA, not_extension, tables
from statehub_plan.postgres.connect import USER_TABLES

__all__: list[str] = []

_NEAR_THE_END = 0.9
_LARGE_OBJECTS = Query("SELECT count(*), min(oid::text) FROM pg_largeobject_metadata")
_RELATIONS = Query(
    f"""
    SELECT c.oid::regclass::text, c.relkind::text, c.relispopulated, s.srvname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
    WHERE c.relkind IN ('f', 'm') AND {USER_SCHEMA} AND {not_extension("pg_class", "c.oid")} ORDER BY 1
    """
)
_INVALID_INDEXES = Query(
    f"""
    SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text FROM pg_index i
    JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {USER_SCHEMA} ORDER BY 1
    """
)
_TRIGGERS = Query(
    f"""
    SELECT c.oid::regclass::text, t.tgname, t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND t.tgname !~ '{OWN_FENCE}' AND {USER_SCHEMA} ORDER BY 1, 2
    """
)
_EVENT_TRIGGERS = Query(
    f"""
    SELECT e.evtname, e.evtevent FROM pg_event_trigger e
    WHERE e.evtenabled <> 'D' AND {not_extension("pg_event_trigger", "e.oid")} ORDER BY 1
    """
)
_RULES = Query(
    f"""
    SELECT DISTINCT c.oid::regclass::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND {USER_SCHEMA} AND {not_extension("pg_class", "c.oid")} ORDER BY 1
    """
)
_INHERITED = Query(
    f"""
    SELECT i.inhrelid::regclass::text, i.inhparent::regclass::text, c.relispartition,
           c.relispartition AND (
               SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
           IS DISTINCT FROM (
               SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
               WHERE a.attrelid = i.inhparent AND a.attnum > 0 AND NOT a.attisdropped)
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND {USER_SCHEMA} AND {not_extension("pg_class", "c.oid")} ORDER BY 1
    """
)
_SEQUENCES = Query(
    f"""
    SELECT c.oid::regclass::text, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle,
           CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND {USER_SCHEMA} AND {not_extension("pg_class", "c.oid")} ORDER BY 1
    """
)
_COLUMN_GRANTS = Query(
    f"SELECT count(DISTINCT t.oid) FROM ({USER_TABLES}) t JOIN pg_attribute a ON a.attrelid = t.oid::oid "
    "WHERE a.attacl IS NOT NULL AND NOT a.attisdropped"
)
_DATABASE_SETTINGS = Query(
    """
    SELECT DISTINCT split_part(s, '=', 1) FROM pg_db_role_setting x JOIN pg_database d ON d.oid = x.setdatabase,
    unnest(x.setconfig) s WHERE d.datname = current_database() AND s !~ '^default_transaction_read_only=' ORDER BY 1
    """
)
# to_jsonb: a column of a catalog that an older server does not have is null there, and no error.
_BY_MAJOR = Query(
    f"""
    SELECT since, kind, name FROM (
        SELECT 18 AS since, 'virtual generated column' AS kind,
               format('%s.%I', c.oid::regclass, a.attname) AS name, c.oid
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE a.attgenerated = 'v' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
        UNION ALL SELECT x.since, x.kind, format('%I of %s', x.conname, x.conrelid::regclass), x.conrelid FROM (
            SELECT k.conname, k.conrelid, CASE
                WHEN j ->> 'conenforced' = 'false' THEN 18 WHEN j ->> 'conperiod' = 'true' THEN 18
                WHEN k.contype = 'n' AND (NOT k.convalidated OR k.connoinherit) THEN 18
                WHEN k.contype = 'x' AND c.relkind = 'p' THEN 17
                WHEN j ->> 'confdelsetcols' IS NOT NULL THEN 15 END AS since,
            CASE
                WHEN j ->> 'conenforced' = 'false' THEN 'constraint that is not enforced'
                WHEN j ->> 'conperiod' = 'true' THEN 'temporal key'
                WHEN k.contype = 'n' THEN 'NOT NULL that is NOT VALID or NO INHERIT'
                WHEN k.contype = 'x' THEN 'exclusion constraint of a partitioned table'
                ELSE 'foreign key that sets only some columns' END AS kind
            FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid, to_jsonb(k) AS j) x
        WHERE x.since IS NOT NULL
        UNION ALL SELECT 15, 'unique index with NULLS NOT DISTINCT', i.indexrelid::regclass::text, i.indexrelid
        FROM pg_index i WHERE to_jsonb(i) ->> 'indnullsnotdistinct' = 'true'
        UNION ALL SELECT 15, 'view with security_invoker', c.oid::regclass::text, c.oid
        FROM pg_class c WHERE c.relkind = 'v' AND c.reloptions::text ~ 'security_invoker'
    ) found JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND {USER_SCHEMA} AND {not_extension("pg_class", "c.oid")} ORDER BY 1, 2, 3
    """
)


@check(
    "definition-too-new",
    Severity.ERROR,
    Place.SOURCE,
    title="nothing is defined that the target's major version is known not to know",
    reason="loading the schema into an older server ends at the first definition that it does not know",
    here=(_BY_MAJOR,),
)
def _too_new(look: Look) -> Iterator[Seen]:
    for since, kind, name in look.here.rows(_BY_MAJOR):
        if since > look.there.info.major:
            yield Seen(
                f"the {kind} {name} needs PostgreSQL {since}, and the target is {look.there.info.major}",
                f"move to PostgreSQL {since} or newer, or replace the definition on the source",
                name,
            )


@check(
    "large-objects",
    Severity.ERROR,
    Place.SOURCE,
    title="there are no large objects",
    reason="no table lock holds them still and no publication sends them: they would be lost or torn",
    here=(_LARGE_OBJECTS,),
)
def _large(look: Look) -> Iterator[Seen]:
    count, example = look.here.row(_LARGE_OBJECTS)
    if count:
        yield Seen(
            f"the source holds {count} large objects (OID {example} among them), which no table lock holds still",
            "move them into bytea columns; those that nothing refers to: vacuumlo",
        )


@check(
    "unlogged-tables",
    Severity.ERROR,
    Place.SOURCE,
    title="no table is unlogged, or the plan waives it",
    reason="changes of unlogged tables are in no WAL, so nothing of them arrives",
    here=(TABLES,),
    replication_only=True,
)
def _unlogged(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.persistence == "unlogged" and each.kind == "ordinary" and each.plain not in look.move.waived_tables:
            yield Seen(
                f"{each.name} is unlogged",
                f"ALTER TABLE {each.name} SET LOGGED, or name {each.plain} in the plan's compare.waive",
                each.plain,
            )


@check(
    "invalid-indexes",
    Severity.ERROR,
    Place.SOURCE,
    title="every index is valid",
    reason="pg_dump leaves an invalid index out, so that the proof of equal catalogs fails under the hold",
    here=(_INVALID_INDEXES,),
)
def _invalid(look: Look) -> Iterator[Seen]:
    for index, table in look.here.rows(_INVALID_INDEXES):
        yield Seen(
            f"index {index} of {table} is invalid (a CREATE INDEX CONCURRENTLY failed)",
            f"REINDEX INDEX CONCURRENTLY {index}, or DROP INDEX {index}",
            index,
        )


@check(
    "triggers-on-apply",
    Severity.ERROR,
    Place.SOURCE,
    title="no trigger is ENABLE ALWAYS or ENABLE REPLICA",
    reason="such a trigger fires a second time where changes are applied: rows are doubled, mail is sent twice",
    here=(_TRIGGERS,),
    replication_only=True,
)
def _triggers(look: Look) -> Iterator[Seen]:
    for table, name, enabled in look.here.rows(_TRIGGERS):
        yield Seen(
            f"trigger {name} of {table} is ENABLE {'ALWAYS' if enabled == 'A' else 'REPLICA'}",
            f"ALTER TABLE {table} ENABLE TRIGGER {ident(name)}",
            f"{table}.{name}",
        )


@check(
    "event-triggers",
    Severity.WARNING,
    Place.EACH,
    title="no event trigger interferes with the tool's DDL",
    reason="an event trigger can refuse or undo what the tool creates, on the source in the middle of the day",
    here=(_EVENT_TRIGGERS,),
)
def _event_triggers(look: Look) -> Iterator[Seen]:
    for name, event in look.here.rows(_EVENT_TRIGGERS):
        yield Seen(
            f"event trigger {name} of the {look.side} fires on {event}",
            f"make sure that it lets the tool's statements pass, or: ALTER EVENT TRIGGER {ident(name)} DISABLE",
            name,
        )


@check(
    "rules",
    Severity.INFO,
    Place.SOURCE,
    title="rules of tables are carried",
    reason="rules rewrite statements, not rows: what they did arrives as rows, and they do not run again",
    here=(_RULES,),
)
def _rules(look: Look) -> Iterator[Seen]:
    yield from _told(
        look, _RULES, "rules of {} are carried as definitions; nothing that is copied or applied runs them"
    )


@check(
    "foreign-tables",
    Severity.WARNING,
    Place.SOURCE,
    title="servers of foreign tables are reached from the target too",
    reason="foreign tables hold no rows: what they show comes from elsewhere, through another firewall after the move",
    here=(_RELATIONS,),
)
def _foreign(look: Look) -> Iterator[Seen]:
    servers: dict[str, list[str]] = {}
    for name, kind, _, server in look.here.rows(_RELATIONS):
        if kind == "f":
            servers.setdefault(server, []).append(name)
    for server, names in sorted(servers.items()):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Seen(
            f"foreign table {names[0]}{more} shows rows of server {server}; only definitions are carried",
            f"let the target's host reach what server {ident(server)} names, and create its user mappings there",
            server,
        )


@check(
    "materialized-views",
    Severity.INFO,
    Place.SOURCE,
    title="materialized views are refreshed on the target",
    reason="their rows are computed anew on the target, so they may show other rows than before",
    here=(_RELATIONS,),
)
def _materialized(look: Look) -> Iterator[Seen]:
    names = [name for name, kind, populated, _ in look.here.rows(_RELATIONS) if kind == "m" and populated]
    if names:
        yield Seen(f"materialized views {_listed(names)} are refreshed on the target")


@check(
    "inheritance",
    Severity.INFO,
    Place.SOURCE,
    title="inheritance trees are carried table by table",
    reason="a parent's own rows and each child's are separate; nothing is sent twice",
    here=(_INHERITED,),
)
def _inheritance(look: Look) -> Iterator[Seen]:
    names = [name for name, _, partition, _ in look.here.rows(_INHERITED) if not partition]
    if names:
        yield Seen(f"{_listed(names)} inherit from other tables and are carried each by itself")


@check(
    "partitions",
    Severity.INFO,
    Place.SOURCE,
    title="partitions are carried one by one",
    reason="a partition that is attached or created while the target follows is DDL, and is not sent",
    here=(_INHERITED,),
)
def _partitions(look: Look) -> Iterator[Seen]:
    count = sum(1 for _, _, partition, _ in look.here.rows(_INHERITED) if partition)
    if count:
        yield Seen(f"{count} partitions are carried one by one; let no new one be made while the target follows")


@check(
    "partition-column-order",
    Severity.INFO,
    Place.SOURCE,
    title="partitions with columns in another order are carried by name",
    reason="columns are matched by name, so nothing is mixed up; positions in row literals differ as they do now",
    here=(_INHERITED,),
)
def _order(look: Look) -> Iterator[Seen]:
    for name, parent, _, differs in look.here.rows(_INHERITED):
        if differs:
            yield Seen(f"partition {name} has its columns in another order than {parent}", subject=name)


@check(
    "generated-columns",
    Severity.INFO,
    Place.SOURCE,
    title="generated columns are computed on the target",
    reason="their values are not carried: a function that answers otherwise there (another locale) makes them differ",
    here=(TABLES,),
)
def _generated(look: Look) -> Iterator[Seen]:
    names = [each.name for each in tables(look.here) if each.generated]
    if names:
        yield Seen(f"generated columns of {_listed(names)} are computed on the target, and compared")


@check(
    "sequences",
    Severity.INFO,
    Place.SOURCE,
    title="sequences are carried with their values",
    reason="replication sends no sequence: the tool sets each of them under the hold, owned, identity or alone",
    here=(_SEQUENCES,),
)
def _sequences(look: Look) -> Iterator[Seen]:
    count = len(look.here.rows(_SEQUENCES))
    if count:
        yield Seen(f"{count} sequences are set to their real values under the hold")


@check(
    "sequence-near-end",
    Severity.WARNING,
    Place.SOURCE,
    title=f"no sequence has used {_NEAR_THE_END:.0%} of its values",
    reason="nextval fails when it is at its end: better found out before a move than taken for its fault afterwards",
    here=(_SEQUENCES,),
)
def _near_end(look: Look) -> Iterator[Seen]:
    for name, increment, lowest, highest, cycles, last in look.here.rows(_SEQUENCES):
        if last is None or cycles:
            continue
        used = (last - lowest if increment > 0 else highest - last) / max(1, highest - lowest)
        if used >= _NEAR_THE_END:
            yield Seen(
                f"sequence {name} has used {used:.0%} of its values",
                f"make its column and itself bigint: ALTER SEQUENCE {name} AS bigint, or raise its MAXVALUE",
                name,
            )


@check(
    "row-security",
    Severity.INFO,
    Place.SOURCE,
    title="row-level security is carried",
    reason="policies travel with their tables; the roles that they name must exist on the target",
    here=(TABLES,),
)
def _row_security(look: Look) -> Iterator[Seen]:
    names = [each.name for each in tables(look.here) if each.row_security]
    if names:
        yield Seen(f"row-level security of {_listed(names)} is carried")


@check(
    "column-privileges",
    Severity.INFO,
    Place.SOURCE,
    title="privileges on columns are carried",
    reason="grants on single columns travel with their tables and are compared",
    here=(_COLUMN_GRANTS,),
)
def _column_privileges(look: Look) -> Iterator[Seen]:
    count = look.here.value(_COLUMN_GRANTS)
    if count:
        yield Seen(f"privileges on single columns of {count} tables are carried")


@check(
    "database-settings",
    Severity.INFO,
    Place.SOURCE,
    title="settings of the database are carried",
    reason="ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET belong to the database; settings of roles do not",
    here=(_DATABASE_SETTINGS,),
)
def _database_settings(look: Look) -> Iterator[Seen]:
    yield from _told(look, _DATABASE_SETTINGS, "the database's settings {} are carried")


def _told(look: Look, query: Query, text: str) -> Iterator[Seen]:
    names = [str(row[0]) for row in look.here.rows(query)]
    if names:
        yield Seen(text.format(_listed(names)))


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
