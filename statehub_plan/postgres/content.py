"""A table's content as a row count and 128 bits that no change of a row leaves alone, wherever and how it is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.relations import Column, PageRange, Relation

__all__ = ["ContentDigest", "count_rows", "digest_rows", "row_hashes"]

_LANE_BITS = 64
_SEEDS = (0x5354415445485542, 0x2D504C414E2D7631)
"""Two independent 64-bit hashes. Fixed, because a backup's digest must mean the same years later."""


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """Rows, and the sums of their two 64-bit hashes: independent of order, and digests of pieces add up."""

    rows: int
    lanes: tuple[int, int]

    def __add__(self, other: ContentDigest) -> ContentDigest:
        return ContentDigest(self.rows + other.rows, (self.lanes[0] + other.lanes[0], self.lanes[1] + other.lanes[1]))

    def __str__(self) -> str:
        """`rows:32 hexadecimal digits`."""
        return f"{self.rows}:" + "".join(f"{lane % (1 << _LANE_BITS):016x}" for lane in self.lanes)

    @classmethod
    def total(cls, parts: Iterable[ContentDigest]) -> ContentDigest:
        """All parts together."""
        return sum(parts, cls(0, (0, 0)))


def digest_rows(connection: Connection, relation: Relation, pages: PageRange) -> ContentDigest:
    """The digest of the rows in these pages; blocks while the server reads and hashes them.

    A row is hashed as the binary form of its record, columns sorted by name: lengths and NULLs are explicit, and scale,
    sign of zero, trailing blanks, json's text and bit lengths are in it, while time zone, locale and float digits are
    not. It is hashed as one value: hashing columns one by one and adding up (as `hash_record` would) loses which
    values stood in one row. The session must have been pinned (`pin_rendering`).
    """
    if not relation.columns:
        return ContentDigest(count_rows(connection, relation, pages), (0, 0))
    # OFFSET 0 keeps the planner from rendering the row once per hash.
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0), coalesce(sum({}), 0) FROM ({} OFFSET 0) s").format(
        _hash(0), _hash(1), _rendered(relation, pages)
    )
    row = connection.execute(query).fetchone()
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return ContentDigest(int(row[0]), (int(row[1]), int(row[2])))


def count_rows(connection: Connection, relation: Relation, pages: PageRange) -> int:
    """How many rows there are in these pages."""
    query = sql.SQL("SELECT count(*) FROM ONLY {}{}").format(relation.identifier, pages.condition)
    row = connection.execute(query).fetchone()
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return int(row[0])


def row_hashes(relation: Relation, pages: PageRange) -> sql.Composed:
    """A query of the rows' keys as text and their two hashes; columns k, h0, h1. Without a key k is NULL."""
    key: sql.Composable = sql.SQL("NULL::pg_catalog.text")
    if relation.key:
        names = sql.SQL(", ").join(map(sql.Identifier, relation.key))
        key = sql.SQL("ROW({})::pg_catalog.text").format(names)
    return sql.SQL("SELECT k, {} AS h0, {} AS h1 FROM ({} OFFSET 0) s").format(
        _hash(0), _hash(1), _rendered(relation, pages, key)
    )


def _hash(lane: int) -> sql.Composed:
    # The hash of bytea has no SQL name before 18; a record of one bytea gives exactly it (rowtypes.c: 31 · 0 + h).
    return sql.SQL("hash_record_extended(ROW(r), {})").format(sql.Literal(_SEEDS[lane]))


def _rendered(relation: Relation, pages: PageRange, key: sql.Composable | None = None) -> sql.Composed:
    columns: list[Column] = sorted(relation.columns, key=lambda column: column.name)
    exact = sql.SQL(", ").join(column.exact for column in columns)
    more = sql.SQL("") if key is None else sql.SQL(", {} AS k").format(key)
    return sql.SQL("SELECT record_send(ROW({})) AS r{} FROM ONLY {}{}").format(
        exact, more, relation.identifier, pages.condition
    )
