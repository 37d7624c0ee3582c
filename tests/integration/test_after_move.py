"""What doctor says beforehand that a comparison will find: all of it, named as the plan's waivers have to name it, and
nothing that a move settles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.model.preflight import Found
from statehub_plan.model.spec import TransferMethod, Waiver
from statehub_plan.postgres.checks.declare import Move
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.connect import connect
from tests.integration.moving import PASSWORD, database, fill, prepare, run_script
from tests.integration.test_catalog_server import PARTITIONED

CHECK = [one for one in CHECKS if one.id == "comparison-will-differ"]
ROLES = ("owner", "grp", "app", "other", "mover", "gone")


@pytest.fixture(scope="module")
def clusters(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers of which much is changed that is no database's."""
    with (
        Cluster.create(scratch, "after-old", pg_installations[0], settings=CHEAP_SETTINGS) as old,
        Cluster.create(scratch, "after-new", pg_installations[-1], settings=CHEAP_SETTINGS) as new,
    ):
        for cluster in (old, new):
            each(cluster.dsn(), *(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'" for name in ROLES))
            each(cluster.dsn(), "GRANT grp TO app", "GRANT pg_read_all_data TO mover", "GRANT owner TO mover")
            each(cluster.dsn(), "GRANT EXECUTE ON FUNCTION pg_control_system() TO mover")
        yield old, new


@pytest.fixture(params=["there", "back"])
def pair(request: pytest.FixtureRequest, clusters: tuple[Cluster, Cluster]) -> tuple[Cluster, Cluster]:
    """From the older major to the newer one, and the other way."""
    return clusters if request.param == "there" else clusters[::-1]


def each(dsn: str, *statements: str) -> None:
    """Each in a transaction of its own, in one session."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def announced(source: str, target: str, *waive: Waiver) -> tuple[Found, ...]:
    """What the check says."""
    move = Move(method=TransferMethod.DUMP, replace=True, waive=waive)
    with connect(source, purpose="test", read_only=True) as old, connect(target, purpose="test") as new:
        return run_checks(End(old), End(new), move, checks=CHECK)


def waivers(found: tuple[Found, ...]) -> tuple[Waiver, ...]:
    """What a person would copy from the remedies into a plan."""
    texts = [
        re.search(r"compare\.waive \((kind: .*?, object: ('(?:[^']|'')*'|\".*?\"))\)", one.remedy) for one in found
    ]
    return tuple(Waiver(**yaml.safe_load("{" + text[1] + "}"), reason="known") for text in texts if text)


def subjects(found: tuple[Found, ...]) -> set[str]:
    """Kind and name of each."""
    return {one.subject for one in found}


def told(found: Comparison) -> list[str]:
    """Whatever keeps the answer from being equal."""
    return [*map(str, found.differences), *found.unknown]


BOTH = """
CREATE SCHEMA s; ALTER SCHEMA s OWNER TO owner;
"""
SOURCE = r"""
CREATE TABLE s.t (id integer PRIMARY KEY, word text, v text DEFAULT 'x');
CREATE TABLE s.sorted (a text CHECK (a > 'b' COLLATE "C.utf8"));
CREATE TABLE s.u (id integer PRIMARY KEY REFERENCES s.t); ALTER TABLE s.u DISABLE TRIGGER ALL;
CREATE TABLE s.parent (a integer, b integer); CREATE TABLE s.child (x integer, a integer, b integer);
ALTER TABLE s.child INHERIT s.parent;
ALTER TABLE s.t OWNER TO owner; GRANT SELECT ON s.t TO grp, app; GRANT SELECT (id) ON s.u TO app;
CREATE VIEW s.w AS SELECT id, word FROM s.t WHERE id > 1 AND id < 9; CREATE INDEX ON s.t (word);
CREATE COLLATION s.own (provider = libc, locale = 'C.utf8');
UPDATE pg_collation SET collversion = '1.2.3' WHERE collname = 'own';
CREATE FUNCTION s.f(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION s.f FROM PUBLIC;
CREATE FUNCTION s.compare_money(int4, money) RETURNS int4 LANGUAGE sql IMMUTABLE AS 'SELECT 0';
ALTER OPERATOR FAMILY pg_catalog.integer_ops USING btree ADD FUNCTION 1 (int4, money) s.compare_money(int4, money);
CREATE FUNCTION pg_catalog.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1';
COMMENT ON FUNCTION pg_catalog.mine() IS 'ours'; COMMENT ON TABLE s.t IS 'carried';
CREATE TABLE public."a.b" (id integer); COMMENT ON SCHEMA s IS 'carried';
COMMENT ON TYPE s.t IS 'a row of it'; COMMENT ON TYPE s.t[] IS 'rows';
CREATE EXTENSION pg_trgm SCHEMA public; CREATE EXTENSION unaccent;
CREATE EXTENSION hstore; UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'hstore';
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT ON TABLES TO app;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA s GRANT SELECT ON TABLES TO grp;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO app; REVOKE EXECUTE ON FUNCTION pg_catalog.now() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO app;
REVOKE SELECT ON information_schema.tables FROM PUBLIC;
CREATE PUBLICATION p FOR TABLE s.t; CREATE STATISTICS s.x ON id, word FROM s.t;
INSERT INTO s.t SELECT n, 'w' || n FROM generate_series(1, 20) n;
INSERT INTO pg_shseclabel SELECT oid, 'pg_database'::regclass, 'p', 'l' FROM pg_database
WHERE datname = current_database();
"""
TARGET = """
CREATE TABLE public.old_content (id integer); ALTER TABLE public.old_content OWNER TO gone;
CREATE SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext; COMMENT ON SCHEMA ext IS 'of extensions';
CREATE EXTENSION fuzzystrmatch SCHEMA public;
COMMENT ON SCHEMA public IS 'another'; GRANT CREATE ON SCHEMA public TO grp;
ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT INSERT ON TABLES TO grp;
ALTER DEFAULT PRIVILEGES FOR ROLE other GRANT SELECT ON TABLES TO app;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO grp;
CREATE FUNCTION pg_catalog.theirs() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER TEXT SEARCH CONFIGURATION pg_catalog.english DROP MAPPING FOR email;
UPDATE pg_collation SET collversion = '4.5.6' WHERE collname = 'C.utf8';
"""


def make_different(source: str, target: str, names: tuple[str, str]) -> None:
    """Much of what a platform, or the years, make different in two places; and what a move carries all the same."""
    here, there = names
    run_script(source, BOTH + SOURCE)
    run_script(target, TARGET)
    each(
        source,
        "SET allow_in_place_tablespaces = on",
        "CREATE TABLESPACE place LOCATION ''",
        "CREATE TABLE s.placed (id integer) TABLESPACE place",
        "CREATE TABLE s.\"odd: 'name'\" (id integer) TABLESPACE place",
        f"COMMENT ON DATABASE {here} IS 'the old one'",
        f"GRANT CREATE ON DATABASE {here} TO app",
        f"ALTER DATABASE {here} SET statement_timeout = '77s'",
        f"ALTER DATABASE {here} SET search_path = s, public",
        f"ALTER ROLE app IN DATABASE {here} SET work_mem = '7MB'",
        f"ALTER DATABASE {here} SET app.token = 'canary-4242'",
        "ALTER ROLE app SET lock_timeout = '7s'",
        "ALTER ROLE ALL SET idle_session_timeout = '1h'",
        "ALTER ROLE app BYPASSRLS",
        "GRANT pg_write_all_data TO other",
    )
    each(
        target,
        f"ALTER DATABASE {there} CONNECTION LIMIT 77",
        f"ALTER DATABASE {there} SET statement_timeout = '1s'",
        f"ALTER DATABASE {there} SET app.extra = 'canary-4343'",
        f"ALTER ROLE grp IN DATABASE {there} SET app.jwt_secret = 'canary-4444'",
        "ALTER ROLE grp SET work_mem = '9MB'",
        "ALTER ROLE gone SET work_mem = '9MB'",
        "ALTER ROLE owner SUPERUSER NOINHERIT",
        'CREATE ROLE "a stranger: here" IN ROLE grp',
        "ALTER ROLE \"a stranger: here\" SET work_mem = '5MB'",
    )
    for dsn in (source, target):
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.info.server_version >= 150000:
                connection.execute("GRANT SET ON PARAMETER log_min_duration_statement TO grp")
                break


def make_alike(source: str, target: str) -> None:
    """The servers again, for the next test."""
    for dsn in (source, target):
        each(dsn, 'DROP ROLE IF EXISTS "a stranger: here"', "ALTER ROLE ALL RESET ALL")
        each(dsn, *(f"ALTER ROLE {name} RESET ALL" for name in ROLES))
        each(dsn, "ALTER ROLE app NOBYPASSRLS", "ALTER ROLE owner NOSUPERUSER INHERIT")
        each(dsn, "REVOKE pg_write_all_data FROM other")
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.info.server_version >= 150000:
                connection.execute("REVOKE SET ON PARAMETER log_min_duration_statement FROM grp")


EXPECTED = {
    *("database access", "database comment", "security label p on database"),
    *("setting app everywhere: lock_timeout", "setting every role everywhere: idle_session_timeout"),
    *("setting every role: app.extra", "setting grp: app.jwt_secret", "setting grp everywhere: work_mem"),
    'setting "a stranger: here" everywhere: work_mem',
    *("role app", "role owner", "role grp", "role pg_write_all_data"),
    *("tablespace place", "tablespace aside", "tablespace spread", "setting every role: default_tablespace"),
    *('collation pg_catalog."C.utf8"', "collation s.own"),
    *("extension pg_trgm", "extension fuzzystrmatch", "extension hstore", "schema ext", "comment schema ext"),
    *("schema public", "comment schema public"),
    *("default privileges owner in every schema for r", "default privileges other in every schema for r"),
    "changed privileges function pg_catalog.pg_sleep(double precision)",
    "changed privileges function pg_catalog.pg_read_file(pg_catalog.text)",
    "changed privileges view information_schema.tables",
    *("routine pg_catalog.mine()", "routine pg_catalog.theirs()", "comment function pg_catalog.mine()"),
    *("comment type s.t", "comment type s.t[]"),
    "built-in text search configuration english",
    "added to operator family pg_catalog.integer_ops USING btree",
    *("relation s.u", "column s.child.a", "column s.child.b", "column s.child.x"),
    "parameter privileges log_min_duration_statement",
}


def test_what_is_announced_is_what_is_found(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """Waived as doctor spells it, nothing is left after the move, and every waiver was needed."""
    old, new = pair
    each(new.dsn(), "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE aside LOCATION ''")
    each(new.dsn(), "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE spread LOCATION ''")
    with database(old) as source, database(new) as target:
        names = psycopg.conninfo.conninfo_to_dict(source)["dbname"], psycopg.conninfo.conninfo_to_dict(target)["dbname"]
        each(new.dsn(), f"ALTER DATABASE {names[1]} SET TABLESPACE aside")
        try:
            make_different(source, target, names)  # type: ignore[arg-type]
            each(target, f"ALTER DATABASE {names[1]} SET default_tablespace = spread")
            found = announced(source, target)
            assert EXPECTED == subjects(found)
            assert "canary" not in "".join(map(str, found))
            waive = waivers(found)
            assert len(found) == len(waive)
            assert () == announced(source, target, *waive)
            prepare(source, target, tmp_path, replace=True)
            fill(source, target)
            result = compare(source, target, waive=waive)
            assert [] == told(result)
            assert Answer.EQUAL is result.answer
            assert [] == [one.name for one in result.waived if not one.differences]
            assert () == announced(source, target, *waive)
        finally:
            make_alike(old.dsn(), new.dsn())
            each(source, "DROP TABLE IF EXISTS s.placed, s.\"odd: 'name'\"", "DROP TABLESPACE IF EXISTS place")
    each(new.dsn(), "DROP TABLESPACE aside", "DROP TABLESPACE spread")


def test_hidden_options_are_announced(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """Whether they are the same nobody will be able to tell who is no superuser."""
    old, new = pair
    with database(old, owner="owner") as source, database(new, owner="owner") as target:
        run_script(
            source,
            "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; ALTER SERVER far OWNER TO owner; "
            "CREATE USER MAPPING FOR app SERVER far OPTIONS (password 'canary'); "
            "CREATE USER MAPPING FOR mover SERVER far; GRANT USAGE ON FOREIGN SERVER far TO mover; "
            "CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (a 'b')",
        )
        (name, other) = (psycopg.conninfo.conninfo_to_dict(dsn)["dbname"] for dsn in (source, target))
        limited = old.dsn(str(name), "mover", PASSWORD), new.dsn(str(other), "mover", PASSWORD)
        assert () == announced(source, target)
        for ends in (limited, (source, limited[1]), (limited[0], target)):
            found = announced(*ends)
            assert {"user mapping app on far"} == subjects(found)
        prepare(source, target, tmp_path)
        fill(source, target)
        assert Answer.UNKNOWN is compare(*limited).answer
        assert Answer.EQUAL is compare(*limited, waive=waivers(found)).answer


def test_what_would_be_granted_to_the_moving_role_s_tables(clusters: tuple[Cluster, Cluster]) -> None:
    """No waiver of it alone would do: whatever the tool's role makes there gets it."""
    with database(clusters[0]) as source, database(clusters[1]) as target:
        each(target, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app")
        (found,) = announced(source, target)
        assert "default privileges postgres in every schema for r" == found.subject
        assert found.remedy.startswith("take it away there")


NESTED = """
CREATE TABLE t (id integer PRIMARY KEY, a integer, b integer, c boolean DEFAULT (1 BETWEEN 0 AND 2 AND true),
    g boolean GENERATED ALWAYS AS (a BETWEEN 1 AND 2 AND b > 0) STORED, CHECK (a BETWEEN 1 AND 2 AND b > 1));
CREATE TABLE log (id integer);
CREATE VIEW v AS SELECT * FROM t WHERE a BETWEEN 1 AND 2 AND b > 1;
CREATE MATERIALIZED VIEW m AS SELECT * FROM t WHERE a BETWEEN 1 AND 2 AND b > 1;
CREATE RULE r AS ON INSERT TO t WHERE new.a BETWEEN 1 AND 2 AND new.b > 1 DO ALSO INSERT INTO log VALUES (1);
CREATE FUNCTION f(a integer, b integer) RETURNS boolean LANGUAGE sql RETURN a BETWEEN 1 AND 2 AND b > 1;
CREATE FUNCTION f(a integer, b boolean DEFAULT (1 BETWEEN 0 AND 2 AND true)) RETURNS boolean LANGUAGE sql
    AS 'SELECT true';
CREATE DOMAIN d AS boolean DEFAULT (1 BETWEEN 0 AND 2 AND true) CHECK (value BETWEEN false AND true AND value);
CREATE STATISTICS s ON (a BETWEEN 1 AND 2 AND b > 1), id FROM t;
CREATE TABLE parted (a integer) PARTITION BY LIST ((a BETWEEN 1 AND 2 AND a > 0));
"""
FILTERED = "CREATE PUBLICATION filtered FOR TABLE t WHERE (id BETWEEN 1 AND 2 AND id > 0)"


@pytest.mark.parametrize("sides", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_what_is_spelled_anew_is_the_same(
    clusters: tuple[Cluster, Cluster], tmp_path: Path, sides: tuple[int, int]
) -> None:
    """The parser flattens what was stored as a nested chain once it is read again; what means another thing differs."""
    with database(clusters[sides[0]]) as source, database(clusters[sides[1]]) as target:
        run_script(source, NESTED)
        if min(cluster.installation.major for cluster in clusters) >= 15:
            run_script(source, FILTERED)
        assert () == announced(source, target)
        prepare(source, target, tmp_path)
        fill(source, target)
        assert [] == told(compare(source, target))
        for statement in (
            "CREATE OR REPLACE VIEW v AS SELECT * FROM t WHERE a BETWEEN 1 AND 2 OR b > 1",
            "CREATE OR REPLACE FUNCTION f(a integer, b integer) RETURNS boolean LANGUAGE sql RETURN a > 1 OR b > 1",
            "CREATE OR REPLACE FUNCTION f(a integer, b boolean DEFAULT (1 BETWEEN 0 AND 2 AND true)) RETURNS boolean "
            "LANGUAGE sql AS 'SELECT (true)'",
            "ALTER TABLE t ALTER c SET DEFAULT (1 BETWEEN 0 AND 2 OR true)",
        ):
            run_script(source, statement)
        assert ["c", "f", "f", "v"] == sorted(
            re.split(r"[(.]", one.object.removesuffix(")"))[2 if one.kind == "column" else 1]
            for one in compare(source, target).differences
        )


def test_what_only_18_can_say_and_no_dump_does(clusters: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    """A partition's part of a foreign key that is checked, of one that is not; and one that is half detached."""
    newest = max(clusters, key=lambda cluster: cluster.installation.major)
    with database(newest) as source, database(newest) as target:
        run_script(source, PARTITIONED)
        with psycopg.connect(source) as connection:
            query = "SELECT conname FROM pg_constraint WHERE conrelid = 'p1'::regclass AND contype = 'f'"
            [(name,)] = connection.execute(query).fetchall()
            connection.execute(f'ALTER TABLE p1 VALIDATE CONSTRAINT "{name}"'.encode())
        found = announced(source, target)
        assert {"relation public.p1"} == subjects(found)
        prepare(source, target, tmp_path)
        fill(source, target)
        assert ["foreign keys unlike their parents"] == [one.aspect for one in compare(source, target).differences]
        assert Answer.EQUAL is compare(source, target, waive=waivers(found)).answer


DEFAULTS = """
CREATE TABLE t (id integer PRIMARY KEY); CREATE SEQUENCE s; CREATE TYPE e AS ENUM ('a');
CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app; ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO app WITH GRANT OPTION;
CREATE TABLE u (id integer PRIMARY KEY);
"""


def test_what_the_moving_role_grants_by_default_is_not_granted_to_what_is_moved_again(
    pair: tuple[Cluster, Cluster], tmp_path: Path
) -> None:
    """The first time these came last; the second time they were there before the tables, and made them differ."""
    with database(pair[0]) as source, database(pair[1]) as target:
        run_script(source, DEFAULTS)
        for _ in range(2):
            assert () == announced(source, target)
            prepare(source, target, tmp_path, replace=True)
            fill(source, target)
            assert [] == told(compare(source, target))
