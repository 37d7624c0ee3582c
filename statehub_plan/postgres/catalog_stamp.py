"""Whether a database's catalog is still what it was, as a whole or table by table: a cheap query in place of reading
all of it again.

Every transaction leaves its number in the rows that it writes (system column xmin, manual 5.6), and freezing leaves it
readable. Only what is written in place keeps it: statistics of VACUUM and ANALYZE, that a table has an index now, and
values of sequences. So what was changed and changed back is noticed too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from statehub_plan.postgres.catalog_server import subscription_options
from statehub_plan.postgres.catalog_sql import the_tools_freeze
from statehub_plan.postgres.connect import USER_TABLES, Connection

__all__ = ["PublicationStamp", "catalog_stamp", "publication_stamps", "row_stamps", "table_stamps"]


def _types(seen: str) -> str:
    """The query of (table, type) for what spells a value of `t`, those that `seen` is true of: through domains, arrays,
    ranges and composite types, as a label can be renamed, and an attribute dropped, without a row being written."""
    return f"""types(oid, type) AS (
    SELECT a.attrelid, a.atttypid FROM t JOIN pg_attribute a ON a.attrelid = t.oid::oid
    WHERE a.attnum > 0 AND {seen.format("a.atttypid")}
    UNION SELECT y.oid, x.type FROM types y JOIN pg_type p ON p.oid = y.type CROSS JOIN LATERAL (
        SELECT p.typbasetype UNION ALL SELECT p.typelem
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE y.type IN (r.rngtypid, r.rngmultitypid)
        UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = p.typrelid AND a.attnum > 0) x(type)
    WHERE {seen.format("x.type")}
)"""


_WITH_XMIN = (
    *("pg_namespace", "pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_inherits"),
    *("pg_sequence", "pg_proc", "pg_aggregate", "pg_rewrite", "pg_policy", "pg_type", "pg_enum", "pg_range"),
    *("pg_extension", "pg_publication", "pg_publication_rel", "pg_event_trigger", "pg_default_acl"),
    *("pg_statistic_ext", "pg_depend", "pg_operator", "pg_opclass", "pg_opfamily", "pg_amop", "pg_amproc"),
    *("pg_cast", "pg_collation", "pg_conversion", "pg_ts_config", "pg_ts_config_map", "pg_ts_dict", "pg_ts_parser"),
    *("pg_ts_template", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_foreign_table", "pg_language"),
    *("pg_transform", "pg_am", "pg_init_privs", "pg_description", "pg_shdescription", "pg_seclabel"),
    *("pg_largeobject_metadata", "pg_shseclabel", "pg_tablespace", "pg_auth_members"),
)
# Enabling the tool's own fence is part of every move, and no news about the service's schema.
_OTHERS = {
    "pg_trigger": "(SELECT t.xmin FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE p.pronamespace IS DISTINCT FROM (SELECT to_regnamespace('statehub_plan')))",
    "pg_database": "(SELECT xmin FROM pg_database WHERE datname = current_database())",
}
_TEXTS = {
    # what may not be read row by row, or not without the tool's own settings
    "pg_roles": "SELECT concat_ws(' ', oid, rolname, rolsuper, rolinherit, rolcanlogin, rolbypassrls) FROM pg_roles",
    "pg_subscription": "SELECT concat_ws(' ', oid, subname, subowner, subenabled, subslotname, subpublications, "
    "subsynccommit, subbinary, {options}) FROM pg_subscription s",
    "pg_user_mappings": "SELECT m::text FROM pg_user_mappings m",
    "pg_db_role_setting": "SELECT concat_ws(' ', setdatabase, setrole, s) FROM pg_db_role_setting x, unnest(setconfig) "
    f"AS s WHERE NOT {the_tools_freeze('x', 's')}",
}
_SCHEMAS_SINCE = 150000
_SINCE_15 = ("pg_publication_namespace", "pg_parameter_acl")
# A table's own row and its schema's, its columns, the indexes that may be its key or identity; what it is a part of,
# which decides by whom it is published; and its types. Other indexes, triggers, defaults and comments say nothing of
# rows. 16384 is the first number of what users create (access/transam.h).
_TABLES = f"""
WITH RECURSIVE t AS MATERIALIZED ({USER_TABLES}), parents(oid, parent, version) AS (
    SELECT i.inhrelid, i.inhparent, i.xmin FROM t JOIN pg_inherits i ON i.inhrelid = t.oid::oid
    UNION SELECT p.oid, i.inhparent, i.xmin FROM parents p JOIN pg_inherits i ON i.inhrelid = p.parent
), {_types("{0} >= 16384")}, versions(oid, version) AS (
    SELECT c.oid, c.xmin FROM t JOIN pg_class c ON c.oid = t.oid::oid
    UNION ALL SELECT t.oid::oid, n.xmin FROM t JOIN pg_namespace n ON n.nspname = t.nspname
    UNION ALL SELECT a.attrelid, a.xmin FROM t JOIN pg_attribute a ON a.attrelid = t.oid::oid WHERE a.attnum > 0
    UNION ALL SELECT i.indrelid, i.xmin FROM t JOIN pg_index i ON i.indrelid = t.oid::oid WHERE i.indisunique
    UNION ALL SELECT p.oid, p.version FROM parents p
    UNION ALL SELECT p.oid, c.xmin FROM parents p JOIN pg_class c ON c.oid = p.parent
    UNION ALL SELECT y.oid, p.xmin FROM types y JOIN pg_type p ON p.oid = y.type
    UNION ALL SELECT y.oid, e.xmin FROM types y JOIN pg_enum e ON e.enumtypid = y.type
    UNION ALL SELECT y.oid, a.xmin FROM types y JOIN pg_type p ON p.oid = y.type
                                   JOIN pg_attribute a ON a.attrelid = p.typrelid AND a.attnum > 0
)
SELECT v.oid::int8, pg_relation_filenode(v.oid)::int8, count(*), sum(hashint8extended(v.version::text::int8, 7))::text
FROM versions v GROUP BY v.oid
"""
# Who renames a table or moves it into another schema writes its row type anew, and who grants on it does not; where its
# rows are is told by a number that no rewriting uses twice. What is newer than `since` (and older than what is visible
# now) is left out where it says nothing of older rows: columns and labels that were added. A value of a type like
# regclass is spelled by the name of any object.
_NAMING = "SELECT oid FROM pg_type WHERE typname ~ '^_?reg' AND oid < 16384"
_ROWS = f"""
WITH RECURSIVE t AS MATERIALIZED (
    SELECT oid, relnamespace, reltype, relfilenode FROM pg_class WHERE oid = ANY (%(tables)s::oid[])
), {_types(f"({{0}} >= 16384 OR {{0}} IN ({_NAMING}))")}, lasting(oid, version) AS (
    SELECT t.oid, y.xmin FROM t JOIN pg_type y ON y.oid = t.reltype
    UNION ALL SELECT t.oid, n.xmin FROM t JOIN pg_namespace n ON n.oid = t.relnamespace
    UNION ALL SELECT y.oid, p.xmin FROM types y JOIN pg_type p ON p.oid = y.type
    UNION ALL SELECT y.oid, a.version FROM (SELECT y.oid, p.typrelid FROM types y JOIN pg_type p ON p.oid = y.type
                                            WHERE p.typrelid <> 0 OFFSET 0) y,
    LATERAL (SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = y.typrelid AND a.attnum > 0 OFFSET 0) a(version)
), naming(oid) AS MATERIALIZED (SELECT DISTINCT oid FROM types WHERE type < 16384), named(version) AS MATERIALIZED (
    SELECT y.xmin FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
    WHERE y.oid >= 16384 AND n.nspname !~ '^pg_(toast_)?temp_' AND EXISTS (SELECT FROM naming)
    UNION ALL SELECT c.xmin FROM pg_class c WHERE c.relkind = 'S' AND c.relpersistence <> 't'
                                              AND EXISTS (SELECT FROM naming)
    UNION ALL SELECT xmin FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' AND EXISTS (SELECT FROM naming)
    UNION ALL SELECT xmin FROM pg_proc WHERE oid >= 16384 AND EXISTS (SELECT FROM naming)
    UNION ALL SELECT xmin FROM pg_operator WHERE oid >= 16384 AND EXISTS (SELECT FROM naming)
), added(oid, version) AS (
    SELECT a.attrelid, a.xmin FROM t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0
    UNION ALL SELECT y.oid, e.xmin FROM types y JOIN pg_enum e ON e.enumtypid = y.type
    UNION ALL SELECT n.oid, o.version FROM naming n, named o
), versions(oid, version) AS (
    SELECT oid, version::text::int8 FROM lasting
    UNION ALL SELECT oid, version::text::int8 FROM added
    WHERE (version::text::int8 - %(since)s %% 4294967296 + 4294967296) %% 4294967296
          >= (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 - %(since)s)
)
SELECT t.oid::int8, t.relfilenode::int8, count(*), sum(hashint8extended(v.version, 7))::text
FROM t LEFT JOIN versions v ON v.oid = t.oid GROUP BY t.oid, t.relfilenode
"""
_PUBLICATIONS = """
SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.pubviaroot,
       concat_ws(' ', p.oid, p.xmin,
                 (SELECT string_agg(concat_ws(' ', r.oid, r.xmin), ',' ORDER BY r.oid) FROM pg_publication_rel r
                  WHERE r.prpubid = p.oid){schemas})
FROM pg_publication p WHERE p.pubname = ANY (%s) ORDER BY p.oid
"""
_PUBLISHED_SCHEMAS = """, 'schemas',
                 (SELECT string_agg(concat_ws(' ', n.oid, n.xmin), ',' ORDER BY n.oid) FROM pg_publication_namespace n
                  WHERE n.pnpubid = p.oid)"""


@dataclass(frozen=True, slots=True)
class PublicationStamp:
    """One publication and what it names. `complete`: it publishes every kind of change, table by table."""

    complete: bool
    versions: str


def table_stamps(connection: Connection) -> dict[int, tuple[object, ...]]:
    """By OID of each user table, something that is another after anything changed that decides which rows it has, what
    they are called by, what they look like, or to whom their changes are told. What is granted on it or on its schema
    counts too, for it stands in the same catalog row: another stamp is a reason to look, not a difference."""
    return {row[0]: row[1:] for row in connection.execute(_TABLES)}


def row_stamps(connection: Connection, tables: Sequence[int], since: int) -> dict[int, tuple[object, ...]]:
    """By OID of each of these tables that is there, something that is another after anything changed that decides which
    rows a snapshot sees in it, whose they are, and what they look like. What is granted says nothing of that, nor what
    was added by transactions from number `since` on (64 bits, as `pg_snapshot_xmax` tells it)."""
    return {row[0]: row[1:] for row in connection.execute(_ROWS, {"tables": list(tables), "since": since})}


def publication_stamps(connection: Connection, names: Sequence[str]) -> list[PublicationStamp]:
    """Of each of these that exists; another one after it, or what it names, was changed or made anew."""
    query = _PUBLICATIONS.format(schemas=_PUBLISHED_SCHEMAS if connection.info.server_version >= _SCHEMAS_SINCE else "")
    return [PublicationStamp(*row) for row in connection.execute(query.encode(), [list(names)])]


def catalog_stamp(connection: Connection) -> str:
    """A digest of which versions of which rows the catalog consists of, for comparing with an earlier one of the same
    database: any DDL changes it. Temporary tables do too, so another stamp is a reason to look, not a difference."""
    catalogs = [*_WITH_XMIN, *(_SINCE_15 if connection.info.server_version >= _SCHEMAS_SINCE else ())]
    parts = [_counted(name, name) for name in catalogs] + [
        _counted(name, f"{rows} x") for name, rows in _OTHERS.items()
    ]
    options = ", ".join(subscription_options(connection.info.server_version).values())
    parts += [
        f"SELECT '{name}', count(*), coalesce(sum(hashtextextended(x, 7)), 0) "
        f"FROM ({query.replace('{options}', options)}) q(x)"
        for name, query in _TEXTS.items()
    ]
    rows = connection.execute(" UNION ALL ".join(parts).encode()).fetchall()
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def _counted(name: str, rows: str) -> str:
    return f"SELECT '{name}', count(*), coalesce(sum(hashint8extended(xmin::text::int8, 7)), 0) FROM {rows}"
