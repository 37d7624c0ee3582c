"""Whether anything was defined, changed or dropped in a database since somebody last looked: cheap enough for a hold.

Replication sends rows and no DDL, so a change of any definition while the target follows has to be noticed. Instead of
definitions their versions are compared: `xmin` of a catalog row names the transaction that wrote it, stays readable
after freezing, and is not touched by the in-place updates of VACUUM and ANALYZE (manual, 5.6; README.tuplock). So a
change that was undone is noticed as well. Where maintenance or TRUNCATE do write catalog rows (pg_class, pg_index), or
the tool does (sequences, settings of the database), the defining columns are compared instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.postgres.catalog_server import subscription_options
from statehub_plan.postgres.catalog_sql import OWN_FENCE, OWN_PUBLICATIONS
from statehub_plan.postgres.connect import Connection

__all__ = ["catalog_marks", "catalog_watermark", "changed_since"]

_FIRST_USER_OID = 16384

# Rows of these are the user's when they are in one of the user's schemas, or were put into one of the server's; of what
# the server brings, routines and types may be granted.
_IN_SCHEMAS = {
    "routines": ("pg_proc", "pronamespace"),
    "types": ("pg_type", "typnamespace"),
    "constraints": ("pg_constraint", "connamespace"),
    "operators": ("pg_operator", "oprnamespace"),
    "operator classes": ("pg_opclass", "opcnamespace"),
    "operator families": ("pg_opfamily", "opfnamespace"),
    "collations": ("pg_collation", "collnamespace"),
    "conversions": ("pg_conversion", "connamespace"),
    "statistics": ("pg_statistic_ext", "stxnamespace"),
    "text search configurations": ("pg_ts_config", "cfgnamespace"),
    "text search dictionaries": ("pg_ts_dict", "dictnamespace"),
    "text search parsers": ("pg_ts_parser", "prsnamespace"),
    "text search templates": ("pg_ts_template", "tmplnamespace"),
}
_GRANTED = {"pg_proc": "OR x.proacl IS NOT NULL", "pg_type": "OR x.typacl IS NOT NULL"}
# … when they belong to one of the user's relations (`r`, which are never temporary ones).
_OF_RELATIONS = {
    "defaults": ("pg_attrdef", "adrelid", "adnum", "true"),
    "triggers": ("pg_trigger", "tgrelid", "oid", f"x.tgname !~ '{OWN_FENCE}'"),
    "rules": ("pg_rewrite", "ev_class", "oid", "true"),
    "policies": ("pg_policy", "polrelid", "oid", "true"),
    "inheritance": ("pg_inherits", "inhrelid", "inhparent", "r.relkind NOT IN ('i', 'I')"),
    "partition keys": ("pg_partitioned_table", "partrelid", "0", "true"),
    "foreign tables": ("pg_foreign_table", "ftrelid", "0", "true"),
}
# … when their own or their object's number is beyond those that initdb gives.
_NUMBERED = {
    "enum labels": ("pg_enum", "enumtypid", "oid", "true"),
    "ranges": ("pg_range", "rngtypid", "0", "true"),
    "aggregates": ("pg_aggregate", "aggfnoid", "0", "true"),
    "operators of families": ("pg_amop", "oid", "0", "true"),
    "functions of families": ("pg_amproc", "oid", "0", "true"),
    "casts": ("pg_cast", "oid", "0", "true"),
    "transforms": ("pg_transform", "oid", "0", "true"),
    "access methods": ("pg_am", "oid", "0", "true"),
    "extensions": ("pg_extension", "oid", "0", "true"),
    "event triggers": ("pg_event_trigger", "oid", "0", "true"),
    "foreign-data wrappers": ("pg_foreign_data_wrapper", "oid", "0", "true"),
    "foreign servers": ("pg_foreign_server", "oid", "0", "true"),
    "text search mappings": ("pg_ts_config_map", "mapcfg", "maptokentype * 64 + x.mapseqno", "true"),
    "default privileges": ("pg_default_acl", "oid", "0", "true"),
    "publications": ("pg_publication", "oid", "0", f"x.pubname !~ '{OWN_PUBLICATIONS}'"),
    "large objects": ("pg_largeobject_metadata", "oid", "0", "true"),
}
_PUBLISHED = f"pg_publication p JOIN {{catalog}} x ON x.{{column}} = p.oid WHERE p.pubname !~ '{OWN_PUBLICATIONS}'"
_SINCE_15 = 150000

_WITH = """
WITH n AS MATERIALIZED (
    SELECT x.oid, x.xmin FROM pg_catalog.pg_namespace x
    WHERE x.nspname !~ '^pg_' AND x.nspname NOT IN ('information_schema', 'statehub_plan')),
r AS MATERIALIZED (
    SELECT c.oid, c.relkind, c.relname, c.relnamespace, c.relowner, c.relacl, c.reltablespace, c.relam, c.reloftype,
           c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.reloptions
    FROM pg_catalog.pg_class c WHERE c.relnamespace IN (SELECT oid FROM n) AND c.relpersistence <> 't'),
s AS MATERIALIZED (
    SELECT x.oid, x.xmin FROM pg_catalog.pg_namespace x WHERE x.nspname IN ('pg_catalog', 'information_schema')),
m AS MATERIALIZED (SELECT oid, true AS theirs FROM n UNION ALL SELECT oid, false FROM s)
"""
# Of indexes everything but their number, which REINDEX CONCURRENTLY changes. The text of a partition's bound does not
# change without a new row of pg_inherits.
_RELATIONS = """
SELECT 'relations', count(*), sum(hash_record_extended(row(r.oid, r.relkind, r.relname, r.relnamespace, r.relowner,
       r.relacl, r.reltablespace, r.relam, r.reloftype, r.relpersistence, r.relrowsecurity, r.relforcerowsecurity,
       r.relreplident, r.relispartition, r.reloptions), 0))
FROM r WHERE r.relkind NOT IN ('i', 'I')
"""
_INDEXES = """
SELECT 'indexes', count(*), sum(hash_record_extended(row(r.relname, r.relnamespace, r.relowner, r.reltablespace,
       r.relam, r.reloptions, i.indrelid, i.indnkeyatts, i.indisunique, i.indisprimary, i.indisexclusion,
       i.indimmediate, i.indisclustered, i.indisvalid, i.indisreplident, i.indkey::int2[], i.indcollation, i.indclass,
       i.indoption::int2[], i.indexprs::text, i.indpred::text, {since_15}), 0))
FROM r JOIN pg_catalog.pg_index i ON i.indexrelid = r.oid
"""
# Read once, as it is the largest. What an index says of its columns is written anew by REINDEX CONCURRENTLY.
_COLUMNS = """
SELECT 'columns', count(*), sum(CASE WHEN r.relkind IN ('i', 'I')
       THEN hash_record_extended(row(r.relname, r.relnamespace, x.attnum, x.attstattarget, x.attoptions), 0)
       ELSE hashint8extended((x.attrelid::int8 << 32) # x.attnum::int8, x.xmin::text::int8) END)
FROM pg_catalog.pg_attribute x JOIN r ON r.oid = x.attrelid
WHERE (x.attnum > 0 OR x.attacl IS NOT NULL)
  AND (r.relkind NOT IN ('i', 'I') OR x.attstattarget <> -1 OR x.attoptions IS NOT NULL)
"""
# What is granted on what the server brings, and what somebody has put among it. A toast table is named after its table,
# and made anew by rewrites.
_OF_THE_SERVER = f"""
SELECT 'schemas of the server', count(*), sum(hashint8extended(s.oid::int8, s.xmin::text::int8)) FROM s
UNION ALL
SELECT 'relations of the server', count(*), sum(hash_record_extended(row(x.relname, x.relnamespace, x.relkind,
       x.relowner, x.relacl, x.reloptions), 0))
FROM pg_catalog.pg_class x
WHERE x.relpersistence <> 't' AND (x.relkind = 't' AND x.reloptions IS NOT NULL
      OR x.relkind NOT IN ('i', 'I', 't') AND x.relnamespace IN (SELECT oid FROM s)
         AND (x.relacl IS NOT NULL OR x.oid >= {_FIRST_USER_OID}))
UNION ALL
SELECT 'columns of the server', count(*), sum(hash_record_extended(row(x.attrelid, x.attnum, x.attacl), 0))
FROM pg_catalog.pg_attribute x WHERE x.attrelid < {_FIRST_USER_OID} AND x.attacl IS NOT NULL
"""
# Members of extensions, and what depends on one. Of indexes the name, for REINDEX CONCURRENTLY changes their number.
_OF_EXTENSIONS = """
SELECT 'members of extensions', count(*), sum(hash_record_extended(row(x.classid, coalesce(r.relname::text,
       x.objid::text), r.relnamespace, x.objsubid, x.refobjid, x.deptype), 0))
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_depend x ON x.refclassid = 'pg_catalog.pg_extension'::regclass
     AND x.refobjid = e.oid AND x.deptype IN ('e', 'x')
LEFT JOIN r ON x.classid = 'pg_catalog.pg_class'::regclass AND r.oid = x.objid AND r.relkind IN ('i', 'I')
"""
# A hold locks sequences by giving them the owner that they have, which writes rows anew in its own transaction.
_SEQUENCES = """
SELECT 'sequences', count(*), sum(hash_record_extended(row(x.seqrelid, x.seqtypid, x.seqstart, x.seqincrement, x.seqmax,
       x.seqmin, x.seqcache, x.seqcycle, d.refobjid, d.refobjsubid, d.deptype), 0))
FROM pg_catalog.pg_sequence x JOIN r ON r.oid = x.seqrelid
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = x.seqrelid
     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
"""
_SETTINGS = """
SELECT 'settings', count(*), sum(hashtextextended(row(x.setdatabase, x.setrole, s)::text, 0))
FROM pg_catalog.pg_db_role_setting x, unnest(x.setconfig) AS s
WHERE x.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
  AND NOT (x.setrole = 0 AND x.setdatabase <> 0 AND s ~ '^default_transaction_read_only=')
"""
# Whose versions or secrets are not everybody's to read.
_GUARDED = f"""
SELECT 'subscriptions', count(*), sum(hashtextextended(row(s.oid, s.subname, s.subowner, s.subenabled, s.subslotname,
       s.subpublications, {{options}})::text, 0))
FROM pg_catalog.pg_subscription s WHERE s.subname !~ '{OWN_STREAMS}'
  AND s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
UNION ALL
SELECT 'user mappings', count(*), sum(hashtextextended(row(x.umid, x.srvid, x.umuser)::text, 0))
FROM pg_catalog.pg_user_mappings x
"""
_DATABASE = """
SELECT 'database', count(*), sum(hashtextextended((to_jsonb(d) - '{datfrozenxid,datminmxid}'::text[])::text, 0))
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""
_COMMENTS = f"""
SELECT 'comments', count(*), sum(hashtextextended(row(x.classoid, x.objoid, x.objsubid)::text, x.xmin::text::int8))
FROM pg_catalog.pg_description x
WHERE x.objoid >= {_FIRST_USER_OID} OR x.classoid = 'pg_catalog.pg_namespace'::regclass
UNION ALL
SELECT 'comment of the database', count(*), sum(hashint8extended(x.objoid::int8, x.xmin::text::int8))
FROM pg_catalog.pg_shdescription x WHERE x.classoid = 'pg_catalog.pg_database'::regclass
  AND x.objoid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
UNION ALL
SELECT 'security labels', count(*), sum(hashtextextended(row(x.classoid, x.objoid, x.objsubid, x.provider)::text,
       x.xmin::text::int8))
FROM pg_catalog.pg_seclabel x
"""


def _versions(kind: str, number: str, rest: str) -> str:
    """One row: the kind, how many there are, and the sum of a hash over each one's number and version."""
    return f"SELECT '{kind}', count(*), sum(hashint8extended({number}, x.xmin::text::int8)) {rest}"


def _number(first: str, second: str) -> str:
    return f"x.{first}::int8" if second == "0" else f"(x.{first}::int8 << 32) # x.{second}::int8"


def _query(server_version: int) -> str:
    parts = [
        _versions("schemas", "x.oid::int8", "FROM n x"),
        _RELATIONS,
        _INDEXES.format(since_15="i.indnullsnotdistinct" if server_version >= _SINCE_15 else "false"),
        _COLUMNS,
        _OF_THE_SERVER,
        _OF_EXTENSIONS,
        _SEQUENCES,
        _SETTINGS,
        _GUARDED.replace("{options}", ", ".join(subscription_options(server_version).values())),
        _DATABASE,
        _COMMENTS,
    ]
    for kind, (catalog, namespace) in _IN_SCHEMAS.items():
        rest = (
            f"FROM pg_catalog.{catalog} x JOIN m ON m.oid = x.{namespace} "
            f"WHERE m.theirs OR x.oid >= {_FIRST_USER_OID} {_GRANTED.get(catalog, '')}"
        )
        parts.append(_versions(kind, "x.oid::int8", rest))
    parts.append(_versions("languages", "x.oid::int8", "FROM pg_catalog.pg_language x"))
    for kind, (catalog, relation, second, condition) in _OF_RELATIONS.items():
        rest = f"FROM pg_catalog.{catalog} x JOIN r ON r.oid = x.{relation} WHERE {condition}"
        parts.append(_versions(kind, _number(relation, second), rest))
    for kind, (catalog, first, second, condition) in _NUMBERED.items():
        rest = f"FROM pg_catalog.{catalog} x WHERE x.{first}::oid >= {_FIRST_USER_OID} AND {condition}"
        parts.append(_versions(kind, _number(first, second), rest))
    published = {"published tables": ("pg_publication_rel", "prpubid")}
    if server_version >= _SINCE_15:
        published["published schemas"] = ("pg_publication_namespace", "pnpubid")
    for kind, (catalog, column) in published.items():
        rest = "FROM pg_catalog." + _PUBLISHED.format(catalog=f"pg_catalog.{catalog}", column=column)
        parts.append(_versions(kind, "x.oid::int8", rest))
    return _WITH + "\nUNION ALL\n".join(parts)


def catalog_marks(connection: Connection) -> dict[str, str]:
    """Kind of object → a mark that changes when anything of that kind is defined, changed or dropped, also if that is
    undone again. One query that takes no locks but those of reading catalogs; sees what its snapshot sees.

    Not changed by rows written, TRUNCATE, nextval and setval, VACUUM (FULL), ANALYZE, CLUSTER's rewrite, REINDEX,
    temporary objects, or the tool's own schema, fences, publications, subscriptions and read-only default. Changed by
    new large objects, which no replication sends either. Not seen: roles and what they are members of, which are the
    server's, and options of user mappings and connection strings of subscriptions, which are secrets.
    """
    # Planning takes longer than running: after the first time in a session only the latter is left.
    rows = connection.execute(_query(connection.info.server_version).encode(), prepare=True).fetchall()
    return {kind: f"{count}:{mark or 0}" for kind, count, mark in rows}


def catalog_watermark(connection: Connection) -> str:
    """One digest of all `catalog_marks`: the same as long as no definition was touched."""
    text = json.dumps(catalog_marks(connection), sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def changed_since(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds of objects whose marks differ, sorted; for telling people where to look."""
    return tuple(sorted(kind for kind in before.keys() | now.keys() if before.get(kind) != now.get(kind)))
