"""The words and numbers that a person writes in a plan document, each with its form and how to say it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, JsonValue, WithJsonSchema

_DURATION = re.compile(r"^([1-9][0-9]{0,8})(ms|s|m|h|d)$")
_SIZE = re.compile(r"^([1-9][0-9]{0,8})(kB|MB|GB|TB)$")
_UNIT_BYTES = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# The descriptions go into the JSON Schemas, where editors show them, and behind "write" in the loader's messages.
Duration = Annotated[
    str,
    Field(
        pattern=_DURATION.pattern,
        description="a number above zero and ms, s, m, h or d, such as 30m",
        examples=["500ms", "5s", "30m", "24h", "7d"],
    ),
]
Size = Annotated[
    str,
    Field(
        pattern=_SIZE.pattern,
        description="a number and kB, MB, GB or TB (powers of 1024, as PostgreSQL has them), such as 64MB",
        examples=["64MB", "8GB"],
    ),
]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="lower-case letters, digits and inner dashes, at most 63, such as state-hub",
    ),
]
TaskId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]{0,62}$",
        description="letters, digits, dashes, dots and underscores, at most 63, such as T01",
    ),
]
Day = Annotated[
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description='a day in quotes, such as "2026-06-27"')
]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Line = Annotated[str, Field(pattern=r"^[^\r\n]+$", max_length=4000, description="a text on one line")]
FilePath = Annotated[
    str, Field(min_length=1, max_length=4000, description="a path, relative to the folder of this document or absolute")
]
Url = Annotated[
    str,
    Field(
        pattern=r"^https?://[^ \t\r\n/?#@]+([/?#][^ \t\r\n]*)?$",
        description="http:// or https://, host, port and path, without blanks and without user@",
    ),
]
Pointer = Annotated[
    str,
    Field(
        pattern=r"^(/([^~/]|~[01])*)*$",
        description="a JSON pointer (RFC 6901: ~0 for ~, ~1 for /), such as /status/phase",
    ),
]
Variable = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the name of a variable, such as STATE_HUB_DSN")
]
Argv = Annotated[
    tuple[Annotated[str, Field(max_length=4000)], ...],
    Field(min_length=1, description="a program and its arguments, as a list; there is no shell"),
]
Expected = Annotated[
    JsonValue,
    Field(description="a JSON value to compare with, not null"),
    WithJsonSchema(
        {
            "type": ["boolean", "integer", "number", "string", "array", "object"],
            "description": "a JSON value to compare with, not null",
        }
    ),
]
AGE_RECIPIENT = r"^(age1[02-9ac-hj-np-z]{58}|ssh-ed25519 [A-Za-z0-9+/]+={0,2}( [^\r\n]*)?)$"
AgeRecipient = Annotated[
    str, Field(pattern=AGE_RECIPIENT, max_length=4000, description="a public key, age1… or ssh-ed25519 …")
]
Principal = Annotated[
    str,
    Field(
        pattern=r"^[^ \t\r\n\"#,!*?]+$",
        max_length=255,
        description="one name as in allowed_signers, such as ann@ops.example (no patterns, no lists)",
    ),
]
"""Who signs. No patterns: with `*@ops` one key verifies as anybody."""


def duration_s(duration: str) -> float:
    """Seconds of a duration such as `500ms`, `5s`, `30m`, `24h`, `7d`; ValueError for anything else."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"not a duration: {duration!r}; write a number above zero and ms, s, m, h or d")
    return int(match[1]) * _UNIT_S[match[2]]


def size_bytes(size: str) -> int:
    """Bytes of a size such as `64MB`, `8GB`, in powers of 1024; ValueError for anything else."""
    match = _SIZE.fullmatch(size)
    if match is None:
        raise ValueError(f"not a size: {size!r}; write a number and kB, MB, GB or TB")
    return int(match[1]) * _UNIT_BYTES[match[2]]
