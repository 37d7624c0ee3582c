"""Slots that earlier streams have left on the primary: a timer tells of them, and they go before the disk does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.errors import Exit
from statehub_plan.model.stream import StreamState
from statehub_plan.postgres.guard import guard_slot
from statehub_plan.schemas import problems
from tests.integration.applying import ran
from tests.integration.streaming import Ends, ends
from tests.integration.test_guard import TIGHT, guarded_document, slots_of
from tests.unit.facts import DOCUMENT

LEFT = "statehub_plan_1_1"
"""As of a fallback that was replaced by another database."""


def _left(there: Ends) -> None:
    with there.sending() as session:
        session.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [LEFT])


@pytest.fixture
def roomy(tmp_path: Path, source_db: str, target_db: str) -> Iterator[Ends]:
    """A stream into the fallback, and a slot that another one has left; no limit is near."""
    there = ends(tmp_path, source_db, target_db, gates=DOCUMENT["spec"]["gates"])
    there.make_slot()
    there.subscribe(enabled=True)
    there.becomes(StreamState.STREAMING)
    _left(there)
    yield there
    there.unsubscribe()
    with there.sending() as session:
        session.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [LEFT]
        )


def test_a_timer_tells_of_a_slot_that_nobody_is_going_to_read(roomy: Ends) -> None:
    """With what it costs, and what to do; it is not at its limit yet, so it stays."""
    document = guarded_document(roomy)
    roomy.write(rows=100)
    for options in ((), ("--json",)):
        done = ran("guard", document, *options)
        assert Exit.DONE == done.status, done.told
        assert f"WAL for slot {LEFT}, which nobody reads, and no run is going to: drop it with" in done.err
    assert () == problems("output-guard", done.json)
    assert [("new", LEFT)] == [(one["endpoint"], one["name"]) for one in done.json["orphans"]]
    assert (None, []) == (done.json["dropped"], done.json["orphans_dropped"])
    assert LEFT in slots_of(roomy)


@pytest.fixture(params=["following", "frozen"])
def tight(request: pytest.FixtureRequest, tmp_path: Path, source_db: str, target_db: str) -> Ends:
    """Only the slot that was left; its limit is 1 kB, whatever the fallback is wished to be."""
    spec: dict[str, Any] = TIGHT
    wished = spec["desired"]["fallback"] | {"mode": request.param}
    there = ends(tmp_path, source_db, target_db, **spec | {"desired": spec["desired"] | {"fallback": wished}})
    there.publish()
    _left(there)
    return there


def test_a_slot_for_nobody_goes_at_its_limit(tight: Ends) -> None:
    """On record, and told; the next look finds nothing."""
    document = guarded_document(tight)
    tight.write(rows=100)
    done = ran("guard", document, "--json")
    assert Exit.DONE == done.status, done.told
    assert () == problems("output-guard", done.json)
    assert ([], [LEFT]) == (done.json["orphans"], [one["slot"] for one in done.json["orphans_dropped"]])
    assert LEFT not in slots_of(tight)
    kept = [one["payload"] for one in ran("history", document, "--json").json["records"] if one["kind"] == "fact"]
    assert [("orphan-slot-dropped", state) for state in ("begun", "passed")] == [
        (one["kind"], one["state"]) for one in kept
    ]
    assert [] == ran("guard", document, "--json").json["orphans_dropped"]


def test_a_slot_for_nobody_that_goes_is_told(tight: Ends) -> None:
    """To whoever reads what a timer prints."""
    document = guarded_document(tight)
    tight.write(rows=100)
    told = ran("guard", document)
    assert Exit.DONE == told.status
    assert f"the slot {LEFT} on new, which nobody reads, was dropped, because it kept" in told.err


def test_before_a_decision_no_slot_goes(tight: Ends) -> None:
    """What looks left may be of a move that is being set up."""
    document = guarded_document(tight)
    with tight.sending() as session:
        session.execute("DELETE FROM statehub_plan.decision")
    tight.write(rows=100)
    ran("guard", document)
    assert LEFT in slots_of(tight)


def test_a_slot_that_somebody_has_come_back_to_stays(roomy: Ends) -> None:
    """By the very session that would drop it; what was observed before is no reason."""
    limits: dict[str, Any] = {"retained_limit_bytes": 0, "disk_free_bytes": None, "disk_limit_bytes": 0}
    with roomy.sending() as session:
        assert guard_slot(session, name=roomy.name(), idle_only=True, **limits) is None
        assert guard_slot(session, name=LEFT, idle_only=True, **limits) is not None
    assert {roomy.name()} == slots_of(roomy) & {roomy.name(), LEFT}
