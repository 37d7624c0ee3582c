"""Who may sign: a strict reading of an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS). Pure.

Stricter than ssh-keygen on purpose. There, the name of a signer is a claim that patterns can make true: one key on a
line for `*@ops` signs as anybody at ops. Here a line is one principal and one key, and a key stands on one line.
"""

from __future__ import annotations

import base64
import binascii
import re

from statehub_plan.model.base import Frozen
from statehub_plan.signatures.sshsig import fingerprint, key_type_of, weakness_of_key

_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@:/-]*")
_OPTIONS = re.compile(r'(?:namespaces|valid-after|valid-before)="[^"\s]*"')
_KEY_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+")


class Signer(Frozen):
    """One line of an allowed_signers file. `options` is as written, or empty; ssh-keygen judges it."""

    principal: str
    options: str
    key_type: str
    key: str
    fingerprint: str
    line: int

    @property
    def entry(self) -> str:
        """The line as it is given to ssh-keygen."""
        return " ".join(filter(None, (self.principal, self.options, self.key_type, self.key))) + "\n"


def parse_signers(text: str) -> tuple[tuple[Signer, ...], tuple[str, ...]]:
    """The signers, and one `line: problem; remedy` for each line that is refused."""
    signers: dict[str, Signer] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            signer = _signer(line, number)
        except ValueError as error:
            problems.append(f"{number}: {error}")
            continue
        earlier = signers.setdefault(signer.fingerprint, signer)
        if earlier is not signer:
            problems.append(f"{number}: this key stands on line {earlier.line} already; a key speaks for one person")
    return tuple(signers.values()), tuple(problems)


def _signer(line: str, number: int) -> Signer:
    principal, *rest = line.split()
    if any(sign in principal for sign in "*?!"):
        raise ValueError(f"{principal} is a pattern, with which a key could sign as anybody; write one plain name")
    if "," in principal or '"' in principal or not _PRINCIPAL.fullmatch(principal):
        raise ValueError(f"{principal} is not one plain principal such as alice@example.org; write one line per name")
    options = rest.pop(0) if rest and not _KEY_TYPE.fullmatch(rest[0]) else ""
    if "cert-authority" in options.lower():
        raise ValueError("cert-authority is refused: whoever it certifies could approve; list the keys themselves")
    if options and not re.fullmatch(rf"{_OPTIONS.pattern}(?:,{_OPTIONS.pattern})*", options):
        raise ValueError(f"the options {options} are refused; namespaces, valid-after and valid-before are known")
    if len(rest) < 2:
        raise ValueError("a line is `principal [options] key-type key [comment]`")
    return Signer(
        principal=principal,
        options=options,
        key_type=rest[0],
        key=rest[1],
        fingerprint=fingerprint(_checked_key(rest[0], rest[1])),
        line=number,
    )


def _checked_key(key_type: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
        if key_type_of(key) != key_type:
            raise ValueError(f"it says {key_type} but the key is of another type")
        weakness = weakness_of_key(key)
    except binascii.Error as error:
        raise ValueError("the key is not Base64") from error
    if weakness:
        raise ValueError(weakness)
    return key
