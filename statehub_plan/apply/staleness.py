"""Whether the world is still the one that a plan was made for, fact by fact. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.errors import Exit, Refusal
from statehub_plan.model.facts import Evidence, EvidenceStatus, Observation
from statehub_plan.model.plan import Plan
from statehub_plan.registers import identity_of
from statehub_plan.world import Access, Data, Due, Follows, Role, Stable, World, difference

DECISIVE = (
    "identity",
    "version_num",
    "in_recovery",
    "writes",
    "register",
    "schema_revision",
    "extensions",
    "encoding",
)
"""Facts of an endpoint that a plan rests on; counts, sizes, sessions and latencies move all the time."""

_WORLD_FIELDS = ("writes", "data", "follows", "reach", "primary", "term", "transfer", "access", "retired")


class Vanished(str):
    """A line about what was known when the plan was made and cannot be seen now; `reason` says why."""

    reason: str

    def __new__(cls, what: str, reason: str) -> Vanished:
        """`what → unknown (reason)`."""
        line = super().__new__(cls, f"{what} → unknown ({reason})")
        line.reason = reason
        return line


def _shown(value: JsonValue) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "…"


def _access_ids(plan: Plan) -> list[str]:
    return [f"access.{path.name}" for path in plan.spec.spec.access]


def _told(observation: Observation, fact_id: str) -> str:
    fact = observation.get(fact_id)
    if fact is None:
        return "not observed"
    if fact.reason is not None:
        return f"unknown ({fact.reason})"
    value = fact.value
    if fact_id.startswith("access.") and isinstance(value, dict):
        value = value.get("endpoint")
    return _shown(value)


def changed_identities(plan: Plan, fresh: Observation, endpoints: Iterable[str]) -> tuple[str, ...]:
    """`ENDPOINT.identity: then → now` for each of these that is known to be another database than the plan's."""
    ids = [
        f"{name}.identity"
        for name in sorted(endpoints)
        if plan.identities[name].known
        and identity_of(fresh, name).known
        and identity_of(fresh, name) != plan.identities[name]
    ]
    return tuple(f"{fact_id}: {_told(plan.observation, fact_id)} → {_told(fresh, fact_id)}" for fact_id in ids)


def changed_facts(plan: Plan, fresh: Observation, world: World) -> tuple[str, ...]:
    """`fact: then → now` for every decisive fact that differs between the plan and a fresh look. Those that one reason
    made unknown share a line, Vanished, also others if the world looks otherwise without them; what the model makes of
    their absence is no change of the world."""
    ids = [f"{name}.{fact}" for name in sorted(plan.spec.spec.endpoints) for fact in DECISIVE] + _access_ids(plan)
    lines: list[str] = []
    vanished: dict[str, list[str]] = {}
    for fact_id in ids:
        then, now, fact = _told(plan.observation, fact_id), _told(fresh, fact_id), fresh.get(fact_id)
        if then != now and fact is not None and fact.reason is not None:
            vanished.setdefault(fact.reason, []).append(fact_id)
        elif then != now:
            lines.append(f"{fact_id}: {then} → {now}")
    masked = _as_far_as_seen(plan, fresh)
    if not vanished and _decisive(difference(plan.trajectory[0], masked)):
        for fact in fresh.unknown():
            if plan.observation.value(fact.id) is not None:
                vanished.setdefault(str(fact.reason), []).append(fact.id)
    lines += [Vanished(f"{', '.join(facts)}: known", reason) for reason, facts in vanished.items()]
    return (*lines, *(f"world {line}" for line in _decisive(difference(masked, world))))


def _decisive(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.split(":")[0].split(".")[-1] in _WORLD_FIELDS]


def _as_far_as_seen(plan: Plan, fresh: Observation) -> World:
    """The plan's own world, looked at by somebody who could not see what a fresh look cannot see."""
    unseen = {fact.id: fact for fact in fresh.unknown()}
    facts = tuple(unseen.get(fact.id, fact) for fact in plan.observation)
    if facts == plan.observation.facts:
        return plan.trajectory[0]
    then = plan.observation.model_copy(update={"facts": facts})
    return ground(plan.spec, then, plan.evidence, now=plan.created_at).world


def changed_evidence(plan: Plan, fresh: tuple[Evidence, ...]) -> tuple[str, ...]:
    """`evidence task/probe: then → now` for every probe that shows something else than when the plan was made, Vanished
    where it could not be asked."""
    then = {(one.task, one.probe): one.status.value for one in plan.evidence}
    now = {(one.task, one.probe): one for one in fresh}
    lines: list[str] = []
    for key in sorted(then.keys() | now.keys()):
        found, before = now.get(key), then.get(key, "not asked")
        what = f"evidence {key[0]}/{key[1]}: {before}"
        if found is None:
            lines.append(f"{what} → not asked")
        elif before != found.status.value and found.status is EvidenceStatus.UNKNOWN:
            lines.append(Vanished(what, found.detail))
        elif before != found.status.value:
            lines.append(f"{what} → {found.status.value} ({found.detail})")
    return tuple(lines)


def stale(details: tuple[str, ...], what: str = "the world is not the one that this plan was made for") -> Refusal:
    """The refusal with every changed fact. Where all that is different is that something cannot be seen, another plan
    would see no more: then it is a refusal of its own, and this plan is as good as it was."""
    unseen = [line for line in details if isinstance(line, Vanished)]
    if details and len(unseen) == len(details):
        return _unseen(unseen)
    return Refusal(
        code="plan-stale",
        what=what,
        hint="make a new plan and have it reviewed; approvals stay valid where its effects are the same",
        exit_status=Exit.STALE_PLAN,
        details=details,
    )


def _unseen(lines: list[Vanished]) -> Refusal:
    reasons = "; ".join(dict.fromkeys(line.reason for line in lines))
    return Refusal(
        code="world-unseen",
        what=f"{reasons}: whether the world is still the one that this plan was made for cannot be seen",
        hint="mend that (`doctor` names what is wrong with a connection), then run the same `apply` again: nothing was "
        "touched, and plan and approvals stay as they are",
        details=tuple(lines),
    )


def unexplained(expected: World, observed: World, *, opened: bool = False) -> tuple[str, ...]:
    """Differences between model and observation that nothing outside could have caused. Health moves by itself, streams
    break and go on, a retained side falls behind an open primary, backups, drills and rehearsals age, and evidence
    concerns the time before the decision. `opened`: the step was an opening, with which a side may have taken over by a
    term of its own: under that nothing was watched or written down yet."""
    lines = []
    for line in difference(expected, observed):
        name, _, change = line.partition(": ")
        decided = observed.primary is Role.NEW or change == f"{Due.DONE} → {Due.DUE}"
        ages = name in ("backup", "evidence", "restore_drill", "failover_drill", "rehearsal")
        fell_behind = (
            name == "old.data" and observed.primary is Role.NEW and observed.old.data in (Data.STALE, Data.EQUAL)
        )
        # A walsender or a worker that was just restarted: what depends on the stream asks again by itself.
        flickers = name.endswith(".follows") and {*change.split(" → ")} == {Follows.BROKEN, Follows.STREAMING}
        # A path out of sight: only after the decision do those that are not show clients to be taken along.
        seen_apart = (name, change) == ("access", f"{Access.UNKNOWN} → {Access.SPLIT}") and observed.primary is Role.NEW
        anew = opened and (name, change.rpartition(" → ")[2]) in (("stabilization", Stable.NONE), ("document", Due.DUE))
        if not (name.endswith(".health") or fell_behind or flickers or seen_apart or anew or (ages and decided)):
            lines.append(line)
    return tuple(lines)
