"""Every state of a stream between real clusters, in both directions, as both ends' facts show it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import FactStatus
from statehub_plan.model.spec import TransferMethod
from statehub_plan.model.stream import StreamState
from statehub_plan.observe import observe
from statehub_plan.observe.replication import disk_free_bytes
from statehub_plan.postgres import replication, state
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.connect import Connection, user_tables
from statehub_plan.postgres.filling import begin_fill, mark_following, record_timeline
from statehub_plan.postgres.names import qualified
from statehub_plan.streams import orphans
from tests.integration.observing import endpoint, fact, now, plan_of
from tests.integration.served_database import eventually, serve
from tests.integration.streaming import DISK, Ends, ends, promote


@pytest.fixture(params=["old", "new"])
def both(request: pytest.FixtureRequest, tmp_path: Path, source_db: str, target_db: str) -> Iterator[Ends]:
    """Two databases on two majors; the stream goes into the named one."""
    there = ends(tmp_path, source_db, target_db, into=request.param)
    yield there
    there.unsubscribe()


@pytest.fixture
def back(tmp_path: Path, source_db: str, target_db: str) -> Iterator[Ends]:
    """A stream back: the new side sends, the old one receives."""
    there = ends(tmp_path, source_db, target_db)
    yield there
    there.unsubscribe()


def _connection_of(there: Ends, conninfo: str) -> None:
    with there.receiving() as session:
        session.execute(
            sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(sql.Identifier(there.name()), sql.Literal(conninfo))
        )


def test_from_nobody_over_ready_and_streaming_to_broken_and_lost(both: Ends) -> None:
    """A stream is set up, runs, loses its line, gets it back, and loses its slot."""
    assert StreamState.NOBODY is both.stream().state
    both.make_slot()
    half = both.stream()
    assert (StreamState.LOST, False) == (half.state, half.lossless)
    assert [both.name()] == [one.name for one in orphans(both.observe(deep=False), ("old", "new"))]

    both.subscribe(enabled=False)
    ready = both.stream()
    assert (StreamState.READY, True) == (ready.state, ready.lossless)
    assert () == orphans(both.observe(deep=False), ("old", "new"))
    with both.receiving() as session:
        replication.enable_subscription(session, both.name())
    both.write()
    streaming = both.becomes(StreamState.STREAMING)
    assert streaming.lossless
    assert None not in (streaming.lag_bytes, streaming.retained_bytes)

    _connection_of(both, "host=127.0.0.1 port=1 dbname=nowhere user=nobody password=none")
    both.write()
    broken = both.becomes(StreamState.BROKEN)
    assert broken.lossless, broken
    _connection_of(both, both.sender_dsn)
    both.becomes(StreamState.STREAMING)

    with both.sending() as session:
        replication.drop_slot(session, both.name())
    lost = both.becomes(StreamState.LOST)
    assert (False, None) == (lost.lossless, lost.slot)
    assert f"no longer on {both.sender}" in lost.why


def test_copying_while_tables_are_synchronized_and_while_a_fill_is_on_record(both: Ends) -> None:
    """What has not arrived for the first time yet is no way back."""
    with both.receiving() as session:
        session.execute("UPDATE statehub_plan.state SET fill_stage = 'filling', fill_slot = %s", [both.name()])
        filling = both.stream()
        assert (StreamState.LOST, False) == (filling.state, filling.lossless)  # its slot is not there
        session.execute("UPDATE statehub_plan.state SET fill_stage = NULL, fill_slot = NULL")
        session.execute("DELETE FROM statehub_plan.barrier")  # it would be copied as well, and is there already
    both.make_slot()
    both.write(rows=10)
    both.subscribe(enabled=False, copy_data=True)
    with closing(psycopg.connect(both.sender_dsn)) as blocking, both.receiving() as session:
        blocking.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        replication.enable_subscription(session, both.name())
        copying = both.becomes(StreamState.COPYING)
        assert not copying.lossless
        assert "tables are past" in copying.why
    both.becomes(StreamState.STREAMING)
    assert 10 == both.count()


def test_an_apply_worker_that_fails_is_broken_with_its_errors_counted(back: Ends) -> None:
    """A row that cannot be applied stops the stream; nothing of it is lost, and the count says where to look."""
    back.make_slot()
    back.subscribe(enabled=True)
    back.becomes(StreamState.STREAMING)
    with back.receiving() as session:
        session.execute("ALTER TABLE public.t ADD CONSTRAINT refuses CHECK (note <> 'row')")
    back.write()
    broken = back.becomes(StreamState.BROKEN)
    assert broken.lossless
    assert broken.slot == back.name()


def test_a_server_that_drops_what_its_slot_needs_makes_the_stream_lost(
    tmp_path: Path, scratch: Path, source_db: str, pg_installations: tuple[PgInstallation, ...]
) -> None:
    """max_slot_wal_keep_size protects the disk, and ends the way back: that is a fact at once."""
    limits = {"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    with Cluster.create(scratch, "limited", pg_installations[-1], settings={**CHEAP_SETTINGS, **limits}) as limited:
        there = ends(tmp_path, source_db, limited.dsn())
        there.make_slot()
        there.subscribe(enabled=False)
        rows: Any = fact(there.observe(deep=False), "new.slots").value
        assert rows[0]["safe_wal_size"] is not None
        with closing(psycopg.connect(limited.dsn(), autocommit=True)) as writer:
            for _ in range(4):
                there.write()
                writer.execute("SELECT pg_switch_wal()")
            writer.execute("CHECKPOINT")
        lost = there.becomes(StreamState.LOST)
        assert not lost.lossless
        assert "no longer keeps" in lost.why


def test_a_sender_that_does_not_answer_makes_the_stream_broken_for_that_reason(back: Ends) -> None:
    """Nothing is concluded about a slot that nobody sees."""
    back.make_slot()
    back.subscribe(enabled=True)
    back.becomes(StreamState.STREAMING)
    (back.directory / f"{back.sender}.dsn").write_text("host=127.0.0.1 port=1 dbname=x user=x")
    unseen = back.stream()
    assert (StreamState.BROKEN, False, False) == (unseen.state, unseen.lossless, unseen.observed)
    assert f"{back.sender}.slots could not be observed" in unseen.why


def test_rows_name_what_is_the_tools_and_whatever_the_server_has_of_it(both: Ends) -> None:
    """Versions differ in what they say; every row has every column."""
    both.make_slot()
    both.subscribe(enabled=True)
    with both.sending() as session:
        session.execute("SELECT pg_create_logical_replication_slot(current_database() || '_theirs', 'pgoutput')")
        version = session.info.server_version
    both.becomes(StreamState.STREAMING)
    seen = both.observe()
    slots: Any = fact(seen, f"{both.sender}.slots").value
    mine = {row["name"]: row for row in slots}[both.name()]
    assert (True, True, "reserved", None) == (mine["ours"], mine["active"], mine["wal_status"], mine["safe_wal_size"])
    assert {"conflicting", "invalidation_reason", "inactive_since", "lag_bytes"} <= mine.keys()
    idle = next(row for row in slots if row["name"].endswith("_theirs"))
    assert (False, version >= 170000) == (idle["ours"], idle["inactive_since"] is not None)
    rows: Any = fact(seen, f"{both.receiver}.subscriptions").value
    (row,) = rows
    assert (True, 2, 2, both.name()) == (row["ours"], row["tables"], row["tables_ready"], row["slot"])
    assert isinstance(row["last_received"], int)
    assert (None if _version(both.receiver_dsn) < 150000 else 0) == row["errors"]
    assert int(DISK) == fact(seen, f"{both.sender}.disk_free_bytes").value
    wal: Any = fact(seen, f"{both.sender}.wal_bytes").value
    assert wal > 0


def _marks(there: Ends) -> dict[str, str]:
    with there.sending() as source, there.receiving() as target:
        return replication.stream_marks(source, target)


class _Counted:
    """A session's `execute`, and whose it was each time."""

    def __init__(self, name: str, session: Connection, asked: list[str]) -> None:
        self._name, self._execute, self._asked = name, session.execute, asked

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._asked.append(self._name)
        return self._execute(*args, **kwargs)


def _confirmed(there: Ends, *, rows: int) -> None:
    """The receiver has so many rows, and the sender was told that they are safe there."""
    with there.sending() as session:
        (end,) = session.execute("SELECT pg_current_wal_lsn()").fetchone() or ("",)
        query = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
        assert eventually(lambda: session.execute(query, [end, there.name()]).fetchone() == (True,))
    assert rows == there.count()


def test_a_receiver_that_failed_over_misses_rows_without_an_error_and_that_is_told(
    tmp_path: Path, scratch: Path, target_db: str, pg_installations: tuple[PgInstallation, ...]
) -> None:
    """What its standby lacked it had confirmed before, so the sender leaves that out: only its timeline tells. A stream
    that was made by an earlier release claims nothing; a proof on the new timeline settles it."""
    with Cluster.create(scratch, "failing_over", pg_installations[0], settings=CHEAP_SETTINGS) as receiver:
        there = ends(tmp_path, receiver.dsn(), target_db)
        there.make_slot()
        with there.receiving() as session, session.transaction():
            state.claim_epoch(session, 1)
            begin_fill(session, slot=there.name(), point="0/0")
            mark_following(session)
        there.subscribe(enabled=True)
        there.write(rows=5)
        _confirmed(there, rows=5)
        assert there.becomes(StreamState.STREAMING).lossless
        marks = _marks(there)
        assert marks == _marks(there)

        standby = receiver.directory / "standby"
        receiver.stop()
        subprocess.run(["cp", "-a", receiver.data_dir, standby], check=True)
        receiver.start()
        there.write(rows=3)
        _confirmed(there, rows=8)
        receiver.stop()
        shutil.rmtree(receiver.data_dir)
        standby.rename(receiver.data_dir)
        promote(receiver)

        there.write()
        _confirmed(there, rows=6)
        after = there.becomes(StreamState.STREAMING)
        assert not after.lossless
        assert "old has failed over since the stream began (timeline 1, now 2)" in after.why
        now_marks = _marks(there)
        assert ("1", "2") == (marks["receiver_timeline"], now_marks["receiver_timeline"])
        assert marks["sender_timeline"] == now_marks["sender_timeline"]

        with there.receiving() as session, session.transaction():
            state.claim_epoch(session, 1)
            record_timeline(session, 2)
        assert there.stream().lossless
        with there.receiving() as session:
            session.execute("UPDATE statehub_plan.state SET fill_timeline = NULL")
        assert there.stream().lossless


def _skip_by_slot(there: Ends) -> None:
    """What was written while nobody streamed is left out by the sender: its slot was moved past it."""
    with there.receiving() as session, there.sending() as sender:
        replication.enable_subscription(session, there.name(), enabled=False)
        query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        assert eventually(lambda: sender.execute(query, [there.name()]).fetchone() == (False,))
        there.write()
        sender.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [there.name()])
        replication.enable_subscription(session, there.name())


def _skip_by_publication(there: Ends) -> None:
    """What was written while something else was subscribed is not sent."""
    change = "ALTER SUBSCRIPTION {} SET PUBLICATION {} WITH (refresh = false)"
    name = sql.Identifier(there.name())
    with there.receiving() as session, there.sending() as sender:
        sender.execute("CREATE PUBLICATION other FOR TABLE ONLY statehub_plan.barrier")
        session.execute(sql.SQL(change).format(name, sql.Identifier("other")))
        query = "SELECT string_agg(query, '') FROM pg_stat_activity WHERE backend_type = 'walsender'"
        assert eventually(lambda: '"other"' in str(sender.execute(query).fetchone()))
        there.write()
        (end,) = sender.execute("SELECT pg_current_wal_lsn()").fetchone() or ("",)
        passed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
        assert eventually(lambda: sender.execute(passed, [end, there.name()]).fetchone() == (True,))
        session.execute(sql.SQL(change).format(name, sql.Identifier(replication.PUBLICATION)))
        sender.execute("DROP PUBLICATION other")


def _skip_by_subscribed_tables(there: Ends) -> None:
    """A table that is not subscribed for a moment, and then again, without a copy."""
    with there.receiving() as session:
        session.execute("DELETE FROM pg_subscription_rel WHERE srrelid = 'public.t'::regclass")
        row = "SELECT oid, 'public.t'::regclass, 'r', NULL FROM pg_subscription WHERE subname = %s"
        session.execute(f"INSERT INTO pg_subscription_rel {row}".encode(), [there.name()])


@pytest.mark.parametrize("skip", [_skip_by_slot, _skip_by_publication, _skip_by_subscribed_tables])
def test_rows_that_are_skipped_without_an_error_change_the_marks(both: Ends, skip: Callable[[Ends], None]) -> None:
    """Slot, subscription and publication are the same afterwards, and a barrier arrives as it did."""
    both.make_slot()
    both.subscribe(enabled=True)
    both.write(rows=5)
    _confirmed(both, rows=5)
    marks = _marks(both)
    both.write(rows=2)
    _confirmed(both, rows=7)
    assert marks == _marks(both)
    assert "" not in marks.values()
    skip(both)
    both.becomes(StreamState.STREAMING)
    both.write(rows=3)
    assert eventually(lambda: both.count() == 10)
    now_marks = _marks(both)
    assert marks != now_marks
    same = ("published", "sender_timeline", "receiver_timeline")
    assert [marks[key] for key in same] == [now_marks[key] for key in same]


def test_a_stream_that_does_not_run_vouches_for_nothing(both: Ends) -> None:
    """Nobody is seen who sends or applies; the marks say so by being empty."""
    both.make_slot()
    both.subscribe(enabled=False)
    marks = _marks(both)
    assert ("", "") == (marks["sending"], marks["applying"])


def test_marks_take_three_queries(both: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers wait for each one."""
    both.make_slot()
    both.subscribe(enabled=True)
    asked: list[str] = []
    with both.sending() as source, both.receiving() as target:
        for name, session in (("source", source), ("target", target)):
            counted = _Counted(name, session, asked)
            monkeypatch.setattr(session, "execute", counted)
        replication.stream_marks(source, target)
    assert ["target", "target", "source"] == asked


def test_a_table_that_is_published_and_not_subscribed_gets_no_rows_and_that_is_told(back: Ends) -> None:
    """Publishing it is not enough: before the receiver's REFRESH PUBLICATION its rows go nowhere, without an error."""
    back.make_slot()
    back.subscribe(enabled=True)
    assert back.becomes(StreamState.STREAMING).lossless
    for dsn in (back.sender_dsn, back.receiver_dsn):
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute("CREATE TABLE public.late (id bigint PRIMARY KEY)")
    unpublished = back.stream()
    assert not unpublished.lossless
    assert "public.late" in unpublished.why
    with back.sending() as session:
        replication.publish(session, user_tables(session))
    found = back.stream()
    assert (StreamState.STREAMING, False) == (found.state, found.lossless)
    assert f"1 table that {back.sender} publishes is not subscribed by {back.receiver}" in found.why
    assert "public.late" in found.why
    with back.receiving() as session:
        replication.refresh_subscription(session, back.name())
    assert back.becomes(StreamState.STREAMING).lossless


def test_a_table_is_called_the_same_by_who_publishes_and_by_who_subscribes(back: Ends) -> None:
    """Dots and quotes in names: what is subscribed is never told as missing; what is missing is told by its name."""
    made = sql.SQL("CREATE TABLE {} (id bigint PRIMARY KEY)")
    names = [("s", "a.b"), ("s.a", "b"), ("s", 'c"d'), ("Weird Schema", 'a.b "quoted"')]
    for dsn in (back.sender_dsn, back.receiver_dsn):
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute('CREATE SCHEMA s; CREATE SCHEMA "s.a"; CREATE SCHEMA "Weird Schema"')
            for name in names[:-1]:
                session.execute(made.format(sql.Identifier(*name)))
    back.make_slot()
    back.subscribe(enabled=True)
    found = back.becomes(StreamState.STREAMING)
    assert found.lossless, found.why

    for dsn in (back.sender_dsn, back.receiver_dsn):
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute(made.format(sql.Identifier(*names[-1])))
    with back.sending() as session:
        replication.publish(session, user_tables(session))
    found = back.stream()
    assert not found.lossless
    assert f": {qualified(*names[-1])}; `refresh` takes in" in found.why


def _version(dsn: str) -> int:
    with closing(psycopg.connect(dsn)) as session:
        return session.info.server_version


def test_how_much_wal_there_is_takes_a_privilege_that_is_named(tmp_path: Path, source_db: str, target_db: str) -> None:
    """Whoever may not look is told what to grant; a disk that nobody watches, what to declare."""
    served = serve(target_db)
    old, new = endpoint(tmp_path, "old", source_db), endpoint(tmp_path, "new", served.tool_dsn)
    plan = plan_of(old, new, transfer={"method": "replication"})
    seen = observe(plan, tmp_path, now=now, timeout_s=30)
    for name, remedy in (("wal_bytes", f'GRANT pg_monitor TO "{served.tool_role}"'), ("disk_free_bytes", "diskFree")):
        found = fact(seen, f"new.{name}")
        assert FactStatus.UNKNOWN is found.status
        assert remedy in str(found.reason)


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (["false"], "exit status 1"),
        (["echo", "12 GB"], "'12 GB', which is not one number"),
        (["echo", "-5"], "not one number"),
        (["printf", ""], "not one number"),
        (["echo", "9" * 30], "not one number"),
        (["sleep", "30"], "did not end within"),
        (["no-such-command-anywhere"], "could not be started"),
        (None, "nobody knows how much disk is left"),
    ],
)
def test_a_disk_command_that_lies_or_hangs_makes_the_fact_unknown(
    argv: list[str] | None, wrong: str, tmp_path: Path
) -> None:
    """No answer is not plenty of room."""
    with pytest.raises(StatehubError) as caught:
        disk_free_bytes(argv, tmp_path, timeout_s=0.2 if argv and argv[0] == "sleep" else 10)
    assert wrong in caught.value.what
    assert caught.value.hint


def test_a_disk_command_prints_one_number(tmp_path: Path) -> None:
    """With or without the line break that most commands end with; it runs in the document's folder, without a shell."""
    (tmp_path / "left").write_text("42\n")
    assert 42 == disk_free_bytes(["cat", "left"], tmp_path)


def test_the_worker_of_a_subscription_is_no_superuser_at_work(back: Ends) -> None:
    """Nobody can be asked to stay out of it: the role that subscribed owns it, up to PostgreSQL 15 a superuser."""
    back.make_slot()
    back.subscribe(enabled=True)
    back.becomes(StreamState.STREAMING)
    chosen = [one for one in CHECKS if one.id == "superuser-sessions"]
    with back.receiving() as here, back.sending() as there:
        assert () == run_checks(End(here), End(there), Move(TransferMethod.REPLICATION), checks=chosen)
        with psycopg.connect(back.receiver_dsn):
            (found,) = run_checks(End(here), End(there), Move(TransferMethod.REPLICATION), checks=chosen)
    assert "superusers have sessions" in found.what
