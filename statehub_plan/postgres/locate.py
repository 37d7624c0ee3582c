"""Which rows of differing tables differ, at a cost that follows the number of differences.

Rows are sorted into buckets by a hash of their key; each round looks only into the buckets whose digests differ, and
sorts their rows into more buckets, until few enough rows are left to fetch their keys and hashes. Rows outside those
buckets cost a look at their key and are not rendered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from statehub_plan.postgres.comparison import RowDifference, TableProof, ValueDifference
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.content import Buckets, ContentDigest, bucket_digests, row_hash_text, row_hashes, row_values
from statehub_plan.postgres.relations import PageRange, Relation
from statehub_plan.postgres.sides import Labour, Sides, ask_both
from statehub_plan.redact import is_secret_name, redact_json

__all__ = ["FIRST_BITS", "BucketSums", "Located", "added", "keyed_alike", "locate", "matched", "veiled"]

FIRST_BITS = 10
_ROWS_FETCHED = 50_000
_BUCKETS_SUMMED = 16_384
_PIECES_PER_JOB = 2
_MOST_BITS = 62

BucketSums = Mapping[int, ContentDigest]
_Row = tuple[str | None, int, int, int]
_Texts = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Located:
    """Differing rows of one table, sorted; not all of them unless `complete`."""

    rows: tuple[RowDifference, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Search:
    """A table, the buckets in which to look, and how many rows those hold; `done` when these are to be fetched."""

    table: str
    rows: int
    buckets: Buckets
    done: bool
    complete: bool = True


def keyed_alike(one: Relation, other: Relation) -> bool:
    """Whether rows of both can be matched by a key."""
    return bool(one.key) and one.key == other.key


def locate(
    sides: Sides,
    tables: Iterable[TableProof],
    known: Mapping[str, tuple[BucketSums, BucketSums]],
    labour: Labour,
    *,
    limit: int,
    values: bool,
) -> dict[str, Located]:
    """The differing rows of each of these tables, up to `limit` for each; what cannot be read again is left out.

    `known`: digests by bucket of FIRST_BITS bits, where the tables were read that way; the first round is then over.
    Memory: the buckets of one round, and 50,000 rows a side or those that `limit` asks for. `values`: also what both
    sides hold in those rows, redacted, which takes one more look at the keys.
    """
    found: dict[str, Located] = {}
    searches = []
    tables = list(tables)
    labour = _in_few_pieces(sides, tables, labour)
    for table in tables:
        ours, theirs = (side.relations[table.table] for side in sides)
        if _shape(ours) == _shape(theirs):
            searches.append(_begin(table, keyed_alike(ours, theirs), known.get(table.table), limit))
        else:
            found[table.table] = Located((), complete=False)  # every row differs, and the catalog says why
    while open_searches := {search.table: search for search in searches if not search.done}:
        rounds = _round(sides, open_searches, labour)
        searches = [
            _narrowed(search, rounds[search.table], limit) if search.table in open_searches else search
            for search in searches
        ]
    for batch in _batches(searches):
        found |= _fetched(sides, batch, labour, limit, values)
    return found


def _in_few_pieces(sides: Sides, tables: Iterable[TableProof], labour: Labour) -> Labour:
    """Every piece answers with all of its buckets, so that more pieces than sessions need only make more answers."""
    largest = max((side.relations[table.table].bytes for table in tables for side in sides), default=0)
    return replace(labour, chunk_bytes=max(labour.chunk_bytes, largest // (_PIECES_PER_JOB * labour.jobs)))


def _shape(relation: Relation) -> list[tuple[str, str]]:
    return sorted((column.name, column.type_name) for column in relation.columns)


def _begin(table: TableProof, keyed: bool, known: tuple[BucketSums, BucketSums] | None, limit: int) -> _Search:
    rows = max(table.rows_source or 0, table.rows_target or 0)
    search = _Search(table.table, rows, Buckets(FIRST_BITS, keyed), done=rows <= _ROWS_FETCHED)
    return search if search.done or known is None else _narrowed(search, known, limit)


def _round(
    sides: Sides, searches: Mapping[str, _Search], labour: Labour
) -> dict[str, tuple[BucketSums, BucketSums] | None]:
    def ask(connection: Connection, relation: Relation, pages: PageRange) -> BucketSums:
        return bucket_digests(connection, relation, pages, searches[relation.qualified].buckets)

    ours, theirs = ask_both(sides, searches, ask, labour, "locate")
    summed = {}
    for name in searches:
        both = added(ours[name]), added(theirs[name])
        summed[name] = None if both[0] is None or both[1] is None else (both[0], both[1])
    return summed


def added(pieces: Sequence[BucketSums | str]) -> BucketSums | None:
    """The buckets of all pieces together; None when one of them could not be read."""
    total: dict[int, ContentDigest] = {}
    for piece in pieces:
        if isinstance(piece, str):
            return None
        for number, digest in piece.items():
            total[number] = total[number] + digest if number in total else digest
    return total


def _narrowed(search: _Search, sums: tuple[BucketSums, BucketSums] | None, limit: int) -> _Search:
    if sums is None:
        return replace(search, done=True, complete=False, buckets=replace(search.buckets, chosen=()))
    ours, theirs = sums
    differing = sorted(number for number in ours.keys() | theirs.keys() if ours.get(number) != theirs.get(number))
    # Every differing bucket holds a differing row, so that more than these would not be listed anyway.
    complete = search.complete and len(differing) <= limit
    differing = differing[:limit]
    none = ContentDigest(0, (0, 0))
    rows = sum(max(ours.get(number, none).rows, theirs.get(number, none).rows) for number in differing)
    bits = search.buckets.bits
    more = max(1, (_BUCKETS_SUMMED // max(1, len(differing))).bit_length() - 1)
    # Rows that are equal to each other stay together whatever they are hashed by.
    stuck = search.buckets.chosen is not None and rows == search.rows
    buckets = Buckets(min(bits + more, _MOST_BITS), search.buckets.keyed, differing, bits)
    return _Search(search.table, rows, buckets, rows <= _ROWS_FETCHED or stuck or bits == _MOST_BITS, complete)


def _batches(searches: Iterable[_Search]) -> Iterator[dict[str, _Search]]:
    """As many tables at once as together have no more rows to fetch than a large one."""
    batch: dict[str, _Search] = {}
    for search in searches:
        if batch and sum(one.rows for one in batch.values()) + search.rows > _ROWS_FETCHED:
            yield batch
            batch = {}
        batch[search.table] = search
    if batch:
        yield batch


def _fetched(
    sides: Sides, searches: Mapping[str, _Search], labour: Labour, limit: int, values: bool
) -> dict[str, Located]:
    def ask(connection: Connection, relation: Relation, pages: PageRange) -> list[_Row]:
        return row_hashes(connection, relation, pages, searches[relation.qualified].buckets)

    ours, theirs = ask_both(sides, searches, ask, labour, "locate")
    found: dict[str, Located] = {}
    for name, search in searches.items():
        left, right = _rows(ours[name]), _rows(theirs[name])
        if left is None or right is None:
            found[name] = Located((), complete=False)
            continue
        rows = matched(left, right) if search.buckets.keyed else _unkeyed(left, right)
        found[name] = Located(tuple(rows[:limit]), search.complete and len(rows) <= limit)
    return _with_values(sides, searches, found, labour) if values else found


def _rows(pieces: Sequence[list[_Row] | str]) -> list[_Row] | None:
    rows: list[_Row] = []
    for piece in pieces:
        if isinstance(piece, str):
            return None
        rows += piece
    return rows


def matched(left: Iterable[_Row], right: Iterable[_Row]) -> list[RowDifference]:
    """The rows that are not the same on both sides, by key."""
    ours, theirs = ({row[0]: row_hash_text(row[1:3]) for row in rows} for rows in (left, right))
    found = []
    for key in sorted(ours.keys() | theirs.keys(), key=str):
        one, other = ours.get(key), theirs.get(key)
        if one != other:
            what: Literal["changed", "missing", "extra"] = "extra" if one is None else "changed" if other else "missing"
            found.append(RowDifference(key=key, what=what, digest_source=one, digest_target=other))
    return found


def veiled(located: Located, relation: Relation) -> Located:
    """The same, with the SHA-256 of the keys' texts in their place where a column of the key is called like a secret:
    whoever may read the table finds the row by it, and nobody reads the key."""
    if not any(map(is_secret_name, relation.key)):
        return located
    rows = tuple(row.model_copy(update={"key": _veil(row.key)}) for row in located.rows)
    return replace(located, rows=rows)


def _veil(key: str | None) -> str | None:
    return None if key is None else f"(sha256 {hashlib.sha256(key.encode()).hexdigest()})"


def _unkeyed(left: Iterable[_Row], right: Iterable[_Row]) -> list[RowDifference]:
    surplus: Counter[str] = Counter()
    for rows, sign in ((left, 1), (right, -1)):
        for row in rows:
            surplus[row_hash_text(row[1:3])] += sign * row[3]
    return [
        RowDifference(key=None, what="missing", rows=count, digest_source=hashes)
        if count > 0
        else RowDifference(key=None, what="extra", rows=-count, digest_target=hashes)
        for hashes, count in sorted(surplus.items())
        if count
    ]


def _with_values(
    sides: Sides, searches: Mapping[str, _Search], found: Mapping[str, Located], labour: Labour
) -> dict[str, Located]:
    wanted = {name: [_handle(row) for row in one.rows] for name, one in found.items() if one.rows}

    def ask(connection: Connection, relation: Relation, pages: PageRange) -> list[tuple[str, list[str | None]]]:
        name = relation.qualified
        return row_values(connection, relation, pages, searches[name].buckets, wanted[name])

    both = ask_both(sides, wanted, ask, labour, "values")
    completed = dict(found)
    for name in wanted:
        columns = [[column.name for column in side.relations[name].columns] for side in sides]
        ours, theirs = (
            {
                handle: dict(zip(names, texts, strict=True))
                for piece in side[name]
                if not isinstance(piece, str)
                for handle, texts in piece
            }
            for names, side in zip(columns, both, strict=True)
        )
        rows = tuple(row.model_copy(update={"values": _values(row, ours, theirs)}) for row in found[name].rows)
        completed[name] = Located(rows, found[name].complete)
    return completed


def _handle(row: RowDifference) -> str:
    return row.key if row.key is not None else str(row.digest_source or row.digest_target)


def _values(row: RowDifference, ours: _Texts, theirs: _Texts) -> tuple[ValueDifference, ...]:
    """The columns that differ in a changed row, all of them in one that a side lacks."""
    mine = {} if row.what == "extra" else ours.get(_handle(row), {})
    other = {} if row.what == "missing" else theirs.get(_handle(row), {})
    return tuple(
        ValueDifference(column=column, source=_redacted(column, mine), target=_redacted(column, other))
        for column in sorted(mine.keys() | other.keys())
        if row.what != "changed" or mine.get(column) != other.get(column)
    )


def _redacted(column: str, row: Mapping[str, str | None]) -> str | None:
    """With the column's name, so that what is called like a secret is treated as one."""
    text = row.get(column)
    if text is None:
        return None
    shown = redact_json({column: text})
    assert isinstance(shown, dict)
    return str(next(iter(shown.values())))
