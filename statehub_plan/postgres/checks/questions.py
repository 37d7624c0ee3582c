"""Questions that several checks share, and their answers with names instead of positions."""

from __future__ import annotations

from typing import NamedTuple

from statehub_plan.postgres.checks.declare import Answers, Query, Unanswered
from statehub_plan.postgres.connect import USER_TABLES
from statehub_plan.postgres.names import sql_qualified

__all__ = [
    "IDENTITY",
    "OWN",
    "ROLE",
    "SETTINGS",
    "TABLES",
    "USER_SCHEMA",
    "RoleRow",
    "TableRow",
    "integer",
    "not_extension",
    "role",
    "setting",
    "tables",
]

OWN = "^statehub_plan"
"""Regular expression of names that belong to the tool itself."""

USER_SCHEMA = "(n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'statehub_plan'))"


def not_extension(catalog: str, oid: str) -> str:
    """SQL: the object is no member of an extension."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend member WHERE member.classid = '{catalog}'::regclass "
        f"AND member.objid = {oid} AND member.deptype = 'e')"
    )


IDENTITY = Query("SELECT s.system_identifier::text, d.oid::int8 FROM pg_control_system() s, pg_database d "
                 "WHERE d.datname = current_database()")  # fmt: skip

SETTINGS = Query("SELECT name, setting FROM pg_settings")


def setting(answers: Answers, name: str) -> str | None:
    """A setting in its base unit as the server writes it; None where the server has none or hides it."""
    return next((value for known, value in answers.rows(SETTINGS) if known == name), None)


def integer(answers: Answers, name: str) -> int:
    """A whole number among the settings."""
    value = setting(answers, name)
    if value is None:
        raise Unanswered(f"the server does not show {name}")
    return int(value)


class RoleRow(NamedTuple):
    """The session's role."""

    name: str
    superuser: bool
    replication: bool
    bypasses_row_security: bool
    may_create_in_database: bool
    database: str


ROLE = Query(
    "SELECT r.rolname, r.rolsuper, r.rolreplication, r.rolbypassrls, "
    "has_database_privilege(current_database(), 'CREATE'), current_database() "
    "FROM pg_roles r WHERE r.rolname = current_user"
)


def role(answers: Answers) -> RoleRow:
    """The role of the session that answered."""
    return RoleRow(*answers.row(ROLE))


class TableRow(NamedTuple):
    """One user table. `identity`: replica identity's letter; `name` is quoted for statements, `plain` for people and
    for waivers; `candidate` an index that could be its identity."""

    name: str
    plain: str
    kind: str
    persistence: str
    owner: str
    identity: str
    key: bool
    deferrable_key: bool
    identity_index: bool
    candidate: str | None
    generated_in_index: bool
    generated: bool
    row_security: bool
    forced: bool

    @property
    def sends_rows(self) -> bool:
        """Whether its changes travel by replication: a permanent one that holds rows itself."""
        return self.kind == "ordinary" and self.persistence == "permanent"

    @property
    def has_identity(self) -> bool:
        """Whether the server finds something to identify the old row of an update by."""
        return {"d": self.key, "i": self.identity_index, "f": True}.get(self.identity, False)


# A replica identity index must be unique, not partial, not deferrable, without expressions, and all its columns NOT
# NULL (manual, ALTER TABLE, REPLICA IDENTITY). A primary key serves as the default one only if it is not deferrable.
TABLES = Query(
    f"""
    WITH t AS MATERIALIZED ({USER_TABLES}),
    generated AS (
        SELECT a.attrelid, array_agg(a.attnum) AS columns FROM pg_attribute a
        WHERE a.attgenerated <> '' AND NOT a.attisdropped AND a.attrelid IN (SELECT oid::oid FROM t)
        GROUP BY a.attrelid),
    keys AS (
        SELECT i.indrelid, bool_or(i.indisprimary AND i.indimmediate AND i.indisvalid) AS key,
               bool_or(i.indisprimary AND NOT i.indimmediate) AS deferrable_key,
               bool_or(i.indisreplident AND i.indisvalid) AS identity_index,
               coalesce(bool_or(CASE r.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
                                AND g.columns && k.columns), false) AS generated,
               min(x.relname) FILTER (WHERE NOT i.indisprimary AND i.indisunique AND i.indimmediate AND i.indisvalid
                   AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT coalesce(g.columns && k.columns, false)
                   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid
                                   AND a.attnum = ANY (k.columns) AND NOT a.attnotnull)) AS candidate
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class r ON r.oid = i.indrelid
        LEFT JOIN generated g ON g.attrelid = i.indrelid
        CROSS JOIN LATERAL (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k(columns)
        WHERE i.indisunique AND i.indrelid IN (SELECT oid::oid FROM t)
        GROUP BY i.indrelid)
    SELECT c.oid::regclass::text, {sql_qualified("t.nspname", "t.relname")}, t.kind, t.persistence, t.owner::text,
           c.relreplident, coalesce(k.key, false), coalesce(k.deferrable_key, false),
           coalesce(k.identity_index, false), k.candidate, coalesce(k.generated, false), g.columns IS NOT NULL,
           c.relrowsecurity, c.relforcerowsecurity
    FROM t JOIN pg_class c ON c.oid = t.oid::oid LEFT JOIN keys k ON k.indrelid = c.oid
    LEFT JOIN generated g ON g.attrelid = c.oid
    ORDER BY 2
    """
)


def tables(answers: Answers) -> list[TableRow]:
    """Every user table, sorted by name."""
    return [TableRow(*row) for row in answers.rows(TABLES)]
