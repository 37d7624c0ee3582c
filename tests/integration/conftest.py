"""The worlds that moves by replication are tested in: a demo's, and a pair of databases without a tool around them.
A module that needs another one defines its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import Cluster
from statehub_plan.demo.world import DemoWorld
from tests.integration.ledgered import Moved, Pairs
from tests.integration.replicating import following_world


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows, one client that writes during everything, one verdict at the end."""
    with following_world() as built:
        built.start_client()
        yield built


@pytest.fixture(scope="module")
def pairs(
    source_cluster: Cluster, target_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pairs]:
    """One pair for all."""
    found = Pairs(source_cluster, target_cluster, tmp_path_factory.mktemp("pairs"))
    yield found
    found.close()


@pytest.fixture
def pair(pairs: Pairs) -> Moved:
    """A primary, a side that follows it, and the way back prepared."""
    return pairs.get()
