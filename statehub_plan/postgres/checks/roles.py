"""Checks of the roles that objects name and that the service uses: roles are the server's and don't travel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from statehub_plan.model.preflight import Severity, Side
from statehub_plan.postgres.catalog_rest import HIDDEN_OPTIONS
from statehub_plan.postgres.catalog_sql import PLACES_OWN
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident, literal, read_write
from statehub_plan.postgres.checks.questions import ROLE, USER_SCHEMA, not_extension, role
from statehub_plan.postgres.connect import APPLICATION_PREFIX

__all__: list[str] = []

_HELD = (
    # catalog, owner, privileges, namespace column
    ("pg_class", "relowner", "relacl", "relnamespace"),
    ("pg_proc", "proowner", "proacl", "pronamespace"),
    ("pg_type", "typowner", "typacl", "typnamespace"),
    ("pg_namespace", "nspowner", "nspacl", "oid"),
)
# An array type is its element's owner's, and up to 16 no member of the extension whose element it is of.
_NO_ARRAY = "NOT EXISTS (SELECT FROM pg_type element WHERE element.typarray = x.oid)"
_OWNERS = " UNION ".join(
    f"SELECT x.{owner} FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{namespace} "
    f"WHERE {USER_SCHEMA} AND {not_extension(catalog, 'x.oid')}" + (f" AND {_NO_ARRAY}" if catalog == "pg_type" else "")
    for catalog, owner, _, namespace in _HELD
)
_GRANTEES = " UNION ".join(
    (
        *(
            f"SELECT a.grantee FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{namespace}, "
            f"aclexplode(x.{acl}) a WHERE {USER_SCHEMA} AND {not_extension(catalog, 'x.oid')}"
            for catalog, _, acl, namespace in _HELD
        ),
        "SELECT a.grantee FROM pg_attribute x JOIN pg_class c ON c.oid = x.attrelid "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(x.attacl) a WHERE {USER_SCHEMA}",
        "SELECT r FROM pg_policy x, unnest(x.polroles) r",
        "SELECT x.defaclrole FROM pg_default_acl x",
        "SELECT a.grantee FROM pg_default_acl x, aclexplode(x.defaclacl) a",
    )
)
# One row for each role that is named by an object here, or is the service's: whether it owns one, is named by one.
_NAMED = Query(
    f"""
    WITH owners(oid) AS MATERIALIZED ({_OWNERS}), grantees(oid) AS MATERIALIZED ({_GRANTEES})
    SELECT n.name, bool_or(n.owner), bool_or(n.by_object) FROM (
        SELECT pg_get_userbyid(oid) AS name, true AS owner, true AS by_object FROM owners
        UNION ALL SELECT pg_get_userbyid(oid), false, true FROM grantees WHERE oid <> 0
        UNION ALL SELECT unnest({{app_roles}}::name[]), false, false) n
    GROUP BY 1 ORDER BY 1
    """,
    ("app_roles",),
)
_ROLES = Query(
    """
    SELECT r.rolname, r.rolcanlogin, r.rolsuper, r.rolbypassrls, r.rolinherit, r.rolconnlimit,
           coalesce(r.rolvaliduntil <= clock_timestamp(), false), pg_has_role(r.oid, 'MEMBER'),
           has_database_privilege(r.oid, current_database(), 'CONNECT'),
           ARRAY(SELECT s FROM pg_db_role_setting x, unnest(x.setconfig) s
                 WHERE x.setrole = r.oid AND x.setdatabase = 0 ORDER BY s),
           ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                 WHERE m.member = r.oid ORDER BY 1)
    FROM pg_roles r
    """
)
_APP_ROLES = Query("SELECT unnest({app_roles}::text[])", ("app_roles",))
_SUPERUSERS_HERE = Query(
    "SELECT DISTINCT a.usename FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid "
    "WHERE a.datname = current_database() AND r.rolsuper "
    f"AND NOT coalesce(starts_with(a.application_name, '{APPLICATION_PREFIX}'), false) "
    "AND NOT coalesce(starts_with(a.backend_type, 'logical replication'), false) "
    "AND a.pid NOT IN (SELECT s.pid FROM pg_stat_get_wal_senders() s) ORDER BY 1"
)
_BYPASSING = Query(
    """
    SELECT coalesce(d.datname, ''), coalesce(r.rolname, '') FROM pg_db_role_setting x
    LEFT JOIN pg_database d ON d.oid = x.setdatabase LEFT JOIN pg_roles r ON r.oid = x.setrole,
    unnest(x.setconfig) AS s(setting)
    WHERE s.setting ~ '^session_replication_role=' AND s.setting !~* '=origin$'
      AND (x.setdatabase = 0 OR d.datname = current_database())
    UNION ALL
    SELECT '', '' WHERE EXISTS (SELECT FROM pg_settings WHERE name = 'session_replication_role' AND setting <> 'origin')
    ORDER BY 1, 2
    """
)
# What was granted or revoked on the server's own objects since it was made, as far as pg_dump tells it: subject, what
# GRANT calls it, column, grantee (null: everybody), privilege, with grant option, whether it was granted.
# 17 added MAINTAIN, which ALL includes there.
_SYSTEM_PRIVILEGES = Query(
    " UNION ALL ".join(
        f"""
        SELECT i.identity, {on}, {column}, CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee)::text END,
               g.privilege, g.grantable, g.granted
        FROM {source} LEFT JOIN pg_init_privs p
            ON p.classoid = '{catalog}'::regclass AND p.objoid = {oid} AND p.objsubid = {part},
        pg_identify_object('{catalog}'::regclass, {oid}, {part}) i, LATERAL (
            SELECT a.grantee, a.privilege_type, a.is_grantable, bool_or(a.now) FROM (
                SELECT true AS now, grantee, privilege_type, is_grantable FROM aclexplode({acl})
                UNION ALL SELECT false, grantee, privilege_type, is_grantable
                FROM aclexplode(coalesce(p.initprivs, acldefault('{kind}', {owner})))) a
            GROUP BY 1, 2, 3 HAVING count(*) = 1) AS g(grantee, privilege, grantable, granted)
        WHERE {acl} IS NOT NULL AND {oid} < 16384 AND g.grantee <> {owner}
          AND coalesce(i.schema, i.identity) NOT IN ('public', 'information_schema')
          AND g.privilege <> 'MAINTAIN' AND NOT (g.grantee <> 0 AND i.identity ~ '{PLACES_OWN}')
        """
        for catalog, source, oid, part, column, acl, owner, kind, on in (
            (
                *("pg_class", "pg_attribute x JOIN pg_class c ON c.oid = x.attrelid", "x.attrelid", "x.attnum::int4"),
                *("x.attname::text", "x.attacl", "c.relowner", "c", "'TABLE ' || x.attrelid::regclass"),
            ),
            *(
                (
                    catalog,
                    f"{catalog} x",
                    "x.oid",
                    "0",
                    "NULL",
                    f"x.{acl}",
                    f"x.{owner}",
                    kind,
                    f"'{on} ' || i.identity",
                )
                for catalog, owner, acl, kind, on in (
                    ("pg_proc", "proowner", "proacl", "f", "ROUTINE"),
                    ("pg_class", "relowner", "relacl", "r", "TABLE"),
                    ("pg_type", "typowner", "typacl", "T", "TYPE"),
                    ("pg_namespace", "nspowner", "nspacl", "n", "SCHEMA"),
                    ("pg_language", "lanowner", "lanacl", "l", "LANGUAGE"),
                )
            ),
        )
    )
    + " ORDER BY 1, 2, 3 NULLS FIRST, 4 NULLS FIRST, 5"
)
# Of each user mapping: its role (null: everybody), its server, and whether its options are hidden from whoever asks.
_MAPPINGS = Query(
    f"""
    SELECT CASE WHEN m.umuser <> 0 THEN m.usename END, m.srvname, {HIDDEN_OPTIONS}
    FROM pg_user_mappings m JOIN pg_foreign_server s ON s.oid = m.srvid JOIN pg_roles r ON r.rolname = current_user
    ORDER BY 1 NULLS FIRST, 2
    """
)
_ATTRIBUTES = {3: "BYPASSRLS", 4: "INHERIT", 1: "LOGIN"}


def _both(look: Look) -> Iterator[tuple[str, tuple[object, ...], tuple[object, ...]]]:
    """Each role that the source's objects or the service name and that both sides have: name, there, here."""
    here, there = ({row[0]: row for row in answers.rows(_ROLES)} for answers in (look.here, look.there))
    for name, *_ in look.there.rows(_NAMED):
        if name in here and name in there:
            yield name, there[name], here[name]


@check(
    "role-missing",
    Severity.ERROR,
    Place.TARGET,
    title="every role that owns something or was granted something exists on the target",
    reason="loading the schema fails at the first owner or grantee that is not there",
    here=(_ROLES,),
    there=(_NAMED,),
)
def _missing(look: Look) -> Iterator[Seen]:
    present = {row[0] for row in look.here.rows(_ROLES)}
    for name, _, by_object in look.there.rows(_NAMED):
        if by_object and name not in present:
            yield Seen(
                f"role {name} owns or is granted something on the source and does not exist on the target's server",
                f"CREATE ROLE {ident(name)} (with the options and the password that it has on the source)",
                name,
            )


@check(
    "role-not-grantable",
    Severity.ERROR,
    Place.TARGET,
    title="the tool's role may make every owner an owner on the target",
    reason="ALTER … OWNER TO takes membership in the new owner",
    here=(_ROLES, ROLE),
    there=(_NAMED,),
)
def _not_grantable(look: Look) -> Iterator[Seen]:
    member = {row[0]: row[7] for row in look.here.rows(_ROLES)}
    mine = role(look.here).name
    for name, owner, _ in look.there.rows(_NAMED):
        if owner and member.get(name) is False and name != "pg_database_owner":  # whose owner is asked for elsewhere
            yield Seen(
                f"the tool's role {mine} may not make {name} an owner on the target",
                f"GRANT {ident(name)} TO {ident(mine)}",
                name,
            )


@check(
    "system-privileges",
    Severity.ERROR,
    Place.TARGET,
    title="what was granted or revoked on the server's own functions and catalogs is so on the target, or the tool's "
    "role is a superuser there",
    reason="only a superuser may do it: what the service could do on the source it could not do after the redirect",
    here=(ROLE, _SYSTEM_PRIVILEGES),
    there=(_SYSTEM_PRIVILEGES,),
)
def _system_privileges(look: Look) -> Iterator[Seen]:
    if role(look.here).superuser:
        return
    done = set(look.here.rows(_SYSTEM_PRIVILEGES))
    missing = [row for row in look.there.rows(_SYSTEM_PRIVILEGES) if row not in done]
    for subject, rows in groupby(missing, key=lambda row: str(row[0])):
        yield Seen(
            f"the source's privileges on {subject} are not those of the target, and role {role(look.here).name} may "
            "not change them there",
            f"as a superuser in the {look.side}'s database: {read_write(*(_changing(*row[1:]) for row in rows))}",
            subject,
        )


def _changing(on: str, column: str | None, grantee: str | None, privilege: str, grantable: bool, granted: bool) -> str:
    what = f"{privilege} ({ident(column)}) ON {on}" if column else f"{privilege} ON {on}"
    whom = ident(grantee) if grantee else "PUBLIC"
    if not granted:
        return f"REVOKE {what} FROM {whom}"
    return f"GRANT {what} TO {whom}" + (" WITH GRANT OPTION" if grantable else "")


@check(
    "role-attributes-differ",
    Severity.WARNING,
    Place.TARGET,
    title="roles have the same attributes on both sides",
    reason="without BYPASSRLS rows disappear, without INHERIT privileges do, without LOGIN the service stays outside",
    here=(_ROLES,),
    there=(_ROLES, _NAMED),
)
def _attributes(look: Look) -> Iterator[Seen]:
    for name, old, new in _both(look):
        for position, word in _ATTRIBUTES.items():
            if old[position] != new[position]:
                wanted = word if old[position] else f"NO{word}"
                yield Seen(
                    f"role {name} is {wanted} on the source and not on the target",
                    f"ALTER ROLE {ident(name)} {wanted}",
                    name,
                )


@check(
    "role-memberships-differ",
    Severity.WARNING,
    Place.TARGET,
    title="roles are members of the same roles on both sides",
    reason="a privilege that comes through a group is missing: permission denied after the redirect",
    here=(_ROLES,),
    there=(_ROLES, _NAMED),
)
def _memberships(look: Look) -> Iterator[Seen]:
    present = {str(row[0]) for row in look.here.rows(_ROLES)}
    for name, old, new in _both(look):
        groups, had = (set(row[10]) for row in (new, old))  # type: ignore[call-overload]
        for group in sorted(had - groups):
            if group.startswith("pg_") and group not in present:
                continue  # a predefined role of a later major: the target's server knows no such privilege
            yield Seen(
                f"role {name} is a member of {group} on the source and not on the target",
                f"GRANT {ident(group)} TO {ident(name)}",
                name,
            )


@check(
    "role-settings-differ",
    Severity.WARNING,
    Place.TARGET,
    title="settings of roles are the same on both sides",
    reason="a search_path or a time-out that was set for the role everywhere is the server's and stays behind",
    here=(_ROLES,),
    there=(_ROLES, _NAMED),
)
def _settings(look: Look) -> Iterator[Seen]:
    for name, old, new in _both(look):
        for text in sorted(set(old[9]) - set(new[9])):  # type: ignore[call-overload]
            setting, _, value = str(text).partition("=")
            yield Seen(
                f"{setting} is set for role {name} on the source and not so on the target",
                f"ALTER ROLE {ident(name)} SET {setting} = {literal(value)}",
                name,
            )


@check(
    "mapping-options-hidden",
    Severity.WARNING,
    Place.EACH,
    title="the tool's role may see the options of every user mapping, where it backs up and where it drills",
    reason="pg_dump leaves out what its role may not see: the password is in no backup, and no restore drill passes",
    here=(_MAPPINGS, ROLE),
    there=(_MAPPINGS,),
)
def _mappings(look: Look) -> Iterator[Seen]:
    mine = role(look.here)
    hidden = {
        (name, server): "takes a backup" for name, server, out_of_sight in look.here.rows(_MAPPINGS) if out_of_sight
    }
    if look.side is Side.TARGET and not mine.superuser:
        restored = ((name, server) for name, server, _ in look.there.rows(_MAPPINGS) if name not in (None, mine.name))
        hidden = dict.fromkeys(restored, "drills a backup of the source") | hidden
    for (name, server), purpose in hidden.items():
        whose = ident(name) if name else "PUBLIC"
        yield Seen(
            f"role {mine.name} {purpose} on the {look.side} and may not see the options of the user mapping of {whose} "
            f"on server {ident(server)}",
            "let a superuser's connection back up and drill there, or, where nothing uses it: "
            f"DROP USER MAPPING FOR {whose} SERVER {ident(server)}",
            f"{name or 'PUBLIC'} on {server}",
        )


@check(
    "connection-limit-lower",
    Severity.WARNING,
    Place.TARGET,
    title="roles may open as many connections on the target",
    reason="after the redirect the service is refused with `too many connections for role`",
    here=(_ROLES,),
    there=(_ROLES, _NAMED),
)
def _limits(look: Look) -> Iterator[Seen]:
    for name, old, new in _both(look):
        before, after = int(str(old[5])), int(str(new[5]))
        if 0 <= after and (before < 0 or after < before):
            yield Seen(
                f"role {name} may open {after} connections on the target, {before if before >= 0 else 'any number'} on "
                "the source",
                f"ALTER ROLE {ident(name)} CONNECTION LIMIT {before}",
                name,
            )


@check(
    "app-role-missing",
    Severity.ERROR,
    Place.EACH,
    title="the service's roles exist",
    reason="after the redirect the service cannot log in",
    here=(_ROLES, _APP_ROLES),
)
def _app_missing(look: Look) -> Iterator[Seen]:
    present = {row[0] for row in look.here.rows(_ROLES)}
    for (name,) in look.here.rows(_APP_ROLES):
        if name not in present:
            yield Seen(
                f"the service's role {name} does not exist on the {look.side}'s server",
                f"CREATE ROLE {ident(name)} LOGIN (with the password that the service uses)",
                name,
            )


@check(
    "app-role-shut-out",
    Severity.WARNING,
    Place.EACH,
    title="the service's roles may log in and connect",
    reason="after the redirect the service cannot connect, although the database is open",
    here=(_ROLES, _APP_ROLES, ROLE),
)
def _shut_out(look: Look) -> Iterator[Seen]:
    known = {row[0]: row for row in look.here.rows(_ROLES)}
    for (name,) in look.here.rows(_APP_ROLES):
        if name not in known:
            continue
        _, login, _, _, _, _, expired, _, connects, *_ = known[name]
        database = ident(role(look.here).database)
        for shut, what, remedy in (
            (not login, "has NOLOGIN", f"ALTER ROLE {ident(name)} LOGIN"),
            (expired, "has an expired password", f"ALTER ROLE {ident(name)} VALID UNTIL 'infinity'"),
            (not connects, "lacks CONNECT on the database", f"GRANT CONNECT ON DATABASE {database} TO {ident(name)}"),
        ):
            if shut:
                yield Seen(f"the service's role {name} {what} on the {look.side}", remedy, name)


@check(
    "app-role-superuser",
    Severity.WARNING,
    Place.EACH,
    title="the service's roles are no superusers",
    reason="a superuser can disable a fence, and the tool cannot end its sessions without being one itself",
    here=(_ROLES, _APP_ROLES),
)
def _app_superuser(look: Look) -> Iterator[Seen]:
    superusers = {row[0] for row in look.here.rows(_ROLES) if row[2]}
    for (name,) in look.here.rows(_APP_ROLES):
        if name in superusers:
            yield Seen(
                f"the service's role {name} is a superuser on the {look.side}",
                f"ALTER ROLE {ident(name)} NOSUPERUSER",
                name,
            )


@check(
    "superuser-sessions",
    Severity.WARNING,
    Place.SOURCE,
    title="no superuser is at work in the database",
    reason="a superuser's session can undo a freeze, and only a superuser can end it",
    here=(_SUPERUSERS_HERE,),
)
def _superusers(look: Look) -> Iterator[Seen]:
    names = [name for (name,) in look.here.rows(_SUPERUSERS_HERE)]
    if names:
        yield Seen(
            f"superusers have sessions in the source's database: {', '.join(names)}",
            "ask them to stay out of it during the move",
        )


@check(
    "triggers-bypassed",
    Severity.ERROR,
    Place.EACH,
    title="nobody's session_replication_role switches triggers off",
    reason="fence triggers do not fire for such sessions: they go on writing into a frozen database",
    here=(_BYPASSING,),
)
def _bypassed(look: Look) -> Iterator[Seen]:
    for database, name in look.here.rows(_BYPASSING):
        whose = f"ROLE {ident(name)}" if name else f"DATABASE {ident(database)}" if database else "SYSTEM"
        within = f" IN DATABASE {ident(database)}" if name and database else ""
        yield Seen(
            f"session_replication_role is set for {name or 'every role'} on the {look.side}",
            f"ALTER {whose}{within} RESET session_replication_role",
            name,
        )
