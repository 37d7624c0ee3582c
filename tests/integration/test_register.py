"""The decision register and the state row: one winner per term, epochs that fence, no guessing at commits."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import cast

import psycopg
import pytest

from statehub_plan.errors import Exit, OutcomeUnknown, StatehubError
from statehub_plan.model.plan import Identity, Step
from statehub_plan.postgres import register, state, transaction
from statehub_plan.postgres.connect import Connection, connect, connect_again, owned_by
from statehub_plan.postgres.fence import fence, pass_for_session
from statehub_plan.postgres.register import Outcome, burn, decide, read_decisions, take_over
from statehub_plan.steps import burn as burning
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage
from tests.integration.deciding import HOLD, PROOF, decide_proved, prove
from tests.integration.served_database import Served, demand_standby, eventually, proxied, serve

ROUNDS = 50
COMMIT = b"COMMIT\0"  # the whole statement: READ COMMITTED is none
ACTOR = Path(__file__).with_name("register_actor.py")


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors, with the tool installed."""
    served = serve(request.getfixturevalue(f"{request.param}_db"), schema="SELECT 1")
    with served.tool() as session:
        state.install(session)
    return served


@contextmanager
def _owned(served: Served, owner: str) -> Iterator[Connection]:
    """A session of the tool that acts for one owner."""
    with closing(connect(owned_by(served.tool_dsn, owner), purpose="test")) as connection:
        yield connection


@contextmanager
def _actor(dsn: str, run: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(ACTOR), dsn, run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert "ready" == _answer(process)
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert 0 == process.wait(20)


def _tell(process: subprocess.Popen[str], command: str) -> None:
    assert process.stdin is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_database_that_never_saw_the_tool_has_neither_state_nor_decisions(source_db: str) -> None:
    """Absence is an answer, not an error."""
    with closing(connect(source_db, purpose="test")) as session:
        assert state.read_state(session) is None
        assert () == read_decisions(session)


def test_a_decision_is_taken_once_and_known_again(served: Served) -> None:
    """The run that decided gets `already-ours` for the same wish; anybody else, or another wish, has lost."""
    with served.tool() as session:
        assert Outcome.WON == decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
        assert Outcome.ALREADY_OURS == decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
        assert Outcome.LOST == decide_proved(session, term=1, primary="elsewhere", run="run-a", epoch=1)
        assert Outcome.LOST == decide_proved(session, term=1, primary="there", run="run-b", epoch=1)
        assert Outcome.LOST == burn(session, term=1, run="run-a", epoch=1)
        (decision,) = read_decisions(session)
        assert (1, "there", "run-a") == (decision.term, decision.primary, decision.run)
        assert state.identity(session) == decision.identity


def test_a_burned_term_can_never_be_decided(served: Served) -> None:
    """Burning is what makes reopening the old primary safe: a zombie that decides later loses."""
    with served.tool() as session:
        assert Outcome.WON == burn(session, term=3, run="run-a", epoch=1)
        assert Outcome.ALREADY_OURS == burn(session, term=3, run="run-b", epoch=1)
        assert Outcome.LOST == decide_proved(session, term=3, primary="there", run="run-a", epoch=1)
        assert [(3, None)] == [(each.term, each.primary) for each in read_decisions(session)]


def test_a_frozen_side_takes_over_by_a_later_term_of_its_own(served: Served) -> None:
    """Only while it is frozen for the term that it overrules, and only once; not where it was retired."""

    def taken(run: str, frozen_for: int, term: int) -> Outcome:
        return take_over(session, term=term, frozen_for=frozen_for, primary="here", run=run, epoch=1)

    with served.tool() as session:
        state.install(session)
        assert Outcome.UNPROVED == taken("run-a", 3, 4)
        fence(session, term=3, run="run-a", epoch=1, primary="there")
        assert (Outcome.UNPROVED, Outcome.UNPROVED) == (taken("run-a", 2, 4), taken("run-a", 3, 3))
        assert (Outcome.WON, Outcome.ALREADY_OURS) == (taken("run-a", 3, 4), taken("run-a", 3, 4))
        assert Outcome.LOST == taken("run-b", 3, 4)
        assert [(4, "here")] == [(each.term, each.primary) for each in read_decisions(session)]
        state.retire(session, run="run-a", epoch=1)
        assert Outcome.UNPROVED == taken("run-a", 3, 5)


@pytest.mark.parametrize(
    "change",
    [
        "transfer_stage = 'prepared'",
        "transfer_stage = 'arrived', transfer_proof = NULL",
        "transfer_stage = NULL",
        "transfer_hold = 'another-hold'",
        "transfer_hold = NULL",
        "transfer_proof = 'schema:new'",
        "transfer_term = 2",
        "fence_term = 2",
        "fence_term = NULL",
    ],
)
def test_a_target_that_is_not_what_was_proved_is_not_decided_for(source_db: str, change: str) -> None:
    """Whoever emptied, refilled or opened the target since the proof stops the decision, in the same transaction."""
    served = serve(source_db, schema="SELECT 1")
    with served.tool() as session:
        state.install(session)
        prove(session, term=1)
        session.execute(f"UPDATE statehub_plan.state SET {change}".encode())
        outcome = decide(session, term=1, primary="there", run="run-a", epoch=1, hold=HOLD, proof=PROOF)
        assert (Outcome.UNPROVED, False) == (outcome, outcome.stands)
        assert () == read_decisions(session)
        assert Outcome.WON == burn(session, term=1, run="run-a", epoch=1)


def test_a_decision_that_stands_is_not_asked_for_its_proof_again(served: Served) -> None:
    """A run that goes on after the decision finds it, whatever has become of the transfer's record."""
    with served.tool() as session:
        decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
        session.execute("UPDATE statehub_plan.state SET transfer_stage = NULL, fence_term = NULL")
        again = decide(session, term=1, primary="there", run="run-a", epoch=1, hold=HOLD, proof=PROOF)
    assert Outcome.ALREADY_OURS == again


def test_terms_only_move_forward(served: Served) -> None:
    """After term 5, an older term can be neither decided nor burned, however late its run wakes up."""
    with served.tool() as session:
        assert Outcome.WON == decide_proved(session, term=5, primary="there", run="run-a", epoch=1)
        assert Outcome.STALE == decide_proved(session, term=4, primary="here", run="run-b", epoch=1)
        assert Outcome.STALE == burn(session, term=4, run="run-b", epoch=1)
        assert Outcome.WON == decide_proved(session, term=6, primary="here", run="run-b", epoch=1)


@pytest.mark.parametrize("rival", ["decide", "burn"])
def test_two_processes_race_and_exactly_one_wins(source_db: str, rival: str) -> None:
    """Fifty terms, two processes at once: one `won` each time, and the register says what the winner wanted."""
    served = serve(source_db, schema="SELECT 1")
    with served.tool() as session:
        state.install(session)
    wins = []
    with _actor(served.tool_dsn, "run-a") as first, _actor(served.tool_dsn, "run-b") as second:
        for term in range(1, ROUNDS + 1):
            _tell(first, f"decide {term}")
            _tell(second, f"{rival} {term}")
            wins.append((_answer(first), _answer(second)))
    assert [] == [pair for pair in wins if sorted(pair) != ["lost", "won"]]
    with served.tool() as session:
        recorded = {each.term: each.run for each in read_decisions(session)}
    expected = {term: "run-a" if pair[0] == "won" else "run-b" for term, pair in enumerate(wins, start=1)}
    assert expected == recorded


def test_a_newer_run_fences_an_older_one(served: Served) -> None:
    """A run that lost its lease finds a higher epoch in the database and can change nothing any more (exit 6)."""
    with served.tool() as zombie, served.tool() as newer:
        decide_proved(zombie, term=1, primary="there", run="zombie", epoch=4)
        burn(newer, term=2, run="newer", epoch=5)
        for act in (
            lambda: decide_proved(zombie, term=3, primary="there", run="zombie", epoch=4),
            lambda: burn(zombie, term=3, run="zombie", epoch=4),
            lambda: state.retire(zombie, run="zombie", epoch=4),
        ):
            with pytest.raises(StatehubError) as caught:
                act()
            assert ("fenced-out", Exit.LOCKED) == (caught.value.code, caught.value.exit_status)
        assert [1, 2] == [each.term for each in read_decisions(newer)]


def test_two_journals_that_issue_the_same_epoch_do_not_share_it(served: Served) -> None:
    """Whoever claims it first keeps it; the other one is fenced out until it comes with a higher epoch."""
    with _owned(served, "here") as first, _owned(served, "elsewhere") as second:
        burn(first, term=1, run="run-a", epoch=5)
        with pytest.raises(StatehubError) as caught:
            burn(second, term=2, run="run-a", epoch=5)
        assert ("fenced-out", Exit.LOCKED) == (caught.value.code, caught.value.exit_status)
        assert "here" in caught.value.what
        assert "run the command again" in caught.value.hint
        assert Outcome.WON == burn(first, term=2, run="run-a", epoch=5)
        assert Outcome.WON == burn(second, term=3, run="run-a", epoch=6)
        for epoch in (5, 6):
            with pytest.raises(StatehubError):
                burn(first, term=4, run="run-a", epoch=epoch)
            with pytest.raises(StatehubError):
                state.require_epoch(first, epoch)
        state.require_epoch(second, 6)


def test_an_owner_may_be_any_text(served: Served) -> None:
    """What would end or extend the option it travels in arrives as it was given, also in the session after a loss."""
    hostile = r"a run\ -c 'epoch'=9 \\ z"
    with _owned(served, hostile) as session:
        burn(session, term=1, run="run-a", epoch=1)
        with closing(connect_again(session, purpose="test")) as again:
            burn(again, term=2, run="run-a", epoch=1)
        assert (hostile,) == session.execute("SELECT owner FROM statehub_plan.state").fetchone()


def test_a_session_is_admitted_through_the_fence_for_its_owner_alone(served: Served) -> None:
    """The same epoch from another journal opens no door; the one who claimed it passes, and so does its script."""
    with _owned(served, "here") as first, _owned(served, "elsewhere") as second, served.tool() as script:
        fence(first, term=1, run="run-a", epoch=5)
        script.execute("CREATE TABLE public.kept (id integer); SELECT statehub_plan.fence_tables(true)")
        pass_for_session(first, epoch=5)
        pass_for_session(second, epoch=5)
        pass_for_session(script)
        first.execute("INSERT INTO public.kept VALUES (1)")
        script.execute("INSERT INTO public.kept VALUES (2)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            second.execute("INSERT INTO public.kept VALUES (3)")


def test_a_database_of_an_earlier_layout_is_brought_up_to_date_by_the_next_claim(served: Served) -> None:
    """A run that an older version left after its freeze can be carried on, or burned, by this one."""
    with served.tool() as older, _owned(served, "here") as session:
        burn(older, term=1, run="run-a", epoch=3)
        older.execute("ALTER TABLE statehub_plan.state DROP COLUMN owner")
        older.execute("ALTER TABLE statehub_plan.passage DROP COLUMN owner")
        older.execute("UPDATE statehub_plan.state SET layout = 'older'")
        assert 3 == state.claimed_epoch(served.tool_dsn)
        with pytest.raises(StatehubError):
            burn(session, term=2, run="run-a", epoch=3)
        assert Outcome.WON == burn(session, term=2, run="run-a", epoch=4)


def test_the_highest_epoch_is_read_or_nothing_is_known(served: Served) -> None:
    """For a new journal to begin above it; a database without the tool, or none at all, is no obstacle."""
    with served.tool() as session:
        assert 0 == state.claimed_epoch(served.tool_dsn)
        burn(session, term=1, run="run-a", epoch=7)
    assert 7 == state.claimed_epoch(served.tool_dsn)
    assert 0 == state.claimed_epoch(served.app_dsn)
    assert 0 == state.claimed_epoch("host=127.0.0.1 port=1 dbname=nowhere")
    served.admin("DROP SCHEMA statehub_plan CASCADE")
    assert 0 == state.claimed_epoch(served.tool_dsn)


def test_an_epoch_can_only_be_claimed_inside_a_transaction(served: Served) -> None:
    """Outside one its row lock would be gone at once; that is a defect of the caller."""
    with served.tool() as session, pytest.raises(ValueError):
        state.claim_epoch(session, 1)


def test_a_claim_does_not_wait_forever_for_another_runs_transaction(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row lock that stays is reported, with exit 6, instead of hanging."""
    monkeypatch.setattr(state, "_EPOCH_WAIT", "50ms")
    with served.tool() as other, served.tool() as session, other.transaction(), session.transaction():
        state.claim_epoch(other, 1)
        with pytest.raises(StatehubError) as caught, session.transaction():
            state.claim_epoch(session, 2)
        pid = other.info.backend_pid
    assert ("state-busy", Exit.LOCKED) == (caught.value.code, caught.value.exit_status)
    assert [
        f"session {pid} (statehub-plan test) has been idle in transaction for 0 s, waiting for Client/ClientRead"
    ] == [re.sub(r"for \d+ s", "for 0 s", line) for line in caught.value.details]


def test_a_commit_of_a_dead_run_that_waits_for_a_standby_is_named(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server process notices neither that nor any time-out, and keeps the row: what to do is said."""
    monkeypatch.setattr(state, "_EPOCH_WAIT", "50ms")
    with closing(connect(served.tool_dsn, purpose="dead")) as dead:
        commit = "BEGIN; SET LOCAL synchronous_commit = on; UPDATE statehub_plan.state SET epoch = epoch; COMMIT"
        thread = threading.Thread(target=dead.execute, args=[commit])
        demand_standby(served.admin_dsn, "nobody")
        try:
            thread.start()
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
            assert eventually(lambda: len(served.admin(waiting)) == 1)
            with served.tool() as session, pytest.raises(StatehubError) as caught, session.transaction():
                state.claim_epoch(session, 2)
        finally:
            demand_standby(served.admin_dsn, "")
            thread.join(20)
    (line,) = caught.value.details
    assert "IPC/SyncRep: bring a standby of synchronous_standby_names back" in line


def test_the_state_row_says_how_far_a_transfer_has_come(served: Served) -> None:
    """Stage, hold, term, source and proof are recorded in the caller's transaction, and cleared by `none`."""
    source = Identity(system_identifier="7", database="hub", database_oid=5)
    with served.tool() as session:
        with session.transaction():
            state.claim_epoch(session, 1)
            state.set_transfer(
                session, stage=TransferStage.PROVED, hold="h", term=2, source_identity=source, proof="sha256:00"
            )
        found = state.read_state(session)
        assert found is not None
        assert found.transfer == state.TransferMark(
            stage=TransferStage.PROVED, hold="h", term=2, source=source, proof="sha256:00"
        )
        with session.transaction():
            state.set_transfer(session, stage=TransferStage.NONE)
        cleared = state.read_state(session)
    assert cleared is not None
    assert cleared.transfer is None


def test_state_that_came_with_a_copy_is_not_believed(served: Served) -> None:
    """A database made from a dump or template carries another one's state row; that must not count."""
    served.admin("UPDATE statehub_plan.state SET system_identifier = '1'")
    with served.tool() as session:
        found = state.read_state(session)
        assert found is not None
        assert found.copied
        with pytest.raises(StatehubError) as caught:
            decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
    assert "state-copied" == caught.value.code


def test_the_tools_tables_are_closed_to_everybody_else(served: Served) -> None:
    """Also where the owner's default privileges hand every new object to the application."""
    served.admin("DROP SCHEMA statehub_plan CASCADE")
    for kind in ("TABLES", "FUNCTIONS", "SCHEMAS"):
        served.admin(f"ALTER DEFAULT PRIVILEGES FOR ROLE {served.tool_role} GRANT ALL ON {kind} TO {served.app_role}")
    with served.tool() as session:
        state.install(session)
    for statement in (
        "INSERT INTO statehub_plan.passage VALUES (1, now(), 1)",
        "UPDATE statehub_plan.state SET epoch = 9",
        "SELECT statehub_plan.admit()",
        "SELECT statehub_plan.fence_tables(false)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            served.app(statement)


def test_installing_again_and_at_the_same_time_is_harmless(served: Served) -> None:
    """The second installation finds everything there; what was recorded stays."""
    with served.tool() as session:
        decide_proved(session, term=1, primary="there", run="run-a", epoch=3)
        session.execute("UPDATE statehub_plan.state SET layout = 'older'")
        state.install(session)
        state.install(session)
        found = state.read_state(session)
        assert found is not None
        assert (3, 1) == (found.epoch, len(read_decisions(session)))


def test_installing_without_the_privilege_names_the_grant(source_db: str) -> None:
    """What is missing comes with the statement that gives it."""
    served = serve(source_db, schema="SELECT 1")
    with closing(connect(served.app_dsn, purpose="test")) as session, pytest.raises(StatehubError) as caught:
        state.install(session)
    assert "privilege-missing" == caught.value.code
    assert f'GRANT CREATE ON DATABASE "{source_db.rsplit("/", 1)[1]}" TO "{served.app_role}"' in caught.value.hint


def test_a_decision_whose_answer_got_lost_is_found_by_looking(served: Served) -> None:
    """The connection breaks after COMMIT reached the server: the register is read again, and says `won`."""
    with proxied(served.tool_dsn) as (proxy, dsn), closing(connect(dsn, purpose="test")) as session:
        proxy.cut_after = COMMIT
        assert Outcome.WON == decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
    with served.tool() as session:
        assert [(1, "there")] == [(each.term, each.primary) for each in read_decisions(session)]


def test_a_decision_whose_answer_never_comes_is_found_by_looking(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a tunnel whose far end is gone nothing is refused and nothing answered, and no keepalive notices: the
    session is hung up in time, and the register read once the tunnel is back."""
    for name, value in (("STANDBY_WAIT_S", 0.2), ("_CANCEL_S", 0.2), ("_CANCEL_AGAIN_S", 0.05)):
        monkeypatch.setattr(transaction, name, value)
    with proxied(served.tool_dsn) as (proxy, dsn), closing(connect(dsn, purpose="test")) as session:
        proxy.hush_after = COMMIT
        back = threading.Timer(2.0, lambda: setattr(proxy, "hushed", False))
        back.start()
        assert Outcome.WON == decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
        back.join()
    with served.tool() as session:
        assert [(1, "there")] == [(each.term, each.primary) for each in read_decisions(session)]


def test_a_decision_that_never_reached_the_server_did_not_take_place(served: Served) -> None:
    """The connection breaks before COMMIT arrives: said so, nothing decided, and nothing was tried twice."""
    with proxied(served.tool_dsn) as (proxy, dsn), closing(connect(dsn, purpose="test")) as session:
        proxy.cut_before = COMMIT
        with pytest.raises(StatehubError) as caught:
            decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
    assert "connection-lost" == caught.value.code
    with served.tool() as session:
        assert () == read_decisions(session)
        assert Outcome.WON == decide_proved(session, term=1, primary="there", run="run-b", epoch=1)


def test_a_decision_that_nobody_can_look_up_is_unknown(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither yes nor no can be had: exit 7, and nothing is tried again."""
    monkeypatch.setattr(transaction, "OBSERVE_FOR_S", 0.2)
    with proxied(served.tool_dsn) as (proxy, dsn), closing(connect(dsn, purpose="test")) as session:
        proxy.refuse_new = True
        proxy.cut_after = COMMIT
        with pytest.raises(OutcomeUnknown) as caught:
            decide_proved(session, term=1, primary="there", run="run-a", epoch=1)
    assert ("commit-unknown", Exit.OUTCOME_UNKNOWN) == (caught.value.code, caught.value.exit_status)


@pytest.mark.parametrize("standby", ["", "nobody"], ids=["there", "lost"])
def test_a_term_is_burned_on_a_target_that_was_made_anew(
    source_db: str, target_db: str, standby: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its storage was lost between freeze and decision, and with it the register: the old side must not stay shut for
    that, nor for a standby of the new one that says nothing."""
    monkeypatch.setattr(transaction, "STANDBY_WAIT_S", 0.5)
    old, new = serve(source_db), serve(target_db, schema="SELECT 1")
    with old.tool() as session:
        fence(session, term=1, run="r", epoch=1)
    told: list[str] = []
    stage = SimpleNamespace(
        subject=lambda _step: "old",
        away=lambda _name: "new",
        dsn=lambda name: {"old": old, "new": new}[name].tool_dsn,
        run="r",
        epoch=1,
        later=told.append,
    )
    stage.standing = MethodType(Stage.standing, stage)
    demand_standby(new.admin_dsn, standby)
    try:
        burning.execute(cast(Stage, stage), cast(Step, None))
    finally:
        demand_standby(new.admin_dsn, "")
    with new.tool() as session:
        assert [(1, None)] == [(one.term, one.primary) for one in read_decisions(session)]
    assert bool(standby) == any("no synchronous standby has confirmed" in line for line in told)


def test_decisions_are_durable_whatever_the_role_prefers(served: Served) -> None:
    """`synchronous_commit = off` of a role would let a crash forget the point of no return."""
    served.admin(f"ALTER ROLE {served.tool_role} SET synchronous_commit = off")
    with served.tool() as session:
        assert ("local",) == session.execute("SELECT current_setting('synchronous_commit')").fetchone()
        seen = transaction.commit_once(
            session,
            lambda conn: conn.execute("SELECT current_setting('synchronous_commit')").fetchone(),
            lambda conn, _: True,
            what="nothing",
        )
    assert ("on",) == seen


@pytest.mark.parametrize(("setting", "awaited"), [("remote_apply", "remote_apply"), ("local", "on"), ("on", "on")])
def test_decisions_await_no_less_than_the_server_does(served: Served, setting: str, awaited: str) -> None:
    """A stricter setting than `on` stays; a laxer one is not enough for what must survive a failover."""
    served.admin(f"ALTER ROLE {served.tool_role} SET synchronous_commit = {setting}")
    with served.tool() as session, session.transaction():
        transaction.await_standby(session)
        assert (awaited,) == session.execute("SELECT current_setting('synchronous_commit')").fetchone()


def test_only_what_must_survive_a_failover_waits_for_a_standby(served: Served) -> None:
    """How far a transfer has come, under a hold above all: a lost standby would keep writers waiting without end."""
    demand_standby(served.admin_dsn, "nobody")
    try:
        with served.tool() as session:
            with transaction.confirmed(session, what="it", standby_wait_s=1), session.transaction():
                state.claim_epoch(session, 1)
                state.set_transfer(session, stage=TransferStage.PROVED, hold="h", term=2, proof="sha256:00")
            with pytest.raises(transaction.StandbySilent):
                _claim_confirmed(session, 2)
            assert 2 == state.claimed_epoch(served.tool_dsn)
    finally:
        demand_standby(served.admin_dsn, "")


def _claim_confirmed(session: Connection, epoch: int) -> None:
    with transaction.confirmed(session, what="it", standby_wait_s=1), session.transaction():
        transaction.await_standby(session)
        state.claim_epoch(session, epoch)


def test_a_transaction_that_failed_inside_is_not_called_committed(served: Served) -> None:
    """The server answers ROLLBACK to the COMMIT of a failed transaction; that is no commit."""

    def work(session: Connection) -> None:
        with suppress(psycopg.Error):
            session.execute("SELECT 1 / 0")

    with served.tool() as session, pytest.raises(StatehubError) as caught:
        transaction.commit_once(session, work, lambda conn, _: True, what="nothing")
    assert "not-committed" == caught.value.code


def test_a_session_that_is_busy_or_gone_begins_nothing(served: Served) -> None:
    """Somebody else's open transaction is never committed along; a lost session is told as lost."""
    with served.tool() as session, session.transaction():
        with pytest.raises(ValueError):
            burn(session, term=1, run="run-a", epoch=1)
        session.execute("SELECT 1")
    with served.tool() as session:
        served.admin("SELECT pg_terminate_backend(%s, 5000)", session.info.backend_pid)
        with pytest.raises(StatehubError) as caught:
            burn(session, term=1, run="run-a", epoch=1)
    assert "connection-lost" == caught.value.code


def test_only_won_and_already_ours_stand() -> None:
    """Whoever asks `stands` never takes a lost race for a decision."""
    assert {Outcome.WON, Outcome.ALREADY_OURS} == {outcome for outcome in register.Outcome if outcome.stands}
