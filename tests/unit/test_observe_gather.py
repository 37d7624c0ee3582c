"""Many looks at once: every promise is answered, and what hangs or fails hides nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Fact, FactStatus
from statehub_plan.observe.gather import Answers, Source, gather
from statehub_plan.observe.parallel import Attempt, in_parallel
from statehub_plan.redact import register_secret

NOW = datetime(2026, 6, 27, tzinfo=UTC)


def _gather(*sources: Source, timeout_s: float = 5.0) -> dict[str, Fact]:
    return {fact.id: fact for fact in gather(sources, now=lambda: NOW, timeout_s=timeout_s)}


def _source(name: str, look: Callable[[Answers, Attempt], None], *promised: str) -> Source:
    return Source(name=name, promises=dict.fromkeys(promised, f"SELECT {name}"), look=look)


def test_what_hangs_is_unknown_and_hides_nothing() -> None:
    """A source that answers one fact and hangs on the next keeps the first; the other source loses nothing."""
    ended = threading.Event()

    def hang(answers: Answers, attempt: Attempt) -> None:
        answers.know("b.first", 1, time.monotonic())
        attempt.stop.wait()
        answers.know("b.second", "too late", time.monotonic())
        ended.set()

    good = _source("good", lambda answers, _: answers.know("a", [1], time.monotonic()), "a")
    facts = _gather(_source("slow", hang, "b.first", "b.second"), good, timeout_s=0.05)

    assert ended.wait(5)
    assert ["a", "b.first", "b.second"] == list(facts)
    assert (FactStatus.KNOWN, [1]) == (facts["a"].status, facts["a"].value)
    assert 1 == facts["b.first"].value
    assert "slow did not answer within 0.05 s" == facts["b.second"].reason
    assert all(fact.observed_at == NOW and fact.how.startswith("SELECT ") for fact in facts.values())


def test_a_failure_is_the_reason_of_what_was_not_answered() -> None:
    """The remedy comes along, secrets don't."""
    register_secret("hunter2-canary")

    def fail(answers: Answers, attempt: Attempt) -> None:
        answers.know("a", None, time.monotonic())
        raise StatehubError(code="x", what="no luck with hunter2-canary", hint="try\nagain")

    facts = _gather(_source("failing", fail, "a", "b"))
    assert (FactStatus.KNOWN, None) == (facts["a"].status, facts["a"].value)
    assert "no luck with ***; try again" == facts["b"].reason


def test_a_promise_that_nobody_keeps_is_unknown() -> None:
    """Nothing is omitted silently, not even by a source that forgets."""
    assert "idle said nothing" == _gather(_source("idle", lambda answers, attempt: None, "a"))["a"].reason


def test_a_defect_is_not_taken_for_an_observation() -> None:
    """An exception that no source should raise is raised to whoever asked, not turned into an unknown fact."""

    def defect(answers: Answers, attempt: Attempt) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _gather(_source("defective", defect, "a"))


def test_each_look_has_its_own_time() -> None:
    """A short time-out is not stretched by a neighbour's long one, and a long one is not cut by a short one."""
    ended: list[str] = []

    def long(attempt: Attempt) -> None:
        attempt.stop.wait(0.2)
        ended.append("long")

    def short(attempt: Attempt) -> None:
        attempt.stop.wait()

    assert (0.05, None) == in_parallel([short, long], [0.05, 10])
    assert ["long"] == ended


def test_a_look_may_ask_for_more_time() -> None:
    """Whoever knows that there is much to do, and does it, is waited for; those that hang are not waited for longer."""
    over = threading.Event()

    def much(attempt: Attempt) -> None:
        attempt.extend(30)
        assert over.wait(10)

    def hang(attempt: Attempt) -> None:
        attempt.stop.wait()
        over.set()

    assert (None, 0.05) == in_parallel([much, hang], [0.05, 0.05])


def test_an_attempt_that_is_over_ends_what_begins_late() -> None:
    """Whoever registers an end after nobody waits any more is ended at once, and exactly once."""
    attempt, calls = Attempt(5.0), list[str]()
    attempt.when_abandoned(lambda: calls.append("early"))
    attempt.abandon()
    attempt.abandon()
    attempt.when_abandoned(lambda: calls.append("late"))
    assert ["early", "late"] == calls
    assert attempt.stop.is_set()


def test_no_thread_outlives_the_process() -> None:
    """A look that can't be ended is a daemon: it can't keep the process alive."""
    daemons: list[bool] = []
    in_parallel([lambda attempt: daemons.append(threading.current_thread().daemon)], [5.0])
    assert [True] == daemons
