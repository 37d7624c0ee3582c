"""Throw-away PostgreSQL clusters: real servers of any installed major version, gone with their owner.

A fresh `initdb` each (about 0.5 s). Copying one template would be quicker, but copies share their system identifier,
and that is exactly what tells two endpoints apart.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self
from urllib.parse import quote

from statehub_plan.components import PgInstallation
from statehub_plan.demo import guardian
from statehub_plan.demo.account import Account, may_execute, reachable, scratch_directory, server_account, unreachable
from statehub_plan.errors import StatehubError

__all__ = ["CHEAP_SETTINGS", "SETTINGS", "SUPERUSER", "Cluster", "scratch_directory"]

SUPERUSER = "postgres"

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "wal_level": "logical",
        "max_wal_senders": "20",
        "max_replication_slots": "20",
        "max_worker_processes": "20",
        "max_logical_replication_workers": "12",
        "max_sync_workers_per_subscription": "4",
        "max_prepared_transactions": "10",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
    }
)
CHEAP_SETTINGS: Mapping[str, str] = MappingProxyType(
    {"fsync": "off", "full_page_writes": "off", "wal_retrieve_retry_interval": "100ms"}
)
"""For tests: still survives every crash of the server, only not one of the machine; a stream that broke is tried again
soon rather than after 5 s."""

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.01
_PORT_ATTEMPTS = 5


class Cluster:
    """One PostgreSQL server on 127.0.0.1 with password authentication; as a context manager it runs until the end.

    Its processes and its directory go away with the process that made it, even if that is killed, unless `detach` was
    called. Not thread-safe; different clusters may be used from different threads.
    """

    def __init__(
        self, directory: Path, installation: PgInstallation, account: Account | None, password: str, port: int
    ) -> None:
        """Internal; use `create`."""
        self.directory = directory
        self.data_dir = directory / "data"
        self.log_file = directory / "server.log"
        self.installation = installation
        self.password = password
        self.port = port
        self._account = account
        self._port_is_final = False
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian = _start_guardian(self.data_dir, directory)

    @classmethod
    def create(
        cls,
        root_dir: Path,
        name: str,
        installation: PgInstallation,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """A new cluster in `root_dir/name`, initialised but not started; blocks for about half a second.

        `settings` override SETTINGS. As root the server runs as `nobody` (or STATEHUB_PLAN_PG_USER), which must be able
        to enter `root_dir` (`scratch_directory` makes such a place). An installation that this user can't reach is
        copied into `root_dir` first. Raises StatehubError if initdb refuses.
        """
        account = server_account()
        if not may_execute(account, root_dir):
            raise unreachable(root_dir, account)
        installation = reachable(installation, root_dir, account)
        directory = root_dir / name
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
        password = secrets.token_urlsafe(18)
        cluster = cls(directory, installation, account, password, _free_port())
        try:
            cluster._initialise({**SETTINGS, "cluster_name": name, **settings})
        except BaseException:
            cluster.destroy()
            raise
        return cluster

    def __enter__(self) -> Self:
        """Started, if it was not."""
        if not self.is_running:
            try:
                self.start()
            except BaseException:
                self.destroy()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stopped and removed."""
        self.destroy()

    @property
    def is_running(self) -> bool:
        """Whether the postmaster that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def dsn(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A connection URI; without `password` the superuser's own, or none for another user."""
        if password is None and user == SUPERUSER:
            password = self.password
        credentials = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        return f"postgresql://{credentials}@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> None:
        """Start the server and block until it takes connections (crash recovery included), at most a minute.

        The port is chosen anew while another process takes it before the first start; later starts keep it.
        """
        for _ in range(_PORT_ATTEMPTS):
            offset = self.log_file.stat().st_size if self.log_file.exists() else 0
            if self._launch():
                self._port_is_final = True
                return
            if self._port_is_final or "Address already in use" not in self._log_since(offset):
                break
            self.port = _free_port()
        raise self._failure("did not start", "see the log's last lines above")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and block until gone; `immediate` skips the shutdown checkpoint, so the next start recovers from WAL."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not stop within {_STOP_TIMEOUT_S:.0f} s", "look for what it waits for") from None
        self._process = None

    def kill(self) -> None:
        """SIGKILL the postmaster and all its children, and block until they are gone."""
        guardian.power_cut(self.data_dir)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop fast and start again on the same port."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Remove the cluster and everything it left; running clients are cut off. Idempotent."""
        if self._process is not None and self.is_running:
            # Not killed outright: the postmaster reaps its children, which an init of a container may never do.
            self._process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
        self.kill()
        self._release_guardian()
        shutil.rmtree(self.directory, ignore_errors=True)

    def detach(self) -> None:
        """Let the running server outlive this process.

        Whoever needs it no more sends SIGINT to the pid in `data_dir/postmaster.pid` and removes `directory`.
        """
        self._release_guardian()

    def _initialise(self, settings: Mapping[str, str]) -> None:
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self._account is not None:
            os.chown(password_file, self._account.uid, self._account.gid)
        # fmt: off
        command = [
            str(self.installation.bin_dir / "initdb"), "--pgdata", str(self.data_dir), "--username", SUPERUSER,
            "--pwfile", str(password_file), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8",
            "--no-sync", "--no-instructions",
        ]
        # fmt: on
        with self.log_file.open("ab") as log:
            if self._spawn(command, log.fileno()).wait() != 0:
                raise self._failure("could not be initialised", "see initdb's last lines above")
        password_file.unlink()
        with (self.data_dir / "postgresql.conf").open("a") as configuration:
            for name, value in settings.items():
                configuration.write(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n")

    def _launch(self) -> bool:
        command = [str(self.installation.bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = self._spawn(command, log.fileno())
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return False
            if guardian.is_ready(self.data_dir, self._process.pid):
                return True
            time.sleep(_POLL_S)
        raise self._failure(f"was not ready within {_START_TIMEOUT_S:.0f} s", "look for what it waits for")

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        # A session of its own: a Ctrl-C in the terminal reaches the owner only. None of the owner's PG* variables.
        account = self._account
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.directory,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    def _release_guardian(self) -> None:
        if self._guardian.poll() is None:
            self._guardian.communicate(guardian.RELEASE)

    def _log_since(self, offset: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _failure(self, what: str, hint: str) -> StatehubError:
        lines = self._log_since(0).splitlines()[-10:] if self.log_file.exists() else []
        return StatehubError(
            code="cluster-failed",
            what=f"the PostgreSQL {self.installation.version} cluster {self.directory.name} {what}",
            hint=hint,
            details=tuple(lines),
        )


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_guardian(data_dir: Path, directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guardian.__file__, data_dir, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
