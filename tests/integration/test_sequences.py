"""Sequences keep counting where they stopped, whatever kind they are."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.sequences import SequenceValue, read_sequences, sync_sequences
from tests.integration.moving import EPOCH, run_script

SEQUENCES = """
CREATE SCHEMA "Odd.One";
CREATE TABLE public.owned (id serial, other bigint GENERATED ALWAYS AS IDENTITY);
CREATE SEQUENCE public.untouched START 41;
CREATE SEQUENCE public.downwards INCREMENT -3 MINVALUE -100 MAXVALUE 100 START 99;
CREATE SEQUENCE public.at_its_end MAXVALUE 3;
CREATE SEQUENCE public.cached CACHE 20;
CREATE SEQUENCE public.set_back;
CREATE SEQUENCE "Odd.One"."Sequence.x" AS smallint START 7;
"""
NAMES = ("owned_id_seq", "owned_other_seq", "untouched", "downwards", "cached", "set_back", '"Odd.One"."Sequence.x"')


@pytest.fixture
def both(source_db: str, target_db: str) -> Iterator[tuple[Connection, Connection]]:
    """Both sides with the same sequences, the source's ones used."""
    for dsn in (source_db, target_db):
        run_script(dsn, SEQUENCES)
    run_script(
        source_db,
        "INSERT INTO public.owned SELECT FROM generate_series(1, 12); "
        "SELECT nextval('downwards'), nextval('downwards'), nextval('cached'), "
        "setval('set_back', 5, false), setval('at_its_end', 3), "
        """nextval('"Odd.One"."Sequence.x"')""",
    )
    with connect(source_db, purpose="test") as source, connect(target_db, purpose="test") as target:
        state.install(target)
        yield source, target


def next_values(dsn: str) -> list[object]:
    """What each sequence hands out next."""
    with psycopg.connect(dsn) as connection:
        return [connection.execute("SELECT nextval(%s)", [name]).fetchone() for name in NAMES]


def test_both_sides_go_on_alike(both: tuple[Connection, Connection], source_db: str, target_db: str) -> None:
    """Owned, identity, standalone, downwards, cached, set but not called: the next value is the same."""
    values = sync_sequences(*both, epoch=EPOCH)
    assert values == read_sequences(both[0]) == read_sequences(both[1])
    assert SequenceValue(schema_name="public", name="set_back", last_value=5, is_called=False) in values
    assert next_values(source_db) == next_values(target_db)
    with psycopg.connect(target_db) as target, pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
        target.execute("SELECT nextval('at_its_end')")


def test_setting_them_again_changes_nothing(both: tuple[Connection, Connection]) -> None:
    """Idempotent, so an interrupted step is simply run again."""
    assert sync_sequences(*both, epoch=EPOCH) == sync_sequences(*both, epoch=EPOCH)


def test_missing_ones_are_all_named(both: tuple[Connection, Connection], target_db: str) -> None:
    """A sequence that did not arrive is a refusal, not a gap."""
    run_script(target_db, "DROP SEQUENCE untouched; DROP SEQUENCE cached")
    with pytest.raises(StatehubError) as caught:
        sync_sequences(*both, epoch=EPOCH)
    assert ("sequences-missing", ("public.cached", "public.untouched")) == (caught.value.code, caught.value.details)


def test_an_older_run_sets_nothing(both: tuple[Connection, Connection]) -> None:
    """Fenced by epoch like everything that changes the target."""
    before = read_sequences(both[1])
    with both[1].transaction():
        state.claim_epoch(both[1], EPOCH + 1)
    with pytest.raises(StatehubError) as caught:
        sync_sequences(*both, epoch=EPOCH)
    assert Exit.LOCKED == caught.value.exit_status
    assert before == read_sequences(both[1])


def test_one_that_moves_meanwhile_is_followed(both: tuple[Connection, Connection], source_db: str) -> None:
    """`nextval` between reading and setting: the values returned are the source's last ones, on both sides."""

    class Moving:
        """The source's session, which somebody overtakes once after it was read."""

        def __init__(self, session: Connection) -> None:
            self.session, self.reads = session, 0

        def execute(self, *arguments: object) -> object:
            result = self.session.execute(*arguments)  # type: ignore[call-overload]
            self.reads += 1
            if self.reads == 2:
                run_script(source_db, "SELECT nextval('untouched')")
            return result

    values = sync_sequences(Moving(both[0]), both[1], epoch=EPOCH)  # type: ignore[arg-type]
    assert values == read_sequences(both[0]) == read_sequences(both[1])
