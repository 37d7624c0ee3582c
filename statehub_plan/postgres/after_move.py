"""What a comparison will tell after a move, known before it: from the comparison's own queries, by its own rules.

Both sides say first what decides what is to be asked of the other one (`SITUATION`), then `statements` asks each for
what a move does not simply carry (`fates.FATES`), and `foretold` compares the source with what the target will be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from psycopg import sql

from statehub_plan.postgres.catalog import Catalog, CatalogObject, Judge, compare_catalogs, unseen
from statehub_plan.postgres.catalog_queries import queries
from statehub_plan.postgres.catalog_rest import changed_privileges, collations
from statehub_plan.postgres.catalog_rules import unknown_privileges
from statehub_plan.postgres.catalog_server import MOVERS, OWNS_SOMETHING, Moment
from statehub_plan.postgres.catalog_sql import NAMED_ROLES, own, user
from statehub_plan.postgres.comparison import Difference
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.fates import FATES, Objects, Transit
from statehub_plan.postgres.names import once, sql_qualified

__all__ = ["SITUATION", "Answered", "foretold", "statements"]

_AT_FIRST = "at first"
_Row = tuple[str, str | None, dict[str, Any]]

_MEMBER = "EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid) = (u.classid, u.objid) AND e.deptype = 'e')"
_OF_AN_EXTENSION = f"(u.classid = 'pg_extension'::regclass OR {_MEMBER})"
_NAMED_HERE = """
    SELECT u.refobjid FROM pg_shdepend u JOIN pg_database here ON here.datname = current_database()
    WHERE u.refclassid = 'pg_authid'::regclass AND """
_OWNED = "SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND "
_EXTENSIONS_OWN = f"{user()} AND NOT {own('pg_class', 'c.oid')}"
# An extension is made anew by whoever loads the schema; what else is granted on what is in it is carried.
_NAMED_BY_WHAT_MOVES = f"""{_NAMED_HERE}
    u.dbid = here.oid AND (u.deptype NOT IN ('o', 'i') OR NOT {_OF_AN_EXTENSION})
    UNION {_OWNED} {user()} AND {own("pg_class", "c.oid")}"""
_WORKING = "UNION SELECT w.oid FROM pg_roles w WHERE w.rolname = ANY (%(named)s)"
_BEFORE = Moment(named=f"{NAMED_ROLES} {_WORKING}")
_AFTER = Moment(
    named=f"""{_NAMED_HERE}
    (u.classid = 'pg_database'::regclass AND u.objid = here.oid OR u.dbid = here.oid AND (u.objid < 16384
     OR u.classid = 'pg_default_acl'::regclass OR {_OF_AN_EXTENSION}
     OR u.classid = 'pg_namespace'::regclass AND u.objid IN (SELECT e.extnamespace FROM pg_extension e)))
    UNION SELECT here.datdba FROM pg_database here WHERE here.datname = current_database()
    UNION {_OWNED} {_EXTENSIONS_OWN} {_WORKING}""",
    owns=f"(r.rolname = ANY (%(owners)s) OR r.oid IN ({_OWNED} {_EXTENSIONS_OWN}))",
    placed=_EXTENSIONS_OWN,
)
_OF_THE_HOST = (
    "n.nspname = 'pg_catalog' "
    "AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database d WHERE d.datname = current_database()))"
)

SITUATION = f"""
SELECT jsonb_build_object(
    'movers', (SELECT jsonb_agg(m.name) FROM ({MOVERS}) m(name)),
    'named', (SELECT jsonb_agg(r.rolname) FROM pg_roles r WHERE r.oid IN ({_NAMED_BY_WHAT_MOVES})),
    'owners', (SELECT jsonb_agg(r.rolname) FROM pg_roles r WHERE {OWNS_SOMETHING} AND r.oid IN
               ({_OWNED} {user()} AND {own("pg_class", "c.oid")})),
    'maker', pg_get_userbyid(10),
    'superuser', (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user),
    'available', (SELECT coalesce(jsonb_object_agg(a.name, a.default_version), '{{}}')
                  FROM pg_available_extensions() a),
    'default tablespace', current_setting('default_tablespace'),
    'tablespaces', (SELECT coalesce(jsonb_agg(s.spcname), '[]') FROM pg_tablespace s, pg_database d
                    WHERE d.datname = current_database() AND s.oid <> d.dattablespace AND s.spcname !~ '^pg_'),
    'parents', (SELECT jsonb_object_agg(x.child, x.parents) FROM (
        SELECT {sql_qualified("n.nspname", "c.relname")}, jsonb_agg({sql_qualified("m.nspname", "p.relname")}
               ORDER BY i.inhseqno)
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace m ON m.oid = p.relnamespace
        WHERE c.relkind IN ('r', 'f') AND NOT c.relispartition AND {user()} GROUP BY 1) x(child, parents)))
"""
"""What a side says before it is known what to ask: one object. `named` and `owners` are the roles that what moves
names, and by which it is owned."""


class Answered:
    """What one side has answered: its situation, the statements' rows by kind, its version and the tool's roles."""

    def __init__(
        self,
        situation: dict[str, Any],
        rows: Mapping[str, Sequence[_Row]],
        version: int,
        roles: Collection[str],
    ) -> None:
        self.situation, self.version, self.roles = situation, version, frozenset(roles)
        self.kinds = {kind: _objects(kind, found) for kind, found in rows.items()}


def statements(
    on_target: bool,
    mine: Mapping[str, Any],
    other: Mapping[str, Any],
    *,
    roles: tuple[Collection[str], Collection[str]],
    versions: tuple[int, int],
) -> dict[str, str]:
    """What to ask one side, by kind, run with the session's settings `snapshot.RENDERING`; `mine` is its situation,
    `other` the other side's, and so are `roles`, the tool's, and `versions`."""
    named = {*roles[0], *(other["named"] or () if on_target else ())}
    values = {
        "ignored": unknown_privileges(min(versions)),
        "movers": sorted({*mine["movers"], *other["movers"], *roles[0], *roles[1]}),
        "named": sorted(named),
        "owners": sorted(other["owners"] or ()),
    }
    asked = dict(_asked(on_target, mine, versions[0]))
    return {kind: _with_values(text, values) for kind, text in asked.items()}


def _asked(on_target: bool, situation: Mapping[str, Any], version: int) -> Iterator[tuple[str, str]]:
    for kind, query in queries(version, _AFTER if on_target else _BEFORE).items():
        fate = FATES[kind]
        which = fate.target if on_target else fate.source
        if which is None or (fate.where is not None and not situation[fate.where]):
            continue
        if kind == "collation" and on_target:
            query = collations(_OF_THE_HOST)
        if kind == "changed privileges" and not on_target:
            query = changed_privileges(with_first=True)
        yield kind, f"SELECT name, belongs, told FROM ({query}) q(name, belongs, told) WHERE {which}"


def _with_values(text: str, values: Mapping[str, Sequence[str]]) -> str:
    for name, value in values.items():
        literal = sql.Literal(list(value)).as_string(None)
        text = text.replace(f"%({name})s", f"{literal}::text[]")
    return text


def foretold(source: Answered, target: Answered) -> tuple[Difference, ...]:
    """What `compare` will call different, or not be able to tell, once what moves has been moved; sorted."""
    changed = source.kinds.get("changed privileges", {})
    at_first = {name: frozenset(one.definition.pop(_AT_FIRST) or ()) for name, one in changed.items()}
    transit = Transit(
        source=source.situation,
        target=target.situation,
        source_version=source.version,
        target_version=target.version,
        target_roles=target.roles,
        at_first=at_first,
        settings=source.kinds.get("setting", {}),
    )
    before: Catalog = {}
    after: Catalog = {}
    for kind in source.kinds.keys() | target.kinds.keys():
        ours, theirs = (side.kinds.get(kind, {}) for side in (source, target))
        before |= {(kind, name): one for name, one in ours.items()}
        after |= {(kind, name): one for name, one in FATES[kind].after(ours, theirs, transit).items()}
    differences, _ = compare_catalogs(
        before, after, source_version=source.version, target_version=target.version, judge=_Asleep()
    )
    return (*differences, *unseen(before, after))


class _Asleep(Judge):
    """Two spellings are two meanings to it: of what is compared here none is spelled by the server."""

    def __init__(self) -> None:
        super().__init__(_nobody)

    def view(self, definition: str) -> str | None:
        return None

    def routine(self, definition: str) -> str | None:
        return None


def _nobody() -> Connection:
    raise RuntimeError("nobody is asked how a definition is spelled")


def _objects(kind: str, rows: Sequence[_Row]) -> Objects:
    return once(((row[0], CatalogObject(kind, *row)) for row in rows), "objects")
