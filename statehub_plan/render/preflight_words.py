"""What the pre-flight checks found, taken out of the facts for every form of a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.preflight import Severity
from statehub_plan.model.steps import StepKind

__all__ = ["Remark", "preparing", "remarks_of"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was found; `where` is the endpoint's name."""

    id: str
    severity: Severity
    where: str
    what: str
    remedy: str


def preparing(plan: Plan) -> bool:
    """Whether the target is still to be made ready, so that what the checks say matters to this plan."""
    return any(step.kind in (StepKind.PREPARE_TARGET, StepKind.FOLLOW) for step in plan.steps)


def remarks_of(observation: Observation, old: str, new: str) -> tuple[Remark, ...]:
    """Errors and warnings among the facts, if they are about moving `old` to `new`; nothing while they are unknown."""
    value = observation.value("preflight")
    if not isinstance(value, dict) or (value.get("source"), value.get("target")) != (old, new):
        return ()
    found = value.get("found")
    names = {"source": old, "target": new}
    remarks = tuple(_remark(one, names) for one in found if isinstance(one, dict)) if isinstance(found, list) else ()
    return tuple(one for one in remarks if one.severity is not Severity.INFO)


def _remark(one: Mapping[str, JsonValue], names: Mapping[str, str]) -> Remark:
    side = str(one["side"])
    return Remark(
        id=str(one["id"]),
        severity=Severity(str(one["severity"])),
        where=names.get(side, side),
        what=str(one["what"]),
        remedy=str(one["remedy"]),
    )
