"""A target is filled while the source is written to, and follows it: nothing missing, nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.postgres.following import Stream, await_barrier
from statehub_plan.postgres.replication import stream_name
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.postgres.state import identity
from tests.integration.moving import EPOCH, EVERYTHING, make_roles, prepare, run_script

IDENTITIES = """
ALTER TABLE hub.parent REPLICA IDENTITY FULL; ALTER TABLE hub.child REPLICA IDENTITY FULL;
ALTER TABLE hub.remark_0 REPLICA IDENTITY FULL; ALTER TABLE hub.remark_1 REPLICA IDENTITY FULL;
ALTER TABLE hub.no_columns REPLICA IDENTITY FULL; ALTER TABLE hub.booking REPLICA IDENTITY FULL;
ALTER TABLE hub.dropped_column REPLICA IDENTITY FULL;
"""


@pytest.fixture(autouse=True)
def _roles(source_cluster: Cluster, target_cluster: Cluster) -> None:
    make_roles(source_cluster)
    make_roles(target_cluster)


def drained(source_dsn: str, target_dsn: str) -> None:
    with connect(source_dsn, purpose="test") as source, connect(target_dsn, purpose="test") as target:
        await_barrier(Stream(stream_name(identity(target)), source, target, 30.0))


def test_everything_arrives_and_follows(source_db: str, target_db: str, tmp_path: Path) -> None:
    """x"""
    run_script(source_db, EVERYTHING + IDENTITIES)
    prepare(source_db, target_db, tmp_path)
    import time

    t = time.time()
    followed = fill_and_follow(source_db, target_db, epoch=EPOCH, publisher=source_db, on_progress=lambda p: print(p))
    print(followed, time.time() - t)
    run_script(
        source_db,
        "INSERT INTO hub.empty_one VALUES (1); UPDATE hub.no_key SET b = 'x'; TRUNCATE hub.remark; DELETE FROM hub.parent",
    )
    drained(source_db, target_db)
    with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
        sync_sequences(old, new, epoch=EPOCH)
    comparison = compare(source_db, target_db)
    assert (Answer.EQUAL, (), ()) == (comparison.answer, comparison.differences, comparison.unknown)
    t = time.time()
    print(fill_and_follow(source_db, target_db, epoch=EPOCH, publisher=source_db), time.time() - t)
