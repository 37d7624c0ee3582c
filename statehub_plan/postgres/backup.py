"""Dumps that can be believed: complete, checksummed file by file, with the content digest they must restore to."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

import psycopg

from statehub_plan.errors import Refusal, refused_by_system
from statehub_plan.postgres import age
from statehub_plan.postgres.connect import SCHEMA, Connection
from statehub_plan.postgres.dump import restore_list
from statehub_plan.postgres.inventory import Inventory, digest_tables, pack, read_all_sequences, require_still, spans
from statehub_plan.postgres.manifest import (
    CATALOG,
    DUMP,
    ENCRYPTED_SUFFIX,
    MANIFEST,
    PARTIAL,
    RESTORE_LIST,
    Backup,
    BackupFile,
    BackupSequence,
    Encrypted,
    Manifest,
    PlainContent,
    hashed,
)
from statehub_plan.postgres.seeds import SEEDS
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.tools import Fed, Output, fed_tool, major_of, run_tool, stream_tool
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = ["flush_directory", "require_room", "take_backup"]

ENCRYPTED_DUMP = f"database.dump{ENCRYPTED_SUFFIX}"

_PARTIAL_KEPT_S = 24 * 3600.0
_SPACE_MARGIN_BYTES = 64 * 1024 * 1024


def take_backup(
    dsn: str,
    directory: Path,
    *,
    endpoint: str,
    kind: Literal["regular", "safety"] = "regular",
    jobs: int = 2,
    recipients: tuple[str, ...] = (),
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Backup:
    """A new directory in `directory` with a dump and its manifest; blocks until it is on disk.

    Online: readers and writers go on. Dump and digests are of the same snapshot; beside the dump are the list of what
    of it is to be restored, as the tool's own objects are of no use elsewhere, and what the catalog said, which is
    encrypted with it. It appears under its final name only when complete and flushed, so an interrupted one never
    counts; it is readable by this user only. With `recipients` (`age.load_recipients`) what pg_dump writes goes through
    encryption to the disk and nowhere else; without, `jobs` sessions dump in parallel. Refusal `backup-disk-full` when
    the file system has less room than the tables take now; StatehubError `backup-disturbed` when the schema was changed
    meanwhile.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(directory)
    began = time.monotonic()
    with Snapshot(dsn, purpose="backup") as snapshot:
        taken_at = datetime.now(UTC)
        with snapshot.join() as reader:
            held = Inventory.taken(reader)
        table_bytes = sum(relation.bytes for relation in held.relations)
        require_room(directory, table_bytes)
        name = f"{endpoint}-{taken_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        partial = directory / f"{PARTIAL}{name}"
        partial.mkdir(mode=0o700)
        telling, (packed, catalog) = _Telling(table_bytes, on_progress, check), pack(held.record)
        try:
            if recipients:
                files = _dump_encrypted(snapshot, partial, recipients, packed, telling)
            else:
                files = _dump_directory(snapshot, partial, jobs, packed, telling)
            sequences = _moved_meanwhile(held, snapshot, dsn)
            tables = digest_tables(held.relations, snapshot.join, jobs, on_progress=on_progress, check=check)
            require_still(held, snapshot, dsn)
            tool = run_tool("pg_dump", ["--version"], snapshot.leader, min_major=major_of(snapshot.leader)).strip()
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
                table_bytes=table_bytes,
                format="custom" if recipients else "directory",
                encryption=Encrypted(recipients=recipients) if recipients else None,
                files=files,
                seeds=SEEDS,
                tables=tables,
                sequences=sequences,
                catalog=catalog,
                content_digest="",
            ).sealed()
            _publish(partial, directory / name, manifest)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return Backup(path=directory / name, manifest=manifest)


def _moved_meanwhile(held: Inventory, snapshot: Snapshot, dsn: str) -> tuple[BackupSequence, ...]:
    try:
        with snapshot.join() as reader:
            return spans(held, read_all_sequences(reader))
    except (psycopg.errors.UndefinedTable, KeyError):
        require_still(held, snapshot, dsn)  # says which of them was dropped or renamed
        raise


class _Telling:
    """Whoever waits for a dump: told how much was written, asked whether to go on."""

    def __init__(self, total: int, on_progress: OnProgress, check: Callable[[], None]) -> None:
        self._total = total
        self._on_progress = on_progress
        self._check = check
        self._began = time.monotonic()

    def look(self, written: int) -> None:
        self._check()
        elapsed_s = time.monotonic() - self._began
        self._on_progress(Progress("backup", min(written, self._total), self._total, "bytes", elapsed_s))


def _arguments(snapshot: Snapshot) -> list[str]:
    return [
        f"--snapshot={snapshot.id}",
        f"--exclude-schema={SCHEMA}",
        "--no-subscriptions",  # a superuser's dump would hold their passwords
        "--compress=1",  # gzip 6 takes three times as long for a tenth less
        "--lock-wait-timeout=10000",
    ]


def _dump_directory(
    snapshot: Snapshot, partial: Path, jobs: int, catalog: bytes, telling: _Telling
) -> tuple[BackupFile, ...]:
    """pg_dump's directory format, table by table in parallel."""
    destination = partial / DUMP

    def look() -> None:
        telling.look(sum(path.stat().st_size for path in destination.glob("*") if path.exists()))

    arguments = ["--format=directory", f"--file={destination}", f"--jobs={jobs}", *_arguments(snapshot)]
    major = major_of(snapshot.leader)
    run_tool("pg_dump", arguments, snapshot.leader, min_major=major, check=look)
    contents = run_tool("pg_restore", ["--list", str(destination)], snapshot.leader, min_major=major)
    for name, content in ((RESTORE_LIST, _listed(contents)), (CATALOG, catalog)):
        with _durable(partial / name) as file:
            file.write(content)
    return tuple(_file(partial, path) for path in sorted(destination.rglob("*")) if path.is_file())


def _dump_encrypted(
    snapshot: Snapshot, partial: Path, recipients: tuple[str, ...], catalog: bytes, telling: _Telling
) -> tuple[BackupFile, ...]:
    """pg_dump's custom format, which needs no file, through a pipe and encryption into one file; and encrypted beside
    it the list of what to restore, which pg_restore makes of the same stream, and the catalog."""
    path = partial / DUMP / ENCRYPTED_DUMP
    path.parent.mkdir(mode=0o700)
    leader, major = snapshot.leader, major_of(snapshot.leader)
    try:
        with _durable(path) as file, fed_tool("pg_restore", ["--list"], leader, min_major=major) as listing:
            dumped = stream_tool(
                "pg_dump",
                ["--format=custom", *_arguments(snapshot)],
                leader,
                lambda output: age.encrypt(_Teed(output, listing), file, recipients),
                min_major=major,
                check=lambda: telling.look(file.tell()),
            )
            contents = _listed(listing.output())
        files = [_encrypted_file(str(path.relative_to(partial)), *dumped)]
        for name, content in (
            (f"{RESTORE_LIST}{ENCRYPTED_SUFFIX}", contents),
            (f"{CATALOG}{ENCRYPTED_SUFFIX}", catalog),
        ):
            with _durable(partial / name) as file:
                files.append(_encrypted_file(name, *age.encrypt(io.BytesIO(content), file, recipients)))
    except OSError as error:
        raise refused_by_system(error, f"the backup could not be written to {path.parent}") from error
    return tuple(files)


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk once the block was left in order."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


class _Teed:
    """A dump on its way to be encrypted, of which pg_restore gets what it wants to see."""

    def __init__(self, output: Output, listing: Fed) -> None:
        self._output = output
        self._listing = listing

    def read(self, size: int = -1, /) -> bytes:
        piece = self._output.read(size)
        self._listing.feed(piece)
        return piece


def _listed(contents: str) -> bytes:
    return restore_list(contents).encode(errors="surrogateescape")


def _encrypted_file(name: str, plain: PlainContent, sealed: PlainContent) -> BackupFile:
    return BackupFile(path=name, size_bytes=sealed.size_bytes, sha256=sealed.sha256, plain=plain)


def _publish(partial: Path, final: Path, manifest: Manifest) -> None:
    path = partial / MANIFEST
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    for each in partial.rglob("*"):
        each.chmod(stat.S_IRWXU if each.is_dir() else stat.S_IRUSR | stat.S_IWUSR)
    for folder in (partial / DUMP, partial):
        flush_directory(folder)
    partial.rename(final)
    flush_directory(final.parent)


def _file(root: Path, path: Path) -> BackupFile:
    size, sha256 = hashed(path)
    return BackupFile(path=str(path.relative_to(root)), size_bytes=size, sha256=sha256)


def require_room(directory: Path, needed: int, *, code: str = "backup-disk-full") -> None:
    """Refusal `code` unless `needed` bytes and a margin are free where `directory` is."""
    free = shutil.disk_usage(directory).free
    if free < needed + _SPACE_MARGIN_BYTES:
        raise Refusal(
            code=code,
            what=f"{directory} has {free // 2**20} MiB free; what is to be written there takes {needed // 2**20} MiB",
            hint="free space there, or name another directory: backup.directory for dumps, TMPDIR for decrypted ones",
        )


def _sweep(directory: Path) -> None:
    """What a killed run left behind, once it is too old to belong to one that is still going."""
    for path in directory.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            # Its own time stands still while a file in it grows.
            if time.time() - max(one.stat().st_mtime for one in (path, *path.rglob("*"))) > _PARTIAL_KEPT_S:
                shutil.rmtree(path, ignore_errors=True)


def flush_directory(path: Path) -> None:
    """What was made, renamed or removed in it survives a crash of the machine."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encoding(connection: Connection) -> str:
    row = connection.execute("SHOW server_encoding").fetchone()
    return str(row[0]) if row else ""
