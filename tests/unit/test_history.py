"""What the journal remembers of runs that did not end."""

from __future__ import annotations

from typing import Any

from statehub_plan.history import journal_facts, redirect_interrupted, unfinished_run, unknown_steps
from statehub_plan.model.record import Record, RecordKind
from tests.unit.facts import NOW, record

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
