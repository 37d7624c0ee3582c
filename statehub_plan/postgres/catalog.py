"""Catalog parity: every object of the user on one side against the same object on the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from statehub_plan.postgres.catalog_queries import QUERIES
from statehub_plan.postgres.comparison import Difference
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.spelling import same_expression

__all__ = ["Catalog", "CatalogObject", "Judge", "compare_catalogs", "read_catalog"]

_MAINTAIN_SINCE = 170000
_WITH_CONDITIONS = frozenset({"trigger", "constraint", "index", "policy"})
_DROPPED_QUALIFIERS_SINCE = 160000


@dataclass(frozen=True, slots=True)
class CatalogObject:
    """One object and what the catalog says about it, with names instead of OIDs."""

    kind: str
    name: str
    table: str | None
    definition: dict[str, Any]


Catalog = dict[tuple[str, str], CatalogObject]


class Judge:
    """Says how the newer server writes what the older one wrote, so that two spellings of one meaning can be told from
    two meanings. Works in transactions that are rolled back; needs TEMPORARY on the database."""

    def __init__(self, connection: Connection) -> None:
        """`connection`: a session of its own on the server with the higher version, in autocommit mode."""
        self._connection = connection
        pin_rendering(connection)

    def view(self, definition: str) -> str | None:
        """The view's definition in this server's words; None when it doesn't accept it."""
        create = sql.SQL("CREATE TEMPORARY VIEW statehub_plan_judged AS {}").format(sql.SQL(definition.rstrip("; \n")))
        return self._say(create, "SELECT pg_get_viewdef('pg_temp.statehub_plan_judged'::regclass)")

    def routine(self, definition: str, name: str) -> str | None:
        """The routine's definition in this server's words; None when it doesn't accept it."""
        own_name = name.partition("(")[0]
        head, separator, rest = definition.partition("(")
        create = sql.SQL(head.replace(own_name, "pg_temp.statehub_plan_judged") + separator + rest)
        said = self._say(
            create,
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = 'statehub_plan_judged' "
            "AND p.pronamespace = pg_my_temp_schema()",
        )
        return said and head + separator + said.partition("(")[2]

    def _say(self, create: sql.SQL | sql.Composed, ask: str) -> str | None:
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(create)
                row = self._connection.execute(sql.SQL(ask)).fetchone()
        except (psycopg.errors.ProgrammingError, psycopg.errors.ReadOnlySqlTransaction):
            return None
        return str(row[0]) if row else None


def read_catalog(connection: Connection, *, other_version: int) -> Catalog:
    """Every object that the comparison looks at, by kind and name; `other_version` is the other server's (150018)."""
    oldest = min(connection.info.server_version, other_version)
    # Rule: 17 added MAINTAIN, which ALL includes there; an older server can neither have nor lack it.
    ignored = ["MAINTAIN"] if oldest < _MAINTAIN_SINCE else []
    catalog: Catalog = {}
    for kind, query in QUERIES.items():
        for name, table, definition in connection.execute(query.encode(), {"ignored": ignored}):
            catalog[kind, name] = CatalogObject(kind, name, table, definition)
    return catalog


def compare_catalogs(
    source: Catalog, target: Catalog, *, source_version: int, target_version: int, judge: Judge
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """All differences, and notes about what was passed over by rule, both sorted.

    Rules: an extension or a database setting that only the target has belongs to its platform; an extension's version
    follows the server's major; a view or SQL-body routine that the newer server spells differently is the same if it
    spells both the same.
    """
    differences: list[Difference] = []
    notes: list[str] = []
    for key in sorted(source.keys() | target.keys()):
        ours, theirs = source.get(key), target.get(key)
        if ours is None or theirs is None:
            found = ours or theirs
            assert found is not None
            if found.kind in ("extension", "setting") and ours is None:
                notes.append(f"{found.kind} {found.name} exists only on the target")
            elif not _table_is_one_sided(found, source, target):
                aspect = "missing" if theirs is None else "extra"
                differences.append(Difference(kind=found.kind, object=found.name, table=found.table, aspect=aspect))
            continue
        if ours.kind == "extension" and source_version // 10000 != target_version // 10000:
            if ours.definition != theirs.definition:
                notes.append(f"extension {ours.name}: {_shown(ours.definition)} became {_shown(theirs.definition)}")
            continue
        differences += _aspects(ours, theirs, source_version, target_version, judge)
    return tuple(differences), tuple(notes)


def _table_is_one_sided(found: CatalogObject, source: Catalog, target: Catalog) -> bool:
    """Whether the object's table is reported already."""
    relation = ("relation", found.table or "")
    return found.kind != "relation" and (relation in source) != (relation in target)


def _aspects(
    ours: CatalogObject, theirs: CatalogObject, source_version: int, target_version: int, judge: Judge
) -> Iterator[Difference]:
    for aspect in sorted(ours.definition.keys() | theirs.definition.keys()):
        mine, other = ours.definition.get(aspect), theirs.definition.get(aspect)
        if mine == other or _respelled(ours.kind, mine, other):
            continue
        crossed = min(source_version, target_version) < _DROPPED_QUALIFIERS_SINCE <= max(source_version, target_version)
        if crossed and _same_meaning(ours, aspect, (mine, other), source_version < target_version, judge):
            continue
        yield Difference(
            kind=ours.kind,
            object=ours.name,
            table=ours.table,
            aspect=aspect,
            source=_shown(mine),
            target=_shown(other),
        )


def _respelled(kind: str, mine: Any, other: Any) -> bool:
    """Rule: a condition that was dumped and read again has flat chains of AND and OR. Not for texts that the server
    keeps as they were written, such as routines."""
    texts = isinstance(mine, str) and isinstance(other, str)
    return texts and kind in _WITH_CONDITIONS and same_expression(mine, other)


def _same_meaning(
    found: CatalogObject, aspect: str, texts: tuple[Any, Any], source_is_older: bool, judge: Judge
) -> bool:
    """Rule: 16 stopped writing a column's table where only one is read, so the newer server is asked to rewrite."""
    older, newer = texts if source_is_older else texts[::-1]
    if not isinstance(older, str) or not isinstance(newer, str):
        return False
    if found.kind == "relation" and aspect == "view":
        return judge.view(older) == newer
    if found.kind == "routine" and aspect == "definition" and found.definition["sql body"]:
        return judge.routine(older, found.name) == newer
    return False


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
