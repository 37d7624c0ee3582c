"""PostgreSQL's own client programs, run with the server's coordinates in the environment, never on a command line."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol, TypeVar

from statehub_plan.components import PgTool, client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import APPLICATION_PREFIX, Connection
from statehub_plan.redact import redact

__all__ = ["Fed", "Output", "coordinates", "fed_tool", "major_of", "run_tool", "stream_tool"]

ResultT = TypeVar("ResultT")

_POLL_S = 0.1
_STDERR_LINES = 20
_END_TIMEOUT_S = 5.0
_PIPE_BYTES = 1 << 16  # what a pipe holds at most


def run_tool(
    name: PgTool,
    arguments: Sequence[str],
    connection: Connection,
    *,
    min_major: int,
    database: str | None = None,
    check: Callable[[], None] = lambda: None,
    pass_fds: Sequence[int] = (),
) -> str:
    """What the program prints, run against the server (and database, unless another is named) of `connection`.

    `min_major` chooses the installation: the oldest that is at least as new. Blocks until it ends; `check` is called
    ten times a second and may raise to end it. It inherits `pass_fds`. StatehubError with the program's last lines when
    it fails.
    """
    executable = client_tool(name, min_major)
    environment = coordinates(connection, name)
    if database is not None:
        environment["PGDATABASE"] = database
    # Files instead of pipes: a schema of many megabytes must not fill a pipe while nobody reads it.
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = subprocess.Popen(
            [str(executable), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            pass_fds=tuple(pass_fds),
        )
        try:
            _await(process, check)
        finally:
            _end(process)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise _failure(name, executable, process.returncode, errors.read())
        return output.read().decode(errors="surrogateescape")


class Output(Protocol):
    """What a program writes, as it writes it; an empty piece is the end."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        ...


def stream_tool(
    name: PgTool,
    arguments: Sequence[str],
    connection: Connection,
    consume: Callable[[Output], ResultT],
    *,
    min_major: int,
    check: Callable[[], None] = lambda: None,
) -> ResultT:
    """What `consume` makes of the program's output, which goes through a pipe and nowhere else.

    As `run_tool` otherwise; `check` is called while the output is read. StatehubError also when the program fails after
    it has closed its output: what was consumed until then is then not all.
    """
    executable = client_tool(name, min_major)
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [str(executable), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=coordinates(connection, name),
            bufsize=0,
        )
        if process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        try:
            with process.stdout as pipe:
                result = consume(_Piped(pipe.fileno(), check))
            _await(process, check)
        finally:
            _end(process)
        errors.seek(0)
        if process.returncode != 0:
            raise _failure(name, executable, process.returncode, errors.read())
        return result


class _Piped:
    """A pipe that is waited for without forgetting to check, and read in larger pieces than are asked for."""

    def __init__(self, descriptor: int, check: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._check = check
        self._read = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._read:
            self._check()
            while not select.select([self._descriptor], [], [], _POLL_S)[0]:
                self._check()
            self._read = memoryview(os.read(self._descriptor, _PIPE_BYTES))
        size = len(self._read) if size < 0 else size
        piece, self._read = bytes(self._read[:size]), self._read[size:]
        return piece


class Fed:
    """A program that reads what it is fed for as long as it likes, and what it has printed in the end."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes], fail: Callable[[], StatehubError]) -> None:
        self._process = process
        self._output = output
        self._fail = fail
        self._reads = True

    def feed(self, piece: bytes) -> None:
        """More of its input; nothing happens once it reads no more."""
        if not self._reads or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(piece)
        except BrokenPipeError:
            self._reads = False

    def output(self) -> str:
        """Ends its input and waits for its end; StatehubError with the program's last lines when it failed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._fail()
        self._output.seek(0)
        return self._output.read().decode(errors="surrogateescape")


@contextmanager
def fed_tool(name: PgTool, arguments: Sequence[str], connection: Connection, *, min_major: int) -> Iterator[Fed]:
    """The program, running, for whoever has its input only piece by piece; ended when the block is left.

    For one that reads at once what it is given: `Fed.feed` blocks until it has room.
    """
    executable = client_tool(name, min_major)
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = subprocess.Popen(
            [str(executable), *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=coordinates(connection, name),
            bufsize=0,
        )

        def failure() -> StatehubError:
            errors.seek(0)
            return _failure(name, executable, process.returncode, errors.read())

        try:
            yield Fed(process, output, failure)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            _end(process)


def major_of(connection: Connection) -> int:
    """The major version of the server, such as 15."""
    return connection.info.server_version // 10000


def coordinates(connection: Connection, name: str) -> dict[str, str]:
    """An environment for client programs: this process's, with libpq's variables replaced by what `connection` used.

    From the live session rather than from the DSN: a service file or a compiled-in socket directory that differs
    between libpq builds would otherwise lead the program somewhere else.
    """
    options = connection.pgconn.info
    ours = {option.envvar.decode() for option in options if option.envvar} | {"PGSERVICE", "PGSERVICEFILE"}
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    for option in options:
        if option.envvar and option.val:
            environment[option.envvar.decode()] = option.val.decode()
    environment.pop("PGSERVICE", None)
    return environment | {
        "PGHOST": connection.info.host,
        "PGPORT": str(connection.info.port),
        "PGDATABASE": connection.info.dbname,
        "PGUSER": connection.info.user,
        "PGAPPNAME": APPLICATION_PREFIX + name,
        "LC_ALL": "C",  # messages that `_hint` can read
    }


def _await(process: subprocess.Popen[bytes], check: Callable[[], None]) -> None:
    while True:
        try:
            process.wait(_POLL_S)
            return
        except subprocess.TimeoutExpired:
            check()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(name: str, executable: Path, status: int, errors: bytes) -> StatehubError:
    text = redact(errors.decode(errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    return StatehubError(
        code="client-tool-failed",
        what=f"{name} ({executable}) ended with status {status}",
        hint=_hint(text),
        details=tuple(lines[-_STDERR_LINES:]),
    )


def _hint(text: str) -> str:
    if "No space left on device" in text:
        return "free disk space where it says, or choose another directory"
    if "permission denied" in text:
        return "grant the tool's role what is named above (SELECT on every table and sequence, USAGE on every schema)"
    if "query would be affected by row-level security" in text:
        return "let the tool's role own those tables, or give it BYPASSRLS: rows that it cannot see would be lost"
    return "the lines above are the program's own; the server's log says more"
