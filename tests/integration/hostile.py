"""A schema in which everything is called as badly as PostgreSQL allows: quotes, dots, percent signs, braces, newlines,
look-alikes, the longest names, words of SQL. Each table has one row for every other thing to find."""

from __future__ import annotations

import psycopg
from psycopg import sql

NAMES = (
    "a.b",
    "b.c",
    "c",
    'say "hi"',
    '"',
    ".",
    "back\\slash",
    "100%s %(b)s",
    "{0} {} {name}",
    "new\nline",
    "-- Name: x; Type: TABLE; Schema: y; Owner: z",
    "o'clock",
    "$$ $1 ;",
    " blanks ",
    "UPPER",
    "select",
    "ab",
    "аb",  # the first letter is Cyrillic
    "\u00e9",
    "e\u0301",
    "x" * 63,
    "ü" * 31,
    "*",
    "tab\tand [x] (y)",
)
SCHEMAS = ("a", "a.b", ' S"c\\h%s{}\n. ', "table")
ROLE = "ro\"le.%s {} o'x"
PUBLICATION = 'pub"li.%s,{}'


def tables() -> list[tuple[str, str]]:
    """Schema and name of each: every name, in two of the schemas."""
    return [(SCHEMAS[(place + more) % 4], name) for place, name in enumerate(NAMES) for more in (0, 1)]


def columns(place: int) -> tuple[str, str]:
    """The key's and the other column's name of the table at this place."""
    return NAMES[(place + 5) % len(NAMES)], NAMES[(place + 6) % len(NAMES)]


def make(dsn: str) -> None:
    """All of it, in an empty database."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(ROLE)))
        for schema in SCHEMAS:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for place, (schema, name) in enumerate(tables()):
            _make_table(connection, place, schema, name)


def _make_table(connection: psycopg.Connection, place: int, schema: str, name: str) -> None:
    key, other = map(sql.Identifier, columns(place))
    named = {
        "table": sql.Identifier(schema, name),
        "schema": sql.Identifier(schema),
        "key": key,
        "other": other,
        "constraint": sql.Identifier(f"p{place}{name}"),  # too long ones are cut by the server
        "sequence": sql.Identifier(schema, f"s{place}{name}"),
        "index": sql.Identifier(f"i{place}{name}"),
        "view": sql.Identifier(schema, f"v{place}{name}"),
        "function": sql.Identifier(schema, f"f{place}{name}"),
        "trigger": sql.Identifier(NAMES[(place + 2) % len(NAMES)]),
        "role": sql.Identifier(ROLE),
        "text": sql.Literal(name),
    }
    for statement in (
        "CREATE TABLE {table} ({key} integer, {other} text)",
        "ALTER TABLE {table} ADD CONSTRAINT {constraint} PRIMARY KEY ({key})",
        "CREATE SEQUENCE {sequence} OWNED BY {table}.{key}",
        "CREATE INDEX {index} ON {table} ({other})",
        "CREATE VIEW {view} AS SELECT {key}, count({other}) AS {other} FROM {table} GROUP BY 1",
        "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$",
        "CREATE TRIGGER {trigger} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
        "COMMENT ON COLUMN {table}.{other} IS {text}",
        "GRANT SELECT ON {table} TO {role}",
        "INSERT INTO {table} VALUES (1, {text}), (2, {text}), (3, NULL)",
        "SELECT nextval({sequence_text})",
    ):
        named["sequence_text"] = sql.Literal(named["sequence"].as_string(connection))
        connection.execute(sql.SQL(statement).format(**named))


def change(dsn: str, *, key: int = 2) -> None:
    """One row of each table is another."""
    with psycopg.connect(dsn) as connection:
        for place, each in enumerate(tables()):
            by, other = map(sql.Identifier, columns(place))
            update = sql.SQL("UPDATE {} SET {} = coalesce({}, '') || '!' WHERE {} = {}")
            connection.execute(update.format(sql.Identifier(*each), other, other, by, sql.Literal(key)))
