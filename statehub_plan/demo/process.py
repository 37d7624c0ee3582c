"""Child processes that end with their owner, however the owner ends, and are ended by process id, never by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from statehub_plan.errors import StatehubError

_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02


def end_with_owner() -> None:
    """In the child: SIGTERM to itself as soon as standard input closes, which it does when the owner is gone.

    Not a parent-death signal: that one fires when the *thread* that started the child ends.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="owner", daemon=True).start()


class Child:
    """A Python module of this package, run as a process of its own; as a context manager it is ended at the end."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: tuple[str, ...],
        *,
        log_file: Path,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start it. `env` is added to this process's environment, without PG* variables; output goes to `log_file`."""
        self.name = name
        self.log_file = log_file
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        with log_file.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal reaches the owner, who ends its children in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, "--with-owner"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**inherited, **env},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        """Already running."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ended."""
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id, also after it has ended."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Block until `is_ready()`; StatehubError with the log's last lines when it ends first or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running:
                raise self._failure(f"ended with status {self._process.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready within {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is running."""
        self._process.send_signal(number)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """SIGTERM, then SIGKILL when it takes longer; the exit status. Idempotent."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.returncode

    def _failure(self, what: str) -> StatehubError:
        lines = self.log_file.read_text(errors="replace").splitlines()[-10:]
        return StatehubError(
            code="demo-process-failed",
            what=f"the demo's {self.name} {what}",
            hint=f"see {self.log_file}",
            details=tuple(lines),
        )
