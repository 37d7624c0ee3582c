"""A table's content as a row count and 128 bits that no change of a row leaves alone, wherever and how it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.relations import Column, PageRange, Relation

__all__ = [
    "SEEDS",
    "Buckets",
    "ContentDigest",
    "bucket_digests",
    "count_rows",
    "digest_rows",
    "key_digest",
    "key_hashes",
    "row_hash_text",
    "row_hashes",
    "row_values",
]

_LANE_BITS = 64
_SEEDS = (0x5354415445485542, 0x2D504C414E2D7631)
"""Two independent 64-bit hashes. Fixed, because a backup's digest must mean the same years later."""
SEEDS = _SEEDS
_BYTEA_HASH_SINCE = 180000
_CHARACTERS_SHOWN = 300


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """Rows, and the sums of their two 64-bit hashes: independent of order, and digests of pieces add up."""

    rows: int
    lanes: tuple[int, int]

    def __add__(self, other: ContentDigest) -> ContentDigest:
        return ContentDigest(self.rows + other.rows, (self.lanes[0] + other.lanes[0], self.lanes[1] + other.lanes[1]))

    def __str__(self) -> str:
        """`rows:32 hexadecimal digits`."""
        return f"{self.rows}:{row_hash_text(self.lanes)}"

    @classmethod
    def total(cls, parts: Iterable[ContentDigest]) -> ContentDigest:
        """All parts together."""
        return sum(parts, cls(0, (0, 0)))


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rows sorted into 2^`bits` buckets by a hash of their key, or of the whole row where there is no key; only those
    in `chosen`, where given, whose numbers have `chosen_bits` bits."""

    bits: int
    keyed: bool
    chosen: Sequence[int] | None = None
    chosen_bits: int = 0


def row_hash_text(lanes: Sequence[int]) -> str:
    """Both hashes of a row (or both sums) as 32 hexadecimal digits."""
    return "".join(f"{lane % (1 << _LANE_BITS):016x}" for lane in lanes)


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
        *_hashes(connection), _rendered(connection, relation, pages)
    )
    row = connection.execute(query).fetchone()
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return ContentDigest(int(row[0]), (int(row[1]), int(row[2])))


def bucket_digests(
    connection: Connection, relation: Relation, pages: PageRange, buckets: Buckets
) -> dict[int, ContentDigest]:
    """The digest of each bucket with rows in these pages; a table without columns has one bucket."""
    if not relation.columns:
        return {0: digest_rows(connection, relation, pages)}
    hashes = _hashes(connection)
    if buckets.keyed:
        key = key_hash(relation)
        number = sql.SQL("{} AS b").format(_number(buckets.bits, key))
        inner = _rendered(connection, relation, pages, number, _chosen(buckets, key))
        summed = sql.SQL("SELECT b, count(*), sum({})::text, sum({})::text FROM ({} OFFSET 0) s GROUP BY b")
        query = summed.format(*hashes, inner)
    else:
        by = sql.SQL("h0")
        query = sql.SQL(
            "SELECT b, count(*), sum(h0)::text, sum(h1)::text "
            "FROM (SELECT {} AS b, h0, h1 FROM ({}) h{} OFFSET 0) g GROUP BY b"
        ).format(_number(buckets.bits, by), _hashed(connection, relation, pages), _where(_chosen(buckets, by)))
    rows = connection.execute(query)
    return {row[0]: ContentDigest(row[1], (int(row[2]), int(row[3]))) for row in rows}


def row_hashes(
    connection: Connection, relation: Relation, pages: PageRange, buckets: Buckets
) -> list[tuple[str | None, int, int, int]]:
    """The chosen rows: key as text (None without one), both hashes, and how many rows have them."""
    hashes = _hashes(connection)
    if buckets.keyed:
        key = sql.SQL("{} AS k").format(key_text(relation))
        inner = _rendered(connection, relation, pages, key, _chosen(buckets, key_hash(relation)))
        query = sql.SQL("SELECT k, {}, {}, 1::pg_catalog.int8 FROM ({} OFFSET 0) s").format(*hashes, inner)
    else:
        query = sql.SQL("SELECT NULL::pg_catalog.text, h0, h1, count(*) FROM ({}) h{} GROUP BY h0, h1").format(
            _hashed(connection, relation, pages), _where(_chosen(buckets, sql.SQL("h0")))
        )
    return connection.execute(query).fetchall()


def row_values(
    connection: Connection, relation: Relation, pages: PageRange, buckets: Buckets, wanted: Sequence[str]
) -> list[tuple[str, list[str | None]]]:
    """The values, as text in the order of the columns, of the rows in `wanted`: keys as text, or without a key their
    hashes (`row_hash_text`). Long ones are cut, and told apart by a digest."""
    texts = sql.SQL(", ").join(_shortened(column) for column in relation.columns)
    values = sql.SQL("ARRAY[{}]::pg_catalog.text[] AS v").format(texts)
    if buckets.keyed:
        key = key_text(relation)
        conditions = [*_chosen(buckets, key_hash(relation)), sql.SQL("{} = ANY ({})").format(key, _texts(wanted))]
        where = _where([*pages.bounds, *conditions])
        keyed = sql.SQL("SELECT {}, {} FROM {}{}").format(key, values, relation.rows, where)
        return connection.execute(keyed).fetchall()
    inner = _rendered(connection, relation, pages, values)
    chosen = sql.SQL("h0 = ANY ({})").format(_integers(_signed(int(each[:16], 16)) for each in wanted))
    query = sql.SQL(
        "SELECT DISTINCT ON (h0, h1) h0, h1, v FROM "
        "(SELECT {} AS h0, {} AS h1, v FROM ({} OFFSET 0) s OFFSET 0) h WHERE {}"
    )
    found = connection.execute(query.format(*_hashes(connection), inner, chosen))
    return [(row_hash_text((one, other)), texts_of) for one, other, texts_of in found]


def key_digest(connection: Connection, relation: Relation, keys: Sequence[Sequence[str]]) -> ContentDigest:
    """The digest of the rows with these keys (texts in the order of `relation.key`); looked up by the key's index."""
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0), coalesce(sum({}), 0) FROM ({} OFFSET 0) s").format(
        *_hashes(connection), _looked_up(connection, relation, keys)
    )
    row = connection.execute(query).fetchone()
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return ContentDigest(row[0], (int(row[1]), int(row[2])))


def key_hashes(
    connection: Connection, relation: Relation, keys: Sequence[Sequence[str]]
) -> list[tuple[str | None, int, int, int]]:
    """The same row by row, as `row_hashes`."""
    rendered = _looked_up(connection, relation, keys, sql.SQL(", {} AS k").format(key_text(relation)))
    query = sql.SQL("SELECT DISTINCT k, {}, {}, 1::pg_catalog.int8 FROM ({} OFFSET 0) s")
    return connection.execute(query.format(*_hashes(connection), rendered)).fetchall()


def count_rows(connection: Connection, relation: Relation, pages: PageRange) -> int:
    """How many rows there are in these pages."""
    query = sql.SQL("SELECT count(*) FROM {}{}").format(relation.rows, _where(pages.bounds))
    row = connection.execute(query).fetchone()
    if row is None:
        raise RuntimeError("an aggregate returned no row")
    return int(row[0])


def key_text(relation: Relation) -> sql.Composed:
    """The key as the text of a record, for people and for matching rows of both sides."""
    return sql.SQL("ROW({})::pg_catalog.text").format(_exact(relation.key_columns))


def key_hash(relation: Relation) -> sql.Composed:
    """A 64-bit hash of the key that is the same on every server."""
    columns = relation.key_columns
    if len(columns) == 1 and columns[0].base in _PLAIN_HASHES:
        return sql.SQL("{}({}, 0)").format(sql.SQL(_PLAIN_HASHES[columns[0].base]), columns[0].exact)
    return sql.SQL("hash_record_extended(ROW(record_send(ROW({}))), 0)").format(_exact(columns))


# Three times as quick as the general form. Equal values of these have equal hashes on all versions: hash partitions
# depend on it. Text is not among them: its hash depends on the collation where that is not deterministic.
_PLAIN_HASHES = {
    "int2": "hashint2extended",
    "int4": "hashint4extended",
    "int8": "hashint8extended",
    "uuid": "uuid_hash_extended",
    "oid": "hashoidextended",
}


def _hashes(connection: Connection) -> tuple[sql.Composed, sql.Composed]:
    call = sql.SQL("hashbyteaextended(r, {})" if _has_bytea_hash(connection) else "hash_record_extended(r, {})")
    return call.format(sql.Literal(_SEEDS[0])), call.format(sql.Literal(_SEEDS[1]))


def _row(connection: Connection, columns: Iterable[Column]) -> sql.Composed:
    """The row as one value that `_hashes` takes, named r."""
    # The hash of bytea has no SQL name before 18; a record of one bytea gives exactly it (rowtypes.c: 31 · 0 + h), at
    # the price of making a record, once for both hashes, and taking it apart.
    made = sql.SQL("record_send(ROW({})) AS r" if _has_bytea_hash(connection) else "ROW(record_send(ROW({}))) AS r")
    return made.format(_exact(sorted(columns, key=lambda column: column.name)))


def _has_bytea_hash(connection: Connection) -> bool:
    return connection.info.server_version >= _BYTEA_HASH_SINCE


def _hashed(connection: Connection, relation: Relation, pages: PageRange) -> sql.Composed:
    return sql.SQL("SELECT {} AS h0, {} AS h1 FROM ({} OFFSET 0) s OFFSET 0").format(
        *_hashes(connection), _rendered(connection, relation, pages)
    )


def _rendered(
    connection: Connection,
    relation: Relation,
    pages: PageRange,
    more: sql.Composable | None = None,
    conditions: Sequence[sql.Composable] = (),
) -> sql.Composed:
    also = sql.SQL("") if more is None else sql.SQL(", {}").format(more)
    return sql.SQL("SELECT {}{} FROM {}{}").format(
        _row(connection, relation.columns), also, relation.rows, _where([*pages.bounds, *conditions])
    )


def _looked_up(
    connection: Connection, relation: Relation, keys: Sequence[Sequence[str]], more: sql.Composable | None = None
) -> sql.Composed:
    # A name that no column has: columns stand unqualified in `exact`.
    names = [sql.Identifier(f"statehub_plan key {place}") for place in range(len(relation.key))]
    joined = sql.SQL(" AND ").join(
        sql.SQL("{} = {}::{}").format(sql.Identifier(column.name), name, sql.SQL(column.type_name))
        for column, name in zip(relation.key_columns, names, strict=True)
    )
    arrays = sql.SQL(", ").join(_texts([key[place] for key in keys]) for place in range(len(relation.key)))
    return sql.SQL("SELECT {}{} FROM unnest({}) AS wanted({}), {} WHERE {}").format(
        _row(connection, relation.columns),
        more or sql.SQL(""),
        arrays,
        sql.SQL(", ").join(names),
        relation.rows,
        joined,
    )


def _exact(columns: Iterable[Column]) -> sql.Composed:
    return sql.SQL(", ").join(column.exact for column in columns)


def _shortened(column: Column) -> sql.Composed:
    text = sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column.name))
    return sql.SQL(
        "CASE WHEN length({text}) > {most} THEN concat(left({text}, {most}), '… (', length({text}), "
        "' characters, md5 ', md5({text}), ')') ELSE {text} END"
    ).format(text=text, most=sql.Literal(_CHARACTERS_SHOWN))


# Literals throughout: with parameters psycopg would look for placeholders in names that hold a percent sign.
def _where(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")


def _number(bits: int, by: sql.Composable) -> sql.Composed:
    return sql.SQL("({} & {})").format(by, sql.Literal((1 << bits) - 1))


def _chosen(buckets: Buckets, by: sql.Composable) -> list[sql.Composable]:
    if buckets.chosen is None:
        return []
    return [sql.SQL("{} = ANY ({})").format(_number(buckets.chosen_bits, by), _integers(buckets.chosen))]


def _integers(numbers: Iterable[int]) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.int8[]").format(sql.Literal("{" + ",".join(map(str, numbers)) + "}"))


def _texts(texts: Sequence[str]) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.text[]").format(sql.Literal(list(texts)))


def _signed(lane: int) -> int:
    return lane - (1 << _LANE_BITS) if lane >> (_LANE_BITS - 1) else lane
