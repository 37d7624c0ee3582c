"""The hold on real servers: reads go on, writers wait, whatever is in the way is named, and death releases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.components import client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import Freeze
from statehub_plan.postgres import fence, state
from statehub_plan.postgres.hold import Hold, HoldEvent, HoldLimits, HoldLost, held_by, limits_of
from statehub_plan.world import Writes
from tests.integration.served_database import TABLES, InBackground, Served, eventually, proxied, serve

ACTOR = Path(__file__).with_name("hold_actor.py")
COMMIT = b"COMMIT\0"
QUICK = HoldLimits(lock_timeout_s=10, session_grace_s=0.1, writer_wait_s=30, max_duration_s=60)
INSERT = "INSERT INTO public.tasks (plan_id, note) VALUES (1, 'waited')"


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors, with sleeping fences."""
    return _prepared(request.getfixturevalue(f"{request.param}_db"))


@pytest.fixture
def oldest(source_db: str) -> Served:
    """The same on the lower major alone, where nothing depends on the version."""
    return _prepared(source_db)


def _prepared(dsn: str) -> Served:
    served = serve(dsn)
    with served.tool() as session:
        fence.install(session)
    return served


class Heard:
    """Collects a hold's events."""

    def __init__(self) -> None:
        self.events: list[HoldEvent] = []

    def __call__(self, event: HoldEvent) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[HoldEvent]:
        """The events of this kind."""
        return [event for event in self.events if event.kind == kind]


def _take(
    served: Served, limits: HoldLimits = QUICK, *, epoch: int = 1, dsn: str = "", heard: Heard | None = None
) -> Hold:
    return Hold.take(
        dsn or served.tool_dsn,
        hold_id=f"h{epoch}",
        run=f"run-{epoch}",
        epoch=epoch,
        limits=limits,
        on_event=heard or Heard(),
    )


@contextmanager
def _session(dsn: str) -> Iterator[psycopg.Connection]:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        yield connection


@contextmanager
def _actor(served: Served, limits: HoldLimits = QUICK) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(ACTOR), served.tool_dsn, limits.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert "preparing" == _line(process)
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _waiting(served: Served, statement: str) -> InBackground:
    writer = InBackground(served.app_dsn, statement)
    assert eventually(lambda: not writer.running or writer.waits(served.admin_dsn))
    return writer


def _hold_waits(served: Served) -> bool:
    return served.admin("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock'") == [(1,)]


def test_reads_go_on_and_writers_wait_until_the_release(served: Served) -> None:
    """The point of a hold: SELECT passes, an INSERT waits, and succeeds as soon as the hold is released."""
    with _take(served) as hold:
        assert sorted(TABLES) == sorted(table.qualified for table in hold.tables)
        assert [(2,)] == served.app("SELECT count(*) FROM public.open_tasks")
        assert [(1,)] == served.app("SELECT last_value FROM public.tickets")
        writer = _waiting(served, INSERT)
        assert writer.running
        hold.check()
        hold.release()
    assert "done" == writer.outcome()
    assert [(3,)] == served.app("SELECT count(*) FROM public.tasks")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.plans SET title = 'x'",
        "DELETE FROM public.cache",
        "INSERT INTO public.events_2026 VALUES ('2026-07-01', 'x')",
        "INSERT INTO public.events VALUES ('2026-07-01', 'x')",
        "SELECT public.add_task('x')",
        "COPY public.cache FROM PROGRAM 'printf k,v' (FORMAT csv)",
        "TRUNCATE public.cache",
        "SELECT * FROM public.tasks FOR UPDATE",
        "SELECT nextval('public.tickets')",
        "SELECT setval('public.tasks_id_seq', 100)",
        "ALTER TABLE public.plans ADD COLUMN x integer",
        "CREATE TABLE public.events_2027 PARTITION OF public.events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "DROP TRIGGER statehub_plan_fence ON public.tasks",
        "VACUUM public.tasks",
    ],
)
def test_every_kind_of_write_waits_for_everybody(oldest: Served, statement: str) -> None:
    """Superusers too; row locks, sequences, partitions and DDL on the tables included."""
    with _take(oldest) as hold:
        writer = InBackground(oldest.admin_dsn, statement)
        assert eventually(lambda: writer.waits(oldest.admin_dsn) or not writer.running)
        assert writer.running
        hold.release()
    assert "done" == writer.outcome()


def test_a_dump_can_be_taken_under_a_hold(served: Served) -> None:
    """pg_dump takes ACCESS SHARE, which EXCLUSIVE lets pass; sequences' values are readable for it as well."""
    parts = conninfo_to_dict(served.tool_dsn)
    with _take(served) as hold, served.tool() as session:
        program = client_tool("pg_dump", session.info.server_version // 10000)
        dump = subprocess.run(
            [program, "-N", "statehub_plan", "-h", str(parts["host"]), "-p", str(parts["port"]), str(parts["dbname"])],
            env=os.environ | {"PGUSER": served.tool_role, "PGPASSWORD": str(parts["password"])},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        hold.check()
    assert "COPY public.tasks" in dump.stdout
    assert "setval('public.tasks_id_seq', 2, true)" in dump.stdout


def test_a_living_hold_is_seen_by_others(served: Served) -> None:
    """By its application name and its locks; released, nothing is left to see."""
    with served.tool() as session:
        assert (None, Writes.OPEN) == (held_by(session), fence.writes(session))
        with _take(served):
            assert ("h1", Writes.HELD) == (held_by(session), fence.writes(session))
        assert (None, Writes.OPEN) == (held_by(session), fence.writes(session))


def test_a_name_alone_is_no_hold(served: Served) -> None:
    """Anybody can call a session `statehub-plan hold x`; the locks make the hold."""
    with served.tool() as session, _session(served.app_dsn) as impostor:
        impostor.execute("SET application_name = 'statehub-plan hold h9'; BEGIN; LOCK TABLE public.tasks")
        assert held_by(session) is None


def test_an_empty_database_can_be_held_too(source_db: str) -> None:
    """Nothing to lock is still one hold at a time, which others can see."""
    served = serve(source_db, schema="SELECT 1")
    with served.tool() as session, _take(served):
        assert ("h1", Writes.HELD) == (held_by(session), fence.writes(session))


def test_a_writer_that_waited_too_long_gets_an_error(served: Served) -> None:
    """After `writer_wait` the statement is cancelled, again and again: a retrying client never hangs."""
    heard = Heard()
    with _take(served, QUICK.model_copy(update={"writer_wait_s": 0.2}), heard=heard) as hold:
        assert ["57014", "57014"] == [InBackground(served.app_dsn, INSERT).outcome() for _ in range(2)]
        hold.check()
    cancelled = heard.of("writer-canceled")
    assert 2 == len(cancelled)
    assert "public.tasks" in cancelled[0].what


def test_ddl_that_waits_does_not_make_readers_wait(served: Served) -> None:
    """Readers queue up behind a waiting ACCESS EXCLUSIVE request, so it is cancelled after the shorter grace."""
    with _take(served):
        ddl = _waiting(served, "TRUNCATE public.tasks")
        reader = InBackground(served.app_dsn, "SELECT count(*) FROM public.tasks")
        assert "57014" == ddl.outcome()
        assert "done" == reader.outcome()


def test_an_idle_transaction_in_the_way_is_ended(served: Served) -> None:
    """Whoever blocks the locks for longer than the grace loses the session; the record says who it was."""
    heard = Heard()
    with _session(served.app_dsn) as idle:
        idle.execute("BEGIN; UPDATE public.tasks SET note = 'forgotten'")
        with _take(served, heard=heard) as hold:
            (note,) = [each for each in hold.waited_on if each.ended]
            assert "public.tasks" == note.table
            assert note.session is not None
            assert (served.app_role, "idle in transaction") == (note.session.user, note.session.state)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("COMMIT")
    (event,) = heard.of("session-ended")
    assert f"user {served.app_role}" in event.what
    assert [(0,)] == served.app("SELECT count(*) FROM public.tasks WHERE note = 'forgotten'")


def test_a_short_transaction_is_waited_for(oldest: Served) -> None:
    """Within the grace nobody is ended: the transaction commits, then the lock is had."""
    heard = Heard()
    with _session(oldest.app_dsn) as writer:
        writer.execute("BEGIN; UPDATE public.tasks SET note = 'in time'")
        limits = QUICK.model_copy(update={"session_grace_s": 10.0})
        took = threading.Thread(target=lambda: _take(oldest, limits, heard=heard).release())
        took.start()
        assert eventually(lambda: _hold_waits(oldest))
        writer.execute("COMMIT")
        took.join(20)
    assert [] == heard.of("session-ended")
    assert [(2,)] == oldest.app("SELECT count(*) FROM public.tasks WHERE note = 'in time'")


def test_a_transaction_that_crosses_with_the_hold_goes_first(served: Served) -> None:
    """It has one table and waits for another that the hold has: the hold gives way instead of deadlocking or ending it,
    and takes that table earlier the next time."""
    heard = Heard()
    holds: list[Hold] = []
    with _session(served.app_dsn) as writer:
        writer.execute("BEGIN; UPDATE public.plans SET title = 'crossed'")
        limits = QUICK.model_copy(update={"session_grace_s": 10.0})
        took = threading.Thread(target=lambda: holds.append(_take(served, limits, heard=heard)))
        took.start()
        assert eventually(lambda: _hold_waits(served))
        writer.execute("UPDATE public.tasks SET note = 'crossed'; COMMIT")
        took.join(20)
    (hold,) = holds
    names = [table.name for table in hold.tables]
    hold.release()
    assert names.index("plans") < names.index("tasks")
    assert [] == heard.of("session-ended")
    assert 1 == len(heard.of("yielded"))
    assert [(2,)] == served.app("SELECT count(*) FROM public.tasks WHERE note = 'crossed'")


def test_busy_writers_over_several_tables_lose_nothing(oldest: Served) -> None:
    """Eight writers whose transactions lock parent before child, against the custom: the hold is had, no session is
    ended, no writer sees an error."""
    stop, errors, heard = threading.Event(), [], Heard()

    def work() -> None:
        with _session(oldest.app_dsn) as session:
            while not stop.is_set():
                try:
                    session.execute(
                        "BEGIN; UPDATE public.plans SET title = title WHERE id < 0; "
                        "INSERT INTO public.tasks (plan_id, note) VALUES (NULL, 'busy'); "
                        "INSERT INTO public.events VALUES ('2026-07-01', 'busy'); COMMIT"
                    )
                except psycopg.Error as error:
                    errors.append(error)
                    return

    writers = [threading.Thread(target=work) for _ in range(8)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(5):
            with _take(oldest, HoldLimits(writer_wait_s=30), heard=heard) as hold:
                before = oldest.app("SELECT count(*) FROM public.tasks")
                hold.check()
                assert before == oldest.app("SELECT count(*) FROM public.tasks")
    finally:
        stop.set()
        for writer in writers:
            writer.join(30)
    assert [] == errors
    assert [] == heard.of("session-ended")


def test_who_cannot_be_ended_is_named_when_time_is_up(served: Served) -> None:
    """A superuser's session can't be ended by the tool's role: all is released, and the error says who, and where."""
    limits = HoldLimits(lock_timeout_s=0.5, session_grace_s=0.05)
    with _session(served.admin_dsn) as admin:
        admin.execute("BEGIN; UPDATE public.tasks SET note = 'mine'")
        with pytest.raises(StatehubError) as caught:
            _take(served, limits)
        assert "hold-timeout" == caught.value.code
        assert f"session {admin.info.backend_pid} (user postgres" in caught.value.what
        assert "public.tasks" in caught.value.what
        admin.execute("COMMIT")
    served.app(INSERT)


def test_writers_breathe_between_attempts(oldest: Served) -> None:
    """While somebody unmovable is in the way, others get their turn long before the hold gives up."""
    with _session(oldest.admin_dsn) as admin:
        admin.execute("BEGIN; UPDATE public.plans SET title = 'mine'")
        failed: list[StatehubError] = []

        def attempt() -> None:
            try:
                _take(oldest, HoldLimits(lock_timeout_s=3, session_grace_s=0.05)).release()
            except StatehubError as error:
                failed.append(error)

        took = threading.Thread(target=attempt)
        took.start()
        writer = _waiting(oldest, "INSERT INTO public.tasks (note) VALUES ('between')")
        assert "done" == writer.outcome()
        assert took.is_alive()
        took.join(20)
    assert ["hold-timeout"] == [error.code for error in failed]


def test_a_prepared_transaction_is_refused_at_once_with_its_name(served: Served) -> None:
    """It can't be ended with a session, nor waited for: the remedy names its global id."""
    served.admin("BEGIN; UPDATE public.tasks SET note = 'pending'; PREPARE TRANSACTION 'order 66'")
    with pytest.raises(StatehubError) as caught:
        _take(served)
    served.admin("ROLLBACK PREPARED 'order 66'")
    assert "transaction-prepared" == caught.value.code
    assert "ROLLBACK PREPARED 'order 66'" in caught.value.details[0]
    _take(served).release()


def test_one_hold_at_a_time_and_the_newer_run_wins(served: Served) -> None:
    """A zombie's hold is in the way like any session: it is ended, and learns so at its next check."""
    zombie = _take(served, epoch=1)
    with _take(served, epoch=2), served.tool() as session:
        assert "h2" == held_by(session)
        with pytest.raises(HoldLost):
            zombie.check()
    with pytest.raises(StatehubError) as caught:
        _take(served, epoch=1)
    assert "fenced-out" == caught.value.code


def test_a_killed_tool_holds_nobody_up(served: Served) -> None:
    """SIGKILL: the server notices the closed socket, the locks are gone, and the writer that waited commits."""
    with _actor(served) as tool:
        assert "held" == _line(tool)
        writer = _waiting(served, INSERT)
        assert writer.running
        tool.send_signal(signal.SIGKILL)
        assert "done" == writer.outcome()
    assert [(3,)] == served.app("SELECT count(*) FROM public.tasks")


def test_a_tool_killed_while_it_still_waits_for_locks_holds_nobody_up(served: Served) -> None:
    """Also while it waits for a lock, the server looks for its client (client_connection_check_interval: 1 s)."""
    limits = HoldLimits(lock_timeout_s=60, session_grace_s=60)
    with _session(served.admin_dsn) as admin:
        admin.execute("BEGIN; UPDATE public.plans SET title = 'long'")
        with _actor(served, limits) as tool:
            assert eventually(lambda: _hold_waits(served))
            writer = _waiting(served, INSERT)
            assert writer.running
            tool.send_signal(signal.SIGKILL)
            assert "done" == writer.outcome()
        admin.execute("ROLLBACK")


def test_a_stopped_tool_is_released_by_the_server(oldest: Served) -> None:
    """A suspended host can't release by itself: the server ends the session shortly after the longest duration."""
    with _actor(oldest, QUICK.model_copy(update={"max_duration_s": 0.2})) as tool:
        os.kill(tool.pid, signal.SIGSTOP)
        try:
            assert "done" == InBackground(oldest.app_dsn, INSERT).outcome()
        finally:
            os.kill(tool.pid, signal.SIGCONT)


def test_a_hold_ends_by_itself_after_its_longest_duration(served: Served) -> None:
    """Whatever the tool is busy with: writers go on, and the next check says why the hold is over."""
    heard = Heard()
    hold = _take(served, QUICK.model_copy(update={"max_duration_s": 0.2}), heard=heard)
    assert "done" == InBackground(served.app_dsn, INSERT).outcome()
    assert eventually(lambda: bool(heard.of("expired")))
    with pytest.raises(HoldLost) as caught:
        hold.check()
    assert "longest duration" in caught.value.what
    with pytest.raises(HoldLost):
        hold.freeze(term=1)


def test_a_hold_whose_session_was_ended_says_so(served: Served) -> None:
    """Somebody may end the tool's session too; whatever was copied under it then proves nothing."""
    heard = Heard()
    with _take(served, heard=heard) as hold:
        served.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'statehub-plan hold h1'"
        )
        assert eventually(lambda: bool(heard.of("lost")))
        with pytest.raises(HoldLost):
            hold.check()


def test_a_hold_survives_the_loss_of_its_watch(served: Served) -> None:
    """The locks belong to another session; the watch comes back and cancels waiting writers again."""
    with _take(served, QUICK.model_copy(update={"writer_wait_s": 0.2})) as hold:
        served.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'statehub-plan watch' AND datname = current_database()"
        )
        assert "57014" == InBackground(served.app_dsn, INSERT).outcome()
        hold.check()


def test_freezing_turns_the_hold_into_something_durable(served: Served) -> None:
    """One commit: fence, default and mark. Who waited is told where the primary goes, who was connected is ended, and
    the proof finds nothing to object."""
    with _session(served.app_dsn) as pooled:
        pooled.execute("SELECT 1")
        hold = _take(served)
        writer = _waiting(served, f"BEGIN READ WRITE; {INSERT}")
        receipt = hold.freeze(term=3, proof="sha256:00", primary="railiance01")
        assert writer.outcome() in ("25006", "57P01")
        assert pooled.info.backend_pid in [each.pid for each in receipt.sessions.ended]
        with pytest.raises(psycopg.OperationalError):
            pooled.execute("SELECT 1")
    with served.tool() as session:
        assert () == fence.prove_frozen(session, app_dsn=served.app_dsn)
        assert Writes.FROZEN == fence.writes(session)
        found = state.read_state(session)
    assert found is not None
    assert found.fence is not None
    assert (3, "run-1", "h1", "railiance01", "sha256:00") == (
        found.fence.term,
        found.fence.run,
        found.fence.hold,
        found.fence.primary,
        found.fence.proof,
    )
    assert [(2,)] == served.app("SELECT count(*) FROM public.tasks")


def test_everything_acknowledged_before_the_freeze_is_there_and_nothing_after(served: Served) -> None:
    """Four writers with a ledger, into the hold and the freeze: the rows are the acknowledged ones, plus at most those
    whose COMMIT got no answer; what was counted under the hold is what stays."""
    acknowledged, unanswered = [], []

    def work(number: int) -> None:
        for count in range(100_000):
            note = f"w{number}-{count}"
            try:
                with _session(served.app_dsn) as session:
                    session.execute("INSERT INTO public.tasks (plan_id, note) VALUES (1, %s)", [note])
                acknowledged.append(note)
            except psycopg.errors.ReadOnlySqlTransaction:
                return
            except psycopg.OperationalError:
                unanswered.append(note)

    writers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    assert eventually(lambda: len(acknowledged) > 40)
    hold = _take(served)
    under_hold = served.app("SELECT count(*) FROM public.tasks")
    hold.freeze(term=1)
    for writer in writers:
        writer.join(30)
    with served.tool() as session:
        assert () == fence.prove_frozen(session)
    rows = {note for (note,) in served.app("SELECT note FROM public.tasks")} - {"one", "two"}
    assert set(acknowledged) == rows - set(unanswered)
    assert under_hold == served.app("SELECT count(*) FROM public.tasks")


def test_a_table_created_under_the_hold_stops_the_freeze(served: Served) -> None:
    """Nothing can lock a table that doesn't exist yet; the copy lacks it, so the freeze refuses and releases."""
    with _take(served) as hold:
        served.admin("CREATE TABLE public.late (id integer)")
        with pytest.raises(StatehubError) as caught:
            hold.freeze(term=1)
    assert ("ddl-during-hold", ("public.late",)) == (caught.value.code, caught.value.details)
    served.app(INSERT)


def test_a_table_without_a_fence_gets_one_under_the_locks(served: Served) -> None:
    """Created after the installation, or busy at that time: fenced like the others by the freeze."""
    served.admin(f"SET ROLE {served.tool_role}; CREATE TABLE public.newer (id integer)")
    _take(served).freeze(term=1)
    with served.tool() as session:
        assert () == fence.prove_frozen(session)
        assert 6 == fence.fence_status(session).triggers_enabled


def test_a_zombie_cannot_freeze(served: Served) -> None:
    """A newer run claimed the database while the older one held it: the freeze is refused, the hold released."""
    with _take(served, epoch=1) as zombie, served.tool() as newer:
        with newer.transaction():
            state.claim_epoch(newer, 2)
        with pytest.raises(StatehubError) as caught:
            zombie.freeze(term=1)
        assert "fenced-out" == caught.value.code
        assert Writes.OPEN == fence.writes(newer)


def test_a_prepared_transaction_stops_the_freeze(served: Served) -> None:
    """One that locks no table can appear under a hold; it could still commit something, so nothing is frozen."""
    with _take(served) as hold:
        served.admin("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'late'")
        with pytest.raises(StatehubError) as caught:
            hold.freeze(term=1)
    served.admin("ROLLBACK PREPARED 'late'")
    assert "transaction-prepared" == caught.value.code
    served.app(INSERT)


def test_a_freeze_whose_answer_got_lost_is_found_by_looking(served: Served) -> None:
    """The connection breaks after COMMIT reached the server: observed as frozen."""
    with proxied(served.tool_dsn) as (proxy, dsn):
        hold = _take(served, dsn=dsn)
        proxy.cut_after = COMMIT
        assert 5 == hold.freeze(term=5).term
    with served.tool() as session:
        assert () == fence.prove_frozen(session)


def test_a_freeze_that_never_reached_the_server_leaves_the_old_primary_open(served: Served) -> None:
    """The connection breaks before COMMIT arrives: the locks die with the session, and that is said."""
    with proxied(served.tool_dsn) as (proxy, dsn):
        hold = _take(served, dsn=dsn)
        proxy.cut_before = COMMIT
        with pytest.raises(StatehubError) as caught:
            hold.freeze(term=5)
    assert "connection-lost" == caught.value.code
    served.app(INSERT)


def test_a_tool_killed_right_after_the_freeze_leaves_it_frozen(served: Served) -> None:
    """From the commit on nothing depends on the tool: who comes next finds term, run and hold."""
    with _actor(served) as tool:
        assert "held" == _line(tool)
        assert tool.stdin is not None
        tool.stdin.write("freeze\n")
        tool.stdin.flush()
        assert "frozen" == _line(tool)
        tool.send_signal(signal.SIGKILL)
    with served.tool() as session:
        assert () == fence.prove_frozen(session)
        status = fence.fence_status(session)
        assert (1, "run-actor", "actor") == (status.term, status.run, status.hold)


def test_missing_privileges_are_told_before_anything_is_locked(oldest: Served) -> None:
    """Also when only a role's session that is connected right now can't be ended."""
    oldest.admin(f"REVOKE pg_signal_backend FROM {oldest.tool_role}")
    with _session(oldest.app_dsn) as app:
        app.execute("SELECT 1")
        with pytest.raises(StatehubError) as caught:
            _take(oldest)
    assert "privilege-missing" == caught.value.code
    assert f'GRANT pg_signal_backend, pg_monitor TO "{oldest.tool_role}"' in caught.value.details[0]


def test_three_hundred_tables_are_held_and_frozen(served: Served) -> None:
    """With a serial key each, so that as many sequences are locked along."""
    served.admin(
        f"SET ROLE {served.tool_role}; "
        "DO $$ BEGIN FOR i IN 1..300 LOOP "
        "EXECUTE format('CREATE TABLE public.many_%s (id serial PRIMARY KEY, note text)', i); END LOOP; END $$"
    )
    hold = _take(served)
    assert 305 == len(hold.tables)
    hold.freeze(term=1)
    with served.tool() as session:
        assert () == fence.prove_frozen(session)
        assert 305 == fence.fence_status(session).triggers_enabled


def test_the_plans_limits_become_seconds() -> None:
    """`spec.freeze` is written in durations."""
    assert HoldLimits(lock_timeout_s=5, session_grace_s=0.5, writer_wait_s=5, max_duration_s=1800) == limits_of(
        Freeze()
    )


def test_a_holds_id_has_to_fit_into_an_application_name(oldest: Served) -> None:
    """Too long or with other characters it would be cut or replaced, and nobody would recognise the hold."""
    for hold_id in ("", "x" * 41, "hä", "a b"):
        with pytest.raises(ValueError):
            Hold.take(oldest.tool_dsn, hold_id=hold_id, run="r", epoch=1, limits=QUICK)


def test_taking_a_hold_leaves_no_session_behind(oldest: Served) -> None:
    """Released or refused, the server has no session of the tool any more."""
    _take(oldest).release()
    started = time.monotonic()
    with _session(oldest.admin_dsn) as admin:
        admin.execute("BEGIN; UPDATE public.plans SET title = 'mine'")
        with pytest.raises(StatehubError):
            _take(oldest, HoldLimits(lock_timeout_s=0.2))
    assert started < time.monotonic()
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'statehub-plan %'"
    assert eventually(lambda: oldest.admin(left) == [(0,)])
