"""Encryption of dumps with age (https://age-encryption.org/v1): streams of any size in a few kilobytes of memory.

All cryptography is pyrage's (bindings of rage). A stream's end is authenticated: one that was cut off, even between two
of its chunks, is refused. What comes out of a stream that is refused later must not be used; callers decrypt into a
place of their own first.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyrage

from statehub_plan.access import resolve_path
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.spec import Encryption
from statehub_plan.model.written import AGE_RECIPIENT
from statehub_plan.postgres.manifest import Backup, BackupFile, PlainContent
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = [
    "Identities",
    "Undecipherable",
    "decrypt",
    "decrypt_file",
    "encrypt",
    "load_identities",
    "load_recipients",
    "read_identities",
    "try_out",
]

_MAX_KEY_FILE_BYTES = 1 << 20
_PEM = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----.*?-----END OPENSSH PRIVATE KEY-----\n?", re.DOTALL)


class Undecipherable(ValueError):
    """What is encrypted was cut off or changed after it was encrypted; says in which way."""


class Readable(Protocol):
    """What is read piece by piece; an empty piece is the end."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        ...


class Writable(Protocol):
    """What takes pieces."""

    def write(self, piece: bytes, /) -> object:
        """Takes all of it."""
        ...

    def flush(self) -> None:
        """Passes on what was taken."""
        ...


class Identities:
    """Secret keys that open files, and where they came from. Never printed."""

    def __init__(self, source: Path, keys: list[Any]) -> None:
        self.source = source
        self.keys = keys


def load_recipients(settings: Encryption | None, base_dir: Path) -> tuple[str, ...]:
    """The public keys that a plan encrypts its backups for; none where it does not encrypt.

    StatehubError `backup-recipients` with every line that is no public key: nothing is dumped for a key that nobody
    could have.
    """
    if settings is None:
        return ()
    where, lines = "backup.encryption.recipients", settings.recipients or ()
    if settings.recipients_file is not None:
        path = resolve_path(settings.recipients_file, base_dir)
        where, lines = str(path), _lines(_read_key_file(path, "backup-recipients", "recipients"))
    problems = [f"{number}: {why}" for number, line in enumerate(lines, 1) if (why := _no_recipient(line))]
    if problems or not lines:
        raise StatehubError(
            code="backup-recipients",
            what=f"backups can't be encrypted for the keys in {where}",
            hint="write one age1… or ssh-ed25519 … public key a line (`age-keygen -y IDENTITY` prints it)",
            details=tuple(problems) or ("there is no key",),
        )
    return tuple(lines)


def load_identities(settings: Encryption | None, base_dir: Path) -> Identities | None:
    """The secret keys that a plan's drills decrypt with; None where it names no file of them.

    An identity file has age's own form (`AGE-SECRET-KEY-1…` lines) or is an OpenSSH private key without a passphrase.
    """
    if settings is None or settings.identity_file is None:
        return None
    return read_identities(resolve_path(settings.identity_file, base_dir))


def read_identities(path: Path) -> Identities:
    """The secret keys of a file; StatehubError `backup-identity-missing` or `backup-identity-unusable`."""
    text = _read_key_file(path, "backup-identity-missing", "identity")
    if stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        raise _unusable(path, "everybody on this machine may read it", f"chmod 600 {path}")
    if text.startswith(("age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE-----")):
        raise _unusable(
            path, "it is encrypted with a passphrase itself", "name one that is not; nobody types in a drill"
        )
    keys: list[Any] = []
    try:
        keys += [pyrage.ssh.Identity.from_buffer(pem.encode()) for pem in _PEM.findall(text)]
        keys += [pyrage.x25519.Identity.from_str(line) for line in _lines(_PEM.sub("", text))]
    except (pyrage.IdentityError, ValueError) as error:
        # Neither the line nor the library's words: both may hold the secret.
        hint = "name a file of `age-keygen`, or an OpenSSH ed25519 private key without a passphrase"
        raise _unusable(path, "a line or key in it is no identity that can be used", hint) from error
    if not keys:
        raise _unusable(path, "there is no identity in it", "make one: `age-keygen -o FILE`")
    return Identities(path, keys)


def try_out(recipients: tuple[str, ...], identities: Identities) -> None:
    """StatehubError `backup-identity-wrong` when what is encrypted for these keys could not be decrypted by those."""
    sealed = io.BytesIO()
    encrypt(io.BytesIO(b"x"), sealed, recipients)
    decrypt(io.BytesIO(sealed.getvalue()), io.BytesIO(), identities)


def encrypt(source: Readable, sink: Writable, recipients: tuple[str, ...]) -> tuple[PlainContent, PlainContent]:
    """Reads `source` to its end and writes it encrypted; (what was encrypted, what was written) as size and SHA-256.

    Whatever `source` or `sink` raise is raised.
    """
    reading, writing = _Reading(source), _Writing(sink)
    _stream(pyrage.encrypt_io, reading, writing, [_recipient(line) for line in recipients])
    return reading.content(), writing.content()


def decrypt(
    source: Readable,
    sink: Writable,
    identities: Identities,
    *,
    check: Callable[[int], None] = lambda size: None,
) -> tuple[PlainContent, PlainContent]:
    """Reads `source` to its end and writes it decrypted; (what was read, what came out) as size and SHA-256.

    `check` gets the size of each piece that was read and may raise. Undecipherable when it is not whole or not what was
    encrypted: what was written until then is worth nothing. StatehubError `backup-identity-wrong` when no identity
    opens it.
    """
    reading, writing = _Reading(source, check), _Writing(sink)
    try:
        _stream(pyrage.decrypt_io, reading, writing, identities.keys)
    except pyrage.DecryptError as error:
        if "No matching keys" not in str(error):
            raise Undecipherable(f"its head is cut off or changed, or it is no age file ({error})") from error
        raise StatehubError(
            code="backup-identity-wrong",
            what=f"no identity in {identities.source} opens this backup",
            hint="name an identity of one of the recipients in its manifest in backup.encryption.identityFile",
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Undecipherable("it is cut off, or was changed after it was encrypted") from error
    return reading.content(), writing.content()


def decrypt_file(
    backup: Backup,
    file: BackupFile,
    identities: Identities,
    sink: Writable,
    *,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> str | None:
    """Decrypts one file of a backup; what is wrong with it, or None. Both checksums of the manifest must hold.

    StatehubError `backup-identity-wrong` when no identity opens it.
    """
    began, done = time.monotonic(), 0

    def look(size: int) -> None:
        nonlocal done
        done += size
        check()
        on_progress(Progress("decrypt", done, file.size_bytes, "bytes", time.monotonic() - began))

    with (backup.path / file.path).open("rb") as source:
        try:
            read, plain = decrypt(source, sink, identities, check=look)
        except Undecipherable as problem:
            return str(problem)
    if (read.size_bytes, read.sha256) != (file.size_bytes, file.sha256):
        return "it was changed while it was being read"
    return None if plain == file.plain else "what it decrypts to is not what was dumped"


def _stream(work: Callable[..., None], reading: _Reading, writing: _Writing, keys: list[Any]) -> None:
    try:
        work(reading, writing, keys)
    except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
        # The library passes on what our two ends raised as text only, also when a signal came on the way to them.
        for end in (reading, writing):
            if end.raised is not None:
                raise end.raised from None
        if "KeyboardInterrupt" in str(error):
            raise KeyboardInterrupt from None
        raise


class _Reading:
    """A source that counts and hashes what is taken from it, and remembers what it raised."""

    def __init__(self, source: Readable, check: Callable[[int], None] = lambda size: None) -> None:
        self._source = source
        self._check = check
        self._hash = hashlib.sha256()
        self._size = 0
        self.raised: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            piece = self._source.read(size)
            self._check(len(piece))
            self._hash.update(piece)
            self._size += len(piece)
        except BaseException as error:
            self.raised = error
            raise
        return piece

    def content(self) -> PlainContent:
        return PlainContent(size_bytes=self._size, sha256=self._hash.hexdigest())


class _Writing:
    """A sink that counts and hashes what goes into it, and remembers what it raised."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self._size = 0
        self.raised: BaseException | None = None

    def write(self, piece: bytes) -> int:
        try:
            self._sink.write(piece)
            self._hash.update(piece)
            self._size += len(piece)
        except BaseException as error:
            self.raised = error
            raise
        return len(piece)

    def flush(self) -> None:
        try:
            self._sink.flush()
        except BaseException as error:
            self.raised = error
            raise

    def content(self) -> PlainContent:
        return PlainContent(size_bytes=self._size, sha256=self._hash.hexdigest())


def _recipient(line: str) -> Any:
    if line.startswith("ssh-"):
        return pyrage.ssh.Recipient.from_str(line)
    return pyrage.x25519.Recipient.from_str(line)


def _no_recipient(line: str) -> str:
    """Why a line is no public key, or nothing. Never the line itself: it may be a secret key that went astray."""
    if line.upper().startswith("AGE-SECRET-KEY-"):
        return "it is a SECRET key; take it out here, write its public key, and consider it as disclosed"
    if not re.fullmatch(AGE_RECIPIENT, line):
        return "it is neither an age1… nor an ssh-ed25519 public key"
    try:
        _recipient(line)
    except (pyrage.RecipientError, ValueError):
        return "it is damaged: its checksum or encoding is wrong"
    return ""


def _lines(text: str) -> tuple[str, ...]:
    stripped = (line.strip() for line in text.splitlines())
    return tuple(line for line in stripped if line and not line.startswith("#"))


def _read_key_file(path: Path, code: str, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_FILE_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Refusal(
            code=code,
            what=f"the {what} file {path} can't be read: {why}",
            hint=f"put it there, or correct backup.encryption.{what}File in the plan",
        ) from error


def _unusable(path: Path, why: str, hint: str) -> StatehubError:
    return StatehubError(
        code="backup-identity-unusable", what=f"the identity file {path} can't be used: {why}", hint=hint
    )
