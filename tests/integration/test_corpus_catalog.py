"""A corpus of single changes of catalogs, drawn from a seed: each is reported by name, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Iterable

import psycopg

from statehub_plan.demo.cluster import Cluster
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.catalog_stamp import catalog_stamp
from statehub_plan.postgres.compare import Answer, Difference, compare
from statehub_plan.postgres.connect import connect
from tests.integration.corpus_catalog import CHANGES, ONCE
from tests.integration.moving import database, make_roles, run_past_fence

SEED = 20261124
REPLICAS = 7

_LEFT_ALONE = ("sequence value",)  # is no part of the catalog, and compared at each proof


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


def test_every_change_changes_the_stamp(target_cluster: Cluster) -> None:
    """The cheap look that tells whether a catalog has to be read again misses none of the changes, and sees none where
    rows are written, vacuumed and analyzed."""
    chance = random.Random(SEED)
    changes = [each.replica(1, chance) for each in (*CHANGES, *ONCE) if each.name not in _LEFT_ALONE]
    make_roles(target_cluster)
    with database(target_cluster) as dsn, connect(dsn, purpose="test") as connection:
        made = ["CREATE SCHEMA s1", *(change.made for change in changes)]
        connection.execute(";".join(made).encode())
        before = catalog_stamp(connection)
        connection.execute("CREATE TABLE public.written (id integer); INSERT INTO public.written VALUES (1)")
        stamp = catalog_stamp(connection)
        assert before != stamp
        connection.execute("INSERT INTO public.written SELECT generate_series(1, 5000)")
        connection.execute("DELETE FROM public.written WHERE id % 2 = 0")
        connection.execute("VACUUM ANALYZE public.written")
        connection.execute("SELECT nextval('s1.q_step')")
        assert stamp == catalog_stamp(connection)
        missed = []
        for change in changes:
            with connection.transaction(force_rollback=True):
                connection.execute(change.done.encode())
                missed += [change.name] if catalog_stamp(connection) == stamp else []
        assert [] == missed
        assert stamp == catalog_stamp(connection)
