"""The incremental proof: the keys that changed since a baseline, and every doubt about them, on real slots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.by_keys import Changes, settle
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import nobody_looks, nothing_to_lose
from tests.integration.moving import run_script

SCHEMA = """
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE TABLE public.keyed (id bigint PRIMARY KEY, v text);
CREATE TABLE public.pairs (a public.mood, "b%s" timestamptz, v numeric, PRIMARY KEY ("b%s", a));
CREATE TABLE public.whole (id integer PRIMARY KEY, v text);
ALTER TABLE public.whole REPLICA IDENTITY FULL;
CREATE TABLE public.no_key (v text);
CREATE TABLE public.other_identity (id integer PRIMARY KEY, other integer NOT NULL UNIQUE, v text);
ALTER TABLE public.other_identity REPLICA IDENTITY USING INDEX other_identity_other_key;
CREATE TABLE public.parts (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (100);
CREATE TABLE public.parts_2 PARTITION OF public.parts DEFAULT;
CREATE TABLE public.apart (id integer PRIMARY KEY, v text);
CREATE UNLOGGED TABLE public.cache (id integer PRIMARY KEY, v text);
CREATE TABLE public.doubt_1 (id integer PRIMARY KEY, v text);
CREATE TABLE public.doubt_2 (id integer PRIMARY KEY, v text);
CREATE TABLE public.doubt_3 (id integer PRIMARY KEY, v text);
CREATE TABLE public.doubt_4 (id integer PRIMARY KEY, v text);
CREATE PUBLICATION changed FOR TABLE public.keyed, public.pairs, public.whole, public.no_key, public.other_identity,
    public.parts, public.doubt_1, public.doubt_2, public.doubt_3, public.doubt_4;
INSERT INTO public.keyed SELECT n, 'row ' || n FROM generate_series(1, 3000) n;
INSERT INTO public.pairs SELECT 'ok', timestamptz '2024-01-01 00:00Z' + n * interval '1 s', n
    FROM generate_series(1, 50) n;
INSERT INTO public.whole SELECT n, 'w' FROM generate_series(1, 50) n;
INSERT INTO public.no_key SELECT 'x' FROM generate_series(1, 5);
INSERT INTO public.other_identity SELECT n, n, 'o' FROM generate_series(1, 5) n;
INSERT INTO public.parts SELECT n, 'p' FROM generate_series(50, 150) n;
"""
LABOUR = Labour(1, CHUNK_BYTES, nothing_to_lose, nobody_looks)
DOUBTS = {
    # a table that has to be read whole: what is done on both sides, and the reason that is told
    "public.doubt_1": ("TRUNCATE public.doubt_1", "was truncated"),
    "public.doubt_2": ("ALTER TABLE public.doubt_2 ADD late integer DEFAULT 7", "redefined"),
    "public.doubt_3": ("ALTER TABLE public.doubt_3 ALTER v TYPE varchar(30)", "redefined"),
    "public.doubt_4": ("ALTER TABLE public.doubt_4 RENAME v TO w", "redefined"),
    "public.no_key": ("INSERT INTO public.no_key VALUES ('y')", "no key that its replica identity tells"),
    "public.other_identity": ("UPDATE public.other_identity SET v = 'p'", "no key that its replica identity tells"),
    "public.new": ("CREATE TABLE public.new (id integer PRIMARY KEY)", "baseline did not find it equal"),
    "public.apart": ("UPDATE public.apart SET v = ''", "in none of the publications"),
    "public.cache": ("UPDATE public.cache SET v = ''", "in none of the publications"),
}


@dataclass(frozen=True)
class Watched:
    """Two databases that were equal, and the logs of both since."""

    source: str
    target: str
    changes: Changes

    def both(self, script: str) -> None:
        """The same on both sides."""
        run_script(self.source, script)
        run_script(self.target, script)

    def proved(self) -> Comparison:
        """By changed keys; the full comparison must say the same."""
        found = compare(self.source, self.target, changes=self.changes)
        full = compare(self.source, self.target)
        assert full.answer is found.answer
        assert told(full) == told(found)
        return found


def told(found: Comparison) -> dict[str, set[tuple[str | None, str]]]:
    """Which rows of which tables differ."""
    return {each.object: {(row.key, row.what) for row in each.rows} for each in found.differences}


@contextmanager
def watching(source: str, target: str) -> Iterator[Watched]:
    """Slots first, then the baseline."""
    with ExitStack() as stack:
        logs = []
        for side, dsn in (("source", source), ("target", target)):
            slot = f"changes_{side}_{dsn.rpartition('_')[2]}"
            log = stack.enter_context(ChangeLog(dsn, slot=slot, publications=["changed"]))
            logs.append(log)
        baseline = compare(source, target)
        assert baseline.answer is Answer.EQUAL
        yield Watched(source, target, Changes(logs[0], logs[1], baseline))


@pytest.fixture
def watched(source_db: str, target_db: str) -> Iterator[Watched]:
    """A pair with a bit of everything."""
    run_script(source_db, SCHEMA)
    run_script(target_db, SCHEMA)
    with watching(source_db, target_db) as pair:
        yield pair


def test_only_changed_keys_are_read(watched: Watched) -> None:
    """Inserts, updates, deletes, updates of keys, partitions, hostile names: equal while both sides do the same, with
    exactly the changed keys looked at."""
    watched.both(
        "UPDATE public.keyed SET v = 'new' WHERE id IN (1, 2); DELETE FROM public.keyed WHERE id = 3; "
        "UPDATE public.keyed SET id = 9004 WHERE id = 4; INSERT INTO public.keyed VALUES (9005, NULL); "
        "UPDATE public.pairs SET v = 1.00 WHERE v = 1; UPDATE public.whole SET id = 99 WHERE id = 1; "
        "UPDATE public.parts SET v = 'q' WHERE id IN (99, 101)"
    )
    found = watched.proved()
    assert Answer.EQUAL is found.answer
    assert {("1",), ("2",), ("3",), ("4",), ("9004",), ("9005",)} == set(watched.changes.keys("public.keyed"))
    assert [("ok", "2024-01-01 00:00:01+00")] == watched.changes.keys("public.pairs")
    assert [("1",), ("99",)] == watched.changes.keys("public.whole")
    assert ([("99",)], [("101",)]) == tuple(watched.changes.keys(f"public.parts_{n}") for n in (1, 2))
    (keyed,) = (table for table in found.tables if table.table == "public.keyed")
    assert "6 changed keys were compared" in str(keyed.reason)
    read_whole = {note.split(" was read whole")[0] for note in found.notes if "was read whole" in note}
    assert {"table public.apart", "table public.cache"} == read_whole


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_change_of_one_side_alone_is_found_and_located(watched: Watched, side: str) -> None:
    """Whoever made it, on either side: the verdict and the rows are those of the full comparison."""
    watched.both("UPDATE public.keyed SET v = 'new' WHERE id < 1500")
    alone = getattr(watched, side)
    run_script(
        alone,
        "UPDATE public.keyed SET v = 'alone' WHERE id = 77; DELETE FROM public.keyed WHERE id = 2000; "
        "UPDATE public.pairs SET v = v + 0.0 WHERE v = 2; INSERT INTO public.whole VALUES (1000, 'w')",
    )
    found = watched.proved()
    assert Answer.DIFFERENT is found.answer
    assert ("(77)", "changed") in told(found)["public.keyed"]
    assert {"public.keyed", "public.pairs", "public.whole"} == told(found).keys()


def test_a_doubt_leads_to_the_full_comparison_and_is_told(watched: Watched) -> None:
    """What a slot does not tell: those tables are read whole, equal or not, and the notes say why."""
    watched.both(";".join(script for script, _ in DOUBTS.values()))
    found = watched.proved()
    assert Answer.EQUAL is found.answer
    reasons = dict(note.split(" was read whole: ") for note in found.notes if " was read whole: " in note)
    assert {f"table {table}" for table in DOUBTS} == reasons.keys()
    assert [] == [table for table, (_, reason) in DOUBTS.items() if reason not in reasons[f"table {table}"]]
    for table in DOUBTS.keys() - {"public.other_identity"}:
        run_script(watched.target, f"INSERT INTO {table} VALUES (777)")
    assert DOUBTS.keys() - {"public.other_identity"} == told(watched.proved()).keys()


def test_a_publication_that_was_changed_vouches_for_nothing(watched: Watched) -> None:
    """A table that was left out for a while has changed unseen; that it is back hides it from everybody but the log."""
    run_script(
        watched.source,
        "ALTER PUBLICATION changed DROP TABLE public.keyed; UPDATE public.keyed SET v = 'unseen' WHERE id = 4; "
        "ALTER PUBLICATION changed ADD TABLE public.keyed",
    )
    found = watched.proved()
    assert {"public.keyed": {("(4)", "changed")}} == told(found)
    assert any("what is published was changed" in note for note in found.notes)


def test_catalogs_are_compared_anew_when_one_has_changed(watched: Watched) -> None:
    """Unchanged ones are known to be equal from the baseline; a change of either side is found, whichever it is."""
    unchanged = "neither catalog has changed since the baseline, which found them equal"
    assert unchanged in watched.proved().notes
    run_script(watched.target, "COMMENT ON TABLE public.keyed IS 'only here'; ANALYZE public.keyed")
    found = watched.proved()
    assert ["comment table public.keyed"] == [f"{each.kind} {each.object}" for each in found.differences]
    run_script(watched.source, "COMMENT ON TABLE public.keyed IS 'only here'")
    found = watched.proved()
    assert (Answer.EQUAL, False) == (found.answer, unchanged in found.notes)


def test_what_is_in_no_slot_is_always_read(source_db: str, target_db: str) -> None:
    """Large objects: equal at the baseline, changed on one side since."""
    for dsn in (source_db, target_db):
        run_script(dsn, SCHEMA + "SELECT lo_from_bytea(70001, 'same')")
    with watching(source_db, target_db) as pair:
        run_script(pair.target, "SELECT lo_put(70001, 0, 'other')")
        assert {"pg_catalog.pg_largeobject": {("(70001)", "changed")}} == told(pair.proved())


def test_a_rewrite_that_changes_no_row_is_a_doubt_too(watched: Watched) -> None:
    """VACUUM FULL looks like any other rewrite."""
    with psycopg.connect(watched.target, autocommit=True) as connection:
        connection.execute("VACUUM FULL public.keyed")
    assert any("public.keyed was read whole: target:" in note for note in watched.proved().notes)


def consume(watched: Watched) -> None:
    """Somebody else reads from the slot."""
    run_script(watched.source, "UPDATE public.keyed SET v = 'stolen' WHERE id = 5")
    with psycopg.connect(watched.source, autocommit=True) as connection:
        connection.execute(
            "SELECT count(*) FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '1', "
            "'publication_names', 'changed')",
            [watched.changes.source.slot],
        )


def make_anew(watched: Watched) -> None:
    """The slot is dropped and made again, and has a gap."""
    with psycopg.connect(watched.source, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [watched.changes.source.slot])
        connection.execute("UPDATE public.keyed SET v = 'in the gap' WHERE id = 5")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [watched.changes.source.slot])


def drop(watched: Watched) -> None:
    """The slot is gone."""
    watched.changes.source.drop_slot()
    run_script(watched.source, "UPDATE public.keyed SET v = 'unseen' WHERE id = 5")


def end_session(watched: Watched) -> None:
    """The log's session is ended by an administrator."""
    run_script(watched.source, "UPDATE public.keyed SET v = 'unseen' WHERE id = 5")
    run_script(
        watched.source,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'statehub-plan changes' AND datname = current_database()",
    )


@pytest.mark.parametrize("meddle", [consume, make_anew, drop, end_session])
def test_a_slot_that_was_meddled_with_vouches_for_nothing(watched: Watched, meddle: Callable[[Watched], None]) -> None:
    """A gap in the changes is noticed: everything is read whole, and the difference is found."""
    meddle(watched)
    found = watched.proved()
    assert {"public.keyed": {("(5)", "changed")}} == told(found)
    assert watched.changes.source.doubt is not None
    assert any(note.startswith("table public.whole was read whole: source: changes could not") for note in found.notes)


def test_keys_are_settled_while_writing_goes_on(watched: Watched) -> None:
    """What is the same on both sides need not be looked at again; what differs, or changes again, is."""
    watched.both("UPDATE public.keyed SET v = 'once' WHERE id <= 2500")
    run_script(watched.source, "UPDATE public.keyed SET v = 'ahead' WHERE id = 2800")
    left = settle(watched.source, watched.target, watched.changes, LABOUR)
    assert 1 <= left <= 1000
    assert ("2800",) in watched.changes.keys("public.keyed")
    run_script(watched.target, "UPDATE public.keyed SET v = 'ahead' WHERE id = 2800")
    assert 0 == settle(watched.source, watched.target, watched.changes, LABOUR)
    assert Answer.EQUAL is watched.proved().answer
    run_script(watched.target, "UPDATE public.keyed SET v = 'late' WHERE id = 10")
    assert {"public.keyed": {("(10)", "changed")}} == told(watched.proved())


def test_changes_up_to_a_given_snapshot_and_later_ones(watched: Watched) -> None:
    """Logs that have seen more than the snapshots do no harm."""
    watched.both("UPDATE public.keyed SET v = 'before' WHERE id = 1")
    with Snapshot(watched.source, purpose="test") as ours, Snapshot(watched.target, purpose="test") as theirs:
        run_script(
            watched.source, "UPDATE public.keyed SET v = 'after' WHERE id = 2; INSERT INTO public.whole VALUES (77)"
        )
        found = compare(watched.source, watched.target, snapshots=(ours, theirs), changes=watched.changes)
    assert (Answer.EQUAL, ()) == (found.answer, found.differences)


def test_a_commit_that_others_do_not_see_yet_is_not_settled(watched: Watched, source_cluster: Cluster) -> None:
    """It is in the WAL, and so in the slot, before the session that waits for a standby makes it visible."""
    with psycopg.connect(source_cluster.dsn(), autocommit=True, options="-c synchronous_commit=local") as server:

        def demand(standby: str) -> None:
            server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'".encode())
            server.execute("SELECT pg_reload_conf()")

        writer = threading.Thread(
            target=run_script, args=(watched.source, "UPDATE public.keyed SET v = 'x' WHERE id = 1")
        )
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        demand("nobody")
        try:
            until_shown(server, "synchronous_standby_names", "nobody")
            writer.start()
            while not server.execute(waiting).fetchall():
                pass
            for _ in range(3):  # what an earlier reading took in is not visible any sooner
                assert 1 == settle(watched.source, watched.target, watched.changes, LABOUR)
            assert [("1",)] == watched.changes.keys("public.keyed")
        finally:
            demand("")
            until_shown(server, "synchronous_standby_names", "")
            server.execute(f"SELECT pg_cancel_backend(pid) FROM ({waiting}) x".encode())
            writer.join()
    assert {"public.keyed": {("(1)", "changed")}} == told(watched.proved())


def until_shown(server: psycopg.Connection, name: str, value: str) -> None:
    """A reloaded setting has arrived."""
    while server.execute("SELECT current_setting(%s)", [name]).fetchone() != (value,):
        pass


class _Stop(Exception):
    """What a caller that lost its lease raises."""


def test_who_waits_no_longer_ends_the_reading_of_changes(watched: Watched) -> None:
    """Under a hold nobody waits for the decoding of a large transaction: its rest is left, and all of it in doubt."""
    watched.both("INSERT INTO public.keyed SELECT n, 'x' FROM generate_series(10000, 309999) n")
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        raise _Stop

    with pytest.raises(_Stop):
        compare(watched.source, watched.target, changes=watched.changes, check=check)
    assert [1] == looks
    assert "could not be read" in str(watched.changes.source.doubt)
    assert Answer.EQUAL is compare(watched.source, watched.target, changes=watched.changes).answer


def test_a_comparison_ends_in_its_time_while_changes_are_read(watched: Watched) -> None:
    """What `timeout_s` says holds for whatever takes time; the answer is that nothing is known."""
    watched.both("INSERT INTO public.keyed SELECT n, 'x' FROM generate_series(10000, 309999) n")
    found = compare(watched.source, watched.target, changes=watched.changes, timeout_s=0.01)
    assert Answer.UNKNOWN is found.answer
    assert "did not end within" in found.unknown[0]
    assert "could not be read" in str(watched.changes.source.doubt)


STATEMENTS = (
    "UPDATE public.keyed SET v = v || '{n}' WHERE id % 7 = {n} % 7",
    "DELETE FROM public.keyed WHERE id = {n}",
    "INSERT INTO public.keyed VALUES (10000 + {n}, 'i') ON CONFLICT DO NOTHING",
    "UPDATE public.keyed SET id = -id WHERE id = {n}",
    "UPDATE public.pairs SET a = 'sad' WHERE v = {n} % 50",
    "DELETE FROM public.whole WHERE id = {n} % 50",
    "INSERT INTO public.no_key VALUES ('{n}')",
    "TRUNCATE public.other_identity",
    "UPDATE public.parts SET id = id + 200 WHERE id = 50 + {n} % 100",
)
WHERE = ("both", "both", "source", "settle")
ANEW = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION IF EXISTS changed; "


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(STATEMENTS), st.integers(0, 99), st.sampled_from(["both", "both", "source", "settle"])
        ),
        max_size=8,
    )
)
def test_the_verdict_is_always_that_of_the_full_comparison(
    forgetful: tuple[str, str], steps: list[tuple[str, int, str]]
) -> None:
    """Whatever was written, on one side or both, with settling in between."""
    for dsn in forgetful:
        run_script(
            dsn, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION IF EXISTS changed; " + SCHEMA
        )
    with watching(*forgetful) as pair:
        try:
            for statement, number, where in steps:
                script = statement.replace("{n}", str(number))
                if where == "settle":
                    settle(pair.source, pair.target, pair.changes, LABOUR)
                elif where == "both":
                    pair.both(script)
                else:
                    run_script(pair.source, script)
            pair.proved()
        finally:
            pair.changes.source.drop_slot()
            pair.changes.target.drop_slot()


@pytest.fixture
def forgetful(source_db: str, target_db: str) -> tuple[str, str]:
    """Two databases whose content each example replaces."""
    return source_db, target_db
