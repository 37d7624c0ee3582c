"""Dumps that can be believed: complete, checksummed file by file, with the content digest they must restore to."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from statehub_plan.errors import Refusal
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.connect import SCHEMA, Connection
from statehub_plan.postgres.content import ContentDigest, digest_rows
from statehub_plan.postgres.relations import PageRange, Relation, read_relations
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.tools import major_of, run_tool
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, nobody_looks, nothing_to_lose, run_crews

__all__ = [
    "Backup",
    "BackupFile",
    "BackupTable",
    "Manifest",
    "newest_backup",
    "require_room",
    "take_backup",
    "verify_backup",
]

MANIFEST = "manifest.json"
DUMP = "dump"

_PARTIAL = ".partial-"
_PARTIAL_KEPT_S = 24 * 3600.0
_CHUNK_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_SPACE_MARGIN_BYTES = 64 * 1024 * 1024


class BackupFile(Frozen):
    """One file of the dump, relative to the backup's directory."""

    path: str
    size_bytes: int
    sha256: str


class BackupTable(Frozen):
    """What a table held at the dump's snapshot, as `content.ContentDigest` writes it."""

    table: str
    rows: int
    digest: str


class Manifest(Frozen):
    """What a backup is and holds. `taken_at`: the moment whose content it is. `kind`: `safety` for what was about to be
    replaced, which never counts as a backup of a primary."""

    schema_version: Literal["statehub-plan/backup/v1"] = "statehub-plan/backup/v1"
    kind: Literal["regular", "safety"]
    endpoint: str
    identity: Identity
    server_version: int
    encoding: str
    tool: str
    tool_major: int
    taken_at: Instant
    elapsed_ms: int
    size_bytes: int
    files: tuple[BackupFile, ...]
    tables: tuple[BackupTable, ...]


class Backup(Frozen):
    """A finished backup: its directory (`dump/` for pg_restore and `manifest.json`) and what the manifest says."""

    path: Path
    manifest: Manifest


def take_backup(
    dsn: str,
    directory: Path,
    *,
    endpoint: str,
    kind: Literal["regular", "safety"] = "regular",
    jobs: int = 2,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Backup:
    """A new directory in `directory` with a parallel dump and its manifest; blocks until it is on disk.

    Online: readers and writers go on. Dump and digests are of the same snapshot. It appears under its final name only
    when complete and flushed, so an interrupted one never counts; it is readable by this user only. Refusal
    `backup-disk-full` when the file system has less room than the tables take now.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(directory)
    began = time.monotonic()
    with Snapshot(dsn, purpose="backup") as snapshot:
        taken_at = datetime.now(UTC)
        relations = read_relations(snapshot.leader)
        require_room(directory, sum(relation.bytes for relation in relations))
        name = f"{endpoint}-{taken_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        partial = directory / f"{_PARTIAL}{name}"
        partial.mkdir(mode=0o700)
        try:
            tool = _dump(snapshot, partial / DUMP, relations, jobs, on_progress, check)
            tables = _digests(snapshot, relations, jobs, on_progress, check)
            files = tuple(_files(partial))
            manifest = Manifest(
                kind=kind,
                endpoint=endpoint,
                identity=identity(snapshot.leader),
                server_version=snapshot.leader.info.server_version,
                encoding=_encoding(snapshot.leader),
                tool=tool,
                tool_major=int(tool.partition("(PostgreSQL) ")[2].partition(".")[0]),
                taken_at=taken_at,
                elapsed_ms=round((time.monotonic() - began) * 1000),
                size_bytes=sum(file.size_bytes for file in files),
                files=files,
                tables=tables,
            )
            _publish(partial, directory / name, manifest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return Backup(path=directory / name, manifest=manifest)


def newest_backup(
    directory: Path, *, endpoint: str | None = None, kind: Literal["regular", "safety"] = "regular"
) -> Backup | None:
    """The backup (of `endpoint`, where given) with the latest content; None where there is none.

    Reads manifests only: `verify_backup` tells whether its files are still what they were. What has no readable
    manifest is no backup.
    """
    found = [
        backup
        for backup in _backups(directory)
        if backup.manifest.kind == kind and endpoint in (None, backup.manifest.endpoint)
    ]
    return max(found, key=lambda backup: (backup.manifest.taken_at, backup.path.name), default=None)


def verify_backup(backup: Backup, *, check: Callable[[], None] = nothing_to_lose) -> tuple[str, ...]:
    """Everything that is wrong with its files: missing, unreadable, changed, unknown. Reads every byte."""
    listed = {file.path: file for file in backup.manifest.files}
    problems = []
    for path, file in listed.items():
        check()
        try:
            found = _file(backup.path, backup.path / path)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
            continue
        if found.size_bytes != file.size_bytes:
            problems.append(f"{path}: {found.size_bytes} bytes instead of {file.size_bytes}")
        elif found.sha256 != file.sha256:
            problems.append(f"{path}: its content has changed (SHA-256 {found.sha256} instead of {file.sha256})")
    present = {str(path.relative_to(backup.path)) for path in (backup.path / DUMP).rglob("*") if path.is_file()}
    problems += [f"{path}: not in the manifest" for path in sorted(present - listed.keys())]
    return tuple(problems)


def _dump(
    snapshot: Snapshot,
    destination: Path,
    relations: tuple[Relation, ...],
    jobs: int,
    on_progress: OnProgress,
    check: Callable[[], None],
) -> str:
    """Runs pg_dump under the snapshot; what it calls itself."""
    connection = snapshot.leader
    major = major_of(connection)
    total = sum(relation.bytes for relation in relations)
    began = time.monotonic()

    def look() -> None:
        check()
        written = sum(path.stat().st_size for path in destination.glob("*") if path.exists())
        on_progress(Progress("backup", min(written, total), total, "bytes", time.monotonic() - began))

    arguments = [
        "--format=directory",
        f"--file={destination}",
        f"--jobs={jobs}",
        f"--snapshot={snapshot.id}",
        f"--exclude-schema={SCHEMA}",
        "--compress=1",  # gzip 6 takes three times as long for a tenth less
        "--lock-wait-timeout=10000",
    ]
    run_tool("pg_dump", arguments, connection, min_major=major, check=look)
    return run_tool("pg_dump", ["--version"], connection, min_major=major).strip()


def _digests(
    snapshot: Snapshot,
    relations: tuple[Relation, ...],
    jobs: int,
    on_progress: OnProgress,
    check: Callable[[], None],
) -> tuple[BackupTable, ...]:
    pieces = [(relation, pages) for relation in relations for pages in relation.ranges(_CHUNK_BYTES)]
    total = sum(relation.bytes for relation in relations)
    began, done = time.monotonic(), [0.0]

    def measure(piece: tuple[Relation, PageRange], sessions: tuple[Connection, ...]) -> ContentDigest:
        found = digest_rows(sessions[0], *piece)
        done.append(piece[0].bytes * piece[1].share)
        return found

    def look() -> None:
        check()
        on_progress(Progress("digest", round(sum(tuple(done))), total, "bytes", time.monotonic() - began))

    measured = run_crews([Crew(pieces, measure, lambda: (snapshot.join(),), jobs)], tick=look)[0]
    parts: dict[str, list[ContentDigest]] = {}
    for (relation, _), found in zip(pieces, measured, strict=True):
        parts.setdefault(relation.qualified, []).append(found)
    totals = {name: ContentDigest.total(found) for name, found in parts.items()}
    return tuple(BackupTable(table=name, rows=total.rows, digest=str(total)) for name, total in sorted(totals.items()))


def _publish(partial: Path, final: Path, manifest: Manifest) -> None:
    path = partial / MANIFEST
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    for each in partial.rglob("*"):
        each.chmod(stat.S_IRWXU if each.is_dir() else stat.S_IRUSR | stat.S_IWUSR)
    for folder in (partial / DUMP, partial):
        _flush_directory(folder)
    partial.rename(final)
    _flush_directory(final.parent)


def _files(root: Path) -> Iterator[BackupFile]:
    for path in sorted((root / DUMP).rglob("*")):
        if path.is_file():
            yield _file(root, path)


def _file(root: Path, path: Path) -> BackupFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return BackupFile(path=str(path.relative_to(root)), size_bytes=path.stat().st_size, sha256=digest.hexdigest())


def _backups(directory: Path) -> Iterator[Backup]:
    for path in sorted(directory.glob(f"*/{MANIFEST}")):
        if path.parent.name.startswith(_PARTIAL):
            continue
        with suppress(OSError, ValidationError):
            yield Backup(path=path.parent, manifest=Manifest.model_validate_json(path.read_bytes()))


def require_room(directory: Path, needed: int) -> None:
    """Refusal `backup-disk-full` unless `needed` bytes and a margin are free where `directory` is."""
    free = shutil.disk_usage(directory).free
    if free < needed + _SPACE_MARGIN_BYTES:
        raise Refusal(
            code="backup-disk-full",
            what=f"{directory} has {free // 2**20} MiB free; the tables to be dumped take {needed // 2**20} MiB",
            hint="free space there, or name another directory in backup.directory",
        )


def _sweep(directory: Path) -> None:
    """What a killed run left behind, once it is too old to belong to one that is still going."""
    for path in directory.glob(f"{_PARTIAL}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _PARTIAL_KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encoding(connection: Connection) -> str:
    row = connection.execute("SHOW server_encoding").fetchone()
    return str(row[0]) if row else ""
