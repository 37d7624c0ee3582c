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
from typing import IO, Literal

import psycopg
from psycopg.conninfo import make_conninfo

from statehub_plan import __version__
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import age
from statehub_plan.postgres.backup import require_room
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.inventory import CatalogRecord, unpack
from statehub_plan.postgres.manifest import (
    DUMP,
    Backup,
    BackupFile,
    BackupTable,
    Manifest,
    stamps_of,
    verify_backup,
)
from statehub_plan.postgres.restored import Excused, Found, Owners, look_into, owners_of
from statehub_plan.postgres.scratch import Scratch, scratch_database
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.tools import major_of, run_tool
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = ["Disk", "DrillReport", "restore_drill"]

_SIZE_EVERY_S = 1.0
_DISK_EVERY_S = 10.0
_NAMED_AFTER_FAILURE = 20
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
    it passed, and else names each object that is not as it was dumped. `contents` is what the tables held after the
    restore; `tables`, `rows`, `sequences` and `objects` (of the catalog) count what was compared; `excused` is what was
    not, or differs without being a fault of the backup, and why. `content_digest` is over all that was found (the
    manifest's, when it passed). `left_behind` names the scratch database where it could not be dropped."""

    schema_version: Literal["statehub-plan/restore-drill/v2"] = "statehub-plan/restore-drill/v2"
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
    sequences: int
    objects: int
    owners_and_privileges: bool
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
    excused: tuple[Excused, ...] = ()
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
    owners: Owners | None = None
    found: Found | None = None
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
    """What pg_restore reads: a path, the format of what is there, the list of what to restore, and the descriptors that
    the paths lead to; and the catalog that has to come out."""

    path: str
    format: str
    wanted: str
    record: CatalogRecord
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
    """Verifies manifest and checksums, restores into a scratch database on the server of `server_dsn`, compares rows,
    large objects, sequences and the whole catalog with what the backup says, drops the database again, whatever
    happens; blocks for as long as that takes.

    Needs CREATEDB (Refusal `drill-not-allowed`) and disk space there for a second copy and its WAL: with `disk` that is
    looked at before and while it is restored (Refusal `drill-disk-full`). A server that is older than the
    backup's is refused (`drill-older-server`). An encrypted backup needs `identities` (Refusal
    `backup-identity-missing`) and room for the decrypted dump in the temporary directory, in a file without a name: no
    way of ending leaves it there. Owners and privileges are restored and compared by a superuser, where all roles are
    there; the report says where they were not. A backup that fails is a report, not an
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
    manifest, took, found = backup.manifest, course.took_ms, course.found
    contents = found.tables if found else ()
    return DrillReport(
        passed=not course.problems,
        backup=backup.path.name,
        path=str(backup.path.absolute()),
        manifest_digest=manifest.digest,
        content_digest=found.content_digest if found else None,
        endpoint=manifest.endpoint,
        identity=manifest.identity,
        encrypted=manifest.encryption is not None,
        taken_at=manifest.taken_at,
        drilled_at=drilled_at,
        backup_server_version=manifest.server_version,
        server_version=whereto.server_version,
        restored_on=whereto,
        tables=len(contents),
        rows=sum(table.rows for table in contents),
        sequences=found.sequences if found else 0,
        objects=found.objects if found else 0,
        owners_and_privileges=course.owners is not None and course.owners.missing is None,
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
        excused=found.excused if found else (),
        contents=contents,
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
    listed, catalog = manifest.restore_list, manifest.catalog_file
    if listed is None or catalog is None:
        raise RuntimeError("a manifest was verified that lists neither")
    if manifest.encryption is None or identities is None:
        record = _record(manifest, (backup.path / catalog.path).read_bytes(), course)
        path, wanted = (str(backup.path / name) for name in (DUMP, listed.path))
        yield _Archive(path, manifest.format, wanted, record) if record else None
        return
    files = (*manifest.archives, listed, catalog)
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
        plain[-1].seek(0)
        record = _record(manifest, plain[-1].read(), course)
        # pg_restore's workers each open this path afresh, so each has a position of its own in the nameless file.
        descriptors = tuple(sink.fileno() for sink in plain[:-1])
        path, wanted = (f"/dev/fd/{descriptor}" for descriptor in descriptors)
        yield _Archive(path, manifest.format, wanted, record, descriptors) if record else None


def _record(manifest: Manifest, packed: bytes, course: _Course) -> CatalogRecord | None:
    """The catalog that has to come out; None, with the problem noted, where it can't be told."""
    try:
        record, told = unpack(packed)
    except ValueError as problem:
        course.problems.append(f"damaged catalog: {problem}")
        return None
    if told != manifest.catalog:
        course.problems.append("damaged catalog: it is not the one that the manifest speaks of")
        return None
    return record


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
    manifest, course.owners = backup.manifest, owners_of(archive.record, server)
    with scratch_database(server, manifest.encoding) as scratch:
        with course.phase("restore"):
            problems = _restore(archive, manifest, server, scratch, jobs, course)
        # The workers of pg_restore can get in each other's way (ATTACH PARTITION of indexes of one table); one cannot.
        again = jobs > 1 and any("deadlock detected" in problem for problem in problems)
        if not again:
            with course.phase("compare"):
                dsn = make_conninfo(server_dsn, dbname=scratch.name)
                course.found = _look_into(manifest, archive.record, dsn, jobs, course)
            # After a restore that was given up almost everything is missing, which says no more than why it was.
            rest = course.found.problems[:_NAMED_AFTER_FAILURE] if problems else course.found.problems
            course.problems += [*problems, *rest]
            course.restored_bytes = _size(server, scratch.name)
    if again:
        return _restored(backup, archive, server_dsn, server, 1, course)
    return scratch.name if scratch.left_behind else None


def _restore(
    archive: _Archive, manifest: Manifest, server: Connection, scratch: Scratch, jobs: int, course: _Course
) -> list[str]:
    major = max(major_of(server), manifest.tool_major)
    course.tool = run_tool("pg_restore", ["--version"], server, min_major=major).strip()
    without = ["--no-owner", "--no-privileges"] if course.owners is None or course.owners.missing else []
    arguments = [
        f"--format={archive.format}",
        f"--jobs={jobs}",
        f"--use-list={archive.wanted}",
        *without,
        "--no-subscriptions",
        "--no-tablespaces",
        "--exit-on-error",
        f"--dbname={scratch.name}",
        archive.path,
    ]
    try:
        run_tool(
            "pg_restore",
            arguments,
            server,
            min_major=major,
            database=scratch.name,
            check=_size_watch(server, scratch.name, manifest, course),
            pass_fds=archive.descriptors,
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


def _look_into(manifest: Manifest, record: CatalogRecord, dsn: str, jobs: int, course: _Course) -> Found:
    def session() -> Connection:
        connection = connect(dsn, purpose="restore drill")
        pin_rendering(connection)
        return connection

    if course.owners is None:
        raise RuntimeError("a database was restored before it was known with which owners")
    return look_into(manifest, record, session, course.owners, jobs, on_progress=course.on_progress, check=course.check)
