"""What the catalog says about everything that is no table, type or code: the database itself, extensions, publications,
operators, casts, text search, foreign servers, large objects, privileges of the system's own, comments.

Rows as in `catalog_queries`. `to_jsonb(row) ->> 'column'` reads columns that not every version has.
"""

from __future__ import annotations

from statehub_plan.postgres.catalog_binding import binding
from statehub_plan.postgres.catalog_sql import OWN_PUBLICATIONS, PLACES_OWN, own, privileges, used_collations, user
from statehub_plan.postgres.names import sql_qualified, sql_word

__all__ = ["HIDDEN_OPTIONS", "REST", "changed_privileges", "collations", "publications"]

_ROW_FILTERS_SINCE = 150000

# What replaces a locale that is no longer spelled as it was: 16 writes ICU's as language tags (`en_US` → `en-US`).
_ICU_TAG = "lower(replace({}, '_', '-'))"

_DATABASE = f"""
SELECT x.name, NULL, x.definition FROM pg_database d, to_jsonb(d) j, LATERAL (VALUES
    ('encoding', jsonb_build_object('value', pg_encoding_to_char(d.encoding))),
    ('collation', jsonb_build_object('provider', coalesce(j->>'datlocprovider', 'c'), 'collate', d.datcollate,
        'character type', d.datctype, 'locale', {_ICU_TAG.format("coalesce(j->>'datlocale', j->>'daticulocale')")},
        'rules', j->>'daticurules', 'version', j->>'datcollversion')),
    ('access', jsonb_build_object('owner', pg_get_userbyid(d.datdba),
        'privileges', {privileges("d", "d.datacl", "d.datdba")}, 'connection limit', d.datconnlimit,
        'template', d.datistemplate)),
    ('comment', jsonb_build_object('text', shobj_description(d.oid, 'pg_database')))) x(name, definition)
WHERE d.datname = current_database()
"""

# Of the server's own those that are used and that a library of its host sorts by; a bootstrap superuser owns them,
# whatever it is called. ICU's root collation is pinned, so that only columns tell whether it is used; ucs_basic sorts
# alike everywhere.
_OF_THE_HOST = f"""n.nspname = 'pg_catalog' AND c.collname <> 'ucs_basic' AND (c.oid IN ({used_collations()})
       OR c.oid < 12000 AND c.collprovider = 'i' AND c.collversion IS NOT NULL AND EXISTS (
            SELECT FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = r.relnamespace
            WHERE a.attcollation = c.oid AND {user()}))"""


def collations(which: str) -> str:
    """Those for which this condition about `c`, in namespace `n`, holds."""
    return f"""
SELECT {sql_qualified("n.nspname", "c.collname")}, NULL, jsonb_build_object(
       'owner', CASE WHEN {user()} THEN pg_get_userbyid(c.collowner) END,
       'provider', c.collprovider, 'deterministic', c.collisdeterministic, 'encoding', c.collencoding,
       'collate', CASE WHEN c.collprovider = 'c' THEN c.collcollate END,
       'character type', CASE WHEN c.collprovider = 'c' THEN c.collctype END,
       'locale', CASE WHEN c.collprovider <> 'c' THEN
                 {_ICU_TAG.format("coalesce(j->>'colllocale', j->>'colliculocale', j->>'collcollate')")} END,
       'rules', j->>'collicurules', 'version', c.collversion)
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace, to_jsonb(c) j
WHERE ({which}) AND {own("pg_collation", "c.oid")}
"""


# Its owner is left out: that is whoever ran CREATE EXTENSION, and nothing but REASSIGN OWNED changes it. Its comment
# is told where somebody has changed it: it comes with the extension, in the words of that server's version.
# A member that a user has added (ALTER EXTENSION … ADD) is in no dump.
_EXTENSION = f"""
SELECT e.extname, NULL, jsonb_build_object('schema', n.nspname,
       'version', e.extversion || CASE e.extversion WHEN a.default_version THEN ' (its server''s default)' ELSE '' END,
       'comment', CASE WHEN obj_description(e.oid, 'pg_extension') IS DISTINCT FROM a.comment
                       THEN coalesce(obj_description(e.oid, 'pg_extension'), '') END,
       'relations', (SELECT jsonb_agg(x.name ORDER BY x.name COLLATE "C") FROM (
            SELECT {sql_qualified("m.nspname", "c.relname")} AS name
            FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace m ON m.oid = c.relnamespace
            WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
              AND d.classid = 'pg_class'::regclass) x))
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_available_extensions() a ON a.name = e.extname
"""

# ALTER … DEPENDS ON EXTENSION: DROP EXTENSION takes these with it.
_DEPENDENCY = """
SELECT i.type || ' ' || i.identity || ' on extension ' || e.extname, NULL, '{}'::jsonb
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x'
"""

_EVENT_TRIGGER = f"""
SELECT e.evtname, NULL, jsonb_build_object('owner', pg_get_userbyid(e.evtowner), 'event', e.evtevent,
       'enabled', e.evtenabled, 'tags', to_jsonb(e.evttags), 'function', e.evtfoid::regprocedure::text)
FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
WHERE p.pronamespace IS DISTINCT FROM to_regnamespace('statehub_plan') AND {own("pg_event_trigger", "e.oid")}
"""

_DEFAULT_PRIVILEGES = f"""
SELECT {sql_word("pg_get_userbyid(d.defaclrole)")} || ' in ' || coalesce({sql_word("n.nspname")}, 'every schema')
       || ' for ' || d.defaclobjtype::text, NULL,
       jsonb_build_object('privileges', {privileges("r", "d.defaclacl", "d.defaclrole")})
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclnamespace = 0 OR {user()}
"""

# pg_get_statisticsobjdef leaves out parentheses, so that nobody can tell what a cast applies to.
_STATISTICS = f"""
SELECT {sql_qualified("n.nspname", "s.stxname")}, {sql_qualified("cn.nspname", "c.relname")}, jsonb_build_object(
       'definition', concat_ws(', ', (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                                      FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (s.stxkeys)),
                               array_to_string(pg_get_statisticsobjdef_expressions(s.oid), ', ')),
       'kinds', to_jsonb(s.stxkind), 'binding', {binding("pg_statistic_ext", "s.oid", "s.stxexprs")},
       'owner', pg_get_userbyid(s.stxowner), 'target', nullif(s.stxstattarget, -1))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
JOIN pg_namespace cn ON cn.oid = c.relnamespace
WHERE {user()} AND {own("pg_statistic_ext", "s.oid")}
"""

# There may be millions of them, and most are alike: each row has the names of many, up to what a text can hold.
_LARGE_OBJECT = f"""
SELECT string_agg(l.oid::text, ' '), NULL, jsonb_build_object('owner', pg_get_userbyid(l.lomowner),
       'privileges', {privileges("L", "l.lomacl", "l.lomowner")})
FROM pg_largeobject_metadata l GROUP BY l.lomowner, l.lomacl, l.oid::int8 / 1000000
"""

HIDDEN_OPTIONS = """(m.umoptions IS NULL AND NOT (r.rolsuper
            OR CASE m.umuser WHEN 0 THEN pg_has_role(s.srvowner, 'USAGE')
               ELSE m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE')
                    OR has_server_privilege(s.oid, 'USAGE')) END))"""
"""Whether the view pg_user_mappings `m` hides what is in it from this session's role `r`, as it says itself; `s` is the
mapping's server."""

# The options hold passwords, which belong into no report; a digest tells as well whether they are the same. Where they
# are hidden nobody can tell.
_USER_MAPPING = f"""
SELECT {sql_word("m.usename")} || ' on ' || {sql_word("m.srvname")}, NULL, CASE
       WHEN {HIDDEN_OPTIONS}
       THEN jsonb_build_object('unseen', 'only that role itself and superusers may see its options; '
                                         'those of a mapping for PUBLIC also its server''s owner')
       ELSE jsonb_build_object('options digest', encode(sha256(convert_to((
            SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(m.umoptions) o)::text, 'UTF8')), 'hex')) END
FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid JOIN pg_roles r ON r.rolname = current_user
"""

_OPERATORS = """(SELECT jsonb_agg(jsonb_build_array(a.amopstrategy, a.amopopr::regoperator::text, a.amoppurpose,
    (SELECT i.identity FROM pg_identify_object('pg_opfamily'::regclass, nullif(a.amopsortfamily, 0), 0) i))
    ORDER BY a.amopstrategy, a.amopopr::regoperator::text COLLATE "C") FROM pg_amop a
    WHERE a.amopfamily = x.oid AND {})"""
_FUNCTIONS = """(SELECT jsonb_agg(jsonb_build_array(a.amprocnum, format_type(a.amproclefttype, NULL),
    format_type(a.amprocrighttype, NULL), a.amproc::regprocedure::text)
    ORDER BY a.amprocnum, a.amproc::regprocedure::text COLLATE "C") FROM pg_amproc a
    WHERE a.amprocfamily = x.oid AND {})"""
_FOREIGN_OPTIONS = '(SELECT jsonb_agg(o ORDER BY o COLLATE "C") FROM unnest(x.{}) o)'
_OTHER = {
    # catalog → what is told of `x` beside its name
    "pg_operator": "'owner', pg_get_userbyid(x.oprowner), 'function', x.oprcode::regprocedure::text, "
    "'result', format_type(x.oprresult, NULL), 'commutator', x.oprcom::regoperator::text, "
    "'negator', x.oprnegate::regoperator::text, 'estimators', jsonb_build_array(x.oprrest::regproc::text, "
    "x.oprjoin::regproc::text), 'hashes', x.oprcanhash, 'merges', x.oprcanmerge",
    "pg_opclass": "'owner', pg_get_userbyid(x.opcowner), 'default', x.opcdefault, "
    "'type', format_type(x.opcintype, NULL), 'stored as', format_type(nullif(x.opckeytype, 0), NULL), "
    "'family', (SELECT i.identity FROM pg_identify_object('pg_opfamily'::regclass, x.opcfamily, 0) i)",
    "pg_opfamily": f"'owner', pg_get_userbyid(x.opfowner), 'operators', {_OPERATORS.format('true')}, "
    f"'functions', {_FUNCTIONS.format('true')}",
    "pg_cast": "'function', x.castfunc::regprocedure::text, 'context', x.castcontext, 'method', x.castmethod",
    "pg_conversion": "'owner', pg_get_userbyid(x.conowner), 'from', pg_encoding_to_char(x.conforencoding), "
    "'to', pg_encoding_to_char(x.contoencoding), 'function', x.conproc::regprocedure::text, 'default', x.condefault",
    "pg_ts_config": "'owner', pg_get_userbyid(x.cfgowner), 'parser', (SELECT i.identity FROM "
    "pg_identify_object('pg_ts_parser'::regclass, x.cfgparser, 0) i), 'mapping', (SELECT jsonb_agg(jsonb_build_array("
    "m.maptokentype, m.mapdict::regdictionary::text) ORDER BY m.maptokentype, m.mapseqno) "
    "FROM pg_ts_config_map m WHERE m.mapcfg = x.oid)",
    "pg_ts_dict": "'owner', pg_get_userbyid(x.dictowner), 'options', x.dictinitoption, 'template', (SELECT i.identity "
    "FROM pg_identify_object('pg_ts_template'::regclass, x.dicttemplate, 0) i)",
    "pg_ts_parser": "'functions', jsonb_build_array(x.prsstart::regproc::text, x.prstoken::regproc::text, "
    "x.prsend::regproc::text, x.prsheadline::regproc::text, x.prslextype::regproc::text)",
    "pg_ts_template": "'functions', jsonb_build_array(x.tmplinit::regproc::text, x.tmpllexize::regproc::text)",
    "pg_foreign_data_wrapper": "'owner', pg_get_userbyid(x.fdwowner), 'privileges', "
    f"{privileges('F', 'x.fdwacl', 'x.fdwowner')}, 'options', {_FOREIGN_OPTIONS.format('fdwoptions')}, "
    "'functions', jsonb_build_array(x.fdwhandler::regproc::text, x.fdwvalidator::regproc::text)",
    "pg_foreign_server": "'owner', pg_get_userbyid(x.srvowner), 'privileges', "
    f"{privileges('S', 'x.srvacl', 'x.srvowner')}, 'options', {_FOREIGN_OPTIONS.format('srvoptions')}, "
    "'type', x.srvtype, 'version', x.srvversion, "
    "'wrapper', (SELECT w.fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = x.srvfdw)",
    "pg_language": "'owner', pg_get_userbyid(x.lanowner), 'privileges', "
    f"{privileges('l', 'x.lanacl', 'x.lanowner')}, 'trusted', x.lanpltrusted, 'functions', jsonb_build_array("
    "x.lanplcallfoid::regproc::text, x.laninline::regproc::text, x.lanvalidator::regproc::text)",
    "pg_transform": "'functions', jsonb_build_array(x.trffromsql::regproc::text, x.trftosql::regproc::text)",
    "pg_am": "'handler', x.amhandler::regproc::text, 'type', x.amtype",
}
_OBJECT = " UNION ALL ".join(
    f"SELECT i.type || ' ' || i.identity, NULL, jsonb_build_object({told}) FROM {catalog} x, "
    f"pg_identify_object('{catalog}'::regclass, x.oid, 0) i WHERE x.oid >= 16384 AND {own(catalog, 'x.oid')}"
    for catalog, told in _OTHER.items()
)

# What a user has added to the operator families of the server; not what an extension adds to them. Nobody can tell what
# somebody added to an extension's own.
_ADDED_OPERATORS = _OPERATORS.format("a.oid >= 16384 AND " + own("pg_operator", "a.amopopr"))
_ADDED_FUNCTIONS = _FUNCTIONS.format("a.oid >= 16384 AND " + own("pg_proc", "a.amproc"))
_ADDED = f"""
SELECT i.identity, NULL, jsonb_build_object('operators', o.added, 'functions', f.added)
FROM pg_opfamily x, LATERAL {_ADDED_OPERATORS} o(added), LATERAL {_ADDED_FUNCTIONS} f(added),
     pg_identify_object('pg_opfamily'::regclass, x.oid, 0) i
WHERE x.oid < 16384 AND (o.added IS NOT NULL OR f.added IS NOT NULL)
  AND (x.oid IN (SELECT a.amopfamily FROM pg_amop a WHERE a.oid >= 16384)
       OR x.oid IN (SELECT a.amprocfamily FROM pg_amproc a WHERE a.oid >= 16384))
"""

# GRANT and REVOKE on what came with the server or with an extension: told only where it is not as it came. What is
# granted there to whoever moves the database belongs to the place.
_GRANTED_FOR_A_MOVE = f"x.grantee <> 0 AND i.identity ~ '{PLACES_OWN}'"


def _changed(columns: str, source: str, kind: str, acl: str, owner: str, *, with_first: bool) -> str:
    now, at_first = (privileges(kind, one, owner, but=_GRANTED_FOR_A_MOVE) for one in (acl, "p.initprivs"))
    first = f", 'at first', {at_first}" if with_first else ""
    return f"""
SELECT i.type || ' ' || i.identity, NULL, jsonb_build_object('privileges', {now}{first})
FROM {source} LEFT JOIN pg_init_privs p ON (p.classoid, p.objoid, p.objsubid) = ({columns}),
     pg_identify_object({columns}) i
WHERE {acl} IS NOT NULL AND {acl} IS DISTINCT FROM p.initprivs AND i.identity <> 'public'
  AND {now} IS DISTINCT FROM {at_first}
"""


def changed_privileges(*, with_first: bool = False) -> str:
    """Of what is no longer granted as it came: what is now, and `at first` was."""
    queries = [
        _changed(
            f"'{catalog}'::regclass, x.oid, 0",
            f"(SELECT * FROM {catalog} o WHERE o.oid < 16384 OR NOT {own(catalog, 'o.oid')}) x",
            kind,
            f"x.{acl}",
            f"x.{owner}",
            with_first=with_first,
        )
        for catalog, acl, owner, kind in (
            ("pg_proc", "proacl", "proowner", "f"),
            ("pg_class", "relacl", "relowner", "r"),
            ("pg_type", "typacl", "typowner", "T"),
            ("pg_namespace", "nspacl", "nspowner", "n"),
            ("pg_language", "lanacl", "lanowner", "l"),
            ("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "F"),
            ("pg_foreign_server", "srvacl", "srvowner", "S"),
        )
    ]
    columns = _changed(
        "'pg_class'::regclass, x.attrelid, x.attnum::int4",
        "(SELECT a.*, c.relowner FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        f"WHERE c.oid < 16384 OR NOT {own('pg_class', 'c.oid')}) x",
        "c",
        "x.attacl",
        "x.relowner",
        with_first=with_first,
    )
    return " UNION ALL ".join((*queries, columns))


# Row types of tables, arrays and multiranges: pg_dump writes nothing about these.
_IMPLIED_TYPE = """EXISTS (SELECT FROM pg_type t WHERE d.classoid = 'pg_type'::regclass AND t.oid = d.objoid AND (
            t.typtype = 'm' OR EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
            OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')))"""
# The first condition is for the planner: thousands of objects of the server are not to be identified for the second.
_COMMENT = f"""
SELECT i.type || ' ' || i.identity, NULL, jsonb_build_object('text', d.description, 'implied type', {_IMPLIED_TYPE})
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE (d.objoid >= 16384 OR d.classoid IN ('pg_largeobject'::regclass, 'pg_namespace'::regclass))
  AND (d.objoid >= 16384 OR d.classoid = 'pg_largeobject'::regclass OR i.identity = 'public')
  AND d.classoid <> 'pg_extension'::regclass
  AND i.schema IS DISTINCT FROM 'statehub_plan' AND i.identity IS DISTINCT FROM 'statehub_plan'
  AND coalesce(i.schema, i.identity) !~ '^pg_temp'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
"""

_LABEL = """
SELECT l.provider || ' on ' || i.type || ' ' || i.identity, NULL, jsonb_build_object('label', l.label)
FROM pg_seclabel l, pg_identify_object(l.classoid, l.objoid, l.objsubid) i
UNION ALL
SELECT l.provider || ' on database', NULL, jsonb_build_object('label', l.label)
FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
WHERE l.classoid = 'pg_database'::regclass AND d.datname = current_database()
"""

REST: dict[str, str] = {
    "database": _DATABASE,
    "collation": collations(f"{user()} OR {_OF_THE_HOST}"),
    "extension": _EXTENSION,
    "dependency": _DEPENDENCY,
    "event trigger": _EVENT_TRIGGER,
    "default privileges": _DEFAULT_PRIVILEGES,
    "statistics": _STATISTICS,
    "large object": _LARGE_OBJECT,
    "user mapping": _USER_MAPPING,
    "object": _OBJECT,
    "added to operator family": _ADDED,
    "changed privileges": changed_privileges(),
    "comment": _COMMENT,
    "security label": _LABEL,
}


def publications(server_version: int) -> str:
    """Publications with their tables, and from 15 on with columns, row filters and schemas."""
    columns = filters = schemas = "NULL::jsonb"
    if server_version >= _ROW_FILTERS_SINCE:
        columns = (
            "(SELECT jsonb_agg(a.attname ORDER BY a.attname) FROM pg_attribute a "
            "WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs))"
        )
        filters = "to_jsonb(pg_get_expr(r.prqual, r.prrelid))"
        schemas = (
            '(SELECT jsonb_agg(s.pnnspid::regnamespace::text ORDER BY s.pnnspid::regnamespace::text COLLATE "C") '
            "FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"
        )
    return f"""
SELECT p.pubname, NULL, jsonb_build_object('owner', pg_get_userbyid(p.pubowner), 'all tables', p.puballtables,
       'publishes', jsonb_build_array(p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot),
       'generated columns', nullif(to_jsonb(p)->>'pubgencols', 'n'), 'schemas', {schemas},
       'tables', (SELECT jsonb_agg(jsonb_build_array(r.prrelid::regclass::text, {columns}, {filters})
                                   ORDER BY r.prrelid::regclass::text COLLATE "C")
                  FROM pg_publication_rel r WHERE r.prpubid = p.oid))
FROM pg_publication p WHERE p.pubname !~ '{OWN_PUBLICATIONS}'
"""
