"""Names that look alike once they are put together are still two: nothing is read twice for one, or not at all."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.by_keys import Changes
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.comparison import Comparison
from statehub_plan.postgres.manifest import Backup, verify_backup
from statehub_plan.postgres.names import qualified, sql_qualified
from tests.integration.moving import run_script

DOTTED = """
CREATE SCHEMA a;
CREATE SCHEMA "a.b";
CREATE TABLE a."b.c" (id integer PRIMARY KEY, v text);
CREATE TABLE "a.b".c (id integer PRIMARY KEY, v text);
CREATE TABLE a.t (n integer, "x.k" integer);
CREATE TABLE a."t.x" (n integer, k integer);
ALTER TABLE a.t ADD CONSTRAINT "x.check" CHECK (n > 1);
ALTER TABLE a."t.x" ADD CONSTRAINT "check" CHECK (n > 1);
CREATE SCHEMA "a.s";
CREATE SEQUENCE a."s.s";
CREATE SEQUENCE "a.s".s;
"""


@pytest.fixture
def dotted(source_db: str, target_db: str) -> tuple[str, str]:
    """Twice the same, in which every name has a twin that is spelled alike without quotes."""
    run_script(source_db, DOTTED)
    run_script(target_db, DOTTED)
    return source_db, target_db


def told(found: Comparison) -> set[str]:
    """What differs, without how."""
    return {f"{each.kind} {each.object}: {each.aspect}" for each in found.differences}


@pytest.mark.parametrize(
    ("script", "differing"),
    [
        ("""INSERT INTO a."b.c" VALUES (1)""", 'table a."b.c": rows'),
        ("""INSERT INTO "a.b".c VALUES (1)""", 'table "a.b".c: rows'),
        ("""SELECT nextval('a."s.s"')""", 'sequence a."s.s": value'),
        ("""SELECT nextval('"a.s".s')""", 'sequence "a.s".s: value'),
        ("""ALTER TABLE a.t DROP CONSTRAINT "x.check" """, 'constraint a.t."x.check": missing'),
        ("""ALTER TABLE a."t.x" DROP CONSTRAINT "check" """, 'constraint a."t.x".check: missing'),
        ("""ALTER TABLE a.t ALTER "x.k" SET NOT NULL""", 'column a.t."x.k": not null'),
        ("""ALTER TABLE a."t.x" ALTER k SET NOT NULL""", 'column a."t.x".k: not null'),
        ("""ALTER INDEX a."b.c_pkey" SET (fillfactor = 50)""", 'index a."b.c_pkey": definition'),
    ],
)
def test_each_of_two_names_that_look_alike_is_looked_at(dotted: tuple[str, str], script: str, differing: str) -> None:
    """A dot that belongs to a name is quoted, so that `a."b.c"` and `"a.b".c` are two tables."""
    assert Answer.EQUAL is compare(*dotted).answer
    run_script(dotted[1], script)
    assert {differing} == told(compare(*dotted))


def test_one_that_only_each_side_has_are_two_differences(source_db: str, target_db: str) -> None:
    """Not one object that both have."""
    both = 'CREATE SCHEMA a; CREATE SCHEMA "a.b"; '
    run_script(source_db, both + 'CREATE TABLE a."b.c" (id integer)')
    run_script(target_db, both + 'CREATE TABLE "a.b".c (id integer)')
    assert {'relation a."b.c": missing', 'relation "a.b".c: extra'} == told(compare(source_db, target_db))


def test_changed_keys_belong_to_the_table_that_was_changed(dotted: tuple[str, str]) -> None:
    """Neither its twin's nor nobody's."""
    for dsn in dotted:
        run_script(dsn, "CREATE PUBLICATION changed FOR ALL TABLES")
    with ExitStack() as stack:
        logs = [
            stack.enter_context(ChangeLog(dsn, slot=f"names_{side}_{dsn[-12:]}", publications=["changed"]))
            for side, dsn in zip(("source", "target"), dotted, strict=True)
        ]
        changes = Changes(logs[0], logs[1], compare(*dotted))
        run_script(dotted[1], """INSERT INTO a."b.c" VALUES (7); INSERT INTO "a.b".c VALUES (8)""")
        run_script(dotted[0], """INSERT INTO "a.b".c VALUES (8)""")
        found = compare(*dotted, changes=changes)
        assert {'table a."b.c": content'} == told(found)
        assert {'a."b.c"': {("7",)}, '"a.b".c': {("8",)}} == logs[1].keys
        assert "changed keys were compared" in {table.table: str(table.reason) for table in found.tables}['"a.b".c']


def test_a_waiver_names_a_table_as_compare_does(dotted: tuple[str, str]) -> None:
    """And hides nothing of its twin."""
    run_script(dotted[1], """INSERT INTO a."b.c" VALUES (1); INSERT INTO "a.b".c VALUES (1)""")
    waive = (Waiver(table='a."b.c"', reason="rebuilt at start"),)
    found = compare(*dotted, waive=waive)
    assert {'table "a.b".c: rows'} == told(found)
    assert {'"a.b".c', 'a."t.x"', "a.t"} == {table.table for table in found.tables}


def test_a_manifest_lists_both(dotted: tuple[str, str], tmp_path: Path) -> None:
    """Each with its own rows; one that names a table twice is no manifest to rely on."""
    run_script(dotted[0], """INSERT INTO a."b.c" VALUES (1); INSERT INTO "a.b".c VALUES (1), (2)""")
    taken = take_backup(dotted[0], tmp_path, endpoint="old")
    assert {'a."b.c"': 1, '"a.b".c': 2} == {table.table: table.rows for table in taken.manifest.tables if table.rows}
    assert () == verify_backup(taken)
    twice = taken.manifest.model_copy(update={"tables": taken.manifest.tables * 2}).sealed()
    (problem,) = verify_backup(Backup(path=taken.path, manifest=twice))
    assert problem.startswith("manifest.json: it lists ")
    assert 'a."b.c"' in problem


def test_grants_to_everybody_are_not_grants_to_a_role_called_so(source_db: str, target_db: str) -> None:
    """PUBLIC is nobody's name; a role may be called that all the same."""
    for dsn, grantee in ((source_db, "PUBLIC"), (target_db, '"PUBLIC"')):
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_roles WHERE rolname = 'PUBLIC'").fetchone() is None:
                connection.execute('CREATE ROLE "PUBLIC"')
            connection.execute("CREATE TABLE t (id integer)")
            connection.execute(f"GRANT SELECT ON t TO {grantee}".encode())
    try:
        assert {"relation public.t: privileges"} == told(compare(source_db, target_db))
    finally:
        for dsn in (source_db, target_db):
            run_script(dsn, 'DROP OWNED BY "PUBLIC"; DROP ROLE "PUBLIC"')


def test_python_and_the_server_call_everything_the_same(source_db: str) -> None:
    """What is read by SQL is looked up by names that were put together in Python."""
    parts = [
        *(
            "plain",
            "Mixed Case",
            "a.b",
            '"',
            'a"',
            '".',
            "'",
            "\\",
            "100%s",
            "{}",
            "a\nb",
            " a ",
            "ü．",
            "x" * 63,
            "[.]",
        ),
    ]
    with psycopg.connect(source_db) as connection:
        rows = connection.execute(
            f"SELECT a, b, {sql_qualified('a', 'b')} FROM unnest(%s::name[]) a, unnest(%s::name[]) b".encode(),
            [parts, parts],
        ).fetchall()
    assert len(rows) == len({name for *_, name in rows}) == len(parts) ** 2
    assert [] == [(a, b, name) for a, b, name in rows if qualified(a, b) != name]


def test_roles_that_read_like_a_sentence(source_db: str, target_db: str) -> None:
    """A role may be called as the words between names in what is told of it."""
    here = "DO $$ BEGIN EXECUTE format('ALTER ROLE {} IN DATABASE %I SET work_mem = 8192', current_database()); END $$"
    roles = ('"every role"', '"x everywhere"', "x")
    for dsn in (source_db, target_db):
        run_script(dsn, "; ".join(f"CREATE ROLE {role}" for role in roles))
    try:
        run_script(source_db, "CREATE TABLE t (id integer); ALTER TABLE t OWNER TO x; ALTER ROLE x SET work_mem = 8192")
        run_script(target_db, here.format('"x everywhere"') + ";" + here.format('"every role"'))
        found = compare(source_db, target_db)
        assert {
            "setting x everywhere: work_mem: missing",
            'setting "x everywhere": work_mem: extra',
            'setting "every role": work_mem: extra',
        } <= told(found)
    finally:
        for dsn in (source_db, target_db):
            run_script(dsn, "".join(f"DROP OWNED BY {role}; DROP ROLE {role};" for role in roles))
