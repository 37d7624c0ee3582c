"""PostgreSQL's own client programs, run with the server's coordinates in the environment, never on a command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from statehub_plan.components import PgTool, client_tool
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import APPLICATION_PREFIX, Connection
from statehub_plan.redact import redact

__all__ = ["coordinates", "major_of", "run_tool"]

_POLL_S = 0.1
_STDERR_LINES = 20
_END_TIMEOUT_S = 5.0


def run_tool(
    name: PgTool,
    arguments: Sequence[str],
    connection: Connection,
    *,
    min_major: int,
    database: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> str:
    """What the program prints, run against the server (and database, unless another is named) of `connection`.

    `min_major` chooses the installation: the oldest that is at least as new. Blocks until it ends; `check` is called
    ten times a second and may raise to end it. StatehubError with the program's last lines when it fails.
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
