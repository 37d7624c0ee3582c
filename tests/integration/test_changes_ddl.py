"""The incremental proof when definitions changed since the baseline, also back to what they were: rows that no log
tells of, and keys that no longer mean what they meant, must be found by the full comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.by_keys import Changes, settle
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.replication import PUBLICATION
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import nobody_looks, nothing_to_lose
from tests.integration.moving import database, run_script

LABOUR = Labour(1, CHUNK_BYTES, nothing_to_lose, nobody_looks)
TABLE = "CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL, v text); "
ROWS = "INSERT INTO t SELECT n, n + 1000, 'x' FROM generate_series(1, 20) n; "
PLAIN = TABLE + ROWS
WHOLE_IDENTITY = PLAIN + "ALTER TABLE t REPLICA IDENTITY FULL; "
LABELS = "CREATE TYPE e AS ENUM ('a', 'b'); "
CHANGE = "UPDATE t SET v = 'y' WHERE id = 5; "
SWAP_LABELS = "ALTER TYPE e RENAME VALUE 'a' TO 'c'; ALTER TYPE e RENAME VALUE 'b' TO 'a'; " + (
    "ALTER TYPE e RENAME VALUE 'c' TO 'b'; "
)
SWAP_NAMES = "ALTER TABLE t RENAME id TO q; ALTER TABLE t RENAME other TO id; ALTER TABLE t RENAME q TO other; "
PARTS = (
    "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); "
    "CREATE TABLE t PARTITION OF p FOR VALUES FROM (0) TO (1000); INSERT INTO p SELECT n, 'x' FROM "
    "generate_series(1, 20) n; "
)
ATTACH = "ALTER TABLE p ATTACH PARTITION t FOR VALUES FROM (0) TO (1000); "


@dataclass(frozen=True)
class Case:
    """A schema of its own with a table t. `before`: on the source, and both logs catch up afterwards; then `alone` on
    the source and `other` on the target, then `both` on both."""

    made: str = PLAIN
    made_on_target: str = ""
    before: str = ""
    alone: str = ""
    other: str = ""
    both: str = ""


DIFFERENT = {
    "key_moved": Case(
        before=CHANGE, both="ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (other)"
    ),
    "key_narrowed": Case(
        "CREATE TABLE t (id int, other int, v text, PRIMARY KEY (id, other)); " + ROWS,
        before=CHANGE,
        both="ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (other)",
    ),
    "key_widened": Case(
        before=CHANGE, both="ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, other)"
    ),
    "key_dropped": Case(before=CHANGE, both="ALTER TABLE t DROP CONSTRAINT t_pkey"),
    "key_dropped_and_made_anew": Case(
        alone="ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t DROP CONSTRAINT t_pkey; "
        "ALTER TABLE t ADD PRIMARY KEY (other); DELETE FROM t WHERE id = 5; ALTER TABLE t DROP CONSTRAINT t_pkey; "
        "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ),
    "renamed_and_back": Case(alone="ALTER TABLE t RENAME TO q; UPDATE q SET v = 'y'; ALTER TABLE q RENAME TO t"),
    "schema_renamed": Case(
        alone="ALTER SCHEMA schema_renamed RENAME TO elsewhere; UPDATE elsewhere.t SET v = 'y'; "
        "ALTER SCHEMA elsewhere RENAME TO schema_renamed"
    ),
    "truncated_elsewhere": Case(
        alone="ALTER TABLE t RENAME TO q; TRUNCATE q; ALTER TABLE q RENAME TO t; INSERT INTO t VALUES (5, 5, 'y')"
    ),
    "in_place_of_another": Case(
        PLAIN + "CREATE TABLE u (LIKE t INCLUDING ALL); ",
        alone="ALTER TABLE t RENAME TO q; ALTER TABLE u RENAME TO t; ALTER TABLE q RENAME TO u; "
        "UPDATE u SET v = 'y' WHERE id = 5; "
        "ALTER TABLE t RENAME TO q; ALTER TABLE u RENAME TO t; ALTER TABLE q RENAME TO u; ",
    ),
    "labels_of_key_swapped": Case(
        LABELS + "CREATE TABLE t (id e PRIMARY KEY, v text); INSERT INTO t VALUES ('a', '1'), ('b', '2'); ",
        before="UPDATE t SET v = '9' WHERE id = 'a'",
        both=SWAP_LABELS,
    ),
    "label_of_key_renamed": Case(
        LABELS + "CREATE TABLE t (id e PRIMARY KEY, v text); INSERT INTO t VALUES ('a', '1'), ('b', '2'); ",
        before="UPDATE t SET v = '9' WHERE id = 'a'",
        both="ALTER TYPE e RENAME VALUE 'a' TO 'c'",
    ),
    # The labels are the same on both sides in the end, and which of them a row has is not. No row is ever written.
    "labels_in_another_way": Case(
        LABELS + "CREATE TABLE t (id int PRIMARY KEY, v e); INSERT INTO t VALUES (1, 'a'), (2, 'b'); ",
        alone="ALTER TYPE e RENAME VALUE 'a' TO 'c'; ALTER TYPE e ADD VALUE 'a' BEFORE 'c'",
        other="ALTER TYPE e ADD VALUE 'c' AFTER 'a'",
    ),
    "labels_far_away": Case(
        LABELS + "CREATE DOMAIN d AS e; CREATE TYPE c AS (x int, y d[]); CREATE DOMAIN cs AS c[]; "
        "CREATE TABLE t (id int PRIMARY KEY, v cs); INSERT INTO t VALUES (1, ARRAY[ROW(1, ARRAY['a'::e])::c]); ",
        alone="ALTER TYPE e RENAME VALUE 'a' TO 'c'; ALTER TYPE e ADD VALUE 'a' BEFORE 'c'",
        other="ALTER TYPE e ADD VALUE 'c' AFTER 'a'",
    ),
    "labels_in_a_range": Case(
        LABELS + "CREATE TYPE er AS RANGE (subtype = e); CREATE TABLE t (id int PRIMARY KEY, v er, w er); "
        "INSERT INTO t VALUES (1, '[a,b)', '[a,b]'); ",
        alone="ALTER TYPE e RENAME VALUE 'a' TO 'c'; ALTER TYPE e ADD VALUE 'a' BEFORE 'c'",
        other="ALTER TYPE e ADD VALUE 'c' AFTER 'a'",
    ),
    "attribute_made_anew": Case(
        "CREATE TYPE c AS (x int, y int); CREATE TABLE t (id int PRIMARY KEY, v c); "
        "INSERT INTO t VALUES (1, '(1,2)'); ",
        alone="ALTER TYPE c DROP ATTRIBUTE y; ALTER TYPE c ADD ATTRIBUTE y int",
    ),
    "attribute_of_a_table_made_anew": Case(
        "CREATE TABLE c (x int, y int); CREATE TABLE t (id int PRIMARY KEY, v c); INSERT INTO t VALUES (1, '(1,2)'); ",
        alone="ALTER TABLE c DROP y; ALTER TABLE c ADD y int",
    ),
    "names_swapped": Case(WHOLE_IDENTITY, before=CHANGE, both=SWAP_NAMES),
    "names_swapped_and_back": Case(
        WHOLE_IDENTITY, alone=SWAP_NAMES + "UPDATE t SET v = 'y' WHERE other = 5; " + SWAP_NAMES
    ),
    # Neither index is the primary key's, and each side takes the one that was made first.
    "other_key_on_the_other_side": Case(
        "CREATE TABLE t (id int NOT NULL UNIQUE, other int NOT NULL UNIQUE, v text); "
        + ROWS
        + "ALTER TABLE t REPLICA IDENTITY FULL; ",
        "CREATE TABLE t (id int NOT NULL, other int NOT NULL UNIQUE, v text); ALTER TABLE t ADD UNIQUE (id); "
        + ROWS
        + "ALTER TABLE t REPLICA IDENTITY FULL; ",
        before="DELETE FROM t WHERE id = 5",
    ),
    "identity_toggled": Case(
        alone="ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (500, 5, 'q'); "
        "ALTER TABLE t REPLICA IDENTITY DEFAULT"
    ),
    # What was a key is none any more for the domain's constraint, which old rows need not meet.
    "key_cannot_be_asked_for": Case(
        "CREATE DOMAIN d AS int; CREATE TABLE t (id d PRIMARY KEY, other int NOT NULL, v text); " + ROWS,
        before=CHANGE,
        both="ALTER DOMAIN d ADD CHECK (VALUE > 100) NOT VALID",
    ),
    "key_of_another_length": Case(
        "CREATE TABLE t (id varchar(10) PRIMARY KEY, other int NOT NULL, v text); " + ROWS,
        before="UPDATE t SET v = 'y' WHERE id = '5'",
        both="ALTER TABLE t ALTER id TYPE varchar(20)",
    ),
    "collation_of_key": Case(
        'CREATE TABLE t (id text COLLATE "C" PRIMARY KEY, other int NOT NULL, v text); ' + ROWS,
        before="UPDATE t SET v = 'y' WHERE id = '5'",
        both='ALTER TABLE t ALTER id TYPE text COLLATE "POSIX"',
    ),
    "part_was_out": Case(PARTS, alone="ALTER TABLE p DETACH PARTITION t; " + CHANGE + ATTACH),
    "triggers_off": Case(alone="SET session_replication_role = replica; " + CHANGE),
}
ALL_AGAIN = (
    "ALTER PUBLICATION changed SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
)
OUT_OF_SIGHT = {
    # what is published, what is in the schema s, and what happens on the source while nobody looks
    "a part detached": ("FOR TABLE p", PARTS, "ALTER TABLE p DETACH PARTITION t; " + CHANGE + ATTACH),
    "a schema left out": (
        "FOR TABLES IN SCHEMA s",
        PLAIN,
        f"ALTER PUBLICATION changed DROP TABLES IN SCHEMA s; {CHANGE} ALTER PUBLICATION changed ADD TABLES IN SCHEMA s",
    ),
    "a table in another schema": (
        "FOR TABLES IN SCHEMA s",
        PLAIN,
        "ALTER TABLE t SET SCHEMA z; UPDATE z.t SET v = 'y' WHERE id = 5; ALTER TABLE z.t SET SCHEMA s",
    ),
    "a root in another schema": (
        "FOR TABLES IN SCHEMA r",
        PARTS + "ALTER TABLE p SET SCHEMA r",
        f"ALTER TABLE r.p SET SCHEMA z; {CHANGE} ALTER TABLE z.p SET SCHEMA r",
    ),
    "a part of another root": (
        "FOR TABLE p",
        PARTS + "CREATE TABLE other (LIKE p INCLUDING ALL) PARTITION BY RANGE (id); ",
        f"ALTER TABLE p DETACH PARTITION t; {ATTACH.replace(' p ', ' other ')} {CHANGE} "
        f"ALTER TABLE other DETACH PARTITION t; {ATTACH}",
    ),
    "a branch detached": (
        "FOR TABLE root",
        PARTS + "CREATE TABLE root (LIKE p INCLUDING ALL) PARTITION BY RANGE (id); "
        "ALTER TABLE root ATTACH PARTITION p FOR VALUES FROM (0) TO (1000)",
        f"ALTER TABLE root DETACH PARTITION p; {CHANGE} "
        "ALTER TABLE root ATTACH PARTITION p FOR VALUES FROM (0) TO (1000)",
    ),
    "a table made anew": ("FOR TABLES IN SCHEMA s", PLAIN, "DROP TABLE t; " + PLAIN + CHANGE),
    "an unlogged table": (
        "FOR ALL TABLES",
        PLAIN,
        f"ALTER TABLE t SET UNLOGGED; {CHANGE} ALTER TABLE t SET LOGGED",
    ),
    "only insertions": (
        "FOR TABLE t",
        PLAIN,
        f"ALTER PUBLICATION changed SET (publish = 'insert'); {CHANGE} {ALL_AGAIN}",
    ),
    "roots in place of parts": (
        "FOR TABLE p",
        PARTS,
        f"ALTER PUBLICATION changed SET (publish_via_partition_root); {CHANGE} {ALL_AGAIN}",
    ),
    "a filter": (
        "FOR TABLE t",
        PLAIN,
        f"ALTER PUBLICATION changed SET TABLE t WHERE (id > 7); {CHANGE} ALTER PUBLICATION changed SET TABLE t",
    ),
    "a list of columns": (
        "FOR TABLE t",
        PLAIN,
        "ALTER TABLE t REPLICA IDENTITY NOTHING; ALTER PUBLICATION changed SET TABLE t (other); "
        "INSERT INTO t VALUES (500, 1); ALTER PUBLICATION changed SET TABLE t; ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ),
    "another publication of the name": (
        "FOR ALL TABLES",
        PLAIN,
        f"DROP PUBLICATION changed; {CHANGE} CREATE PUBLICATION changed FOR ALL TABLES",
    ),
    "a publication of another name": (
        "FOR TABLE t",
        PLAIN,
        f"ALTER PUBLICATION changed RENAME TO other; {CHANGE} ALTER PUBLICATION other RENAME TO changed",
    ),
}
ORDINARY = (
    # on both sides; of these nothing makes a table doubtful but those that are named below
    "UPDATE t SET v = 'z' WHERE id = 3; UPDATE p SET v = 'z' WHERE id = 3; UPDATE moods SET v = 'b' WHERE id = 1; "
    "ANALYZE; VACUUM; VACUUM FREEZE t; VACUUM FULL pg_class; VACUUM FULL pg_attribute; VACUUM FULL pg_enum; "
    "CREATE INDEX CONCURRENTLY later ON t (v); CREATE INDEX ON p (v); CREATE INDEX CONCURRENTLY ON bare (v); "
    "DROP INDEX CONCURRENTLY later; COMMENT ON TABLE t IS 'looked at'; "
    "CREATE TEMPORARY TABLE passing (id int PRIMARY KEY, v e); CREATE TABLE late (id int PRIMARY KEY, v e); "
    "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (2000); ALTER TABLE altered ADD w int; "
    "CREATE TYPE other AS ENUM ('a'); ALTER TYPE other ADD VALUE 'b'; GRANT USAGE ON SCHEMA z TO PUBLIC; "
    "SELECT nextval('numbers'); CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1"
)


@dataclass(frozen=True)
class Watched:
    """Two databases that were equal, and the logs of both since."""

    source: str
    target: str
    changes: Changes

    def proved(self) -> Comparison:
        """By changed keys; the full comparison must say the same of every row."""
        found, full = compare(self.source, self.target, changes=self.changes), compare(self.source, self.target)
        assert (told(full), full.answer) == (told(found), found.answer)
        return found


def told(found: Comparison) -> dict[str, set[str]]:
    """What is different, and in which rows."""
    return {f"{each.kind} {each.object}": {str(row) for row in each.rows} for each in found.differences}


@contextmanager
def watching(source: str, target: str) -> Iterator[Watched]:
    """Slots first, then the baseline."""
    with ExitStack() as stack:
        logs = []
        for dsn in (source, target):
            slot = f"ddl_{dsn.rpartition('_')[2]}"
            logs.append(stack.enter_context(ChangeLog(dsn, slot=slot, publications=["changed"], temporary=True)))
        baseline = compare(source, target)
        assert (Answer.EQUAL, ()) == (baseline.answer, baseline.differences)
        yield Watched(source, target, Changes(logs[0], logs[1], baseline))


def run_in(schema: str, dsn: str, script: str) -> None:
    """Statement by statement, each in a transaction of its own: some of these do not see each other's types."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"SET search_path = {schema}".encode())
        for statement in script.split(";"):
            if statement.strip():
                connection.execute(statement.encode())


@pytest.fixture(scope="module")
def both(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[tuple[str, str]]:
    """A pair of databases whose content each test replaces."""
    with database(source_cluster) as source, database(target_cluster) as target:
        yield source, target


def make(both: tuple[str, str], cases: dict[str, Case]) -> None:
    """Every case in its schema, and a publication of exactly the tables that hold rows."""
    for dsn in both:
        clear(dsn)
        for name, case in cases.items():
            run_script(dsn, f"CREATE SCHEMA {name}")
            run_in(name, dsn, (case.made_on_target if dsn == both[1] else "") or case.made)
        run_script(
            dsn,
            "DO $$ BEGIN EXECUTE (SELECT 'CREATE PUBLICATION changed FOR TABLE ONLY ' || string_agg(format('%I.%I', "
            "schemaname, tablename), ', ') FROM pg_tables JOIN pg_class c ON c.oid = format('%I.%I', schemaname, "
            "tablename)::regclass WHERE relkind = 'r' AND schemaname !~ '^(pg_|information_schema)'); END $$",
        )


def clear(dsn: str) -> None:
    """Nothing but the schema public."""
    run_script(
        dsn,
        "DROP PUBLICATION IF EXISTS changed; DO $$ DECLARE s text; BEGIN FOR s IN SELECT nspname FROM pg_namespace "
        "WHERE nspname !~ '^(pg_|information_schema|public)' LOOP EXECUTE format('DROP SCHEMA %I CASCADE', s); "
        "END LOOP; END $$",
    )


def test_definitions_that_changed_hide_no_row(both: tuple[str, str]) -> None:
    """Each of these has rows that differ and that no log names, or not by what is the key now."""
    make(both, DIFFERENT)
    with watching(*both) as pair:
        for name, case in DIFFERENT.items():
            run_in(name, pair.source, case.before)
        pair.changes.catch_up()
        for name, case in DIFFERENT.items():
            run_in(name, pair.source, case.alone)
            run_in(name, pair.target, case.other)
            for dsn in both:
                run_in(name, dsn, case.both)
        settle(pair.source, pair.target, pair.changes, LABOUR)
        found = pair.proved()
    assert {f"table {name}.t" for name in DIFFERENT} == told(found).keys()


@pytest.mark.parametrize("case", OUT_OF_SIGHT)
def test_what_was_out_of_a_publications_sight_is_read_whole(both: tuple[str, str], case: str) -> None:
    """The publication, or what it reaches, is again what it was; the rows that were written meanwhile are found."""
    published, made, script = OUT_OF_SIGHT[case]
    for dsn in both:
        make_in_s(dsn, made, published)
    with watching(*both) as pair:
        assert (None, {}) == (pair.changes.source.doubt, pair.changes.source.doubts)
        run_in("s", pair.source, script)
        assert {"table s.t"} == told(pair.proved()).keys()


def make_in_s(dsn: str, made: str, published: str) -> None:
    """The database anew."""
    clear(dsn)
    run_script(dsn, "CREATE SCHEMA s; CREATE SCHEMA z; CREATE SCHEMA r")
    run_in("s", dsn, f"{made}; CREATE PUBLICATION changed {published}")


def test_ordinary_life_makes_nothing_doubtful(both: tuple[str, str]) -> None:
    """Maintenance, and definitions of other things, leave the changed keys enough."""
    made = (
        f"{PLAIN} {PARTS.replace(' t ', ' p1 ')} {LABELS} CREATE TABLE moods (id int PRIMARY KEY, v e); "
        "INSERT INTO moods VALUES (1, 'a'); CREATE TABLE altered (id int PRIMARY KEY); CREATE SEQUENCE numbers; "
        "CREATE TABLE bare (v text)"
    )
    for dsn in both:
        make_in_s(dsn, made, "FOR ALL TABLES")
    with watching(*both) as pair:
        for dsn in both:
            run_in("s", dsn, ORDINARY)
        found = pair.proved()
    assert Answer.EQUAL is found.answer
    whole = {note.split()[1] for note in found.notes if " was read whole: " in note}
    assert {"s.altered", "s.late", "s.p2"} == whole
    assert [("3",)] == pair.changes.keys("s.t") == pair.changes.keys("s.p1")


def test_keys_that_cannot_be_looked_up_are_no_last_word(both: tuple[str, str]) -> None:
    """Both sides are equal, and the full comparison can tell; the note says why it was asked."""
    case = DIFFERENT["key_cannot_be_asked_for"]
    for dsn in both:
        make_in_s(dsn, case.made, "FOR ALL TABLES")
    with watching(*both) as pair:
        for dsn in both:
            run_in("s", dsn, f"{case.before}; {case.both}")
        found = pair.proved()
    assert Answer.EQUAL is found.answer
    (note,) = (note for note in found.notes if "table s.t was read whole" in note)
    assert "value for domain s.d violates check constraint" in note


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE t RENAME TO q; CREATE TABLE t (LIKE q INCLUDING ALL)",
        "ALTER SCHEMA s RENAME TO z1; CREATE SCHEMA s; CREATE TABLE s.t (LIKE z1.t INCLUDING ALL)",
        "ALTER TABLE t RENAME v TO q; ALTER TABLE t ADD v text",
        "ALTER TABLE t DROP v; ALTER TABLE t ADD v text",
    ],
)
def test_names_that_were_taken_over_since_the_snapshot_prove_nothing(both: tuple[str, str], script: str) -> None:
    """What has the name now is empty for the snapshot, on both sides; the rows that it sees were not read."""
    for dsn in both:
        make_in_s(dsn, PLAIN, "FOR ALL TABLES")
    with watching(*both) as pair:
        run_in("s", pair.source, CHANGE)
        with Snapshot(pair.source, purpose="test") as ours, Snapshot(pair.target, purpose="test") as theirs:
            for dsn in both:
                run_in("s", dsn, script)
            for changes in (None, pair.changes):
                found = compare(*both, snapshots=(ours, theirs), changes=changes)
                assert Answer.UNKNOWN is found.answer
                assert (
                    "table s.t: source: it was truncated, rewritten or redefined after the snapshot" in found.unknown[0]
                )


def test_what_was_redefined_is_known_before_the_hold(both: tuple[str, str]) -> None:
    """While there is time for another baseline, which would not have the doubt."""
    for dsn in both:
        make_in_s(dsn, PLAIN, "FOR ALL TABLES")
        run_script(dsn, f"ALTER PUBLICATION changed RENAME TO {PUBLICATION}")
    with Baseline(*both) as baseline:
        baseline.proved_by(compare(*both))
        assert (0, ()) == (baseline.settle(1, nothing_to_lose), baseline.curable())
        run_in("s", both[0], "ALTER TABLE t RENAME TO q; ALTER TABLE q RENAME TO t")
        baseline.settle(1, nothing_to_lose)
        assert ("s.t: it was dropped, truncated, rewritten or redefined since the baseline",) == baseline.curable()
    for dsn in both:
        run_script(dsn, f"DROP PUBLICATION {PUBLICATION}")
