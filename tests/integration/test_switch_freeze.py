"""The last stretch of a switch: sequences, definitions that change, transactions that outlive the locks, a crash."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.fence import settle_fence
from statehub_plan.postgres.register import burn
from statehub_plan.postgres.reverse import prepare_reverse
from statehub_plan.postgres.switch import Switch
from statehub_plan.postgres.transaction import StandbySilent, commit, require_confirmed
from tests.integration.ledgered import (
    SHORT,
    Moved,
    Pairs,
    assert_moves_lose_nothing,
    in_transaction,
    ledger,
    refused,
    sequences_of,
    told,
)
from tests.integration.served_database import Served, demand_standby, eventually

# Sequences


def test_every_kind_of_sequence_goes_on_where_it_was(pair: Moved) -> None:
    """Descending, cycling, at its end, never called, owned, identity: each has its value, and does what it would."""
    before = sequences_of(pair.old)
    pair.decide()
    assert before == sequences_of(pair.new)
    pair.settle()
    assert (before["public.descending"][0] - 3,) == pair.old.app("SELECT nextval('public.descending')")[0]
    assert (before["public.cycling"][0] % 5 + 1,) == pair.old.app("SELECT nextval('public.cycling')")[0]
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        pair.old.app("SELECT nextval('public.at_its_end')")
    if not before["public.never_called"][1]:
        assert (42,) == pair.old.app("SELECT nextval('public.never_called')")[0]


def test_no_number_is_handed_out_twice(pair: Moved) -> None:
    """Callers of nextval alone, on a standalone and on an identity column's sequence, up to the freeze and after it."""
    numbers: dict[str, list[int]] = {"public.ticket": [], "public.ledger_number_seq": []}
    stop = threading.Event()

    def ask(name: str) -> None:
        side = 0
        sides = (pair.old.app_dsn, pair.new.app_dsn)
        while not stop.is_set():
            with suppress(psycopg.Error), closing(psycopg.connect(sides[side], autocommit=True)) as session:
                while not stop.is_set():
                    numbers[name] += [int(n) for (n,) in session.execute("SELECT nextval(%s::regclass)", [name])]
            side = 1 - side
            stop.wait(0.005)

    threads = [threading.Thread(target=ask, args=(name,)) for name in numbers for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: all(len(each) > 10 for each in numbers.values()))
        pair.move()
        seen = {name: len(each) for name, each in numbers.items()}
        assert eventually(lambda: all(len(each) > seen[name] + 10 for name, each in numbers.items()))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert {name: len(each) for name, each in numbers.items()} == {n: len(set(each)) for n, each in numbers.items()}


def test_a_sequence_that_is_locked_on_the_target_is_named(pair: Moved) -> None:
    """Somebody's uncommitted change of it there: everything is released when the time is up."""
    with in_transaction(pair.new.admin_dsn) as admin:

        def lock(_switch: Switch) -> None:
            admin.execute("SET TRANSACTION READ WRITE")
            admin.execute("ALTER SEQUENCE public.ticket CACHE 1")
            pair.old.app("SELECT nextval('public.ticket')")

        error = refused(pair, at="prepared", then=lock)
        assert "switch-timeout" == error.code
        assert f"session {admin.info.backend_pid} " in told(error)
        assert "public.ticket" in told(error)


def test_a_sequence_that_got_other_bounds_is_refused(pair: Moved) -> None:
    """The value of the source does not fit on the target any more: an error of the tool, before anything is held."""
    pair.old.admin("ALTER SEQUENCE public.at_its_end MAXVALUE 1000 RESTART 500")
    error = refused(pair)
    pair.old.admin("ALTER SEQUENCE public.at_its_end RESTART 7 MAXVALUE 7; SELECT setval('public.at_its_end', 7)")
    assert "at_its_end" in told(error)


# Definitions


@pytest.mark.parametrize("moment", ["prepared", "held", "proved"])
def test_a_table_made_after_the_sides_were_compared_is_refused(pair: Moved, moment: str) -> None:
    """Its rows would never arrive: the proof, or the seal, sees it and everything is released."""

    def create(_switch: Switch) -> None:
        pair.old.admin(f"SET ROLE {pair.old.tool_role}; CREATE TABLE public.late (id int PRIMARY KEY)")

    try:
        error = refused(pair, at=moment, then=create)
    finally:
        pair.old.admin("DROP TABLE public.late")
    assert error.code in ("definitions-changed", "ddl-during-hold")
    assert "late" in told(error) or "definitions-changed" == error.code


def test_a_table_fenced_by_its_maker_right_before_the_commit_is_seen_afterwards(
    pair: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last look, before the commit: nothing opens, because nobody compared it and no stream carries it."""

    def late(*arguments: Any, **named: Any) -> bool:
        pair.old.admin(
            f"SET ROLE {pair.old.tool_role}; CREATE TABLE public.late AS SELECT 1 AS id; "
            "SELECT statehub_plan.fence_tables(true)"
        )
        return commit(*arguments, **named)

    with monkeypatch.context() as meddled:
        meddled.setattr("statehub_plan.postgres.hold.commit", late)
        with pytest.raises(StatehubError) as raised:
            pair.decide()
    assert "freeze-not-proved" == raised.value.code
    assert "public.late" in told(raised.value)
    assert pair.stays_shut()
    pair.reopen()
    pair.old.admin("DROP TABLE public.late")
    pair.move()


@pytest.mark.parametrize("row", [False, True])
def test_a_column_that_comes_while_following_is_never_missed(pair: Moved, row: bool) -> None:
    """With a row in it the stream stands still, without one the proof sees it: refused either way, and once the column
    is gone again the move succeeds."""

    def alter(_switch: Switch) -> None:
        pair.old.admin("ALTER TABLE public.swept ADD COLUMN late text")
        if row:
            pair.old.app("INSERT INTO public.swept VALUES (999, 'late')")

    error = refused(pair, at="prepared", then=alter)
    assert ("barrier-not-arrived" if row else "definitions-changed") == error.code
    pair.new.admin("BEGIN READ WRITE; ALTER TABLE public.swept ADD COLUMN late text; COMMIT")
    pair.move()
    pair.assert_equal()
    assert [(int(row),)] == pair.old.admin("SELECT count(*) FROM public.swept WHERE late = 'late'")
    for side in (pair.old, pair.new):
        side.admin("BEGIN READ WRITE; ALTER TABLE public.swept DROP COLUMN late; COMMIT")
    pair.old.app("DELETE FROM public.swept WHERE id = 999")


@pytest.mark.parametrize("who", ["app", "admin"])
def test_a_table_that_is_being_made_does_not_slip_through(pair: Moved, who: str) -> None:
    """CREATE TABLE and rows, uncommitted across everything: the session is ended, or, being a superuser's, named before
    the freeze is committed."""
    pair.old.admin(f"GRANT CREATE ON SCHEMA public TO {pair.old.app_role}")
    dsn = pair.old.app_dsn if who == "app" else pair.old.admin_dsn
    statements = ("CREATE TABLE public.slipping (id int)", "INSERT INTO public.slipping VALUES (1)")
    with in_transaction(dsn, *statements) as session:
        if who == "admin":
            error = refused(pair)
            assert "writers-left" == error.code
            assert f"session {session.info.backend_pid} " in told(error)
            return
        pair.decide()
        with pytest.raises(psycopg.OperationalError):
            session.commit()
    pair.settle()
    for side in (pair.old, pair.new):
        assert [(None,)] == side.admin("SELECT to_regclass('public.slipping')")


def test_a_table_prepared_under_the_locks_does_not_slip_through(pair: Moved) -> None:
    """PREPARE TRANSACTION after the seal has looked: seen before the freeze is committed."""
    pair.old.admin(f"GRANT CREATE ON SCHEMA public TO {pair.old.app_role}")
    with in_transaction(pair.old.app_dsn, "CREATE TABLE public.slipping (id int)") as session:

        def prepare(_switch: Switch) -> None:
            session.execute("PREPARE TRANSACTION 'under the locks'")

        try:
            error = refused(pair, at="proved", then=prepare)
        finally:
            pair.old.app("ROLLBACK PREPARED 'under the locks'")
    assert error.code in ("writers-left", "transaction-prepared")
    assert "under the locks" in told(error)


def test_settings_that_somebody_is_changing_do_not_hold_writers_up_for_long(pair: Moved) -> None:
    """An uncommitted ALTER DATABASE … SET keeps the freeze from being prepared: released in time, and named."""
    (name,) = pair.old.admin("SELECT current_database()")[0]
    with in_transaction(pair.old.admin_dsn, f"ALTER DATABASE {name} SET work_mem = '5MB'") as admin:
        error = refused(pair)
        assert error.code in ("freeze-timeout", "writers-left")
        assert f"session {admin.info.backend_pid} " in told(error)


def test_a_register_that_somebody_keeps_locked_is_found_before_the_freeze(pair: Moved) -> None:
    """Nothing is frozen for a decision that cannot be prepared: the old side accepts writes when the time is up."""
    with in_transaction(pair.new.admin_dsn) as admin:

        def lock(_switch: Switch) -> None:
            admin.execute("SET TRANSACTION READ WRITE")
            admin.execute("SELECT FROM statehub_plan.state FOR UPDATE")

        error = refused(pair, at="proved", then=lock)
        assert error.code in ("state-busy", "switch-timeout", "hold-lost")


def test_a_term_that_was_burned_meanwhile_is_found_before_the_freeze(pair: Moved) -> None:
    """Another run gave the decision up: this one releases its writers instead of freezing them."""

    def burn_it(_switch: Switch) -> None:
        with pair.new.tool() as target:
            assert burn(target, term=pair.term, run="another", epoch=pair.epoch).stands

    error = refused(pair, at="proved", then=burn_it)
    pair.term += 1
    assert "decision-lost" == error.code


def test_a_run_that_ends_between_freeze_and_decision_can_be_given_up(pair: Moved) -> None:
    """Nobody accepts writes then; with its term burned the old side goes on, and the next move succeeds."""

    def fail(part: str, _switch: Switch) -> None:
        if part == "frozen":
            raise StatehubError(code="stopped", what="the run stops here", hint="none")

    with ledger(pair) as written:
        with pytest.raises(StatehubError, match="the run stops here"):
            pair.decide(at=fail)
        assert pair.stays_shut()
        assert not pair.accepts_writes()
        pair.reopen()
        assert written.goes_on()
        assert_moves_lose_nothing(pair, written, moves=1)


# Transactions that began before


def test_a_snapshot_from_before_the_freeze_lets_nobody_write(pair: Moved) -> None:
    """REPEATABLE READ sessions that saw the database open, one of them a superuser's that nobody may end, and fences
    that were enabled all along behind an open gate."""
    pair.decide()
    pair.welcome()  # the new primary is open by its gate now: its fence's triggers are not put away
    pair.follow_back(settle=False)
    write = "UPDATE public.doc SET body = 'from before' WHERE id = 3"
    begin = ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM public.doc")
    (enabled,) = pair.old.admin(
        "SELECT count(*) FROM pg_trigger WHERE tgname = 'statehub_plan_fence' AND tgenabled <> 'D'"
    )
    assert enabled != (0,)
    with in_transaction(pair.old.admin_dsn, *begin) as admin, in_transaction(pair.old.app_dsn, *begin) as app:
        pair.prepare()
        pair.decide()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            admin.execute(write.encode())
        with pytest.raises(psycopg.OperationalError):
            app.execute(write.encode())
    assert [(0,)] == pair.old.admin("SELECT count(*) FROM public.doc WHERE body = 'from before'")
    pair.settle()


def test_sessions_that_began_frozen_are_ended_though_the_decisions_own_is_gone(pair: Moved) -> None:
    """Lost right after the commit: in another session, those that would stay read-only are ended all the same."""
    with closing(psycopg.connect(pair.new.app_dsn, autocommit=True)) as early:
        count: list[int] = []

        def lose(part: str, switch: Switch) -> None:
            if part == "decided":
                switch._target.close()
                count.append(switch.end_read_only_sessions(timeout_s=10))

        pair.decide(at=lose)
        assert [1] == count
        with pytest.raises(psycopg.OperationalError):
            early.execute("SELECT 1")
    pair.settle()


# The way back


def test_the_slot_of_the_way_back_waits_for_nobody_for_ever(pair: Moved, pairs: Pairs) -> None:
    """A transaction that has written in another database of that cluster is in its way, and is named."""
    other = pairs.beside(pair.new)
    with in_transaction(other, "CREATE TABLE t ()") as stranger:
        with pytest.raises(StatehubError) as raised:
            prepare_reverse(pair.reverse(), epoch=pair.epoch, timeout_s=0.5)
        assert "slot-not-created" == raised.value.code
        assert f"session {stranger.info.backend_pid} " in told(raised.value)


def test_maintenance_of_the_target_does_not_delay_the_opening(pair: Moved) -> None:
    """Autovacuum's lock on a table of the target, there all through the decision; only that table's fence stays."""
    with in_transaction(pair.new.admin_dsn, "LOCK TABLE public.doc IN SHARE UPDATE EXCLUSIVE MODE"):
        pair.decide()
        pair.welcome()
        pair.new.app("UPDATE public.doc SET body = 'open' WHERE id = 30")
        with pair.new.tool() as new:
            assert ("public.doc",) == settle_fence(new, epoch=pair.epoch)
        pair.new.app("UPDATE public.doc SET body = 'open again' WHERE id = 30")
    pair.follow_back()


def _crash(side: Served, *clusters: Cluster) -> None:
    """That side's server is killed, and started again."""
    cluster = next(one for one in clusters if f":{one.port}/" in side.admin_dsn)
    cluster.kill()
    cluster.start()


@pytest.mark.parametrize("crashed", ["old", "new"])
@pytest.mark.parametrize("moment", ["held", "proved"])
def test_a_server_that_crashes_before_the_freeze_costs_an_attempt(
    pair: Moved, crashed: str, moment: str, source_cluster: Cluster, target_cluster: Cluster
) -> None:
    """An error of the tool, the old side accepts writes as soon as it runs, nothing is lost, and the next attempt
    succeeds over the same stream."""

    def crash(part: str, _switch: Switch) -> None:
        if part == moment:
            _crash(pair.old if crashed == "old" else pair.new, source_cluster, target_cluster)

    with ledger(pair) as written:
        with pytest.raises(StatehubError):
            pair.decide(at=crash)
        assert written.goes_on()
        assert pair.stays_shut()
        pair.move()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()


@pytest.mark.parametrize("moment", ["held", "proved"])
def test_a_freeze_that_no_standby_confirms_decides_nothing(pair: Moved, moment: str) -> None:
    """The server would wait for its lost standby for ever, and counts no statement_timeout meanwhile: the wait is ended
    in time, and said; a failover could open the old side again."""

    def lose(part: str, _switch: Switch) -> None:
        if part == moment:
            demand_standby(pair.old.admin_dsn, "nobody")

    with ledger(pair) as written:
        pair.prepare()
        try:
            with pytest.raises(StatehubError) as raised:
                pair.decide(SHORT, lose)
        finally:
            demand_standby(pair.old.admin_dsn, "")
        assert "standby-silent" == raised.value.code
        assert pair.stays_shut()
        pair.reopen()
        assert written.goes_on()
        assert_moves_lose_nothing(pair, written, moves=1)


@pytest.mark.parametrize("moment", ["held", "proved"])
def test_a_decision_that_no_standby_confirms_stands(pair: Moved, moment: str) -> None:
    """The wait is ended in time: everybody sees the decision then, and clients write; it is said that none has it."""
    switches = []

    def lose(part: str, switch: Switch) -> None:
        switches.append(switch)
        if part == moment:
            demand_standby(pair.new.admin_dsn, "nobody")

    with ledger(pair) as written:
        pair.prepare()
        try:
            pair.decide(SHORT, lose)
        finally:
            demand_standby(pair.new.admin_dsn, "")
        assert not switches[-1].confirmed
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()


def test_a_freeze_whose_session_is_ended_while_it_waits_is_confirmed_by_nobody(pair: Moved) -> None:
    """Whoever ends the session that waits ends its wait: committed, and in no standby, which the next commit shows."""
    ended = threading.Event()

    def end_it() -> None:
        waiting = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' "
            "AND datname = current_database() AND application_name ~ '^statehub-plan hold hold-'"
        )
        if eventually(lambda: pair.old.admin(waiting)[0] != (0,)):
            ended.set()

    def lose(part: str, _switch: Switch) -> None:
        if part == "proved":
            demand_standby(pair.old.admin_dsn, "nobody")
            threading.Thread(target=end_it).start()

    with ledger(pair) as written:
        pair.prepare()
        try:
            with pytest.raises(StatehubError) as raised:
                pair.decide(replace(SHORT, switch_s=4), lose)
        finally:
            demand_standby(pair.old.admin_dsn, "")
        assert ended.is_set()
        assert "standby-silent" == raised.value.code
        pair.reopen()
        assert written.goes_on()


def test_an_opening_that_no_standby_confirms_took_place(pair: Moved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The freeze that was given up is opened all the same, for those too who came back meanwhile; a later run is told
    what is not confirmed until it is."""
    monkeypatch.setattr("statehub_plan.postgres.transaction.STANDBY_WAIT_S", 0.5)

    def lose(part: str, _switch: Switch) -> None:
        if part == "proved":
            demand_standby(pair.old.admin_dsn, "nobody")

    with ledger(pair) as written:
        pair.prepare()
        try:
            with pytest.raises(StandbySilent, match="the freeze for term"):
                pair.decide(SHORT, lose)
            with pytest.raises(StandbySilent, match="the opening of old"):
                pair.reopen()
            with pair.old.tool() as source, pytest.raises(StandbySilent, match="all of it"):
                require_confirmed(source, what="all of it")
        finally:
            demand_standby(pair.old.admin_dsn, "")
        pair.term += 1
        assert written.goes_on()
        with pair.old.tool() as source:
            require_confirmed(source, what="all of it")
        assert_moves_lose_nothing(pair, written, moves=1)


@pytest.mark.parametrize("crashed", ["new", "both"])
def test_a_crash_right_after_the_opening_neither_resends_nor_loses(
    pair: Moved, crashed: str, source_cluster: Cluster, target_cluster: Cluster
) -> None:
    """The trap of slots that forget in a crash how far they were: the way back begins where the old side remembers."""
    clusters = (source_cluster, target_cluster)
    with ledger(pair) as written:
        for side in (pair.old.admin_dsn, pair.new.admin_dsn):
            with closing(psycopg.connect(side, autocommit=True)) as session:
                session.execute("CHECKPOINT")
        assert written.goes_on(50)
        pair.decide()
        assert written.goes_on(5)
        _crash(pair.new, *clusters)
        if crashed == "both":
            _crash(pair.old, *clusters)
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()
        name = pair.new.admin("SELECT subname FROM pg_subscription WHERE subenabled")
        assert 1 == len(name)
