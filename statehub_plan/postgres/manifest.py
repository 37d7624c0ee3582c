"""What a backup says of itself, and whether that is still true: read from its directory alone, without any server."""

from __future__ import annotations

import hashlib
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import ValidationError

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import SKEW, Frozen, Instant, digest
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = [
    "DUMP",
    "ENCRYPTED_SUFFIX",
    "MANIFEST",
    "PARTIAL",
    "RESTORE_LIST",
    "Backup",
    "BackupFile",
    "BackupTable",
    "Encrypted",
    "Found",
    "Manifest",
    "PlainContent",
    "Stamps",
    "find_backups",
    "hashed",
    "newest_backup",
    "read_backup",
    "stamps_of",
    "verify_backup",
]

MANIFEST = "manifest.json"
DUMP = "dump"
PARTIAL = ".partial-"
RESTORE_LIST = f"{DUMP}/restore.list"
"""What of the dump pg_restore is to restore (`--use-list`): all but the tool's own objects."""
ENCRYPTED_SUFFIX = ".age"

_READ_BYTES = 1024 * 1024
_MAX_MANIFEST_BYTES = 256 * 1024 * 1024

Stamps = tuple[tuple[str, int, int, int, int], ...]


class PlainContent(Frozen):
    """What an encrypted file holds once it is decrypted."""

    size_bytes: int
    sha256: str


class BackupFile(Frozen):
    """One file of the dump, relative to the backup's directory. `plain` is set where it is encrypted."""

    path: str
    size_bytes: int
    sha256: str
    plain: PlainContent | None = None


class BackupTable(Frozen):
    """What a table held at the dump's snapshot, as `content.ContentDigest` writes it."""

    table: str
    rows: int
    digest: str


class Encrypted(Frozen):
    """How the dump is encrypted, and for whom: public keys, which are no secret."""

    method: Literal["age"] = "age"
    recipients: tuple[str, ...]


class Manifest(Frozen):
    """What a backup is and holds. `taken_at`: the moment whose content it is. `kind`: `safety` for what was about to be
    replaced, which never counts as a backup of a primary. `table_bytes`: what the tables took in the database.
    `content_digest` covers `tables`, `digest` every other field of this manifest (canonical JSON)."""

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
    table_bytes: int
    format: Literal["directory", "custom"]
    encryption: Encrypted | None
    files: tuple[BackupFile, ...]
    tables: tuple[BackupTable, ...]
    content_digest: str
    digest: str = ""

    def sealed(self) -> Self:
        """The same with both digests right."""
        body = self.model_copy(update={"content_digest": content_digest(self.tables)})
        return body.model_copy(update={"digest": body.own_digest()})

    def own_digest(self) -> str:
        """What `digest` must be."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))

    @property
    def restore_list(self) -> BackupFile | None:
        """What lists what is to be restored; None in a backup that was taken before there was such a list."""
        return next((file for file in self.files if _lists(file)), None)

    @property
    def archives(self) -> tuple[BackupFile, ...]:
        """The files that hold what was dumped; exactly one where it is encrypted."""
        return tuple(file for file in self.files if not _lists(file))

    @property
    def bytes_per_s(self) -> int:
        """Bytes of tables that were dumped and digested each second."""
        return self.table_bytes * 1000 // max(self.elapsed_ms, 1)


class Backup(Frozen):
    """A finished backup: its directory (`dump/` for pg_restore with the list of what to restore, and `manifest.json`)
    and what the manifest says."""

    path: Path
    manifest: Manifest


def content_digest(tables: tuple[BackupTable, ...]) -> str:
    """One digest over names, row counts and digests of all tables."""
    return digest([table.model_dump(mode="json") for table in sorted(tables, key=lambda table: table.table)])


class Found(NamedTuple):
    """The backup with the latest content, and those that were passed over because they are dated in the future."""

    newest: Backup | None
    ahead: tuple[Backup, ...]

    @property
    def told(self) -> str | None:
        """What a person should know of those that were passed over; None where there are none."""
        if not self.ahead:
            return None
        names = ", ".join(str(one.path) for one in self.ahead)
        return f"dated in the future and passed over: {names} (a clock was wrong; move these folders away)"


def find_backups(
    directory: Path,
    *,
    now: datetime,
    endpoint: str | None = None,
    of: Identity | None = None,
    kind: Literal["regular", "safety"] = "regular",
) -> Found:
    """The newest backup (of `endpoint` and of the database `of`, where given) as seen at `now`.

    Reads manifests only: `verify_backup` tells whether they and the files are still what they were. What has no
    readable manifest is no backup. One that is dated further ahead than clocks may differ is passed over: it would be
    the newest, and fresh, until that date.
    """
    found = [
        backup
        for backup in _backups(directory)
        if backup.manifest.kind == kind
        and endpoint in (None, backup.manifest.endpoint)
        and of in (None, backup.manifest.identity)
    ]
    ahead = tuple(backup for backup in found if backup.manifest.taken_at > now + SKEW)
    counted = (backup for backup in found if backup.manifest.taken_at <= now + SKEW)
    return Found(max(counted, key=lambda backup: (backup.manifest.taken_at, backup.path.name), default=None), ahead)


def newest_backup(
    directory: Path, *, endpoint: str | None = None, kind: Literal["regular", "safety"] = "regular"
) -> Backup | None:
    """The newest backup by this host's clock, as `find_backups` finds it; None where there is none."""
    return find_backups(directory, now=datetime.now(UTC), endpoint=endpoint, kind=kind).newest


def read_backup(path: Path) -> Backup:
    """The backup in this directory; StatehubError `backup-unreadable` when it has no manifest of this version."""
    try:
        return _read(path)
    except OSError as error:
        why, hint = f"its {MANIFEST} can't be read: {error.strerror}", "name a directory that `backup` has made"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"its {MANIFEST} is damaged or of another version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        hint = "take another backup; a manifest is never edited"
    raise StatehubError(code="backup-unreadable", what=f"{path} is no backup: {why}", hint=hint)


def verify_backup(
    backup: Backup, *, on_progress: OnProgress = nobody_looks, check: Callable[[], None] = nothing_to_lose
) -> tuple[str, ...]:
    """Everything that is wrong with its manifest and files: missing, unreadable, changed, unknown. Reads every byte."""
    manifest = backup.manifest
    problems = list(_manifest_problems(backup))
    began, done = time.monotonic(), 0

    def look(read: int) -> None:
        nonlocal done
        check()
        done += read
        on_progress(Progress("verify", done, manifest.size_bytes, "bytes", time.monotonic() - began))

    for file in manifest.files:
        problems += _file_problems(backup, file, look)
    present = {str(path.relative_to(backup.path)) for path in (backup.path / DUMP).rglob("*") if not path.is_dir()}
    listed = {file.path for file in manifest.files}
    problems += [f"{path}: not in the manifest" for path in sorted(present - listed)]
    return tuple(problems)


def hashed(path: Path, look: Callable[[int], None] = lambda read: None) -> tuple[int, str]:
    """Size and SHA-256 of a file's content; `look` gets the size of each block that was read and may raise."""
    found, size = hashlib.sha256(), 0
    look(0)
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            found.update(block)
            size += len(block)
            look(len(block))
    return size, found.hexdigest()


def stamps_of(root: Path) -> Stamps:
    """Of the manifest and every file of the dump: a change of content can't keep all of these (the time of change can't
    be set)."""
    found = []
    for path in (root / MANIFEST, *sorted((root / DUMP).rglob("*"))):
        with suppress(FileNotFoundError):
            status = path.lstat()
            found.append((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(found)


def _lists(file: BackupFile) -> bool:
    return file.path.removesuffix(ENCRYPTED_SUFFIX) == RESTORE_LIST


def _manifest_problems(backup: Backup) -> Iterator[str]:
    manifest = backup.manifest
    if manifest.digest != manifest.own_digest():
        yield f"{MANIFEST}: its content has changed (it no longer has the digest that it carries)"
    if twice := [name for name, count in Counter(one.table for one in manifest.tables).items() if count > 1]:
        yield f"{MANIFEST}: it lists {', '.join(sorted(twice))} twice"
    if manifest.content_digest != content_digest(manifest.tables):
        yield f"{MANIFEST}: its tables are not those of its content digest"
    if manifest.encryption is not None and (
        len(manifest.archives) != 1 or any(file.plain is None for file in manifest.files)
    ):
        yield f"{MANIFEST}: an encrypted dump is one file, with checksums of both its texts"


def _file_problems(backup: Backup, file: BackupFile, look: Callable[[int], None]) -> Iterator[str]:
    path = backup.path / file.path
    if not Path(file.path).is_relative_to(DUMP) or ".." in Path(file.path).parts:
        yield f"{file.path}: it is outside of the backup"
        return
    try:
        # Neither a link out of here nor something that never ends is read.
        if not stat.S_ISREG(path.lstat().st_mode):
            yield f"{file.path}: it is not a regular file"
            return
        size, sha256 = hashed(path, look)
    except OSError as error:
        yield f"{file.path}: {error.strerror}"
        return
    if size != file.size_bytes:
        yield f"{file.path}: {size} bytes instead of {file.size_bytes}"
    elif sha256 != file.sha256:
        yield f"{file.path}: its content has changed (SHA-256 {sha256} instead of {file.sha256})"


def _backups(directory: Path) -> Iterator[Backup]:
    for path in sorted(directory.glob(f"*/{MANIFEST}")):
        if path.parent.name.startswith(PARTIAL):
            continue
        with suppress(OSError, ValidationError):
            yield _read(path.parent)


def _read(path: Path) -> Backup:
    with (path / MANIFEST).open("rb") as file:
        return Backup(path=path, manifest=Manifest.model_validate_json(file.read(_MAX_MANIFEST_BYTES)))
