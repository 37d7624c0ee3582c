"""The conditions and expressions that queries of the catalog share."""

from __future__ import annotations

from statehub_plan.postgres.names import sql_role

__all__ = ["PLACES_OWN", "own", "privileges", "user"]

PLACES_OWN = r"^(?:FUNCTION |pg_catalog\.)(pg_replication_origin_advance|pg_control_system)\("
"""Functions of the server that whoever moves a database is granted EXECUTE on (`doctor` says so): what they act on is a
server's own, and so is such a grant. A regular expression, the server's and Python's, for how the catalog and pg_dump
call them."""


def user(namespace: str = "n.nspname") -> str:
    """True for schemas that are neither the system's nor the tool's."""
    return f"({namespace} !~ '^pg_' AND {namespace} NOT IN ('information_schema', 'statehub_plan'))"


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
