"""The real components that integration tests stand on: two clusters of different majors, OPA, ssh-keygen.

A missing one skips with the command that installs it; with CI=true it fails.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from statehub_plan import redact
from statehub_plan.components import PgInstallation, find_opa, find_ssh_keygen, server_installations
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster, scratch_directory
from statehub_plan.errors import StatehubError

T = TypeVar("T")

# Machines are shared and noisy: no example of a property fails for its time.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")

# Begun first, so that no worker is left alone with one of them in the end; see --no-loadscope-reorder in the Makefile.
_LONG = (
    "test_apply_killed",
    "test_replication_killed",
    "test_model",
    "test_rehearse_again",
    "test_majors",
    "test_under_hold",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in their order."""
    items.sort(key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What is marked `exhaustive` runs without coverage, its fixtures too: a third of the time, and nothing that the
    other tests do not cover."""
    plugin = item.config.pluginmanager.getplugin("_cov")
    measuring = plugin.cov_controller if plugin is not None and item.get_closest_marker("exhaustive") else None
    if measuring is not None:
        measuring.pause()
    try:
        return (yield)
    finally:
        if measuring is not None:
            measuring.resume()


# Whoever starts the tests in the background may have had this ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"a real component is missing in CI: {reason}", pytrace=False)
    pytest.skip(reason)


def component(find: Callable[[], T]) -> T:
    """What was found; a test without it is skipped, or fails in CI."""
    try:
        return find()
    except StatehubError as error:
        if error.code != "component-missing":
            raise
        _missing(str(error))


@pytest.fixture(autouse=True)
def _secrets_of_one_test_hide_nothing_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process is one command for a user; here it runs many, and what one registered is a word in another's text."""
    monkeypatch.setattr(redact, "_registered", redact._registered)


@pytest.fixture(scope="session")
def pg_installations() -> tuple[PgInstallation, ...]:
    """One server installation per major, lowest first; at least two majors in CI, at least one elsewhere."""
    found = component(server_installations)
    if len(found) < 2 and os.environ.get("CI") == "true":
        pytest.fail(f"CI needs two PostgreSQL majors, found only {found[0].version}", pytrace=False)
    return found


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory that servers can reach whoever they run as (pytest's own tmp_path they can't, as root)."""
    with scratch_directory("statehub-plan-tests-") as path:
        yield path


@pytest.fixture(scope="session")
def source_cluster(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[Cluster]:
    """A running cluster of the lowest major, shared by the session; mostly `source_db` is what you want."""
    with Cluster.create(scratch, "source", pg_installations[0], settings=CHEAP_SETTINGS) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def target_cluster(pg_installations: tuple[PgInstallation, ...], scratch: Path) -> Iterator[Cluster]:
    """A running cluster of the highest major, shared by the session."""
    with Cluster.create(scratch, "target", pg_installations[-1], settings=CHEAP_SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def source_db(source_cluster: Cluster) -> Iterator[str]:
    """The superuser's DSN of a fresh, empty database on the source cluster."""
    yield from _fresh_database(source_cluster)


@pytest.fixture
def target_db(target_cluster: Cluster) -> Iterator[str]:
    """The superuser's DSN of a fresh, empty database on the target cluster."""
    yield from _fresh_database(target_cluster)


@pytest.fixture(scope="session")
def opa_path() -> Path:
    """A real OPA, 1.0 or newer."""
    return component(find_opa)


@pytest.fixture(scope="session")
def ssh_keygen() -> Path:
    """OpenSSH's ssh-keygen."""
    return component(find_ssh_keygen)


def _fresh_database(cluster: Cluster) -> Iterator[str]:
    name = f"db_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        # template0: what another test left in template1 must not arrive here; it also copies quicker.
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield cluster.dsn(name)
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        _forget_replication(connection, cluster, name)
        connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


def _forget_replication(connection: psycopg.Connection, cluster: Cluster, name: str) -> None:
    """Subscriptions, slots and prepared transactions block DROP DATABASE even with FORCE; slots would keep WAL."""
    # A database that a test has frozen begins read-only.
    writable = "-c default_transaction_read_only=off"
    with psycopg.connect(cluster.dsn(name), autocommit=True, options=writable) as inside:
        for (subscription,) in inside.execute(
            "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)",
            [name],
        ).fetchall():
            identifier = sql.Identifier(subscription)
            inside.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(identifier))
            inside.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(identifier))
            inside.execute(sql.SQL("DROP SUBSCRIPTION {}").format(identifier))
        for (transaction,) in inside.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]
        ).fetchall():
            inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(transaction)))
    # A subscription of the other cluster that is still there comes back at once: end it and drop in one go, or again.
    query = "FROM pg_replication_slots WHERE database = %s"
    while slots := connection.execute(f"SELECT slot_name {query}".encode(), [name]).fetchall():
        connection.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {query} AND active".encode(), [name])
        for slot in slots:
            with suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                connection.execute("SELECT pg_drop_replication_slot(%s)", slot)
