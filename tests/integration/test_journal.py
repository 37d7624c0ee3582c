"""One contract for both journals: SQLite file and PostgreSQL database, with real processes that die and stop."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal import Heartbeat, Journal, JournalTampered, LeaseLost, Locked, open_journal
from statehub_plan.model.record import Lease, Record, RecordKind
from statehub_plan.redact import MASK, register_secret

NOW = datetime(2026, 6, 27, 10, 0, 0, 250_000, tzinfo=UTC)
HOUR_S = 3600.0
ACTOR = Path(__file__).with_name("journal_actor.py")


class Actor:
    """A process of its own with the same journal open."""

    def __init__(self, url: str, service: str = "hub") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ACTOR), url, service], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.children: list[int] = []

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Store:
    """Where a journal is, and how to get at it from behind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = not url.startswith(("postgresql:", "host="))

    def open(self) -> Journal:
        return open_journal(self.url)

    def execute(self, *statements: str) -> None:
        """Statements as somebody else would run them with a database client."""
        if self.is_sqlite:
            db = sqlite3.connect(self.url, isolation_level=None)
            try:
                for statement in statements:
                    db.execute(statement.replace("statehub_plan_journal.", ""))
            finally:
                db.close()
        else:
            with psycopg.connect(self.url, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement)

    def without_guards(self, *statements: str) -> None:
        """Statements by somebody who first removes the triggers that refuse them."""
        triggers = {"record": ("record_follows", "record_stays", "record_remains"), "head": ("head_advances",)}
        dropped = [
            f"DROP TRIGGER IF EXISTS {name}" + ("" if self.is_sqlite else f" ON statehub_plan_journal.{table}")
            for table, names in triggers.items()
            for name in names
        ]
        self.execute(*dropped, *statements)

    def take_the_lock_away(self) -> None:
        """What an impatient operator does to a holder that lives on another machine."""
        if self.is_sqlite:
            Path(f"{self.url}.hub.lock").unlink()
        else:
            self.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of journal once; nothing is in it."""
    return Store(str(tmp_path / "journal.db") if request.param == "sqlite" else request.getfixturevalue("source_db"))


@pytest.fixture
def journal(store: Store) -> Iterator[Journal]:
    """The journal under test, opened."""
    opened = store.open()
    yield opened
    opened.close()


def record(journal: Journal, lease: Lease | None, payload: dict[str, Any] | None = None, **other: Any) -> Record:
    """A new record: a step's intent under `lease`, a fact without one."""
    given: dict[str, Any] = {
        "service": "hub",
        "plan_name": "plan",
        "run": "run-1",
        "kind": RecordKind.FACT if lease is None else RecordKind.STEP_INTENT,
        "step": None if lease is None else "copy",
        "at": NOW,
    }
    return journal.append(lease, payload=payload or {}, **{**given, **other})


def take(journal: Journal, *, service: str = "hub", now: datetime = NOW) -> Lease:
    """The lease, for an hour."""
    return journal.acquire(service, "alice@ops", ttl_s=HOUR_S, now=now)


def eventually(happened: Callable[[], bool]) -> bool:
    """Whether it happened within twenty seconds."""
    deadline = time.monotonic() + 20
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    return happened()


def test_a_journal_that_does_not_exist_reads_as_empty_and_is_not_made(store: Store, journal: Journal) -> None:
    """Looking at a status never leaves anything behind."""
    assert () == journal.records()
    assert 0 == journal.verify()
    assert journal.current_lease("hub") is None
    if store.is_sqlite:
        assert not Path(store.url).exists()


def test_a_journal_says_in_which_database_it_lives(store: Store, journal: Journal) -> None:
    """So that nobody keeps the record of a move inside one of the databases that move; a file is in none."""
    identity = journal.identity()
    assert store.is_sqlite == (identity is None)
    assert identity is None or identity.known


def test_what_is_appended_is_read_back_by_whoever_opens_it_next(store: Store, journal: Journal) -> None:
    """Records survive as they are: order, microseconds, unlikely text, nested payloads."""
    lease = take(journal)
    payload = {"rows": {"public.t": 2**53 - 1}, "text": 'ü\u2028"\\\t😀', "ratio": 0.1, "none": None, "list": [1, [2]]}
    written = (
        record(journal, lease, payload),
        record(journal, lease, kind=RecordKind.STEP_DONE, at=NOW + timedelta(hours=2)),
        record(journal, None),
    )
    again = store.open()
    assert written == again.records()
    assert payload == written[0].payload
    assert [1, 1, 0] == [each.epoch for each in written]
    assert 3 == again.verify()
    again.close()


def test_records_are_found_by_service_plan_and_run(journal: Journal) -> None:
    """Every filter narrows, together they narrow further, and hostile text is only text."""
    record(journal, None, service="hub", plan_name="a", run="1")
    record(journal, None, service="hub", plan_name="b", run="2")
    record(journal, None, service="other", plan_name="a", run="2")
    assert [1, 2] == [each.seq for each in journal.records(service="hub")]
    assert [1, 3] == [each.seq for each in journal.records(plan_name="a")]
    assert [3] == [each.seq for each in journal.records(plan_name="a", run="2")]
    assert () == journal.records(service="hub' OR '1' = '1")


def test_each_record_carries_the_hash_of_the_one_before(journal: Journal) -> None:
    """The first link hangs on sixty-four zeros, every other on its predecessor."""
    first, second = record(journal, None), record(journal, None)
    assert "0" * 64 == first.prev
    assert first.hash == second.prev
    assert 64 == len(second.hash)


def test_secrets_never_reach_the_store(store: Store, journal: Journal, tmp_path: Path) -> None:
    """A registered secret and one recognised by shape are hidden before anything is written."""
    register_secret("canary-Zq7-registered")
    payload = {"error": "canary-Zq7-registered", "dsn": "postgresql://app:canary-Zq8-shaped@db/hub", "password": "x9y"}
    written = record(journal, None, payload)
    assert MASK == written.payload["error"]
    assert "canary" not in str(journal.records())
    assert "x9y" not in str(journal.records())
    if store.is_sqlite:
        assert b"canary" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_change_to_the_world_needs_a_lease(journal: Journal) -> None:
    """Knowledge may be recorded by anybody, steps and runs only by the holder, and only for the service it holds."""
    for kind in RecordKind:
        if kind in (RecordKind.FACT, RecordKind.VERDICT):
            assert kind is record(journal, None, kind=kind).kind
        else:
            with pytest.raises(ValueError):
                record(journal, None, kind=kind)
    with pytest.raises(ValueError):
        record(journal, take(journal), service="other")


def test_every_acquisition_has_a_higher_epoch_per_service(store: Store, journal: Journal) -> None:
    """Epochs count up through releases and through processes, and services do not share them."""
    first = take(journal)
    journal.release(first)
    journal.release(first)
    assert journal.current_lease("hub") is None
    second = take(journal)
    assert second == journal.current_lease("hub")
    journal.close()
    again = store.open()
    third = take(again)
    other = take(again, service="../other hub")
    assert [1, 2, 3, 1] == [lease.epoch for lease in (first, second, third, other)]
    again.close()


def test_a_new_journal_begins_above_the_epochs_that_a_database_has_seen(journal: Journal) -> None:
    """A journal that was lost, or lies on another machine, would else count from one and be fenced out for ever."""
    epochs = []
    for seen in (41, 7, 42):
        lease = journal.acquire("hub", "alice@ops", ttl_s=HOUR_S, now=NOW, at_least=seen)
        epochs.append(lease.epoch)
        assert lease.epoch == journal.heartbeat(lease, NOW).epoch
        journal.release(lease)
    assert [42, 43, 44] == epochs
    assert 45 == take(journal).epoch


def test_the_refusal_names_who_holds_the_lease_since_when(store: Store, journal: Journal) -> None:
    """Exit status 6 with holder, process, host, instant and what to do."""
    take(journal)
    second = store.open()
    with pytest.raises(Locked) as refused:
        take(second, now=NOW + timedelta(minutes=1))
    assert Exit.LOCKED == refused.value.exit_status
    for expected in ("alice@ops", "since 2026-06-27T10:00:00+00:00", f"process {os.getpid()}", "epoch 1", "remedy:"):
        assert expected in str(refused.value)
    assert "stalled" not in str(refused.value)
    second.close()


def test_a_released_lease_records_nothing(journal: Journal) -> None:
    """Whoever gave the lease back has stopped, and so has its heartbeat."""
    lease = take(journal)
    journal.release(lease)
    with pytest.raises(LeaseLost, match="released"):
        record(journal, lease)
    with pytest.raises(LeaseLost):
        journal.heartbeat(lease, NOW)
    assert () == journal.records()


def test_of_many_that_ask_at_once_one_gets_the_lease(store: Store) -> None:
    """Six processes, one lease; the losers are told who won; round after round with ever higher epochs."""
    with ThreadPoolExecutor(6) as pool:
        actors = [Actor(store.url) for _ in range(6)]
        try:
            for epoch in (1, 2, 3):
                answers = list(pool.map(lambda actor: actor.ask("acquire"), actors))
                winners = [index for index, answer in enumerate(answers) if "ok" in answer]
                assert 1 == len(winners), answers
                assert {"ok": epoch} == answers[winners[0]]
                assert {"lease-held"} == {answer["error"] for answer in answers if "error" in answer}
                actors.pop(winners[0]).__exit__()
        finally:
            for actor in actors:
                actor.__exit__()


def test_a_killed_holder_is_succeeded_at_once(store: Store, journal: Journal) -> None:
    """SIGKILL frees the lease although it said it lives for an hour, and what it recorded is there."""
    with Actor(store.url) as holder:
        assert {"ok": 1} == holder.ask("acquire")
        assert {"ok": 1} == holder.ask("append")
        with pytest.raises(Locked):
            take(journal)
        assert journal.current_lease("hub") is not None
        holder.kill()
        successor = take(journal)
    assert 2 == successor.epoch
    assert 2 == record(journal, successor).seq
    assert 2 == journal.verify()


@pytest.mark.parametrize("offspring", ["fork", "spawn"])
def test_children_of_a_killed_holder_do_not_keep_the_lease(store: Store, journal: Journal, offspring: str) -> None:
    """Neither a forked child nor a started program inherits the lock: a tunnel restarted by a step outlives its run."""
    with Actor(store.url) as holder:
        assert {"ok": 1} == holder.ask("acquire")
        child = holder.ask(offspring)["ok"]
        holder.children.append(child)
        assert {"ok": 1} == holder.ask("heartbeat"), "the holder itself keeps it"
        with pytest.raises(Locked):
            take(journal)
        holder.kill()
        os.kill(child, 0)
        assert 2 == take(journal).epoch


def test_no_clock_gives_the_lease_of_a_living_holder_away(store: Store, journal: Journal) -> None:
    """A stopped holder is still one, a hundred years later too: it is called stalled, with the way to end it."""
    with Actor(store.url) as holder:
        assert {"ok": 1} == holder.ask("acquire")
        holder.process.send_signal(signal.SIGSTOP)
        assert eventually(lambda: "T" == _state_of(holder.process.pid))
        for now in (NOW, datetime.now(UTC) + timedelta(days=36_525)):
            with pytest.raises(Locked) as refused:
                take(journal, now=now)
            assert f"process {holder.process.pid} is stopped" in str(refused.value)
            assert f"kill -KILL {holder.process.pid}" in str(refused.value)
        holder.kill()
        assert 2 == take(journal, now=NOW - timedelta(days=36_525)).epoch


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_silent_holder_elsewhere_is_called_stalled(store: Store, journal: Journal) -> None:
    """Where the process can't be looked at, its silence is reported together with what would end it."""
    take(journal)
    second = store.open()
    with pytest.raises(Locked) as refused:
        take(second, now=NOW + timedelta(hours=3))
    assert "stalled: silent for 10800 s" in str(refused.value)
    assert ("fuser" if store.is_sqlite else "pg_terminate_backend(") in str(refused.value)
    second.close()


def test_a_zombie_records_nothing_after_its_successor_began(store: Store, journal: Journal) -> None:
    """A holder whose lock was taken away while it was stopped is fenced by the epoch in the append itself."""
    with Actor(store.url) as zombie:
        assert {"ok": 1} == zombie.ask("acquire")
        zombie.process.send_signal(signal.SIGSTOP)
        store.take_the_lock_away()
        successor = take(journal)
        zombie.process.send_signal(signal.SIGCONT)
        for command in ("append", "heartbeat"):
            answer = zombie.ask(command)
            assert "lease-lost" == answer["error"]
            assert Exit.LOCKED == answer["exit"]
        assert "alice@ops" in zombie.ask("append")["text"]
    assert 2 == successor.epoch
    assert () == journal.records()


def test_a_killed_writer_leaves_every_acknowledged_record_and_a_sound_chain(store: Store, journal: Journal) -> None:
    """SIGKILL in the midst of appending, again and again: nothing acknowledged is lost, nothing half-written kept."""
    for _ in range(5):
        with Actor(store.url) as writer:
            assert "ok" in writer.ask("acquire")
            writer.tell("flood")
            acknowledged = [writer.hear()["ok"] for _ in range(7)][-1]
            writer.process.kill()
            assert writer.process.stdout is not None
            for line in writer.process.stdout:
                if line.endswith("}\n"):
                    acknowledged = json.loads(line)["ok"]
            writer.process.wait()
        assert acknowledged <= journal.verify() <= acknowledged + 1


def test_many_writers_make_one_chain(store: Store, journal: Journal) -> None:
    """Threads of one process and several processes append at once; every record has its own place."""
    with ThreadPoolExecutor(8) as pool:
        actors = [Actor(store.url) for _ in range(2)]
        try:
            ours = [pool.submit(record, journal, None) for _ in range(20)]
            theirs = [pool.submit(lambda actor: [actor.ask("know")["ok"] for _ in range(10)], each) for each in actors]
            seqs = [each.result().seq for each in ours] + [seq for each in theirs for seq in each.result()]
        finally:
            for actor in actors:
                actor.__exit__()
    assert list(range(1, 41)) == sorted(seqs)
    assert 40 == journal.verify()


def test_a_heartbeat_renews_the_lease_while_its_context_lasts(store: Store, journal: Journal) -> None:
    """Others see the newest heartbeat; the lease itself is not given back at the end."""
    lease = journal.acquire("hub", "alice@ops", ttl_s=0.06, now=NOW)
    ticks = threading.Semaphore(0)

    def clock() -> datetime:
        ticks.release()
        return NOW + timedelta(hours=1)

    with Heartbeat(journal, lease, now=clock) as heartbeat:
        assert all(ticks.acquire(timeout=20) for _ in range(3))
        heartbeat.check()
        watcher = store.open()
        seen = watcher.current_lease("hub")
    assert seen is not None
    assert NOW + timedelta(hours=1) == seen.heartbeat_at
    assert NOW == seen.acquired_at
    assert 1 == record(journal, heartbeat.lease).seq
    with pytest.raises(LeaseLost, match="not running"):
        heartbeat.check()
    watcher.close()


def test_a_heartbeat_notices_that_the_lease_is_gone(store: Store, journal: Journal) -> None:
    """Whoever works under a lease that was taken away is told so, whatever it is doing."""
    lease = journal.acquire("hub", "alice@ops", ttl_s=0.06, now=NOW)

    def lost() -> bool:
        try:
            heartbeat.check()
        except LeaseLost:
            return True
        return False

    with Heartbeat(journal, lease) as heartbeat:
        heartbeat.check()
        store.take_the_lock_away()
        assert eventually(lost)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE statehub_plan_journal.record SET payload = '{}' WHERE seq = 2",
        "DELETE FROM statehub_plan_journal.record WHERE seq = 3",
        "UPDATE statehub_plan_journal.head SET seq = 2",
        "DELETE FROM statehub_plan_journal.head",
        "UPDATE statehub_plan_journal.lease SET epoch = 0",
        "DELETE FROM statehub_plan_journal.lease",
        "INSERT INTO statehub_plan_journal.record SELECT 9, service, plan_name, run, epoch, at, kind, step, payload, "
        "prev, hash FROM statehub_plan_journal.record WHERE seq = 1",
    ],
)
def test_the_store_itself_refuses_to_rewrite_history(store: Store, journal: Journal, statement: str) -> None:
    """Records stay, the head and epochs only move forward, for every client of the database."""
    lease = take(journal)
    for _ in range(3):
        record(journal, lease, {"n": 1})
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException)):
        store.execute(statement)
    assert 3 == journal.verify()


@pytest.mark.parametrize(
    ("seq", "statements"),
    [
        (2, ["UPDATE statehub_plan_journal.record SET payload = '{\"n\":7}' WHERE seq = 2"]),
        (2, ["UPDATE statehub_plan_journal.record SET payload = '{\"n\": 2}' WHERE seq = 2"]),
        (2, ["UPDATE statehub_plan_journal.record SET payload = 'x' WHERE seq = 2"]),
        (2, ["UPDATE statehub_plan_journal.record SET kind = 'invented' WHERE seq = 2"]),
        (1, ["UPDATE statehub_plan_journal.record SET at = '2026-06-27T10:00:00Z' WHERE seq = 1"]),
        (3, ["UPDATE statehub_plan_journal.record SET prev = hash WHERE seq = 3"]),
        (2, ["DELETE FROM statehub_plan_journal.record WHERE seq = 2"]),
        (1, ["DELETE FROM statehub_plan_journal.record"]),
        (3, ["DELETE FROM statehub_plan_journal.record WHERE seq = 3"]),
        (3, ["UPDATE statehub_plan_journal.head SET seq = 4"]),
        (3, ["UPDATE statehub_plan_journal.head SET seq = 2"]),
    ],
    ids=["payload", "spacing", "no-json", "kind", "instant", "link", "middle", "all", "end", "head-up", "head-down"],
)
def test_a_change_behind_the_tools_back_is_named_by_record(
    store: Store, journal: Journal, seq: int, statements: list[str]
) -> None:
    """Even without the triggers every change shows, and the first wrong record is named."""
    for number in (1, 2, 3):
        record(journal, None, {"n": number})
    store.without_guards(*statements)
    if seq == 3 and "head SET seq = 4" in statements[0]:
        seq = 4  # the head promises a fourth record
    with pytest.raises(JournalTampered) as found:
        journal.verify()
    assert seq == found.value.seq
    assert f"at record {seq}" in str(found.value)


def test_nothing_is_appended_to_a_chain_whose_end_was_cut_off(store: Store, journal: Journal) -> None:
    """A journal that lost its last records must not be continued as if they had never been."""
    for _ in range(3):
        record(journal, None)
    store.without_guards("DELETE FROM statehub_plan_journal.record WHERE seq = 3")
    with pytest.raises(JournalTampered):
        record(journal, None)


def test_a_journal_of_a_newer_version_is_left_alone(store: Store, journal: Journal) -> None:
    """An older tool neither reads nor writes what it can't understand, and says which one can."""
    record(journal, None)
    store.execute("PRAGMA user_version = 2" if store.is_sqlite else "UPDATE statehub_plan_journal.meta SET version = 2")
    with pytest.raises(StatehubError) as refused:
        store.open()
    assert "journal-newer" == refused.value.code
