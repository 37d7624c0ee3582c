"""After a move and its way back `doctor` and `plan` say the same of a fallback; real moves, tests in this order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from tests.integration.applying import ran
from tests.integration.replicating import approved_move, carried_out, served_world, writable

NOT_EMPTY = "target-not-empty"


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """There and back by a dump: the old side is primary again, the new one kept as it was frozen."""
    with served_world(rows=2_000, method="dump", fallback="frozen") as built:
        for name, new in (("there", TARGET), ("back", SOURCE)):
            carried_out(approved_move(built, name, new))
        yield built


@pytest.fixture(scope="module")
def careful(world: DemoWorld) -> Path:
    """The document without leave to replace what the target holds."""
    document = world.plan_file.with_name("careful.yaml")
    text = world.plan_file.read_text()
    assert "targetContent: replace" in text
    document.write_text(text.replace("targetContent: replace", "targetContent: empty"))
    world.plan_file.rename(world.directory / "kept.yaml")  # two documents of one name are refused
    return document


def _found(document: Path) -> set[str]:
    return {one["id"] for one in ran("doctor", document, "--json").json["preflight"]["found"]}


def test_a_fallback_that_was_kept_is_replaced_without_being_asked_for(world: DemoWorld, careful: Path) -> None:
    """Its rows were the beginning of the primary that came after it; a dump is made all the same."""
    assert {SOURCE} == writable(world)
    plan = ran("plan", careful).out
    assert f"fence {TARGET}, dump what it holds into the backup folder, REPLACE it" in plan
    assert NOT_EMPTY not in plan
    assert NOT_EMPTY not in _found(careful)


def test_one_that_somebody_could_write_to_is_not(world: DemoWorld, careful: Path) -> None:
    """Both say so."""
    dsn = world.sites[TARGET].cluster.dsn("statehub")
    with psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=off") as superuser:
        superuser.execute("SELECT statehub_plan.fence_tables(false)")
        superuser.execute("ALTER DATABASE statehub RESET default_transaction_read_only")
    assert NOT_EMPTY in _found(careful)
