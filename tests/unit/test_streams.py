"""Where a stream stands, from canned facts of both its ends: every row of the table, and what cannot be seen."""

from __future__ import annotations

from typing import Any

import pytest

from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Identity
from statehub_plan.model.stream import Stream, StreamState, stream_name
from statehub_plan.streams import following, orphans, stream_between
from tests.unit.facts import facts, identity, observation

NAME = stream_name(Identity.model_validate(identity("home")))
MB = 1024 * 1024


def slot(**changes: Any) -> dict[str, Any]:
    """The slot of the stream into home, on away's cluster; being read."""
    plain: dict[str, Any] = {
        "name": NAME,
        "type": "logical",
        "database": "hub",
        "active": True,
        "retained_bytes": 12 * MB,
        "lag_bytes": MB,
        "wal_status": "reserved",
        "safe_wal_size": None,
        "conflicting": None,
        "invalidation_reason": None,
        "inactive_since": None,
        "ours": True,
    }
    return plain | changes


def subscription(**changes: Any) -> dict[str, Any]:
    """The subscription of the same stream, in home's database; streaming."""
    plain: dict[str, Any] = {
        "name": NAME,
        "oid": 16500,
        "enabled": True,
        "slot": NAME,
        "running": True,
        "last_received": 1000,
        "errors": 0,
        "tables": 3,
        "tables_ready": 3,
        "ours": True,
    }
    return plain | changes


def seen(
    slots: list[dict[str, Any]],
    subscriptions: list[dict[str, Any]],
    *unknown: str,
    fill: str | None = None,
    **more: Any,
) -> Observation:
    """What both ends say; facts named in `unknown` are not known."""
    transfer = None if fill is None else {"stage": None, "fill_stage": fill, "fill_slot": NAME, "fill_point": None}
    values = facts(
        away__slots=slots, home__slots=[], home__subscriptions=subscriptions, away__subscriptions=[], **more
    ) | {"home.transfer": transfer, "away.disk_free_bytes": 80_000 * MB}
    return observation(values, *unknown)


def stream(*args: Any, **more: Any) -> Stream:
    """The stream from away into home."""
    return stream_between(seen(*args, **more), "home", "away")


DROPPED = {"slot": NAME, "why": "it kept 9.0 GB", "at": 500, "state": "passed"}

ROWS: dict[str, tuple[Stream, StreamState, bool, int | None]] = {
    "nothing": (stream([], []), StreamState.NOBODY, False, None),
    "after all was removed": (stream([], [], fill="following"), StreamState.NOBODY, False, None),
    "filling, its slot is gone": (stream([], [], fill="filling"), StreamState.LOST, False, None),
    "filling": (stream([slot(active=False)], [], fill="filling"), StreamState.COPYING, False, None),
    "building": (stream([slot(active=False)], [], fill="building"), StreamState.COPYING, False, None),
    "filling, slot lost": (
        stream([slot(active=False, wal_status="lost", inactive_since=7)], [], fill="filling"),
        StreamState.LOST,
        False,
        7,
    ),
    "half removed": (stream([slot(active=False, inactive_since=7)], []), StreamState.LOST, False, 7),
    "half removed, filled once": (stream([slot(active=False)], [], fill="following"), StreamState.LOST, False, None),
    "no slot": (stream([], [subscription()]), StreamState.LOST, False, 1000),
    "wal lost": (stream([slot(wal_status="lost")], [subscription()]), StreamState.LOST, False, 1000),
    "invalidated": (
        stream([slot(invalidation_reason="wal_removed", inactive_since=9)], [subscription()]),
        StreamState.LOST,
        False,
        9,
    ),
    "conflicting": (stream([slot(conflicting=True)], [subscription()]), StreamState.LOST, False, 1000),
    "disabled and lost": (stream([], [subscription(enabled=False)]), StreamState.LOST, False, 1000),
    "dropped by the guard": (
        stream([], [subscription()], away__slot_dropped=DROPPED),
        StreamState.LOST,
        False,
        500,
    ),
    "disabled": (
        stream([slot(active=False)], [subscription(enabled=False, running=False)]),
        StreamState.READY,
        True,
        None,
    ),
    "tables not ready": (stream([slot()], [subscription(tables_ready=2)]), StreamState.COPYING, False, None),
    "streaming": (stream([slot()], [subscription()]), StreamState.STREAMING, True, None),
    "unreserved, still there": (
        stream([slot(wal_status="unreserved")], [subscription()]),
        StreamState.STREAMING,
        True,
        None,
    ),
    "worker down": (
        stream([slot(active=False)], [subscription(running=False, errors=4)]),
        StreamState.BROKEN,
        True,
        1000,
    ),
    "worker runs, slot idle": (
        stream([slot(active=False, inactive_since=3)], [subscription()]),
        StreamState.BROKEN,
        True,
        3,
    ),
    "slot let go": (stream([slot(active=False)], [subscription(slot=None)]), StreamState.BROKEN, True, 1000),
}


@pytest.mark.parametrize("row", sorted(ROWS))
def test_state_and_whether_the_way_back_is_lossless(row: str) -> None:
    """One row of the table: what both ends show, and what that makes of the way back."""
    found, state, lossless, since = ROWS[row]
    assert (state, lossless, since, True) == (found.state, found.lossless, found.since, found.observed)


def test_the_figures_are_the_slots_and_the_senders_disk() -> None:
    """The receiver may be far away; what piles up does so on the sender."""
    found = following(seen([slot()], [subscription()]), "home", "away")
    assert {
        "state": "streaming",
        "why": "its worker runs and its slot is read",
        "slot": NAME,
        "lag_bytes": MB,
        "retained_bytes": 12 * MB,
        "disk_free_bytes": 80_000 * MB,
        "lossless": True,
        "observed": True,
        "since": None,
    } == found


def test_a_slot_that_is_a_little_ahead_is_not_behind_by_less_than_nothing() -> None:
    """The slot moves between two functions of one query."""
    assert 0 == stream([slot(lag_bytes=-24)], [subscription()]).lag_bytes


@pytest.mark.parametrize("fact", ["away.slots", "home.subscriptions", "home.identity", "home.transfer"])
def test_what_cannot_be_seen_is_broken_for_that_reason_and_never_lossless(fact: str) -> None:
    """An end that does not answer is told as such, and nothing is concluded from what it said before."""
    found = stream([slot()], [subscription()], fact)
    assert (StreamState.BROKEN, False, False) == (found.state, found.lossless, found.observed)
    assert fact in found.why
    assert "time-out" in found.why


def test_a_fact_that_nobody_looked_at_is_not_seen_either() -> None:
    """A shorter observation passes for nothing."""
    values = {key: value for key, value in facts().items() if not key.endswith(".subscriptions")}
    assert "nobody looked at home.subscriptions" == stream_between(observation(values), "home", "away").why


def test_a_receiver_without_identity_has_no_stream_that_could_be_named() -> None:
    """A stream is named after the database that receives it."""
    found = stream([slot()], [subscription()], home__identity=None)
    assert (StreamState.BROKEN, False) == (found.state, found.observed)


def test_a_slot_of_that_name_in_another_database_is_none_of_this_stream() -> None:
    """A restored cluster may hold one; it knows nothing of this database's changes."""
    assert StreamState.LOST is stream([slot(database="other")], [subscription()]).state


def test_why_it_broke_and_why_it_was_lost_are_told() -> None:
    """Whoever reads the status learns where to look."""
    assert "4 failed applies" in ROWS["worker down"][0].why
    assert "it kept 9.0 GB" in ROWS["dropped by the guard"][0].why
    assert "wal_removed" in ROWS["invalidated"][0].why
    assert "2 of 3 tables" in ROWS["tables not ready"][0].why


def test_the_record_of_a_drop_is_forgotten_once_the_stream_was_made_anew() -> None:
    """Facts win over the journal: there is a slot again."""
    assert StreamState.STREAMING is stream([slot()], [subscription()], away__slot_dropped=DROPPED).state


def test_orphans_are_the_tools_idle_slots_that_belong_to_no_stream() -> None:
    """They keep WAL for nobody until the disk is full."""
    other = slot(name="statehub_plan_1_2", active=False, retained_bytes=None)
    foreign = slot(name="statehub_plan_3_4", active=False, database="elsewhere")
    theirs = slot(name="debezium", active=False, ours=False)
    half = seen([slot(active=False), other, foreign, theirs], [])
    assert [("statehub_plan_1_2", None), (NAME, 12 * MB)] == [
        (one.name, one.retained_bytes) for one in orphans(half, ("home", "away"))
    ]
    used = seen([slot(active=False), other], [subscription(running=False)])
    assert ["statehub_plan_1_2"] == [one.name for one in orphans(used, ("home", "away"))]
    filling = seen([slot(active=False)], [], fill="filling")
    assert () == orphans(filling, ("home", "away"))
    assert () == orphans(seen([slot()], []), ("home", "away"))


def test_what_cannot_be_seen_makes_no_slot_an_orphan() -> None:
    """The receiver may have its subscription while it does not answer."""
    assert () == orphans(seen([slot(active=False)], [], "home.subscriptions"), ("home", "away"))


def test_a_slot_that_was_dropped_is_lost_though_the_receiver_is_away() -> None:
    """The journal knows of the drop, and the sender shows that no other one is there; without either it is in doubt."""
    dropped = {"slot": NAME, "why": "it kept too much", "at": 900, "state": "passed"}
    found = stream_between(seen([], [], "home.identity", away__slot_dropped=dropped), "home", "away")
    assert (StreamState.LOST, True, 900) == (found.state, found.observed, found.since)
    assert found.why.startswith("its slot was dropped: it kept too much; home.identity could not be observed")
    for there in (
        seen([], [], "home.identity"),
        seen([slot()], [], "home.identity", away__slot_dropped=dropped),
        seen([], [], "home.identity", "away.slots", away__slot_dropped=dropped),
    ):
        assert not stream_between(there, "home", "away").observed


def test_a_table_that_is_not_published_makes_the_way_back_not_lossless() -> None:
    """What came after the cutover is in no publication: its rows go nowhere, and nothing fails."""
    found = stream([slot()], [subscription()], away__unpublished=["public.new"])
    assert (StreamState.STREAMING, False) == (found.state, found.lossless)
    assert "public.new" in found.why


def test_a_table_that_is_published_and_not_subscribed_makes_the_way_back_not_lossless() -> None:
    """Somebody added it to the publication, and nobody refreshed the subscription; where one end does not say what it
    lists nothing is claimed."""
    published = ["public.new", "public.t"]
    found = stream([slot()], [subscription(subscribed=["public.t", "public.gone"])], away__published=published)
    assert (StreamState.STREAMING, False) == (found.state, found.lossless)
    assert "1 table that away publishes is not subscribed by home" in found.why
    assert "public.new" in found.why
    assert stream([slot()], [subscription(subscribed=published)], away__published=published).lossless
    assert stream([slot()], [subscription(subscribed=None)], away__published=published).lossless
    assert stream([slot()], [subscription(subscribed=["public.t"])]).lossless


def failed_over(began: int | None, now: int | None, *unknown: str, **changes: Any) -> Stream:
    """The stream into home that was made on timeline `began` of home, which writes `now`."""
    there = seen([slot()], [subscription(**changes)], *unknown, fill="following", home__timeline=now)
    facts = tuple(
        fact.model_copy(update={"value": {"fill_stage": "following", "fill_timeline": began}})
        if fact.id == "home.transfer"
        else fact
        for fact in there.facts
    )
    return stream_between(there.model_copy(update={"facts": facts}), "home", "away")


def test_a_receiver_that_failed_over_makes_the_way_back_not_lossless() -> None:
    """A promoted standby may lack what was confirmed; of a stream that an earlier release made nothing is claimed."""
    assert (True, True, True) == tuple(failed_over(*both).lossless for both in ((2, 2), (None, 2), (None, None)))
    found = failed_over(1, 2)
    assert (StreamState.STREAMING, False, True) == (found.state, found.lossless, found.observed)
    assert found.why.startswith("home has failed over since the stream began (timeline 1, now 2)")


def test_a_timeline_that_is_not_known_is_not_taken_for_the_same() -> None:
    """It could not be looked at, or the receiver is a standby itself."""
    unseen, standby = failed_over(1, 1, "home.timeline"), failed_over(1, None)
    assert (False, False) == (unseen.lossless, standby.lossless)
    assert "home.timeline could not be observed" in unseen.why
    assert "it is a standby now" in standby.why


def test_why_it_broke_stands_beside_what_makes_it_not_lossless() -> None:
    """Two things to mend, and both are told."""
    found = failed_over(1, 2, running=False)
    assert (StreamState.BROKEN, False) == (found.state, found.lossless)
    assert "its worker does not run" in found.why
    assert "home has failed over" in found.why
