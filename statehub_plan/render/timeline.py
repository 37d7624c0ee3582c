"""What a run's records say about time: each step from intent to outcome, and how long nobody could write. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.steps import StepKind

_OUTCOMES = {
    RecordKind.STEP_DONE: "done",
    RecordKind.STEP_WAITING: "waiting",
    RecordKind.STEP_FAILED: "failed",
}
_RELEASES = (RecordKind.STEP_FAILED, RecordKind.STEP_ABORTED, RecordKind.RUN_ABORTED, RecordKind.RUN_RESUMED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step, tried once. `ended_at` is None and `outcome` is `unknown` where no outcome was recorded."""

    step: str
    kind: str
    began_at: datetime
    ended_at: datetime | None
    outcome: str
    told: str
    elapsed_ms: int | None
    payload: dict[str, JsonValue]

    @property
    def duration_s(self) -> float | None:
        """What the step itself took; with no such figure on record, from intent to outcome."""
        if self.elapsed_ms is not None:
            return self.elapsed_ms / 1000
        return None if self.ended_at is None else (self.ended_at - self.began_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which nobody could write, never told too short: from when the locks were asked for until
    the step that opened a side ended, or until the hold was released because the attempt ended (`opened` False).
    `reached_at` is when clients had been pointed at the opened side."""

    began_at: datetime
    ended_at: datetime | None
    opened: bool
    reached_at: datetime | None

    @property
    def write_gap_s(self) -> float | None:
        """None while it lasts or where the end is not on record."""
        return None if self.ended_at is None else (self.ended_at - self.began_at).total_seconds()

    @property
    def until_clients_s(self) -> float | None:
        """The same until clients were redirected, None where they were not."""
        return None if self.reached_at is None else (self.reached_at - self.began_at).total_seconds()


def attempts(records: Iterable[Record]) -> tuple[Attempt, ...]:
    """Every attempt at a step, in order."""
    found: list[Attempt] = []
    intent: Record | None = None
    for record in records:
        if record.kind is RecordKind.STEP_INTENT:
            found += _unended(intent)
            intent = record
        elif intent is not None and record.kind in _OUTCOMES and record.step == intent.step:
            found.append(_ended(intent, record))
            intent = None
    return (*found, *_unended(intent))


def _ended(intent: Record, outcome: Record) -> Attempt:
    payload = outcome.payload
    told = payload.get("summary") or payload.get("what") or payload.get("last") or ""
    elapsed = payload.get("elapsed_ms")
    return Attempt(
        step=str(intent.step),
        kind=str(intent.payload.get("kind")),
        began_at=intent.at,
        ended_at=outcome.at,
        outcome=_OUTCOMES[outcome.kind],
        told=str(told),
        elapsed_ms=elapsed if isinstance(elapsed, int) else None,
        payload=payload,
    )


def _unended(intent: Record | None) -> Iterator[Attempt]:
    if intent is not None:
        kind = str(intent.payload.get("kind"))
        told = "no outcome is on record: the process ended here"
        yield Attempt(str(intent.step), kind, intent.at, None, "unknown", told, None, {})


def pauses(records: Sequence[Record]) -> tuple[Pause, ...]:
    """Every write pause, in order."""
    found: list[Pause] = []
    intents: dict[str | None, Record] = {}
    held: Record | None = None
    for record in records:
        if record.kind is RecordKind.STEP_INTENT:
            intents[record.step] = record
        elif _is_done(record, StepKind.HOLD):
            held = intents.get(record.step, record)
        elif held is not None and _is_done(record, StepKind.OPEN):
            found.append(Pause(held.at, _ended_at(record, intents), True, _redirected(records, record)))
            held = None
        elif held is not None and record.kind in _RELEASES and not _frozen(records, held, record):
            # A process that was killed left no time of its death; the locks died with it, not when somebody came back.
            found.append(Pause(held.at, None if record.kind is RecordKind.RUN_RESUMED else record.at, False, None))
            held = None
    return (*found, *([Pause(held.at, None, False, None)] if held is not None else ()))


def _is_done(record: Record, kind: StepKind) -> bool:
    return record.kind is RecordKind.STEP_DONE and record.payload.get("kind") == kind.value


def _ended_at(done: Record, intents: dict[str | None, Record]) -> datetime:
    """When the step itself ended: its outcome is recorded only after the world was looked at again."""
    intent, elapsed = intents.get(done.step), done.payload.get("elapsed_ms")
    if intent is None or not isinstance(elapsed, int):
        return done.at
    return min(done.at, intent.at + timedelta(milliseconds=elapsed))


def _frozen(records: Sequence[Record], held: Record, now: Record) -> bool:
    """A durable freeze does not end with the process that made it."""
    frozen = any(_is_done(record, StepKind.FREEZE) for record in records if held.seq < record.seq < now.seq)
    return frozen and now.kind is not RecordKind.RUN_ABORTED


def _redirected(records: Sequence[Record], opened: Record) -> datetime | None:
    return next((one.at for one in records if one.seq > opened.seq and _is_done(one, StepKind.REDIRECT)), None)


def last_payload(found: Iterable[Attempt], kind: StepKind) -> dict[str, JsonValue]:
    """What the last successful step of this kind recorded, empty where there was none."""
    done = [one.payload for one in found if one.kind == kind.value and one.outcome == "done"]
    return done[-1] if done else {}
