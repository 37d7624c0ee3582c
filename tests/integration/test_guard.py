"""The slot of a fallback goes before the primary's disk does: on record, in plain sight, unnoticed by who writes."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from statehub_plan.abstraction import Grounded
from statehub_plan.cli.workspace import Workspace
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.history import journal_facts
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Plan, Step
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.model.stream import StreamState
from statehub_plan.planning import make_plan
from statehub_plan.postgres import fence, state
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.guard import Dropped, guard_slot
from statehub_plan.registers import Register
from statehub_plan.schemas import problems
from statehub_plan.steps import stabilize
from statehub_plan.steps.guarding import guard_fallback
from statehub_plan.steps.stage import Stage
from statehub_plan.streams import stream_between
from statehub_plan.world import Role, Term, World
from tests.integration.applying import ran
from tests.integration.observing import now
from tests.integration.served_database import eventually
from tests.integration.streaming import Ends, ends
from tests.unit.facts import DOCUMENT, record

GB = 1 << 30
TIGHT: dict[str, Any] = {
    "gates": DOCUMENT["spec"]["gates"],
    "desired": {
        "primary": "new",
        "fallback": {
            "endpoint": "old",
            "mode": "following",
            "limits": {"adviseRetained": "1kB", "dropSlotAtRetained": "1kB"},
        },
    },
}


@pytest.fixture
def followed(tmp_path: Path, source_db: str, target_db: str) -> Iterator[Ends]:
    """A stream back into the old side, streaming; the plan's limit for its slot is 1 kB."""
    there = ends(tmp_path, source_db, target_db, **TIGHT)
    there.make_slot()
    there.subscribe(enabled=True)
    there.becomes(StreamState.STREAMING)
    yield there
    there.unsubscribe()


@pytest.fixture
def back(followed: Ends) -> Iterator[Ends]:
    """The same beside a transaction that is not over: what is written now the slot keeps, however far it is read."""
    with closing(psycopg.connect(followed.sender_dsn)) as writing:
        writing.execute("INSERT INTO public.t (note) VALUES ('not yet')")
        yield followed


@pytest.fixture
def idle(tmp_path: Path, source_db: str, target_db: str) -> Ends:
    """A slot that nobody reads."""
    there = ends(tmp_path, source_db, target_db, **TIGHT)
    there.make_slot()
    return there


def slots_of(there: Ends) -> set[str]:
    """Names of all slots on the sender's server."""
    with there.sending() as session:
        return {row[0] for row in session.execute("SELECT slot_name FROM pg_replication_slots").fetchall()}


def _guard(there: Ends, **given: Any) -> Dropped | None:
    limits = {"retained_limit_bytes": 8 * GB, "disk_free_bytes": None, "disk_limit_bytes": 4 * GB} | given
    with there.sending() as session:
        return guard_slot(session, name=there.name(), **limits)


def _pile_up(there: Ends) -> None:
    """More than a segment of WAL that only the slot still needs."""
    with closing(psycopg.connect(there.sender_dsn, autocommit=True)) as session:
        for _ in range(2):
            there.write()
            session.execute("SELECT pg_switch_wal()")
        session.execute("CHECKPOINT")


@contextmanager
def _writing(there: Ends) -> Iterator[list[int]]:
    """Somebody who writes on the sender all the while; the acknowledged ids, or a failure with the writer's error."""
    acknowledged: list[int] = []
    failed: list[psycopg.Error] = []
    ending = threading.Event()

    def write() -> None:
        try:
            with psycopg.connect(there.sender_dsn, autocommit=True) as session:
                while not ending.is_set():
                    row = session.execute("INSERT INTO public.t (note) VALUES ('w') RETURNING id").fetchone()
                    assert row is not None
                    acknowledged.append(row[0])
        except psycopg.Error as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        ending.set()
        thread.join()
    assert [] == failed


def test_below_every_limit_nothing_happens(back: Ends) -> None:
    """A slot that is being read stays, whatever the disk, as long as its going would free nothing."""
    assert _guard(back) is None
    assert _guard(back, disk_free_bytes=5 * GB) is None
    back.becomes(StreamState.STREAMING)


def test_a_slot_at_its_limit_is_dropped_while_everybody_writes_on(back: Ends) -> None:
    """Its reader is ended, its slot is gone, the fallback is lost for good; the primary's writers notice nothing."""
    with _writing(back) as acknowledged:
        assert eventually(lambda: len(acknowledged) > 10)
        dropped = _guard(back, retained_limit_bytes=1)
        after = len(acknowledged)
        assert eventually(lambda: len(acknowledged) > after + 10)
    assert dropped is not None
    assert ("retained", 1, None) == (dropped.limit, dropped.limit_bytes, dropped.disk_free_bytes)
    assert dropped.retained_bytes >= 1
    assert back.name() not in slots_of(back)
    assert StreamState.LOST is back.becomes(StreamState.LOST).state


def test_a_disk_at_its_limit_costs_the_slot_once_that_would_free_something(idle: Ends) -> None:
    """What the server keeps for its own recovery would not go with the slot: the way back is not given up for it."""
    assert _guard(idle, disk_free_bytes=4 * GB) is None
    _pile_up(idle)
    assert _guard(idle, disk_free_bytes=4 * GB + 1) is None
    dropped = _guard(idle, disk_free_bytes=4 * GB)
    assert dropped is not None
    assert ("disk-free", 4 * GB, 4 * GB) == (dropped.limit, dropped.limit_bytes, dropped.disk_free_bytes)
    assert idle.name() not in slots_of(idle)
    assert _guard(idle, retained_limit_bytes=1) is None


def test_only_the_tools_own_slots_of_this_very_database_are_dropped(idle: Ends) -> None:
    """Whatever else keeps WAL is somebody's."""
    with idle.sending() as session, pytest.raises(ValueError, match="not a slot of the tool's"):
        guard_slot(session, name="debezium", retained_limit_bytes=1, disk_free_bytes=None, disk_limit_bytes=1)
    with closing(connect(idle.sender_dsn, purpose="test")) as session:
        elsewhere = sql.SQL("SELECT * FROM pg_replication_slots WHERE slot_name = {}").format(sql.Literal(idle.name()))
        assert 1 == len(session.execute(elsewhere).fetchall())
    other = idle.sender_dsn.rsplit("/", 1)[0] + "/postgres"
    with closing(connect(other, purpose="test")) as session:
        found = guard_slot(session, name=idle.name(), retained_limit_bytes=1, disk_free_bytes=0, disk_limit_bytes=1)
    assert found is None
    assert idle.name() in slots_of(idle)


def test_whoever_objects_beforehand_keeps_the_slot(idle: Ends) -> None:
    """A lease that was lost, a record that could not be written: the drop does not happen."""

    def refuse(_: Dropped) -> None:
        raise StatehubError(code="lease-lost", what="another run", hint="", exit_status=Exit.LOCKED)

    with idle.sending() as session, pytest.raises(StatehubError):
        guard_slot(
            session,
            name=idle.name(),
            retained_limit_bytes=1,
            disk_free_bytes=None,
            disk_limit_bytes=1,
            before_drop=refuse,
        )
    assert idle.name() in slots_of(idle)


# On each look of a stabilizing run


class _Run:
    """A run that stabilizes the new primary, with a journal in a list."""

    def __init__(self, there: Ends) -> None:
        self.there = there
        self.seen = there.observe()
        self.notes: list[str] = []
        self.records: list[Record] = []
        self.lease_lost = False
        self.plan = _plan(there, self.seen)

    def stage(self, **changed: Any) -> Stage:
        """What the step may use."""
        given: dict[str, Any] = {
            "plan": self.plan,
            "base_dir": self.there.directory,
            "home": self.there.directory,
            "run": "r",
            "epoch": 1,
            "owner": "r.1",
            "now": now,
            "record_fact": self._record,
            "check_lease": self._check_lease,
            "look": lambda: (self.seen, ()),
            "records": lambda: tuple(self.records),
            "reporter": self,
            **changed,
        }
        return Stage(**given)

    def guard(
        self, *, world: World | None = None, decided: int = 1, remembered: bool = True, **changed: Any
    ) -> Dropped | None:
        """One look."""
        register = Register(primary="new", basis="by the test", decided=decided, next_term=2, burned=frozenset())
        grounded = Grounded(world or World(primary=Role.NEW, term=Term.SETTLED), "old", "new", register)
        return guard_fallback(self.stage(**changed), self.seen, grounded, remembered=remembered)

    def step(self) -> Step:
        """The step that is carried out."""
        return next(step for step in self.plan.steps if step.kind is StepKind.STABILIZE)

    def states(self) -> list[Any]:
        """What is on record."""
        return [one.payload["state"] for one in self.records]

    def note(self, text: str) -> None:
        """The reporter's line."""
        self.notes.append(text)

    def _record(self, kind: str, state_of_it: str, payload: dict[str, Any]) -> None:
        said = {**payload, "kind": kind, "state": state_of_it}
        self.records.append(record(len(self.records) + 1, RecordKind.FACT, said))

    def _check_lease(self) -> None:
        if self.lease_lost:
            raise StatehubError(code="lease-lost", what="another run has it", hint="", exit_status=Exit.LOCKED)


def _plan(there: Ends, seen: Observation) -> Plan:
    return make_plan(
        there.plan,
        observation=seen,
        evidence=(),
        now=now(),
        author="bob@ops",
        tool_version="0",
        spec_digest="sha256:0",
        spec_path=str(there.directory / "plan.yaml"),
    )


def test_a_dropped_slot_is_recorded_before_and_after_told_and_seen_ever_after(back: Ends) -> None:
    """`lossless` turns false in the next observation, with the reason that only the journal knows."""
    run = _Run(back)
    back.write(rows=100)
    dropped = run.guard()
    assert dropped is not None
    assert ["begun", "passed"] == run.states()
    assert dropped.retained_bytes == run.records[-1].payload["retained_bytes"]
    assert int("85899345920") == run.records[-1].payload["disk_free_bytes"]
    assert ["THE WAY BACK IS NO LONGER LOSSLESS"] == [note.partition(":")[0] for note in run.notes]
    facts = journal_facts(tuple(run.records), now())
    assert ["new.slot_dropped"] == [fact.id for fact in facts]
    seen = back.observe(deep=False)
    merged = Observation(
        observed_at=seen.observed_at, facts=tuple(sorted((*seen.facts, *facts), key=lambda fact: fact.id))
    )
    lost = stream_between(merged, "old", "new")
    assert (StreamState.LOST, False) == (lost.state, lost.lossless)
    assert "it kept" in lost.why
    assert lost.since is not None
    assert run.guard() is None


def away(there: Ends) -> None:
    """The old side's server is not to be reached any more."""
    (there.directory / "old.dsn").write_text("host=127.0.0.1 port=1 dbname=x user=x")


def create_slot_of_a_stranger(session: Connection) -> None:
    """One more of the tool's slots on the sender, that nobody reads."""
    session.execute("SELECT pg_create_logical_replication_slot('statehub_plan_1_1', 'pgoutput')")


def test_a_receiver_that_is_away_is_guarded_by_who_the_plan_knew_it_to_be(back: Ends) -> None:
    """Its being away is the very reason for WAL to pile up."""
    run = _Run(back)
    away(back)
    run.seen = back.observe(deep=False)
    back.write(rows=100)
    assert run.guard() is not None
    assert back.name() not in slots_of(back)


def test_a_receiver_that_was_away_from_the_first_look_on_is_guarded_by_what_is_left_for_it(back: Ends) -> None:
    """A plan that was made meanwhile, as a timer makes one every time, does not know it either."""
    away(back)
    run = _Run(back)
    assert not run.plan.identities["old"].known
    back.write(rows=100)
    assert run.guard() is not None
    assert back.name() not in slots_of(back)


def test_of_two_slots_nobody_guesses_which_one_is_for_a_receiver_that_is_away(followed: Ends) -> None:
    """It is told and recorded, for a person."""
    away(followed)
    with followed.sending() as session:
        create_slot_of_a_stranger(session)
    try:
        run = _Run(followed)
        followed.write(rows=100)
        assert run.guard() is None
        assert ["failed"] == run.states()
        assert "could not be guarded" in run.notes[-1]
        assert followed.name() in slots_of(followed)
    finally:
        with followed.sending() as session:
            session.execute("SELECT pg_drop_replication_slot('statehub_plan_1_1')")


@pytest.mark.parametrize(
    "world",
    [
        World(primary=Role.OLD, term=Term.SETTLED),
        World(primary=Role.NEW, term=Term.PENDING),
        World(primary=Role.UNKNOWN, term=Term.UNKNOWN),
    ],
    ids=["before the move", "while a decision is pending", "unknown"],
)
def test_the_slot_of_a_cutover_under_way_is_never_touched(idle: Ends, world: World) -> None:
    """Only a stream into a fallback may be given up."""
    run = _Run(idle)
    assert run.guard(world=world) is None
    assert idle.name() in slots_of(idle)
    assert [] == run.records


def test_a_frozen_fallback_has_no_slot_to_guard(idle: Ends) -> None:
    """What is there under that name is an orphan, and for a person to drop."""
    run = _Run(idle)
    spec = run.plan.spec.spec
    frozen = spec.desired.fallback.model_copy(update={"mode": "frozen"})
    desired = spec.desired.model_copy(update={"fallback": frozen})
    document = run.plan.spec.model_copy(update={"spec": spec.model_copy(update={"desired": desired})})
    run.plan = run.plan.model_copy(update={"spec": document})
    assert run.guard() is None
    assert idle.name() in slots_of(idle)


def test_a_run_that_lost_its_lease_or_its_epoch_drops_nothing(idle: Ends) -> None:
    """Whoever has taken over decides."""
    run = _Run(idle)
    run.lease_lost = True
    idle.write(rows=100)
    with pytest.raises(StatehubError, match="another run has it"):
        run.guard()
    run.lease_lost = False
    with idle.sending() as session, session.transaction():
        state.claim_epoch(session, 2)
    with pytest.raises(StatehubError, match="newer run"):
        run.guard()
    assert idle.name() in slots_of(idle)
    assert [] == run.records


def test_a_role_that_may_not_drop_it_ends_nothing_and_says_so(idle: Ends) -> None:
    """The stabilization goes on; the person has to do it."""
    run = _Run(idle)
    idle.write(rows=100)
    with idle.sending() as session:
        session.execute("CREATE ROLE powerless LOGIN PASSWORD 'powerless'")
        session.execute("GRANT USAGE ON SCHEMA statehub_plan TO powerless")
        session.execute("GRANT SELECT ON ALL TABLES IN SCHEMA statehub_plan TO powerless")
        session.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA statehub_plan TO powerless")
    (idle.directory / "new.dsn").write_text(make_conninfo(idle.sender_dsn, user="powerless", password="powerless"))
    assert run.guard() is None
    assert ["begun", "failed"] == run.states()
    assert "could not be guarded" in run.notes[-1]
    assert idle.name() in slots_of(idle)
    (fact,) = journal_facts(tuple(run.records), now())
    assert isinstance(fact.value, dict)
    assert "begun" == fact.value["state"]


def test_a_disk_command_that_fails_is_told_and_the_other_limit_still_counts(idle: Ends) -> None:
    """No answer about the disk is no reason to let the slot grow."""
    run = _Run(idle)
    spec = run.plan.spec.spec
    database = spec.endpoints["new"].database.model_copy(update={"disk_free": ("false",)})
    endpoints = spec.endpoints | {"new": spec.endpoints["new"].model_copy(update={"database": database})}
    document = run.plan.spec.model_copy(update={"spec": spec.model_copy(update={"endpoints": endpoints})})
    run.plan = run.plan.model_copy(update={"spec": document})
    idle.write(rows=100)
    assert run.guard() is not None
    assert "how much disk new has left is not known" in run.notes[0]


# By a run that stabilizes, and by a timer


def decided_for_new(there: Ends) -> None:
    """The register says that the new side is primary."""
    with there.sending() as session:
        session.execute(
            "INSERT INTO statehub_plan.decision (term, primary_endpoint, identity, run) VALUES (1, 'new', '{}', 'r')"
        )


def test_a_stabilizing_run_guards_on_each_look(back: Ends) -> None:
    """Whatever else the look finds, the slot is looked after."""
    decided_for_new(back)
    back.write(rows=100)
    run = _Run(back)
    with pytest.raises(StatehubError):
        stabilize.execute(run.stage(), run.step())
    kinds = [(one.payload["kind"], one.payload["state"]) for one in run.records]
    assert [("slot-dropped", "begun"), ("slot-dropped", "passed")] == kinds[:2]
    assert "stabilize" == kinds[2][0]


def guarded_document(back: Ends) -> Path:
    """The document that a timer guards, after the move."""
    with back.receiving() as session:
        fence.install(session)
        fence.fence(session, term=1, run="r", epoch=1, primary="new")
    decided_for_new(back)
    document = back.directory / "plan.yaml"
    document.write_text(json.dumps(back.plan.model_dump(mode="json", by_alias=True, exclude_none=True)))
    return document


def test_a_timer_guards_for_as_long_as_the_fallback_follows(back: Ends) -> None:
    """`guard` takes the lease, drops what has to go, and afterwards everybody sees why."""
    document = guarded_document(back)
    back.write(rows=100)
    done = ran("guard", document, "--json")
    assert Exit.DONE == done.status, done.told
    assert () == problems("output-guard", done.json)
    assert ("old", back.name(), "lost") == (
        done.json["fallback"],
        done.json["dropped"]["slot"],
        done.json["stream"]["state"],
    )
    again = ran("guard", document)
    assert (Exit.DONE, "WAY BACK NOT LOSSLESS: old does not follow new") == (again.status, again.out.partition(",")[0])
    seen = ran("observe", document, "--json")
    assert () == problems("output-observe", seen.json)
    assert False is seen.json["streams"]["old"]["lossless"]
    assert "it kept" in seen.json["streams"]["old"]["why"]


def test_a_timer_tells_of_a_table_that_is_not_in_the_stream_and_has_guarded_the_disk(
    tmp_path: Path, source_db: str, target_db: str
) -> None:
    """Exit 0, as its own job is done; what it cannot mend is said where a timer's mail takes it from."""
    there = ends(tmp_path, source_db, target_db, gates=DOCUMENT["spec"]["gates"])
    there.make_slot()
    there.subscribe(enabled=True)
    document = guarded_document(there)
    with psycopg.connect(there.sender_dsn, autocommit=True) as session:
        session.execute("CREATE TABLE public.late (id bigint PRIMARY KEY)")
    for options in ((), ("--json",)):
        done = ran("guard", document, *options)
        assert Exit.DONE == done.status
        assert "the way back is not lossless: 1 table of new is not in the stream: public.late" in done.err
    there.unsubscribe()


def test_a_timer_guards_while_the_fallback_is_away(back: Ends) -> None:
    """Which is when WAL piles up: the workstation is switched off, and cron goes on."""
    document = guarded_document(back)
    away(back)
    back.write(rows=100)
    done = ran("guard", document, "--json")
    assert Exit.DONE == done.status, done.told
    assert back.name() == done.json["dropped"]["slot"]
    assert back.name() not in slots_of(back)
    again = " ".join(ran("guard", document).out.split())
    assert again.startswith("WAY BACK NOT LOSSLESS: old does not follow new, since "), again
    assert "because its slot was dropped: it kept " in again


def test_a_timer_that_cannot_see_the_primary_says_that_it_guards_nothing(back: Ends) -> None:
    """A look that says nothing must not look like one that found nothing."""
    document = guarded_document(back)
    (back.directory / "new.dsn").write_text("host=127.0.0.1 port=1 dbname=x user=x")
    refused = ran("guard", document, "--json")
    assert (Exit.ERROR, "not-guarded") == (refused.status, refused.json["error"]["code"])
    assert "who is primary is not known" in refused.json["error"]["details"][0]


DAMAGE = {
    "in the middle": "UPDATE record SET run = 'another' WHERE seq = 1",
    "at its end": "DELETE FROM record WHERE seq = (SELECT max(seq) FROM record)",
    "no record": "UPDATE record SET payload = ' ' || payload WHERE seq = 1",
}


def _damage(document: Path, how: str) -> None:
    """Two records, and what somebody made of them behind the tool's back."""
    with Workspace.load(document) as workspace:
        fact = {"service": workspace.service, "plan_name": "p", "run": "", "kind": RecordKind.FACT, "step": None}
        for _ in range(2):
            workspace.journal.append(None, **fact, payload={"kind": "x", "state": "y"}, at=now())  # type: ignore[arg-type]
        location = workspace.journal.location
    with closing(sqlite3.connect(location)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute(DAMAGE[how])
        db.commit()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_timer_tells_of_a_journal_that_was_changed_and_saves_the_disk_first(back: Ends, how: str) -> None:
    """As every run does, it checks the chain; unlike a run it does not stop there, wherever the damage is."""
    document = guarded_document(back)
    back.write(rows=100)
    _damage(document, how)
    refused = ran("guard", document, "--json")
    error = refused.json["error"]
    assert (Exit.ERROR, "journal-tampered") == (refused.status, error["code"])
    assert back.name() not in slots_of(back)
    told, *unrecorded = error["details"]
    assert f"the slot {back.name()} on new was dropped, because it kept " in told
    lost = [f"slot-dropped {state} is not on record" for state in ("begun", "passed")] if how == "at its end" else []
    assert lost == unrecorded


@pytest.mark.parametrize("how", DAMAGE)
def test_a_timer_with_a_damaged_journal_that_cannot_see_the_primary_guards_nothing(back: Ends, how: str) -> None:
    """It says that first, and why; the damage is one thing to mend of two."""
    document = guarded_document(back)
    _damage(document, how)
    (back.directory / "new.dsn").write_text("host=127.0.0.1 port=1 dbname=x user=x")
    refused = ran("guard", document, "--json")
    assert (Exit.ERROR, "not-guarded") == (refused.status, refused.json["error"]["code"])
    unknown, damage = refused.json["error"]["details"]
    assert "who is primary is not known" in unknown
    assert "was changed behind the tool's back" in damage


def test_with_a_damaged_journal_only_a_decision_says_whose_slot_may_go(back: Ends) -> None:
    """Access paths say the same of a side whose register forgot that it was left: its slot may be the way back."""
    run = _Run(back)
    back.write(rows=100)
    assert run.guard(decided=0, remembered=False) is None
    assert (["failed"], True) == (run.states(), back.name() in slots_of(back))
    assert "rests on no decision" in run.notes[-1]
    assert run.guard(remembered=False) is not None


def test_a_timer_goes_by_what_it_sees_under_the_lease(
    back: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the old side is decided on before the lease is had, while `git` is asked who wants it: what feeds that side
    is the stream of a move then, and not for a guard to end."""
    document = guarded_document(back)
    back.write(rows=100)
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    decision = "INSERT INTO statehub_plan.decision (term, primary_endpoint, identity, run) VALUES (2, 'old', '{}', 'r')"
    writable = make_conninfo(back.receiver_dsn, options="-c default_transaction_read_only=off")
    deciding = f"import psycopg\nwith psycopg.connect({writable!r}) as session: session.execute({decision!r})"
    git.write_text(f"#!/bin/sh\n{shlex.join((sys.executable, '-c', deciding))}\n")
    git.chmod(0o700)
    monkeypatch.delenv("STATEHUB_PLAN_AUTHOR", raising=False)
    monkeypatch.setenv("PATH", f"{git.parent}{os.pathsep}{os.environ['PATH']}")
    done = ran("guard", document, "--json")
    error = done.json["error"]
    assert (Exit.ERROR, "wrong-side-accepts-writes") == (done.status, error["code"])
    assert "primary is old (decision term 2), which is frozen" in error["what"]
    assert not any("was dropped" in line for line in error["details"])
    assert back.name() in slots_of(back)


def test_a_timer_waits_for_nobody_who_has_the_lease(back: Ends) -> None:
    """A run that is under way looks after the slot itself."""
    document = guarded_document(back)
    back.write(rows=100)
    with Workspace.load(document) as workspace:
        lease = workspace.journal.acquire(workspace.service, "somebody", ttl_s=30, now=now())
        refused = ran("guard", document)
        workspace.journal.release(lease)
    assert Exit.LOCKED == refused.status
    assert back.name() in slots_of(back)
