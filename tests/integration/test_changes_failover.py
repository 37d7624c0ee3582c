"""A primary that failed over while its changes were told: whoever connects anew is led to another server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.by_keys import Changes, settle
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.replication import PUBLICATION
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import nobody_looks, nothing_to_lose
from tests.integration.moving import run_script
from tests.integration.served_database import eventually
from tests.integration.standing_by import standby_of

SCHEMA = f"""
CREATE TABLE public.t (id integer PRIMARY KEY, v text);
INSERT INTO public.t SELECT n, 'x' FROM generate_series(1, 100) n;
CREATE PUBLICATION {PUBLICATION} FOR TABLE public.t;
"""
LABOUR = Labour(1, CHUNK_BYTES, nothing_to_lose, nobody_looks)
WRITTEN = "INSERT INTO public.t VALUES (999, 'late'); UPDATE public.t SET v = 'other' WHERE id = 5"


@dataclass(frozen=True)
class Pair:
    """`source` leads to whichever of two servers is primary; `fail_over` makes it the other one, while sessions of the
    first go on, and returns what leads to the second alone."""

    source: str
    target: str
    fail_over: Callable[[], str]


@pytest.fixture
def pair(scratch: Path, target_db: str, pg_installations: tuple[PgInstallation, ...]) -> Iterator[Pair]:
    """A primary with a standby, and the database on the other side."""
    with (
        Cluster.create(scratch, "first", pg_installations[-1], settings=CHEAP_SETTINGS) as first,
        standby_of(first, scratch, "second") as second,
    ):
        with psycopg.connect(first.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE app")
        run_script(first.dsn("app"), SCHEMA)
        run_script(target_db, SCHEMA)
        both = make_conninfo(
            first.dsn("app"),
            host="127.0.0.1,127.0.0.1",
            port=f"{first.port},{second.port}",
            target_session_attrs="read-write",
        )

        def fail_over() -> str:
            # A smart shutdown refuses new sessions and waits for those that are there.
            os.kill(int((first.data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGTERM)
            assert eventually(lambda: not _answers(first.dsn()))
            promoted = make_conninfo(first.dsn("app"), port=second.port)
            with psycopg.connect(promoted, autocommit=True) as admin:
                assert (True,) == admin.execute("SELECT pg_promote()").fetchone()
            return promoted

        yield Pair(both, target_db, fail_over)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_written_on_the_promoted_server_is_found(pair: Pair, settled: bool) -> None:
    """The log goes on to tell of the old one, where nothing changes any more; so everything is read whole."""
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(ChangeLog(dsn, slot="failing_over", publications=[PUBLICATION], temporary=True))
            for dsn in (pair.source, pair.target)
        )
        baseline = compare(pair.source, pair.target)
        assert Answer.EQUAL is baseline.answer, baseline.differences
        changes = Changes(ours, theirs, baseline)
        assert Answer.EQUAL is compare(pair.source, pair.target, changes=changes).answer
        run_script(pair.fail_over(), WRITTEN)
        if settled:
            settle(pair.source, pair.target, changes, LABOUR)
            assert "another server" in str(ours.doubt)
        found = compare(pair.source, pair.target, changes=changes)
        assert {("(999)", "missing"), ("(5)", "changed")} == {
            (row.key, row.what) for one in found.differences for row in one.rows
        }
        assert any("another server" in note for note in found.notes), found.notes
        assert not any("neither catalog has changed" in note for note in found.notes), found.notes


def test_a_baseline_that_was_taken_from_the_promoted_server_has_to_be_made_anew(pair: Pair) -> None:
    """Its logs tell of the old one; a rehearsal online is cheaper than reading everything while writers wait."""
    with Baseline(pair.source, pair.target) as baseline:
        pair.fail_over()
        with Snapshot(pair.source, purpose="test") as ours, Snapshot(pair.target, purpose="test") as theirs:
            baseline.taken_from(ours.leader, theirs.leader)
        (why,) = baseline.curable()
        assert "another server" in why
