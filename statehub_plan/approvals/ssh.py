"""Approvals signed and verified with SSH keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen, canonical
from statehub_plan.model.record import ApprovalStatus, SignedStatement, Statement
from statehub_plan.signatures import keygen
from statehub_plan.signatures.keygen import Purpose, SignatureProblem
from statehub_plan.signatures.signers import Signer

NAMESPACE = "statehub-plan-approval@v1"

_APPROVAL = Purpose(
    namespace=NAMESPACE,
    word="approval",
    needs="an approval",
    without_key="whoever has no key can plan, never approve",
    exit_status=Exit.APPROVAL_MISSING,
)


class VerifiedSignature(Frozen):
    """Who really signed: the principal that the allowed_signers file gives the key, and the key's fingerprint."""

    principal: str
    fingerprint: str


class SignatureRefused(StatehubError):
    """A signature that does not count; `status` says in which way. `fingerprint` is set when the key did sign this."""

    def __init__(self, status: ApprovalStatus, why: str, fingerprint: str | None = None) -> None:
        super().__init__(
            code="signature-refused",
            what=f"the signature does not count: {why}",
            hint="ask the approver to sign again with a key that the allowed_signers file lists for them",
            exit_status=Exit.APPROVAL_MISSING,
        )
        self.status = status
        self.fingerprint = fingerprint


def sign(statement: Statement, key_path: Path, *, timeout_s: float = keygen.SIGN_TIMEOUT_S) -> SignedStatement:
    """The statement signed with a private key, or with the agent's where `key_path` is a public key file.

    ssh-keygen asks for a passphrase or a touch on the terminal; blocks for at most `timeout_s`. StatehubError (exit 4)
    when the key is missing, locked or of a kind that can't approve: without a key nobody approves.
    """
    armored = keygen.sign_bytes(canonical(statement), key_path, _APPROVAL, timeout_s=timeout_s)
    return SignedStatement(statement=statement, signature=armored)


def verify(signed: SignedStatement, allowed_signers: Path, *, now: datetime) -> VerifiedSignature:
    """Who signed, by the keys that `allowed_signers` lists; SignatureRefused or StatehubError (both exit 4) otherwise.

    The key must have been valid when the statement says it was signed and, for an approval, must be at `now`. A
    revocation stays one after its key has run out.
    """
    return verify_against(signed, load_signers(allowed_signers), now=now)


def verify_against(signed: SignedStatement, signers: Sequence[Signer], *, now: datetime) -> VerifiedSignature:
    """As `verify`, with the signers already read. One ssh-keygen process, two where the key's validity is limited."""
    try:
        return _verified(signed, signers, now)
    except SignatureProblem as problem:
        signed_by_another = problem.fingerprint is not None
        status = ApprovalStatus.UNKNOWN_SIGNER if signed_by_another else ApprovalStatus.BAD_SIGNATURE
        raise SignatureRefused(status, str(problem), problem.fingerprint) from problem


def load_signers(path: Path) -> tuple[Signer, ...]:
    """The signers of an allowed_signers file; StatehubError (exit 4) with every problem of it when there is any."""
    return keygen.load_signers(path, _APPROVAL)


def principal_of_key(key_path: Path, signers: Sequence[Signer]) -> str | None:
    """The principal for whom this key (private or public file) is listed, or None; reads no secret part of it."""
    signer = keygen.named_of(signers, keygen.fingerprint_of_key(key_path, _APPROVAL))
    return signer.principal if signer else None


def _verified(signed: SignedStatement, signers: Sequence[Signer], now: datetime) -> VerifiedSignature:
    statement, message = signed.statement, canonical(signed.statement)
    signature = keygen.read_strictly(signed.signature, _APPROVAL)
    signer = keygen.named_of(signers, signature.fingerprint)
    if signer is None or signer.principal != statement.principal:
        keygen.require_intact(message, signature, _APPROVAL)
        whose = f"{signer.principal}'s, not {statement.principal}'s" if signer else "on no line of allowed_signers"
        raise SignatureProblem(f"its key {signature.fingerprint} is {whose}", signature.fingerprint)
    keygen.require_verified(message, signature, signer, _APPROVAL, statement.signed_at)
    # A key without limits in time is as valid now as it was then.
    if statement.act == "approve" and "valid-" in signer.options:
        keygen.require_verified(message, signature, signer, _APPROVAL, now)
    return VerifiedSignature(principal=signer.principal, fingerprint=signature.fingerprint)
