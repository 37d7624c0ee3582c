"""Everything about a backup that can be known without a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from statehub_plan.model.base import Frozen, Instant
from statehub_plan.postgres import age
from statehub_plan.postgres.evidence import verify_manifest
from statehub_plan.postgres.manifest import Backup, verify_backup
from statehub_plan.postgres.workers import OnProgress, nobody_looks, nothing_to_lose
from statehub_plan.signatures.keygen import SignatureProblem
from statehub_plan.signatures.signers import Signer

__all__ = ["BackupCheck", "check_backup"]


class BackupCheck(Frozen):
    """What is true of a backup's files now. `sound`: nothing is wrong. `decrypted`: the dump was decrypted and its
    plain content compared as well; null where it is not encrypted. `signed_by` is who signed the manifest, `principal`
    who that is by the list of signers, where one was given."""

    path: str
    sound: bool
    problems: tuple[str, ...]
    endpoint: str
    taken_at: Instant
    manifest_digest: str
    content_digest: str
    encrypted: bool
    decrypted: bool | None
    signed_by: str | None
    principal: str | None
    files: int
    tables: int
    rows: int
    sequences: int
    objects: int
    size_bytes: int
    elapsed_ms: int
    bytes_per_s: int


def check_backup(
    backup: Backup,
    *,
    identities: age.Identities | None = None,
    signers: Sequence[Signer] | None = None,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> BackupCheck:
    """Manifest, signature (with `signers` one is demanded), checksums and, with `identities`, what the encrypted dump
    decrypts to; nothing is written anywhere. StatehubError `backup-identity-wrong`."""
    began, manifest = time.monotonic(), backup.manifest
    problems = list(verify_backup(backup, on_progress=on_progress, check=check))
    signed_by, principal = None, None
    try:
        signed_by, principal = verify_manifest(backup, signers)
    except SignatureProblem as problem:
        problems.append(f"the manifest's signature does not count: {problem}")
    else:
        if signers is not None and signed_by is None:
            problems.append("the manifest is not signed")
    decrypted = None if manifest.encryption is None else False
    if manifest.encryption is not None and identities is not None and not problems:
        for file in manifest.files:
            found = age.decrypt_file(backup, file, identities, _Nowhere(), on_progress=on_progress, check=check)
            problems += [f"{file.path}: {found}"] if found else []
        decrypted = True
    elapsed_ms = round((time.monotonic() - began) * 1000)
    return BackupCheck(
        path=str(backup.path.absolute()),
        sound=not problems,
        problems=tuple(problems),
        endpoint=manifest.endpoint,
        taken_at=manifest.taken_at,
        manifest_digest=manifest.digest,
        content_digest=manifest.content_digest,
        encrypted=manifest.encryption is not None,
        decrypted=decrypted,
        signed_by=signed_by,
        principal=principal,
        files=len(manifest.files),
        tables=len(manifest.tables),
        rows=sum(table.rows for table in manifest.tables),
        sequences=len(manifest.sequences),
        objects=manifest.catalog.objects,
        size_bytes=manifest.size_bytes,
        elapsed_ms=elapsed_ms,
        bytes_per_s=manifest.size_bytes * 1000 // max(elapsed_ms, 1),
    )


class _Nowhere:
    """Takes everything and keeps nothing: plain text never leaves this process."""

    def write(self, piece: bytes, /) -> None:
        pass

    def flush(self) -> None:
        pass
