"""Two real clusters of the lowest and highest major found, configured alike, for measurements side by side."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from benchmarks.dataset import fill
from statehub_plan.components import server_installations
from statehub_plan.demo.cluster import Cluster, scratch_directory

# What anybody would set on a server that is about to be filled; the same on both sides and for every contender.
_SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "fsync": "on"}


@dataclass(frozen=True)
class Pair:
    """The source cluster with its filled database, and the target cluster."""

    source_cluster: Cluster
    target_cluster: Cluster
    source: str

    @contextmanager
    def target(self) -> Iterator[str]:
        """The DSN of a fresh database on the target, dropped afterwards; begins with a checkpoint on both sides."""
        name = f"bench_{secrets.token_hex(4)}"
        for cluster in (self.source_cluster, self.target_cluster):
            _on(cluster, sql.SQL("CHECKPOINT"))
        _on(self.target_cluster, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield self.target_cluster.dsn(name)
        finally:
            _on(self.target_cluster, sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


@contextmanager
def two_clusters(megabytes: int, *, newest: int | None = None) -> Iterator[Pair]:
    """Both clusters running, the source's database `bench` filled; everything is gone afterwards.

    The target's major is the highest found, or the highest up to `newest`."""
    installations = [each for each in server_installations() if newest is None or each.major <= newest]
    with (
        scratch_directory("statehub-plan-bench-") as root,
        Cluster.create(root, "source", installations[0], settings=_SETTINGS) as source,
        Cluster.create(root, "target", installations[-1], settings=_SETTINGS) as target,
    ):
        _on(source, sql.SQL("CREATE DATABASE bench TEMPLATE template0"))
        with psycopg.connect(source.dsn("bench"), autocommit=True) as connection:
            fill(connection, megabytes)
            # Whoever reads first would pay for setting hint bits.
            connection.execute("VACUUM (ANALYZE)")
        yield Pair(source, target, source.dsn("bench"))


def timed(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def size_of(dsn: str) -> str:
    """What the database's tables and indexes take, for people."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT pg_size_pretty(sum(pg_table_size(oid))), pg_size_pretty(sum(pg_indexes_size(oid))), "
            "sum(reltuples)::int8 FROM pg_class WHERE relkind = 'r' AND relnamespace = 'hub'::regnamespace"
        ).fetchone()
    return "?" if row is None else f"tables {row[0]}, indexes {row[1]}, {row[2]:,} rows"


def _on(cluster: Cluster, statement: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(statement)
