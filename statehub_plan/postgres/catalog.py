"""Catalog parity: every object of the user on one side against the same object on the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statehub_plan.postgres.catalog_queries import queries
from statehub_plan.postgres.catalog_rules import (
    Case,
    CatalogObject,
    Judge,
    excuse,
    excuse_one_sided,
    unknown_privileges,
)
from statehub_plan.postgres.catalog_words import in_words
from statehub_plan.postgres.comparison import Difference
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import once

__all__ = ["Catalog", "CatalogObject", "Judge", "compare_catalogs", "read_catalog", "unseen"]

Catalog = dict[tuple[str, str], CatalogObject]
_SURROGATES = 0xDC00  # where `surrogateescape` puts bytes


def read_catalog(connection: Connection, *, other_version: int, movers: Sequence[str] = ()) -> Catalog:
    """Every object that the comparison looks at, by kind and name; `other_version` is the other server's (150018),
    `movers` are the tool's roles on both sides (`catalog_server.read_movers`)."""
    ignored = unknown_privileges(min(connection.info.server_version, other_version))
    wanted = {"ignored": ignored, "movers": list(movers)}
    found = (
        CatalogObject(kind, name, table, definition)
        for kind, query in queries(connection.info.server_version).items()
        for names, table, definition in _rows(connection, query, wanted)
        for name in (names.split() if kind == "large object" else (names,))
    )
    return once((((each.kind, each.name), each) for each in found), "objects")


def _rows(connection: Connection, query: str, wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[Any, ...]]:
    """What a query of `catalog_queries` returns, also where texts are whatever bytes somebody has put there."""
    if connection.info.parameter_status("server_encoding") != "SQL_ASCII":
        yield from connection.execute(query.encode(), wanted)
        return
    columns = ", ".join(f"convert_to({column}::text, 'SQL_ASCII')" for column in ("name", "in_table", "definition"))
    stored = f"SELECT {columns} FROM ({query}\n) q(name, in_table, definition)"
    for row in connection.execute(stored.encode(), wanted):
        name, table, definition = (None if value is None else _in_unicode(value) for value in row)
        yield name, table, None if definition is None else json.loads(definition)


def _in_unicode(stored: bytes) -> str:
    """A text from a database without an encoding: UTF-8 where it is that, any other byte as U+FFFD and its number;
    what differs there, differs here."""

    def told(found: re.Match[str]) -> str:
        return "\ufffd." if found[0] == "\ufffd" else f"\ufffd{ord(found[0]) - _SURROGATES:02x}"

    return re.sub("[\udc80-\udcff\ufffd]", told, stored.decode(errors="surrogateescape"))


def compare_catalogs(
    source: Catalog, target: Catalog, *, source_version: int, target_version: int, judge: Judge
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """All differences, and notes about what was passed over by a rule (`catalog_rules`), both sorted."""
    differences: list[Difference] = []
    notes: list[str] = []
    for key in sorted(source.keys() | target.keys()):
        ours, theirs = source.get(key), target.get(key)
        if ours is not None and theirs is not None:
            if ours.unseen or theirs.unseen:
                continue
            for found in _aspects(ours, theirs):
                case = Case(ours, theirs, found.aspect, source_version, target_version, judge)
                reason = excuse(case)
                if reason is None:
                    differences.append(found)
                else:
                    notes.append(f"{found.kind} {found.object}, {found.aspect}: {reason}")
        elif (found_once := ours or theirs) and not _table_is_one_sided(found_once, source, target):
            newer = (source_version < target_version) if ours is None else (target_version < source_version)
            reason = excuse_one_sided(found_once, on_newer=newer)
            if reason is None:
                differences.append(_difference(found_once, "missing" if theirs is None else "extra"))
            else:
                side = "source" if theirs is None else "target"
                notes.append(f"{found_once.kind} {found_once.name} is on the {side} only: {reason}")
    return tuple(differences), tuple(notes)


def unseen(source: Catalog, target: Catalog) -> tuple[Difference, ...]:
    """What both sides have and the role of one of them may not see, with the reason: it may differ."""
    return tuple(
        _difference(source[key], "unseen", source[key].unseen, target[key].unseen)
        for key in sorted(source.keys() & target.keys())
        if source[key].unseen or target[key].unseen
    )


def _table_is_one_sided(found: CatalogObject, source: Catalog, target: Catalog) -> bool:
    """Whether the object's table is reported already."""
    relation = ("relation", found.table or "")
    return found.kind != "relation" and (relation in source) != (relation in target)


def _aspects(ours: CatalogObject, theirs: CatalogObject) -> Iterator[Difference]:
    for aspect in sorted(ours.definition.keys() | theirs.definition.keys()):
        mine, other = ours.definition.get(aspect), theirs.definition.get(aspect)
        if mine != other:
            yield _difference(ours, aspect, *(in_words(ours.kind, ours.name, aspect, each) for each in (mine, other)))


def _difference(found: CatalogObject, aspect: str, source: str | None = None, target: str | None = None) -> Difference:
    return Difference(
        kind=found.kind, object=found.name, table=found.table, aspect=aspect, source=source, target=target
    )
