"""What a database's catalog says about the user's objects: one query per kind of object.

Each row is (object, table that it belongs to or NULL, definition as JSON). Objects of extensions, of the tool and of
the system are left out; OIDs never appear, because they differ between clusters. `%(ignored)s` holds privileges that
one of the two servers does not know. Run with search_path `pg_catalog`, so that every other name comes out qualified.
"""

from __future__ import annotations

__all__ = ["QUERIES"]


def _user(namespace: str = "n.nspname") -> str:
    return f"({namespace} !~ '^pg_' AND {namespace} NOT IN ('information_schema', 'statehub_plan'))"


def _own(catalog: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend member WHERE member.classid = '{catalog}'::regclass "
        f"AND member.objid = {oid} AND member.deptype = 'e')"
    )


def _privileges(kind: str, acl: str, owner: str) -> str:
    # Who granted is left out: it only says who may revoke, and a restore by another role changes it.
    return (
        "(SELECT jsonb_agg(grant_text ORDER BY grant_text) FROM (SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' "
        "ELSE pg_get_userbyid(x.grantee)::text END || '=' || x.privilege_type "
        "|| CASE WHEN x.is_grantable THEN '*' ELSE '' END AS grant_text "
        f"FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) x "
        "WHERE x.privilege_type <> ALL (%(ignored)s)) g)"
    )


_SCHEMA = f"""
SELECT n.nspname, NULL, jsonb_build_object('owner', pg_get_userbyid(n.nspowner),
       'privileges', {_privileges("n", "n.nspacl", "n.nspowner")})
FROM pg_namespace n WHERE {_user()} AND {_own("pg_namespace", "n.oid")}
"""

_RELATION = f"""
SELECT n.nspname || '.' || c.relname, n.nspname || '.' || c.relname, jsonb_build_object(
       'kind', c.relkind, 'persistence', c.relpersistence, 'owner', pg_get_userbyid(c.relowner),
       'privileges', {_privileges("r", "c.relacl", "c.relowner")},
       'row security', c.relrowsecurity, 'forced row security', c.relforcerowsecurity,
       'options', (SELECT jsonb_agg(o ORDER BY o) FROM unnest(c.reloptions) o),
       'replica identity', c.relreplident,
       'partition key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
       'partition bound', pg_get_expr(c.relpartbound, c.oid),
       'parents', (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
                   WHERE i.inhrelid = c.oid),
       'of type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
       'view', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
       'populated', c.relispopulated)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND {_user()} AND {_own("pg_class", "c.oid")}
"""

_COLUMN = f"""
SELECT n.nspname || '.' || c.relname || '.' || a.attname, n.nspname || '.' || c.relname, jsonb_build_object(
       'position', row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
       'type', format_type(a.atttypid, a.atttypmod),
       'collation', CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
       'not null', a.attnotnull, 'default', pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity,
       'generated', a.attgenerated, 'storage', a.attstorage, 'compression', a.attcompression,
       'privileges', CASE WHEN a.attacl IS NOT NULL THEN {_privileges("c", "a.attacl", "c.relowner")} END)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND c.relpersistence <> 't'
  AND {_user()} AND {_own("pg_class", "c.oid")}
"""

# NOT NULL ('n') is a property of the column everywhere and a constraint besides from 18 on. Foreign keys that a
# partitioned table hands down to its partitions get names of the server's own making.
_CONSTRAINT = f"""
SELECT n.nspname || '.' || coalesce(c.relname, t.typname) || '.' || k.conname,
       n.nspname || '.' || coalesce(c.relname, t.typname), jsonb_build_object('definition', pg_get_constraintdef(k.oid),
       'validated', k.convalidated, 'local', k.conislocal)
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
WHERE k.contype NOT IN ('n', 't') AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND {_user()}
  AND {_own("pg_class", "k.conrelid")} AND {_own("pg_type", "k.contypid")}
"""

_INDEX = f"""
SELECT n.nspname || '.' || i.relname, tn.nspname || '.' || t.relname, jsonb_build_object(
       'definition', pg_get_indexdef(i.oid), 'valid', x.indisvalid, 'clustered', x.indisclustered,
       'replica identity', x.indisreplident,
       'parent', (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.oid))
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE t.relpersistence <> 't' AND {_user()} AND {_own("pg_class", "t.oid")}
"""

_SEQUENCE = f"""
SELECT n.nspname || '.' || c.relname, NULL, jsonb_build_object('type', format_type(s.seqtypid, NULL),
       'start', s.seqstart, 'increment', s.seqincrement, 'minimum', s.seqmin, 'maximum', s.seqmax,
       'cache', s.seqcache, 'cycle', s.seqcycle, 'owner', pg_get_userbyid(c.relowner),
       'privileges', {_privileges("s", "c.relacl", "c.relowner")},
       'owned by', (SELECT d.refobjid::regclass::text || '.' || a.attname FROM pg_depend d
                    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0))
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {_user()} AND {_own("pg_class", "c.oid")}
"""

_ROUTINE = f"""
SELECT n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', NULL,
       jsonb_build_object('owner', pg_get_userbyid(p.proowner),
       'privileges', {_privileges("f", "p.proacl", "p.proowner")},
       'definition', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END,
       'sql body', p.prosqlbody IS NOT NULL,
       'aggregate', (SELECT jsonb_build_array(g.aggkind, g.aggnumdirectargs, g.aggtransfn::regprocedure::text,
                            g.aggfinalfn::regprocedure::text, g.aggcombinefn::regprocedure::text,
                            g.aggserialfn::regprocedure::text, g.aggdeserialfn::regprocedure::text,
                            g.aggmtransfn::regprocedure::text, g.aggminvtransfn::regprocedure::text,
                            g.aggmfinalfn::regprocedure::text, g.aggfinalmodify, g.aggsortop::regoperator::text,
                            format_type(g.aggtranstype, NULL), g.agginitval, p.proparallel)
                     FROM pg_aggregate g WHERE g.aggfnoid = p.oid))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE {_user()} AND {_own("pg_proc", "p.oid")}
"""

_TRIGGER = f"""
SELECT n.nspname || '.' || c.relname || '.' || t.tgname, n.nspname || '.' || c.relname, jsonb_build_object(
       'definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND p.pronamespace IS DISTINCT FROM to_regnamespace('statehub_plan')
  AND {_user()} AND {_own("pg_class", "c.oid")}
"""

_RULE = f"""
SELECT n.nspname || '.' || c.relname || '.' || r.rulename, n.nspname || '.' || c.relname, jsonb_build_object(
       'definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled)
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND {_user()} AND {_own("pg_class", "c.oid")}
"""

_POLICY = f"""
SELECT n.nspname || '.' || c.relname || '.' || p.polname, n.nspname || '.' || c.relname, jsonb_build_object(
       'command', p.polcmd, 'permissive', p.polpermissive,
       'roles', (SELECT jsonb_agg(r ORDER BY r) FROM (SELECT CASE o WHEN 0 THEN 'PUBLIC'
                 ELSE pg_get_userbyid(o)::text END AS r FROM unnest(p.polroles) o) x),
       'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_user()} AND {_own("pg_class", "c.oid")}
"""

_TYPE = f"""
SELECT n.nspname || '.' || t.typname, NULL, jsonb_build_object('kind', t.typtype,
       'owner', pg_get_userbyid(t.typowner), 'privileges', {_privileges("T", "t.typacl", "t.typowner")},
       'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
       'base', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
       'not null', t.typnotnull, 'default', t.typdefault,
       'collation', CASE WHEN t.typtype = 'd' AND t.typcollation <> 0 THEN t.typcollation::regcollation::text END,
       'range', (SELECT jsonb_build_array(format_type(r.rngsubtype, NULL), r.rngcollation::regcollation::text,
                        r.rngcanonical::regproc::text, r.rngsubdiff::regproc::text)
                 FROM pg_range r WHERE r.rngtypid = t.oid))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid)) AND t.typtype <> 'm'
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) AND {_user()} AND {_own("pg_type", "t.oid")}
"""

_EXTENSION = """
SELECT e.extname, NULL, jsonb_build_object('version', e.extversion, 'schema', n.nspname)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
"""

_PUBLICATION = """
SELECT p.pubname, NULL, jsonb_build_object('owner', pg_get_userbyid(p.pubowner), 'all tables', p.puballtables,
       'publishes', jsonb_build_array(p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot),
       'tables', (SELECT jsonb_agg(r.prrelid::regclass::text ORDER BY r.prrelid::regclass::text COLLATE "C")
                  FROM pg_publication_rel r WHERE r.prpubid = p.oid))
FROM pg_publication p WHERE p.pubname !~ '^statehub_plan'
"""

_EVENT_TRIGGER = f"""
SELECT e.evtname, NULL, jsonb_build_object('owner', pg_get_userbyid(e.evtowner), 'event', e.evtevent,
       'enabled', e.evtenabled, 'tags', to_jsonb(e.evttags), 'function', e.evtfoid::regprocedure::text)
FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
WHERE p.pronamespace IS DISTINCT FROM to_regnamespace('statehub_plan') AND {_own("pg_event_trigger", "e.oid")}
"""

_DEFAULT_PRIVILEGES = f"""
SELECT pg_get_userbyid(d.defaclrole) || ' in ' || coalesce(n.nspname, 'every schema')
       || ' for ' || d.defaclobjtype::text, NULL,
       jsonb_build_object('privileges', {_privileges("r", "d.defaclacl", "d.defaclrole")})
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclnamespace = 0 OR {_user()}
"""

_STATISTICS = f"""
SELECT n.nspname || '.' || s.stxname, c.relnamespace::regnamespace::text || '.' || c.relname, jsonb_build_object(
       'definition', pg_get_statisticsobjdef(s.oid), 'owner', pg_get_userbyid(s.stxowner))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
WHERE {_user()} AND {_own("pg_statistic_ext", "s.oid")}
"""

# Settings of the tool's own freeze are not the user's.
_SETTING = """
SELECT coalesce(r.rolname, 'every role') || ': ' || split_part(s.setting, '=', 1), NULL,
       jsonb_build_object('value', substr(s.setting, strpos(s.setting, '=') + 1))
FROM pg_db_role_setting x JOIN pg_database d ON d.oid = x.setdatabase
LEFT JOIN pg_roles r ON r.oid = x.setrole, unnest(x.setconfig) AS s(setting)
WHERE d.datname = current_database() AND split_part(s.setting, '=', 1) <> 'default_transaction_read_only'
"""

_DATABASE = """
SELECT 'encoding', NULL, jsonb_build_object('value', pg_encoding_to_char(encoding))
FROM pg_database WHERE datname = current_database()
"""

_OTHER_CATALOGS = (
    "pg_operator",
    "pg_opclass",
    "pg_opfamily",
    "pg_cast",
    "pg_collation",
    "pg_conversion",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_transform",
    "pg_am",
)
_OTHER = " UNION ALL ".join(
    f"SELECT i.type || ' ' || i.identity, NULL, jsonb_build_object('present', true) FROM {catalog} x, "
    f"pg_identify_object('{catalog}'::regclass, x.oid, 0) i WHERE x.oid >= 16384 AND {_own(catalog, 'x.oid')}"
    for catalog in _OTHER_CATALOGS
)

_COMMENT = """
SELECT i.type || ' ' || i.identity, NULL, jsonb_build_object('text', d.description)
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE d.objoid >= 16384 AND d.classoid <> 'pg_extension'::regclass AND i.schema IS DISTINCT FROM 'statehub_plan'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
"""

QUERIES: dict[str, str] = {
    "database": _DATABASE,
    "schema": _SCHEMA,
    "relation": _RELATION,
    "column": _COLUMN,
    "constraint": _CONSTRAINT,
    "index": _INDEX,
    "sequence": _SEQUENCE,
    "routine": _ROUTINE,
    "trigger": _TRIGGER,
    "rule": _RULE,
    "policy": _POLICY,
    "type": _TYPE,
    "extension": _EXTENSION,
    "publication": _PUBLICATION,
    "event trigger": _EVENT_TRIGGER,
    "default privileges": _DEFAULT_PRIVILEGES,
    "statistics": _STATISTICS,
    "setting": _SETTING,
    "object": _OTHER,
    "comment": _COMMENT,
}
