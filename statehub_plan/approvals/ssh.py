"""Signing and verifying statements with OpenSSH's ssh-keygen -Y."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from statehub_plan.approvals.signers import Signer, parse_signers
from statehub_plan.approvals.sshsig import NAMESPACE, SshSignature, read_signature, weakness_of
from statehub_plan.components import find_ssh_keygen
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen, canonical
from statehub_plan.model.record import ApprovalStatus, SignedStatement, Statement

_VERIFY_TIMEOUT_S = 10.0
_SIGN_TIMEOUT_S = 120.0  # a person types a passphrase or touches a key
_TERM_GRACE_S = 2.0
_MAX_SIGNERS_BYTES = 1 << 20


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


def sign(statement: Statement, key_path: Path, *, timeout_s: float = _SIGN_TIMEOUT_S) -> SignedStatement:
    """The statement signed with a private key, or with the agent's where `key_path` is a public key file.

    ssh-keygen asks for a passphrase or a touch on the terminal; blocks for at most `timeout_s`. StatehubError (exit 4)
    when the key is missing, locked or of a kind that can't approve: without a key nobody approves.
    """
    key = _existing_key(key_path)
    with tempfile.TemporaryDirectory(prefix="statehub-plan-sign-") as directory:
        message = Path(directory) / "statement"
        message.write_bytes(canonical(statement))
        command = [str(find_ssh_keygen()), "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(message)]
        complaint = _run_on_terminal(command, timeout_s)
        try:
            armored = message.with_name("statement.sig").read_text(encoding="ascii")
        except FileNotFoundError:
            raise _cannot_sign(key, complaint) from None
    weakness = weakness_of(read_signature(armored))
    if weakness:
        raise _cannot_sign(key, weakness)
    return SignedStatement(statement=statement, signature=armored)


def verify(signed: SignedStatement, allowed_signers: Path, *, now: datetime) -> VerifiedSignature:
    """Who signed, by the keys that `allowed_signers` lists; SignatureRefused or StatehubError (both exit 4) otherwise.

    The key must have been valid when the statement says it was signed and, for an approval, must be at `now`. A
    revocation stays one after its key has run out.
    """
    return verify_against(signed, load_signers(allowed_signers), now=now)


def verify_against(signed: SignedStatement, signers: Sequence[Signer], *, now: datetime) -> VerifiedSignature:
    """As `verify`, with the signers already read. One ssh-keygen process, two where the key's validity is limited."""
    statement = signed.statement
    try:
        signature = read_signature(signed.signature)
        weakness = weakness_of(signature)
    except ValueError as error:
        raise SignatureRefused(ApprovalStatus.BAD_SIGNATURE, str(error)) from error
    if weakness:
        raise SignatureRefused(ApprovalStatus.BAD_SIGNATURE, weakness)
    signer = next((each for each in signers if each.fingerprint == signature.fingerprint), None)
    if signer is None or signer.principal != statement.principal:
        _require_intact(signature, statement)
        whose = f"{signer.principal}'s, not {statement.principal}'s" if signer else "on no line of allowed_signers"
        raise _foreign(signature, f"its key {signature.fingerprint} is {whose}")
    _require_verified(signature, signer, statement, statement.signed_at)
    # A key without limits in time is as valid now as it was then.
    if statement.act == "approve" and "valid-" in signer.options:
        _require_verified(signature, signer, statement, now)
    return VerifiedSignature(principal=signer.principal, fingerprint=signature.fingerprint)


def load_signers(path: Path) -> tuple[Signer, ...]:
    """The signers of an allowed_signers file; StatehubError (exit 4) with every problem of it when there is any."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIGNERS_BYTES:
            raise _bad_signers(path, "it is not a file of a sane size", "name an allowed_signers file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"it can't be read: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8'}"
        hint = "write it (`alice@example.org ssh-ed25519 AAAA…` per approver) where the gate's allowedSigners says"
        raise _bad_signers(path, why, hint) from error
    if status.st_mode & stat.S_IWOTH:
        raise _bad_signers(path, "everybody on this machine may write it", f"chmod o-w {path}")
    signers, problems = parse_signers(text)
    if problems:
        raise _bad_signers(
            path, "it is refused as a whole", "correct these lines", *(f"{path}:{each}" for each in problems)
        )
    return signers


def principal_of_key(key_path: Path, signers: Sequence[Signer]) -> str | None:
    """The principal for whom this key (private or public file) is listed, or None; reads no secret part of it."""
    key = _existing_key(key_path)
    run = _run([str(find_ssh_keygen()), "-l", "-E", "sha256", "-f", str(key)], b"")
    found = re.search(r"SHA256:\S+", run.stdout.decode(errors="replace"))
    if run.returncode != 0 or found is None:
        hint = f"put its public part beside it: ssh-keygen -y -f {key} > {key}.pub"
        raise StatehubError(
            code="approval-key-unusable",
            what=f"the public part of {key} can't be read",
            hint=hint,
            exit_status=Exit.APPROVAL_MISSING,
            details=(_complaint(run.stderr),),
        )
    return next((each.principal for each in signers if each.fingerprint == found[0]), None)


def _require_verified(signature: SshSignature, signer: Signer, statement: Statement, moment: datetime) -> None:
    """SignatureRefused unless ssh-keygen finds the signature good for this signer alone, valid at `moment`."""
    with tempfile.TemporaryDirectory(prefix="statehub-plan-verify-") as directory:
        # The one line that matters, written afresh: nothing else in the file can lend its key or name.
        allowed, armored = Path(directory) / "allowed", Path(directory) / "signature"
        allowed.write_text(signer.entry, encoding="ascii")
        armored.write_text(signature.armored, encoding="ascii")
        run = _run(
            [
                *(str(find_ssh_keygen()), "-Y", "verify", "-n", NAMESPACE, "-I", signer.principal),
                *("-f", str(allowed), "-s", str(armored)),
                *("-O", f"verify-time={moment.astimezone(UTC):%Y%m%d%H%M%S}"),
            ],
            canonical(statement),
        )
    found = re.search(r"SHA256:\S+", run.stdout.decode(errors="replace"))
    if run.returncode == 0 and found is not None and found[0] == signature.fingerprint:
        return
    _require_intact(signature, statement)
    why = re.sub(r"^.*?allowed:1: ", "", _complaint(run.stderr))
    raise _foreign(signature, f"line {signer.line} of allowed_signers does not let it: {why}")


def _require_intact(signature: SshSignature, statement: Statement) -> None:
    """SignatureRefused as BAD_SIGNATURE unless the key, whoever's it is, signed exactly this statement."""
    with tempfile.TemporaryDirectory(prefix="statehub-plan-verify-") as directory:
        armored = Path(directory) / "signature"
        armored.write_text(signature.armored, encoding="ascii")
        run = _run(
            [str(find_ssh_keygen()), "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(armored)],
            canonical(statement),
        )
    if run.returncode != 0:
        why = "the statement or its signature was changed after signing"
        raise SignatureRefused(ApprovalStatus.BAD_SIGNATURE, why)


def _run(command: list[str], message: bytes) -> subprocess.CompletedProcess[bytes]:
    # UTC, so that every machine reads valid-after and valid-before alike; C, so that its words are the known ones.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, input=message, capture_output=True, timeout=_VERIFY_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SignatureRefused(
            ApprovalStatus.BAD_SIGNATURE, f"ssh-keygen gave no answer within {_VERIFY_TIMEOUT_S:g} s"
        ) from error


def _run_on_terminal(command: list[str], timeout_s: float) -> str:
    """What the command complained about. Its prompts go to the terminal, where there is one."""
    on_terminal = os.isatty(2)
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=None if on_terminal else subprocess.PIPE
    ) as process:
        try:
            _, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # SIGTERM first: ssh-keygen then gives the terminal its echo back.
            process.terminate()
            try:
                process.wait(_TERM_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"no answer within {timeout_s:g} s"
        except BaseException:
            process.terminate()
            raise
    return "see above" if on_terminal else _complaint(complaint)


def _existing_key(path: Path) -> Path:
    key = path.expanduser()
    if not key.is_file():
        raise StatehubError(
            code="approval-key-missing",
            what=f"there is no key {key}; an approval is signed with the approver's own SSH key",
            hint="name your key (its .pub file where an agent holds it), or make one: ssh-keygen -t ed25519; "
            "whoever has no key can plan, never approve",
            exit_status=Exit.APPROVAL_MISSING,
        )
    return key


def _cannot_sign(key: Path, why: str) -> StatehubError:
    hint = "check the passphrase, the agent (`ssh-add -l`) and the permissions (`chmod 600`) of the key"
    return StatehubError(
        code="approval-key-unusable",
        what=f"nothing was signed with {key}: {why}",
        hint=hint,
        exit_status=Exit.APPROVAL_MISSING,
    )


def _bad_signers(path: Path, why: str, hint: str, *details: str) -> StatehubError:
    return StatehubError(
        code="allowed-signers",
        what=f"the allowed_signers file {path}: {why}",
        hint=hint,
        exit_status=Exit.APPROVAL_MISSING,
        details=details,
    )


def _foreign(signature: SshSignature, why: str) -> SignatureRefused:
    return SignatureRefused(ApprovalStatus.UNKNOWN_SIGNER, why, signature.fingerprint)


def _complaint(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip("@ ") for line in lines if line.strip("@ ")) or "it gave no reason"
