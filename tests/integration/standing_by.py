"""A real standby of a test cluster: streams, replays, answers reads; asynchronous unless somebody demands it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg.conninfo import make_conninfo

from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from tests.integration.served_database import eventually


class Standby(Cluster):
    """Made by pg_basebackup of `upstream`; its databases have the upstream's passwords."""

    upstream: ClassVar[str] = ""

    def _initialise(self, settings: Mapping[str, str]) -> None:
        line = make_conninfo(self.upstream, dbname="postgres")
        # fmt: off
        command = [
            str(self.installation.bin_dir / "pg_basebackup"), "--pgdata", str(self.data_dir), "--dbname", line,
            "--write-recovery-conf", "--checkpoint", "fast", "--no-sync",
        ]
        # fmt: on
        with self.log_file.open("ab") as log:
            assert 0 == self._spawn(command, log.fileno()).wait(), self.log_file.read_text()
        with (self.data_dir / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def read(self, database: str, query: str) -> object:
        """The first value of the first row, as the standby has it now."""
        dsn = make_conninfo(self.upstream, port=self.port, dbname=database)
        with psycopg.connect(dsn) as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def _receiver(self) -> int:
        pid = self.read("postgres", "SELECT pid FROM pg_stat_wal_receiver")
        assert isinstance(pid, int)
        return pid

    @contextmanager
    def stopped_receiving(self) -> Iterator[None]:
        """Its receiver is stopped by a signal: connected, and silent."""
        pid = self._receiver()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def standby_of(cluster: Cluster, scratch: Path, name: str) -> Iterator[Standby]:
    """A standby that streams from this cluster."""

    class OfThisCluster(Standby):
        upstream = cluster.dsn()

    with OfThisCluster.create(scratch, name, cluster.installation, settings=CHEAP_SETTINGS) as standby:
        streams = "SELECT FROM pg_stat_replication WHERE state = 'streaming' AND application_name = %s"
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            assert eventually(lambda: connection.execute(streams, [name]).fetchone() is not None)
        yield standby
