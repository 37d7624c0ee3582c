"""The conditions and expressions that queries of the catalog share."""

from __future__ import annotations

from statehub_plan.postgres.names import sql_role

__all__ = [
    "FROZEN",
    "NAMED_ROLES",
    "OWN_FENCE",
    "OWN_PUBLICATIONS",
    "PLACES_OWN",
    "acting_roles",
    "own",
    "privileges",
    "the_tools_freeze",
    "used_collations",
    "user",
]

PLACES_OWN = r"^(?:FUNCTION |pg_catalog\.)(pg_replication_origin_advance|pg_control_system)\("
"""Functions of the server that whoever moves a database is granted EXECUTE on (`doctor` says so): what they act on is a
server's own, and so is such a grant. A regular expression, the server's and Python's, for how the catalog and pg_dump
call them."""


OWN_FENCE = "^statehub_plan_fence$"
"""The tool's trigger on each table of the user."""
OWN_PUBLICATIONS = "^statehub_plan(_part)?$"
"""The tool's publications; a user's may well begin like them."""

FROZEN = (
    "EXISTS (SELECT FROM pg_proc gate WHERE gate.pronamespace = to_regnamespace('statehub_plan') "
    "AND gate.proname = 'gate' AND gate.prosrc ~ 'RETURN false')"
)
"""Whether this database is frozen by the tool: its gate is shut, which everybody may see, unlike the tool's state. One
transaction shuts it, or opens it, and changes the database's read-only default."""

NAMED_ROLES = """
    SELECT u.refobjid FROM pg_shdepend u JOIN pg_database here ON here.datname = current_database()
    WHERE u.refclassid = 'pg_authid'::regclass
      AND (u.dbid = here.oid OR u.classid = 'pg_database'::regclass AND u.objid = here.oid)
    UNION SELECT here.datdba FROM pg_database here WHERE here.datname = current_database()
    UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname <> 'statehub_plan'"""
"""A query for the roles that something here names: owners, grantees, whom a policy is for."""


# The server depends on predefined roles and keeps no record of what they are granted; these reach every table.
def acting_roles(named: str = NAMED_ROLES) -> str:
    """A WITH clause: the roles that something here names (`named`), and with those who act for them as members, or may
    read or write every table (`acting`)."""
    return f"""WITH RECURSIVE named(oid) AS ({named}), acting(oid) AS (
    SELECT oid FROM named
    UNION SELECT r.oid FROM pg_roles r WHERE r.rolname ~ '^pg_(read_all_data|write_all_data|maintain)$'
    UNION SELECT m.member FROM acting a JOIN pg_auth_members m ON m.roleid = a.oid)
"""


def the_tools_freeze(settings: str, entry: str) -> str:
    """True for the read-only default that a freeze of the tool has set; `settings` is a row of pg_db_role_setting of
    this database, `entry` one of its texts. Anybody else's is the user's own; but `off`, the server's default, is what
    a freeze replaces and an opening leaves unset."""
    state = f"({entry} = '{_READ_ONLY}=on' AND {FROZEN} OR {entry} = '{_READ_ONLY}=off')"
    return f"({settings}.setrole = 0 AND {settings}.setdatabase <> 0 AND {state})"


_READ_ONLY = "default_transaction_read_only"


def user(namespace: str = "n.nspname", *, oid: str | None = None) -> str:
    """True for schemas that are neither the system's nor the tool's; with `oid`, the object's, also for what a user has
    put into the system's."""
    users = f"({namespace} !~ '^pg_' AND {namespace} NOT IN ('information_schema', 'statehub_plan'))"
    return f"({users} OR {namespace} = 'pg_catalog' AND {oid} >= 16384)" if oid else users


def used_collations() -> str:
    """A query for the OIDs of the collations by which the user's columns, indexes, types and code sort, without those
    that are the same in every cluster of a major: of whom these serve there is no record (`pg_depend`)."""
    relation = (
        "CASE d.classid WHEN 'pg_class'::regclass THEN d.objid "
        "WHEN 'pg_rewrite'::regclass THEN (SELECT r.ev_class FROM pg_rewrite r WHERE r.oid = d.objid) "
        "WHEN 'pg_attrdef'::regclass THEN (SELECT f.adrelid FROM pg_attrdef f WHERE f.oid = d.objid) "
        "WHEN 'pg_trigger'::regclass THEN (SELECT t.tgrelid FROM pg_trigger t WHERE t.oid = d.objid) "
        "WHEN 'pg_policy'::regclass THEN (SELECT p.polrelid FROM pg_policy p WHERE p.oid = d.objid) END"
    )
    schema = (
        "CASE d.classid WHEN 'pg_proc'::regclass THEN (SELECT p.pronamespace FROM pg_proc p WHERE p.oid = d.objid) "
        "WHEN 'pg_type'::regclass THEN (SELECT t.typnamespace FROM pg_type t WHERE t.oid = d.objid) "
        "WHEN 'pg_constraint'::regclass THEN "
        "(SELECT k.connamespace FROM pg_constraint k WHERE k.oid = d.objid) "
        f"ELSE (SELECT c.relnamespace FROM pg_class c WHERE c.oid = {relation}) END"
    )
    return f"""
    SELECT d.refobjid FROM pg_depend d JOIN pg_namespace n ON n.oid = {schema}
    WHERE d.refclassid = 'pg_collation'::regclass AND {user()}"""


def own(catalog: str, oid: str) -> str:
    """True for what is no member of an extension."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend member WHERE member.classid = '{catalog}'::regclass "
        f"AND member.objid = {oid} AND member.deptype = 'e')"
    )


def privileges(kind: str, acl: str, owner: str, *, but: str = "false") -> str:
    """An access list as sorted JSON texts, defaults spelled out; `kind` as acldefault() has it. Without those for which
    the condition `but` about `grantee` holds."""
    # Who granted is left out: it only says who may revoke, and a restore by another role changes it.
    return (
        '(SELECT jsonb_agg(grant_text ORDER BY grant_text COLLATE "C") FROM (SELECT '
        f"{sql_role('x.grantee')} || '=' || x.privilege_type "
        "|| CASE WHEN x.is_grantable THEN '*' ELSE '' END AS grant_text "
        f"FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) x "
        f"WHERE x.privilege_type <> ALL (%(ignored)s) AND NOT ({but})) g)"
    )
