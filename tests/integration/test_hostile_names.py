"""Whatever things are called: nothing is lost on the way, and a row that differs is found in each table."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.by_keys import Changes
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.comparison import Comparison
from statehub_plan.postgres.drill import restore_drill
from statehub_plan.postgres.hold import Hold, HoldLimits
from statehub_plan.postgres.names import qualified
from tests.integration import filled, hostile
from tests.integration.moving import fill, prepare
from tests.integration.test_cli_look import run

ALL = {qualified(*each) for each in hostile.tables()}

ROWS = {table: [("(2)", "changed")] for table in ALL}


@contextmanager
def called_badly(cluster: Cluster) -> Iterator[str]:
    """A database with such a name too."""
    name = f"d\"b.%s 'x' {{}}\\ é {secrets.token_hex(4)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield make_conninfo(cluster.dsn(), dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def badly(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two databases with the same in them."""
    with called_badly(source_cluster) as source, called_badly(target_cluster) as target:
        hostile.make(source)
        hostile.make(target)
        yield source, target


def differing(found: Comparison) -> dict[str, list[tuple[str | None, str]]]:
    """The rows that differ, by table."""
    return {one.object: [(row.key, row.what) for row in one.rows] for one in found.differences}


def test_compare_finds_the_row_of_each_table(badly: tuple[str, str], tmp_path: Path) -> None:
    """With its key and its values; as a document and as text as well."""
    assert (Answer.EQUAL, ()) == ((same := compare(*badly)).answer, same.unknown)
    assert ALL == {table.table for table in same.tables}
    hostile.change(badly[1])
    for expect_differences in (False, True):
        found = compare(*badly, values=True, expect_differences=expect_differences, chunk_bytes=32_768)
        assert ROWS == differing(found)
        for place, each in enumerate(hostile.tables()):
            (row,) = next(one.rows for one in found.differences if one.object == qualified(*each))
            ((column, source, target),) = ((one.column, one.source, one.target) for one in row.values)
            assert (hostile.columns(place)[1], each[1], each[1] + "!") == (column, source, target)
    both = ("compare", "--source", "env:A", "--target", "env:B", "--values")
    told = json.loads(run(*both, "--json", cwd=tmp_path, A=badly[0], B=badly[1]).stdout)
    assert ALL == {one["object"] for one in told["differences"]}
    words = run(*both, cwd=tmp_path, A=badly[0], B=badly[1]).stdout
    assert f"{len(ALL)} differences" in words


def test_changed_keys_find_the_row_of_each_table(badly: tuple[str, str]) -> None:
    """Publications may be called as badly."""
    for dsn in badly:
        with psycopg.connect(dsn) as connection:
            create = sql.SQL("CREATE PUBLICATION {} FOR ALL TABLES")
            connection.execute(create.format(sql.Identifier(hostile.PUBLICATION)))
    with ExitStack() as stack:
        logs = [
            stack.enter_context(ChangeLog(dsn, slot=slot, publications=[hostile.PUBLICATION], temporary=True))
            for dsn, slot in zip(badly, ("hostile_one", "hostile_other"), strict=True)
        ]
        changes = Changes(logs[0], logs[1], compare(*badly))
        hostile.change(badly[0], key=1)
        hostile.change(badly[1], key=1)
        found = compare(*badly, changes=changes)
        assert (Answer.EQUAL, {}) == (found.answer, changes.source.doubts)
        assert all("1 changed keys were compared" in str(table.reason) for table in found.tables)
        hostile.change(badly[1])
        assert ROWS == differing(compare(*badly, changes=changes))


def test_a_backup_holds_all_of_it(badly: tuple[str, str], tmp_path: Path) -> None:
    """It restores, and another one tells that every table has changed."""
    taken = take_backup(badly[0], tmp_path / "one", endpoint="old")
    report = restore_drill(taken, badly[1])
    assert (True, ()) == (report.passed, report.problems)
    before = {one.table: one.digest for one in taken.manifest.tables}
    hostile.change(badly[0])
    after = {one.table: one.digest for one in take_backup(badly[0], tmp_path / "two", endpoint="old").manifest.tables}
    assert ALL == before.keys() == after.keys()
    assert set() == set(before.items()) & set(after.items())


def test_a_copy_is_the_same(badly: tuple[str, str], target_cluster: Cluster, tmp_path: Path) -> None:
    """Schema, rows, indexes, triggers, sequences, grants, comments."""
    with called_badly(target_cluster) as target:
        prepare(badly[0], target, tmp_path)
        fill(badly[0], target)
        found = compare(badly[0], target)
        assert (Answer.EQUAL, (), ALL) == (found.answer, found.differences, {one.table for one in found.tables})


def test_a_stream_carries_the_row_of_each_table(
    source_cluster: Cluster, source_db: str, target_db: str, tmp_path: Path
) -> None:
    """Filled online, and what is written afterwards follows."""
    hostile.make(source_db)
    prepare(source_db, target_db, tmp_path)
    followed = filled.fill(source_db, target_db)
    assert (len(ALL), ()) == (followed.tables, followed.not_followed)
    hostile.change(source_db)
    filled.assert_same(source_db, target_db)


def test_a_hold_locks_each_table(badly: tuple[str, str]) -> None:
    """And waits for no name."""
    limits = HoldLimits(lock_timeout_s=10, session_grace_s=0.1, writer_wait_s=30, max_duration_s=60)
    with Hold.take(badly[0], hold_id="hostile", run="r", epoch=1, limits=limits) as hold:
        assert ALL == {table.qualified for table in hold.tables}
        with psycopg.connect(badly[0], autocommit=True) as other:
            other.execute("SET lock_timeout = 20")
            for each in hostile.tables():
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*each)))
        hold.release()
