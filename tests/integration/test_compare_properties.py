"""Random schemas and rows: the verdict on each table, and the rows named, are those of an independent comparison."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.compare import Answer, compare
from tests.integration.corpus_types import COLUMN_TYPES, DEFINITIONS
from tests.integration.moving import database
from tests.integration.second_opinion import copied, differing_keys

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Drawn:
    """A table: the types of its columns, whether it has a key, its rows on both sides."""

    types: tuple[int, ...]
    keyed: bool
    ours: tuple[Row, ...]
    theirs: tuple[Row, ...]


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    """Up to four columns of any type, up to eight rows; the other side has the same ones in any order, or a row more, a
    row less, a row twice, another value."""
    types = tuple(draw(st.lists(st.integers(0, len(COLUMN_TYPES) - 1), min_size=1, max_size=4)))
    keyed = draw(st.booleans())
    chance = random.Random(draw(st.integers(0, 2**32)))

    def row() -> Row:
        return tuple(None if chance.random() < 0.2 else COLUMN_TYPES[each].make(chance) for each in types)

    ours = [row() for _ in range(draw(st.integers(0, 8)))]
    ours += ours[:1] if draw(st.booleans()) else []
    theirs = list(ours)
    for what in draw(st.lists(st.sampled_from(["more", "less", "twice", "other"]), max_size=2)):
        at = draw(st.integers(0, 7)) % max(1, len(theirs))
        if what == "more" or not theirs:
            theirs.append(row())
        elif what == "less":
            del theirs[at]
        elif what == "twice":
            theirs.append(theirs[at])
        else:
            theirs[at] = row()
    return Drawn(types, keyed, tuple(ours), tuple(theirs))


@pytest.fixture(scope="module")
def pair(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two databases whose tables each example replaces."""
    with database(source_cluster) as source, database(target_cluster) as target:
        yield source, target


def fill(dsn: str, drawn: list[Drawn], side: str, order: random.Random) -> None:
    """The schema `corpus` anew. Numbers stand for keys; rows come in an order of their own."""
    with psycopg.connect(dsn, options="-c client_min_messages=warning") as connection:
        connection.execute("DROP SCHEMA IF EXISTS corpus CASCADE")
        connection.execute(DEFINITIONS.encode())
        for number, table in enumerate(drawn):
            columns = [f"c{index} {COLUMN_TYPES[each].declaration}" for index, each in enumerate(table.types)]
            key = "id integer PRIMARY KEY" if table.keyed else "id integer"
            connection.execute(f"CREATE TABLE corpus.t{number} ({', '.join([key, *columns])})".encode())
            rows = list(enumerate(getattr(table, side)))
            order.shuffle(rows)
            casts = sql.SQL(", ").join(sql.SQL("%s::text::" + COLUMN_TYPES[each].declaration) for each in table.types)
            query = sql.SQL("INSERT INTO corpus.{} VALUES (%s, {})").format(sql.Identifier(f"t{number}"), casts)
            for position, row in rows:
                connection.execute(query, [position if table.keyed else None, *row])


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(drawn=st.lists(tables(), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_every_verdict_is_that_of_an_independent_comparison(
    pair: tuple[str, str], drawn: list[Drawn], seed: int
) -> None:
    """Equal exactly where sorted COPY text is equal; and where it is not, the same rows are named."""
    order = random.Random(seed)
    fill(pair[0], drawn, "ours", order)
    fill(pair[1], drawn, "theirs", order)
    ours, theirs = copied(pair[0], "corpus"), copied(pair[1], "corpus")
    found = compare(*pair, expect_differences=bool(seed % 2), chunk_bytes=32_768)
    assert {table for table in ours if ours[table] == theirs[table]} == {
        table.table.removeprefix("corpus.") for table in found.tables if table.answer is Answer.EQUAL
    }
    for each in found.differences:
        table = each.object.removeprefix("corpus.")
        if drawn[int(table[1:])].keyed:
            assert differing_keys(ours[table], theirs[table]) == {(row.key, row.what) for row in each.rows}
        else:
            surplus = {what: sum(row.rows for row in each.rows if row.what == what) for what in ("missing", "extra")}
            assert {
                "missing": (ours[table] - theirs[table]).total(),
                "extra": (theirs[table] - ours[table]).total(),
            } == surplus
