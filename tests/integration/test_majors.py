"""Every major version that is supported, on either side: filled, moved there and back, compared, copied by dump."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.run import End, run_checks
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.seeds import SEEDS
from tests.conftest import component
from tests.integration import moving, tripped
from tests.integration.corpus_types import COLUMN_TYPES
from tests.integration.ledgered import Pairs, assert_moves_lose_nothing, ledger
from tests.integration.test_binding import PEOPLE, SAID, SILENT, told
from tests.integration.test_checks import ROUTES, SOUND
from tests.integration.test_corpus_content import create, database_with, insert, values
from tools.server_majors import server_of

ALL = (14, 15, 16, 17, 18)
UPGRADES = [(14, 15), (15, 16), (16, 17), (17, 18), (14, 18)]
DOWN = [(18, 17), (16, 14)]
SETTINGS = {**CHEAP_SETTINGS, **SOUND}


@pytest.fixture(scope="module")
def clusters(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[dict[int, Cluster]]:
    """One running server of each major: this machine's own, and downloaded ones where it has none."""
    found = {each.major: each for each in pg_installations}
    for major in set(ALL) - set(found):
        found[major] = component(lambda major=major: server_of(major))  # type: ignore[misc]
    with ExitStack() as stack:
        running = {}
        for major in ALL:
            made = Cluster.create(scratch, f"major-{major}", found[major], settings=SETTINGS)
            running[major] = stack.enter_context(made)
        yield running


@pytest.mark.parametrize(("old", "new"), [*UPGRADES, *DOWN])
def test_a_move_there_and_back_loses_nothing(clusters: dict[int, Cluster], old: int, new: int, tmp_path: Path) -> None:
    """Filled online, followed, switched, followed back, switched back, with writers all along; equal in the end."""
    pairs = Pairs(clusters[old], clusters[new], tmp_path)
    try:
        pair = pairs.get()
        with ledger(pair) as written:
            assert_moves_lose_nothing(pair, written, moves=2)
    finally:
        pairs.close()


@pytest.mark.parametrize(("old", "new"), [*UPGRADES, *DOWN])
def test_a_copy_of_everything_is_equal(clusters: dict[int, Cluster], old: int, new: int, tmp_path: Path) -> None:
    """By dump, one of everything; what a major version changes by itself is no difference."""
    for major in (old, new):
        moving.make_roles(clusters[major])
    with moving.database(clusters[old]) as source, moving.database(clusters[new]) as target:
        moving.run_script(source, moving.EVERYTHING)
        moving.prepare(source, target, tmp_path)
        moving.fill(source, target)
        found = compare(source, target)
    assert Answer.EQUAL is found.answer, [str(one) for one in (*found.differences, *found.unknown)]


@pytest.mark.parametrize(("old", "new"), [(14, 15), (16, 17), (14, 18), (18, 17)])
def test_what_is_bound_anew_is_another_thing(clusters: dict[int, Cluster], old: int, new: int, tmp_path: Path) -> None:
    """What is read from stored trees and from records of dependencies is the same in each major."""
    with moving.database(clusters[old]) as source, moving.database(clusters[new]) as target:
        moving.run_script(source, ";".join((PEOPLE, SAID.strip().removesuffix(";"), *SILENT.values())))
        moving.prepare(source, target, tmp_path)
        moving.fill(source, target)
        assert set(SILENT) == told(compare(source, target))


def test_a_sound_pair_trips_no_check(clusters: dict[int, Cluster]) -> None:
    """Each major to each other one, both methods, with and without a fallback that follows."""
    hubs = {major: tripped.sound_hub(clusters[major]) for major in ALL}
    superusers = {major: clusters[major].dsn("hub") for major in ALL}
    for old, new in itertools.permutations(ALL, 2):
        with ExitStack() as stack:
            source, target = (
                End(
                    stack.enter_context(connect(hubs[major], purpose="test", read_only=True)),
                    subscriber=stack.enter_context(connect(superusers[major], purpose="test", read_only=True)),
                    app_roles=("app",),
                    disk_free_bytes=tripped.PLENTY,
                )
                for major in (old, new)
            )
            for move in ROUTES:
                found = {one.id for one in run_checks(source, target, move) if one.severity is not Severity.INFO}
                older = {"target-older"} if new < old else set()
                assert {"fsync-off", "full-page-writes-off"} | older == found, (old, new, move)


def test_rows_have_one_digest_everywhere(clusters: dict[int, Cluster]) -> None:
    """A row of every type, hashed by five versions of the server."""
    chance = random.Random(20261125)
    rows = [values(column, chance, 20) for column in COLUMN_TYPES]
    with ExitStack() as stack:
        dsns = [stack.enter_context(database_with(clusters[major], "LOCALE 'C'")) for major in ALL]
        for dsn in dsns:
            with psycopg.connect(dsn) as connection:
                connection.execute("DROP SCHEMA public")  # owner and privileges of a new one changed in 15
                create(connection)
                for number, each in enumerate(rows):
                    insert(connection, number, each)
        digests = set()
        for other, dsn in zip(dsns[-1:] + dsns[:-1], dsns, strict=True):
            found = compare(other, dsn, seeds=SEEDS)
            assert Answer.EQUAL is found.answer, [str(one) for one in (*found.differences, *found.unknown)]
            digests.add(tuple(table.digest_target for table in found.tables))
    assert 1 == len(digests)
