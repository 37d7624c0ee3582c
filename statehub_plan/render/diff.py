"""What a plan changes: the first world of its trajectory beside the last, with the endpoints' own names. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from statehub_plan.model.plan import Plan
from statehub_plan.world import Access, Data, Due, Evidence, Follows, Reach, Role, Side, Stable, World

_NOTHING = {Data.ABSENT.value, Due.DUE.value, Stable.NONE.value, Follows.NOBODY.value, Evidence.INCOMPLETE.value}
_UNKNOWN = {"unknown", Reach.UNREACHABLE.value}
_NO_FACT_OF_PEOPLE = ("old", "new", "term", "transfer", "rehearsal")
_WORLD_FIELDS = tuple(part.name for part in fields(World) if part.name not in _NO_FACT_OF_PEOPLE)
_SIDE_FIELDS = tuple(part.name for part in fields(Side))
_SILENT_WHEN_UNKNOWN = {"restore_drill", "failover_drill", "rehearsal"}


@dataclass(frozen=True, slots=True)
class Change:
    """One fact now and after. `mark`: `+` comes to be, `-` goes away, `~` changes, `?` is not known now."""

    mark: str
    fact: str
    now: str
    after: str


def changes(plan: Plan) -> tuple[Change, ...]:
    """Every fact of the finite world that the plan changes, and every one that is unknown to begin with."""
    first, last = plan.trajectory[0], plan.trajectory[-1]
    names = [name for name in _WORLD_FIELDS if name != "document" or plan.spec.spec.operating_model is not None]
    found = [_change(plan, name, getattr(first, name), getattr(last, name)) for name in names]
    for role, endpoint in (("old", plan.old), ("new", plan.new)):
        before, after = getattr(first, role), getattr(last, role)
        for name in _SIDE_FIELDS:
            if name == "health" and plan.spec.spec.endpoints[endpoint].api is None:
                continue
            found.append(_change(plan, f"{endpoint}.{name}", getattr(before, name), getattr(after, name)))
    return tuple(change for change in found if change is not None)


def _change(plan: Plan, fact: str, before: object, after: object) -> Change | None:
    if before == after and (str(before) not in _UNKNOWN or fact in _SILENT_WHEN_UNKNOWN):
        return None
    now, then = value_text(plan, before), value_text(plan, after)
    if fact == "primary" and after is Role.NEW and before is not after:
        then = f"{then} (term {plan.term})"
    return Change(_mark(str(before), str(after), after), fact.replace("_", " "), now, then)


def _mark(before: str, after: str, value: object) -> str:
    if before in _UNKNOWN:
        return "?"
    if value is True or after in _NOTHING:
        return "-"
    return "+" if before in _NOTHING else "~"


def value_text(plan: Plan, value: object) -> str:
    """A value of the finite world in words; roles become endpoints."""
    if isinstance(value, Role | Access):
        return {"old": plan.old, "new": plan.new}.get(value.value, value.value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
