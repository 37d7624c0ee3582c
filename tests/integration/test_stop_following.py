"""A stream is taken down at every stage, with or without its sender: nothing is left that would fill a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.filling import filled_tables, read_fill
from statehub_plan.postgres.stopping import Stopped, stop_following
from tests.integration.filled import Writer, assert_same, fill, killed, killed_stopping, source_and_target
from tests.integration.moving import EPOCH, prepare, value
from tests.integration.served_database import proxied

SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
SUBSCRIPTIONS = (
    "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname = current_database()"
)
PUBLICATIONS = "SELECT count(*) FROM pg_publication"


def stop(source: str, target: str, *, keep_publication: bool = True) -> Stopped:
    """Taken down in this process."""
    return stop_following(target, source, epoch=EPOCH, keep_publication=keep_publication)


def assert_nothing_left(source: str, target: str) -> None:
    """No slot, no subscription, no record."""
    assert (0, 0) == (value(source, SLOTS), value(target, SUBSCRIPTIONS))
    with connect(target, purpose="test") as connection:
        assert (None, frozenset()) == (read_fill(connection), filled_tables(connection))


@pytest.mark.parametrize(
    "place",
    [
        ("_watch", "return"),  # the slot's creation
        ("record_filled", "call"),
        ("refresh_subscription", "return"),
    ],
)
def test_at_every_stage(source_db: str, target_db: str, tmp_path: Path, place: tuple[str, str]) -> None:
    """Whatever a killed fill has left goes, twice in a row; then the target can be prepared and filled again."""
    source_and_target(source_db, target_db, tmp_path)
    with Writer(source_db):
        if place[0] == "refresh_subscription":
            killed(source_db, target_db, "record_filled", "call", 3)
        killed(source_db, target_db, *place)
        stopped = stop(source_db, target_db)
        assert_nothing_left(source_db, target_db)
        assert ("dropped", place[0] == "refresh_subscription") == (stopped.slot, stopped.subscription_dropped)
        assert ("absent", False) == (stop(source_db, target_db).slot, stop(source_db, target_db).subscription_dropped)
        prepare(source_db, target_db, tmp_path)
        fill(source_db, target_db)
    assert_same(source_db, target_db)


def test_somebody_who_stops_it_dies(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Between subscription, slot and record, the next one finishes what is left; the publication goes when asked."""
    source_and_target(source_db, target_db, tmp_path)
    fill(source_db, target_db)
    for function, event in (("drop_subscription", "return"), ("drop_slot", "return")):
        killed_stopping(source_db, target_db, function, event)
    stopped = stop(source_db, target_db, keep_publication=False)
    assert ("absent", False, True) == (stopped.slot, stopped.subscription_dropped, stopped.publication_dropped)
    assert_nothing_left(source_db, target_db)
    assert 0 == value(source_db, PUBLICATIONS)


def test_a_sender_that_is_out_of_reach_keeps_its_slot_and_that_is_said(
    source_db: str, target_db: str, tmp_path: Path
) -> None:
    """The receiver is free at once; calling again when the sender is back drops what was left there."""
    source_and_target(source_db, target_db, tmp_path)
    with proxied(source_db) as (proxy, through):
        killed(source_db, target_db, "record_filled", "call", 3, publisher=through)
        killed(source_db, target_db, "refresh_subscription", "return", publisher=through)
        proxy.refuse_new = True
        proxy.hang_up()
        stopped = stop(through, target_db)
        assert ("left", True) == (stopped.slot, stopped.subscription_dropped)
        assert stopped.out_of_reach
        assert (1, 0) == (
            value(source_db, SLOTS + " AND slot_name LIKE 'statehub_plan_%'"),
            value(target_db, SUBSCRIPTIONS),
        )
        proxy.refuse_new = False
        assert "dropped" == stop(through, target_db).slot
    assert_nothing_left(source_db, target_db)
