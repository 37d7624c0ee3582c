"""Sequences with their real values: owned, identity, standalone; replication and table copies carry none of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.state import claim_epoch

__all__ = ["Outrun", "SequenceValue", "outrun_columns", "read_sequences", "set_sequences", "sync_sequences"]

_BATCH = 200
_ATTEMPTS = 5

_SEQUENCES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'statehub_plan')
  AND NOT EXISTS (
      SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

# Columns that a sequence feeds: it belongs to them, or their default calls it. Smallest and largest are of all
# partitions and children.
_FED = """
SELECT DISTINCT c.relname, n.nspname, q.increment, q.minimum, q.maximum, q.cycles, t.relname, tn.nspname, a.attname
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT s.seqincrement, s.seqmin, s.seqmax, s.seqcycle) AS q(increment, minimum, maximum, cycles)
LEFT JOIN LATERAL (
    SELECT d.refobjid, d.refobjsubid FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
      AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    UNION SELECT f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
) AS fed(relation, attribute) ON true
LEFT JOIN pg_class t ON t.oid = fed.relation LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = fed.relation AND a.attnum = fed.attribute
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'statehub_plan')
  AND NOT EXISTS (
      SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY 2, 1, 8, 7, 9
"""
_LOST_NUMBERS = 1000


class SequenceValue(Frozen):
    """What a sequence will do next: hand out `last_value` itself if not `is_called`, else the one after it."""

    schema_name: str
    name: str
    last_value: int
    is_called: bool

    @property
    def qualified(self) -> str:
        """`schema.sequence`, for people and for facts: `names.qualified`, so never for SQL."""
        return qualified(self.schema_name, self.name)


def read_sequences(
    connection: Connection, *, names: Sequence[tuple[str, str]] | None = None
) -> tuple[SequenceValue, ...]:
    """Every sequence's exact value, sorted by name; extensions' own left out. Needs SELECT on each.

    Only those of `names` (schema and name) where given, which saves asking which there are. Read from the sequence
    itself: `pg_sequences.last_value` is NULL for one that was set but not called yet.
    """
    listed = connection.execute(_SEQUENCES).fetchall() if names is None else names
    values: list[SequenceValue] = []
    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, {}, last_value, is_called FROM {}").format(
                sql.Literal(schema), sql.Literal(name), sql.Identifier(schema, name)
            )
            for schema, name in batch
        )
        values += [
            SequenceValue(schema_name=schema, name=name, last_value=last, is_called=called)
            for schema, name, last, called in connection.execute(query)
        ]
    return tuple(sorted(values, key=lambda value: (value.schema_name, value.name)))


def sync_sequences(source: Connection, target: Connection, *, epoch: int) -> tuple[SequenceValue, ...]:
    """Gives every sequence of the target its value on the source, reads it back, and returns the values.

    `nextval` waits for no table lock, so a source that still moves is read again, five times at most. One durable
    transaction on the target, fenced by `epoch`; idempotent. StatehubError naming each sequence that is missing, that
    refused its value, or that won't stand still.
    """
    wanted = read_sequences(source)
    for _ in range(_ATTEMPTS):
        _set(target, wanted, epoch)
        _require_same(wanted, read_sequences(target))
        now = read_sequences(source)
        if now == wanted:
            return wanted
        moving, wanted = _differing(wanted, now), now
    raise StatehubError(
        code="sequences-moving",
        what=f"{len(moving)} sequences of the source move faster than they can be read",
        hint="end the sessions that call nextval() there, or repeat this after the freeze, which stops nextval()",
        details=tuple(moving),
    )


class Outrun(Frozen):
    """Sequences by their names: those that were `moved`, and those of which no column tells how far they had come."""

    moved: tuple[str, ...]
    unknown: tuple[str, ...]


def outrun_columns(connection: Connection, *, epoch: int) -> Outrun:
    """Moves every sequence past what the columns hold that it feeds, and 1,000 numbers further where there is room:
    rows that are lost had numbers, too, which somebody may have been told. None is moved back.

    For a side that has got rows by a stream, which carries no values of sequences (manual 29.8), and whose source is
    gone. Reads the columns' extremes: quick where they are indexed. Fenced by `epoch`; each call goes further.
    """
    fed: dict[tuple[str, str], list[_Fed]] = {}
    for name, schema, *rest in connection.execute(_FED).fetchall():
        fed.setdefault((schema, name), []).append(_Fed(*rest))
    moved: list[SequenceValue] = []
    unknown: list[str] = []
    for now in read_sequences(connection, names=list(fed)):
        places = fed[now.schema_name, now.name]
        held = [value for place in places if (value := place.extreme(connection)) is not None]
        if places[0].cycles or all(place.column is None for place in places):
            unknown.append(now.qualified)
        beyond = places[0].beyond(now, held)
        if beyond is not None:
            moved.append(now.model_copy(update={"last_value": beyond, "is_called": True}))
    with connection.transaction():
        claim_epoch(connection, epoch)
        set_sequences(connection, moved)
    return Outrun(moved=tuple(one.qualified for one in moved), unknown=tuple(unknown))


class _Fed(NamedTuple):
    """What a sequence counts by, and a column that it feeds; all None where it feeds none that holds whole numbers."""

    increment: int
    minimum: int
    maximum: int
    cycles: bool
    table: str | None
    schema: str | None
    column: str | None

    def extreme(self, connection: Connection) -> int | None:
        """The last number in the sequence's direction that the column holds."""
        if self.table is None or self.schema is None or self.column is None:
            return None
        query = sql.SQL("SELECT {}({}) FROM {}").format(
            sql.SQL("max" if self.increment > 0 else "min"),
            sql.Identifier(self.column),
            sql.Identifier(self.schema, self.table),
        )
        row = connection.execute(query).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def beyond(self, now: SequenceValue, held: Iterable[int]) -> int | None:
        """What it is to be set to; None where nothing further is within its limits."""
        sign = 1 if self.increment > 0 else -1
        before = now.last_value if now.is_called else now.last_value - self.increment
        last = max((before, *(value for value in held if self.minimum <= value <= self.maximum)), key=sign.__mul__)
        further = last + _LOST_NUMBERS * self.increment
        if self.minimum <= further <= self.maximum:
            return further
        return None if last == before else last


def set_sequences(target: Connection, values: Iterable[SequenceValue]) -> None:
    """Gives these sequences these values; one round trip each few hundred. Not undone by a rollback, and durable with
    the next commit that is flushed. Says nothing about who may: that is the caller's transaction's business."""
    listed = list(values)
    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        target.execute(
            "SELECT setval(format('%%I.%%I', v.s, v.n)::regclass, v.v, v.c) "
            "FROM unnest(%s::text[], %s::text[], %s::int8[], %s::bool[]) AS v(s, n, v, c)",
            [
                [one.schema_name for one in batch],
                [one.name for one in batch],
                [one.last_value for one in batch],
                [one.is_called for one in batch],
            ],
        )


def _set(target: Connection, values: Iterable[SequenceValue], epoch: int) -> None:
    present = {(value.schema_name, value.name) for value in read_sequences(target)}
    absent = [value.qualified for value in values if (value.schema_name, value.name) not in present]
    if absent:
        raise _problem("sequences-missing", f"{len(absent)} sequences of the source do not exist on the target", absent)
    with target.transaction():
        claim_epoch(target, epoch)
        set_sequences(target, values)


def _require_same(wanted: tuple[SequenceValue, ...], found: tuple[SequenceValue, ...]) -> None:
    differing = _differing(wanted, tuple(value for value in found if value.qualified in {v.qualified for v in wanted}))
    if differing:
        raise _problem(
            "sequences-differ", f"{len(differing)} sequences of the target did not keep their value", differing
        )


def _differing(first: Iterable[SequenceValue], second: Iterable[SequenceValue]) -> list[str]:
    return sorted({value.qualified for value in set(first) ^ set(second)})


def _problem(code: str, what: str, names: list[str]) -> StatehubError:
    return StatehubError(
        code=code,
        what=what,
        hint="prepare the target again; nobody else may change its schema meanwhile",
        details=tuple(names),
    )
