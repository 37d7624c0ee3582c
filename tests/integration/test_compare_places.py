"""Rows in places that no dump and no stream reaches: a comparison that does not look there proves nothing of them."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.state import install
from tests.integration.moving import run_script

MEMBER = "CREATE TABLE public.mine (id integer PRIMARY KEY); ALTER EXTENSION plpgsql ADD TABLE public.mine"
PARTITION = (
    "CREATE TABLE public.p (id integer) PARTITION BY LIST (id); "
    "CREATE TABLE public.mine PARTITION OF public.p DEFAULT; ALTER EXTENSION plpgsql ADD TABLE public.mine"
)


def _run(dsn: str, script: str) -> None:
    run_script(make_conninfo(dsn, options="-c allow_system_table_mods=on"), script)


def _answers(found: Comparison) -> dict[str, Answer]:
    return {table.table: table.answer for table in found.tables}


@pytest.mark.parametrize("script", [MEMBER, PARTITION])
def test_rows_in_a_table_of_an_extension_are_compared(source_db: str, target_db: str, script: str) -> None:
    """Also where the extension does not say that there are any of the user's: whoever moves loses them."""
    for dsn in (source_db, target_db):
        _run(dsn, f"{script}; INSERT INTO public.mine VALUES (1)")
    assert {"public.mine": Answer.EQUAL} == _answers(compare(source_db, target_db))
    _run(source_db, "INSERT INTO public.mine VALUES (2)")
    assert {"public.mine": Answer.DIFFERENT} == _answers(compare(source_db, target_db))


def test_a_table_that_an_extension_was_given_is_missed(source_db: str, target_db: str) -> None:
    """No dump has it, so that it is gone after a move."""
    _run(source_db, MEMBER)
    (found,) = (one for one in compare(source_db, target_db).differences if one.kind == "extension")
    assert ("plpgsql", "relations") == (found.object, found.aspect)
    assert "public.mine" in str(found.source)


@pytest.mark.parametrize("schema", ["pg_catalog", "pg_app", "information_schema", "statehub_plan"])
def test_rows_in_a_schema_that_nobody_looks_into_are_unknown(source_db: str, target_db: str, schema: str) -> None:
    """Unless the plan waives them; an empty table is no reason to doubt."""
    for dsn in (source_db, target_db):
        _run(dsn, f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.mine (id integer)")
    assert {} == _answers(compare(source_db, target_db))
    _run(source_db, f"INSERT INTO {schema}.mine VALUES (1)")
    found = compare(source_db, target_db)
    assert {f"{schema}.mine": Answer.UNKNOWN} == _answers(found)
    assert "ALTER TABLE … SET SCHEMA" in found.unknown[0]
    waive = (Waiver(table=f"{schema}.mine", reason="nobody needs it"),)
    assert {} == _answers(compare(source_db, target_db, waive=waive))


def test_the_tools_own_tables_are_no_news(source_db: str, target_db: str) -> None:
    """They have rows on the side that the tool has worked on."""
    for dsn in (source_db, target_db):
        with connect(dsn, purpose="test") as connection:
            install(connection)
    assert {} == _answers(compare(source_db, target_db))
