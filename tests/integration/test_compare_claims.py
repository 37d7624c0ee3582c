"""What a comparison must not claim: that what was only counted holds the same, or that one database is two."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.by_keys import Changes
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.opening import open_sides
from statehub_plan.postgres.seeds import SEEDS
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import nothing_to_lose
from statehub_plan.render import comparison_view
from tests.golden.golden import on_screen
from tests.integration.moving import run_script

SCHEMA = "CREATE TABLE public.t (id integer PRIMARY KEY, v text); INSERT INTO public.t VALUES (1, 'a'), (2, 'b')"


@pytest.fixture
def two(source_db: str, target_db: str) -> tuple[str, str]:
    """The same table twice."""
    run_script(source_db, SCHEMA)
    run_script(target_db, SCHEMA)
    return source_db, target_db


def test_only_counting_is_told_wherever_equal_is_told(two: tuple[str, str]) -> None:
    """In the document, with every table, and on the screen: nobody takes it for a proof of content."""
    run_script(two[1], "UPDATE public.t SET v = 'other' WHERE id = 1")
    found = compare(*two, content=False)
    assert (Answer.EQUAL, False) == (found.answer, found.content)
    assert any("no value was compared" in note for note in found.notes)
    assert ["rows were counted, no value was compared"] == [table.reason for table in found.tables]
    shown = on_screen(comparison_view(found, source="old", target="new"))
    assert "old and new: equal in row counts, no value was compared" == shown.splitlines()[0]


def test_a_waived_table_is_counted(two: tuple[str, str]) -> None:
    """Whoever waives it learns how many rows are not the same; the answer stays what it is."""
    waive = (Waiver(table="public.t", reason="rebuilt at start"),)
    (same,) = compare(*two, waive=waive).waived
    assert (0, 2, 2) == (same.differences, same.rows_source, same.rows_target)
    run_script(two[1], "DELETE FROM public.t WHERE id = 1")
    found = compare(*two, waive=waive)
    (waived,) = found.waived
    assert (Answer.EQUAL, 1, 2, 1) == (found.answer, waived.differences, waived.rows_source, waived.rows_target)
    shown = on_screen(comparison_view(found, source="old", target="new"))
    assert "(hides 1 difference, content not looked at, 2 rows ≠ 1 row)" in shown


def test_rows_of_a_waived_table_are_no_news_about_definitions(two: tuple[str, str]) -> None:
    """Catalogs that were found equal are not read again under a hold because a cache holds other rows."""
    run_script(two[1], "DELETE FROM public.t WHERE id = 1")
    waive = (Waiver(table="public.t", reason="rebuilt at start"),)
    for dsn in two:
        run_script(dsn, "CREATE PUBLICATION changed FOR ALL TABLES")
    logs = [ChangeLog(dsn, slot=f"claims_{dsn[-12:]}", publications=["changed"], temporary=True) for dsn in two]
    with logs[0], logs[1]:
        changes = Changes(logs[0], logs[1], compare(*two, waive=waive))
        found = compare(*two, waive=waive, changes=changes, count_waived=False)
    assert any("neither catalog has changed" in note for note in found.notes)
    assert (None, None) == (found.waived[0].rows_source, found.waived[0].rows_target)


def test_one_database_is_not_compared_with_itself(two: tuple[str, str]) -> None:
    """Two names that lead to one place: a mistake in the second of them, and everything would be equal."""
    found = compare(two[0], two[0])
    assert Answer.UNKNOWN is found.answer
    assert "source and target are one and the same database" in found.unknown[0]
    assert "name the other one" in found.unknown[0]


def test_one_database_at_two_moments_may_be_compared(two: tuple[str, str]) -> None:
    """By two snapshots that the caller took: what was changed between them."""
    with Snapshot(two[0], purpose="test") as before:
        run_script(two[0], "UPDATE public.t SET v = 'other' WHERE id = 1")
        with Snapshot(two[0], purpose="test") as after:
            found = compare(two[0], two[0], snapshots=(before, after))
    assert [("table", "public.t", ("(1) differs",))] == [(one.kind, one.object, one.keys) for one in found.differences]


class Broken(Changes):
    """Knowledge of changed keys with a defect."""

    def verify(self, tick: Callable[[], None] = nothing_to_lose) -> None:
        """Never ends well."""
        raise KeyError("a customer's name")


def test_a_defect_of_the_tool_makes_the_answer_unknown(two: tuple[str, str]) -> None:
    """Not a traceback in the middle of a cutover, and with the place but without the data that it was about."""
    for dsn in two:
        run_script(dsn, "CREATE PUBLICATION changed FOR ALL TABLES")
    logs = [ChangeLog(dsn, slot=f"broken_{dsn[-12:]}", publications=["changed"], temporary=True) for dsn in two]
    with logs[0], logs[1]:
        found = compare(*two, changes=Broken(logs[0], logs[1], compare(*two)))
    assert Answer.UNKNOWN is found.answer
    assert "an unexpected KeyError in test_compare_claims.py" in found.unknown[0]
    assert "customer" not in found.model_dump_json()


@pytest.mark.parametrize("error", [KeyError("mine"), StatehubError(code="x", what="mine", hint=""), OSError("mine")])
def test_what_the_caller_raises_is_the_callers(two: tuple[str, str], error: Exception) -> None:
    """Whatever it is: a lost lease is no answer about content, and a broken pipe none either."""

    def lost(*_: object) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        compare(*two, check=lost)
    assert error is caught.value
    with pytest.raises(type(error)) as caught:
        compare(*two, on_progress=lost)
    assert error is caught.value


def test_secrets_in_definitions_are_not_told(two: tuple[str, str]) -> None:
    """Settings, defaults, options and functions that differ are named; what looks like a secret in them is hidden."""
    for dsn, secret in zip(two, ("canary-one", "canary-two"), strict=True):
        with psycopg.connect(dsn, autocommit=True) as connection:
            name = connection.info.dbname
            for statement in (
                f"ALTER DATABASE {name} SET app.jwt_secret = '{secret}'",
                f"ALTER TABLE t ADD api_key text DEFAULT '{secret}'",
                f"CREATE FOREIGN DATA WRAPPER far OPTIONS (auth_token '{secret}', host 'far')",
                f"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT crypt_with(secret => '{secret}') $$",
                f"COMMENT ON TABLE t IS 'the password={secret}'",
            ):
                connection.execute(statement.replace("crypt_with(secret => ", "concat('secret', ").encode())
    found = compare(*two)
    assert {
        "setting every role: app.jwt_secret",
        "column public.t.api_key",
        "object foreign-data wrapper far",
        "routine public.f()",
        "comment table public.t",
        "table public.t",
    } == {f"{one.kind} {one.object}" for one in found.differences}
    assert "canary" not in found.model_dump_json()
    assert "host=far" in found.model_dump_json()


def test_whoever_alters_a_table_does_not_wait_for_the_comparison(source_db: str, target_db: str) -> None:
    """What a view is made of was asked for, and is not locked any more: who waited for that would have everybody wait
    behind him, the comparison's own sessions too, for ever."""
    for dsn in (source_db, target_db):
        run_script(dsn, "CREATE TABLE public.t (id integer); CREATE VIEW public.v AS SELECT id FROM public.t")
    with ExitStack() as stack:
        open_sides((source_db, target_db), None, True, (None, None), SEEDS, stack)
        for dsn in (source_db, target_db):
            run_script(dsn, "SET lock_timeout = '10s'; ALTER TABLE public.t ADD COLUMN more integer")
