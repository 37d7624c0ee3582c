"""A row's two 64-bit hashes as SQL: the same on every server, other ones as soon as anything in the row is another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql

from statehub_plan.postgres.relations import Column
from statehub_plan.postgres.seeds import Seeds

__all__ = ["RowHash", "row_hash"]

_INTEGERS = {
    "bool": "({}::pg_catalog.int4::pg_catalog.int8)",
    "int2": "({}::pg_catalog.int8)",
    "int4": "({}::pg_catalog.int8)",
    "int8": "({})",
}
_TEXTS = ("text", "varchar")
_HASHED = (*_TEXTS, "uuid")
_SENT = {
    "bpchar": "bpcharsend({})",
    "bytea": "{}",
    "date": "date_send({})",
    "float4": "float4send({})",
    "float8": "float8send({})",
    "inet": "inet_send({})",
    "interval": "interval_send({})",
    "json": "json_send({})",
    "jsonb": "jsonb_send({})",
    "numeric": "numeric_send({})",
    "time": "time_send({})",
    "timestamp": "timestamp_send({})",
    "timestamptz": "timestamptz_send({})",
}
_OF_TEXT = 'hashtextextended({} COLLATE "C", {})'
# A record of one bytea has exactly its hash (rowtypes.c: 31 · 0 + h), which has no name in SQL before 18; of a NULL it
# would have one that depends on no seed.
_OF_BYTES = "CASE WHEN {0} IS NOT NULL THEN hash_record_extended(ROW({0}), {1}) END"
_OF_UUID = "uuid_hash_extended({}, {})"


@dataclass(frozen=True, slots=True)
class RowHash:
    """`values`: what an inner query selects of each row, below OFFSET 0 or it would be made once per hash; `hashes`:
    both hashes, as expressions over that query's columns (named r, c0, c1 …, i0, i1 …)."""

    values: sql.Composed
    hashes: tuple[sql.SQL, sql.SQL]


def row_hash(columns: Iterable[Column], seeds: Seeds, *, utf8: bool, wide: bool) -> RowHash:
    """How a row of these columns (at least one) is hashed with each of two seeds; columns count by name, not by order.

    `utf8`: texts are stored as they are hashed. `wide`: values may be stored compressed or elsewhere; they are fetched
    once then, which does not change the hash.
    """
    ordered = sorted(columns, key=lambda column: column.name)
    integers = [column for column in ordered if column.exact_type in _INTEGERS]
    hashed = [column for column in ordered if column.exact_type in _HASHED]
    binary = _binary([column for column in ordered if column.exact_type not in (*_INTEGERS, *_HASHED)])
    values = [
        *(sql.SQL("ARRAY[{}]::pg_catalog.bytea[] AS r").format(sql.SQL(", ").join(binary)) for _ in binary[:1]),
        *(sql.SQL(f"{{}} AS c{place}").format(_hashable(each, utf8, wide)) for place, each in enumerate(hashed)),
        *(
            sql.SQL(f"{_INTEGERS[each.exact_type]} AS i{place}").format(each.exact)
            for place, each in enumerate(integers)
        ),
    ]
    own = tuple(_OF_UUID if each.exact_type == "uuid" else _OF_TEXT if utf8 else _OF_BYTES for each in hashed)
    ours, other = (sql.SQL(_hash(bool(binary), own, len(integers), seed)) for seed in seeds)
    return RowHash(sql.SQL(", ").join(values), (ours, other))


def _binary(columns: Sequence[Column]) -> list[sql.Composable]:
    """What has no exact 64-bit hash of its own, as binary forms: the first column of each common type by itself, which
    is cheap, all others as one record. An array's hash is a sum over its elements (31 · h + next): were two of a kind
    in it, a row in which they are exchanged would have a hash that is too near."""
    first = {column.exact_type: column for column in reversed(columns) if column.exact_type in _SENT}
    alone = [column for column in columns if first.get(column.exact_type) is column]
    rest = [column.exact for column in columns if first.get(column.exact_type) is not column]
    sent: list[sql.Composable] = [sql.SQL(_SENT[column.exact_type]).format(column.exact) for column in alone]
    return [*sent, sql.SQL("record_send(ROW({}))").format(sql.SQL(", ").join(rest))] if rest else sent


# Tables of a kind are many, and all of them are asked with the same seeds.
@lru_cache(maxsize=1024)
def _hash(binary: bool, own: tuple[str, ...], integers: int, seed: int) -> str:
    """The values' own hashes, each under a seed of its own, put together by exclusive or, and that hashed once more:
    else a sum over rows would not tell in which row a value stood. An integer needs no hash of its own where it can be
    part of a seed."""
    literals = _literals(seed)
    numbers = iter(range(integers))
    terms = []
    for place, call in enumerate(own):
        number = next(numbers, None)
        value, none = _carried(number, literals), _carried(number, literals)
        terms.append(f"coalesce({call.format(f'c{place}', value)}, {_rehashed(none)})")
    if binary:
        terms.append(f"hash_array_extended(r, {next(literals)})")
    mixed = " # ".join(terms) if terms else next(literals)
    left = [_carried(number, literals) for number in numbers]
    for integer in left:
        mixed = _rehashed(f"{integer} # {mixed}")
    return mixed if left else _rehashed(mixed)


def _carried(number: int | None, literals: Iterator[str]) -> str:
    """A seed that no two values of this integer column share, or one without a column."""
    return next(literals) if number is None else f"coalesce(i{number} # {next(literals)}, {next(literals)})"


def _rehashed(seed: str) -> str:
    """The seed itself, hashed: all of its 64 bits count, other than in `hashint8extended`, which folds them to 32."""
    return _OF_TEXT.format("''", seed)


def _hashable(column: Column, utf8: bool, wide: bool) -> sql.Composable:
    if column.exact_type not in _TEXTS:
        return column.exact
    if not utf8:
        return sql.SQL("textsend({})").format(column.exact)
    return sql.SQL("textcat({}, '')").format(column.exact) if wide else column.exact


def _literals(seed: int) -> Iterator[str]:
    """Seeds without end, all of them from one."""
    number = 0
    while True:
        found = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
        yield f"('{int.from_bytes(found, 'big', signed=True)}'::pg_catalog.int8)"
        number += 1
