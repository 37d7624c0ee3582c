"""A security key in software: signs like `sk-ssh-ed25519@openssh.com`, with whatever flags a test wants it to claim.

No hardware and no library says "nobody touched me" on request. Ed25519 after RFC 8032, section 6; slow and leaky, and
good enough for a test.
"""

from __future__ import annotations

import base64
import hashlib

TYPE = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_Point = tuple[int, int]


def public_key(seed: bytes) -> str:
    """Type and Base64 of the public key, as in an allowed_signers file."""
    return f"{TYPE.decode()} {base64.b64encode(_key_blob(seed)).decode()}"


def signature(seed: bytes, message: bytes, namespace: str, *, flags: int) -> str:
    """An armored SSH signature of `message` with these flags (0x01: somebody touched the key)."""
    name, hashed = namespace.encode(), hashlib.sha512(message).digest()
    wrapped = b"SSHSIG" + _string(name) + _string(b"") + _string(b"sha512") + _string(hashed)
    flags_and_counter = bytes([flags]) + (7).to_bytes(4)
    signed = hashlib.sha256(APPLICATION).digest() + flags_and_counter + hashlib.sha256(wrapped).digest()
    parts = _string(TYPE) + _string(_sign(seed, signed)) + flags_and_counter
    blob = b"SSHSIG" + (1).to_bytes(4) + b"".join(map(_string, (_key_blob(seed), name, b"", b"sha512", parts)))
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----\n"


def _key_blob(seed: bytes) -> bytes:
    return _string(TYPE) + _string(_encode(_times(_secret(seed)[0], _BASE))) + _string(APPLICATION)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    return int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254), digest[32:]


def _sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = _secret(seed)
    nonce = _number(prefix + message)
    public, commitment = _encode(_times(scalar, _BASE)), _encode(_times(nonce, _BASE))
    return commitment + ((nonce + _number(commitment + public + message) * scalar) % _L).to_bytes(32, "little")


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % _L


def _encode(point: _Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _add(one: _Point, other: _Point) -> _Point:
    (x1, y1), (x2, y2) = one, other
    product = _D * x1 * x2 * y1 * y2 % _P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, _P - 2, _P) % _P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, _P - 2, _P) % _P


def _times(scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point, scalar = _add(point, point), scalar >> 1
    return result


def _base() -> _Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    return (x if x % 2 == 0 else _P - x), y


_BASE = _base()
