"""What a stabilization on record says to which plan, and how a step goes on from it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.abstraction import ground
from statehub_plan.history import journal_facts
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.steps import StepKind
from statehub_plan.status.facts import stabilization_status
from statehub_plan.steps import stabilize
from statehub_plan.steps.stage import Waiting
from statehub_plan.world import Stable
from tests.unit.facts import NOW, document, facts, identity, observation, plan, record, switched
from tests.unit.simulated import staged


def lane(duration: str, max_failures: int = 0) -> CutoverPlan:
    """A lane that wants the new primary watched for so long."""
    return document(stabilization={"duration": duration, "interval": "1s", "maxFailures": max_failures})


SHORT, LONG, LENIENT = lane("10s"), lane("60s"), lane("10s", 5)


def look(
    state: str, observed_s: int, failures: int = 0, term: int = 1, ago_s: int = 3, of: str = "away"
) -> dict[str, Any]:
    """What a look leaves on record, so long ago, of this database."""
    at = int(NOW.timestamp()) - ago_s
    return {
        "kind": "stabilize",
        "state": state,
        "endpoint": "away",
        "identity": identity(of) if of else None,
        "term": term,
        "since": at - observed_s,
        "until": at,
        "last_look": at,
        "observed_s": observed_s,
        "looks": 9,
        "failures": failures,
        "last": "healthy",
    }


class Journal:
    """A moved service with these looks on record, and steps that look at it."""

    def __init__(self, *looks: dict[str, Any]) -> None:
        self.records: list[Record] = []
        self.values = switched(away__writes="open") | {
            "access.mcp": {"endpoint": "away", "answers": True, "detail": ""},
        }
        for one in looks:
            self.add(one)

    def add(self, payload: dict[str, Any]) -> None:
        """One more fact."""
        self.records.append(record(len(self.records) + 1, RecordKind.FACT, payload))

    def seen(self) -> Observation:
        """The world with what the journal knows of it."""
        known = {fact.id: fact.value for fact in journal_facts(tuple(self.records), NOW)}
        return observation(self.values | known)

    def stable(self, wanted: CutoverPlan) -> Stable:
        """How stable the new primary is for this lane."""
        return ground(wanted, self.seen(), (), now=NOW).world.stabilization

    def plan(self, wanted: CutoverPlan) -> Plan:
        """This lane's plan now."""
        return plan({fact.id: fact.value for fact in self.seen()}, wanted)

    def looked(self, wanted: CutoverPlan) -> dict[str, Any]:
        """The record of one look by this lane's step."""
        moved = plan(switched(away__writes="open"), wanted)
        stage = staged(
            moved,
            Path(),
            record_fact=lambda kind, state, payload: self.add({**payload, "kind": kind, "state": state}),
            look=lambda: (self.seen(), ()),
            records=lambda: tuple(self.records),
        )
        step = next(step for step in moved.steps if step.kind is StepKind.STABILIZE)
        with suppress(Waiting):
            stabilize.execute(stage, step)
        return self.records[-1].payload


@pytest.mark.parametrize(
    ("wanted", "looks", "stable"),
    [
        (SHORT, [look("passed", 10)], Stable.PASSED),
        (LONG, [look("passed", 10)], Stable.NONE),
        (LONG, [look("passed", 60)], Stable.PASSED),
        (SHORT, [look("passed", 60, failures=1)], Stable.NONE),
        (LENIENT, [look("passed", 60, failures=1)], Stable.PASSED),
        (SHORT, [look("passed", 10), look("running", 11)], Stable.PASSED),
        (LONG, [look("passed", 10), look("running", 11)], Stable.RUNNING),
        (SHORT, [look("passed", 10), look("failed", 11, failures=1)], Stable.FAILED),
        (SHORT, [look("passed", 10), look("failed", 11, failures=1), look("running", 1)], Stable.RUNNING),
        (SHORT, [look("passed", 10, term=2)], Stable.NONE),
        (SHORT, [look("passed", 10), look("running", 1, term=2)], Stable.NONE),
        (SHORT, [{"kind": "stabilize", "state": "passed", "term": 1}], Stable.NONE),
    ],
)
def test_a_stabilization_passed_for_whoever_wants_no_more(
    wanted: CutoverPlan, looks: list[dict[str, Any]], stable: Stable
) -> None:
    """As long a watch, as few failures as the plan demands; a later failure takes it back, a longer watch does not."""
    assert stable is Journal(*looks).stable(wanted)


def test_the_lane_that_passed_is_told_as_before_while_another_watches_longer() -> None:
    """Each lane's status speaks of what that lane demanded."""
    journal = Journal(look("passed", 10))
    before = stabilization_status(journal.plan(SHORT), 1)
    journal.looked(LONG)
    assert "running" == journal.records[-1].payload["state"]
    assert before == stabilization_status(journal.plan(SHORT), 1)
    states = [stabilization_status(journal.plan(wanted), 1) for wanted in (SHORT, LONG)]
    assert ["passed", "running"] == [one.state for one in states if one is not None]


def test_a_longer_watch_goes_on_from_a_shorter_one() -> None:
    """Time that was observed counts, and between two looks no more than always."""
    assert 13 == Journal(look("passed", 10)).looked(LONG)["observed_s"]
    assert 15 == Journal(look("passed", 10, ago_s=int(timedelta(days=9).total_seconds()))).looked(LONG)["observed_s"]


@pytest.mark.parametrize("other", ["staging", ""])
def test_a_watch_of_another_database_under_the_same_term_counts_for_nothing(other: str) -> None:
    """Practised with on staging, from the same checkout; nor one that an earlier release did not bind to any."""
    practised = Journal(look("passed", 10, of=other))
    assert Stable.NONE is practised.stable(SHORT)
    looked = practised.looked(SHORT)
    assert ("running", 0, 1, identity("away")) == tuple(
        looked[key] for key in ("state", "observed_s", "looks", "identity")
    )
    assert Stable.RUNNING is practised.stable(SHORT)


def test_two_databases_that_are_watched_in_turns_do_not_disturb_each_other() -> None:
    """Neither a failure there nor a look at a later decision there takes anything back here."""
    journal = Journal(look("passed", 10), look("failed", 3, 9, of="staging"), look("running", 1, term=7, of="staging"))
    assert Stable.PASSED is journal.stable(SHORT)
    journal = Journal(look("running", 5), look("passed", 60, of="staging"))
    assert Stable.RUNNING is journal.stable(SHORT)
    assert 8 == journal.looked(SHORT)["observed_s"]


def test_while_the_database_is_not_known_what_the_journal_says_stands() -> None:
    """So that a status tells something while nothing can be reached."""
    journal = Journal(look("passed", 10, of="staging"))
    del journal.values["away.identity"]
    assert Stable.PASSED is journal.stable(SHORT)


def test_a_stricter_watch_begins_anew() -> None:
    """Another lane bore with failures that this one does not: they are not held against it, nor is the time counted."""
    for state in ("passed", "running"):
        looked = Journal(look(state, 60, failures=2)).looked(LONG)
        assert ("running", 0, 0, 1) == tuple(looked[key] for key in ("state", "observed_s", "failures", "looks"))


def test_before_any_decision_there_is_nothing_to_stabilize() -> None:
    """Whatever the journal of an earlier life says."""
    journal = Journal(look("running", 1))
    journal.values = facts()
    assert Stable.PASSED is journal.stable(LONG)
