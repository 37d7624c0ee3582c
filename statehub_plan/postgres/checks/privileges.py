"""Checks of what the tool's role may do; no superuser is assumed, and each lack comes with its GRANT."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident
from statehub_plan.postgres.checks.questions import ROLE, role
from statehub_plan.postgres.connect import USER_TABLES
from statehub_plan.postgres.privileges import LOCKABLE_SEQUENCES

__all__: list[str] = []

_OWNERSHIP = Query(
    "SELECT pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba), has_database_privilege(d.oid, 'CREATE'), "
    "(SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'statehub_plan'), "
    "(SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'statehub_plan'), "
    "EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql') "
    "FROM pg_database d WHERE d.datname = current_database()"
)
_NOT_OWNED = Query(
    f"""
    WITH relation AS (
        SELECT oid::oid AS oid, 'table' AS kind FROM ({USER_TABLES}) AS t
        UNION ALL SELECT oid, 'sequence' FROM ({LOCKABLE_SEQUENCES}) AS s)
    SELECT r.kind, pg_get_userbyid(c.relowner), count(*), min(r.oid::regclass::text)
    FROM relation r JOIN pg_class c ON c.oid = r.oid
    WHERE NOT pg_has_role(c.relowner, 'USAGE')
    GROUP BY 1, 2 ORDER BY 1, 2
    """
)
_NOT_LOCKABLE = Query(
    f"SELECT oid::oid::regclass::text FROM ({USER_TABLES}) AS t WHERE pg_has_role(owner, 'USAGE') "
    "AND NOT has_table_privilege(oid::oid, 'DELETE') ORDER BY 1"
)
_NOT_ENDABLE = Query(
    """
    SELECT r.rolname FROM pg_roles r
    WHERE (r.rolname = ANY ({app_roles}) OR r.oid IN (
        SELECT usesysid FROM pg_stat_activity WHERE datname = current_database()
        AND pid NOT IN (SELECT pid FROM pg_stat_get_wal_senders())))
      AND NOT r.rolsuper AND NOT pg_has_role(r.oid, 'USAGE')
      AND NOT (pg_has_role('pg_signal_backend', 'USAGE') AND pg_has_role('pg_read_all_stats', 'USAGE'))
    ORDER BY 1
    """,
    ("app_roles",),
)
_UNREADABLE = Query(
    f"""
    SELECT t.oid::oid::regclass::text, t.nspname, has_table_privilege(t.oid::oid, 'SELECT')
           AND has_schema_privilege(t.nspname, 'USAGE')
    FROM ({USER_TABLES}) t WHERE NOT (has_table_privilege(t.oid::oid, 'SELECT')
          AND has_schema_privilege(t.nspname, 'USAGE')) OR row_security_active(t.oid::oid)
    ORDER BY 1
    """
)


def _grant(look: Look, owner: str) -> str:
    return f"GRANT {ident(owner)} TO {ident(role(look.here).name)}"


@check(
    "database-not-owned",
    Severity.ERROR,
    Place.EACH,
    title="the tool's role owns the database, or is a member of its owner",
    reason="only its owner sets the read-only default that is part of a freeze",
    here=(ROLE, _OWNERSHIP),
)
def _database(look: Look) -> Iterator[Seen]:
    owns, owner, *_ = look.here.row(_OWNERSHIP)
    mine = role(look.here)
    if not mine.superuser and not owns:
        yield Seen(
            f"role {mine.name} may not set database {mine.database}'s read-only default, its owner {owner} may",
            _grant(look, owner),
        )


@check(
    "schema-not-creatable",
    Severity.ERROR,
    Place.EACH,
    title="the tool's role may create its schema",
    reason="fence, decision register and state are kept in it",
    here=(ROLE, _OWNERSHIP),
)
def _creatable(look: Look) -> Iterator[Seen]:
    _, _, may_create, schema_owner, *_ = look.here.row(_OWNERSHIP)
    mine = role(look.here)
    if not mine.superuser and schema_owner is None and not may_create:
        yield Seen(
            f"role {mine.name} may not create the schema statehub_plan in database {mine.database}",
            f"GRANT CREATE ON DATABASE {ident(mine.database)} TO {ident(mine.name)}",
        )


@check(
    "schema-not-owned",
    Severity.ERROR,
    Place.EACH,
    title="the tool's schema belongs to the tool's role",
    reason="another role's fence can be neither raised nor lowered",
    here=(ROLE, _OWNERSHIP),
)
def _schema(look: Look) -> Iterator[Seen]:
    _, _, _, schema_owner, owns, _ = look.here.row(_OWNERSHIP)
    mine = role(look.here)
    if not mine.superuser and schema_owner is not None and not owns:
        yield Seen(
            f"the schema statehub_plan belongs to {schema_owner}, not to {mine.name}", _grant(look, schema_owner)
        )


@check(
    "plpgsql-missing",
    Severity.ERROR,
    Place.EACH,
    title="the language plpgsql exists",
    reason="the fence is written in it",
    here=(_OWNERSHIP, ROLE),
)
def _plpgsql(look: Look) -> Iterator[Seen]:
    if not look.here.row(_OWNERSHIP)[-1]:
        yield Seen(
            f"database {role(look.here).database} lacks the language plpgsql, in which the fence is written",
            "CREATE EXTENSION plpgsql",
        )


def _owned(kind: str, reason: str) -> None:
    @check(
        f"{kind}-not-owned",
        Severity.ERROR,
        Place.EACH,
        title=f"the tool's role owns every {kind}, or is a member of its owner",
        reason=reason,
        here=(ROLE, _NOT_OWNED),
    )
    def _not_owned(look: Look) -> Iterator[Seen]:
        for what, owner, count, example in look.here.rows(_NOT_OWNED):
            if what == kind:
                yield Seen(
                    f"{count} {kind}(s), {example} among them, belong to {owner}, not to {role(look.here).name}",
                    _grant(look, owner),
                    example,
                )


_owned("table", "only its owner puts a fence on a table and publishes it")
_owned("sequence", "only its owner locks a sequence against nextval, and sets it")


@check(
    "table-not-lockable",
    Severity.ERROR,
    Place.EACH,
    title="the tool's role may lock every table against writers",
    reason="an owner that revoked its own rights may not lock its own table, so a hold would have a hole",
    here=(ROLE, _NOT_LOCKABLE),
)
def _lockable(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    for (table,) in look.here.rows(_NOT_LOCKABLE):
        yield Seen(
            f"role {mine.name} may not lock {table} against writers: its own DELETE was revoked",
            f"GRANT DELETE ON {table} TO {ident(mine.name)}",
            table,
        )


@check(
    "sessions-not-endable",
    Severity.ERROR,
    Place.EACH,
    title="the tool's role may see and end the service's sessions",
    reason="a session that cannot be ended keeps its locks through a hold and its snapshot through a freeze",
    here=(ROLE, _NOT_ENDABLE),
)
def _endable(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    names = [name for (name,) in look.here.rows(_NOT_ENDABLE)]
    if names and not mine.superuser:
        yield Seen(
            f"role {mine.name} may not see and end sessions of {', '.join(names)}",
            f"GRANT pg_signal_backend, pg_monitor TO {ident(mine.name)}",
        )


@check(
    "table-unreadable",
    Severity.ERROR,
    Place.SOURCE,
    title="the tool's role reads every row of every table",
    reason="rows that it may not see would be missing from the copy, and from the proof that nothing is missing",
    here=(ROLE, _UNREADABLE),
)
def _unreadable(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    for table, schema, readable in look.here.rows(_UNREADABLE):
        if readable:
            what = f"row-level security hides rows of {table} from the tool's role {mine.name}"
            remedy = f"let {mine.name} be a member of its owner (without FORCE), or give it BYPASSRLS"
        else:
            what = f"the tool's role {mine.name} may not read {table}"
            remedy = f"GRANT USAGE ON SCHEMA {ident(schema)} TO {ident(mine.name)}; "
            remedy += f"GRANT SELECT ON {table} TO {ident(mine.name)}"
        yield Seen(what, remedy, table)
