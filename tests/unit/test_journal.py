"""The parts of the journal that need no store: the chain, the URLs, the heartbeat's patience, what refusals say."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal import Heartbeat, JournalTampered, LeaseLost, chain, heartbeat, open_journal
from statehub_plan.journal.chain import COLUMNS, Head, Row
from statehub_plan.journal.leases import held_by, new_lease, renewed, superseded
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import Lease, Record, RecordKind

NOW = datetime(2026, 6, 27, 10, 0, 0, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
payloads = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def chained(count: int, payload: dict[str, Any] | None = None) -> tuple[list[Row], Head]:
    """A sound chain of `count` records as it is stored, and its head."""
    head, rows = Head(), []
    for number in range(count):
        record = chain.link(
            head,
            service="hub",
            plan_name="plan",
            run="run",
            epoch=1,
            at=NOW + timedelta(microseconds=number),
            kind=RecordKind.FACT,
            step="copy",
            payload=payload or {"n": number},
        )
        rows.append(chain.row_of(record))
        head = Head(record.seq, record.hash)
    return rows, head


def lease(*, heartbeat_at: datetime = NOW) -> Lease:
    """A lease of this process with a minute to live."""
    return renewed(new_lease("hub", "alice@ops", 3, ttl_s=60, now=NOW), heartbeat_at)


@given(payload=payloads)
def test_any_payload_survives_storage_exactly(payload: dict[str, Any]) -> None:
    """What was linked is what is read back, and it still has its hash."""
    rows, head = chained(1, payload)
    assert chain.row_of(chain.record_of(rows[0], "here")) == rows[0]
    assert 1 == chain.check(rows, head, "here")


@given(at=st.integers(0, 4), column=st.integers(1, len(COLUMNS) - 1), data=st.data())
def test_any_changed_field_of_any_record_is_found(at: int, column: int, data: st.DataObject) -> None:
    """No field can be changed without the check naming that record or the one after it."""
    rows, head = chained(5)
    changed: list[Any] = list(rows[at])
    other = st.integers(0, 99) if isinstance(changed[column], int) else texts
    changed[column] = data.draw(other.filter(lambda value: value != rows[at][column]))
    rows[at] = cast(Row, tuple(changed))
    with pytest.raises(JournalTampered) as found:
        chain.check(rows, head, "here")
    assert found.value.seq in (at + 1, at + 2)


@given(data=st.data())
def test_leaving_out_or_reordering_records_is_found(data: st.DataObject) -> None:
    """Only the complete sequence in its order passes."""
    rows, head = chained(5)
    shuffled = data.draw(st.lists(st.sampled_from(rows), max_size=6).filter(lambda some: some != rows))
    with pytest.raises(JournalTampered):
        chain.check(shuffled, head, "here")


def test_what_was_read_before_is_taken_again_unless_it_was_changed() -> None:
    """A service's journal is read before every step; a record that was changed meanwhile is looked at anew."""
    rows, _ = chained(3)
    reading = chain.Reading()
    first, again, longer = reading.records(rows[:2], "here"), reading.records(rows[:2], "here"), chained(4)[0]
    assert [id(one) for one in first] == [id(one) for one in again]
    assert tuple(chain.record_of(row, "here") for row in longer) == reading.records(longer, "here")
    rows[1] = (*rows[1][:8], '{"n": 7}', *rows[1][9:])
    with pytest.raises(JournalTampered, match="not written the way the tool writes"):
        reading.records(rows, "here")


class Overtaken(chain.Reading):
    """A reading during whose very last moment another one is done, as by another thread."""

    overtake: Callable[[], object] | None = None

    @property
    def _known(self) -> dict[Row, Record]:
        return self._kept

    @_known.setter
    def _known(self, value: dict[Row, Record]) -> None:
        self._kept = value
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            overtake()


def test_each_of_two_threads_that_read_at_once_gets_what_it_asked_for() -> None:
    """What is remembered for the next reading is nobody's answer."""
    rows, _ = chained(3)
    reading = Overtaken()
    reading.overtake = lambda: reading.records(rows[2:], "here")
    assert [1, 2] == [record.seq for record in reading.records(rows[:2], "here")]


def test_a_payload_without_canonical_json_is_a_defect_that_is_named() -> None:
    """Integers that other readers would round are refused before anything is stored."""
    with pytest.raises(StatehubError) as refused:
        chained(1, {"rows": 2**53})
    assert "record-not-canonical" == refused.value.code


@pytest.mark.parametrize(
    ("url", "code"),
    [("", "journal-url"), ("mysql://x/y", "journal-url"), ("a\0b", "journal-url"), ("sqlite://x", "journal-url")],
)
def test_what_can_not_be_a_journal_is_a_usage_error(url: str, code: str) -> None:
    """The refusal lists what can be named instead."""
    with pytest.raises(StatehubError) as refused:
        open_journal(url)
    assert code == refused.value.code
    assert Exit.USAGE == refused.value.exit_status
    assert "sqlite:///path" in refused.value.hint


def test_the_holder_is_never_asked_about_itself() -> None:
    """A process that finds its own lease is told so plainly; a lock without a name says where it is."""
    said = str(held_by(lease(), "hub", now=NOW, where="here", end_it="end it"))
    assert "stalled" not in said
    assert f"process {os.getpid()} on host {socket.gethostname()}" in said
    assert "here" in str(held_by(None, "hub", now=NOW, where="here", end_it="end it"))


def test_a_lost_lease_says_to_whom_or_why() -> None:
    """Taken over, released, or unknown to an older copy of the journal: three different stories."""
    ours = lease()
    successor = ours.model_copy(update={"epoch": 4, "holder": "bob@ops", "acquired_at": NOW + timedelta(minutes=5)})
    assert "bob@ops" in str(superseded(ours, successor))
    assert "epoch 4 at 2026-06-27T10:05:00+00:00" in str(superseded(ours, successor))
    assert "released" in str(superseded(ours, ours))
    assert "older copy" in str(superseded(ours, None))
    assert Exit.LOCKED == superseded(ours, None).exit_status


@dataclass
class FakeJournal:
    """Answers heartbeats as told; nothing else of a journal is used here."""

    failure: StatehubError | None = None
    beats: list[datetime] = field(default_factory=list)
    location: str = "nowhere"

    def heartbeat(self, lease: Lease, now: datetime) -> Lease:
        """The renewed lease, or the failure that was set."""
        if self.failure is not None:
            raise self.failure
        self.beats.append(now)
        return renewed(lease, now)

    def identity(self) -> Identity | None:
        raise NotImplementedError

    def append(self, lease: Lease | None, **_: Any) -> Record:
        raise NotImplementedError

    def records(self, **_: Any) -> tuple[Record, ...]:
        raise NotImplementedError

    def verify(self) -> int:
        raise NotImplementedError

    def acquire(self, service: str, holder: str, *, ttl_s: float, now: datetime, at_least: int = 0) -> Lease:
        raise NotImplementedError

    def release(self, lease: Lease) -> None:
        raise NotImplementedError

    def current_lease(self, service: str) -> Lease | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def test_heartbeats_that_fail_are_forgiven_for_one_time_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk for a moment is no reason to stop; after a whole time to live without a word it is."""
    awake_s = [1000.0]
    monkeypatch.setattr(heartbeat, "_awake_s", lambda: awake_s[0])
    journal = FakeJournal(StatehubError(code="journal-disk-full", what="full", hint="make room"))
    with Heartbeat(journal, lease(), now=lambda: NOW) as beating:
        awake_s[0] += 60
        beating.check()
        awake_s[0] += 1
        with pytest.raises(StatehubError) as refused:
            beating.check()
        assert "journal-disk-full" == refused.value.code
        journal.failure = None
        beating.check()
        assert [NOW] == journal.beats


def test_after_a_long_sleep_the_journal_is_asked_before_anything_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that was closed over night does not trust what it knew in the evening."""
    awake_s = [1000.0]
    monkeypatch.setattr(heartbeat, "_awake_s", lambda: awake_s[0])
    journal = FakeJournal()
    with Heartbeat(journal, lease(), now=lambda: NOW) as beating:
        awake_s[0] += 8 * 3600
        journal.failure = LeaseLost(lease(), "somebody took over")
        for _ in range(2):
            with pytest.raises(LeaseLost, match="took over"):
                beating.check()
