"""What is the server's and acts in this database all the same: settings, roles, tablespaces, subscriptions, and what of
the server's own text search was changed. None of it travels with a schema; whether it is the same matters.

Rows as in `catalog_queries`. Tablespaces stay behind by design: each is one object, so that one waiver is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.postgres.catalog_sql import NAMED_ROLES, acting_roles, the_tools_freeze, user
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import sql_qualified, sql_role, sql_word

__all__ = ["MOVERS", "NOW", "OWNS_SOMETHING", "Moment", "of_the_server", "read_movers", "subscription_options"]

_PARAMETER_PRIVILEGES_SINCE = 150000

OWNS_SOMETHING = f"""EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                                WHERE c.relowner = r.oid AND {user()})"""
"""Whether a role `r` owns what moves."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Whom and what of the server a database is concerned with, as SQL. `named`: a query for the roles that something
    in it names; `owns`: whether a role `r` owns what moves; `placed`: which relations `c` count where they lie."""

    named: str = NAMED_ROLES
    owns: str = OWNS_SOMETHING
    placed: str = "true"


NOW = Moment()
"""As it is."""

_REACHES_EVERY_TABLE = "r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain')"

# A role's settings for every database matter where that role acts; those of every role for every database always do.


def _setting(moment: Moment) -> str:
    return f"""
{acting_roles(moment.named)}
SELECT coalesce({sql_word("r.rolname")}, 'every role') || CASE WHEN x.setdatabase = 0 THEN ' everywhere' ELSE '' END
       || ': ' || split_part(s.setting, '=', 1), NULL,
       jsonb_build_object('value', substr(s.setting, strpos(s.setting, '=') + 1))
FROM pg_db_role_setting x LEFT JOIN pg_database d ON d.oid = x.setdatabase
LEFT JOIN pg_roles r ON r.oid = x.setrole, unnest(x.setconfig) AS s(setting)
WHERE (d.datname = current_database()
       OR x.setdatabase = 0 AND (x.setrole = 0 OR x.setrole IN (SELECT oid FROM acting)))
  AND NOT {the_tools_freeze("x", "s.setting")}
  AND (r.rolname IS NULL OR r.rolname <> ALL (%(movers)s) OR {moment.owns})
"""


MOVERS = f"""
SELECT session_user::text UNION SELECT current_user::text
UNION SELECT pg_get_userbyid(n.nspowner)::text FROM pg_namespace n WHERE n.nspname = 'statehub_plan'
UNION SELECT pg_get_userbyid(s.subowner)::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND s.subname ~ '{OWN_STREAMS}'
"""
"""A query for the tool's roles on this side."""


# What a role may do beside what it is granted. `%(movers)s` are members of the owners, and may read everything, because
# a move demands it, on one side more than on the other. Superusers need be members of nothing; who may only administer
# a role (16 makes its creator so) does not act for it. Up to 15 it is the member that inherits or not, from 16 on the
# grant.
def _role(moment: Moment) -> str:
    return f"""
{acting_roles(moment.named)}
SELECT r.rolname, NULL, jsonb_build_object('superuser', r.rolsuper, 'bypasses row security', r.rolbypassrls,
       'inherits', r.rolinherit, 'may log in', r.rolcanlogin,
       'security labels', (SELECT jsonb_object_agg(l.provider, l.label) FROM pg_shseclabel l
                           WHERE l.classoid = 'pg_authid'::regclass AND l.objoid = r.oid),
       'members', (SELECT jsonb_agg(x.member ORDER BY x.member COLLATE "C") FROM (
            SELECT DISTINCT {sql_word("g.rolname")} || CASE
                   WHEN coalesce((m.j->>'inherit_option')::boolean, g.rolinherit) THEN ''
                   ELSE ', without inheriting' END AS member
            FROM (SELECT a.member, a.roleid, to_jsonb(a) AS j FROM pg_auth_members a) m
            JOIN pg_roles g ON g.oid = m.member
            WHERE m.roleid = r.oid AND NOT g.rolsuper
              AND (g.rolname <> ALL (%(movers)s) OR NOT ({moment.owns} OR {_REACHES_EVERY_TABLE}))
              AND (m.j->>'inherit_option' IS DISTINCT FROM 'false' OR m.j->>'set_option' = 'true')) x))
FROM pg_roles r WHERE r.oid IN (SELECT oid FROM acting) AND (r.rolname !~ '^pg_' OR {_REACHES_EVERY_TABLE})
  AND (r.rolname <> ALL (%(movers)s) OR {moment.owns})
"""


def _parameter(moment: Moment) -> str:
    return f"""
{acting_roles(moment.named)}
SELECT p.parname, NULL, jsonb_build_object('privileges', jsonb_agg(x.told ORDER BY x.told COLLATE "C"))
FROM pg_parameter_acl p, LATERAL (
    SELECT {sql_role("g.grantee")} || '=' || g.privilege_type
           || CASE WHEN g.is_grantable THEN '*' ELSE '' END AS told
    FROM aclexplode(p.paracl) g WHERE g.grantee = 0 OR g.grantee <> 10 AND g.grantee IN (SELECT oid FROM acting)) x
GROUP BY p.parname
"""


def _tablespace(moment: Moment) -> str:
    return f"""
SELECT s.spcname, NULL, jsonb_build_object('holds', jsonb_agg(x.name ORDER BY x.name COLLATE "C"))
FROM pg_tablespace s JOIN (
    SELECT c.reltablespace, {sql_qualified("n.nspname", "c.relname")}
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND c.reltablespace <> 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'statehub_plan'
      AND {moment.placed}
    UNION ALL SELECT d.dattablespace, 'the database' FROM pg_database d WHERE d.datname = current_database()
    ) x(oid, name) ON x.oid = s.oid
WHERE s.spcname <> 'pg_default'
GROUP BY s.spcname
"""


# By the version that they came with: what the option is called, and what of it is no default. One that an older server
# does not know has its default there.
_SUBSCRIPTION_OPTIONS = {
    140000: {
        "streaming": "CASE s.substream::text WHEN 'f' THEN 'off' WHEN 'false' THEN 'off' WHEN 'p' THEN 'parallel' "
        "ELSE 'on' END",
    },
    150000: {
        "two_phase": "nullif(s.subtwophasestate <> 'd', false)",
        "disable_on_error": "nullif(s.subdisableonerr, false)",
    },
    160000: {
        "origin": "nullif(s.suborigin, 'any')",
        "run_as_owner": "nullif(s.subrunasowner, false)",
        "password_required": "nullif(s.subpasswordrequired, true)",
    },
    170000: {"failover": "nullif(s.subfailover, false)"},
}


def subscription_options(server_version: int) -> dict[str, str]:
    """What a subscription `s` is made with beside its publications, as expressions that this server understands."""
    known = (options for since, options in _SUBSCRIPTION_OPTIONS.items() if server_version >= since)
    return {name: expression for options in known for name, expression in options.items()}


# Connection strings are a superuser's to read, and hold passwords.
_SUBSCRIPTION = f"""
SELECT s.subname, NULL, jsonb_build_object('owner', pg_get_userbyid(s.subowner), 'enabled', s.subenabled,
       'slot', s.subslotname, 'publications', to_jsonb(s.subpublications), 'synchronous commit', s.subsynccommit,
       'binary', s.subbinary, {{options}})
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND s.subname !~ '{OWN_STREAMS}'
"""

_BUILT_IN = """
SELECT 'text search configuration ' || c.cfgname, NULL, jsonb_build_object('mapping', (SELECT jsonb_agg(
       jsonb_build_array(m.maptokentype, m.mapdict::regdictionary::text) ORDER BY m.maptokentype, m.mapseqno)
       FROM pg_ts_config_map m WHERE m.mapcfg = c.oid))
FROM pg_ts_config c WHERE c.oid < 16384
UNION ALL
SELECT 'text search dictionary ' || d.dictname, NULL, jsonb_build_object('options', d.dictinitoption)
FROM pg_ts_dict d WHERE d.oid < 16384
"""


def of_the_server(server_version: int, moment: Moment = NOW) -> dict[str, str]:
    """One query per kind of object, in the words of this server (150018)."""
    found = {
        "setting": _setting(moment),
        "role": _role(moment),
        "tablespace": _tablespace(moment),
        "subscription": _SUBSCRIPTION.replace(
            "{options}", ", ".join(f"'{name}', {one}" for name, one in subscription_options(server_version).items())
        ),
        "built-in": _BUILT_IN,
    }
    if server_version >= _PARAMETER_PRIVILEGES_SINCE:
        found["parameter privileges"] = _parameter(moment)
    return found


def read_movers(connection: Connection) -> tuple[str, ...]:
    """The tool's roles on this side: who asks, who owns its schema, and for whom its subscriptions write."""
    return tuple(sorted(name for (name,) in connection.execute(MOVERS.encode())))
