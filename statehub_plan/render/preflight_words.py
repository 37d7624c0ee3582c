"""What the pre-flight checks found, taken out of the facts for every form of a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from statehub_plan.model.plan import Plan
from statehub_plan.model.preflight import Severity
from statehub_plan.model.spec import TransferMethod
from statehub_plan.model.steps import StepKind

__all__ = ["Remark", "in_the_way", "preparing", "remarks_of"]

_NOT_EMPTY = "target-not-empty"


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


def remarks_of(plan: Plan) -> tuple[Remark, ...]:
    """Errors and warnings of the checks, if they are about this plan's move and its target is still to be made ready;
    nothing while they are unknown. That the target holds something is none where the plan shows that it is replaced, as
    a former primary's stale rows are without being asked for."""
    value = plan.observation.value("preflight")
    about = (value.get("source"), value.get("target")) if isinstance(value, dict) else ()
    if not preparing(plan) or not isinstance(value, dict) or about != (plan.old, plan.new):
        return ()
    found = value.get("found")
    names = {"source": plan.old, "target": plan.new}
    remarks = tuple(_remark(one, names) for one in found if isinstance(one, dict)) if isinstance(found, list) else ()
    kept = any(step.params.get("replaces_content") is False for step in plan.steps)
    return tuple(one for one in remarks if one.severity is not Severity.INFO and (kept or one.id != _NOT_EMPTY))


def in_the_way(plan: Plan) -> int:
    """How many errors `apply` refuses before anything is touched; what hinders replication alone is none of them where
    rows travel by a dump."""
    value = plan.observation.value("preflight")
    hindering = value.get("replication_errors") if isinstance(value, dict) else None
    dumps = plan.spec.spec.transfer.method is TransferMethod.DUMP
    harmless = set(map(str, hindering)) if dumps and isinstance(hindering, list) else set()
    return sum(one.severity is Severity.ERROR and one.id not in harmless for one in remarks_of(plan))


def _remark(one: Mapping[str, JsonValue], names: Mapping[str, str]) -> Remark:
    side = str(one["side"])
    return Remark(
        id=str(one["id"]),
        severity=Severity(str(one["severity"])),
        where=names.get(side, side),
        what=str(one["what"]),
        remedy=str(one["remedy"]),
    )
