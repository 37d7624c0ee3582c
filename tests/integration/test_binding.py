"""Operators that no text names: a dump that is read again may compare with others, and then nothing is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.model.spec import TransferMethod
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.drill import DrillReport, restore_drill
from tests.integration.moving import database, fill, prepare, run_script

PEOPLE = """
CREATE EXTENSION citext SCHEMA public;
SET LOCAL search_path = public;
CREATE TABLE banned (email citext, until date);
CREATE TABLE person (id integer PRIMARY KEY, email citext, other citext);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
"""
SILENT = {
    "relation public.joined": "CREATE VIEW joined AS SELECT id FROM person JOIN banned USING (email)",
    "relation public.joined_also": "CREATE VIEW joined_also AS SELECT id FROM person JOIN banned USING (email) "
    "WHERE email = 'x' AND until > '2026-01-01'",
    "relation public.simple_case": "CREATE VIEW simple_case AS SELECT CASE email WHEN 'x' THEN 1 END FROM person",
    "relation public.also_said": "CREATE VIEW also_said AS SELECT CASE email WHEN 'x' THEN 1 END FROM person "
    "WHERE other = 'x'",
    "relation public.nulls": "CREATE VIEW nulls AS SELECT NULLIF(email, 'x') AS email FROM person WHERE other = 'x'",
    "relation public.kept": "CREATE MATERIALIZED VIEW kept AS SELECT email IS DISTINCT FROM 'x' FROM person",
    "relation public.lesser": "CREATE VIEW lesser AS SELECT (id, email) < (1, 'x'::citext) FROM person",
    "relation public.row_in": "CREATE VIEW row_in AS SELECT id FROM person "
    "WHERE (id, email) IN (SELECT 1, email FROM banned) AND email = 'x'",
    "relation public.parted": "CREATE TABLE parted (email citext) PARTITION BY LIST ((NULLIF(email, 'x')))",
    "column public.generated.x": "CREATE TABLE generated (email citext, "
    "x boolean GENERATED ALWAYS AS (email IS DISTINCT FROM 'x') STORED)",
    "column public.defaulting.x": "CREATE TABLE defaulting (x boolean DEFAULT 'A'::citext IS DISTINCT FROM 'a')",
    "constraint public.person.checked": "ALTER TABLE person ADD CONSTRAINT checked CHECK "
    "(CASE email WHEN 'root' THEN false ELSE true END)",
    "index public.partial": "CREATE INDEX partial ON person (id) WHERE email IS DISTINCT FROM 'x'",
    "index public.computed": "CREATE INDEX computed ON person (NULLIF(email, 'x'))",
    "policy public.person.seen": "CREATE POLICY seen ON person USING (CASE email WHEN 'x' THEN false ELSE true END)",
    "trigger public.person.changed": "CREATE TRIGGER changed BEFORE UPDATE ON person FOR EACH ROW "
    "WHEN (old.email IS DISTINCT FROM new.email) EXECUTE FUNCTION nothing()",
    "rule public.person.noted": "CREATE RULE noted AS ON UPDATE TO person "
    "WHERE old.email IS DISTINCT FROM new.email DO ALSO DELETE FROM banned",
    "routine public.atomic(integer)": "CREATE FUNCTION atomic(integer) RETURNS boolean LANGUAGE sql "
    "RETURN NULLIF('A'::citext, 'a') IS NULL",
    "routine public.with_default(boolean)": "CREATE FUNCTION with_default(boolean DEFAULT NULLIF('A'::citext, 'a') "
    "IS NULL) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "statistics public.counted": "CREATE STATISTICS counted ON (NULLIF(email, 'x')), id FROM person",
    "type public.tamed": "CREATE DOMAIN tamed AS boolean DEFAULT ('A'::citext IS DISTINCT FROM 'a')",
    "constraint public.named.named_check": "CREATE DOMAIN named AS citext CHECK (value IS DISTINCT FROM 'root')",
}
"""Object → how it is made so that it compares by citext, and nobody can read that in its definition."""
SAID = """
CREATE VIEW said AS SELECT p.id FROM person p JOIN banned b ON p.email = b.email
    WHERE p.email = 'x' AND p.email IN ('a', 'b') AND p.email IN (SELECT email FROM banned) AND p.email > ANY ('{}');
CREATE TABLE cased (code varchar(10), CHECK (CASE code WHEN 'x' THEN true ELSE NULLIF(code, 'y') IS NOT NULL END));
CREATE VIEW cased_view AS SELECT CASE code WHEN 'x' THEN 1 END, NULLIF(code, 'y') AS z
    FROM cased JOIN cased c USING (code);
CREATE VIEW grouped AS SELECT email || 'x' AS said, count(DISTINCT email) FROM person GROUP BY email || 'x'
    HAVING email || 'x' > 'y' ORDER BY email || 'x';
CREATE TABLE unique_email (email citext UNIQUE, EXCLUDE USING btree (email WITH =), CHECK (email <> 'root'));
CREATE TABLE referring (email citext REFERENCES unique_email (email));
"""
"""What is the same when it was read again: operators that are written out, or the server's."""


@pytest.fixture(params=["older to newest", "within the newest"])
def sides(
    request: pytest.FixtureRequest, source_cluster: Cluster, target_cluster: Cluster
) -> Iterator[tuple[str, str]]:
    """Two empty databases."""
    old = source_cluster if request.param == "older to newest" else target_cluster
    with database(old) as source, database(target_cluster) as target:
        yield source, target


def moved(sides: tuple[str, str], directory: Path) -> Comparison:
    """What is found once the tool itself has carried it all there."""
    prepare(*sides, directory)
    fill(*sides)
    return compare(*sides)


@contextmanager
def drilled(dsn: str, server: Cluster, directory: Path) -> Iterator[DrillReport]:
    """What a drill on a server says about a backup of a database."""
    yield restore_drill(take_backup(dsn, directory, endpoint="old"), server.dsn(), jobs=1)


def source_version(dsn: str) -> int:
    """150018 for 15.18."""
    with connect(dsn, purpose="test") as side:
        return side.info.server_version


def told(found: Comparison) -> set[str]:
    """What the differences are about."""
    assert () == found.unknown
    return {f"{one.kind} {one.object}" for one in found.differences if one.aspect == "binding"}


def unsaid(dsn: str) -> set[str]:
    """What doctor says of it beforehand."""
    checks = [one for one in CHECKS if one.id == "operators-unsaid"]
    with connect(dsn, purpose="test", read_only=True) as side:
        found = run_checks(End(side), End(side), Move(method=TransferMethod.DUMP), checks=checks)
    return {one.subject for one in found}


ANNOUNCED = {
    *(f'rule "_RETURN" on public.{name}' for name in ("joined", "joined_also", "simple_case", "also_said", "nulls")),
    *(f'rule "_RETURN" on public.{name}' for name in ("kept", "lesser", "row_in")),
    *("rule noted on public.person", "table public.parted", "policy seen on public.person"),
    *("default value for public.generated.x", "default value for public.defaulting.x"),
    *("table constraint checked on public.person", "domain constraint named_check on public.named"),
    *("index public.partial", "index public.computed", "trigger changed on public.person", "type public.tamed"),
    *("function public.atomic(integer)", "function public.with_default(boolean)"),
    "statistics object public.counted",
}


def test_what_is_bound_anew_is_another_thing(sides: tuple[str, str], target_cluster: Cluster, tmp_path: Path) -> None:
    """Each place in which PostgreSQL writes no operator; also where the same operator is written out elsewhere."""
    run_script(sides[0], ";".join((PEOPLE, *SILENT.values())))
    assert ANNOUNCED == unsaid(sides[0])
    assert set(SILENT) == told(moved(sides, tmp_path / "safety"))
    with drilled(sides[0], target_cluster, tmp_path) as report:
        assert not report.passed
        assert set(SILENT) <= {
            one.removesuffix(": its binding differs from what was dumped") for one in report.problems
        }


def test_what_says_its_operators_is_the_same(sides: tuple[str, str], target_cluster: Cluster, tmp_path: Path) -> None:
    """citext as such is no difference."""
    run_script(sides[0], PEOPLE + SAID)
    assert set() == unsaid(sides[0])
    found = moved(sides, tmp_path / "safety")
    assert Answer.EQUAL is found.answer, [*map(str, found.differences), *found.unknown]
    with drilled(sides[0], target_cluster, tmp_path) as report:
        assert report.passed, report.problems


SPELLED_ANEW = """
CREATE TABLE t (id integer PRIMARY KEY, status varchar(20) CHECK (status IN ('new', 'done') AND id BETWEEN 1 AND 9),
    x boolean DEFAULT ('a'::varchar IN ('a', 'b')), g boolean GENERATED ALWAYS AS (status IN ('a', 'b')) STORED,
    CHECK (status NOT IN ('p', 'q')), CHECK (status LIKE ANY (ARRAY['a%', 'b%'])),
    CHECK (upper(status) IN ('NEW', 'DONE')),
    EXCLUDE USING btree (id WITH =) WHERE (status IN ('a', 'b')));
CREATE INDEX partial ON t (id) WHERE status IN ('a', 'b');
CREATE INDEX computed ON t ((status IN ('a', 'b')));
CREATE VIEW listed AS SELECT * FROM t WHERE status IN ('a', 'b') AND id BETWEEN 1 AND 9;
CREATE MATERIALIZED VIEW kept AS SELECT id, status IN ('a', 'b') FROM t;
CREATE POLICY p ON t USING (status IN ('a', 'b')) WITH CHECK (status NOT IN ('c'));
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER often BEFORE INSERT ON t FOR EACH ROW WHEN (new.status IN ('a', 'b')) EXECUTE FUNCTION nothing();
CREATE RULE noted AS ON UPDATE TO t WHERE new.status IN ('a', 'b') DO ALSO DELETE FROM t WHERE status IN ('c', 'd');
CREATE DOMAIN word AS varchar(20) DEFAULT CASE WHEN 'a'::varchar IN ('a', 'b') THEN 'a' END CHECK (value IN ('a', 'b'));
CREATE FUNCTION atomic(s varchar) RETURNS boolean LANGUAGE sql RETURN s IN ('a', 'b') AND length(s) BETWEEN 1 AND 9;
CREATE FUNCTION "Odd (""name"".x"(a integer) RETURNS bigint LANGUAGE sql
    BEGIN ATOMIC SELECT count(*) FROM t WHERE id BETWEEN 1 AND 5 AND id = a AND status IN ('a', 'b'); END;
CREATE PROCEDURE done(a integer) LANGUAGE sql
    BEGIN ATOMIC DELETE FROM t WHERE id BETWEEN 1 AND 5 AND id = a; UPDATE t SET id = a WHERE status IN ('a', 'b'); END;
CREATE FUNCTION with_default(s boolean DEFAULT ('a'::varchar IN ('a', 'b'))) RETURNS boolean LANGUAGE sql AS 'SELECT s';
CREATE STATISTICS counted ON (status IN ('a', 'b')), id FROM t;
CREATE TABLE parted (status varchar(20)) PARTITION BY LIST ((status IN ('a', 'b')));
CREATE TABLE filtered (id integer PRIMARY KEY, status varchar(20));
ALTER TABLE filtered REPLICA IDENTITY FULL;
"""
FILTERED = "CREATE PUBLICATION chosen FOR TABLE filtered WHERE (id BETWEEN 1 AND 9 AND id > 0)"
CHANGES = {
    "constraint public.t.again": "ALTER TABLE t ADD CONSTRAINT again CHECK (status IN ('a', 'c'))",
    "index public.partial": "DROP INDEX partial; CREATE INDEX partial ON t (id) WHERE status IN ('a', 'c')",
    "relation public.kept": "DROP MATERIALIZED VIEW kept; CREATE MATERIALIZED VIEW kept AS "
    "SELECT id, status IN ('a', 'c') FROM t",
    "column public.t.x": "ALTER TABLE t ALTER x SET DEFAULT ('a'::varchar IN ('a', 'c'))",
    "policy public.t.p": "ALTER POLICY p ON t USING (status IN ('a', 'c'))",
    "publication chosen": "ALTER PUBLICATION chosen SET TABLE filtered WHERE (id BETWEEN 1 AND 8 AND id > 0)",
    "routine public.with_default(s boolean)": "CREATE OR REPLACE FUNCTION with_default(s boolean DEFAULT "
    "('a'::varchar IN ('a', 'c'))) RETURNS boolean LANGUAGE sql AS 'SELECT s'",
}


def test_what_the_server_spells_anew_is_the_same(
    sides: tuple[str, str], target_cluster: Cluster, tmp_path: Path
) -> None:
    """Lists of a varchar and ranges, wherever there is an expression; after a move, and in a drill."""
    run_script(sides[0], SPELLED_ANEW)
    run_script(sides[0], "ALTER TABLE t ADD CONSTRAINT again CHECK (status IN ('a', 'b'))")
    filters = source_version(sides[0]) >= 150000
    changes = {name: done for name, done in CHANGES.items() if filters or not name.startswith("publication")}
    if filters:
        run_script(sides[0], FILTERED)
    found = moved(sides, tmp_path / "safety")
    assert [] == [*map(str, found.differences), *found.unknown]
    with drilled(sides[0], target_cluster, tmp_path) as report:
        assert () == report.problems
        assert report.passed
    run_script(sides[0], "ALTER TABLE t DROP CONSTRAINT again;" + ";".join(changes.values()))
    assert set(changes) == {f"{one.kind} {one.object}" for one in compare(*sides).differences}


DEFAULTS = """
CREATE SCHEMA one; CREATE SCHEMA two;
CREATE FUNCTION one.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION two.f() RETURNS integer LANGUAGE sql AS 'SELECT 2';
SET LOCAL search_path = {}; SET LOCAL DateStyle = 'German';
CREATE DOMAIN public.d AS integer DEFAULT f();
CREATE DOMAIN public.day AS date DEFAULT '31.12.2026'::date;
"""


def test_defaults_of_domains_are_what_acts(sides: tuple[str, str], target_cluster: Cluster, tmp_path: Path) -> None:
    """pg_type keeps the text of the day of CREATE DOMAIN too, which says nothing: neither that two are the same nor
    that they differ."""
    run_script(sides[0], DEFAULTS.format("one"))
    with database(target_cluster) as other:
        run_script(other, DEFAULTS.format("two"))
        differences = [one for one in compare(sides[0], other).differences if one.kind == "type"]
        assert [("public.d", "binding"), ("public.d", "default")] == [(one.object, one.aspect) for one in differences]
    run_script(sides[0], "ALTER FUNCTION one.f() RENAME TO g")
    found = moved(sides, tmp_path / "safety")
    assert [] == [*map(str, found.differences), *found.unknown]
    with drilled(sides[0], target_cluster, tmp_path) as report:
        assert () == report.problems


def test_a_partition_has_its_table_s_identity(sides: tuple[str, str], target_cluster: Cluster, tmp_path: Path) -> None:
    """From 17 on it says so itself."""
    run_script(
        sides[0],
        "CREATE TABLE p (id integer GENERATED ALWAYS AS IDENTITY, x integer) PARTITION BY RANGE (x);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10) PARTITION BY RANGE (x);"
        "CREATE TABLE p2 PARTITION OF p1 FOR VALUES FROM (1) TO (5); INSERT INTO p (x) VALUES (3)",
    )
    found = moved(sides, tmp_path / "safety")
    assert [] == [*map(str, found.differences), *found.unknown]
    with drilled(sides[0], target_cluster, tmp_path) as report:
        assert () == report.problems
    run_script(sides[0], "ALTER TABLE p ALTER id SET GENERATED BY DEFAULT")
    assert [("public.p.id", "identity")] == [(one.object, one.aspect) for one in compare(*sides).differences]
