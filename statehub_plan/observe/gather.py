"""Facts from sources: every promised fact gets an answer, known or unknown with its reason, whatever a source does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Fact, FactStatus
from statehub_plan.observe.parallel import Attempt, in_parallel
from statehub_plan.redact import redact

Clock = Callable[[], datetime]


class Answers:
    """Where a source puts its facts, one by one as it finds them; shut once nobody waits for it any more."""

    def __init__(self, promises: Mapping[str, str], now: Clock) -> None:
        self._promises = promises
        self._now = now
        self._lock = threading.Lock()
        self._facts: dict[str, Fact] | None = {}

    def know(self, fact_id: str, value: JsonValue, began: float) -> None:
        """The fact is known; `began` is `time.monotonic()` of when looking at it began."""
        self._put(fact_id, began, FactStatus.KNOWN, value=value)

    def miss(self, fact_id: str, reason: str, began: float) -> None:
        """The fact is unknown, and why."""
        self._put(fact_id, began, FactStatus.UNKNOWN, reason=redact(reason))

    def miss_rest(self, reason: str, began: float) -> None:
        """Every promised fact that has no answer yet is unknown, for one reason."""
        for fact_id in self._promises:
            if self._facts is not None and fact_id not in self._facts:
                self.miss(fact_id, reason, began)

    def close(self) -> tuple[Fact, ...]:
        """What was found; answers that come later are dropped."""
        with self._lock:
            facts, self._facts = self._facts or {}, None
        return tuple(facts.values())

    def _put(
        self, fact_id: str, began: float, status: FactStatus, *, value: JsonValue = None, reason: str | None = None
    ) -> None:
        fact = Fact(
            id=fact_id,
            status=status,
            value=value,
            reason=reason,
            how=redact(self._promises[fact_id]),
            observed_at=self._now(),
            elapsed_ms=round((time.monotonic() - began) * 1000),
        )
        with self._lock:
            if self._facts is not None:
                self._facts[fact_id] = fact


@dataclass(frozen=True, slots=True)
class Source:
    """Something to look at. `promises` says for each fact that it gives how that is observed. `look` may raise
    StatehubError: what it has not answered by then is unknown for that reason."""

    name: str
    promises: Mapping[str, str]
    look: Callable[[Answers, Attempt], None]


def gather(sources: Sequence[Source], *, now: Clock, timeout_s: float) -> tuple[Fact, ...]:
    """Look at all sources at once, each for at most `timeout_s` unless it extends that; exactly the promised facts,
    sorted by id."""
    began = time.monotonic()
    answers = [Answers(source.promises, now) for source in sources]
    looks = [_look(source, to) for source, to in zip(sources, answers, strict=True)]
    late_after_s = in_parallel(looks, [timeout_s] * len(sources))
    for source, to, late_s in zip(sources, answers, late_after_s, strict=True):
        what = "said nothing" if late_s is None else f"did not answer within {late_s:g} s"
        to.miss_rest(f"{source.name} {what}", began)
    return tuple(sorted((fact for to in answers for fact in to.close()), key=lambda fact: fact.id))


def _look(source: Source, answers: Answers) -> Callable[[Attempt], None]:
    def look(attempt: Attempt) -> None:
        began = time.monotonic()
        try:
            source.look(answers, attempt)
        except StatehubError as error:
            if not attempt.stop.is_set():  # else it was hung up on, and that is the reason
                answers.miss_rest(reason(error), began)

    return look


def reason(error: StatehubError) -> str:
    """Why something could not be observed, with the remedy, on one line."""
    return " ".join(f"{error.what}; {error.hint}".split()) if error.hint else " ".join(error.what.split())
