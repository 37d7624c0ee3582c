"""Sequences with their real values: owned, identity, standalone; replication and table copies carry none of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.state import claim_epoch

__all__ = ["SequenceValue", "read_sequences", "set_sequences", "sync_sequences"]

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
