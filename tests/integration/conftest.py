"""The world that moves by replication are tested in; a module that needs another one defines its own `world`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import DemoWorld
from tests.integration.replicating import following_world


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Two sites with few rows, one client that writes during everything, one verdict at the end."""
    with following_world() as built:
        built.start_client()
        yield built
