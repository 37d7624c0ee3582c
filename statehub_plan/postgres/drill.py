"""The restore drill: a backup that was not restored is a hope. Restored into a scratch database, compared, dropped."""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from statehub_plan import __version__
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import age
from statehub_plan.postgres.backup import digest_tables, require_room
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.dump import restore_list
from statehub_plan.postgres.manifest import (
    DUMP,
    Backup,
    BackupFile,
    BackupTable,
    Manifest,
    content_digest,
    stamps_of,
    verify_backup,
)
from statehub_plan.postgres.relations import read_relations
from statehub_plan.postgres.scratch import Scratch, scratch_database
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.tools import major_of, run_tool
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = ["Disk", "DrillReport", "restore_drill"]

_SIZE_EVERY_S = 1.0
_DISK_EVERY_S = 10.0
_WRITTEN_FACTOR = 2  # each row once into its table and once into the WAL
_NO_FAULT_OF_THE_BACKUP = (
    ("No space left on device", "drill-disk-full"),
    ("could not extend file", "drill-disk-full"),
    ("server closed the connection", "drill-interrupted"),
    ("terminating connection", "drill-interrupted"),
    ("connection to server", "drill-interrupted"),
    ("out of shared memory", "drill-interrupted"),
)


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk that a drill fills: `free_bytes` asks how much is left there now (None: nobody knows), `keep_bytes` is
    what has to stay free for whoever else lives there."""

    free_bytes: Callable[[], int | None]
    keep_bytes: int

    def require(self, needed: int) -> bool:
        """Whether it is known how much is left; Refusal `drill-disk-full` when that is less than `needed` and what has
        to stay."""
        free = self.free_bytes()
        if free is not None and free < needed + self.keep_bytes:
            raise Refusal(
                code="drill-disk-full",
                what=f"the server that the drill restores on has {free // 2**20} MiB of disk left; what is still to be "
                f"restored takes about {needed // 2**20} MiB with its WAL, and {self.keep_bytes // 2**20} MiB are to "
                "stay (desired.fallback.limits.dropSlotAtDiskFree); it says nothing about the backup",
                hint="free disk space there, or restore on the other endpoint's server with `drill restore DOCUMENT "
                "--endpoint NAME` (a drill on the fallback does not count for retiring it)",
            )
        return free is not None


class Whereto(Frozen):
    """The server on which a backup was restored; `tool` is the pg_restore that did it."""

    host: str
    port: int
    system_identifier: str | None
    server_version: int
    tool: str


class DrillReport(Frozen):
    """What restoring one backup came to: the statement that a drill's evidence signs. `problems` is empty exactly when
    it passed. `contents` is what the tables held after the restore, `content_digest` the digest over it (the
    manifest's, when it passed). `left_behind` names the scratch database where it could not be dropped."""

    schema_version: str = "statehub-plan/restore-drill/v1"
    passed: bool
    backup: str
    path: str
    manifest_digest: str
    content_digest: str | None
    endpoint: str
    identity: Identity
    encrypted: bool
    taken_at: Instant
    drilled_at: Instant
    backup_server_version: int
    server_version: int
    restored_on: Whereto
    tool_version: str = __version__
    tables: int
    rows: int
    size_bytes: int
    restored_bytes: int
    verify_ms: int
    decrypt_ms: int
    restore_ms: int
    compare_ms: int
    elapsed_ms: int
    restored_bytes_per_s: int
    left_behind: str | None
    problems: tuple[str, ...]
    contents: tuple[BackupTable, ...] = ()


@dataclass
class _Course:
    """How a drill goes: who watches it, what it took, what it found."""

    on_progress: OnProgress
    check: Callable[[], None]
    disk: Disk | None = None
    began: float = field(default_factory=time.monotonic)
    took_ms: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    tool: str = ""
    contents: tuple[BackupTable, ...] = ()
    restored_bytes: int = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures one part of it."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.took_ms[name] = round((time.monotonic() - began) * 1000)


@dataclass(frozen=True, slots=True)
class _Archive:
    """What pg_restore reads: a path, the format of what is there, the list of what to restore where the backup has one,
    and the descriptors that the paths lead to."""

    path: str
    format: str
    wanted: str | None
    descriptors: tuple[int, ...] = ()


def restore_drill(
    backup: Backup,
    server_dsn: str,
    *,
    jobs: int = 2,
    identities: age.Identities | None = None,
    disk: Disk | None = None,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> DrillReport:
    """Verifies manifest and checksums, restores into a scratch database on the server of `server_dsn`, compares every
    table with the manifest, drops the database again, whatever happens; blocks for as long as that takes.

    Needs CREATEDB (Refusal `drill-not-allowed`) and disk space there for a second copy and its WAL: with `disk` that is
    looked at before and while it is restored (Refusal `drill-disk-full`). A server that is older than the
    backup's is refused (`drill-older-server`). An encrypted backup needs `identities` (Refusal
    `backup-identity-missing`) and room for the decrypted dump in the temporary directory, in a file without a name: no
    way of ending leaves it there. Owners and grants are not restored. A backup that fails is a report, not an
    exception; a drill that could not be carried out is an exception (`drill-disk-full`, `drill-interrupted`, …) and
    says nothing about the backup.
    """
    manifest = backup.manifest
    if manifest.encryption is not None and identities is None:
        raise _no_identity(backup)
    course, drilled_at = _Course(on_progress, check, disk), datetime.now(UTC)
    left_behind = None
    with connect(server_dsn, purpose="restore drill") as server:
        whereto = _whereto(server)
        _require_new_enough(manifest, server)
        if disk is not None and not disk.require(_WRITTEN_FACTOR * manifest.table_bytes):
            course.disk = None
        stamps = stamps_of(backup.path)
        with course.phase("verify"):
            found = verify_backup(backup, on_progress=on_progress, check=check)
            course.problems += [f"damaged file: {problem}" for problem in found]
        if not course.problems:
            with _undisturbed(server), _archive(backup, identities, course) as archive:
                if archive is not None:
                    left_behind = _restored(backup, archive, server_dsn, server, jobs, course)
        whereto = whereto.model_copy(update={"tool": course.tool})
    if stamps_of(backup.path) != stamps:
        course.problems.append("the backup was changed while it was being restored")
    return _report(backup, course, whereto, drilled_at, left_behind)


def _report(
    backup: Backup, course: _Course, whereto: Whereto, drilled_at: datetime, left_behind: str | None
) -> DrillReport:
    manifest, took = backup.manifest, course.took_ms
    return DrillReport(
        passed=not course.problems,
        backup=backup.path.name,
        path=str(backup.path.absolute()),
        manifest_digest=manifest.digest,
        content_digest=content_digest(course.contents) if "compare" in took else None,
        endpoint=manifest.endpoint,
        identity=manifest.identity,
        encrypted=manifest.encryption is not None,
        taken_at=manifest.taken_at,
        drilled_at=drilled_at,
        backup_server_version=manifest.server_version,
        server_version=whereto.server_version,
        restored_on=whereto,
        tables=len(course.contents),
        rows=sum(table.rows for table in course.contents),
        size_bytes=manifest.size_bytes,
        restored_bytes=course.restored_bytes,
        verify_ms=took.get("verify", 0),
        decrypt_ms=took.get("decrypt", 0),
        restore_ms=took.get("restore", 0),
        compare_ms=took.get("compare", 0),
        elapsed_ms=round((time.monotonic() - course.began) * 1000),
        restored_bytes_per_s=course.restored_bytes * 1000 // max(took.get("restore", 0), 1),
        left_behind=left_behind,
        problems=tuple(course.problems),
        contents=course.contents,
    )


def _whereto(server: Connection) -> Whereto:
    return Whereto(
        host=server.info.host,
        port=server.info.port,
        system_identifier=identity(server).system_identifier,
        server_version=server.info.server_version,
        tool="",
    )


def _require_new_enough(manifest: Manifest, server: Connection) -> None:
    if manifest.server_version // 10000 > major_of(server):
        raise Refusal(
            code="drill-older-server",
            what=f"the backup is of PostgreSQL {manifest.server_version // 10000}, and {server.info.host} port "
            f"{server.info.port} runs {major_of(server)}; dumps restore into the same major version or a newer one",
            hint="name the other endpoint with --endpoint",
        )


def _no_identity(backup: Backup) -> Refusal:
    encryption = backup.manifest.encryption
    return Refusal(
        code="backup-identity-missing",
        what=f"the backup {backup.path.name} is encrypted, and there is no identity to decrypt it with",
        hint="name the identity file of one of these recipients in backup.encryption.identityFile",
        details=encryption.recipients if encryption else (),
    )


@contextmanager
def _undisturbed(server: Connection) -> Iterator[None]:
    """What the server is to blame for is not a problem of the backup."""
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise _could_not_drill("drill-disk-full", str(error)) from error
    except psycopg.Error as error:
        raise _could_not_drill("drill-interrupted", str(error)) from error


def _could_not_drill(code: str, *why: str) -> StatehubError:
    return StatehubError(
        code=code,
        what="the drill could not be carried out to its end; it says nothing about the backup",
        hint="free disk space on the server that it restores on, or mend what is named, and drill again",
        details=tuple(" ".join(line.split()) for line in why),
    )


@contextmanager
def _archive(backup: Backup, identities: age.Identities | None, course: _Course) -> Iterator[_Archive | None]:
    """What pg_restore can read; None, with the problem noted, where there is none."""
    manifest = backup.manifest
    listed = manifest.restore_list
    if manifest.encryption is None or identities is None:
        yield _Archive(str(backup.path / DUMP), manifest.format, str(backup.path / listed.path) if listed else None)
        return
    files = (*manifest.archives, *([listed] if listed else []))
    needed = sum(file.plain.size_bytes for file in files if file.plain)
    require_room(Path(tempfile.gettempdir()), needed, code="drill-disk-full")
    with ExitStack() as opened:
        plain = [opened.enter_context(tempfile.TemporaryFile(prefix="statehub-plan-")) for _ in files]
        with course.phase("decrypt"):
            for file, sink in zip(files, plain, strict=True):
                problem = _decrypted(backup, file, identities, sink, course)
                course.problems += [f"damaged file: {file.path}: {problem}"] if problem else []
        if course.problems:
            yield None
            return
        # pg_restore's workers each open this path afresh, so each has a position of its own in the nameless file.
        descriptors = tuple(sink.fileno() for sink in plain)
        path, wanted = ([f"/dev/fd/{descriptor}" for descriptor in descriptors] + [None])[:2]
        yield _Archive(str(path), manifest.format, wanted, descriptors)


def _decrypted(
    backup: Backup, file: BackupFile, identities: age.Identities, plain: IO[bytes], course: _Course
) -> str | None:
    """Fills `plain`; what is wrong with the encrypted file, or None."""
    try:
        found = age.decrypt_file(backup, file, identities, plain, on_progress=course.on_progress, check=course.check)
        plain.flush()
    except OSError as error:
        code = "drill-disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "drill-interrupted"
        raise _could_not_drill(code, f"decrypting into {tempfile.gettempdir()}: {error.strerror}") from error
    return found


def _restored(
    backup: Backup, archive: _Archive, server_dsn: str, server: Connection, jobs: int, course: _Course
) -> str | None:
    """Restores and compares; the name of the scratch database if it could not be dropped."""
    manifest = backup.manifest
    with scratch_database(server, manifest.encoding) as scratch:
        with course.phase("restore"):
            problems = _restore(archive, manifest, server, scratch, jobs, course)
        # The workers of pg_restore can get in each other's way (ATTACH PARTITION of indexes of one table); one cannot.
        again = jobs > 1 and any("deadlock detected" in problem for problem in problems)
        if not again:
            with course.phase("compare"):
                dsn = make_conninfo(server_dsn, dbname=scratch.name)
                course.contents = _contents(dsn, jobs, course)
            course.problems += [*problems, *_differences(manifest, course.contents)]
            course.restored_bytes = _size(server, scratch.name)
    if again:
        return _restored(backup, archive, server_dsn, server, 1, course)
    return scratch.name if scratch.left_behind else None


def _restore(
    archive: _Archive, manifest: Manifest, server: Connection, scratch: Scratch, jobs: int, course: _Course
) -> list[str]:
    major = max(major_of(server), manifest.tool_major)
    course.tool = run_tool("pg_restore", ["--version"], server, min_major=major).strip()
    try:
        with tempfile.TemporaryFile("w", encoding="utf-8", errors="surrogateescape") as computed:
            if archive.wanted is None:
                contents = run_tool(
                    "pg_restore", ["--list", archive.path], server, min_major=major, pass_fds=archive.descriptors
                )
                computed.write(restore_list(contents))
                computed.flush()
            arguments = [
                f"--format={archive.format}",
                f"--jobs={jobs}",
                f"--use-list={archive.wanted or f'/dev/fd/{computed.fileno()}'}",
                "--no-owner",
                "--no-privileges",
                "--no-subscriptions",
                "--no-tablespaces",
                "--exit-on-error",
                f"--dbname={scratch.name}",
                archive.path,
            ]
            run_tool(
                "pg_restore",
                arguments,
                server,
                min_major=major,
                database=scratch.name,
                check=_size_watch(server, scratch.name, manifest, course),
                pass_fds=(*archive.descriptors, computed.fileno()),
            )
    except StatehubError as error:
        if error.code != "client-tool-failed":
            raise
        server.execute("SELECT 1")  # a server that is gone is no fault of the backup
        said = error.details or (error.what,)
        code = no_fault_of_the_backup(said)
        if code is not None:
            raise _could_not_drill(code, *said) from error
        return [f"pg_restore: {line}" for line in said]
    return []


def no_fault_of_the_backup(said: Sequence[str]) -> str | None:
    """The code of the error for what pg_restore has said, where that is about the server and not about the backup."""
    return next((code for sign, code in _NO_FAULT_OF_THE_BACKUP if any(sign in line for line in said)), None)


def _size_watch(server: Connection, name: str, manifest: Manifest, course: _Course) -> Callable[[], None]:
    """A check that tells how large the scratch database has grown, beside what the tables took originally, and ends the
    restore once the disk is down to what has to stay free."""
    began = asked = disk_asked = time.monotonic()
    course.on_progress(Progress("restore", 0, manifest.table_bytes, "bytes", 0.0))

    def look() -> None:
        nonlocal asked, disk_asked
        course.check()
        now = time.monotonic()
        if course.disk is not None and now - disk_asked >= _DISK_EVERY_S:
            course.disk.require(0)
            disk_asked = time.monotonic()
        if now - asked >= _SIZE_EVERY_S:
            asked, size = now, _size(server, name)
            total = max(manifest.table_bytes, size)
            course.on_progress(Progress("restore", size, total, "bytes", now - began))

    return look


def _size(server: Connection, name: str) -> int:
    row = server.execute("SELECT pg_database_size(%s)", [name]).fetchone()
    return int(row[0]) if row else 0


def _contents(dsn: str, jobs: int, course: _Course) -> tuple[BackupTable, ...]:
    def session() -> Connection:
        connection = connect(dsn, purpose="restore drill")
        pin_rendering(connection)
        return connection

    with session() as first:
        relations = read_relations(first)
    return digest_tables(relations, session, jobs, on_progress=course.on_progress, check=course.check)


def _differences(manifest: Manifest, found: tuple[BackupTable, ...]) -> list[str]:
    """What is not as the manifest says."""
    wanted, there = ({table.table: table for table in tables} for tables in (manifest.tables, found))
    problems = [f"table {table} is missing" for table in sorted(wanted.keys() - there.keys())]
    problems += [f"table {table} should not be there" for table in sorted(there.keys() - wanted.keys())]
    for table in sorted(wanted.keys() & there.keys()):
        if there[table].rows != wanted[table].rows:
            problems.append(f"table {table}: {there[table].rows} rows instead of {wanted[table].rows}")
        elif there[table].digest != wanted[table].digest:
            problems.append(f"table {table}: its rows differ from those that were dumped")
    return problems
