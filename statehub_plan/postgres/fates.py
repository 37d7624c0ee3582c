"""What a move does with each kind of object that a comparison reads: what of it is not simply carried, and what the
target will say of that afterwards.

A move carries what pg_dump writes, drops of the target what it finds in its schemas, and leaves or makes everything
else as the target has it. Objects are `Objects`: of one kind, by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from statehub_plan.postgres.catalog_rules import CatalogObject
from statehub_plan.postgres.catalog_sql import user
from statehub_plan.postgres.names import sql_qualified, sql_word, word

__all__ = ["FATES", "Fate", "Objects", "Transit"]

Objects = dict[str, CatalogObject]

_OWN_PUBLIC_SINCE = 150000
_DEFAULT_COMMENT = "standard public schema"
_NOT_SET_AGAIN = "every role: default_transaction_read_only"

# Of the target these are not dropped with what is in them.
_STAYING_SCHEMA = "(n.nspname = 'public' OR n.oid IN (SELECT e.extnamespace FROM pg_extension e))"
_SCHEMAS = f"FROM pg_namespace n WHERE {user()} AND {_STAYING_SCHEMA}"

# Conditions on `name`, `belongs` and `told`, the columns of every query of a catalog.
_ALL = "true"
_IN_PG_CATALOG = "name ~ '^([a-z ]+ )?pg_catalog[.]' AND name !~ '^transform '"
_STAYING = f"name IN (SELECT n.nspname {_SCHEMAS})"
_DEFAULTS_THAT_STAY = (
    f"(name ~ ' in every schema for .$' OR EXISTS (SELECT {_SCHEMAS} AND starts_with("
    f"right(name, length({sql_word('n.nspname')}) + 10), ' in ' || {sql_word('n.nspname')} || ' for ')))"
)
_OF_SCHEMAS = "name ~ '^schema '"
_OF_STAYING_SCHEMAS = f"name IN (SELECT 'schema ' || quote_ident(n.nspname) {_SCHEMAS})"
_OF_IMPLIED_TYPES = "(told->'implied type')::boolean"
_ON_DATABASE = "name ~ ' on database$'"
_TOLD_OTHERWISE = f"""name IN (
    SELECT {sql_qualified("n.nspname", "c.relname")} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid IN (SELECT t.tgrelid FROM pg_trigger t WHERE t.tgisinternal AND t.tgenabled <> 'O'
                    UNION SELECT i.inhrelid FROM pg_inherits i WHERE i.inhdetachpending
                    UNION SELECT k.conrelid FROM pg_constraint k JOIN pg_constraint o ON o.oid = k.conparentid
                    WHERE k.contype = 'f' AND k.convalidated <> o.convalidated))"""
_OF_A_FAMILY = f"""belongs IN (
    SELECT {sql_qualified("n.nspname", "c.relname")} FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
    JOIN pg_class c ON c.oid IN (i.inhrelid, i.inhparent) JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT k.relispartition) AND name !~ '[.](tableoid|[cx]max|[cx]min|ctid)$'"""


def _added_alone(and_for: str = "true") -> str:
    """Families with members that no operator class has brought along."""
    return f"""name IN (
    SELECT i.identity FROM (
        SELECT 'pg_amop'::regclass, a.oid, a.amopfamily, a.amopopr FROM pg_amop a
        UNION ALL SELECT 'pg_amproc'::regclass, a.oid, a.amprocfamily, a.amproc FROM pg_amproc a
    ) m(classid, oid, family, does), pg_identify_object('pg_opfamily'::regclass, m.family, 0) i
    WHERE m.oid >= 16384 AND m.family < 16384 AND {and_for} AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = m.classid AND d.objid = m.oid
        AND d.refclassid = 'pg_opclass'::regclass))"""


@dataclass(frozen=True, slots=True)
class Transit:
    """What else is known of both sides: what `after_move.SITUATION` has answered, their versions, the tool's roles on
    the target, and of the source what its objects were granted as they came, and its settings."""

    source: dict[str, Any]
    target: dict[str, Any]
    source_version: int
    target_version: int
    target_roles: frozenset[str]
    at_first: dict[str, frozenset[str]]
    settings: Objects


After = Callable[[Objects, Objects, Transit], Objects]
"""What the target will say, from what the source says and what the target has said before."""


def _stays(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    return theirs


@dataclass(frozen=True, slots=True)
class Fate:
    """One kind's. `source` and `target`: conditions for what of each side is looked at, None for nothing; only where
    the source's situation has something under `where`. The rest is carried as it is, or dropped."""

    source: str | None = None
    target: str | None = None
    after: After = _stays
    where: str | None = None


def _changed(one: CatalogObject, **aspects: Any) -> CatalogObject:
    return replace(one, definition=one.definition | {name.replace("_", " "): value for name, value in aspects.items()})


def _grants(one: CatalogObject) -> set[str]:
    return set(one.definition["privileges"] or ())


def _granted(at_first: Collection[str], ours: set[str], theirs: set[str]) -> list[str] | None:
    """What is granted when pg_dump's statements, which lead from `at_first` to `ours`, meet `theirs`."""
    left = (theirs - (set(at_first) - ours)) | (ours - set(at_first))
    return sorted(one for one in left if f"{one}*" not in left) or None


def _handed_over(grants: Iterable[str], old: str, new: str) -> set[str]:
    """The same after another owner, or of what another one has made."""
    before, after = (f"{_grantee(name)}=" for name in (old, new))
    return {after + one.removeprefix(before) if one.startswith(before) else one for one in grants}


def _grantee(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"' if name == "PUBLIC" or '"' in name else name


def _schemas(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """Those that are there get the source's owner, but for the usual one of `public`, and the source's grants."""
    after = dict(theirs)
    for name, one in ours.items():
        there = theirs.get(name)
        after[name] = one if there is None else _schema(one, _made_public(there, transit))
    return after


def _made_public(there: CatalogObject, transit: Transit) -> CatalogObject:
    """As `loading` makes it on an older target than 15."""
    grants, owner = _grants(there), there.definition["owner"]
    older = transit.target_version < _OWN_PUBLIC_SINCE <= transit.source_version
    if there.name != "public" or not older or (owner == "pg_database_owner" and "PUBLIC=CREATE" not in grants):
        return there
    left = _handed_over(grants - {"PUBLIC=CREATE"}, owner, "pg_database_owner")
    return _changed(there, owner="pg_database_owner", privileges=sorted(left))


def _schema(ours: CatalogObject, there: CatalogObject) -> CatalogObject:
    owner, held = ours.definition["owner"], there.definition["owner"]
    at_first = {f"{_grantee(owner)}=USAGE", f"{_grantee(owner)}=CREATE"}
    grants = _grants(there)
    if ours.name == "public":
        at_first.add("PUBLIC=USAGE")
    if ours.name != "public" or owner != "pg_database_owner":
        grants, held = _handed_over(grants, held, owner), owner
    return _changed(there, owner=held, privileges=_granted(at_first, _grants(ours), grants))


def _relations(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """No dump says that constraint triggers are silenced, that a partition is half detached, nor that its part of a
    foreign key is checked where the whole is not."""
    said = {"being detached": False, "silenced constraint triggers": None, "foreign keys unlike their parents": None}
    return {name: replace(one, definition=one.definition | said) for name, one in ours.items()}


def _columns(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """A table that is made anew has the columns of its parents first."""
    parents: dict[str, list[str]] = transit.source["parents"]
    by_table: dict[str, list[str]] = {}
    for one in sorted(ours.values(), key=lambda each: int(each.definition["position"])):
        by_table.setdefault(one.table or "", []).append(one.name.removeprefix(f"{one.table}."))

    def ordered(table: str) -> list[str]:
        inherited = (column for parent in parents.get(table, ()) for column in ordered(parent))
        return list(dict.fromkeys((*inherited, *by_table.get(table, ()))))

    after: Objects = {}
    for table, columns in by_table.items():
        places = {column: place for place, column in enumerate(ordered(table), 1)}
        after |= {
            f"{table}.{column}": _changed(ours[f"{table}.{column}"], position=places[column]) for column in columns
        }
    return after


def _collations(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """Those of the server are as the target's host has them (`theirs`); one that is made there takes the version of its
    library. What is missing is another check's to tell."""
    versions = {_library(one): one.definition["version"] for one in theirs.values()}
    after = {}
    for name, one in ours.items():
        key = _library(one)
        after[name] = theirs.get(name) or (_changed(one, version=versions[key]) if key in versions else one)
    return after


def _library(one: CatalogObject) -> tuple[str, str]:
    locale = one.definition["collate"] or one.definition["locale"] or ""
    return one.definition["provider"], locale.partition("-u-")[0]


def _extensions(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """One that is there stays as it is; another is made in the target's version, with the comment that it has there."""
    after, available = dict(theirs), transit.target["available"]
    for name in ours.keys() - theirs.keys():
        version = available.get(name)
        made = {} if version is None else {"version": f"{version} (its server's default)", "comment": None}
        after[name] = replace(ours[name], definition=ours[name].definition | made)
    return after


def _default_privileges(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """Those of the tool's role are set anew; others are granted besides those that are there."""
    after = ours | theirs
    working = tuple(f"{word(role)} in " for role in transit.target_roles)
    for name in ours.keys() & theirs.keys():
        if name.startswith(working):
            after[name] = ours[name]
            continue
        mine, other = _grants(ours[name]), _grants(theirs[name])
        at_first = [one for one in mine | other if _is_usual(name, one)]
        after[name] = _changed(ours[name], privileges=_granted(at_first, mine, other))
    return after


def _is_usual(name: str, grant: str) -> bool:
    """Whether everything of that kind comes with this privilege, unless it is for one schema only."""
    owner = name.partition(" in ")[0]
    usual = {"f": "PUBLIC=EXECUTE", "T": "PUBLIC=USAGE"}.get(name[-1])
    return name[:-1].endswith(" in every schema for ") and (grant.startswith(f"{owner}=") or grant == usual)


def _mappings(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """A role that is no superuser sees its own options, and those for everybody."""
    seen = tuple(f"{word(name)} on " for name in ("public", *transit.target_roles))
    hidden = {"unseen": "the tool's role there may not see its options"}
    all_seen = transit.target["superuser"]
    return {
        name: one if all_seen or name.startswith(seen) else replace(one, definition=hidden)
        for name, one in ours.items()
    }


def _changed_privileges(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """pg_dump writes what was changed since, but for information_schema."""
    after, makers = dict(theirs), (transit.source["maker"], transit.target["maker"])
    for name, one in ours.items():
        if re.search(r"(^| )information_schema(\.|$)", name):
            continue
        at_first, mine = transit.at_first[name], _grants(one)
        there = _grants(theirs[name]) if name in theirs else _handed_over(at_first, *makers)
        gone = _handed_over(at_first - mine, *makers)
        left = sorted(set(_granted((), mine - at_first, there - gone) or ()))
        after[name] = _changed(one, privileges=left)
    return after


def _comments(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """What is in pg_catalog, or of a type that another implies, is not carried; and for `public` pg_dump writes nothing
    where it says the usual."""
    after, public = dict(theirs), "schema public"
    after |= {name: one for name, one in ours.items() if name != public and name.startswith("schema ")}
    if public not in ours:
        after.pop(public, None)
    elif ours[public].definition["text"] != _DEFAULT_COMMENT:
        after[public] = ours[public]
    return after


def _settings(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """The database's are set on the target, which keeps what it has besides; those for every database are not."""
    carried = {
        name: one
        for name, one in ours.items()
        if not name.rpartition(": ")[0].endswith(" everywhere") and name != _NOT_SET_AGAIN
    }
    return theirs | carried


def _tablespaces(ours: Objects, theirs: Objects, transit: Transit) -> Objects:
    """What moves goes where the target's sessions put what is not said to lie elsewhere."""
    carried = transit.settings.get("every role: default_tablespace")
    chosen = carried.definition["value"] if carried else transit.target["default tablespace"]
    if chosen not in transit.target["tablespaces"]:
        return theirs
    there = theirs.get(chosen)
    holds = [*(there.definition["holds"] if there else ()), "what is moved"]
    return theirs | {chosen: CatalogObject("tablespace", chosen, None, {"holds": holds})}


_CARRIED = Fate()
"""As pg_dump writes it, and dropped on the target; or refused beforehand by a check of its own (large objects,
subscriptions, indexes that are not valid)."""
_OF_THE_PLACE = Fate(_ALL, _ALL)

FATES: dict[str, Fate] = {
    "schema": Fate(_ALL, _STAYING, _schemas),
    "relation": Fate(_TOLD_OTHERWISE, None, _relations),
    "column": Fate(_OF_A_FAMILY, None, _columns, where="parents"),
    "constraint": _CARRIED,
    "index": _CARRIED,
    "sequence": _CARRIED,
    "routine": Fate(_IN_PG_CATALOG, _IN_PG_CATALOG),
    "trigger": _CARRIED,
    "rule": _CARRIED,
    "policy": _CARRIED,
    "type": Fate(_IN_PG_CATALOG, _IN_PG_CATALOG),
    "database": _OF_THE_PLACE,
    "collation": Fate(_ALL, _ALL, _collations),
    "extension": Fate(_ALL, _ALL, _extensions),
    "dependency": _CARRIED,
    "event trigger": _CARRIED,
    "default privileges": Fate(_ALL, _DEFAULTS_THAT_STAY, _default_privileges),
    "statistics": _CARRIED,
    "large object": _CARRIED,
    "user mapping": Fate(_ALL, None, _mappings),
    "object": Fate(_IN_PG_CATALOG, _IN_PG_CATALOG),
    "added to operator family": Fate(_added_alone(), _added_alone("m.does < 16384")),
    "changed privileges": Fate(_ALL, _ALL, _changed_privileges),
    "comment": Fate(
        f"({_OF_SCHEMAS} OR {_IN_PG_CATALOG} OR {_OF_IMPLIED_TYPES})",
        f"({_OF_STAYING_SCHEMAS} OR {_IN_PG_CATALOG})",
        _comments,
    ),
    "security label": Fate(_ON_DATABASE, _ON_DATABASE),
    "publication": _CARRIED,
    "setting": Fate(_ALL, _ALL, _settings),
    "role": _OF_THE_PLACE,
    "tablespace": Fate(_ALL, _ALL, _tablespaces),
    "subscription": _CARRIED,
    "built-in": _OF_THE_PLACE,
    "parameter privileges": _OF_THE_PLACE,
}
"""For every kind of `catalog_queries.queries`: nothing that a comparison looks at is left out."""
