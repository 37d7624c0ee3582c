"""Plans and input documents for any finite world, made by the real planner; facts are what such a world looks like."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from statehub_plan.abstraction import Grounded
from statehub_plan.model.base import JsonValue, epoch_s
from statehub_plan.model.facts import Fact, FactStatus, Observation
from statehub_plan.model.plan import Identity, Phase, Plan
from statehub_plan.model.record import (
    ApprovalStatus,
    DrillRecord,
    GateState,
    History,
    JudgedApproval,
    RunContext,
)
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.planner import Wish, unfold
from statehub_plan.planning import dress
from statehub_plan.policy import BundleInfo, build_input
from statehub_plan.registers import Register
from statehub_plan.world import Due, Reach, Role, World, Writes
from tests.unit.facts import NOW, document, evidence, identity

BUNDLE_DIR = Path(__file__).parents[2] / "policies"
TERM = 2
GATES: list[dict[str, Any]] = [
    {
        "name": "T07",
        "title": "Cut over",
        "guards": ["hold", "freeze", "decide"],
        "approvers": ["ann@ops"],
        "allowedSigners": "allowed_signers",
    },
    {
        "name": "T08",
        "title": "Retire",
        "guards": ["retire"],
        "approvers": ["ann@ops"],
        "allowedSigners": "allowed_signers",
    },
]
_DRILLS: dict[str, Any] = {
    "restore": {},
    "failover": {"argv": ["true"], "verify": [{"kind": "file", "name": "up", "path": "up"}]},
}


def wished(wish: Wish) -> CutoverPlan:
    """A document that wishes so."""
    return document(
        desired={"primary": "away", "fallback": {"endpoint": "home", "mode": wish.fallback.value}},
        gates=GATES,
        drills=_DRILLS,
    )


def observed(world: World) -> Observation:
    """What looking at such a world shows: home is its old side, away its new one."""
    rows: dict[str, list[dict[str, JsonValue]]] = {"home": [], "away": []}
    if world.primary is Role.NEW:
        rows["away"] = [{"term": 1, "primary": "away"}]
    facts = [
        fact
        for name, one in (("home", world.old), ("away", world.new))
        for fact in (
            _fact(f"{name}.reach", one.reach.value),
            _fact(f"{name}.identity", identity(name), known=one.reach is Reach.REACHABLE),
            _fact(f"{name}.writes", one.writes.value, known=one.writes is not Writes.UNKNOWN),
            _fact(f"{name}.register", list(rows[name]), known=one.reach is Reach.REACHABLE),
        )
    ]
    if world.backup is Due.DONE:
        of = identity("away" if world.primary is Role.NEW else "home")
        facts.append(_fact("backup", {"taken_at": epoch_s(NOW) - 60, "checksum_ok": True, "size_bytes": 9, **of}))
    return Observation(observed_at=NOW, facts=tuple(sorted(facts, key=lambda fact: fact.id)))


def planned(world: World, wish: Wish) -> Plan:
    """The planner's plan from `world`."""
    spec = wished(wish)
    unfolded = unfold(world, wish)
    register = Register(primary=None, basis="test", decided=1, next_term=TERM, burned=frozenset())
    grounded = Grounded(world=world, old="home", new="away", register=register)
    pairs = zip(unfolded.steps, unfolded.trajectory, strict=False)
    return Plan(
        tool_version="0",
        created_at=NOW,
        author="bob@ops",
        spec=spec,
        spec_digest="sha256:0",
        spec_path="plans/move.yaml",
        old="home",
        new="away",
        term=TERM,
        identities={name: Identity.model_validate(identity(name)) for name in ("away", "home")},
        observation=observed(world),
        evidence=evidence(),
        steps=tuple(dress(spec, grounded, index, step, at) for index, (step, at) in enumerate(pairs, start=1)),
        trajectory=unfolded.trajectory,
        refused=unfolded.refused,
        effects_digest="sha256:1",
        evidence_digest="sha256:2",
    )


def approved(plan: Plan) -> tuple[GateState, ...]:
    """Every gate of the plan, approved by one key, within both clocks."""
    return tuple(
        GateState(
            gate=gate.name,
            quorum=gate.quorum,
            satisfied=True,
            fingerprints=("SHA256:ann",),
            approvals=(
                JudgedApproval(
                    gate=gate.name,
                    principal="ann@ops",
                    fingerprint="SHA256:ann",
                    status=ApprovalStatus.VALID,
                    detail="",
                    decide_by=NOW + timedelta(hours=1),
                    execute_by=NOW + timedelta(hours=2),
                    source="approvals/1.json",
                ),
            ),
        )
        for gate in plan.spec.spec.gates
    )


DRILLED = History(
    drills=(
        DrillRecord(kind="restore", passed=True, at=NOW - timedelta(hours=1)),
        DrillRecord(kind="failover", passed=True, at=NOW - timedelta(hours=1)),
    )
)


def asked(plan: Plan, bundle: BundleInfo, phase: Phase = Phase.PLAN, **changed: Any) -> dict[str, JsonValue]:
    """The input document about `plan`; by default everything that a person can do for it is done."""
    given: dict[str, Any] = {
        "now": NOW,
        "run": RunContext(author="bob@ops"),
        "observed": plan.observation,
        "world": plan.trajectory[0],
        "evidence": plan.evidence,
        "gates": approved(plan),
        "history": DRILLED,
        **changed,
    }
    return build_input(plan=plan, phase=phase, bundle=bundle, **given)


def _fact(fact_id: str, value: JsonValue, *, known: bool = True) -> Fact:
    return Fact(
        id=fact_id,
        status=FactStatus.KNOWN if known else FactStatus.UNKNOWN,
        value=value if known else None,
        reason=None if known else "time-out",
        how="test",
        observed_at=NOW,
    )
