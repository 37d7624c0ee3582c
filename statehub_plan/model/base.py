"""Frozen models, canonical JSON (RFC 8785) and digests: the ground under every artefact."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, JsonValue
from pydantic.alias_generators import to_camel

__all__ = ["SKEW", "Frozen", "Instant", "JsonValue", "SpecModel", "canonical", "digest", "epoch_s"]

SKEW = timedelta(seconds=60)
"""How far one clock may be ahead of another, and so a moment that somebody wrote down ahead of now."""


class Frozen(BaseModel):
    """Base of every artefact that the tool writes: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpecModel(BaseModel):
    """Base of everything a person writes in YAML: camelCase keys only, immutable, no unknown keys, no coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, strict=False)


def _require_utc(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError("an instant must carry a time zone")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_require_utc)]
"""A timezone-aware moment, normalised to UTC; its fields end in `_at` or `_by`."""


def canonical(value: BaseModel | JsonValue | dict[str, Any]) -> bytes:
    """Canonical JSON bytes (RFC 8785) of a model or JSON value; the only thing that is ever digested or signed."""
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    return rfc8785.dumps(plain)


def digest(value: BaseModel | JsonValue | dict[str, Any]) -> str:
    """`sha256:` and 64 hexadecimal digits over the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def epoch_s(moment: datetime) -> int:
    """Whole seconds since 1970-01-01 UTC, rounded down; the only form in which policies see an instant."""
    return int(moment.timestamp() // 1)
