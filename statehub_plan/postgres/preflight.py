"""What can be known to go wrong with moving a schema and its rows, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from statehub_plan.components import PgTool, client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import USER_TABLES, Connection
from statehub_plan.postgres.contents import described, user_objects
from statehub_plan.postgres.privileges import Problem
from statehub_plan.postgres.proof import fence_status
from statehub_plan.postgres.register import read_decisions
from statehub_plan.postgres.state import identity, read_state
from statehub_plan.postgres.tools import major_of

__all__ = ["left_by_undecided_transfer", "preflight_schema"]

_TOOLS: tuple[PgTool, ...] = ("pg_dump", "pg_restore")
_LOCKS_PER_TABLE = 5  # heap, TOAST and its index, primary key, one more
_NAMED = 10


def preflight_schema(source: Connection, target: Connection, *, replace: bool = False) -> tuple[Problem, ...]:
    """Everything that stands in the way of a copy from `source` to `target`, each with its remedy; reads catalogs only.

    `replace`: what the target holds may be replaced. What only a trial can tell (features that an older target lacks,
    for example) is found by `prepare_schema`, which loads the schema before anything is held.
    """
    if identity(source) == identity(target):
        return (_same_database(source),)
    return (
        *_standby(source, "source"),
        *_standby(target, "target"),
        *_tools(source, target),
        *_encoding(source, target),
        *_roles(source, target),
        *_extensions(source, target),
        *_xml(source, target),
        *_not_carried(source),
        *_unreadable(source),
        *_target_content(target, replace),
        *_target_limits(source, target),
    )


def left_by_undecided_transfer(target: Connection) -> bool:
    """Whether everything in this database came from a transfer whose decision never fell, and nobody could write here
    since: then it is nobody's only copy, and may go without being asked for."""
    current = read_state(target)
    if current is None or current.copied or current.transfer is None or current.transfer.term is None:
        return False
    term = current.transfer.term
    decided = any(each.primary is not None and each.term >= term for each in read_decisions(target))
    return not decided and (current.opened_term or 0) < term and fence_status(target).complete


def _same_database(source: Connection) -> Problem:
    return Problem(
        code="same-database",
        what=f"both endpoints lead to the same database, {source.info.dbname} of one cluster",
        remedy="correct the DSN of one of them",
    )


def _standby(connection: Connection, side: str) -> Iterator[Problem]:
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        yield Problem(
            code=f"{side}-in-recovery",
            what=f"the {side} is a standby: it accepts no writes and no locks",
            remedy="let its DSN lead to the primary of that cluster",
        )


def _tools(source: Connection, target: Connection) -> Iterator[Problem]:
    wanted = max(major_of(source), major_of(target))
    for tool in _TOOLS:
        try:
            client_tool(tool, wanted)
        except StatehubError as error:
            yield Problem(code="client-tool-missing", what=error.what, remedy=error.hint)


def _encoding(source: Connection, target: Connection) -> Iterator[Problem]:
    ours, theirs = (connection.execute("SHOW server_encoding").fetchone() for connection in (source, target))
    if ours != theirs:
        yield Problem(
            code="encoding-differs",
            what=f"the source is encoded in {ours and ours[0]}, the target in {theirs and theirs[0]}",
            remedy=f"create the target database with ENCODING '{ours and ours[0]}' TEMPLATE template0",
        )


def _roles(source: Connection, target: Connection) -> Iterator[Problem]:
    owners = {name for (name,) in source.execute(_OWNERS.encode())}
    named = owners | {name for (name,) in source.execute(_GRANTEES.encode())}
    found = target.execute(
        "SELECT rolname, pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = ANY (%s)", [sorted(named)]
    )
    present: dict[str, bool] = dict(found.fetchall())
    for name in sorted(named - present.keys()):
        statement = sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)).as_string(target)
        yield Problem(
            code="role-missing",
            what=f"role {name} owns or is granted something on the source and does not exist on the target's server",
            remedy=f"{statement} (with the options and the password that it has on the source)",
        )
    for name in sorted(owners & {name for name, member in present.items() if not member}):
        yield Problem(
            code="role-not-grantable",
            what=f"the tool's role {target.info.user} may not make {name} an owner on the target",
            remedy=sql.SQL("GRANT {} TO {}")
            .format(sql.Identifier(name), sql.Identifier(target.info.user))
            .as_string(target),
        )


def _extensions(source: Connection, target: Connection) -> Iterator[Problem]:
    wanted = source.execute(
        "SELECT e.extname FROM pg_extension e WHERE e.extname <> 'plpgsql' ORDER BY e.extname"
    ).fetchall()
    rows = target.execute(
        "SELECT a.name, a.installed_version IS NOT NULL, bool_or(v.trusted), "
        "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user) "
        "FROM pg_available_extensions a JOIN pg_available_extension_versions v ON v.name = a.name "
        "GROUP BY a.name, a.installed_version"
    ).fetchall()
    available = {name: installed or trusted or superuser for name, installed, trusted, superuser in rows}
    for (name,) in wanted:
        if name not in available:
            yield Problem(
                code="extension-unavailable",
                what=f"extension {name} is used on the source and not available on the target's server",
                remedy=f"install its package on the target's server, or DROP EXTENSION {name} on the source if unused",
            )
        elif not available[name]:
            yield Problem(
                code="extension-not-creatable",
                what=f"extension {name} may be created on the target by a superuser only",
                remedy=f"as superuser on the target: CREATE EXTENSION {name}",
            )


def _xml(source: Connection, target: Connection) -> Iterator[Problem]:
    row = source.execute(_XML_COLUMNS.encode()).fetchone()
    if row is None:
        return
    try:
        target.execute("SELECT xmlparse(CONTENT '<a/>')")
    except psycopg.errors.FeatureNotSupported:
        yield Problem(
            code="xml-unsupported",
            what=f"column {row[0]} is of type xml, and the target's server was built without libxml",
            remedy="choose a target whose server was built --with-libxml, or make these columns text",
        )


def _not_carried(source: Connection) -> Iterator[Problem]:
    """What a copy of tables would leave behind, refused by name rather than lost."""
    row = source.execute("SELECT count(*), min(oid::text) FROM pg_largeobject_metadata").fetchone()
    if row is not None and row[0]:
        yield Problem(
            code="large-objects",
            what=f"the source holds {row[0]} large objects (OID {row[1]} among them), which no table lock holds still",
            remedy="move them into bytea columns; those that nothing refers to: vacuumlo",
        )
    for extension, table, condition in source.execute(_EXTENSION_TABLES).fetchall():
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} {})").format(sql.SQL(table), sql.SQL(condition))
        if source.execute(query).fetchone() == (True,):
            yield Problem(
                code="extension-data",
                what=f"extension {extension} keeps the user's own rows in {table}",
                remedy="take these rows out, or carry them over by hand and leave them out of the extension's table",
            )


def _unreadable(source: Connection) -> Iterator[Problem]:
    rows = source.execute(
        f"""
        SELECT t.oid::oid::regclass::text, has_table_privilege(t.oid::oid, 'SELECT')
               AND has_schema_privilege(t.nspname, 'USAGE')
        FROM ({USER_TABLES}) t WHERE NOT (has_table_privilege(t.oid::oid, 'SELECT')
              AND has_schema_privilege(t.nspname, 'USAGE')) OR row_security_active(t.oid::oid)
        ORDER BY 1 LIMIT {_NAMED}
        """.encode()
    ).fetchall()
    for table, readable in rows:
        if readable:
            what = f"row-level security hides rows of {table} from the tool's role {source.info.user}"
            remedy = f"let {source.info.user} be a member of its owner (without FORCE), or give it BYPASSRLS"
        else:
            what = f"the tool's role {source.info.user} may not read {table}"
            remedy = f"GRANT SELECT ON {table} TO {source.info.user} (and USAGE on its schema)"
        yield Problem(code="table-unreadable", what=what, remedy=remedy)


def _target_content(target: Connection, replace: bool) -> Iterator[Problem]:
    if target.execute(
        "SELECT EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database())"
    ).fetchone() == (True,):
        yield Problem(
            code="target-subscribes",
            what="the target has subscriptions: something else writes into it",
            remedy="DROP SUBSCRIPTION each of them first",
        )
    objects = () if replace or left_by_undecided_transfer(target) else user_objects(target)
    if objects:
        yield Problem(
            code="target-not-empty",
            what=f"the target is not empty: {'; '.join(described(objects))}",
            remedy="take an empty database, or set transfer.targetContent: replace (it is dumped, then dropped)",
        )


def _target_limits(source: Connection, target: Connection) -> Iterator[Problem]:
    tables = source.execute(f"SELECT count(*) FROM ({USER_TABLES}) t".encode()).fetchone()
    row = target.execute(
        "SELECT current_setting('max_locks_per_transaction')::int8, current_setting('max_locks_per_transaction')::int8 "
        "* (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)"
    ).fetchone()
    needed = (tables[0] if tables else 0) * _LOCKS_PER_TABLE
    if row is not None and needed > row[1]:
        yield Problem(
            code="target-lock-table",
            what=f"creating all tables in one transaction takes about {needed} locks; the target has room for {row[1]}",
            remedy=f"raise max_locks_per_transaction there to {row[0] * needed // max(1, row[1]) + 1} and restart it",
        )


_USER = "(n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'statehub_plan'))"


def _own(catalog: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend m WHERE m.classid = '{catalog}'::regclass AND m.objid = x.oid "
        "AND m.deptype = 'e')"
    )


_HELD = (
    # catalog, owner, privileges, namespace column
    ("pg_class", "relowner", "relacl", "relnamespace"),
    ("pg_proc", "proowner", "proacl", "pronamespace"),
    ("pg_type", "typowner", "typacl", "typnamespace"),
    ("pg_namespace", "nspowner", "nspacl", "oid"),
)
_OWNERS = " UNION ".join(
    f"SELECT pg_get_userbyid(x.{owner}) FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{namespace} "
    f"WHERE {_USER} AND {_own(catalog)}"
    for catalog, owner, _, namespace in _HELD
)
_GRANTEES = " UNION ".join(
    (
        *(
            f"SELECT pg_get_userbyid(a.grantee) FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{namespace}, "
            f"aclexplode(x.{acl}) a WHERE a.grantee <> 0 AND {_USER} AND {_own(catalog)}"
            for catalog, _, acl, namespace in _HELD
        ),
        "SELECT pg_get_userbyid(a.grantee) FROM pg_attribute x JOIN pg_class c ON c.oid = x.attrelid "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(x.attacl) a WHERE a.grantee <> 0 AND {_USER}",
        "SELECT pg_get_userbyid(r) FROM pg_policy x, unnest(x.polroles) r WHERE r <> 0",
        "SELECT pg_get_userbyid(x.defaclrole) FROM pg_default_acl x",
        "SELECT pg_get_userbyid(a.grantee) FROM pg_default_acl x, aclexplode(x.defaclacl) a WHERE a.grantee <> 0",
    )
)
_XML_COLUMNS = f"""
SELECT t.nspname || '.' || t.relname || '.' || a.attname FROM ({USER_TABLES}) t
JOIN pg_attribute a ON a.attrelid = t.oid::oid AND a.atttypid IN ('xml'::regtype, 'xml[]'::regtype) LIMIT 1
"""
_EXTENSION_TABLES = """
SELECT e.extname, t.oid::regclass::text, t.condition FROM pg_extension e,
LATERAL unnest(e.extconfig, e.extcondition) AS t(oid, condition)
JOIN pg_class c ON c.oid = t.oid WHERE c.relkind IN ('r', 'p') AND c.relname NOT LIKE 'statehub_plan%'
"""
