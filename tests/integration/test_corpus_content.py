"""A corpus drawn from a seed: single changes of rows of every type, each located; equal rows that are written, stored
and sorted differently, none reported. An independent comparison agrees with every verdict."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.compare import Answer, Comparison, compare
from tests.integration.corpus_types import COLUMN_TYPES, DEFINITIONS, ColumnType
from tests.integration.second_opinion import copied, differing_keys

SEED = 20261125
CHANGED, KEPT = 90, 10
RESPELLED = 25
_OTHER_SESSION = {
    # settings under which the target's values are written
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres_verbose",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "lc_monetary": "C",
}

Rows = list[tuple[int, str | None]]


@contextmanager
def database_with(cluster: Cluster, *options: str) -> Iterator[str]:
    """A database made with the first of these options that this server accepts."""
    name = f"corpus_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        for option in (*options, ""):
            try:
                encoding = "" if "ENCODING" in option else "ENCODING 'UTF8'"
                connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {encoding} {option}".encode())
            except psycopg.Error:
                continue
            break
        try:
            yield cluster.dsn(name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


def create(connection: psycopg.Connection, *, key: bool = True, late_column: bool = False) -> None:
    """One table for each type; `late_column`: its last column is added when rows are there already."""
    connection.execute(DEFINITIONS.encode())
    for number, column in enumerate(COLUMN_TYPES):
        columns = [f"id integer {'PRIMARY KEY' if key else 'NOT NULL'}", f"v {column.declaration}"]
        columns += [] if late_column else ["late text DEFAULT 'as it was'"]
        connection.execute(f"CREATE TABLE corpus.t{number} ({', '.join(columns)})".encode())


def insert(connection: psycopg.Connection, number: int, rows: Rows) -> None:
    """Values by PostgreSQL's own input functions."""
    query = sql.SQL("INSERT INTO corpus.{} (id, v) SELECT id, v::{} FROM unnest(%s::int[], %s::text[]) AS x(id, v)")
    connection.execute(
        query.format(sql.Identifier(f"t{number}"), sql.SQL(COLUMN_TYPES[number].declaration)),
        [[row[0] for row in rows], [row[1] for row in rows]],
    )


def values(column: ColumnType, chance: random.Random, count: int) -> Rows:
    """Numbered from 1; a few are NULL."""
    return [(number, None if chance.random() < 0.03 else column.make(chance)) for number in range(1, count + 1)]


def change(connection: psycopg.Connection, number: int, rows: Rows, chance: random.Random) -> None:
    """Each of these rows is updated, emptied, removed, or followed by a new one."""
    make = COLUMN_TYPES[number].make
    updated: Rows = []
    removed: list[int] = []
    added: Rows = []
    for key, text in rows:
        what = chance.random()
        if what < 0.1:
            removed.append(key)
        elif what < 0.2:
            added.append((key + 100_000, make(chance)))
        else:
            updated.append((key, None if what < 0.25 and text is not None else other(make, text, chance)))
    table = sql.Identifier(f"t{number}")
    connection.execute(sql.SQL("DELETE FROM corpus.{} WHERE id = ANY (%s)").format(table), [removed])
    connection.execute(
        sql.SQL(
            "UPDATE corpus.{} t SET v = x.v::{} FROM unnest(%s::int[], %s::text[]) AS x(id, v) WHERE t.id = x.id"
        ).format(table, sql.SQL(COLUMN_TYPES[number].declaration)),
        [[row[0] for row in updated], [row[1] for row in updated]],
    )
    insert(connection, number, added)


def other(make: object, text: str | None, chance: random.Random) -> str:
    """Another value than `text`."""
    assert callable(make)
    for _ in range(100):
        made = str(make(chance))
        if made != text:
            return made
    raise AssertionError(f"no other value than {text}")


def located(found: Comparison) -> dict[str, set[tuple[str | None, str]]]:
    """(key, what) of every row that is reported, by table."""
    tables = [each for each in found.differences if each.kind == "table"]
    assert all(each.rows_complete for each in tables)
    return {each.object.removeprefix("corpus."): {(row.key, row.what) for row in each.rows} for each in tables}


def opinions(source: str, target: str) -> dict[str, tuple[Counter[bytes], Counter[bytes]]]:
    """What the independent comparison has of each table, for both sides."""
    ours, theirs = copied(source, "corpus"), copied(target, "corpus")
    return {table: (ours[table], theirs[table]) for table in ours}


def test_every_single_change_is_located(source_db: str, target_db: str) -> None:
    """More than five thousand single changes over more than sixty types: the rows named are exactly those of which the
    independent comparison says so, whichever way the tables are read."""
    chance = random.Random(SEED)
    with psycopg.connect(source_db) as old, psycopg.connect(target_db) as new:
        create(old)
        create(new)
        for number, column in enumerate(COLUMN_TYPES):
            rows = values(column, chance, CHANGED + KEPT)
            insert(old, number, rows)
            insert(new, number, rows)
            change(new, number, rows[:CHANGED], chance)
    truth = {table: differing_keys(*sides) for table, sides in opinions(source_db, target_db).items()}
    assert sum(map(len, truth.values())) >= 5000
    assert len([table for table, keys in truth.items() if keys]) == len(COLUMN_TYPES) >= 40
    for expect_differences in (False, True):
        options: Any = {"rows_listed": 1_000_000, "expect_differences": expect_differences, "chunk_bytes": 32_768}
        found = compare(source_db, target_db, **options)
        assert truth == located(found)
        assert all(row.digest_source != row.digest_target for each in found.differences for row in each.rows)


def test_changes_without_a_key_are_counted(source_db: str, target_db: str) -> None:
    """The same without any key: as many rows too many on each side as the independent comparison counts."""
    chance = random.Random(SEED + 1)
    with psycopg.connect(source_db) as old, psycopg.connect(target_db) as new:
        create(old, key=False)
        create(new, key=False)
        for number, column in enumerate(COLUMN_TYPES):
            rows = values(column, chance, 15)
            rows += rows[:5]
            insert(old, number, rows)
            insert(new, number, rows[::-1])
            change(new, number, rows[5:15], chance)
    truth = {
        f"corpus.{table}": ((ours - theirs).total(), (theirs - ours).total())
        for table, (ours, theirs) in opinions(source_db, target_db).items()
    }
    surplus = {
        each.object: tuple(sum(row.rows for row in each.rows if row.what == what) for what in ("missing", "extra"))
        for each in compare(source_db, target_db).differences
    }
    assert truth == surplus


def test_equal_rows_are_equal_however_they_are_written_and_stored(
    source_cluster: Cluster, target_cluster: Cluster
) -> None:
    """More than a thousand rows in other spellings, under other settings, in another order, with dead neighbours,
    columns added later, and under another collation: none is reported."""
    chance = random.Random(SEED + 2)
    swedish = "LOCALE_PROVIDER icu ICU_LOCALE 'sv-SE' LOCALE 'C.UTF-8'", "LOCALE 'C.UTF-8'"
    with (
        database_with(source_cluster, *swedish) as source,
        database_with(target_cluster, "LOCALE 'C'") as target,
    ):
        with psycopg.connect(source) as old, psycopg.connect(target) as new:
            create(old)
            create(new, late_column=True)
            for name, value in _OTHER_SESSION.items():
                new.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            for number, column in enumerate(COLUMN_TYPES):
                rows = values(column, chance, RESPELLED)
                insert(old, number, rows)
                store_otherwise(new, number, [(key, text and column.respell(text)) for key, text in rows], chance)
        with psycopg.connect(target, autocommit=True) as new:
            for number in range(0, len(COLUMN_TYPES), 3):
                new.execute(f"VACUUM FULL corpus.t{number}".encode())
        assert [] == [table for table, (ours, theirs) in opinions(source, target).items() if ours != theirs]
        assert len(COLUMN_TYPES) * RESPELLED >= 1000
        found = compare(source, target)
        assert {"database"} == {each.kind for each in found.differences}, found.differences
        assert {Answer.EQUAL} == {table.answer for table in found.tables}
        assert len(COLUMN_TYPES) == len(found.tables)


def test_the_encoding_of_a_database_is_not_its_content(source_cluster: Cluster, target_cluster: Cluster) -> None:
    """The same texts, keys and labels in Latin-1 and in UTF-8: only the encoding itself differs."""
    script = """
    CREATE SCHEMA corpus; CREATE TYPE corpus.taste AS ENUM ('süß', 'bitter');
    CREATE TABLE corpus."Größe" ("schlüssel" text PRIMARY KEY, "wert" jsonb, geschmack corpus.taste, h name);
    INSERT INTO corpus."Größe" SELECT 'é' || n, jsonb_build_object('ä', n), 'süß', 'ñ' FROM generate_series(1, 50) n;
    """
    with (
        database_with(source_cluster, "ENCODING 'LATIN1' LOCALE 'C'") as source,
        database_with(target_cluster) as target,
    ):
        for dsn in (source, target):
            with psycopg.connect(dsn, client_encoding="UTF8") as connection:
                connection.execute(script.encode())
        found = compare(source, target)
        assert {"database"} == {each.kind for each in found.differences}
        assert "encoding" in {each.object for each in found.differences}
        with psycopg.connect(target, client_encoding="UTF8") as connection:
            connection.execute("""UPDATE corpus."Größe" SET h = 'n' WHERE "schlüssel" = 'é7'""")
        for expect_differences in (False, True):
            again = compare(source, target, expect_differences=expect_differences, chunk_bytes=32_768)
            assert {"Größe": {("(é7)", "changed")}} == located(again)


def store_otherwise(
    connection: psycopg.Connection, number: int, rows: Sequence[tuple[int, str | None]], chance: random.Random
) -> None:
    """Shuffled, among rows that are deleted again, some updated, the last column added late."""
    table = sql.Identifier(f"t{number}")
    shuffled = list(rows)
    chance.shuffle(shuffled)
    insert(connection, number, [(key + 50_000, text) for key, text in shuffled])
    insert(connection, number, shuffled)
    connection.execute(sql.SQL("DELETE FROM corpus.{} WHERE id > 50000").format(table))
    connection.execute(sql.SQL("UPDATE corpus.{} SET id = id WHERE id % 3 = 0").format(table))
    connection.execute(sql.SQL("ALTER TABLE corpus.{} ADD late text DEFAULT 'as it was'").format(table))


def test_collisions_of_the_servers_row_hash_are_told_apart(source_db: str, target_db: str) -> None:
    """Rows whose text has the same 32-bit hash, found by search, as `sum(hashtext(t::text))` would take for equal."""
    make = "CREATE SCHEMA corpus; CREATE TABLE corpus.t (id integer PRIMARY KEY, v text); "
    with psycopg.connect(source_db) as old, psycopg.connect(target_db) as new:
        old.execute(make.encode())
        new.execute(make.encode())
        pairs = old.execute(
            "SELECT min(v), max(v) FROM (SELECT md5(n::text) AS v FROM generate_series(1, 300000) n) x "
            "GROUP BY hashtext(format('(1,%s)', v)) HAVING count(*) > 1 LIMIT 3"
        ).fetchall()
        assert len(pairs) == 3
        old.execute("INSERT INTO corpus.t VALUES (1, %s)", [pairs[0][0]])
        new.execute("INSERT INTO corpus.t VALUES (1, %s)", [pairs[0][1]])
    hashes = []
    for dsn in (source_db, target_db):
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT sum(hashtext(t::text)) FROM corpus.t t").fetchone()
            hashes.append(row)
    assert hashes[0] == hashes[1]
    found = compare(source_db, target_db)
    assert Answer.DIFFERENT is found.answer
    assert {"t": {("(1)", "changed")}} == located(found)


def test_xml_is_compared_by_its_text(source_cluster: Cluster) -> None:
    """Between two servers that know xml, which not every build does."""
    script = "CREATE SCHEMA corpus; CREATE TABLE corpus.t (id integer PRIMARY KEY, v xml); "
    with database_with(source_cluster) as one, database_with(source_cluster) as other_one:
        try:
            for dsn, text in ((one, "<a b='1'/>"), (other_one, '<a b="1"/>')):
                with psycopg.connect(dsn) as connection:
                    connection.execute(script.encode())
                    connection.execute("INSERT INTO corpus.t VALUES (1, %s), (2, '<same/>')", [text])
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this PostgreSQL was built without libxml")
        assert {"t": {("(1)", "changed")}} == located(compare(one, other_one))
