"""Differing rows by name: few or many, with keys of any kind or none, with their values where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.comparison import Difference, RowDifference
from tests.integration.moving import database, run_script

ROWS = 60_000
LARGE = f"""
CREATE TABLE public.large (id bigint PRIMARY KEY, what text, amount numeric);
INSERT INTO public.large SELECT n, 'row ' || n, n / 8.0 FROM generate_series(1, {ROWS}) n;
CREATE TABLE public.no_key (a integer, b text);
INSERT INTO public.no_key SELECT n % 20000, 'x' FROM generate_series(1, {ROWS}) n;
INSERT INTO public.no_key SELECT 7, 'the same' FROM generate_series(1, 30000) n;
"""
KEYS = """
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN public.code AS text;
CREATE TABLE public."100%s" ("%(b)s" integer, "a%" public.mood, c public.code, v text, PRIMARY KEY ("%(b)s", "a%", c));
INSERT INTO public."100%s" SELECT n, 'ok', 'c%s' || n, 'v' FROM generate_series(1, 200) n;
CREATE TABLE public.account (name varchar(20) PRIMARY KEY, api_key text, note text, nothing text);
INSERT INTO public.account SELECT 'user ' || n, 'key-' || n, repeat('long ', 200), NULL FROM generate_series(1, 50) n;
CREATE TABLE public.by_bits (b bit(4) PRIMARY KEY, v text);
INSERT INTO public.by_bits VALUES (B'0000', 'a'), (B'1111', 'b');
CREATE TABLE public.by_price (price numeric PRIMARY KEY, v text);
INSERT INTO public.by_price VALUES (1.0, 'a'), (2, 'b');
CREATE TABLE public.other_keys (a integer NOT NULL, b integer NOT NULL, v text, PRIMARY KEY (a, b));
INSERT INTO public.other_keys SELECT n, 10 - n, 'v' FROM generate_series(1, 9) n;
"""
OTHER_KEYS = "ALTER TABLE public.other_keys DROP CONSTRAINT other_keys_pkey, ADD PRIMARY KEY (b, a);"


@pytest.fixture(scope="module")
def pair(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two databases with the same large tables."""
    with database(source_cluster) as source, database(target_cluster) as target:
        run_script(source, LARGE)
        run_script(target, LARGE)
        yield source, target


def table(found: Comparison, name: str) -> Difference:
    """The difference of one table."""
    (difference,) = (each for each in found.differences if each.kind == "table" and each.object == name)
    return difference


def keys(difference: Difference) -> set[tuple[str | None, str]]:
    """Which rows, and what is wrong with them."""
    return {(row.key, row.what) for row in difference.rows}


@pytest.mark.parametrize("expect_differences", [False, True])
def test_exactly_the_differing_rows_are_named(pair: tuple[str, str], expect_differences: bool) -> None:
    """One, then three hundred among sixty thousand: changed, missing and extra ones, each with both digests, whichever
    way the tables were read."""
    source, target = pair
    options: dict[str, Any] = {"expect_differences": expect_differences, "chunk_bytes": 400_000}
    assert compare(source, target, **options).answer is Answer.EQUAL
    run_script(target, "UPDATE public.large SET amount = 0.1250 WHERE id = 1")
    try:
        (row,) = table(compare(source, target, **options), "public.large").rows
        assert ("(1)", "changed") == (row.key, row.what)
        assert row.digest_source != row.digest_target
        assert (32, 32) == (len(row.digest_source or ""), len(row.digest_target or ""))
        run_script(
            target,
            "UPDATE public.large SET what = 'other' WHERE id % 600 = 2; DELETE FROM public.large WHERE id % 600 = 3; "
            "INSERT INTO public.large SELECT n, '' FROM generate_series(70001, 70100) n",
        )
        difference = table(compare(source, target, **options), "public.large")
        assert {
            ("(1)", "changed"),
            *((f"({n})", "changed") for n in range(2, ROWS, 600)),
            *((f"({n})", "missing") for n in range(3, ROWS, 600)),
            *((f"({n})", "extra") for n in range(70001, 70101)),
        } == keys(difference)
        assert difference.rows_complete
        assert ("291 more",) == difference.keys[10:]
    finally:
        run_script(
            target, f"TRUNCATE public.large, public.no_key; {LARGE.split(';')[1]}; {';'.join(LARGE.split(';')[3:])}"
        )


@pytest.mark.parametrize("expect_differences", [False, True])
def test_rows_without_a_key_are_a_multiset(pair: tuple[str, str], expect_differences: bool) -> None:
    """Equal rows count: one less of thirty thousand and one more of three are both found, with how many."""
    source, target = pair
    run_script(
        target,
        "DELETE FROM public.no_key WHERE ctid IN (SELECT ctid FROM public.no_key WHERE b = 'the same' LIMIT 2); "
        "INSERT INTO public.no_key VALUES (11, 'x')",
    )
    try:
        options: dict[str, Any] = {"expect_differences": expect_differences, "chunk_bytes": 400_000}
        found = compare(source, target, values=True, **options)
        rows = table(found, "public.no_key").rows
        assert {("missing", 2, None, "7"), ("extra", 1, None, "11")} == {
            (row.what, row.rows, row.key, next(v.source or v.target for v in row.values if v.column == "a"))
            for row in rows
        }
        assert (
            "2 rows only on the source (no key to name them by)",
            "1 rows only on the target (no key to name them by)",
        ) == table(found, "public.no_key").keys
    finally:
        run_script(
            target,
            "INSERT INTO public.no_key VALUES (7, 'the same'), (7, 'the same'); DELETE FROM public.no_key WHERE ctid = "
            "(SELECT max(ctid) FROM public.no_key WHERE a = 11 AND b = 'x')",
        )


def test_no_more_rows_are_listed_than_asked_for(pair: tuple[str, str]) -> None:
    """When everything differs, some rows are named, truthfully not all, and neither memory nor output grows."""
    source, target = pair
    run_script(target, "UPDATE public.large SET what = NULL")
    try:
        difference = table(compare(source, target, rows_listed=25), "public.large")
        assert (25, False) == (len(difference.rows), difference.rows_complete)
        assert ("at least 15 more",) == difference.keys[10:]
    finally:
        run_script(target, "UPDATE public.large SET what = 'row ' || id")


def test_keys_of_every_kind_and_hostile_names(source_db: str, target_db: str) -> None:
    """Enums, domains, bit strings, numbers that are equal but not the same, keys in another order, percent signs."""
    run_script(source_db, KEYS)
    run_script(target_db, KEYS + OTHER_KEYS)
    changes = """
    UPDATE public."100%s" SET v = NULL WHERE "%(b)s" = 17;
    UPDATE public.by_bits SET v = 'c' WHERE b = B'1111';
    UPDATE public.by_price SET price = 1.00 WHERE price = 1;
    UPDATE public.other_keys SET v = 'w' WHERE a = 3;
    """
    run_script(target_db, changes)
    for expect_differences in (False, True):
        options: dict[str, Any] = {"expect_differences": expect_differences, "chunk_bytes": 32_768}
        found = compare(source_db, target_db, values=True, **options)
        assert {("(17,ok,c%s17)", "changed")} == keys(table(found, "public.100%s"))
        assert {("(1111)", "changed")} == keys(table(found, "public.by_bits"))
        assert {("(1.0)", "missing"), ("(1.00)", "extra")} == keys(table(found, "public.by_price"))
        assert {("(3,7)", "changed")} == keys(table(found, "public.other_keys"))
    assert {"constraint", "index", "table"} == {each.kind for each in found.differences}


def test_a_key_that_is_called_like_a_secret_is_not_told(source_db: str, target_db: str) -> None:
    """Its SHA-256 stands for it, by which SQL finds the row; keys of other tables are told as they are."""
    for dsn, left in ((source_db, 5), (target_db, 4)):
        run_script(
            dsn,
            "CREATE TABLE public.session (account integer, token text, PRIMARY KEY (account, token));"
            f"INSERT INTO public.session SELECT n, 'canary-' || n FROM generate_series(1, {left}) n",
        )
    found = compare(source_db, target_db, values=True)
    (missing,) = table(found, "public.session").rows
    assert "canary" not in found.model_dump_json()
    assert missing.key is not None
    named = missing.key.removeprefix("(sha256 ").removesuffix(")")
    lookup = (
        "SELECT account FROM public.session WHERE "
        f"encode(sha256(convert_to(ROW(account, token)::text, 'UTF8')), 'hex') = '{named}'"
    )
    with psycopg.connect(source_db) as db:
        assert [(5,)] == db.execute(lookup.encode()).fetchall()


def test_values_are_shown_on_request_and_redacted_by_rule(source_db: str, target_db: str) -> None:
    """Only columns that differ; what is called like a secret or looks like one is hidden; long values are cut."""
    run_script(source_db, KEYS)
    run_script(target_db, KEYS)
    run_script(
        target_db,
        "UPDATE public.account SET api_key = 'hunter2', note = 'password=hunter2', nothing = '' WHERE name = 'user 3'; "
        "DELETE FROM public.account WHERE name = 'user 4'",
    )
    plain = compare(source_db, target_db)
    found = compare(source_db, target_db, values=True)
    assert all(not row.values for each in plain.differences for row in each.rows)
    rows = {row.key: row for row in table(found, "public.account").rows}
    shown = {value.column: (value.source, value.target) for value in rows['("user 3")'].values}
    assert {"api_key", "note", "nothing"} == shown.keys()
    assert ("***", "***") == shown["api_key"]
    assert "password=***" == shown["note"][1]
    assert str(shown["note"][0]).startswith("long long")
    assert "(1000 characters, md5 " in str(shown["note"][0])
    assert (None, "") == shown["nothing"]
    assert {"name", "api_key", "note", "nothing"} == {value.column for value in rows['("user 4")'].values}
    assert "hunter2" not in found.model_dump_json()


def test_large_objects_are_compared_like_rows(source_db: str, target_db: str) -> None:
    """Content, presence, owner and grants of large objects; named by their OID."""
    script = "SELECT lo_from_bytea(n, ('content ' || n)::bytea) FROM generate_series(70001, 70020) n"
    run_script(source_db, script)
    run_script(target_db, script)
    assert compare(source_db, target_db).answer is Answer.EQUAL
    run_script(
        target_db,
        "SELECT lo_put(70003, 2, '\\x00'), lo_unlink(70005); GRANT SELECT ON LARGE OBJECT 70007 TO PUBLIC; "
        "COMMENT ON LARGE OBJECT 70008 IS 'eight'",
    )
    found = compare(source_db, target_db, values=True)
    assert {("(70003)", "changed"), ("(70005)", "missing")} == keys(table(found, "pg_catalog.pg_largeobject"))
    assert {
        "large object 70005: missing",
        "large object 70007: privileges",
        "comment large object 70008: extra",
        "table pg_catalog.pg_largeobject: rows",
    } == {f"{each.kind} {each.object}: {each.aspect}" for each in found.differences}


def test_rows_that_users_added_to_an_extensions_table_are_compared(source_db: str, target_db: str) -> None:
    """They belong to the service, as pg_dump knows; what the extension itself brings along does not."""
    script = """
    CREATE EXTENSION hstore;
    CREATE TABLE public.known_places (id integer, v text);
    ALTER EXTENSION hstore ADD TABLE public.known_places;
    UPDATE pg_extension SET extconfig = ARRAY['public.known_places'::regclass::oid],
        extcondition = ARRAY['WHERE id > 1000'] WHERE extname = 'hstore';
    INSERT INTO public.known_places VALUES (1, 'from the extension'), (2000, 'ours');
    """
    run_script(source_db, script)
    run_script(target_db, script.replace("from the extension", "from a newer extension"))
    assert compare(source_db, target_db).answer is Answer.EQUAL
    run_script(target_db, "UPDATE public.known_places SET v = 'theirs' WHERE id = 2000")
    found = compare(source_db, target_db)
    assert ["missing", "extra"] == sorted((row.what for row in table(found, "public.known_places").rows), reverse=True)


def test_a_row_in_words() -> None:
    """What a person reads of one row."""
    assert "(1) differs" == str(RowDifference(key="(1)", what="changed"))
    assert "a row without a key only on the target" == str(RowDifference(key=None, what="extra"))
