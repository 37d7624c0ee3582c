"""A fence that is armed before a switch: everybody passes until its gate is shut, which takes no lock on any table."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.errors import StatehubError
from statehub_plan.postgres import fence
from statehub_plan.postgres.catalog_stamp import catalog_stamp
from statehub_plan.postgres.forecast import Measures, measure_again
from statehub_plan.postgres.hold import Hold
from statehub_plan.postgres.proof import unsound_tables
from statehub_plan.postgres.switch import Switch
from statehub_plan.postgres.watermark import catalog_watermark
from statehub_plan.world import Writes
from tests.integration.deciding import decide_proved
from tests.integration.ledgered import SHORT, Moved, in_transaction, refused
from tests.integration.served_database import TABLES, InBackground, Served, eventually, serve

WRITE = "INSERT INTO public.tasks (plan_id, note) VALUES (1, 'one more')"


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors, with a fence that sleeps."""
    found = serve(request.getfixturevalue(f"{request.param}_db"))
    with found.tool() as session:
        fence.install(session)
    return found


def armed(served: Served) -> tuple[int, bool]:
    """How many tables have an enabled fence, and whether its gate is open."""
    with served.tool() as session:
        status = fence.fence_status(session)
    return status.triggers_enabled, status.gate_open


def test_an_armed_fence_lets_everybody_write(served: Served) -> None:
    """Enabled on every table behind an open gate, twice as well as once; put away, nothing is left of it."""
    with served.tool() as session:
        before = catalog_stamp(session), catalog_watermark(session)
        for _ in range(2):
            fence.arm(session, epoch=1)
            assert (len(TABLES), True) == armed(served)
            served.app(WRITE)
            assert Writes.OPEN is fence.writes(session)
        for _ in range(2):
            assert () == fence.settle_fence(session, epoch=1)
            assert (0, True) == armed(served)
            served.app(WRITE)
        assert before == (catalog_stamp(session), catalog_watermark(session)), (
            "what was proved would have to be read anew"
        )


def test_a_session_that_wrote_while_it_was_armed_does_not_after_the_freeze(served: Served) -> None:
    """Plans that it keeps, a transaction that is open, one that waits for the lock: all meet the shut gate."""
    with served.tool() as session:
        fence.arm(session, epoch=1)
    with (
        closing(psycopg.connect(served.admin_dsn, autocommit=True)) as kept,
        in_transaction(served.admin_dsn, "SELECT count(*) FROM public.tasks") as begun,
    ):
        kept.execute("PREPARE one_more AS INSERT INTO public.tasks (plan_id, note) VALUES (1, 'kept')")
        for _ in range(8):  # until the plan is a generic one
            kept.execute("EXECUTE one_more")
        with Hold.take(served.tool_dsn, hold_id="hold-1", run="run-a", epoch=2, limits=SHORT.hold) as hold:
            waiting = InBackground(served.admin_dsn, WRITE)
            assert eventually(lambda: waiting.waits(served.admin_dsn))
            hold.seal()
            hold.commit_freeze(term=1, proof=None, primary="there")
        assert "25006" == waiting.outcome()
        assert "frozen by statehub-plan" in str(waiting.error)
        for session, statement in ((kept, "EXECUTE one_more"), (begun, WRITE)):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="frozen by statehub-plan"):
                session.execute(statement.encode())
    assert (len(TABLES), False) == armed(served)
    assert [(8,)] == served.admin("SELECT count(*) FROM public.tasks WHERE note = 'kept'")


def test_a_table_that_is_busy_is_left_to_the_freeze(served: Served) -> None:
    """Nobody queues up behind a long transaction; the freeze, under its locks, enables what is missing."""
    with served.tool() as session, in_transaction(served.app_dsn, WRITE):
        fence.arm(session, epoch=1)
        assert (len(TABLES) - 1, True) == armed(served)
        assert ("public.tasks",) == fence.fence_status(session).unfenced
        served.app(WRITE)
    with Hold.take(served.tool_dsn, hold_id="hold-1", run="run-a", epoch=2, limits=SHORT.hold) as hold:
        hold.freeze(term=1)
    assert (len(TABLES), False) == armed(served)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        served.admin(WRITE)


def test_a_table_that_came_fenced_after_the_seal_is_refused(served: Served) -> None:
    """Made, filled and fenced by somebody while everything is sealed: its rows are nowhere else, so nothing freezes."""
    with served.tool() as session:
        fence.arm(session, epoch=1)
    with Hold.take(served.tool_dsn, hold_id="hold-1", run="run-a", epoch=2, limits=SHORT.hold) as hold:
        hold.seal()
        served.admin("CREATE TABLE public.late AS SELECT 1 AS id; SELECT statehub_plan.fence_tables(true)")
        with pytest.raises(StatehubError) as raised:
            hold.commit_freeze(term=1, proof=None, primary="there")
    assert ("ddl-during-hold", ("public.late",)) == (raised.value.code, raised.value.details)
    served.app(WRITE)


def test_a_frozen_database_is_not_armed(served: Served) -> None:
    """Its gate stays shut, whoever asks."""
    with served.tool() as session:
        fence.fence(session, term=1, run="run-a", epoch=1)
        fence.arm(session, epoch=2)
        assert fence.fence_status(session).complete
    assert (len(TABLES), False) == armed(served)


@pytest.mark.parametrize("rival", ["freezes", "puts it away"])
def test_another_run_in_the_middle_of_arming(served: Served, monkeypatch: pytest.MonkeyPatch, rival: str) -> None:
    """Between two tables a newer run comes: its freeze is complete, or nobody is refused; this one does no more."""
    with served.tool() as session, served.tool() as other:
        switch_one = fence._switch_fence
        asked: list[int] = []

        def interrupted(connection: psycopg.Connection, oid: int, wait_ms: int, *, epoch: int, enable: bool) -> bool:
            if len(asked) == 2 and epoch == 1:
                with monkeypatch.context() as undisturbed:
                    undisturbed.setattr(fence, "_switch_fence", switch_one)
                    if rival == "freezes":
                        with Hold.take(served.tool_dsn, hold_id="h", run="run-b", epoch=2, limits=SHORT.hold) as hold:
                            hold.freeze(term=1)
                    else:
                        assert () == fence.settle_fence(other, epoch=2)
            asked.append(oid)
            return switch_one(connection, oid, wait_ms, epoch=epoch, enable=enable)

        monkeypatch.setattr(fence, "_switch_fence", interrupted)
        fence.arm(session, epoch=1)
        if rival == "freezes":
            assert fence.fence_status(other).complete
            return
    assert (0, True) == armed(served)
    served.app(WRITE)


def test_a_freeze_in_the_middle_of_putting_away_stays_whole(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same epoch's owner, so that the mark alone protects it: not one fence of a frozen database is disabled."""
    with served.tool() as session, served.tool() as other:
        fence.arm(session, epoch=1)
        switch_one = fence._switch_fence
        asked: list[int] = []

        def interrupted(connection: psycopg.Connection, oid: int, wait_ms: int, *, epoch: int, enable: bool) -> bool:
            if len(asked) == 2:
                with Hold.take(served.tool_dsn, hold_id="h", run="run-a", epoch=1, limits=SHORT.hold) as hold:
                    hold.freeze(term=1)
            asked.append(oid)
            return switch_one(connection, oid, wait_ms, epoch=epoch, enable=enable)

        monkeypatch.setattr(fence, "_switch_fence", interrupted)
        left = fence.settle_fence(session, epoch=1)
        assert fence.fence_status(other).complete
    assert (len(TABLES), False) == armed(served)
    assert len(TABLES) == len(left)


def test_a_fence_changed_by_hand_ends_the_attempt_and_is_repaired(served: Served) -> None:
    """One that lets DELETE pass is no fence: known before the freeze's commit, and made anew by the next install."""
    meddle = (
        "DROP TRIGGER statehub_plan_fence ON public.tasks; CREATE TRIGGER statehub_plan_fence BEFORE INSERT "
        "ON public.tasks FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan.fence()"
    )
    with Hold.take(served.tool_dsn, hold_id="h", run="run-a", epoch=1, limits=SHORT.hold) as hold:
        hold.seal()
        hold._connection.execute(meddle, prepare=False)  # its locks keep everybody else out
        with pytest.raises(StatehubError) as raised:
            hold.commit_freeze(term=1, proof=None, primary="there")
    assert "fence-incomplete" == raised.value.code
    served.app(WRITE)
    served.admin(meddle)
    with served.tool() as session:
        assert "public.tasks" in fence.install(session).added
        assert [] == unsound_tables(session)


def test_a_bulk_load_that_enables_every_trigger_shuts_nothing(served: Served) -> None:
    """The sleeping fence is one of them; as long as nothing is frozen it lets everybody pass, also after a freeze."""
    load = (
        "BEGIN READ WRITE; ALTER TABLE public.tasks DISABLE TRIGGER USER; ALTER TABLE public.tasks ENABLE TRIGGER USER"
    )
    for _ in range(2):
        served.admin(f"{load}; COMMIT")
        assert (1, True) == armed(served)
        served.app(WRITE)
        with served.tool() as session:
            fence.fence(session, term=1, run="run-a", epoch=1)
            decide_proved(session, term=1, primary="here", run="run-a", epoch=1)
            fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=1)


def test_a_switch_that_comes_to_nothing_puts_the_fence_away(pair: Moved) -> None:
    """Armed while it is prepared; a refusal, and writers pay for nothing any more."""
    tables: list[int] = []

    def refuse(_switch: Switch) -> None:
        tables.append(armed(pair.old)[0])
        raise StatehubError(code="test", what="no more than this", hint="none")

    assert "test" == refused(pair, at="prepared", then=refuse).code
    assert tables[0] > 0
    assert (0, True) == armed(pair.old)


def test_what_is_armed_already_is_frozen_by_the_next_switch(pair: Moved) -> None:
    """As a killed one leaves it: the gate is open, so writers go on; the move that follows freezes by shutting it."""
    pair.prepare()
    with pair.old.tool() as source:
        fence.arm(source, epoch=pair.epoch)
    assert pair.accepts_writes()
    pair.decide()
    assert not pair.accepts_writes()
    pair.settle()
    assert pair.accepts_writes()


def test_a_rehearsal_puts_the_fence_away_before_it_compares(pair: Moved) -> None:
    """Released, nothing is armed any more, although the rehearsal's sessions stay open while contents are compared."""
    with pair.switch() as switch:
        switch.prepare()
        assert armed(pair.old)[0] > 0
        switch.take_hold()
        switch.drain()
        switch.sync_sequences()
        switch.rehearse_rest(lambda *_: None)
        switch.release()
        assert (0, True) == armed(pair.old)
    assert pair.accepts_writes()


def test_a_rehearsal_foretells_what_it_does_not_go_through(pair: Moved) -> None:
    """Only where it was asked to measure; nothing of what it tried is left on either side."""
    with pair.switch() as switch:
        switch.prepare()
        before = pair.new.admin("SELECT * FROM statehub_plan.state, statehub_plan.passage")
        switch.measure()
        switch.take_hold()
        switch.drain()
        switch.sync_sequences()
        switch.rehearse_rest(lambda *_: None)
        held_ms = switch.release()
    expected = switch.forecast
    assert expected is not None
    assert 0 < expected.rehearsed_ms < held_ms
    assert expected.rehearsed_ms < expected.hold_ms < expected.gap_ms
    assert before == pair.new.admin("SELECT * FROM statehub_plan.state, statehub_plan.passage")
    assert pair.accepts_writes()


def test_what_takes_long_is_not_tried_again_while_writers_wait(pair: Moved) -> None:
    """A session over a slow network would keep them waiting, and processors have nothing to do with it."""
    slow = Measures(look_ms=1, flush_source_ms=1, flush_target_ms=1, opening_ms=1, session_ms=300, sessions=1)

    def tried() -> None:
        raise AssertionError("tried again")

    assert slow == measure_again(slow, pair.new.tool_dsn, tried)


def test_a_session_that_is_not_to_be_had_ends_no_rehearsal() -> None:
    """While writers wait, the figure from before will do."""
    quick = Measures(look_ms=1, flush_source_ms=1, flush_target_ms=1, opening_ms=1, session_ms=7, sessions=1)
    again = measure_again(quick, "host=127.0.0.1 port=1 dbname=x user=x", lambda: None)
    assert 7 == again.session_ms
    assert again.opening_ms < 1


def test_many_busy_tables_are_not_tried_one_after_the_other(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that has them all: after some attempts the rest is left to the freeze."""
    monkeypatch.setattr(fence, "_MOST_BUSY", 2)
    asked: list[int] = []
    switch_one = fence._switch_fence

    def counted(connection: psycopg.Connection, oid: int, wait_ms: int, *, epoch: int, enable: bool) -> bool:
        asked.append(oid)
        return switch_one(connection, oid, wait_ms, epoch=epoch, enable=enable)

    monkeypatch.setattr(fence, "_switch_fence", counted)
    everything = f"LOCK TABLE {', '.join(TABLES)} IN ROW EXCLUSIVE MODE"
    with served.tool() as session, in_transaction(served.admin_dsn, everything):
        fence.arm(session, epoch=1)
        assert (2, (0, True)) == (len(asked), armed(served))
        assert () == fence.settle_fence(session, epoch=1, at_once=True)


def test_a_database_whose_transactions_are_serializable_by_default_is_moved_as_well(pair: Moved) -> None:
    """The tool's own are not: what waits for a barrier, or for another run, has to see what was committed meanwhile."""
    for side in (pair.old, pair.new):
        name = conninfo_to_dict(side.admin_dsn)["dbname"]
        change = f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        side.admin(f"BEGIN READ WRITE; {change}; COMMIT")
    pair.move()
    assert pair.accepts_writes()
    pair.assert_equal()


def test_an_installation_that_was_slow_leaves_a_freeze_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It found a table without a fence, and the database was frozen before it came to it: the fence stays enabled."""
    served.admin(f"SET ROLE {served.tool_role}; CREATE TABLE public.late (id int)")
    fence_one = fence._fence_table
    frozen: list[int] = []

    def delayed(connection: psycopg.Connection, oid: int, wait_ms: int) -> bool:
        if not frozen:
            with Hold.take(served.tool_dsn, hold_id="hold-1", run="run-b", epoch=2, limits=SHORT.hold) as hold:
                hold.freeze(term=1)
            frozen.append(oid)
        return fence_one(connection, oid, wait_ms)

    monkeypatch.setattr(fence, "_fence_table", delayed)
    with served.tool() as session:
        assert ("public.late",) == fence.install(session).added
        assert fence.fence_status(session).complete
    assert (len(TABLES) + 1, False) == armed(served)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="frozen by statehub-plan"):
        served.admin("BEGIN READ WRITE; INSERT INTO public.late VALUES (1)")
