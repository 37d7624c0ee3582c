"""What an unquoted scalar is. Only what every YAML version and every reader agrees on is accepted; the rest is refused.

YAML 1.1, which PyYAML, Ansible and most editors still speak, reads `no` as false, `12:30:45` as 45045, `0123` as 83 and
`2026-06-27` as a date; YAML 1.2 reads them as text or as another number. A plan must not mean two things.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Surprise(NamedTuple):
    """Why an unquoted scalar is refused: YAML readers disagree about it, or JSON cannot carry it."""

    what: str
    remedy: str


Scalar = str | int | float | bool | None

_EXACT_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3: larger ones do not survive canonical JSON
_MAY_SURPRISE = re.compile(r"[-+.0-9~=<]|y|n|t|f|o", re.IGNORECASE)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_TO_SOME = "to some YAML readers"
_IF_TEXT = "quote it if it is text"
_SURPRISES = tuple(
    (re.compile(pattern, re.IGNORECASE), Surprise(what, remedy))
    for pattern, what, remedy in (
        (r"y|yes|on|true", f"a boolean {_TO_SOME}", f"write true, or {_IF_TEXT}"),
        (r"n|no|off|false", f"a boolean {_TO_SOME}", f"write false, or {_IF_TEXT}"),
        (r"null", f"null {_TO_SOME}", _IF_TEXT),
        (r"[-+]?0o?[0-9_]+", f"an octal number {_TO_SOME}", f"drop the leading zero, or {_IF_TEXT}"),
        (r"[-+]?0x[0-9a-f_]+|[-+]?0b[01_]+", "a number in another base", f"write it in decimal, or {_IF_TEXT}"),
        (r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", f"a base-60 number {_TO_SOME}", "quote it"),
        (
            r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:t|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}.*)?",
            f"a date {_TO_SOME}",
            "quote it",
        ),
        (r"[-+]?\.(?:inf|nan)", "not a finite number", _IF_TEXT),
        (r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?", "a number with underscores", f"write digits, or {_IF_TEXT}"),
        (
            r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:e[-+]?[0-9]+)?",
            "a number in an unusual form",
            f"write it like 12 or 0.5, or {_IF_TEXT}",
        ),
        (r"=", f"a special value {_TO_SOME}", "quote it"),
    )
)


def resolve(text: str) -> Scalar | Surprise:
    """The value of an unquoted, untagged scalar; a Surprise where that is not the same to everybody."""
    if text and not _MAY_SURPRISE.match(text):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _DECIMAL.fullmatch(text):
        return _decimal(text)
    return next((surprise for pattern, surprise in _SURPRISES if pattern.fullmatch(text)), text)


def _integer(text: str) -> int | Surprise:
    # Sixteen digits decide it; converting more would cost the square of their number (and Python refuses 4,300).
    if len(text) > 17 or abs(int(text)) > _EXACT_INTEGER:
        return Surprise("a number too large to be exact in JSON", "quote it if it is text")
    return int(text)


def _decimal(text: str) -> float | Surprise:
    value = float(text) if len(text) <= 40 else float("inf")
    if value in (float("inf"), float("-inf")):
        return Surprise("a number too large or too long to be exact in JSON", "quote it if it is text")
    return value
