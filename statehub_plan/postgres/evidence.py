"""A drill's outcome as evidence: a statement, signed where a key was given, that anybody can check without a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen, canonical, digest
from statehub_plan.model.record import RESTORE_DRILL
from statehub_plan.postgres.drill import DrillReport
from statehub_plan.postgres.manifest import MANIFEST, Backup, Manifest, read_backup
from statehub_plan.signatures.files import AnotherSchema, read_document, write_document, write_whole
from statehub_plan.signatures.keygen import (
    Purpose,
    SignatureProblem,
    fingerprint_of_key,
    load_signers,
    named_of,
    read_strictly,
    require_intact,
    require_verified,
    sign_bytes,
)
from statehub_plan.signatures.signers import Signer

__all__ = [
    "BACKUP",
    "DRILL",
    "KEY_VARIABLE",
    "UNSIGNED_BACKUP",
    "UNSIGNED_DRILL",
    "BackupOutput",
    "DrillEvidence",
    "DrillOutput",
    "StoredEvidence",
    "VerifiedEvidence",
    "check_key",
    "keep_evidence",
    "not_vouched_for",
    "sign_manifest",
    "signing_key",
    "verify_evidence",
    "verify_manifest",
]

DRILL = Purpose(
    namespace="statehub-plan-drill@v1",
    word="evidence",
    needs="the evidence of a drill",
    without_key="or leave the key out: the evidence is then unsigned, and says so",
    exit_status=Exit.ERROR,
)
BACKUP = Purpose(
    namespace="statehub-plan-backup@v1",
    word="manifest",
    needs="the manifest of a backup",
    without_key="or leave the key out: the manifest is then unsigned",
    exit_status=Exit.ERROR,
)

KEY_VARIABLE = "STATEHUB_PLAN_SIGNING_KEY"

UNSIGNED_BACKUP = f"while {KEY_VARIABLE} names a key it does not count, and the next `apply` takes another"
UNSIGNED_DRILL = "it is recorded as unsigned and does not count; the next `apply` drills again"

_FOLDER = "drills"
_EARLIER = "statehub-plan/restore-drill/v1"
_SIGNATURE = f"{MANIFEST}.sig"
_MAX_BYTES = 64 * 1024 * 1024
_MAX_SIGNATURE_BYTES = 64 * 1024


class DrillEvidence(Frozen):
    """What a drill leaves: its report, and the armored SSH signature over the report's canonical JSON (namespace
    `statehub-plan-drill@v1`), null where no key was given."""

    statement: DrillReport
    signature: str | None


class StoredEvidence(Frozen):
    """Evidence on disk; `digest` is over its canonical JSON, signature included. `signed_by`: the key's fingerprint."""

    file: str
    digest: str
    signed_by: str | None


class DrillOutput(DrillReport):
    """`drill restore`: the report, and where its evidence is kept."""

    evidence: StoredEvidence


class BackupOutput(Backup):
    """`backup`: where it is, what its manifest says, and the fingerprint of the key that signed that."""

    signed_by: str | None


class VerifiedEvidence(Frozen):
    """What a file of evidence is worth. `principal` is set where a list of signers was given. `backup`: whether the
    backup that it lies beside is the one that was drilled (`same`, `changed`), or there is none (`absent`)."""

    file: str
    digest: str
    signed_by: str | None
    principal: str | None
    backup: str
    statement: DrillReport


def signing_key() -> Path | None:
    """The key that this process's environment names for drills and manifests; None where it names none."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else None


def check_key(key: Path | None, purpose: Purpose) -> None:
    """StatehubError when nothing could be signed with it; before a drill that takes an hour rather than after it."""
    if key is not None:
        fingerprint_of_key(key, purpose)


def keep_evidence(backup: Backup, report: DrillReport, key: Path | None) -> tuple[StoredEvidence, StatehubError | None]:
    """The evidence of a drill, in the backup's folder `drills`; signed if there is a key.

    Where signing fails (a passphrase was mistyped) it is kept unsigned and the error returned: what a drill has shown
    is not thrown away, and neither called signed nor counted. StatehubError `evidence-not-saved` when it can't be
    written.
    """
    signature, trouble = None, None
    if key is not None:
        try:
            signature = sign_bytes(canonical(report), key, DRILL)
        except StatehubError as error:
            error.details += (f"the drill of {backup.path.name} was carried out: {UNSIGNED_DRILL}",)
            trouble = error
    evidence = DrillEvidence(statement=report, signature=signature)
    named = digest(evidence)
    path = backup.path / _FOLDER / f"{report.drilled_at:%Y%m%dT%H%M%SZ}-{named.removeprefix('sha256:')[:8]}.json"
    try:
        write_document(path, evidence)
    except OSError as error:
        raise StatehubError(
            code="evidence-not-saved",
            what=f"the evidence of the drill could not be written to {path}: {error.strerror}",
            hint="let this user write there, or free space, and drill again; nothing was recorded",
        ) from error
    return StoredEvidence(file=str(path), digest=named, signed_by=_fingerprint(signature, DRILL)), trouble


def verify_evidence(file: Path, signers: Sequence[Signer] | None = None) -> VerifiedEvidence:
    """What a file of evidence says, once its signature was found good; runs ssh-keygen, reaches no server.

    Without `signers` the key is named but nobody vouches for it. StatehubError: `evidence-malformed`,
    `evidence-outdated` (of an earlier release), `evidence-unsigned`, `evidence-refused` (changed after signing, by an
    unknown or untimely key).
    """
    try:
        evidence = read_document(file, DrillEvidence, signed="statement", max_bytes=_MAX_BYTES, schema=RESTORE_DRILL)
    except AnotherSchema as problem:
        raise _not_of_this_release(file, problem) from problem
    except ValueError as problem:
        hint = "name a file that `drill restore` has left in a backup's folder `drills`"
        raise StatehubError(code="evidence-malformed", what=f"{file} is no evidence: {problem}", hint=hint) from problem
    report = evidence.statement
    if evidence.signature is None:
        hint = "drill again with --key, or take its word for what it is worth"
        raise StatehubError(code="evidence-unsigned", what=f"{file} was never signed", hint=hint)
    try:
        by, principal = _verified(canonical(report), evidence.signature, DRILL, signers, report)
    except SignatureProblem as problem:
        hint = "drill again; evidence is never edited, and counts only of a key that allowed_signers lists"
        what = f"the signature of {file} does not count: {problem}"
        raise StatehubError(code="evidence-refused", what=what, hint=hint) from problem
    return VerifiedEvidence(
        file=str(file),
        digest=digest(evidence),
        signed_by=by,
        principal=principal,
        backup=_beside(file, report),
        statement=report,
    )


def _not_of_this_release(file: Path, problem: AnotherSchema) -> StatehubError:
    if problem.named == _EARLIER:
        return StatehubError(
            code="evidence-outdated",
            what=f"{file} is evidence of an earlier release, whose drills compared rows of tables and nothing else",
            hint="drill again; what it says can still be verified with the release that wrote it",
        )
    return StatehubError(
        code="evidence-malformed",
        what=f"{file} can't be judged: {problem}",
        hint="verify it with the release that wrote it, or name a file that `drill restore` of this one has left",
    )


def sign_manifest(backup: Backup, key: Path) -> str:
    """Signs a backup's manifest into `manifest.json.sig`; the key's fingerprint. StatehubError, which says what the
    backup is worth then, when it can't be signed."""
    try:
        signature = sign_bytes(canonical(backup.manifest), key, BACKUP)
    except StatehubError as error:
        error.details += (f"the backup {backup.path.name} is complete, but unsigned: {UNSIGNED_BACKUP}",)
        raise
    write_whole(backup.path / _SIGNATURE, signature)
    return read_strictly(signature, BACKUP).fingerprint


def verify_manifest(backup: Backup, signers: Sequence[Signer] | None = None) -> tuple[str | None, str | None]:
    """(fingerprint, principal) of who signed a backup's manifest; (None, None) where nobody did.

    SignatureProblem when the signature there does not count.
    """
    try:
        with (backup.path / _SIGNATURE).open("rb") as file:
            text = file.read(_MAX_SIGNATURE_BYTES).decode("ascii", errors="replace")
    except FileNotFoundError:
        return None, None
    except OSError as error:
        raise SignatureProblem(f"{_SIGNATURE} can't be read: {error.strerror}") from error
    return _verified(canonical(backup.manifest), text, BACKUP, signers, backup.manifest)


def not_vouched_for(backup: Backup, key: Path, signers_files: Iterable[Path]) -> str | None:
    """Why a backup does not count where `key` signs: its manifest is not signed, or by a key that is neither that one
    nor on a line of these files; None where it counts. A file that is refused vouches for nobody, as does a key that
    cannot be read."""
    try:
        signed_by, _ = verify_manifest(backup)
        if signed_by is None:
            return "its manifest is not signed"
        if signed_by == _fingerprint_if_any(key):
            return None
        verify_manifest(backup, [signer for file in signers_files for signer in _signers_if_any(file)])
    except SignatureProblem as problem:
        return f"the signature of its manifest does not count: {problem}"
    return None


def _fingerprint_if_any(key: Path) -> str | None:
    try:
        return fingerprint_of_key(key, BACKUP)
    except StatehubError:
        return None


def _signers_if_any(file: Path) -> tuple[Signer, ...]:
    try:
        return load_signers(file, BACKUP)
    except StatehubError:
        return ()


def _verified(
    message: bytes,
    armored: str,
    purpose: Purpose,
    signers: Sequence[Signer] | None,
    about: DrillReport | Manifest,
) -> tuple[str, str | None]:
    signature = read_strictly(armored, purpose)
    require_intact(message, signature, purpose)
    if signers is None:
        return signature.fingerprint, None
    signer = named_of(signers, signature.fingerprint)
    if signer is None:
        why = f"its key {signature.fingerprint} is on no line of allowed_signers"
        raise SignatureProblem(why, signature.fingerprint)
    moment = about.drilled_at if isinstance(about, DrillReport) else about.taken_at
    require_verified(message, signature, signer, purpose, moment)
    return signature.fingerprint, signer.principal


def _fingerprint(signature: str | None, purpose: Purpose) -> str | None:
    return read_strictly(signature, purpose).fingerprint if signature else None


def _beside(file: Path, report: DrillReport) -> str:
    folder = file.absolute().parent.parent
    if not (folder / MANIFEST).exists():
        return "absent"
    try:
        return "same" if read_backup(folder).manifest.own_digest() == report.manifest_digest else "changed"
    except StatehubError:
        return "changed"
