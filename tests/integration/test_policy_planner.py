"""Planner and policies are two opinions about the same worlds: they agree on every plan, and part where they must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Level, Phase, Plan, Verdict
from statehub_plan.model.record import ApprovalStatus, GateState, History, RunContext
from statehub_plan.model.spec import FallbackMode, Lane
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish, unfold
from statehub_plan.policy import PolicyHost
from statehub_plan.world import (
    Access,
    Data,
    Due,
    Evidence,
    Follows,
    Health,
    Reach,
    Role,
    Side,
    Stable,
    Term,
    TransferStage,
    World,
    Writes,
    exchange,
    hold_lost,
    with_side,
)
from tests.unit.explorer import explore, initial_worlds
from tests.unit.facts import NOW, evidence
from tests.unit.policy_story import BUNDLE_DIR, approved, asked, observed, planned

MOVE = Wish(replace_target=True)
RETIRE = Wish(fallback=FallbackMode.RETIRED, replace_target=True)
START = next(initial_worlds())
DARK = Side(
    reach=Reach.UNREACHABLE, writes=Writes.UNKNOWN, data=Data.UNKNOWN, follows=Follows.NOBODY, health=Health.UNKNOWN
)


@pytest.fixture(scope="module")
def host(opa_path: Path) -> Iterator[PolicyHost]:
    """The shipped policies under a real OPA."""
    del opa_path  # only that it is there
    with PolicyHost(BUNDLE_DIR, timeout_s=20) as entered:
        yield entered


def judged(host: PolicyHost, plan: Plan, phase: Phase = Phase.PLAN, **changed: Any) -> Verdict:
    """The verdict on a plan when everything a person can do for it is done, but for what is changed."""
    return host.judge(asked(plan, host.bundle, phase, **changed), phase=phase, now=NOW)


def judged_step(host: PolicyHost, plan: Plan, index: int, **changed: Any) -> Verdict:
    """The verdict right before one step, in the world that the plan foresaw for it."""
    world = changed.pop("world", plan.trajectory[index])
    run = RunContext(id="r1", author="bob@ops", epoch=1, step=plan.steps[index].id)
    given = {"world": world, "observed": observed(world), "run": run, **changed}
    return judged(host, plan, Phase.STEP, **given)


def vetoes(verdict: Verdict) -> set[str]:
    """Codes that deny."""
    return {each.code for each in verdict.findings if each.level is not Level.ADVISORY}


def world_after(kind: StepKind, wish: Wish = MOVE, start: World = START) -> World:
    """The world that the plan from `start` reaches with its last step of one kind."""
    unfolded = unfold(start, wish)
    index = max(i for i, step in enumerate(unfolded.steps) if step.kind is kind)
    return unfolded.trajectory[index + 1]


def expired(plan: Plan) -> tuple[GateState, ...]:
    """Approvals whose clocks ran out yesterday."""
    late = {
        "status": ApprovalStatus.EXPIRED,
        "decide_by": NOW - timedelta(days=1),
        "execute_by": NOW - timedelta(days=1),
    }
    return tuple(
        gate.model_copy(
            update={
                "satisfied": False,
                "fingerprints": (),
                "approvals": tuple(each.model_copy(update=late) for each in gate.approvals),
            }
        )
        for gate in approved(plan)
    )


def neglected(plan: Plan) -> dict[str, Any]:
    """Everything that can go stale has: clocks, evidence, the past."""
    return {
        "gates": expired(plan),
        "evidence": evidence(EvidenceStatus.UNKNOWN),
        "history": History(unknown_steps=(plan.steps[0].id,)),
    }


# The same opinion


@pytest.mark.parametrize("wish", [MOVE, RETIRE], ids=["move", "retire"])
def test_what_the_planner_plans_no_policy_vetoes(host: PolicyHost, wish: Wish) -> None:
    """One world for every different plan that the exhaustive exploration meets. The one exception is a decision that
    became possible while the backup grew too old, where calling it off is always open."""
    found: dict[Any, World] = {}
    for world in explore(wish).worlds:
        unfolded = unfold(world, wish)
        if unfolded.steps and world == hold_lost(world):
            code = unfolded.refused.code if unfolded.refused else None
            kinds = tuple((step.kind, step.role) for step in unfolded.steps)
            found[(kinds[0], kinds[-1], len(kinds), code)] = min(
                found.get((kinds[0], kinds[-1], len(kinds), code), world), world, key=repr
            )
    assert len(found) > 20
    for world in found.values():
        plan = planned(world, wish)
        stale_decision = plan.steps[0].kind is StepKind.DECIDE and world.backup is not Due.DONE
        expected = {"backup_fresh.not_taken", "backup_fresh.unknown"} if stale_decision else set()
        assert expected == vetoes(judged(host, plan)), (world, [step.id for step in plan.steps])


def test_every_step_of_a_move_is_allowed_in_its_turn(host: PolicyHost) -> None:
    """Judged again before each step, in the world that was foreseen."""
    plan = planned(START, MOVE)
    for index in range(len(plan.steps)):
        assert judged_step(host, plan, index).allowed, plan.steps[index].id


def test_a_target_left_writable_is_where_the_first_user_stands(host: PolicyHost) -> None:
    """Two writable sides at the start are tolerated, as the first step that changes anything closes one."""
    world = next(world for world in initial_worlds() if world.new.writes is Writes.OPEN)
    assert judged(host, planned(world, MOVE)).allowed


# After the decision


def test_finishing_is_never_stopped_by_clocks_evidence_backups_or_the_past(host: PolicyHost) -> None:
    """Otherwise there would be an outage that nobody can leave."""
    decided = replace(world_after(StepKind.DECIDE), backup=Due.DUE, evidence=Evidence.INCOMPLETE)
    plan = planned(decided, MOVE)
    assert ["open", "redirect", "stabilize", "document"] == [step.kind.value for step in plan.steps]
    assert judged(host, plan, **neglected(plan)).allowed
    assert judged(host, plan, Phase.APPLY, **neglected(plan)).allowed
    for index in range(len(plan.steps)):
        assert judged_step(host, plan, index, **neglected(plan)).allowed, plan.steps[index].id


def test_a_run_that_is_resumed_after_its_decision_is_not_asked_for_its_approvals_again(host: PolicyHost) -> None:
    """The plan is still the one that was shown from the start, with all the steps that are done."""
    plan = planned(START, MOVE)
    decided = replace(world_after(StepKind.DECIDE), backup=Due.DUE)
    found = judged(host, plan, Phase.APPLY, world=decided, observed=observed(decided), **neglected(plan))
    assert found.allowed, found.findings


def test_a_dead_old_side_does_not_keep_the_new_one_closed(host: PolicyHost) -> None:
    """Its freeze was proved before the decision; opening without looking at it again is said aloud."""
    decided = replace(world_after(StepKind.DECIDE), old=DARK)
    plan = planned(decided, MOVE)
    assert plan.refused is not None
    for verdict in (judged(host, plan, Phase.APPLY), judged_step(host, plan, 0)):
        assert verdict.allowed, verdict.findings
        assert "proof_before_open.other_out_of_sight" in {each.code for each in verdict.findings}


def test_a_fallback_opened_by_hand_may_be_closed_without_asking_anybody(host: PolicyHost) -> None:
    """It comes first, and no gate stands in front of it."""
    done = world_after(StepKind.DOCUMENT)
    stray = with_side(done, Role.OLD, writes=Writes.OPEN, data=Data.DIVERGED)
    plan = planned(stray, MOVE)
    assert StepKind.FREEZE is plan.steps[0].kind
    assert judged(host, plan, Phase.APPLY, **neglected(plan)).allowed
    assert judged_step(host, plan, 0, **neglected(plan)).allowed


def test_calling_a_pending_decision_off_is_never_gated(host: PolicyHost) -> None:
    """The present primary opens again, whatever else is missing."""
    pending = exchange(replace(world_after(StepKind.FREEZE), backup=Due.DUE, evidence=Evidence.UNKNOWN))
    plan = planned(pending, MOVE)
    assert ["burn", "open"] == [step.kind.value for step in plan.steps[:2]]
    for index in (0, 1):
        assert judged_step(host, plan, index, **neglected(plan)).allowed, plan.steps[index].id
    assert judged(host, plan, Phase.APPLY, **neglected(plan)).allowed


# A different opinion


def test_before_the_decision_each_of_these_vetoes(host: PolicyHost) -> None:
    """What finishing is excused from, crossing over is not."""
    plan = planned(START, MOVE)
    hold = next(i for i, step in enumerate(plan.steps) if step.kind is StepKind.HOLD)
    due = replace(plan.trajectory[hold], backup=Due.DUE)
    assert {"gate_approved.too_few_keys"} == vetoes(judged_step(host, plan, hold, gates=expired(plan)))
    assert {"evidence_complete.unknown"} == vetoes(
        judged_step(host, plan, hold, evidence=evidence(EvidenceStatus.UNKNOWN))
    )
    assert {"no_unknown_step.outcome_unknown"} == vetoes(
        judged_step(host, plan, hold, history=History(unknown_steps=("x",)))
    )
    assert {"backup_fresh.not_taken", "backup_fresh.unknown"} == vetoes(judged_step(host, plan, hold, world=due))


def test_steps_in_another_order_are_vetoed(host: PolicyHost) -> None:
    """A planner that opened before it froze would not get past the policies."""
    plan = planned(START, MOVE)
    worlds = list(plan.trajectory)
    opened = next(i for i, step in enumerate(plan.steps) if step.kind is StepKind.OPEN)
    worlds[opened] = replace(worlds[opened], old=replace(worlds[opened].old, writes=Writes.OPEN))
    found = vetoes(judged(host, plan.model_copy(update={"trajectory": tuple(worlds)})))
    assert "proof_before_open.other_not_frozen" in found


def test_a_decision_without_its_proof_is_vetoed(host: PolicyHost) -> None:
    """Whatever the plan foresaw, the world that is there counts."""
    plan = planned(START, MOVE)
    decide = next(i for i, step in enumerate(plan.steps) if step.kind is StepKind.DECIDE)
    for world in (
        replace(plan.trajectory[decide], transfer=TransferStage.SEQUENCED),
        replace(plan.trajectory[decide], term=Term.SETTLED),
        with_side(plan.trajectory[decide], Role.NEW, data=Data.STALE),
    ):
        assert {"proof_before_open.decide_unproved"} == vetoes(judged_step(host, plan, decide, world=world))


def test_an_endpoint_that_became_another_database_is_vetoed_even_when_finishing(host: PolicyHost) -> None:
    """Nothing is opened that was not looked at when this was planned."""
    plan = planned(world_after(StepKind.DECIDE), MOVE)
    fresh = plan.observation
    other = tuple(
        fact.model_copy(update={"value": {**fact.value, "system_identifier": "42"}})
        if fact.id == "away.identity" and isinstance(fact.value, dict)
        else fact
        for fact in fresh
    )
    found = judged_step(host, plan, 0, observed=fresh.model_copy(update={"facts": other}))
    assert {"identity_unchanged.changed"} == vetoes(found)


def test_a_deferred_lane_can_be_planned_and_not_carried_out(host: PolicyHost) -> None:
    """Until its criteria hold; here it declares none, which never holds."""
    plan = planned(START, MOVE)
    lane = plan.spec.metadata.model_copy(update={"lane": Lane.DEFERRED})
    deferred = plan.model_copy(update={"spec": plan.spec.model_copy(update={"metadata": lane})})
    assert {"deferred_lanes.no_criteria"} == vetoes(judged(host, deferred, Phase.APPLY))


def test_retiring_needs_fresh_drills_a_passed_stabilization_and_its_own_approval(host: PolicyHost) -> None:
    """The second point of no return."""
    plan = planned(START, RETIRE)
    retire = len(plan.steps) - 1
    assert StepKind.RETIRE is plan.steps[retire].kind
    assert judged_step(host, plan, retire).allowed
    assert {"retire_after_drills.not_fresh"} == vetoes(judged_step(host, plan, retire, history=History()))
    assert {"gate_approved.too_few_keys"} == vetoes(judged_step(host, plan, retire, gates=expired(plan)))
    unstable = replace(plan.trajectory[retire], stabilization=Stable.FAILED)
    assert {"stabilization_before_retire.not_passed"} == vetoes(judged_step(host, plan, retire, world=unstable))
    elsewhere = replace(plan.trajectory[retire], access=Access.SPLIT)
    assert {"stabilization_before_retire.clients_left"} == vetoes(judged_step(host, plan, retire, world=elsewhere))
