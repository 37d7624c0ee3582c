"""What an SSH signature says about the key that made it (OpenSSH, PROTOCOL.sshsig and PROTOCOL.u2f). Pure.

Only reads; whether the signature is right is for ssh-keygen to say. It is read because ssh-keygen accepts what
nothing must be signed with here: a security key that nobody touched, a certificate, a short RSA key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"
_MAX_ARMOR = 16 * 1024
_MIN_RSA_BITS = 2048
_USER_PRESENT = 0x01  # PROTOCOL.u2f: flag bit of a touched security key
_SECURITY_KEYS = frozenset({"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"})
_SIGNATURE_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),  # "ssh-rsa" itself signs with SHA-1
    **{key_type: (key_type,) for key_type in _SECURITY_KEYS},
}


@dataclass(frozen=True, slots=True)
class SshSignature:
    """One signature, taken apart. `armored` is its own bytes written afresh: what was read is what gets verified."""

    key: bytes
    key_type: str
    namespace: str
    algorithm: str
    flags: int | None
    armored: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of the key, as ssh-keygen prints it."""
        return fingerprint(self.key)


def fingerprint(key: bytes) -> str:
    """`SHA256:…` of a public key blob."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def read_signature(text: str) -> SshSignature:
    """The parts of an armored signature; ValueError, with the reason, for anything that is not exactly one."""
    blob = _unarmored(text)
    if not blob.startswith(_MAGIC):
        raise ValueError("it is not an SSH signature")
    reader = _Reader(blob[len(_MAGIC) :])
    if reader.number() != 1:
        raise ValueError("it is an SSH signature of an unknown version")
    key, namespace, reserved, hashed, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved or hashed not in (b"sha256", b"sha512"):
        raise ValueError("it uses an unknown option or hash of SSH signatures")
    parts = _Reader(signature)
    algorithm = parts.text()
    parts.string()
    flags = None
    if key_type_of(key) in _SECURITY_KEYS:
        flags = parts.byte()
        parts.number()  # the key's counter
    parts.end()
    armored = f"{_BEGIN}\n{_wrapped(blob)}\n{_END}\n"
    return SshSignature(key, key_type_of(key), _Reader.decoded(namespace), algorithm, flags, armored)


def weakness_of_key(key: bytes) -> str | None:
    """Why this public key may sign nothing here, or None; ValueError when it is no public key."""
    key_type = key_type_of(key)
    if "-cert-" in key_type:
        return f"{key_type} is a certificate; signatures count of keys that are listed themselves"
    if key_type not in _SIGNATURE_ALGORITHMS:
        return f"keys of type {key_type} are refused; use ed25519, ecdsa, a security key, or RSA of 2048 bits or more"
    if key_type == "ssh-rsa":
        reader = _Reader(key)
        bits = [int.from_bytes(reader.string()) for _ in range(3)][2].bit_length()
        if bits < _MIN_RSA_BITS:
            return f"its RSA key has {bits} bits; {_MIN_RSA_BITS} is the least"
    return None


def weakness_of(signature: SshSignature, namespace: str) -> str | None:
    """Why this signature may not count for `namespace` even where ssh-keygen finds it good, or None."""
    weakness = weakness_of_key(signature.key)
    if weakness is not None:
        return weakness
    if signature.namespace != namespace:
        return f"it was made for {signature.namespace!r}, not for {namespace!r}"
    if signature.algorithm not in _SIGNATURE_ALGORITHMS[signature.key_type]:
        return f"it was made with {signature.algorithm}, which is refused"
    if signature.flags is not None and not signature.flags & _USER_PRESENT:
        return "nobody touched the security key that made it"
    return None


def key_type_of(key: bytes) -> str:
    """The type that a public key blob starts with."""
    return _Reader(key).text()


def _unarmored(text: str) -> bytes:
    lines = text.strip().splitlines() if len(text) <= _MAX_ARMOR else []
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise ValueError("it is not an armored SSH signature")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("its armor is damaged") from error


def _wrapped(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    return "\n".join(text[start : start + 70] for start in range(0, len(text), 70))


class _Reader:
    """The SSH wire format (RFC 4251, section 5), read strictly."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(4))

    def string(self) -> bytes:
        return self._take(self.number())

    def text(self) -> str:
        return self.decoded(self.string())

    @staticmethod
    def decoded(data: bytes) -> str:
        try:
            return data.decode("ascii")
        except UnicodeDecodeError as error:
            raise ValueError("a name in it is not ASCII") from error

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("it has bytes that do not belong there")

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("it ends too early")
        self._at += count
        return taken
