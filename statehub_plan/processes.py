"""Run a command without a shell, bounded in time and output; nothing that it started outlives a time-out."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.redact import redact

OUTPUT_CAP = 1 << 20  # bytes kept of stdout and of stderr; the rest is read and dropped, so that the command can go on

_CHUNK = 1 << 16
_TERM_GRACE_S = 0.2  # between SIGTERM and SIGKILL
_LINGER_S = 0.2  # for the last output, where a child still holds it open after the command itself has ended
_LOOK_S = 0.05  # how often the end of a silent command, the deadline and `stop` are looked at


class Finished(Frozen):
    """A command that ended by itself. Outputs are UTF-8 with replacement characters, `truncated` when over the cap."""

    argv: tuple[str, ...]
    exit_status: int
    stdout: str
    stderr: str
    truncated: bool
    elapsed_ms: int

    def complaint(self) -> str:
        """One redacted line: exit status, and the last line of what it wrote to stderr."""
        last = next((line.strip() for line in reversed(self.stderr.splitlines()) if line.strip()), "")
        return redact(f"exit status {self.exit_status}" + (f": {last[:300]}" if last else ""))


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    stop: threading.Event | None = None,
) -> Finished:
    """Run `argv` to its end, stdin empty, environment inherited; any exit status is an answer.

    Blocks for at most `timeout_s` plus half a second. The command leads a session and process group of its own; on a
    time-out, on `stop` and on any exception (Ctrl-C) the whole group is ended. Children that it leaves behind when it
    ends by itself are left alone: restarting a tunnel is a legitimate thing for a command to do.
    StatehubError: `command-missing`, `command-timeout`.
    """
    began = time.monotonic()
    process = _start(argv, cwd)
    stdout, stderr = bytearray(), bytearray()
    ended = False
    try:
        ended = _drain(process, (stdout, stderr), began + timeout_s, stop or threading.Event())
    finally:
        if not ended:
            _end_group(process)
    if not ended:
        raise StatehubError(
            code="command-timeout",
            what=redact(f"{argv[0]} did not end within {timeout_s:g} s; it and all it started were ended"),
            hint="run it by hand to see what it waits for, or give it a longer timeout in the plan",
        )
    return Finished(
        argv=tuple(argv),
        exit_status=process.returncode,
        stdout=stdout[:OUTPUT_CAP].decode(errors="replace"),
        stderr=stderr[:OUTPUT_CAP].decode(errors="replace"),
        truncated=max(len(stdout), len(stderr)) > OUTPUT_CAP,
        elapsed_ms=round((time.monotonic() - began) * 1000),
    )


def _start(argv: Sequence[str], cwd: Path | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
        raise StatehubError(
            code="command-missing",
            what=redact(f"{argv[0]} could not be started: {getattr(error, 'strerror', None) or error}"),
            hint=f"install it or put it on PATH; it is started in {cwd or Path.cwd()} without a shell",
        ) from error


def _drain(
    process: subprocess.Popen[bytes], outputs: tuple[bytearray, bytearray], deadline: float, stop: threading.Event
) -> bool:
    """Fill `outputs` (up to one byte over the cap) until the command has ended; False if it had not by then."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    with contextlib.ExitStack() as closing, selectors.DefaultSelector() as selector:
        for stream, output in zip(streams, outputs, strict=True):
            selector.register(closing.enter_context(stream), selectors.EVENT_READ, output)
        lingers_until: float | None = None
        while lingers_until is None or (selector.get_map() and time.monotonic() < lingers_until):
            if lingers_until is None and process.poll() is not None:
                lingers_until = time.monotonic() + _LINGER_S
            elif lingers_until is None and (stop.is_set() or time.monotonic() > deadline):
                return False
            for key, _ in selector.select(_LOOK_S if selector.get_map() else 0):
                _take(selector, key)
            if lingers_until is None and not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_S)
    return True


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, _CHUNK)
    if not chunk:
        selector.unregister(key.fileobj)
    output: bytearray = key.data
    output.extend(chunk[: OUTPUT_CAP + 1 - len(output)])


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    """SIGTERM, a short grace, SIGKILL to the whole group; its leader is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_GRACE_S
        while time.monotonic() < deadline:
            leader.poll()  # reaps it: a zombie keeps its group alive
            os.killpg(leader.pid, 0)
            time.sleep(0.005)
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()
