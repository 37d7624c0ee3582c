"""What was observed: facts that carry when, how, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import JsonValue, model_validator

from statehub_plan.model.base import Frozen, Instant


class FactStatus(StrEnum):
    """`unknown` is a value of its own and never treated as fine."""

    KNOWN = "known"
    UNKNOWN = "unknown"


class Fact(Frozen):
    """One observed fact. `id` is dotted (`wsl2.writes`, `access.mcp.endpoint`); `how` names the query, request or
    command; `reason` says why an unknown fact is unknown; `elapsed_ms` is what observing it took."""

    id: str
    status: FactStatus
    value: JsonValue = None
    reason: str | None = None
    how: str
    observed_at: Instant
    elapsed_ms: int = 0

    @model_validator(mode="after")
    def _reason_iff_unknown(self) -> Fact:
        if (self.status is FactStatus.UNKNOWN) != (self.reason is not None):
            raise ValueError(f"fact {self.id}: an unknown fact has a reason, a known one has none")
        return self


class Observation(Frozen):
    """All facts of one look at the world, sorted by id; each id once."""

    observed_at: Instant
    facts: tuple[Fact, ...]

    @model_validator(mode="after")
    def _sorted_and_unique(self) -> Observation:
        ids = [fact.id for fact in self.facts]
        if ids != sorted(set(ids)):
            raise ValueError("facts must be sorted by id, each id once")
        return self

    def __iter__(self) -> Iterator[Fact]:  # type: ignore[override]
        return iter(self.facts)

    def get(self, fact_id: str) -> Fact | None:
        """The fact with this id, or None when nobody looked."""
        return next((fact for fact in self.facts if fact.id == fact_id), None)

    def value(self, fact_id: str, default: JsonValue = None) -> JsonValue:
        """The value of a known fact, else `default`; callers choose a default that is never mistaken for fine."""
        fact = self.get(fact_id)
        return default if fact is None or fact.status is FactStatus.UNKNOWN else fact.value

    def unknown(self) -> tuple[Fact, ...]:
        """The facts that could not be observed."""
        return tuple(fact for fact in self.facts if fact.status is FactStatus.UNKNOWN)


class EvidenceStatus(StrEnum):
    """Outcome of a probe."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Evidence(Frozen):
    """One probe of one task and what it showed."""

    task: str
    probe: str
    status: EvidenceStatus
    detail: str
    observed_at: Instant
