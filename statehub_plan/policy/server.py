"""An OPA of our own: on loopback, for one bundle, answering one question for one token, gone when its owner is gone."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from statehub_plan.errors import StatehubError
from statehub_plan.policy.bundle import Bundle

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp, proc(5)
_POLL_S = 0.004
_STOP_S = 2.0
_LOG_LINES = 8

# The default entry points of OPA's HTTP API are many; nobody, not even the owner of the token, may put policies or
# data, or ask anything else. Only the token's hash is written down.
_AUTHZ = """package system.authz

default allow := false

allow if {{
	input.method == "POST"
	input.path == ["v1", "data", "statehub", "main", "verdict"]
	crypto.sha256(input.identity) == "{token_sha256}"
}}
"""


# Between fork and OPA. (A preexec_fn may deadlock where there are threads, and a lease has its heartbeat.) Asks for
# SIGKILL at the owner's death, makes sure that it was not too late for that, becomes OPA.
_LAUNCH = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {signal.SIGKILL:d})
owner, home, *argv = sys.argv[1:]
if os.getppid() == int(owner):
    os.execve(argv[0], argv, {{"HOME": home, "PATH": os.defpath}})
"""


class OpaServer:
    """A child process `opa run --server`, on a port that `wait` finds out and for the bearer of `token`.

    The kernel picks the port and /proc tells which one it was: the socket is known to be the child's own, so no other
    local process can have answered in its place. The child gets none of this process's environment
    (`opa.runtime()` would show it to policies) and is killed by the kernel when the thread that started it ends
    (PR_SET_PDEATHSIG, prctl(2)): start it from the thread that lives as long as the work does.
    """

    def __init__(self, executable: Path, bundle: Bundle, *, work_dir: Path | None) -> None:
        """Start it without waiting. StatehubError when that is impossible; `stop` is the caller's duty otherwise.

        A copy of the bundle is staged in `work_dir` (else the system's temporary directory) until it has been loaded.
        """
        self.token = secrets.token_urlsafe(32)
        self.port = 0
        with ExitStack() as undo:
            try:
                self._log: IO[bytes] = undo.enter_context(tempfile.TemporaryFile())  # it has no name on disk
                self._staged = tempfile.TemporaryDirectory(prefix="statehub-plan-opa-", dir=work_dir)
                undo.callback(self._staged.cleanup)
                self._process = self._start(executable, bundle, Path(self._staged.name))
            except OSError as error:
                raise _not_started(f"it could not be started: {error}", ()) from error
            self._left = undo.pop_all()

    def wait(self, timeout_s: float) -> None:
        """Block until it listens, which is when it has loaded the bundle; StatehubError when it does not get that far.
        Nothing is left on disk afterwards."""
        deadline = time.monotonic() + timeout_s
        while not self.port:
            if self._process.poll() is not None:
                raise _not_started(f"it ended with status {self._process.returncode}", self._complaints())
            if time.monotonic() > deadline:
                raise _not_started("it did not listen in time", self._complaints())
            self.port = _listening_port(self.pid) or 0
            if not self.port:
                time.sleep(_POLL_S)
        self._staged.cleanup()

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL after two seconds. Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._left.close()

    def _start(self, executable: Path, bundle: Bundle, staged: Path) -> subprocess.Popen[bytes]:
        bundle.stage(staged / "policies")
        _stage_authz(staged / "authz", self.token)
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), str(staged)]
        server = [str(executable.absolute()), "run", "--server", "--addr", "127.0.0.1:0"]
        server += ["--authentication", "token", "--authorization", "basic", "--skip-version-check"]
        server += ["--log-level", "error", "--log-format", "json"]
        server += ["--bundle", str(staged / "policies"), "--bundle", str(staged / "authz")]
        return subprocess.Popen(
            [*launch, *server],
            cwd=staged,
            stdin=subprocess.DEVNULL,
            stdout=self._log,  # where OPA writes why it could not begin
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the owner, who ends its children in order
        )

    def _complaints(self) -> tuple[str, ...]:
        self._log.seek(0)
        return tuple(_readable(line) for line in self._log.read().decode(errors="replace").splitlines()[-_LOG_LINES:])


def _stage_authz(directory: Path, token: str) -> None:
    (directory / "system").mkdir(parents=True)
    token_sha256 = hashlib.sha256(token.encode()).hexdigest()
    (directory / "system" / "authz.rego").write_text(_AUTHZ.format(token_sha256=token_sha256))
    (directory / ".manifest").write_text(json.dumps({"revision": "authz", "roots": ["system/authz"]}))


def _listening_port(pid: int) -> int | None:
    """The TCP port on which process `pid` itself listens, or None as long as there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTENING and f"socket:[{rest[5]}]" in sockets:
                return int(local.rsplit(":", 1)[1], 16)
    return None


def _readable(line: str) -> str:
    """The message of a JSON log line; OPA's first lines (before logging is set up) are plain text."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("err") or entry.get("msg") or line) if isinstance(entry, dict) else line


def _not_started(what: str, details: tuple[str, ...]) -> StatehubError:
    return StatehubError(
        code="policy-engine-not-started",
        what=f"OPA did not start: {what}",
        hint="`policy test` shows what is wrong with the bundle; without a policy engine nothing is carried out",
        details=details,
    )
