"""What may happen in the middle of a switch: it waits, gives way, ends sessions or refuses by name, and loses nothing.

All tests share one pair, whichever side is its primary; one that a failed test has left behind is replaced.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.hold import HoldLost
from statehub_plan.postgres.replication import stream_name
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.switch import Switch
from tests.integration.ledgered import SHORT, Moved, in_transaction, ledger, refused, told
from tests.integration.served_database import InBackground, Proxy, eventually, proxied

# In the way of the locks


def test_a_session_that_idles_in_a_transaction_is_ended_after_the_grace(pair: Moved) -> None:
    """Its uncommitted write is undone, its name is on record, and the move goes on."""
    with (
        ledger(pair) as written,
        in_transaction(pair.old.app_dsn, "UPDATE public.doc SET body = 'lost' WHERE id = 1") as idle,
    ):
        pair.decide()
        ended = [event for event in pair.events if event.kind == "session-ended"]
        assert [idle.info.backend_pid] == [event.session.pid for event in ended if event.session]
        assert "public.doc" in ended[0].what
        with pytest.raises(psycopg.OperationalError):
            idle.commit()
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        assert [(0,)] == pair.old.admin("SELECT count(*) FROM public.doc WHERE body = 'lost'")


def test_a_session_that_may_not_be_ended_is_named_and_everything_released(pair: Moved) -> None:
    """A superuser's transaction outlives the grace: the refusal says which session, on which table."""
    with in_transaction(pair.old.admin_dsn, "LOCK TABLE public.note IN ROW EXCLUSIVE MODE") as admin:
        error = refused(pair)
        assert "hold-timeout" == error.code
        assert f"session {admin.info.backend_pid} " in told(error)
        assert "public.note" in told(error)


def test_a_prepared_transaction_is_refused_by_name(pair: Moved) -> None:
    """Nobody can wait for it, nobody can end it: its id and both ways out are said, before anything is held."""
    pair.old.app("BEGIN; UPDATE public.doc SET body = 'prepared' WHERE id = 2; PREPARE TRANSACTION 'a strange one'")
    error = refused(pair)
    pair.old.app("ROLLBACK PREPARED 'a strange one'")
    assert "transaction-prepared" == error.code
    assert "ROLLBACK PREPARED 'a strange one'" in told(error)


def test_a_queue_of_locks_is_passed_and_its_members_survive_or_are_told(pair: Moved) -> None:
    """A reader, DDL that waits for it, a writer that waits for the DDL: the DDL is ended, the writer retries."""
    with ledger(pair) as written, in_transaction(pair.old.app_dsn, "SELECT count(*) FROM public.note") as reader:
        ddl = InBackground(pair.old.tool_dsn, "ALTER TABLE public.note ADD COLUMN late text")
        assert eventually(lambda: ddl.waits(pair.old.admin_dsn))
        writer = InBackground(pair.old.app_dsn, "UPDATE public.note SET body = 'x' WHERE id = 1")
        assert eventually(lambda: writer.waits(pair.old.admin_dsn))
        pair.decide()
        assert "57P01" == ddl.outcome()
        assert writer.outcome() in ("done", "25006", "57P01")
        reader.close()
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()


def test_a_writer_that_waited_is_told_where_to_go(pair: Moved) -> None:
    """SQLSTATE 25006 with the hint, or its session was ended before it could be told."""
    waiting: list[InBackground] = []

    def wait(part: str, _switch: Switch) -> None:
        if part == "held":
            waiting.append(InBackground(pair.old.app_dsn, "INSERT INTO public.doc VALUES (-1, 'waited', '')"))
            assert eventually(lambda: waiting[0].waits(pair.old.admin_dsn))

    pair.decide(at=wait)
    assert waiting[0].outcome() in ("25006", "57P01")
    if waiting[0].outcome() == "25006" and waiting[0].error is not None:
        assert "The primary will be new" in (waiting[0].error.diag.message_hint or "")
    assert [(0,)] == pair.new.admin("SELECT count(*) FROM public.doc WHERE id = -1")
    pair.settle()


# In the way of the stream


def test_an_apply_that_is_blocked_releases_everything_and_names_who_blocks_it(pair: Moved) -> None:
    """Which session, which table, which LSN."""
    with ledger(pair) as written, ExitStack() as stack:
        locked: list[psycopg.Connection] = []

        def lock(_switch: Switch) -> None:
            locked.append(
                stack.enter_context(in_transaction(pair.new.admin_dsn, "LOCK TABLE public.ledger IN SHARE MODE"))
            )

        def prepared(part: str, switch: Switch) -> None:
            if part == "prepared":
                lock(switch)
                assert written.goes_on(10)

        with pytest.raises(StatehubError) as raised:
            pair.decide(SHORT, prepared)
        assert written.goes_on()
        assert pair.stays_shut()
        assert "barrier-not-arrived" == raised.value.code
        assert f"session {locked[0].info.backend_pid} " in told(raised.value)
        assert "public.ledger" in told(raised.value)
        assert "LSN 0/" in told(raised.value)
        stack.close()
        pair.move()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)


def test_a_seal_that_is_late_when_the_barrier_times_out_freezes_nothing(pair: Moved) -> None:
    """The barrier cannot arrive and the freeze is still to be sealed: writers go on at once, and what comes too late
    finds nothing that it could seal."""
    over, late, stack = threading.Event(), list[BaseException](), ExitStack()

    def delay(switch: Switch) -> None:
        stack.enter_context(
            in_transaction(pair.new.admin_dsn, "LOCK TABLE statehub_plan.barrier IN SHARE ROW EXCLUSIVE MODE")
        )
        assert switch.hold is not None
        seal = switch.hold.seal

        def sealed_late() -> None:
            assert over.wait(10)
            try:
                seal()
            except BaseException as error:
                late.append(error)
                raise

        switch.hold.seal = sealed_late  # type: ignore[method-assign]
        release = switch.hold.release

        def released() -> None:
            release()
            over.set()

        switch.hold.release = released  # type: ignore[method-assign]

    with ledger(pair) as written, stack:
        error = refused(pair, at="held", then=delay)
        assert written.goes_on()
    assert "barrier-not-arrived" == error.code
    assert [HoldLost] == [type(one) for one in late]
    pair.move()


@pytest.mark.parametrize("end", ["receiver", "sender"])
def test_a_stream_whose_process_is_killed_while_draining_carries_on(pair: Moved, end: str) -> None:
    """Apply worker or walsender: the other one takes over where it was, and the barrier still means what it says."""

    def kill(part: str, _switch: Switch) -> None:
        if part == "held" and end == "receiver":
            pair.new.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE pid IS NOT NULL")
        if part == "held" and end == "sender":
            pair.old.admin(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE active AND database = current_database()"
            )

    with ledger(pair) as written:
        pair.decide(at=kill)
        pair.settle()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()


def test_a_network_that_is_cut_or_stalls_releases_everything(pair: Moved) -> None:
    """The stream goes through a line that delivers nothing any more: writers go on when the time is up, and later the
    move succeeds over the same line."""
    with proxied(pair.old.tool_dsn) as (proxy, line), ledger(pair) as written:
        flowing = _flowing(proxy)
        _reconnect(pair, line)
        for cut in (False, True):

            def stall(part: str, _switch: Switch, cut: bool = cut) -> None:
                if part == "prepared" and cut:
                    proxy.refuse_new = True
                    proxy.hang_up()
                if part == "prepared":
                    flowing.clear()

            with pytest.raises(StatehubError) as raised:
                pair.decide(SHORT, stall)
            assert "barrier-not-arrived" == raised.value.code, told(raised.value)
            assert written.goes_on()
            assert pair.stays_shut()
            proxy.refuse_new = False
            flowing.set()
            assert "LSN 0/" in told(raised.value)
        pair.move()
        assert written.goes_on()
        written.stop()
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_tool_that_hears_nothing_any_more_keeps_nobody_waiting(pair: Moved, side: str) -> None:
    """Its own line to one side delivers nothing while everything is held: writers go on when the time is up, whether
    the tool can say anything about it or not; and then it fails."""
    plain = pair.old if side == "source" else pair.new
    with proxied(plain.tool_dsn) as (proxy, line), ledger(pair) as written:
        flowing = _flowing(proxy)
        failed: list[BaseException] = []

        def stall(part: str, _switch: Switch) -> None:
            if part == "held":
                flowing.clear()

        def attempt() -> None:
            try:
                stuck.decide(SHORT, stall)
            except (StatehubError, psycopg.Error) as error:
                failed.append(error)

        through = replace(plain, tool_dsn=line)
        stuck = replace(pair, old=through) if side == "source" else replace(pair, new=through)
        tool = threading.Thread(target=attempt)
        tool.start()
        assert eventually(lambda: not flowing.is_set() or not tool.is_alive())
        assert written.goes_on()
        proxy.hang_up()
        flowing.set()
        tool.join(60)
        assert [StatehubError] == [type(one) for one in failed], failed
        assert pair.accepts_writes()
        assert pair.stays_shut()
        written.stop()
        written.assert_nothing_lost(pair.old)


def _flowing(proxy: Proxy) -> threading.Event:
    """While it is not set, nothing that the server sends arrives."""
    flowing = threading.Event()
    flowing.set()

    def rewrite(data: bytes) -> bytes:
        flowing.wait(60)
        return data

    proxy.rewrite = rewrite
    return flowing


def _reconnect(pair: Moved, conninfo: str) -> None:
    with pair.new.tool() as target:
        name = stream_name(identity(target))
    pair.new.admin(f"BEGIN READ WRITE; ALTER SUBSCRIPTION {name} CONNECTION '{conninfo}'; COMMIT")


def test_a_large_transaction_right_before_the_hold_arrives_whole(pair: Moved) -> None:
    """PEERS pitfall 1, the zero-lag lie: nothing is decided before its last row is there, whatever a lag says."""
    rows = 100_000

    def commit(part: str, _switch: Switch) -> None:
        if part == "prepared":
            pair.old.app(
                f"INSERT INTO public.doc SELECT n, 'large ' || n, '' FROM generate_series(1000000, {999_999 + rows}) n"
            )
        if part == "decided":
            counted = pair.new.admin("SELECT count(*) FROM public.doc WHERE id >= 1000000")
            assert [(rows,)] == counted

    pair.decide(at=commit)
    pair.settle()
    pair.old.app("DELETE FROM public.doc WHERE id >= 1000000")


def test_a_large_transaction_that_takes_too_long_releases_everything(pair: Moved) -> None:
    """It is not taken for arrived when the time is up, and the next attempt waits for it before anything is held."""
    rows = 30_000

    def commit(_switch: Switch) -> None:
        pair.old.app(
            f"INSERT INTO public.doc SELECT n, 'slow ' || n, '' FROM generate_series(1000000, {999_999 + rows}) n"
        )

    quick = replace(SHORT, switch_s=0.02)
    error = refused(pair, quick, "prepared", commit)
    assert error.code in ("barrier-not-arrived", "switch-timeout", "hold-lost")
    pair.move()
    assert [(rows,)] == pair.old.admin("SELECT count(*) FROM public.doc WHERE key LIKE 'slow %'")
    pair.old.app("DELETE FROM public.doc WHERE id >= 1000000")


def test_truncate_and_keys_that_change_arrive(pair: Moved) -> None:
    """What is easily forgotten about a stream: TRUNCATE, a primary key and a foreign key that cascade."""
    pair.old.app("UPDATE public.doc SET id = id + 5000 WHERE id <= 20")
    pair.old.app("TRUNCATE public.swept")
    pair.old.app("INSERT INTO public.swept VALUES (7)")
    pair.move()
    pair.assert_equal()
    assert [(7,)] == pair.old.admin("SELECT id FROM public.swept")
    assert [(20,)] == pair.old.admin("SELECT count(*) FROM public.note WHERE id > 5000")
    pair.old.app("UPDATE public.doc SET id = id - 5000 WHERE id BETWEEN 5001 AND 5020")
