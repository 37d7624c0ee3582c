"""Which rows of a table differ: by buckets of key hashes first, then row by row in a few buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from psycopg import sql

from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.content import row_hashes
from statehub_plan.postgres.relations import PageRange, Relation

__all__ = ["locate"]

_WHOLE = PageRange(0, None, 1.0)
_BUCKETS = 4096
_ROWS_LOOKED_AT = 100_000

_Sides = tuple[tuple[Connection, Relation], tuple[Connection, Relation]]
_Row = tuple[str | None, int, int]


def locate(source: tuple[Connection, Relation], target: tuple[Connection, Relation], limit: int) -> tuple[str, ...]:
    """Up to `limit` differing rows of one table, as `(key): what`; reads the table twice on each side.

    A table without a key that both sides share is answered with the number of rows that have no equal on the other
    side. Memory: the rows of as many buckets as hold 100,000 rows.
    """
    keyed = bool(source[1].key) and source[1].key == target[1].key
    buckets = _differing_buckets((source, target), keyed)
    ours, theirs = (_rows(*side, buckets, keyed) for side in (source, target))
    if not keyed:
        return _unkeyed(ours, theirs)
    return _keyed({row[0]: row[1:] for row in ours}, {row[0]: row[1:] for row in theirs}, limit)


def _differing_buckets(sides: _Sides, keyed: bool) -> list[int]:
    """The first differing buckets, as many as together hold no more rows than are looked at; at least one."""
    ours, theirs = (_bucket_sums(connection, relation, keyed) for connection, relation in sides)
    found: list[int] = []
    rows = 0
    for bucket in sorted(ours.keys() | theirs.keys()):
        if ours.get(bucket) == theirs.get(bucket):
            continue
        rows += max(ours.get(bucket, (0,))[0], theirs.get(bucket, (0,))[0])
        if found and rows > _ROWS_LOOKED_AT:
            break
        found.append(bucket)
    return found


def _bucket_sums(connection: Connection, relation: Relation, keyed: bool) -> dict[int, tuple[int, ...]]:
    query = sql.SQL("SELECT {} AS b, count(*), sum(h0), sum(h1) FROM ({}) x GROUP BY b").format(
        _bucket(keyed), row_hashes(relation, _WHOLE)
    )
    return {row[0]: tuple(map(int, row[1:])) for row in connection.execute(query)}


def _rows(connection: Connection, relation: Relation, buckets: list[int], keyed: bool) -> list[_Row]:
    query = sql.SQL("SELECT k, h0, h1 FROM ({}) x WHERE {} = ANY (%s)").format(
        row_hashes(relation, _WHOLE), _bucket(keyed)
    )
    return [(key, first, second) for key, first, second in connection.execute(query, [buckets])]


def _bucket(keyed: bool) -> sql.Composable:
    by = sql.SQL("hashtextextended(k, 0)") if keyed else sql.SQL("h0")
    return sql.SQL("({} & {})").format(by, sql.Literal(_BUCKETS - 1))


def _keyed(
    ours: dict[str | None, tuple[int, ...]], theirs: dict[str | None, tuple[int, ...]], limit: int
) -> tuple[str, ...]:
    found: list[str] = []
    for key in sorted(ours.keys() | theirs.keys(), key=str):
        if ours.get(key) == theirs.get(key):
            continue
        what = "differs" if key in ours and key in theirs else f"only on the {'source' if key in ours else 'target'}"
        found.append(f"{key} {what}")
        if len(found) == limit:
            break
    return tuple(found)


def _unkeyed(ours: Iterable[_Row], theirs: Iterable[_Row]) -> tuple[str, ...]:
    left, right = Counter(ours), Counter(theirs)
    sides = (("source", (left - right).total()), ("target", (right - left).total()))
    return tuple(f"{count} rows only on the {side} (no key to name them by)" for side, count in sides if count)
