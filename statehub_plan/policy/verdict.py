"""OPA's decision → findings. Whatever is not exactly a finding becomes a hard finding of its own. Pure."""

from __future__ import annotations

from pydantic import ConfigDict, Field, JsonValue, ValidationError
from rfc8785 import CanonicalizationError

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen, canonical
from statehub_plan.model.plan import Finding, Level

HOST_PREFIX = "host."
"""Codes of findings by the host itself; no policy package can have this name and pass."""

_BUNDLE_HINT = "`policy test` checks the bundle; restore it, or serve the one that is on disk"


class Decision(Frozen):
    """What `data.statehub.main.verdict` must be. Its findings are as they came."""

    model_config = ConfigDict(strict=True)
    evaluated: list[str]
    findings: list[JsonValue]


class _Finding(Frozen):
    """A finding as policies must write it: all seven keys."""

    model_config = ConfigDict(strict=True)
    code: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")
    level: str
    message: str = Field(min_length=1)
    step: str | None
    path: str | None
    evidence: dict[str, JsonValue]
    remedy: str = Field(min_length=1)


def read_decision(answer: JsonValue, packages: tuple[str, ...]) -> Decision:
    """The decision by exactly `packages`, which are those on disk.

    StatehubError (`malformed_verdict`, `nothing_evaluated`, `evaluated_differs`) when it is no complete verdict.
    """
    try:
        decision = Decision.model_validate(answer)
    except ValidationError as error:
        raise _rejected("malformed_verdict", f"the decision is no verdict: {_first(error)}") from error
    evaluated = tuple(sorted(decision.evaluated))
    if not evaluated:
        raise _rejected("nothing_evaluated", "no policy was evaluated")
    if evaluated != packages:
        absent, foreign = sorted(set(packages) - set(evaluated)), sorted(set(evaluated) - set(packages))
        what = f"the policies evaluated are not those on disk: absent {absent}, foreign {foreign}"
        raise _rejected("evaluated_differs", what)
    return decision


def read_findings(decision: Decision, packages: tuple[str, ...]) -> tuple[Finding, ...]:
    """All its findings, the gravest first; one that is not exactly a finding becomes a hard one that says so."""
    return tuple(sorted((_finding(each, packages) for each in decision.findings), key=_gravity))


def host_finding(error: StatehubError) -> Finding:
    """What stood in the way of a verdict, as the finding that denies."""
    return Finding(code=HOST_PREFIX + error.code, level=Level.HARD, message=error.what, remedy=error.hint)


def _finding(raw: JsonValue, packages: tuple[str, ...]) -> Finding:
    try:
        seen = _Finding.model_validate(raw)
        canonical(raw)  # verdicts are digested with the plan
    except (ValidationError, CanonicalizationError) as error:
        why = _first(error) if isinstance(error, ValidationError) else str(error)
        return host_finding(_rejected("malformed_finding", f"a policy objects in a form that cannot be read: {why}"))
    if seen.level not in tuple(Level):
        return host_finding(_rejected("unknown_level", f"{seen.code} has level {seen.level!r}: {seen.message}"))
    if seen.code.partition(".")[0] not in packages:
        return host_finding(_rejected("foreign_code", f"{seen.code} belongs to no policy on disk: {seen.message}"))
    return Finding(**{**seen.model_dump(), "level": Level(seen.level)})


def _gravity(finding: Finding) -> tuple[int, str, str, str, str]:
    order = (Level.HARD, Level.SOFT, Level.ADVISORY)
    return order.index(finding.level), finding.code, finding.step or "", finding.path or "", finding.message


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'it'}: {first['msg']}"


def _rejected(code: str, what: str) -> StatehubError:
    return StatehubError(code=code, what=what, hint=_BUNDLE_HINT)
