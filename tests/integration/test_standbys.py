"""Standbys of the side that is frozen: one that takes over must not be writable beside the new primary."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.hold import Hold
from statehub_plan.postgres.standbys import Standbys, await_standbys, close_standbys
from statehub_plan.postgres.switch import Switch
from statehub_plan.postgres.transaction import StandbySilent
from statehub_plan.steps import decide, freeze
from statehub_plan.steps.stage import Stage
from tests.integration.ledgered import EPOCH, RUN, SHORT, Moved, assert_moves_lose_nothing, ledger, moved
from tests.integration.served_database import demand_standby, eventually, name_standbys
from tests.integration.standing_by import Standby, standby_of

CLOSE = Standbys({"standby at 127.0.0.1": 1})
"""The one standby of these tests, when it follows."""

A_COMMIT_WAITS = (
    "SELECT true FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database() "
    "AND application_name ~ '^statehub-plan'"
)
IT_IS_FROZEN = "SELECT true FROM statehub_plan.state WHERE fence_term IS NOT NULL"


@pytest.fixture(scope="module")
def standby(source_cluster: Cluster, scratch: Path) -> Iterator[Standby]:
    """Of the cluster that has the old side."""
    with standby_of(source_cluster, scratch, "standby") as made:
        yield made


@pytest.fixture
def pair(standby: Standby, source_db: str, target_db: str, tmp_path: Path) -> Iterator[Moved]:
    """The old side's role may see what standbys have confirmed."""
    with moved(source_db, target_db, tmp_path) as made:
        made.old.admin(f"GRANT pg_read_all_stats TO {made.old.tool_role}")
        yield made


def database(dsn: str) -> str:
    """The name of the database that a DSN leads to."""
    return str(conninfo_to_dict(dsn)["dbname"])


@contextmanager
def demanded(pair: Moved, names: str) -> Iterator[None]:
    """Commits of the old side wait for standbys of these names, which answer; of nobody afterwards, whoever else was
    demanded meanwhile."""
    server = pair.old  # in a move the roles are exchanged
    try:
        name_standbys(server.admin_dsn, names)
        states = (
            "SELECT true FROM pg_stat_replication WHERE application_name = 'standby' AND (sync_state = 'async') = %s"
        )
        assert eventually(lambda: server.admin(states, names == "") != [])
        yield
    finally:
        demand_standby(server.admin_dsn, "")


@contextmanager
def as_soon_as(pair: Moved, there_is: str, then: Callable[[], object]) -> Iterator[None]:
    """Once the old side has such a row, `then` is called, from beside; it was by the end."""
    called = threading.Event()

    def look() -> None:
        if eventually(lambda: pair.old.admin(there_is) != []):
            then()
            called.set()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert called.is_set()


def stage_of(pair: Moved, hold: Hold | None = None) -> Stage:
    """As much of a run by dump as its freeze and its decision look at."""
    reached = {"old": pair.old.tool_dsn, "new": pair.new.tool_dsn}
    plan = SimpleNamespace(old="old", new="new", term=pair.term)
    return cast(Stage, SimpleNamespace(hold=hold, plan=plan, dsn=reached.__getitem__))


def held(pair: Moved) -> Hold:
    """The old side, for some seconds."""
    limits = SHORT.hold.model_copy(update={"max_duration_s": 10.0})
    return Hold.take(pair.old.tool_dsn, hold_id="h", run=RUN, epoch=EPOCH, limits=limits)


@pytest.mark.parametrize("names", ["", "standby"])
def test_a_decision_finds_the_freeze_in_the_standby(pair: Moved, standby: Standby, names: str) -> None:
    """Asked right behind the decision, without waiting for it; also where the server has waited already."""
    with demanded(pair, names):
        with pair.old.tool() as session:
            assert CLOSE == close_standbys(session)
        pair.prepare()
        pair.decide()
        found = standby.read(database(pair.old.admin_dsn), "SELECT pg_last_wal_receive_lsn()::text")
        [(frozen_at,)] = pair.old.admin("SELECT pg_current_wal_flush_lsn() <= %s::pg_lsn", found)
        assert frozen_at
        pair.settle()


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_freeze_that_a_close_standby_has_not_decides_nothing(pair: Moved, standby: Standby, how: str) -> None:
    """It is connected and says nothing, or has gone since the switch was prepared, and may be about to take over."""
    with ledger(pair) as written, ExitStack() as stack:

        def lose(part: str, _switch: Switch) -> None:
            if part == "proved" and how == "silent":
                stack.enter_context(standby.stopped_receiving())
            elif part == "proved":
                standby.stop("immediate")

        pair.prepare()
        with pytest.raises(StatehubError) as raised:
            pair.decide(SHORT, lose)
        assert "standby-silent" == raised.value.code
        assert ("standby at 127.0.0.1",) == raised.value.details
        assert pair.stays_shut()
        stack.close()
        pair.reopen()
        assert written.goes_on()
        assert_moves_lose_nothing(pair, written, moves=1)  # with it again, or without it: it is not close any more
    if how == "gone":
        standby.start()


@pytest.mark.parametrize(
    ("before", "after", "meanwhile"),
    [
        pytest.param("standby", "", A_COMMIT_WAITS, id="taken-out"),
        pytest.param("", "standby", IT_IS_FROZEN, id="demanded"),
    ],
)
def test_names_that_change_while_it_is_waited_for_confirm_nothing(
    pair: Moved, standby: Standby, before: str, after: str, meanwhile: str
) -> None:
    """PostgreSQL wakes a commit that waits as if it had been answered, and warns nobody, when nobody is demanded any
    more; demanded from now on, the standby has nothing either of what was committed before."""
    with demanded(pair, before), ExitStack() as stack:

        def lose(part: str, _switch: Switch) -> None:
            if part == "proved":
                stack.enter_context(standby.stopped_receiving())
                stack.enter_context(as_soon_as(pair, meanwhile, lambda: name_standbys(pair.old.admin_dsn, after)))

        pair.prepare()
        with pytest.raises(StatehubError) as raised:
            pair.decide(SHORT, lose)
        assert "standby-silent" == raised.value.code
        assert CLOSE.names.keys() == set(raised.value.details)
        assert pair.stays_shut()
    pair.reopen()
    assert pair.accepts_writes()


def test_what_the_new_side_confirms_no_standby_has(pair: Moved, standby: Standby) -> None:
    """Any name but that of a standby is the name of a subscription as well: the stream into the new side, too."""
    with demanded(pair, "ANY 1 (*)"), ExitStack() as stack:

        def lose(part: str, _switch: Switch) -> None:
            if part == "proved":
                stack.enter_context(standby.stopped_receiving())

        pair.prepare()
        with pytest.raises(StatehubError) as raised:
            pair.decide(SHORT, lose)
        assert "standby-silent" == raised.value.code
        assert pair.stays_shut()
    pair.reopen()


@pytest.mark.parametrize("names", ["", "standby"])
def test_a_freeze_by_dump_waits_for_them_too(pair: Moved, standby: Standby, names: str) -> None:
    """By its step, whether no commit waits for them or, from some moment on, none any more."""
    with demanded(pair, names), held(pair) as hold, ExitStack() as stack:
        stack.enter_context(standby.stopped_receiving())
        if names:
            stack.enter_context(as_soon_as(pair, A_COMMIT_WAITS, lambda: name_standbys(pair.old.admin_dsn, "")))
        with pytest.raises(StatehubError) as raised:
            freeze._freeze_held(stage_of(pair, hold))
    assert "standby-silent" == raised.value.code
    assert CLOSE.names.keys() == set(raised.value.details)
    assert not pair.accepts_writes()
    pair.reopen()
    assert pair.accepts_writes()


def test_who_decides_later_misses_a_standby_that_goes_while_its_answer_is_waited_for(
    pair: Moved, standby: Standby
) -> None:
    """It followed when the wait began; afterwards nothing is seen of it, and nobody is demanded."""
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'standby'"

    def take_out() -> None:
        pair.old.admin(drop)
        name_standbys(pair.old.admin_dsn, "")

    with held(pair) as hold:
        hold.freeze(term=pair.term, proof="proved", primary="new")
    assert ("h", "proved") == decide._frozen_for(stage_of(pair), "old", pair.term)
    with demanded(pair, "standby"), ExitStack() as stack:
        stack.enter_context(standby.stopped_receiving())
        stack.enter_context(as_soon_as(pair, A_COMMIT_WAITS, take_out))
        with pytest.raises(StatehubError) as raised:
            decide._frozen_for(stage_of(pair), "old", pair.term)
    assert "standby-silent" == raised.value.code
    pair.reopen()


@pytest.mark.parametrize("why", ["hidden", "away"])
def test_a_wait_for_an_unseen_standby_confirms_only_while_somebody_is_demanded(pair: Moved, why: str) -> None:
    """Hidden from this role, or gone before: it cannot be asked, and whether the server's wait came to an answer or was
    called off is only seen by the setting."""
    names = "standby" if why == "hidden" else "nobody"
    if why == "hidden":
        pair.old.admin(f"REVOKE pg_read_all_stats FROM {pair.old.tool_role}")
    try:
        name_standbys(pair.old.admin_dsn, names)
        with pair.old.tool() as session:
            assert eventually(lambda: close_standbys(session).unseen)
            standbys = close_standbys(session)
            await_standbys(session, standbys, what="a freeze", timeout_s=20)
            demand_standby(pair.old.admin_dsn, "")
            with pytest.raises(StandbySilent):
                await_standbys(session, standbys, what="a freeze", timeout_s=20)
    finally:
        demand_standby(pair.old.admin_dsn, "")


def test_what_a_role_may_not_see_is_not_waited_for(pair: Moved) -> None:
    """Pre-flight says so."""
    pair.old.admin(f"REVOKE pg_read_all_stats FROM {pair.old.tool_role}")
    with pair.old.tool() as session:
        assert not close_standbys(session)
