"""The tables that hold rows, their columns, and how each value travels and is hashed without changing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg import sql

from statehub_plan.postgres.connect import USER_TABLES, Connection
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.seeds import SEEDS, Seeds

__all__ = [
    "Column",
    "PageRange",
    "Relation",
    "read_extension_tables",
    "read_large_objects",
    "read_relations",
]

_FIRST_UNPINNED_OID = 10000
"""Objects below have the same OID in every cluster and major version (access/transam.h: FirstGenbkiObjectId)."""
_FLOATS = ("float4", "float8")
_GEOMETRIC = ("box", "circle", "line", "lseg", "path", "point", "polygon")
_LARGE_OBJECT_PIECE_BYTES = 16 * 1024 * 1024
_WIDE_ROW_BYTES = 512
"""Servers compress and move values of rows of more than 2 kB; tables of such rows have more bytes a row than this."""


@dataclass(frozen=True, slots=True)
class Column:
    """A live column that is stored. `portable`: its binary form means the same on any server. `exact`: an expression in
    SQL of the built-in type `exact_type` whose binary form identifies the value and is the same on any server."""

    name: str
    type_name: str
    generated: bool
    portable: bool
    exact: sql.Composable
    exact_type: str


@dataclass(frozen=True, slots=True)
class PageRange:
    """Heap pages from `first` up to, not including, `end`; `end` None means to the last one. `share` of the table."""

    first: int
    end: int | None
    share: float

    @property
    def condition(self) -> sql.Composable:
        """` WHERE ctid …`, or nothing for the whole table."""
        bounds = self.bounds
        return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("")

    @property
    def bounds(self) -> list[sql.Composable]:
        """None, one or two conditions on ctid."""
        low = sql.SQL("ctid >= {}::pg_catalog.tid").format(sql.Literal(f"({self.first},0)"))
        high = sql.SQL("ctid < {}::pg_catalog.tid").format(sql.Literal(f"({self.end},0)"))
        return [*([low] if self.first else []), *([high] if self.end is not None else [])]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table with rows of its own (a leaf where it is partitioned), its columns in their order, key columns by name.

    `bytes` counts heap and TOAST, `pages` the heap's alone; `key` is the primary key, or a unique key over NOT NULL
    columns, or empty. `wide`: its values may be stored compressed or out of line. `seeds`: what its rows are hashed
    with, alike on both sides of a comparison."""

    schema: str
    name: str
    oid: int
    unlogged: bool
    heap: bool
    pages: int
    bytes: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    wide: bool = True
    seeds: Seeds = SEEDS

    @property
    def qualified(self) -> str:
        """`schema.table`, for people and for facts: `names.qualified`, so never for SQL."""
        return qualified(self.schema, self.name)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, schema-qualified name, for SQL."""
        return sql.Identifier(self.schema, self.name)

    @property
    def rows(self) -> sql.Composable:
        """Where the rows are read from, for FROM."""
        return sql.SQL("ONLY {}").format(self.identifier)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of the key, sorted by name."""
        return tuple(column for name in self.key for column in self.columns if column.name == name)

    def ranges(self, chunk_bytes: int) -> Iterator[PageRange]:
        """The table in pieces of about `chunk_bytes` each, as TID range scans (server 14 and newer); at least one."""
        wanted = max(1, round(self.bytes / chunk_bytes)) if self.heap else 1
        count = min(wanted, max(1, self.pages))
        cuts = [self.pages * index // count for index in range(count)]
        for index, first in enumerate(cuts):
            yield PageRange(first, cuts[index + 1] if index + 1 < count else None, 1 / count)


@dataclass(frozen=True, slots=True)
class LargeObjects(Relation):
    """The database's large objects as a table (loid, data), to be compared like one."""

    @property
    def rows(self) -> sql.Composable:
        """As (loid, data), where `data` is a digest over pieces: `lo_get` of a whole one ends at 1 GB. Of holes the
        zeros that every reader gets."""
        return sql.SQL(
            "(WITH RECURSIVE piece(loid, at, bytes, hash) AS ("
            "SELECT l.oid, 0::int8, length(p), sha256(p) FROM pg_catalog.pg_largeobject_metadata l, "
            "LATERAL (SELECT pg_catalog.lo_get(l.oid, 0, {size}) OFFSET 0) g(p) "
            "UNION ALL SELECT before.loid, before.at + {size}, length(p), sha256(p) FROM piece before, "
            "LATERAL (SELECT pg_catalog.lo_get(before.loid, before.at + {size}, {size}) OFFSET 0) g(p) "
            "WHERE before.bytes = {size}) "
            "SELECT loid, sha256(string_agg(hash, ''::bytea ORDER BY at)) AS data FROM piece GROUP BY loid) AS objects"
        ).format(size=sql.Literal(_LARGE_OBJECT_PIECE_BYTES))


@dataclass(frozen=True, slots=True)
class ExtensionTable(Relation):
    """The rows that a user added to a table of an extension (manual, pg_extension_config_dump). `condition` is the
    extension's own, as SQL that begins with WHERE, or empty."""

    condition: str = ""

    @property
    def rows(self) -> sql.Composable:
        """Without the rows that CREATE EXTENSION brings along."""
        # The extension's author wrote the condition to be put behind a table's name, as pg_dump does.
        condition = sql.SQL(self.condition)
        return sql.SQL("(SELECT * FROM ONLY {} {}) AS configured").format(self.identifier, condition)


@dataclass(frozen=True, slots=True)
class _Type:
    oid: int
    name: str
    kind: str
    element: int
    base: int
    sendable: bool


_RELATIONS = f"""
WITH t AS ({USER_TABLES})
SELECT t.nspname, t.relname, t.oid, t.persistence = 'unlogged', coalesce(am.amname = 'heap', false),
       pg_catalog.pg_relation_size(t.oid::oid) / pg_catalog.current_setting('block_size')::int8,
       pg_catalog.pg_table_size(t.oid::oid),
       coalesce((SELECT array_agg(a.attname ORDER BY a.attname COLLATE "C")
                 FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = t.oid::oid AND a.attnum = ANY (k.indkey)), '{{}}'),
       c.reltoastrelid <> 0 AND (c.reltuples <= 0
         OR pg_catalog.pg_table_size(t.oid::oid) > {_WIDE_ROW_BYTES} * c.reltuples)
FROM t
JOIN pg_catalog.pg_class c ON c.oid = t.oid::oid
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
LEFT JOIN LATERAL (
    SELECT i.indkey::int2[] AS indkey FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
    ORDER BY NOT i.indisprimary, i.indexrelid LIMIT 1) k ON true
WHERE t.kind = 'ordinary'
"""

_EXTENSION_TABLES = """
SELECT n.nspname, c.relname, c.oid::int8, pg_catalog.pg_table_size(c.oid), x.condition
FROM pg_catalog.pg_extension e, unnest(e.extconfig, e.extcondition) AS x(oid, condition)
JOIN pg_catalog.pg_class c ON c.oid = x.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
"""
# An extension brings these along and says nothing of rows of the user: what is in them is its own, and the same for the
# same version, or is in no dump.
_UNMARKED_TABLES = """
SELECT n.nspname, c.relname, c.oid::int8, pg_catalog.pg_table_size(c.oid), ''
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
JOIN pg_catalog.pg_class c ON c.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND c.relkind = 'r' AND c.oid <> ALL (coalesce(e.extconfig, '{}'))
"""

_COLUMNS = """
SELECT a.attrelid::int8, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated <> '',
       a.atttypid::int8
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
ORDER BY a.attrelid, a.attnum
"""

_TYPES = """
SELECT t.oid::int8, t.typname, t.typtype, CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END,
       t.typbasetype::int8,
       t.typsend <> 0 AND t.typreceive <> 0
         AND t.typname !~ '^reg' AND coalesce(e.typname !~ '^reg', true)
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE t.oid = ANY (%s::oid[])
"""


def read_relations(connection: Connection, seeds: Seeds = SEEDS) -> tuple[Relation, ...]:
    """Every user table that holds rows, sorted by name; of a partitioned one its partitions instead."""
    rows = connection.execute(_RELATIONS).fetchall()
    columns = _read_columns(connection, [row[2] for row in rows])
    relations = [
        Relation(schema, name, oid, unlogged, heap, pages, size, tuple(columns.get(oid, ())), tuple(key), wide, seeds)
        for schema, name, oid, unlogged, heap, pages, size, key, wide in rows
    ]
    return tuple(sorted(relations, key=lambda relation: (relation.schema, relation.name)))


def read_large_objects(connection: Connection, seeds: Seeds = SEEDS) -> Relation | None:
    """All large objects as one relation; None where there are none."""
    row = connection.execute(
        "SELECT pg_catalog.pg_table_size('pg_catalog.pg_largeobject') "
        "WHERE EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
    ).fetchone()
    if row is None:
        return None
    columns = (
        Column("loid", "oid", False, True, sql.Identifier("loid"), "oid"),
        Column("data", "bytea", False, True, sql.Identifier("data"), "bytea"),
    )
    return LargeObjects("pg_catalog", "pg_largeobject", 0, False, False, 0, row[0], columns, ("loid",), seeds=seeds)


def read_extension_tables(
    connection: Connection, seeds: Seeds = SEEDS, *, unmarked: bool = False
) -> tuple[Relation, ...]:
    """The tables of extensions that hold rows of the user; also those that are not said to, if `unmarked`."""
    rows = connection.execute(_EXTENSION_TABLES).fetchall()
    if unmarked:
        rows += connection.execute(_UNMARKED_TABLES).fetchall()
    columns = _read_columns(connection, [row[2] for row in rows])
    return tuple(
        ExtensionTable(
            schema, name, oid, False, False, 0, size, tuple(columns.get(oid, ())), (), seeds=seeds, condition=condition
        )
        for schema, name, oid, size, condition in rows
    )


def _read_columns(connection: Connection, tables: list[int]) -> dict[int, list[Column]]:
    rows = connection.execute(_COLUMNS, [tables]).fetchall()
    types = _read_types(connection, {row[4] for row in rows})
    columns: dict[int, list[Column]] = {}
    for table, name, type_name, generated, type_oid in rows:
        base = types[type_oid]
        while base.kind == "d":
            base = types[base.base]
        exact, exact_type = _exact(name, types[type_oid], base)
        column = Column(name, type_name, generated, _portable(base, types.get), exact, exact_type)
        columns.setdefault(table, []).append(column)
    return columns


def _read_types(connection: Connection, wanted: set[int]) -> dict[int, _Type]:
    """The types with these OIDs, and those that they are made of."""
    types: dict[int, _Type] = {}
    while missing := wanted - types.keys():
        found = [_Type(*row) for row in connection.execute(_TYPES, [sorted(missing)])]
        types |= {each.oid: each for each in found}
        wanted = {oid for each in found for oid in (each.element, each.base) if oid}
    return types


def _portable(base: _Type, lookup: Callable[[int], _Type | None]) -> bool:
    """Whether the binary form holds no OID of this cluster and no extension's own format."""
    element = lookup(base.element) if base.element else None
    if element is not None and not _built_in(element):
        return False
    return _built_in(base) or base.kind == "e"


def _built_in(each: _Type) -> bool:
    return each.oid < _FIRST_UNPINNED_OID and each.kind in ("b", "r", "m") and each.sendable


def _exact(name: str, declared: _Type, base: _Type) -> tuple[sql.Composable, str]:
    column: sql.Composable = sql.Identifier(name)
    if not _built_in(base) or base.element or base.name in _GEOMETRIC:
        # OIDs of types differ between clusters and would be part of a binary form. An array's tells whether it ever
        # held a NULL, a float's the sign of NaN; neither is part of the value. `::text` could be a cast of the user's
        # own; and a row of NULLs is no NULL, though it IS NULL.
        shown = sql.SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN concat({}) END").format(column, column)
        return shown, "text"
    if declared is not base:
        # Quoted and without a length: `bpchar` and `bit` by their SQL names would mean character(1) and bit(1).
        column = sql.SQL("{}::{}").format(column, sql.Identifier("pg_catalog", base.name))
    if base.name in _FLOATS:
        nan = sql.SQL("'NaN'::pg_catalog.{}").format(sql.Identifier(base.name))
        column = sql.SQL("CASE WHEN {} = {} THEN {} ELSE {} END").format(column, nan, nan, column)
    return column, base.name
