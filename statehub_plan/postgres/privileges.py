"""What the tool's role must be allowed to do, checked before anything is frozen; no superuser is assumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import USER_TABLES, Connection


class Problem(Frozen):
    """Something that stands in the way, and what to do about it."""

    code: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.what}; {self.remedy}"


def check_privileges(connection: Connection, *, app_roles: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Everything that holding, freezing and opening this database needs and this role lacks, each with the GRANT.

    Needed: ownership (or inherited membership in the owner) of the database, every user table and every sequence on
    its own; CREATE on the database or ownership of the schema statehub_plan; for each role that has a session now and
    each of `app_roles`, membership in it or both pg_signal_backend and pg_read_all_stats. Reads catalogs only.
    """
    row = connection.execute(
        "SELECT rolsuper, current_user::text, current_database()::text FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is None or row[0]:
        return ()
    _, role, database = row
    return (
        *_ownership(connection, role, database),
        *_relations(connection, role),
        *_sessions(connection, role, app_roles),
    )


def require_privileges(connection: Connection, *, app_roles: Sequence[str] = ()) -> None:
    """StatehubError `privilege-missing` that lists every problem of `check_privileges`."""
    problems = check_privileges(connection, app_roles=app_roles)
    if problems:
        raise StatehubError(
            code="privilege-missing",
            what=f"the tool's role lacks {len(problems)} privilege(s); nothing was touched",
            hint="run the statements above as a superuser (or as the role that may grant them), then run again",
            details=tuple(str(problem) for problem in problems),
        )


def _ownership(connection: Connection, role: str, database: str) -> Iterator[Problem]:
    row = connection.execute(
        "SELECT pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba), has_database_privilege(d.oid, 'CREATE'), "
        "(SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'statehub_plan'), "
        "(SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'statehub_plan'), "
        "EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql') "
        "FROM pg_database d WHERE d.datname = current_database()"
    ).fetchone()
    if row is None:
        return
    owns_database, owner, may_create, schema_owner, owns_schema, plpgsql = row
    if not owns_database:
        yield Problem(
            code="database-not-owned",
            what=f"role {role} may not set database {database}'s read-only default, its owner {owner} may",
            remedy=_grant_role(connection, owner, role),
        )
    if schema_owner is None and not may_create:
        statement = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(database), sql.Identifier(role))
        yield Problem(
            code="schema-not-creatable",
            what=f"role {role} may not create the schema statehub_plan in database {database}",
            remedy=statement.as_string(connection),
        )
    if schema_owner is not None and not owns_schema:
        yield Problem(
            code="schema-not-owned",
            what=f"the schema statehub_plan belongs to {schema_owner}, not to {role}",
            remedy=_grant_role(connection, schema_owner, role),
        )
    if not plpgsql:
        yield Problem(
            code="plpgsql-missing",
            what=f"database {database} lacks the language plpgsql, in which the fence is written",
            remedy="CREATE EXTENSION plpgsql",
        )


def _relations(connection: Connection, role: str) -> Iterator[Problem]:
    rows = connection.execute(
        f"""
        WITH relation AS (
            SELECT oid::oid AS oid, 'table' AS kind FROM ({USER_TABLES}) AS t
            UNION ALL SELECT oid, 'sequence' FROM ({LOCKABLE_SEQUENCES}) AS s)
        SELECT pg_get_userbyid(c.relowner), r.kind, count(*), min(r.oid::regclass::text)
        FROM relation r JOIN pg_class c ON c.oid = r.oid
        WHERE NOT pg_has_role(c.relowner, 'USAGE')
        GROUP BY 1, 2 ORDER BY 1, 2 DESC
        """
    ).fetchall()
    for owner, kind, count, example in rows:
        yield Problem(
            code=f"{kind}-not-owned",
            what=f"{count} {kind}(s), {example} among them, belong to {owner}, not to {role}",
            remedy=_grant_role(connection, owner, role),
        )
    for (table,) in connection.execute(
        f"SELECT oid::oid::regclass::text FROM ({USER_TABLES}) AS t WHERE pg_has_role(owner, 'USAGE') "
        "AND NOT has_table_privilege(oid::oid, 'DELETE') ORDER BY 1"
    ).fetchall():
        statement = sql.SQL("GRANT DELETE ON {} TO {}").format(sql.SQL(table), sql.Identifier(role))
        yield Problem(
            code="table-not-lockable",
            what=f"role {role} may not lock {table} against writers: its own DELETE was revoked",
            remedy=statement.as_string(connection),
        )


def _sessions(connection: Connection, role: str, app_roles: Sequence[str]) -> Iterator[Problem]:
    rows = connection.execute(
        """
        SELECT r.rolname FROM pg_roles r
        WHERE (r.rolname = ANY(%s) OR r.oid IN (
            SELECT usesysid FROM pg_stat_activity WHERE datname = current_database()
            AND pid NOT IN (SELECT pid FROM pg_stat_get_wal_senders())))
          AND NOT r.rolsuper AND NOT pg_has_role(r.oid, 'USAGE')
          AND NOT (pg_has_role('pg_signal_backend', 'USAGE') AND pg_has_role('pg_read_all_stats', 'USAGE'))
        ORDER BY 1
        """,
        [list(app_roles)],
    ).fetchall()
    if rows:
        yield Problem(
            code="sessions-not-endable",
            what=f"role {role} may not see and end sessions of {', '.join(name for (name,) in rows)}",
            remedy=sql.SQL("GRANT pg_signal_backend, pg_read_all_stats TO {}")
            .format(sql.Identifier(role))
            .as_string(connection),
        )


def _grant_role(connection: Connection, owner: str, role: str) -> str:
    return sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(role)).as_string(connection)


LOCKABLE_SEQUENCES = """
SELECT n.nspname, c.relname, c.oid, d.refobjid AS owner_table, t.relname AS owner_name, tn.nspname AS owner_schema,
       a.attname AS owner_column
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
     AND d.refclassid = d.classid AND d.deptype = 'a' AND d.refobjsubid > 0
LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname <> 'statehub_plan' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend i
      WHERE i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objid = c.oid AND i.deptype IN ('i', 'e'))
"""
"""Sequences that can be locked against nextval: all but those of identity columns and of extensions."""
