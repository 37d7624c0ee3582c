"""Signing and verifying bytes with OpenSSH's ssh-keygen -Y."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from statehub_plan.components import find_ssh_keygen
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.signatures.signers import Signer, parse_signers
from statehub_plan.signatures.sshsig import SshSignature, read_signature, weakness_of

SIGN_TIMEOUT_S = 120.0  # a person types a passphrase or touches a key

_VERIFY_TIMEOUT_S = 10.0
_TERM_GRACE_S = 2.0
_MAX_SIGNERS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a signature is for: its namespace (PROTOCOL.sshsig), what is signed in one word (errors carry it in their
    codes) and as a sentence's object, what to do without a key, and the exit status of a refusal."""

    namespace: str
    word: str
    needs: str
    without_key: str
    exit_status: Exit


class SignatureProblem(ValueError):
    """Why a signature does not count. `fingerprint` is set when that key did sign exactly this."""

    def __init__(self, why: str, fingerprint: str | None = None) -> None:
        super().__init__(why)
        self.fingerprint = fingerprint


def sign_bytes(message: bytes, key_path: Path, purpose: Purpose, *, timeout_s: float = SIGN_TIMEOUT_S) -> str:
    """The armored signature of a private key, or of the agent's where `key_path` is a public key file.

    ssh-keygen asks for a passphrase or a touch on the terminal; blocks for at most `timeout_s`. StatehubError when the
    key is missing, locked or of a kind that signs nothing here.
    """
    key = existing_key(key_path, purpose)
    with tempfile.TemporaryDirectory(prefix="statehub-plan-sign-") as directory:
        file = Path(directory) / "message"
        file.write_bytes(message)
        command = [str(find_ssh_keygen()), "-q", "-Y", "sign", "-n", purpose.namespace, "-f", str(key), str(file)]
        complaint = _run_on_terminal(command, timeout_s)
        try:
            armored = file.with_name("message.sig").read_text(encoding="ascii")
        except FileNotFoundError:
            raise _cannot_sign(key, complaint, purpose) from None
    weakness = weakness_of(read_signature(armored), purpose.namespace)
    if weakness:
        raise _cannot_sign(key, weakness, purpose)
    return armored


def read_strictly(armored: str, purpose: Purpose) -> SshSignature:
    """The signature taken apart, if it is one that may count for this purpose; SignatureProblem otherwise."""
    try:
        signature = read_signature(armored)
        weakness = weakness_of(signature, purpose.namespace)
    except ValueError as error:
        raise SignatureProblem(str(error)) from error
    if weakness:
        raise SignatureProblem(weakness)
    return signature


def require_intact(message: bytes, signature: SshSignature, purpose: Purpose) -> None:
    """SignatureProblem unless the key, whoever's it is, signed exactly this message."""
    with tempfile.TemporaryDirectory(prefix="statehub-plan-verify-") as directory:
        armored = Path(directory) / "signature"
        armored.write_text(signature.armored, encoding="ascii")
        command = [str(find_ssh_keygen()), "-Y", "check-novalidate", "-n", purpose.namespace, "-s", str(armored)]
        if _run(command, message).returncode != 0:
            raise SignatureProblem("the statement or its signature was changed after signing")


def require_verified(
    message: bytes, signature: SshSignature, signer: Signer, purpose: Purpose, moment: datetime
) -> None:
    """SignatureProblem unless ssh-keygen finds the signature good for this signer alone, valid at `moment`."""
    with tempfile.TemporaryDirectory(prefix="statehub-plan-verify-") as directory:
        # The one line that matters, written afresh: nothing else in the file can lend its key or name.
        allowed, armored = Path(directory) / "allowed", Path(directory) / "signature"
        allowed.write_text(signer.entry, encoding="ascii")
        armored.write_text(signature.armored, encoding="ascii")
        run = _run(
            [
                *(str(find_ssh_keygen()), "-Y", "verify", "-n", purpose.namespace, "-I", signer.principal),
                *("-f", str(allowed), "-s", str(armored)),
                *("-O", f"verify-time={moment.astimezone(UTC):%Y%m%d%H%M%S}"),
            ],
            message,
        )
    found = re.search(r"SHA256:\S+", run.stdout.decode(errors="replace"))
    if run.returncode == 0 and found is not None and found[0] == signature.fingerprint:
        return
    require_intact(message, signature, purpose)
    why = re.sub(r"^.*?allowed:1: ", "", _complaint(run.stderr))
    raise SignatureProblem(f"line {signer.line} of allowed_signers does not let it: {why}", signature.fingerprint)


def load_signers(path: Path, purpose: Purpose) -> tuple[Signer, ...]:
    """The signers of an allowed_signers file; StatehubError with every problem of it when there is any."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIGNERS_BYTES:
            raise _bad_signers(path, purpose, "it is not a file of a sane size", "name an allowed_signers file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"it can't be read: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8'}"
        line = "`alice@example.org ssh-ed25519 AAAA…` per person"
        hint = f"write it ({line}) where {purpose.needs} looks for it, or correct its name in the plan"
        if not isinstance(error, FileNotFoundError):
            hint = f"make it a text file ({line}) that whoever applies may read"
        raise _bad_signers(path, purpose, why, hint) from error
    if status.st_mode & stat.S_IWOTH:
        raise _bad_signers(path, purpose, "everybody on this machine may write it", f"chmod o-w {path}")
    signers, problems = parse_signers(text)
    if problems:
        details = (f"{path}:{each}" for each in problems)
        raise _bad_signers(path, purpose, "it is refused as a whole", "correct these lines", *details)
    return signers


def fingerprint_of_key(key_path: Path, purpose: Purpose) -> str:
    """`SHA256:…` of a key by its private or public file; reads no secret part of it, asks for no passphrase."""
    key = existing_key(key_path, purpose)
    try:
        run = _run([str(find_ssh_keygen()), "-l", "-E", "sha256", "-f", str(key)], b"")
    except SignatureProblem as problem:
        raise _cannot_sign(key, str(problem), purpose) from problem
    found = re.search(r"SHA256:\S+", run.stdout.decode(errors="replace"))
    if run.returncode != 0 or found is None:
        raise StatehubError(
            code=f"{purpose.word}-key-unusable",
            what=f"the public part of {key} can't be read",
            hint=f"put its public part beside it: ssh-keygen -y -f {key} > {key}.pub",
            exit_status=purpose.exit_status,
            details=(_complaint(run.stderr),),
        )
    return found[0]


def existing_key(path: Path, purpose: Purpose) -> Path:
    """The path with its `~` resolved; StatehubError where there is no file."""
    key = path.expanduser()
    if not key.is_file():
        raise StatehubError(
            code=f"{purpose.word}-key-missing",
            what=f"there is no key {key}; {purpose.needs} is signed with an SSH key",
            hint="name your key (its .pub file where an agent holds it), or make one: ssh-keygen -t ed25519; "
            + purpose.without_key,
            exit_status=purpose.exit_status,
        )
    return key


def named_of(signers: Sequence[Signer], fingerprint: str) -> Signer | None:
    """The line of this key, or None."""
    return next((each for each in signers if each.fingerprint == fingerprint), None)


def _run(command: list[str], message: bytes) -> subprocess.CompletedProcess[bytes]:
    # UTC, so that every machine reads valid-after and valid-before alike; C, so that its words are the known ones.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC", "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, input=message, capture_output=True, timeout=_VERIFY_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SignatureProblem(f"ssh-keygen gave no answer within {_VERIFY_TIMEOUT_S:g} s") from error


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


def _cannot_sign(key: Path, why: str, purpose: Purpose) -> StatehubError:
    hint = "check the passphrase, the agent (`ssh-add -l`) and the permissions (`chmod 600`) of the key"
    return StatehubError(
        code=f"{purpose.word}-key-unusable",
        what=f"nothing was signed with {key}: {why}",
        hint=hint,
        exit_status=purpose.exit_status,
    )


def _bad_signers(path: Path, purpose: Purpose, why: str, hint: str, *details: str) -> StatehubError:
    return StatehubError(
        code="allowed-signers",
        what=f"the allowed_signers file {path}: {why}",
        hint=hint,
        exit_status=purpose.exit_status,
        details=details,
    )


def _complaint(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode(errors="replace").strip().splitlines()
    return "; ".join(line.strip("@ ") for line in lines if line.strip("@ ")) or "it gave no reason"
