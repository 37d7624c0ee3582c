"""A second opinion on equal content, sharing nothing with the tool's own comparison.

After a switch one side is frozen and the other takes new events, so equal means: every row of the frozen side is on the
primary, unchanged and as often, and what the primary has beyond that is what clients have written since.
"""

from __future__ import annotations

from collections import Counter

import psycopg
from psycopg import sql

from statehub_plan.demo.site import Site
from statehub_plan.model.base import Frozen

_CLIENTS_WRITE = frozenset({"public.progress_event", "public.idempotency_key"})
_PINNED = (
    "-c default_transaction_read_only=on -c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres"
    " -c extra_float_digits=1 -c bytea_output=hex"
)


class Equality(Frozen):
    """No `differences` when everything is equal; `rows` were compared, `written_since` are on the primary only."""

    rows: int
    written_since: int
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether no difference was found, in rows that were really there."""
        return self.rows > 0 and not self.differences


def equality(frozen: Site, primary: Site) -> Equality:
    """Compare the frozen side with the primary, row by row and sequence by sequence; reads only, about 2 s for 200,000
    rows. Both sides must be readable."""
    rows = written_since = 0
    differences: list[str] = []
    with _connect(frozen) as ours, _connect(primary) as theirs:
        tables = _tables(ours)
        if tables != _tables(theirs):
            differences.append("the two sides have different tables or columns")
        for table, columns in tables.items():
            mine, other = _rows(ours, table, columns), _rows(theirs, table, columns)
            missing, extra = (mine - other).total(), (other - mine).total()
            rows += mine.total()
            written_since += extra
            if missing or (extra and ".".join(table) not in _CLIENTS_WRITE):
                differences.append(
                    f"{'.'.join(table)}: {missing} rows only on {frozen.name}, {extra} on {primary.name}"
                )
        differences += _sequences_behind(ours, theirs)
    return Equality(rows=rows, written_since=written_since, differences=tuple(differences))


def _connect(site: Site) -> psycopg.Connection:
    # Not as the reading role: pg_sequences shows no values to a role that may not use the sequence.
    return psycopg.connect(site.dsn(), autocommit=True, options=_PINNED, application_name="demo comparison")


def _tables(conn: psycopg.Connection) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for schema, table, column in conn.execute(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema IN ('public', 'audit') AND table_type = 'BASE TABLE'"
        " ORDER BY table_schema, table_name, ordinal_position"
    ):
        found[schema, table] = (*found.get((schema, table), ()), column)
    return found


def _rows(conn: psycopg.Connection, table: tuple[str, str], columns: tuple[str, ...]) -> Counter[bytes]:
    query = sql.SQL("COPY (SELECT md5(ROW({})::text) FROM {}) TO STDOUT").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(*table)
    )
    with conn.cursor().copy(query) as copy:
        return Counter(bytes(line) for block in copy for line in bytes(block).splitlines())


def _sequences_behind(frozen: psycopg.Connection, primary: psycopg.Connection) -> list[str]:
    query = (
        "SELECT schemaname || '.' || sequencename, coalesce(last_value, 0) FROM pg_sequences"
        " WHERE schemaname IN ('public', 'audit')"
    )
    values: dict[str, int] = dict(frozen.execute(query).fetchall())
    reached: dict[str, int] = dict(primary.execute(query).fetchall())
    return [
        f"sequence {name}: {reached.get(name)} is behind {value}"
        for name, value in sorted(values.items())
        if reached.get(name, -1) < value
    ]
