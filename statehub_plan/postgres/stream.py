"""COPY from one server straight into COPY on another: blocks are passed on, never looked into."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from psycopg import errors, sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from statehub_plan.components import client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.tools import coordinates, major_of
from statehub_plan.redact import redact

__all__ = ["Reader", "Streamed", "stream_blocks", "stream_rows"]

_BLOCK_BYTES = 256 * 1024
_WAIT_MS = 500
_TRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """Rows that the source says it sent and the target says it took (they agree), and bytes on the wire."""

    rows: int
    bytes: int


def stream_rows(
    source: Connection,
    target: Connection,
    copy_out: sql.Composed,
    copy_in: sql.Composed,
    *,
    moved: Callable[[int], None],
) -> Streamed:
    """Runs `COPY … TO STDOUT` on the source into `COPY … FROM STDIN` on the target; blocks until both have ended.

    `moved` is called with the bytes of each block. Any error of either server ends both and is raised as psycopg's own;
    the target's transaction is then the caller's to roll back. About 0.7 µs of this process per row: libpq hands over
    one row at a time, nothing here takes it apart.
    """
    total = 0

    def pass_on(block: bytes) -> None:
        nonlocal total
        into.write(block)
        total += len(block)
        moved(len(block))

    with target.cursor() as cursor:
        with cursor.copy(copy_in) as into:
            sent = _copy_out(source, copy_out, pass_on)
        taken = cursor.rowcount
    if sent != taken:
        raise errors.DataException(f"the source sent {sent} rows and the target took {taken}")
    return Streamed(sent, total)


class Reader:
    """COPY … TO STDOUT by a psql that sees what a session in a snapshot sees: for tables that are worth a process.

    psql takes libpq's rows one by one at a sixth of what that costs here, and off this process's one lock; here come
    blocks. Not thread-safe, but for `cancel_safe`.
    """

    def __init__(self, session: Connection) -> None:
        """Does nothing yet; `session` must be in a REPEATABLE READ transaction, and stay there."""
        self._session = session
        self._program: Path | None = None
        with suppress(StatehubError):
            self._program = client_tool("psql", major_of(session))
        self._snapshot = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def usable(self) -> bool:
        """Whether there is a psql for that server."""
        return self._program is not None

    def read(self, copy_out: sql.Composed, pass_on: Callable[[bytes], None]) -> None:
        """Passes the whole output on, block by block; psycopg's OperationalError unless psql saw its regular end."""
        with TemporaryFile() as complaints:
            process = self._begin(copy_out, complaints.fileno())
            try:
                while block := os.read(process.stdout.fileno() if process.stdout else -1, _BLOCK_BYTES):
                    pass_on(block)
                status = process.wait()
            finally:
                self._process = None
                process.kill()  # nothing, once it has ended
                if process.stdout is not None:
                    process.stdout.close()  # a psql that a stdbuf has forked, and that lives on, finds nobody there
                process.wait()
            complaints.seek(0)
            text = redact(" ".join(complaints.read().decode(errors="replace").split()))
        if status != 0:
            raise errors.OperationalError(text or f"psql ended with status {status}")

    def cancel_safe(self, *, timeout: float) -> None:
        """Ends the reading from another thread; it then fails."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Nothing is left to give up: each reading has a process of its own."""

    def _begin(self, copy_out: sql.Composed, complaints: int) -> subprocess.Popen[bytes]:
        if not self._snapshot:
            row = self._session.execute("SELECT pg_export_snapshot()").fetchone()
            self._snapshot = str(row[0]) if row else ""
        statements = (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"SET TRANSACTION SNAPSHOT '{self._snapshot}'",
            "SET row_security = off",
            copy_out.as_string(self._session),
        )
        command = [*_in_large_blocks(self._program), str(self._program), "-XqAt", "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["-c", statement]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=coordinates(self._session, "copy"),
        )
        if self._process.stdout is not None:
            with suppress(OSError, AttributeError):  # the kernel's limit for one user; a kernel without it
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _BLOCK_BYTES)
        return self._process


@cache
def _in_large_blocks(program: Path) -> tuple[str, ...]:
    # The C library writes into a pipe 4 kB at a time; with larger blocks a copy takes about 6 % less.
    stdbuf = shutil.which("stdbuf")
    if stdbuf is None:
        return ()
    prefix = (stdbuf, f"-o{_BLOCK_BYTES}")
    with suppress(OSError, subprocess.SubprocessError):  # one whose library psql cannot load is no help
        subprocess.run([*prefix, program, "--version"], check=True, capture_output=True, timeout=_TRY_S)
        return prefix
    return ()


def stream_blocks(
    reader: Reader,
    target: Connection,
    copy_out: sql.Composed,
    copy_in: sql.Composed,
    *,
    moved: Callable[[int], None],
) -> Streamed:
    """As `stream_rows`, but read by a program of its own. Only what has no text form that depends on settings."""
    total = 0

    def pass_on(block: bytes) -> None:
        nonlocal total
        into.write(block)
        total += len(block)
        moved(len(block))

    with target.cursor() as cursor:
        with cursor.copy(copy_in) as into:
            reader.read(copy_out, pass_on)
        return Streamed(cursor.rowcount, total)


def _copy_out(source: Connection, statement: sql.Composed, pass_on: Callable[[bytes], None]) -> int:
    """Rows sent, after the whole output was passed on.

    psycopg's own `Copy.read` enters a generator and a wait for every row; this asks libpq directly and waits only when
    it has nothing.
    """
    connection = source.pgconn
    connection.send_query(statement.as_bytes(source))
    _finish_sending(connection)
    _expect(source, _result(connection), ExecStatus.COPY_OUT)
    blocks: list[bytes | memoryview] = []
    size = 0
    read = connection.get_copy_data
    while True:
        length, data = read(1)
        if length > 0:
            blocks.append(data)
            size += length
            if size < _BLOCK_BYTES:
                continue
        if size and (length != 0 or size >= _BLOCK_BYTES // 4):
            pass_on(b"".join(blocks))
            blocks.clear()
            size = 0
        if length == 0:
            _wait(connection, select.POLLIN)
            connection.consume_input()
        elif length < 0:
            break
    done = _result(connection)
    _expect(source, done, ExecStatus.COMMAND_OK)
    while (more := _result(connection)) is not None:
        _expect(source, more, ExecStatus.COMMAND_OK)
    return (done.command_tuples if done else None) or 0


def _finish_sending(connection: PGconn) -> None:
    while connection.flush():
        _wait(connection, select.POLLIN | select.POLLOUT)
        connection.consume_input()


def _result(connection: PGconn) -> PGresult | None:
    while connection.is_busy():
        _wait(connection, select.POLLIN)
        connection.consume_input()
    return connection.get_result()


def _expect(source: Connection, result: PGresult | None, status: ExecStatus) -> None:
    if result is None:
        raise errors.OperationalError("the server ended the copy without a result")
    if result.status != status:
        raise errors.error_from_result(result, encoding=source.info.encoding)


def _wait(connection: PGconn, events: int) -> None:
    # A time-out only to come back into Python, where a signal is noticed; the loops ask again.
    poll = select.poll()
    poll.register(connection.socket, events)
    poll.poll(_WAIT_MS)
