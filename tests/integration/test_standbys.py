"""Asynchronous standbys of the side that is frozen: one that takes over must not be writable beside the new primary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
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
from statehub_plan.steps import freeze
from statehub_plan.steps.stage import Stage
from tests.integration.ledgered import EPOCH, RUN, SHORT, Moved, assert_moves_lose_nothing, ledger, moved
from tests.integration.served_database import demand_standby
from tests.integration.standing_by import Standby, standby_of


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


def test_a_decision_finds_the_freeze_in_the_standby(pair: Moved, standby: Standby) -> None:
    """Asked right behind the decision, without waiting for it."""
    with pair.old.tool() as session:
        assert Standbys({"standby at 127.0.0.1": 1}) == close_standbys(session)
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


def test_a_freeze_by_dump_waits_for_them_too(pair: Moved, standby: Standby) -> None:
    """By its step; whoever decides later looks again."""
    limits = SHORT.hold.model_copy(update={"max_duration_s": 10.0})
    reached = {"old": pair.old.tool_dsn, "new": pair.new.tool_dsn}
    with Hold.take(pair.old.tool_dsn, hold_id="h", run=RUN, epoch=EPOCH, limits=limits) as hold:
        plan = SimpleNamespace(old="old", new="new", term=pair.term)
        stage = cast(Stage, SimpleNamespace(hold=hold, plan=plan, dsn=reached.__getitem__))
        with standby.stopped_receiving(), pytest.raises(StatehubError) as raised:
            freeze._freeze_held(stage)
    assert "standby-silent" == raised.value.code
    assert not pair.accepts_writes()
    pair.reopen()
    assert pair.accepts_writes()


def test_standbys_that_commits_wait_for_are_asked_nothing_more(pair: Moved, standby: Standby) -> None:
    """What the server demands is enough, whoever else follows it."""
    with standby.stopped_receiving():
        demand_standby(pair.old.admin_dsn, "standby")
        try:
            with pair.old.tool() as session:
                assert not close_standbys(session)
                await_standbys(session, Standbys({"standby at 127.0.0.1": 1}), what="a freeze", timeout_s=0.1)
        finally:
            demand_standby(pair.old.admin_dsn, "")


def test_what_a_role_may_not_see_is_not_waited_for(pair: Moved) -> None:
    """Pre-flight says so."""
    pair.old.admin(f"REVOKE pg_read_all_stats FROM {pair.old.tool_role}")
    with pair.old.tool() as session:
        assert not close_standbys(session)
