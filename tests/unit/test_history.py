"""What the journal remembers of runs that did not end."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.history import (
    DECIDED,
    history_of,
    journal_facts,
    lane_states,
    redirect_interrupted,
    unfinished_run,
    unknown_steps,
)
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import CriterionStatus, Record, RecordKind
from statehub_plan.registers import Decision, read_register
from statehub_plan.world import Access
from tests.unit.facts import NOW, document, identity, observation, record, switched

STARTED = record(1, RecordKind.RUN_STARTED, {})
INTENT = record(2, RecordKind.STEP_INTENT, {"kind": "copy"}, step="05-copy")


def test_a_step_without_an_outcome_is_unknown_until_any_run_of_the_service_looked() -> None:
    """An `abort` settles what the killed run left; nobody has to give up the journal to go on."""
    assert ("r/05-copy",) == unknown_steps((STARTED, INTENT))
    another = record(3, RecordKind.RUN_STARTED, {}, run="abort")
    assert () == unknown_steps((STARTED, INTENT, another))


def test_a_run_that_was_killed_is_unfinished_and_one_that_ended_or_waits_is_not() -> None:
    """What `status` says first to somebody who comes to a service in trouble."""
    killed = unfinished_run("move", (STARTED, INTENT))
    assert killed is not None
    assert ("r", "05-copy", None) == (killed.run, killed.step, killed.failed)
    assert unfinished_run("another", (STARTED, INTENT)) is None
    for kind in (RecordKind.RUN_FINISHED, RecordKind.RUN_ABORTED, RecordKind.STEP_WAITING):
        assert unfinished_run("move", (STARTED, INTENT, record(3, kind, {}, step="05-copy"))) is None


def test_a_run_that_failed_is_unfinished_and_says_why() -> None:
    """The reason is told again to whoever asks later."""
    failed = record(3, RecordKind.STEP_FAILED, {"what": "disk full"}, step="05-copy")
    told = unfinished_run("move", (STARTED, INTENT, failed))
    assert told is not None
    assert "disk full" == told.failed


def test_a_run_that_policies_vetoed_did_not_end_without_a_word() -> None:
    """It had taken no step that could have failed; what they objected to is on record."""
    verdict = record(2, RecordKind.VERDICT, {"phase": "apply", "allowed": False, "findings": ["one_writable.two"]})
    told = unfinished_run("move", (STARTED, verdict))
    assert told is not None
    assert "policies vetoed it at phase apply: one_writable.two" == told.failed


def test_a_switch_without_an_outcome_is_all_of_its_steps() -> None:
    """It has one intent, and what was done of it the register says; once an outcome is on record, steps speak again."""
    section: list[JsonValue] = ["03-hold", "08-decide", "10-redirect"]
    intent = record(2, RecordKind.STEP_INTENT, {"kind": "hold", "section": section}, step="03-hold")
    redirect = record(3, RecordKind.STEP_INTENT, {"kind": "redirect"}, step="10-redirect")
    held = record(3, RecordKind.STEP_DONE, {"kind": "hold"}, step="03-hold")
    for records, expected in (((intent,), section), ((intent, redirect), section), ((intent, held), [])):
        told = unfinished_run("move", (STARTED, *records))
        assert told is not None
        assert tuple(expected) == told.section


def test_a_redirect_is_interrupted_until_the_newest_one_of_any_run_is_done() -> None:
    """What one run left half done another may have done since, there or back; and the other way round."""

    def redirecting(seq: int, kind: RecordKind, run: str) -> Record:
        return record(seq, kind, {}, run=run, step={"r": "08-redirect", "back": "x03-redirect"}[run])

    begun = redirecting(2, RecordKind.STEP_INTENT, "r")
    assert not redirect_interrupted((STARTED, INTENT))
    for left in (begun, redirecting(3, RecordKind.STEP_FAILED, "r")):
        another = record(4, RecordKind.RUN_STARTED, {}, run="back")
        assert redirect_interrupted((STARTED, begun, left, another, record(5, RecordKind.STEP_DONE, {}, step="09-x")))
        done = redirecting(6, RecordKind.STEP_DONE, "back")
        assert not redirect_interrupted((STARTED, begun, left, another, done))
        assert redirect_interrupted((STARTED, done, another, begun, left))


def test_a_switch_of_which_nothing_more_is_on_record_may_have_come_to_its_redirect() -> None:
    """The journal went away meanwhile. It counts only where the decision that stands is that run's own."""
    begun = record(2, RecordKind.STEP_INTENT, {"section": ["05-hold", "07-decide", "09-redirect"]}, step="05-hold")
    assert redirect_interrupted((STARTED, begun))
    known = {fact.id: fact.value for fact in journal_facts((STARTED, begun), NOW)}
    assert {"interrupted": True, "run": "r", "if_decided": True} == known["redirect"]
    pointed = switched(away__writes="open", access__mcp={"endpoint": "away"}) | known
    for run, expected in (("r", Access.SPLIT), ("another", Access.NEW)):
        values = pointed | {"away.register": [{**pointed["away.register"][0], "run": run}]}
        assert expected is ground(document(), observation(values), (), now=NOW).world.access
    done = record(3, RecordKind.STEP_DONE, {}, step="09-redirect")
    assert not redirect_interrupted((STARTED, begun, done))


def test_a_decision_that_only_its_stabilization_tells_of_is_known_too() -> None:
    """Killed between the decision and its record, resumed, and watching for days: the register that forgot makes nobody
    primary all the same."""
    watched = {"kind": "stabilize", "state": "running", "endpoint": "away", "term": 1, "identity": identity("away")}
    known = {fact.id: fact.value for fact in journal_facts((STARTED, record(2, RecordKind.FACT, watched)), NOW)}
    assert {"term": 1, "primary": "away"} == known[DECIDED]
    values = switched(away__register=[], away__identity=identity("somebody else's")) | known
    assert read_register(document(), observation(values)).primary is None


def test_the_newest_slot_that_was_dropped_is_a_fact_of_its_endpoint_and_a_failed_attempt_is_none() -> None:
    """A run that was killed between record and drop has said so; whether the slot is there the sender tells."""

    def dropping(seq: int, endpoint: str, slot: str, state: str) -> Record:
        said = {"kind": "slot-dropped", "state": state, "endpoint": endpoint, "slot": slot, "why": "full"}
        return record(seq, RecordKind.FACT, said)

    found = journal_facts(
        (
            dropping(1, "home", "a", "passed"),
            dropping(2, "away", "b", "begun"),
            dropping(3, "home", "c", "passed"),
            dropping(4, "home", "d", "failed"),
        ),
        NOW,
    )
    assert ["away.slot_dropped", "home.slot_dropped"] == [fact.id for fact in found]
    values: list[Any] = [fact.value for fact in found]
    assert [("b", False, int(NOW.timestamp())), ("c", True, int(NOW.timestamp()))] == [
        (value["slot"], value["passed"], value["at"]) for value in values
    ]


def test_the_newest_decision_is_a_fact_whichever_record_tells_of_it() -> None:
    """A run that died between its decision and the record of it says so when it has gone on."""
    decided = {"kind": "decide", "state": "passed", "term": 1, "primary": "away"}
    records = (
        record(1, RecordKind.FACT, decided),
        record(2, RecordKind.RUN_FINISHED, {"term": 2, "primary": "home"}),
        record(3, RecordKind.RUN_FINISHED, {"term": 0, "primary": None}),
    )
    for known, expected in ((1, (1, "away")), (3, (2, "home"))):
        (fact,) = (one for one in journal_facts(records[:known], NOW) if one.id == "decided")
        assert isinstance(fact.value, dict)
        assert expected == (fact.value["term"], fact.value["primary"])
    assert () == tuple(one for one in journal_facts(records[2:], NOW) if one.id == "decided")


# What lanes have reached, and for which database


def moved(of: str | None = "away", term: int = 1) -> tuple[Record, ...]:
    """Lane `move` carried out for this database, or by an earlier release that did not say for which."""
    about = {} if of is None else {"identity": identity(of)}
    said = {"direction": "forward", "term": term, **about}
    return (
        record(1, RecordKind.FACT, {"kind": "decide", "state": "passed", "primary": "away", **said}),
        record(2, RecordKind.FACT, {"kind": "stabilize", "state": "passed", **said}),
        record(3, RecordKind.RUN_FINISHED, {"primary": "away", **said}),
    )


def showing(term: int, of: str | None = "away", run: str | None = "other") -> Decision:
    """The decision that registers show."""
    return Decision(term, Identity() if of is None else Identity.model_validate(identity(of)), run)


MET, UNMET, UNKNOWN = CriterionStatus.MET, CriterionStatus.UNMET, CriterionStatus.UNKNOWN
FOLLOWING = document(
    entryCriteria=[
        {"name": "over", "title": "the move is over", "lane": "move", "anyOf": ["complete", "superseded"]},
        {"name": "stable", "title": "it is stable", "lane": "move", "anyOf": ["stabilized"]},
    ]
)


@pytest.mark.parametrize(
    ("records", "seen", "shown", "believed"),
    [
        (moved(), showing(1), MET, MET),
        (moved(), None, UNKNOWN, MET),
        (moved(), showing(1, None), UNKNOWN, MET),
        (moved("staging"), showing(0), UNKNOWN, UNKNOWN),
        (moved("staging"), showing(1), UNKNOWN, UNKNOWN),
        (moved("staging", 3), showing(1), UNKNOWN, UNKNOWN),
        (moved(), showing(2, "home"), UNKNOWN, UNKNOWN),
        (moved(None), showing(1), UNKNOWN, UNKNOWN),
        ((), showing(0), UNMET, UNMET),
        ((), None, UNKNOWN, UNMET),
        (moved()[:1], showing(1), UNMET, UNMET),
    ],
)
def test_entry_criteria_rest_on_records_of_the_decision_and_the_database_that_are_seen(
    records: tuple[Record, ...], seen: Decision | None, shown: CriterionStatus, believed: CriterionStatus
) -> None:
    """Practised with on staging from the same checkout, or switched back by somebody with another journal, they are not
    known to hold. Where nothing can be reached a status says what the journal says; nothing is carried out on that."""
    for trusting, expected in ((False, shown), (True, believed)):
        found = history_of(FOLLOWING, {"move": document()}, records, seen=seen, believed=trusting).criteria
        assert [expected, expected] == [one.status for one in found], [one.detail for one in found]


def test_why_a_criterion_is_not_known_is_said() -> None:
    """With the record that would have met it."""
    details = [
        history_of(FOLLOWING, {"move": document()}, records, seen=seen, believed=False).criteria[0].detail
        for records, seen in (
            (moved("staging"), showing(1)),
            (moved("staging"), showing(0)),
            (moved(), showing(2, "home")),
            (moved(None), showing(1)),
            (moved(), None),
        )
    ]
    for expected, detail in zip(
        (
            "run r finished, for another database than the present primary",
            "run r finished, under decision term 1, which the present registers do not know",
            "decision term 2 was not made by a run in this journal",
            "by an earlier release, which did not record for which database; carry the lane's plan out again",
            "could not be observed (run r finished)",
        ),
        details,
        strict=True,
    ):
        assert expected in detail


def test_a_run_of_an_earlier_release_is_known_by_the_register_that_names_it() -> None:
    """Its lane is complete: that very run decided for the present primary. What it watched is watched again."""
    assert ("complete",) == lane_states("move", None, moved(None), showing(1, run="r")).states
    assert ("complete", "stabilized") == lane_states("move", None, moved(None)).states
    assert ("complete", "stabilized") == lane_states("move", None, moved(), showing(1, run="r")).states
