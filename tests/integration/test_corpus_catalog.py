"""A corpus of single changes of catalogs, drawn from a seed: each is reported by name, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Iterable

import psycopg

from statehub_plan.demo.cluster import Cluster
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.compare import Answer, Difference, compare
from tests.integration.corpus_catalog import CHANGES, ONCE
from tests.integration.moving import database, make_roles, run_past_fence

SEED = 20261124
REPLICAS = 7


def told(differences: Iterable[Difference]) -> set[str]:
    """`kind object: aspect` of each."""
    return {f"{each.kind} {each.object}: {each.aspect}" for each in differences}


def test_every_single_change_is_reported_by_name(source_cluster: Cluster, target_cluster: Cluster) -> None:
    """Almost six hundred changes of more than twenty kinds of object: what each must cause, and no more; waived one
    by one, all are gone from the differences and on record as waived."""
    chance = random.Random(SEED)
    changes = [change.replica(number, chance) for change in CHANGES for number in range(1, REPLICAS + 1)]
    changes += [change.replica(0, chance) for change in ONCE]
    expected = {line for change in changes for line in change.expected}
    assert len(changes) >= 500
    made = [f"CREATE SCHEMA s{number}" for number in range(REPLICAS + 1)] + [change.made for change in changes]
    make_roles(source_cluster)
    make_roles(target_cluster)
    with database(source_cluster) as source, database(target_cluster) as target:
        for dsn in (source, target):
            with psycopg.connect(dsn) as connection:
                connection.execute(";\n".join(made).encode())
        assert () == compare(source, target, content=False).differences
        run_past_fence(target, *(change.done for change in changes))
        found = compare(source, target, content=False)
        assert (set(), set()) == (expected - told(found.differences), told(found.differences) - expected)
        assert len({each.kind for each in found.differences}) >= 20
        waive = tuple(
            Waiver(kind=each.kind, object=each.object, aspect=each.aspect, reason="agreed")
            for each in found.differences
        )
        waived = compare(source, target, content=False, waive=waive)
        assert (Answer.EQUAL, ()) == (waived.answer, waived.differences)
        assert {1} == {each.differences for each in waived.waived}
        assert {one.name for one in waive} == {each.name for each in waived.waived}
