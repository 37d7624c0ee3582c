"""The order in which tables are locked."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.postgres.order import lock_order

EDGES = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)))


def test_without_edges_the_given_order_stays() -> None:
    """Nothing known about writers: the order of names decides."""
    assert (3, 1, 2) == lock_order([3, 1, 2], [], [])


def test_a_child_is_locked_before_its_parent() -> None:
    """An INSERT locks the referencing table first and the referenced one in its foreign key check."""
    assert (2, 1, 3) == lock_order([1, 2, 3], [(2, 1)], [])


def test_what_a_real_transaction_showed_overrules_custom() -> None:
    """A transaction that was seen to lock the parent first turns that edge round."""
    assert (1, 2, 3) == lock_order([1, 2, 3], [(2, 1)], [(1, 2)])


def test_a_cycle_is_broken_where_the_given_order_begins() -> None:
    """Writers who disagree among themselves can't all be met; every table is still locked once."""
    assert (1, 2, 3) == lock_order([1, 2, 3], [(1, 2), (2, 3), (3, 1)], [])


@given(EDGES, EDGES)
def test_every_table_comes_once_whatever_the_edges(
    customary: set[tuple[int, int]], learned: set[tuple[int, int]]
) -> None:
    """No edge, cycle or contradiction loses or repeats a table."""
    assert list(range(8)) == sorted(lock_order(range(8), customary, learned))


@given(st.permutations(range(6)), st.data())
def test_edges_without_cycle_are_all_respected(line: list[int], data: st.DataObject) -> None:
    """As long as writers agree on some order, ours agrees with theirs."""
    possible = list(itertools.combinations(line, 2))
    edges = data.draw(st.sets(st.sampled_from(possible)))
    position = {oid: place for place, oid in enumerate(lock_order(range(6), [], edges))}
    assert [] == [edge for edge in edges if position[edge[0]] > position[edge[1]]]
