"""What is redefined while a comparison reads: rows that were spelled or named as they are not are no proof."""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest

from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.content import count_rows
from statehub_plan.postgres.relations import read_relations
from statehub_plan.postgres.sides import attempt
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import Progress
from tests.integration.moving import run_script

SCHEMA = """
CREATE TYPE public.e AS ENUM ('a', 'b');
CREATE DOMAIN public.d AS public.e[];
CREATE TYPE public.c AS (a integer, b integer);
CREATE TABLE public.label (id integer PRIMARY KEY, x public.e);
CREATE TABLE public.labels (id integer PRIMARY KEY, x public.d);
CREATE TABLE public.pair (id integer PRIMARY KEY, x public.c);
CREATE TABLE public.t1 (id integer PRIMARY KEY, v integer, w integer);
CREATE TABLE public.t2 (id integer PRIMARY KEY, v integer, w integer);
CREATE TABLE public.named (id integer PRIMARY KEY, x regclass);
CREATE SCHEMA s1;
CREATE TABLE s1.t (id integer);
CREATE SCHEMA s2;
CREATE TABLE s2.t (id integer);
"""

SWAPPED_LABELS = "; ".join(
    f"ALTER TYPE public.e RENAME VALUE '{old}' TO '{new}'" for old, new in (("a", "z"), ("b", "a"), ("z", "b"))
)
ATTRIBUTE_MADE_ANEW = "ALTER TYPE public.c DROP ATTRIBUTE b; ALTER TYPE public.c ADD ATTRIBUTE b integer"
SWAPPED_TABLES = "; ".join(
    f"ALTER TABLE public.{old} RENAME TO {new}" for old, new in (("t1", "t0"), ("t2", "t1"), ("t0", "t2"))
)
SWAPPED_COLUMNS = "; ".join(
    f"ALTER TABLE public.t1 RENAME {old} TO {new}" for old, new in (("v", "z"), ("w", "v"), ("z", "w"))
)
SWAPPED_SCHEMAS = "; ".join(
    f"ALTER SCHEMA {old} RENAME TO {new}" for old, new in (("s1", "s0"), ("s2", "s1"), ("s0", "s2"))
)


@pytest.fixture
def two(source_db: str, target_db: str) -> tuple[str, str]:
    """The same empty tables twice."""
    run_script(source_db, SCHEMA)
    run_script(target_db, SCHEMA)
    return source_db, target_db


def _compared_while(two: tuple[str, str], script: str, undone: str = "SELECT") -> Comparison:
    """What both looked like before `script` was run on the source, read after it; `undone` as soon as rows are read."""
    with ExitStack() as stack:
        snapshots = [stack.enter_context(Snapshot(dsn, purpose="test")) for dsn in two]
        run_script(two[0], script)
        left = [undone]

        def look(_: Progress) -> None:
            if left:
                run_script(two[0], left.pop())

        return compare(*two, snapshots=(snapshots[0], snapshots[1]), jobs=1, on_progress=look)


def _tables(found: Comparison, answer: Answer) -> set[str]:
    return {table.table for table in found.tables if table.answer is answer}


@pytest.mark.parametrize(
    ("table", "ours", "theirs", "script"),
    [
        ("label", "'a'", "'b'", SWAPPED_LABELS),
        ("labels", "'{a,NULL}'", "'{b,NULL}'", SWAPPED_LABELS),
        ("pair", "'(1,7)'", "'(1,)'", ATTRIBUTE_MADE_ANEW),
        ("named", "'public.t1'", "'public.t2'", SWAPPED_TABLES),
    ],
)
def test_values_that_are_spelled_otherwise_now_prove_nothing(
    two: tuple[str, str], table: str, ours: str, theirs: str, script: str
) -> None:
    """Labels and attributes are looked up as they are now, whatever the snapshot: rows that differ look the same."""
    run_script(two[0], f"INSERT INTO public.{table} VALUES (1, {ours})")
    run_script(two[1], f"INSERT INTO public.{table} VALUES (1, {theirs})")
    assert {f"public.{table}"} == _tables(compare(*two), Answer.DIFFERENT)
    found = _compared_while(two, script)
    assert Answer.EQUAL is not found.answer
    assert f"public.{table}" in _tables(found, Answer.UNKNOWN)


@pytest.mark.parametrize(
    ("tables", "swapped"),
    [
        ({"public.t1", "public.t2"}, SWAPPED_TABLES),
        ({"public.t1"}, SWAPPED_COLUMNS),
        ({"s1.t", "s2.t"}, SWAPPED_SCHEMAS),
    ],
)
def test_names_that_were_swapped_and_swapped_back_prove_nothing(
    two: tuple[str, str], tables: set[str], swapped: str
) -> None:
    """They are called now what they were called before, and were called otherwise while they were read."""
    for dsn, one, other in ((two[0], 1, 2), (two[1], 2, 1)):
        run_script(dsn, f"INSERT INTO public.t1 VALUES (1, {one}, {other})")
        run_script(dsn, f"INSERT INTO public.t2 VALUES (1, {other}, {one})")
        run_script(dsn, f"INSERT INTO s1.t VALUES ({one}); INSERT INTO s2.t VALUES ({other})")
    found = _compared_while(two, swapped, swapped)
    assert tables <= _tables(found, Answer.UNKNOWN)
    assert "source: it was truncated, rewritten or redefined" in found.unknown[0]


def test_what_says_nothing_of_rows_hinders_no_proof(two: tuple[str, str]) -> None:
    """Privileges, indexes, settings, statistics, what is new: whoever compares for hours has some of these."""
    for dsn in two:
        run_script(dsn, "INSERT INTO public.t1 VALUES (1, 2, 3)")
    with psycopg.connect(two[0], autocommit=True) as connection, ExitStack() as stack:
        snapshots = [stack.enter_context(Snapshot(dsn, purpose="test")) for dsn in two]
        for script in (
            "GRANT SELECT ON public.t1 TO PUBLIC",
            "CREATE INDEX ON public.t1 (v)",
            "ALTER TABLE public.t1 SET (fillfactor = 90)",
            "ALTER TABLE public.t1 ENABLE ROW LEVEL SECURITY",
            "CREATE TABLE public.more (x public.e)",
            "CREATE TEMPORARY TABLE t1 (x public.e)",
            "ALTER TYPE public.e ADD VALUE 'c'",
            "ALTER TABLE public.t1 ADD COLUMN more integer DEFAULT 5",
            "VACUUM (ANALYZE) public.t1",
        ):
            connection.execute(script.encode())
        found = compare(*two, snapshots=(snapshots[0], snapshots[1]))
    assert {table.table for table in found.tables} == _tables(found, Answer.EQUAL)


def test_a_table_that_was_read_is_not_locked_any_more(two: tuple[str, str]) -> None:
    """Whoever alters it would wait for all the others to be read, and everybody who uses it would wait behind him."""
    with Snapshot(two[0], purpose="test") as snapshot, snapshot.join() as session:
        (relation,) = (each for each in read_relations(session) if each.qualified == "public.t1")
        assert 0 == attempt(session, lambda: count_rows(session, relation, next(relation.ranges(1))))
        run_script(two[0], "SET lock_timeout = '10s'; ALTER TABLE public.t1 ADD COLUMN more integer")
