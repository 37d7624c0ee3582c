"""The newest backup: how old it is, of which database, and whether its files are still what they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import JsonValue

from statehub_plan.access import resolve_path
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import epoch_s
from statehub_plan.model.spec import Backup as BackupSettings
from statehub_plan.observe.gather import Answers, Clock, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.postgres.evidence import not_vouched_for, signing_key
from statehub_plan.postgres.manifest import Backup, Found, Stamps, find_backups, stamps_of, verify_backup

_NAMED_PROBLEMS = 5
_SLOWEST_BYTES_PER_S = 50e6  # a disk or share that reads a backup more slowly is of no use in an emergency

_verified: dict[Path, tuple[Stamps, tuple[str, ...]]] = {}
"""What this process found when it last read a backup's every byte, and the files' stamps at that time."""


def backup_source(backup: BackupSettings, base_dir: Path, *, now: Clock, allowed_signers: Iterable[str] = ()) -> Source:
    """backup {path, endpoint, taken_at, age_s, checksum_ok, problems, size_bytes, encrypted, manifest_digest,
    system_identifier, database, database_oid, passed_over, outdated, signature_missing}; null if none. `passed_over`:
    the folders of backups that are dated in the future; `outdated`: of later ones that an earlier release has taken and
    that nobody can prove any more. Where there are only such, these two are all that there is. `signature_missing`:
    this process's environment names a key to sign with, and the manifest has no signature that counts: that key's own,
    or one by a key on a line of `allowed_signers`, files as a plan names them.

    Reads every byte of it once per process, and again as soon as a file's size, inode or time of change is another;
    takes the time that this needs at 50 MB/s or faster. Unknown where it is slower.
    """
    directory = resolve_path(backup.directory, base_dir)
    signers_files = tuple(resolve_path(file, base_dir) for file in allowed_signers)

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        found = find_backups(directory, now=now()) if _is_directory(directory) else Found(None, ())
        newest = found.newest
        uncounted: dict[str, JsonValue] = {
            "passed_over": [str(one.path) for one in found.ahead],
            "outdated": [str(path) for path in found.outdated],
        }
        if newest is None:
            answers.know("backup", uncounted if found.told else None, began)
            return
        manifest = newest.manifest
        attempt.extend(manifest.size_bytes / _SLOWEST_BYTES_PER_S)
        problems = verify_once(newest, check=lambda: _go_on(attempt))
        answers.know(
            "backup",
            {
                "path": str(newest.path),
                "endpoint": manifest.endpoint,
                "taken_at": epoch_s(manifest.taken_at),
                "age_s": epoch_s(now()) - epoch_s(manifest.taken_at),
                "checksum_ok": not problems,
                "problems": list(problems[:_NAMED_PROBLEMS]),
                "size_bytes": manifest.size_bytes,
                "encrypted": manifest.encryption is not None,
                "manifest_digest": manifest.digest,
                **manifest.identity.model_dump(mode="json"),
                **uncounted,
                "signature_missing": (key := signing_key()) is not None
                and not_vouched_for(newest, key, signers_files) is not None,
            },
            began,
        )

    how = f"manifest.json in {directory}, SHA-256 of every file"
    return Source(name="verification of the newest backup", promises={"backup": how}, look=look)


def verify_once(backup: Backup, *, check: Callable[[], None]) -> tuple[str, ...]:
    """What is wrong with a backup's files; nothing is read again while their stamps are what they were.

    `check` is called before each file and may raise to give up.
    """
    stamps = stamps_of(backup.path)
    if _verified.get(backup.path, ((), ()))[0] != stamps:
        _verified[backup.path] = (stamps, verify_backup(backup, check=check))
    return _verified[backup.path][1]


def _go_on(attempt: Attempt) -> None:
    """Give up between two files once nobody waits any more."""
    if attempt.stop.is_set():
        raise StatehubError(code="backup-unverified", what="the verification was given up", hint="look again")


def _is_directory(directory: Path) -> bool:
    """False where there is nothing; StatehubError where nobody can tell."""
    try:
        with os.scandir(directory):
            return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StatehubError(
            code="backup-unreadable",
            what=f"{directory} can't be read: {error.strerror}",
            hint="correct backup.directory in the plan, or let this user read it",
        ) from error
