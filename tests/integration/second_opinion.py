"""A slow comparison that shares nothing with the tool's own: sorted COPY text of whole tables under pinned settings."""

from __future__ import annotations

from collections import Counter

import psycopg
from psycopg import sql

_PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "client_encoding": "UTF8",
    "search_path": "pg_catalog",
}

Lines = dict[str, Counter[bytes]]


def copied(dsn: str, schema: str) -> Lines:
    """Every table of a schema as a multiset of the lines that COPY writes."""
    found: Lines = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in _PINNED.items():
            connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace", [schema]
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, table))
            with connection.cursor().copy(query) as copy:
                found[table] = Counter(b"".join(bytes(block) for block in copy).splitlines())
    return found


def differing_keys(ours: Counter[bytes], theirs: Counter[bytes]) -> set[tuple[str, str]]:
    """(key, what) of each differing row, where the first column is the key."""
    sides = [{line.split(b"\t")[0].decode(): line for line in lines} for lines in (ours, theirs)]
    found = set()
    for key in sides[0].keys() | sides[1].keys():
        one, other = (side.get(key) for side in sides)
        if one != other:
            found.add((f"({key})", "extra" if one is None else "missing" if other is None else "changed"))
    return found
