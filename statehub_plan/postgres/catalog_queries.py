"""What a database's catalog says about the user's objects: one query per kind of object.

Each row is (object, table that it belongs to or NULL, definition as JSON). Objects of extensions, of the tool and of
the system are left out; OIDs never appear, because they differ between clusters. `%(ignored)s` holds privileges that
one of the two servers does not know. Run with search_path `pg_catalog`, so that every other name comes out qualified.
"""

from __future__ import annotations

from statehub_plan.postgres.catalog_binding import binding
from statehub_plan.postgres.catalog_rest import REST, publications
from statehub_plan.postgres.catalog_server import NOW, Moment, of_the_server
from statehub_plan.postgres.catalog_sql import own, privileges, user
from statehub_plan.postgres.names import sql_qualified, sql_role

__all__ = ["queries"]

_C = sql_qualified("n.nspname", "c.relname")
_C_OR_T = sql_qualified("n.nspname", "coalesce(c.relname, t.typname)")


def _member(column: str) -> str:
    return sql_qualified("n.nspname", "c.relname", column)


_SCHEMA = f"""
SELECT n.nspname, NULL, jsonb_build_object('owner', pg_get_userbyid(n.nspowner),
       'privileges', {privileges("n", "n.nspacl", "n.nspowner")})
FROM pg_namespace n WHERE {user()} AND {own("pg_namespace", "n.oid")}
"""

_RELATION = f"""
SELECT {_C}, {_C}, jsonb_build_object(
       'kind', c.relkind, 'persistence', c.relpersistence, 'owner', pg_get_userbyid(c.relowner),
       'privileges', {privileges("r", "c.relacl", "c.relowner")},
       'row security', c.relrowsecurity, 'forced row security', c.relforcerowsecurity,
       'options', (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o),
       'toast options', (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM pg_class toast, unnest(toast.reloptions) o
                         WHERE toast.oid = c.reltoastrelid),
       'access method', (SELECT amname FROM pg_am WHERE pg_am.oid = c.relam),
       'silenced constraint triggers', (SELECT jsonb_agg(x ORDER BY x) FROM (
            SELECT jsonb_build_array(k.conrelid::regclass::text, CASE WHEN k.conparentid = 0 THEN k.conname::text
                   ELSE pg_get_constraintdef(k.oid) END, silent.tgtype, silent.tgenabled) AS x FROM pg_trigger silent
            LEFT JOIN pg_constraint k ON k.oid = silent.tgconstraint
            WHERE silent.tgrelid = c.oid AND silent.tgisinternal AND silent.tgenabled <> 'O') silenced),
       'foreign keys unlike their parents', (SELECT jsonb_agg(pg_get_constraintdef(k.oid)
            ORDER BY pg_get_constraintdef(k.oid) COLLATE "C") FROM pg_constraint k
            JOIN pg_constraint parent ON parent.oid = k.conparentid, to_jsonb(k) mine, to_jsonb(parent) theirs
            WHERE k.conrelid = c.oid AND k.contype = 'f' AND (mine->'convalidated', mine->'conenforced')
                  IS DISTINCT FROM (theirs->'convalidated', theirs->'conenforced')),
       'foreign', (SELECT jsonb_build_array(server.srvname, (SELECT jsonb_agg(o ORDER BY o COLLATE "C")
                                            FROM unnest(foreign_table.ftoptions) o))
                   FROM pg_foreign_table foreign_table JOIN pg_foreign_server server
                     ON server.oid = foreign_table.ftserver WHERE foreign_table.ftrelid = c.oid),
       'replica identity', c.relreplident,
       'partition key', CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
       'partition bound', pg_get_expr(c.relpartbound, c.oid),
       'parents', (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
                   WHERE i.inhrelid = c.oid),
       'being detached', EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending),
       'of type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
       'view', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
       'binding', CASE c.relkind WHEN 'p' THEN {binding("pg_class", "c.oid", "partitioned.partexprs")}
                  ELSE {binding("pg_rewrite", "view.oid", "view.ev_action")} END,
       'populated', c.relispopulated,
       'privileges of its row type', (SELECT {privileges("T", "y.typacl", "y.typowner")} FROM pg_type y
                                      WHERE y.oid = c.reltype AND y.typacl IS NOT NULL))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_partitioned_table partitioned ON partitioned.partrelid = c.oid
LEFT JOIN pg_rewrite view ON view.ev_class = c.oid AND view.rulename = '_RETURN'
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't' AND {user()} AND {own("pg_class", "c.oid")}
"""

# From 17 on a partition's columns have the identity of their table's, and no other one; before, none of that.
_COLUMN = f"""
SELECT {_member("a.attname")}, {_C}, jsonb_build_object(
       'position', row_number() OVER (PARTITION BY c.oid, a.attnum > 0 ORDER BY a.attnum),
       'type', format_type(a.atttypid, a.atttypmod),
       'collation', CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
       'not null', a.attnotnull,
       'not null is valid', k.convalidated IS NOT FALSE, 'not null inherits', k.connoinherit IS NOT TRUE,
       'not null constraint', k.conname, 'not null is local', k.conislocal IS NOT FALSE OR c.relispartition,
       'default', pg_get_expr(d.adbin, d.adrelid), 'binding', {binding("pg_attrdef", "d.oid", "d.adbin")},
       'identity', CASE WHEN c.relispartition AND a.attidentity = (
            SELECT o.attidentity FROM pg_inherits h JOIN pg_attribute o ON o.attrelid = h.inhparent
            WHERE h.inhrelid = c.oid AND o.attname = a.attname) THEN '' ELSE a.attidentity END,
       'local', a.attislocal OR c.relispartition,
       'statistics target', CASE WHEN a.attnum > 0 THEN nullif(a.attstattarget, -1) END,
       'options', (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(a.attoptions) o),
       'foreign options', (SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(a.attfdwoptions) o),
       'generated', a.attgenerated, 'storage', a.attstorage, 'compression', a.attcompression,
       'privileges', CASE WHEN a.attacl IS NOT NULL THEN {privileges("c", "a.attacl", "c.relowner")} END)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_constraint k ON k.contype = 'n' AND k.conrelid = a.attrelid AND k.conkey[1] = a.attnum
WHERE (a.attnum > 0 OR a.attacl IS NOT NULL) AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND c.relpersistence <> 't'
  AND {user()} AND {own("pg_class", "c.oid")}
"""

# NOT NULL ('n') is a property of the column everywhere and a constraint besides from 18 on. Foreign keys that a
# partitioned table hands down to its partitions get names of the server's own making.
_CONSTRAINT = f"""
SELECT {sql_qualified("n.nspname", "coalesce(c.relname, t.typname)", "k.conname")},
       {_C_OR_T}, jsonb_build_object('definition', pg_get_constraintdef(k.oid),
       'binding', {binding("pg_constraint", "k.oid", "k.conbin")},
       'validated', k.convalidated, 'local', k.conislocal)
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
WHERE k.contype NOT IN ('n', 't') AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND {user()}
  AND {own("pg_class", "k.conrelid")} AND {own("pg_type", "k.contypid")}
"""

_INDEX = f"""
SELECT {sql_qualified("n.nspname", "i.relname")}, {sql_qualified("tn.nspname", "t.relname")}, jsonb_build_object(
       'definition', pg_get_indexdef(i.oid), 'binding', {binding("pg_class", "i.oid", "x.indexprs", "x.indpred")},
       'valid', x.indisvalid, 'clustered', x.indisclustered,
       'replica identity', x.indisreplident, 'ready', x.indisready AND x.indislive,
       'statistics targets', (SELECT jsonb_object_agg(a.attnum, a.attstattarget) FROM pg_attribute a
                              WHERE a.attrelid = i.oid AND a.attstattarget >= 0),
       'parent', (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.oid))
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE t.relpersistence <> 't' AND {user()} AND {own("pg_class", "t.oid")}
"""

_SEQUENCE = f"""
SELECT {_C}, NULL, jsonb_build_object('type', format_type(s.seqtypid, NULL),
       'start', s.seqstart, 'increment', s.seqincrement, 'minimum', s.seqmin, 'maximum', s.seqmax,
       'cache', s.seqcache, 'cycle', s.seqcycle, 'persistence', c.relpersistence, 'owner', pg_get_userbyid(c.relowner),
       'privileges', {privileges("s", "c.relacl", "c.relowner")},
       'owned by', (SELECT d.refobjid::regclass::text || '.' || a.attname FROM pg_depend d
                    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0))
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND {user()} AND {own("pg_class", "c.oid")}
"""

_ROUTINE = f"""
SELECT {sql_qualified("n.nspname", "p.proname")} || '(' || pg_get_function_identity_arguments(p.oid) || ')', NULL,
       jsonb_build_object('owner', pg_get_userbyid(p.proowner),
       'privileges', {privileges("f", "p.proacl", "p.proowner")},
       'definition', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END,
       'sql body', p.prosqlbody IS NOT NULL,
       'binding', {binding("pg_proc", "p.oid", "p.prosqlbody", "p.proargdefaults")},
       'aggregate', (SELECT jsonb_build_array(g.aggkind, g.aggnumdirectargs, g.aggtransfn::regprocedure::text,
                            g.aggfinalfn::regprocedure::text, g.aggcombinefn::regprocedure::text,
                            g.aggserialfn::regprocedure::text, g.aggdeserialfn::regprocedure::text,
                            g.aggmtransfn::regprocedure::text, g.aggminvtransfn::regprocedure::text,
                            g.aggmfinalfn::regprocedure::text, g.aggfinalmodify, g.aggsortop::regoperator::text,
                            format_type(g.aggtranstype, NULL), g.agginitval, p.proparallel, g.aggfinalextra,
                            g.aggmfinalextra, g.aggmfinalmodify, g.aggtransspace, g.aggmtransspace,
                            format_type(g.aggmtranstype, NULL), g.aggminitval, p.prosecdef, p.proisstrict)
                     FROM pg_aggregate g WHERE g.aggfnoid = p.oid))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE {user(oid="p.oid")} AND {own("pg_proc", "p.oid")}
"""

# What a partition inherits is only told where its state is not its parent's.
_TRIGGER = f"""
SELECT {_member("t.tgname")}, {_C}, jsonb_build_object(
       'definition', pg_get_triggerdef(t.oid), 'binding', {binding("pg_trigger", "t.oid", "t.tgqual")},
       'enabled', t.tgenabled)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid
LEFT JOIN pg_trigger parent ON parent.oid = t.tgparentid
WHERE NOT t.tgisinternal AND parent.tgenabled IS DISTINCT FROM t.tgenabled
  AND p.pronamespace IS DISTINCT FROM to_regnamespace('statehub_plan') AND {user()} AND {own("pg_class", "c.oid")}
"""

_RULE = f"""
SELECT {_member("r.rulename")}, {_C}, jsonb_build_object(
       'definition', pg_get_ruledef(r.oid), 'binding', {binding("pg_rewrite", "r.oid", "r.ev_action", "r.ev_qual")},
       'enabled', r.ev_enabled)
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (r.rulename <> '_RETURN' OR r.ev_enabled <> 'O') AND {user()} AND {own("pg_class", "c.oid")}
"""

_POLICY = f"""
SELECT {_member("p.polname")}, {_C}, jsonb_build_object(
       'command', p.polcmd, 'permissive', p.polpermissive,
       'roles', (SELECT jsonb_agg(r ORDER BY r COLLATE "C")
                 FROM (SELECT {sql_role("o")} AS r FROM unnest(p.polroles) o) x),
       'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid),
       'binding', {binding("pg_policy", "p.oid", "p.polqual", "p.polwithcheck")})
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {user()} AND {own("pg_class", "c.oid")}
"""

_TYPE = f"""
SELECT {sql_qualified("n.nspname", "t.typname")}, NULL, jsonb_build_object('kind', t.typtype,
       'owner', pg_get_userbyid(t.typowner), 'privileges', {privileges("T", "t.typacl", "t.typowner")},
       'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
       'base', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
       'not null', t.typnotnull, 'default', coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault),
       'binding', CASE WHEN t.typtype = 'd' THEN {binding("pg_type", "t.oid", "t.typdefaultbin")} END,
       'not null constraint', (SELECT k.conname FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'n'),
       'collation', CASE WHEN t.typtype IN ('b', 'd') AND t.typcollation <> 0
                         THEN t.typcollation::regcollation::text END,
       'range', (SELECT jsonb_build_array(format_type(r.rngsubtype, NULL), r.rngcollation::regcollation::text,
                        r.rngcanonical::regproc::text, r.rngsubdiff::regproc::text, r.rngmultitypid::regtype::text,
                        (SELECT i.identity FROM pg_identify_object('pg_opclass'::regclass, r.rngsubopc, 0) i))
                 FROM pg_range r WHERE r.rngtypid = t.oid),
       'functions', CASE WHEN t.typtype = 'b' THEN jsonb_build_array(t.typinput::regproc::text,
                        t.typoutput::regproc::text, t.typreceive::regproc::text, t.typsend::regproc::text,
                        t.typmodin::regproc::text, t.typmodout::regproc::text, t.typanalyze::regproc::text,
                        t.typsubscript::regproc::text) END,
       'form', CASE WHEN t.typtype = 'b' THEN jsonb_build_array(t.typlen, t.typbyval, t.typalign, t.typstorage,
                        t.typcategory, t.typispreferred, t.typdelim, t.typelem::regtype::text) END,
       'defined', t.typisdefined)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid)) AND t.typtype <> 'm'
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) AND {user(oid="t.oid")} AND {own("pg_type", "t.oid")}
"""

_TABLES_AND_CODE: dict[str, str] = {
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
}


def queries(server_version: int, moment: Moment = NOW) -> dict[str, str]:
    """One query per kind of object, in the words of this server (150018)."""
    rest = REST | {"publication": publications(server_version)}
    return _TABLES_AND_CODE | rest | of_the_server(server_version, moment)
