"""Checks of column types that the target's server may not know, or was built without."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Move, Place, Probe, Query, Seen, check
from statehub_plan.postgres.connect import USER_TABLES, Connection
from statehub_plan.postgres.names import sql_qualified

__all__: list[str] = []

_COLUMN = sql_qualified("t.nspname", "t.relname", "a.attname")
_COLUMNS = f"""
({USER_TABLES}) t JOIN pg_attribute a ON a.attrelid = t.oid::oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = y.typelem AND y.typcategory = 'A'
"""
_XML = Query(f"SELECT {_COLUMN} FROM {_COLUMNS} WHERE 'xml'::regtype IN (y.oid, e.oid) ORDER BY 1")
_USED = Query(
    f"SELECT coalesce(e.typname, y.typname), min({_COLUMN}) FROM {_COLUMNS} "
    "WHERE coalesce(e.typnamespace, y.typnamespace) = 'pg_catalog'::regnamespace GROUP BY 1 ORDER BY 1"
)
_KNOWN = Query("SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typrelid = 0")
_LZ4 = Query(f"SELECT {_COLUMN} FROM {_COLUMNS} WHERE a.attcompression = 'l' ORDER BY 1")
_COMPRESSIONS = Query("SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")


def _parses_xml(connection: Connection, _: Move) -> bool:
    try:
        connection.execute("SELECT xmlparse(CONTENT '<a/>')")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


_XML_SUPPORT = Probe(_parses_xml)


@check(
    "type-missing",
    Severity.ERROR,
    Place.TARGET,
    title="the target's server knows every built-in type that columns have",
    reason="loading the schema fails at the first column whose type the other version does not have",
    here=(_KNOWN,),
    there=(_USED,),
)
def _missing(look: Look) -> Iterator[Seen]:
    known = {name for (name,) in look.here.rows(_KNOWN)}
    for name, column in look.there.rows(_USED):
        if name not in known:
            yield Seen(
                f"column {column} is of type {name}, which the target's server does not know",
                "change the type on the source, or take a target of the source's version",
                column,
            )


@check(
    "xml-unsupported",
    Severity.ERROR,
    Place.TARGET,
    title="the target's server reads xml where columns hold it",
    reason="a server that was built without libxml refuses every xml value, under the hold",
    here=(_XML_SUPPORT,),
    there=(_XML,),
)
def _xml(look: Look) -> Iterator[Seen]:
    columns = look.there.rows(_XML)
    if columns and not look.here.probed(_XML_SUPPORT):
        yield Seen(
            f"column {columns[0][0]} is of type xml, and the target's server was built without libxml",
            "choose a target whose server was built --with-libxml, or make these columns text",
            columns[0][0],
        )


@check(
    "lz4-unsupported",
    Severity.ERROR,
    Place.TARGET,
    title="the target's server compresses by lz4 where columns ask for it",
    reason="a server that was built without lz4 refuses the column's definition",
    here=(_COMPRESSIONS,),
    there=(_LZ4,),
)
def _lz4(look: Look) -> Iterator[Seen]:
    columns = look.there.rows(_LZ4)
    if columns and not look.here.value(_COMPRESSIONS):
        yield Seen(
            f"column {columns[0][0]} is COMPRESSION lz4, and the target's server was built without it",
            "choose a target whose server was built --with-lz4, or ALTER TABLE … ALTER COLUMN … SET COMPRESSION pglz",
            columns[0][0],
        )
