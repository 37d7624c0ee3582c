"""The filling process dies anywhere, and whoever comes next carries on: nothing lost, nothing copied twice."""

from __future__ import annotations

from pathlib import Path

from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.filling import FillStage, filled_tables, read_fill
from tests.integration.filled import Writer, assert_same, files_of, fill, killed, source_and_target

Place = tuple[str, str, int]

WHOLE: tuple[Place, ...] = (
    ("publish", "return", 1),
    ("_watch", "return", 1),  # the slot exists, its point is not recorded
    ("begin_fill", "return", 1),
    ("empty_tables", "return", 2),
)
FINISHING: tuple[Place, ...] = (
    ("record_built", "call", 3),
    ("record_built", "return", 7),
    ("create_subscription", "call", 1),
    ("create_subscription", "return", 1),
    ("await_barrier", "call", 1),
    ("gather_statistics", "call", 1),
    ("gather_statistics", "return", 1),
    ("mark_following", "return", 1),
)
PARTLY: tuple[Place, ...] = (
    ("empty_tables", "return", 1),
    ("record_built", "return", 2),
    ("create_subscription", "call", 1),
    ("create_subscription", "return", 1),
    ("drop_publication", "return", 1),
    ("refresh_subscription", "call", 1),
    ("refresh_subscription", "return", 1),
    ("await_stopped", "return", 1),
    ("record_built", "return", 1),
    ("await_barrier", "call", 1),
    ("mark_following", "return", 1),
)


def test_killed_before_a_table_is_finished_and_after_all_are(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Before the first table is finished everything begins anew; after the last one no row is copied again."""
    source_and_target(source_db, target_db, tmp_path)
    with Writer(source_db):
        for place in WHOLE:
            killed(source_db, target_db, *place)
        killed(source_db, target_db, "finish_schema", "call", 1)
        with connect(target_db, purpose="test") as target:
            done = filled_tables(target)
        files = files_of(target_db, done)
        for place in FINISHING:
            killed(source_db, target_db, *place)
        followed = fill(source_db, target_db)
    assert (8, 0, ()) == (len(done), followed.rows, followed.synchronized)
    with connect(target_db, purpose="test") as target:
        known = {(each[0], each[1]) for each in target.execute("SELECT schemaname, tablename FROM pg_stats")}
    assert done - {("public", "swept")} <= known, "statistics were left out"  # that one is empty
    assert files == files_of(target_db, done)
    assert_same(source_db, target_db)


def test_killed_while_tables_are_copied(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Finished tables stay as they are; the others are synchronized by the server, each from a position of its own."""
    source_and_target(source_db, target_db, tmp_path)
    with Writer(source_db):
        killed(source_db, target_db, "record_filled", "call", 4)
        with connect(target_db, purpose="test") as target:
            done = filled_tables(target)
        files = files_of(target_db, done)
        for place in PARTLY:
            killed(source_db, target_db, *place)
        fill(source_db, target_db)
        with connect(target_db, purpose="test") as target:
            mark = read_fill(target)
    assert mark is not None
    assert (FillStage.FOLLOWING, True) == (
        mark.stage,
        2 <= len(done) < 8,
    )  # the other worker may not have committed its third
    assert files == files_of(target_db, done)
    assert_same(source_db, target_db)
