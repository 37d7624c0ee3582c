"""Who is primary, by the decision registers of both sides; before any decision by what the world shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from statehub_plan.model.facts import FactStatus, Observation
from statehub_plan.model.plan import Identity
from statehub_plan.model.spec import CutoverPlan


@dataclass(frozen=True, slots=True)
class Register:
    """Both sides' decision registers read together. `primary` is None when it cannot be known; `basis` says why it is
    believed. `decided` is the highest decided term, `next_term` the first one free on both sides."""

    primary: str | None
    basis: str
    decided: int
    next_term: int
    burned: frozenset[int]


@dataclass(frozen=True, slots=True)
class Decision:
    """The newest decision that the registers know, as observed: its term (0: none yet), which database is primary (all
    None where that is not known), and the run that made it."""

    term: int
    identity: Identity
    run: str | None


def endpoints_by_role(plan: CutoverPlan) -> tuple[str, str]:
    """(old, new): `new` is the desired primary, `old` the other endpoint."""
    new = plan.spec.desired.primary
    return next(name for name in plan.spec.endpoints if name != new), new


def identity_of(observation: Observation, endpoint: str) -> Identity:
    """Who the endpoint is, all None when that is not known."""
    value = observation.value(f"{endpoint}.identity")
    if not isinstance(value, dict):
        return Identity()
    return Identity.model_validate(value)


def identity_of_primary(plan: CutoverPlan, observation: Observation) -> Identity:
    """Which database is primary now, all None when that is not known."""
    primary = read_register(plan, observation).primary
    return Identity() if primary is None else identity_of(observation, primary)


def observed_decision(plan: CutoverPlan, observation: Observation) -> Decision | None:
    """None where a register that may know a later decision could not be read."""
    register = read_register(plan, observation)
    rows = [row for name in plan.spec.endpoints for row in decisions_of(observation, name) or []]
    if register.primary is None and any(decisions_of(observation, name) is None for name in plan.spec.endpoints):
        return None
    made = [row.get("run") for row in rows if row.get("term") == register.decided and row.get("primary") is not None]
    run = made[0] if made and isinstance(made[0], str) else None
    return Decision(register.decided, identity_of_primary(plan, observation), run)


def mapping_of(observation: Observation, fact_id: str) -> Mapping[str, JsonValue]:
    """A fact that is an object; empty where it is not known or none."""
    value = observation.value(fact_id)
    return value if isinstance(value, dict) else {}


def decisions_of(observation: Observation, endpoint: str) -> list[Mapping[str, JsonValue]] | None:
    """The rows of an endpoint's decision register; None where it could not be read."""
    fact = observation.get(f"{endpoint}.register")
    if fact is None or fact.status is FactStatus.UNKNOWN:
        return None
    return [row for row in fact.value if isinstance(row, dict)] if isinstance(fact.value, list) else []


def number_of(value: JsonValue) -> int:
    """A whole number; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def fence_term(observation: Observation, endpoint: str) -> int:
    """The term for which an endpoint was frozen; 0 where it was not, or nobody knows."""
    return number_of(mapping_of(observation, f"{endpoint}.fence").get("term"))


def read_register(plan: CutoverPlan, observation: Observation) -> Register:
    """Who is primary, by the registers of both sides; before any decision by what the world shows."""
    names = tuple(plan.spec.endpoints)
    rows = {name: decisions_of(observation, name) for name in names}
    known = [row for name in names for row in rows[name] or []]
    decided = {number_of(row.get("term")): row.get("primary") for row in known if row.get("primary") is not None}
    burned = frozenset(number_of(row.get("term")) for row in known if row.get("primary") is None)
    best = max(decided, default=0)
    highest = max([best, *burned, *(fence_term(observation, name) for name in names)], default=0)
    free = highest if highest > best and highest not in burned else highest + 1
    primary, basis = _primary(plan, observation, rows, best, decided.get(best))
    return Register(primary, basis, best, free, burned)


def _primary(
    plan: CutoverPlan,
    observation: Observation,
    rows: Mapping[str, list[Mapping[str, JsonValue]] | None],
    best: int,
    named: JsonValue,
) -> tuple[str | None, str]:
    doubt = _misplaced(rows) or _frozen_for_itself(plan, observation) or _forgotten(observation, rows, best)
    if doubt is not None:
        return None, doubt
    unread = [name for name, found in rows.items() if found is None]
    if len(unread) == len(rows):
        return None, "neither decision register could be read"
    if unread:
        return _primary_of_one(plan, observation, next(name for name in rows if name not in unread), best, named)
    if isinstance(named, str):
        return named, f"decision term {best}"
    return _primary_before_any_decision(plan, observation)


def _misplaced(rows: Mapping[str, list[Mapping[str, JsonValue]] | None]) -> str | None:
    """A decision stands in the register of the endpoint that it names, and nowhere else."""
    for name, found in rows.items():
        for row in found or []:
            if row.get("primary") not in (None, name):
                return f"the register of {name} names {row.get('primary')}: are their connection strings exchanged?"
    return None


def _frozen_for_itself(plan: CutoverPlan, observation: Observation) -> str | None:
    """A freeze names the endpoint that was, or was to become, primary instead: always the other one."""
    for name in plan.spec.endpoints:
        mark = mapping_of(observation, f"{name}.fence")
        if number_of(mark.get("term")) > 0 and mark.get("primary") == name:
            return f"{name} is frozen in favour of {name}: are their connection strings exchanged?"
    return None


def _forgotten(
    observation: Observation, rows: Mapping[str, list[Mapping[str, JsonValue]] | None], best: int
) -> str | None:
    """A decision that this journal knows of and the register where it fell does not: whatever answers there is not what
    was decided on, and the frozen side must not be opened again beside what was."""
    known = mapping_of(observation, "decided")
    term, primary = number_of(known.get("term")), known.get("primary")
    if term <= best or not isinstance(primary, str) or rows.get(primary) is None:
        return None
    return (
        f"the journal knows that term {term} made {primary} primary, and the register of {primary} does not: its "
        "connection string leads to another database, or that one was made anew or restored. Another environment needs "
        "a journal of its own (STATEHUB_PLAN_JOURNAL), and so does a beginning without a database that is lost for "
        "good: where it lives after all, two sides would accept writes"
    )


def _primary_of_one(
    plan: CutoverPlan, observation: Observation, seen: str, best: int, named: JsonValue
) -> tuple[str | None, str]:
    """With one register out of reach a side is known to be primary if it was decided and not frozen since, or if it
    serves the clients before any decision: a source is always frozen before a decision falls elsewhere. That a side
    merely accepts writes says nothing: it may be an earlier restore, or opened by hand."""
    if named == seen and fence_term(observation, seen) <= best:
        return seen, f"decision term {best}, and no later freeze"
    if best == 0 and observation.value(f"{seen}.writes") == "open" and _pointed(plan, observation) == {seen}:
        return seen, "it accepts writes and every access path points at it; no decision could have fallen elsewhere"
    known = mapping_of(observation, "decided")
    if known.get("primary") not in (None, seen):
        told = f"decision term {known.get('term')} on record made {known.get('primary')} primary"
        return None, f"{told}, and its register could not be read"
    return None, "the other decision register could not be read"


def _pointed(plan: CutoverPlan, observation: Observation) -> set[str]:
    return {str(mapping_of(observation, f"access.{path.name}").get("endpoint")) for path in plan.spec.access}


def _primary_before_any_decision(plan: CutoverPlan, observation: Observation) -> tuple[str | None, str]:
    names = tuple(plan.spec.endpoints)
    held = [name for name in names if frozen_by_a_hold(observation, name)]
    if len(held) == 1:
        return held[0], "no decision yet; it was primary when a hold froze it"
    for name, away in (names, names[::-1]):
        if observation.value(f"{name}.writes") == "open" and _frozen_by_this_tool(observation, away):
            return name, f"no decision yet; it accepts writes, and {away} is frozen by this tool"
    pointed = _pointed(plan, observation)
    if len(pointed) == 1 and (only := next(iter(pointed))) in plan.spec.endpoints:
        away = next(name for name in plan.spec.endpoints if name != only)
        if only == plan.spec.desired.primary and observation.value(f"{away}.writes") not in ("frozen", None):
            return None, (
                f"no decision is recorded, every access path points at {only} already, and {away} accepts writes too: "
                "point the clients at the side that is primary now"
            )
        return only, "no decision yet; every access path points at it"
    serving = [
        name
        for name in plan.spec.endpoints
        if observation.value(f"{name}.writes") == "open" and number_of(observation.value(f"{name}.tables")) > 0
    ]
    if not plan.spec.access and len(serving) == 1:
        return serving[0], "no decision yet; it is the only side with content that accepts writes"
    return None, "no decision is recorded and the access paths do not agree on one endpoint"


def _frozen_by_this_tool(observation: Observation, endpoint: str) -> bool:
    return observation.value(f"{endpoint}.writes") == "frozen" and fence_term(observation, endpoint) > 0


def frozen_by_a_hold(observation: Observation, endpoint: str) -> bool:
    """Only a primary is ever held, and only a hold leaves its name in the mark."""
    fence = mapping_of(observation, f"{endpoint}.fence")
    frozen = observation.value(f"{endpoint}.writes") == "frozen"
    return frozen and fence.get("hold") is not None and number_of(fence.get("term")) > 0
