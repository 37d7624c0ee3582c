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
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, PlainSerializer, ValidationError

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import SKEW, Frozen, Instant, digest
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = [
    "CATALOG",
    "DUMP",
    "ENCRYPTED_SUFFIX",
    "MANIFEST",
    "OUTDATED",
    "PARTIAL",
    "RESTORE_LIST",
    "Backup",
    "BackupCatalog",
    "BackupFile",
    "BackupSequence",
    "BackupTable",
    "Encrypted",
    "Found",
    "Manifest",
    "Moved",
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
CATALOG = f"{DUMP}/catalog.json.gz"
"""What the catalog said of every object of the user's (`inventory.CatalogRecord`)."""
ENCRYPTED_SUFFIX = ".age"

_READ_BYTES = 1024 * 1024
_MAX_MANIFEST_BYTES = 256 * 1024 * 1024

Stamps = tuple[tuple[str, int, int, int, int], ...]

BigInteger = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""64 bits, as text in JSON: RFC 8785 numbers are doubles."""


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
    """What a table held at the dump's snapshot, as `content.ContentDigest` writes it. Tables of extensions are here too
    where they hold rows of the user, and all large objects together as one."""

    table: str
    rows: int
    digest: str


class Moved(Frozen):
    """What a sequence said a second time, once the dump was there."""

    last_value: BigInteger
    is_called: bool


class BackupSequence(Frozen):
    """What a sequence said before the dump was begun, and after it had ended where that is something else (`until`):
    sequences have no snapshots (manual, 9.17), so the dump holds either or anything in between."""

    sequence: str
    last_value: BigInteger
    is_called: bool
    increment: BigInteger
    until: Moved | None = None

    def admits(self, last_value: int, is_called: bool) -> bool:
        """Whether a dump taken between the two looks may have found this. Against its direction a sequence only goes
        when it cycles or is set: then whatever is beyond the first look, or not beyond the second, may have been."""
        if self.until is None:
            return (last_value, is_called) == (self.last_value, self.is_called)
        sign = 1 if self.increment > 0 else -1
        first, found, last = (
            (sign * value, called)
            for value, called in (
                (self.last_value, self.is_called),
                (last_value, is_called),
                (self.until.last_value, self.until.is_called),
            )
        )
        return first <= found <= last if first <= last else found >= first or found <= last


class BackupCatalog(Frozen):
    """How many objects the catalog had at the dump's snapshot, and the SHA-256 of what it said of them (`CATALOG`,
    before it is compressed and encrypted)."""

    objects: int
    digest: str


class Encrypted(Frozen):
    """How the dump is encrypted, and for whom: public keys, which are no secret."""

    method: Literal["age"] = "age"
    recipients: tuple[str, ...]


class Manifest(Frozen):
    """What a backup is and holds. `taken_at`: the moment whose content it is. `kind`: `safety` for what was about to be
    replaced, which never counts as a backup of a primary. `table_bytes`: what the tables took in the database. `seeds`:
    of the two hashes that the tables' digests are made of. `content_digest` covers `tables`, `sequences`, `catalog` and
    `seeds`, `digest` every other field of this manifest (canonical JSON)."""

    schema_version: Literal["statehub-plan/backup/v2"] = "statehub-plan/backup/v2"
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
    seeds: tuple[BigInteger, BigInteger]
    tables: tuple[BackupTable, ...]
    sequences: tuple[BackupSequence, ...]
    catalog: BackupCatalog
    content_digest: str
    digest: str = ""

    def sealed(self) -> Self:
        """The same with both digests right."""
        body = self.model_copy(update={"content_digest": self.own_content_digest()})
        return body.model_copy(update={"digest": body.own_digest()})

    def own_digest(self) -> str:
        """What `digest` must be."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))

    def own_content_digest(self) -> str:
        """What `content_digest` must be."""
        return content_digest(self.seeds, self.tables, self.sequences, self.catalog)

    @property
    def restore_list(self) -> BackupFile | None:
        """What lists what is to be restored."""
        return self._file(RESTORE_LIST)

    @property
    def catalog_file(self) -> BackupFile | None:
        """What holds the catalog."""
        return self._file(CATALOG)

    @property
    def archives(self) -> tuple[BackupFile, ...]:
        """The files that hold what was dumped; exactly one where it is encrypted."""
        return tuple(file for file in self.files if file not in (self.restore_list, self.catalog_file))

    def _file(self, name: str) -> BackupFile | None:
        return next((file for file in self.files if file.path.removesuffix(ENCRYPTED_SUFFIX) == name), None)

    @property
    def bytes_per_s(self) -> int:
        """Bytes of tables that were dumped and digested each second."""
        return self.table_bytes * 1000 // max(self.elapsed_ms, 1)


class Backup(Frozen):
    """A finished backup: its directory (`dump/` for pg_restore with the list of what to restore, and `manifest.json`)
    and what the manifest says."""

    path: Path
    manifest: Manifest


def content_digest(
    seeds: tuple[int, int],
    tables: tuple[BackupTable, ...],
    sequences: tuple[BackupSequence, ...],
    catalog: BackupCatalog,
) -> str:
    """One digest over all that a database holds: rows, large objects, values of sequences, schema."""
    return digest(
        {
            "seeds": [str(seed) for seed in seeds],
            "tables": [one.model_dump(mode="json") for one in sorted(tables, key=lambda one: one.table)],
            "sequences": [one.model_dump(mode="json") for one in sorted(sequences, key=lambda one: one.sequence)],
            "catalog": catalog.model_dump(mode="json"),
        }
    )


OUTDATED = (
    "taken by an earlier release, which recorded what a database holds in another way: it can still be restored by "
    "hand, but no longer be proved, and does not count; take another backup"
)


class Found(NamedTuple):
    """The backup with the latest content; those that were passed over because they are dated in the future; and the
    folders of earlier releases' backups that are later than `newest`."""

    newest: Backup | None
    ahead: tuple[Backup, ...]
    outdated: tuple[Path, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """What a person should know of those that do not count; empty where there are none."""
        ahead = ", ".join(str(one.path) for one in self.ahead)
        outdated = ", ".join(map(str, self.outdated))
        return tuple(
            filter(
                None,
                (
                    ahead and f"dated in the future and passed over: {ahead} (a clock was wrong; move these away)",
                    outdated and f"{OUTDATED}: {outdated}",
                ),
            )
        )


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
    the newest, and fresh, until that date. One of an earlier release is named and not counted.
    """
    found: list[Backup] = []
    earlier: list[tuple[Path, _Earlier]] = []
    for path, read in _manifests(directory):
        if read.kind != kind or endpoint not in (None, read.endpoint) or of not in (None, read.identity):
            continue
        if isinstance(read, Manifest):
            found.append(Backup(path=path, manifest=read))
        else:
            earlier.append((path, read))
    ahead = tuple(backup for backup in found if backup.manifest.taken_at > now + SKEW)
    counted = (backup for backup in found if backup.manifest.taken_at <= now + SKEW)
    newest = max(counted, key=lambda backup: (backup.manifest.taken_at, backup.path.name), default=None)
    later = (path for path, one in earlier if newest is None or one.taken_at > newest.manifest.taken_at)
    return Found(newest, ahead, tuple(later))


def newest_backup(
    directory: Path, *, endpoint: str | None = None, kind: Literal["regular", "safety"] = "regular"
) -> Backup | None:
    """The newest backup by this host's clock, as `find_backups` finds it; None where there is none."""
    return find_backups(directory, now=datetime.now(UTC), endpoint=endpoint, kind=kind).newest


def read_backup(path: Path) -> Backup:
    """The backup in this directory; StatehubError `backup-outdated` when an earlier release has taken it,
    `backup-unreadable` when it has no manifest that can be read."""
    try:
        read = _read(path)
        if isinstance(read, Manifest):
            return Backup(path=path, manifest=read)
        raise StatehubError(
            code="backup-outdated",
            what=f"{path} was {OUTDATED}",
            hint="`statehub-plan backup DOCUMENT` takes one; README says how to restore by hand",
        )
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


def _manifest_problems(backup: Backup) -> Iterator[str]:
    manifest = backup.manifest
    if manifest.digest != manifest.own_digest():
        yield f"{MANIFEST}: its content has changed (it no longer has the digest that it carries)"
    if twice := [name for name, count in Counter(one.table for one in manifest.tables).items() if count > 1]:
        yield f"{MANIFEST}: it lists {', '.join(sorted(twice))} twice"
    if manifest.content_digest != manifest.own_content_digest():
        yield f"{MANIFEST}: its tables, sequences and catalog are not those of its content digest"
    yield from (
        f"{MANIFEST}: it lists no {name}"
        for name, file in ((RESTORE_LIST, manifest.restore_list), (CATALOG, manifest.catalog_file))
        if file is None
    )
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


class _Earlier(BaseModel):
    """What has to be known of a backup of an earlier release, to say that it is one."""

    schema_version: Literal["statehub-plan/backup/v1"]
    kind: Literal["regular", "safety"]
    endpoint: str
    identity: Identity
    taken_at: Instant


def _manifests(directory: Path) -> Iterator[tuple[Path, Manifest | _Earlier]]:
    for path in sorted(directory.glob(f"*/{MANIFEST}")):
        if path.parent.name.startswith(PARTIAL):
            continue
        with suppress(OSError, ValidationError):
            yield path.parent, _read(path.parent)


def _read(path: Path) -> Manifest | _Earlier:
    with (path / MANIFEST).open("rb") as file:
        text = file.read(_MAX_MANIFEST_BYTES)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError:
        with suppress(ValidationError):
            return _Earlier.model_validate_json(text)
        raise
