"""The transition model, checked exhaustively: every reachable world, every crash, every restricted view."""

from __future__ import annotations

from typing import cast

import pytest

from statehub_plan.apply.loop import Applying
from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Refused
from statehub_plan.model.spec import FallbackMode, TransferMethod
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import MAX_STEPS, Next, Wish, next_step
from statehub_plan.planning import gate_of
from statehub_plan.spec import parse
from statehub_plan.transitions import crashes, effect
from statehub_plan.world import (
    Data,
    Follows,
    Role,
    Term,
    TransferStage,
    World,
    Writes,
    exchange,
    hold_lost,
    other,
    side,
    writable,
)
from tests.unit import approval_examples
from tests.unit.explorer import WISHES, Exploration, explore, unmet_requirement, veils
from tests.unit.spec_marks import FILE, changed

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module", params=WISHES, ids=lambda wish: f"{wish.method}-{wish.fallback}-{wish.replace_target}")
def explored(request: pytest.FixtureRequest) -> Exploration:
    """Everything reachable under one wish; its size is printed, so that a run's record says what was checked."""
    found = explore(request.param)
    print(
        f"\n{len(found.worlds)} worlds, {len(found.transitions)} planned transitions, {found.crashed} crash outcomes, "
        f"{len(found.refusals)} refusals, {len(found.satisfied)} satisfied"
    )
    return found


def outcomes(before: World, step: Next, after: World) -> tuple[World, ...]:
    """Every world that a step can leave: done, or interrupted anywhere."""
    return (after, *crashes(step.kind, before, step.role))


def test_the_planner_only_asks_for_steps_whose_requirements_hold(explored: Exploration) -> None:
    """The planner's reasons and the executor's requirements are written twice and never disagree."""
    objections = {
        (step.kind, objection)
        for before, step, _ in explored.transitions
        if (objection := unmet_requirement(step, before)) is not None
    }
    assert set() == objections


def stopped(kind: StepKind, mode: FallbackMode) -> bool:
    """Whether a plan document with this wish may have a gate for this kind of step."""
    text = changed("mode: frozen", f"mode: {mode.value}", changed("method: auto  ", "method: replication  "))
    guards = dict.fromkeys([StepKind.HOLD.value, StepKind.DECIDE.value, kind.value])
    text = changed("guards: [hold, freeze, decide]", f"guards: [{', '.join(guards)}]", text)
    try:
        parse(text.encode(), FILE)
    except StatehubError as error:
        return not any("no gate stops" in line for line in error.details)
    return True


def test_every_step_that_a_document_may_guard_waits_for_its_gate(explored: Exploration) -> None:
    """Whatever world it is taken in, but for those that lead out of an outage and carry no gate. What a gate could not
    stop is refused in the document: it would be shown, signed and passed by."""
    gate = approval_examples.gate_document(guards=[kind.value for kind in StepKind])
    everything = approval_examples.document(gate)
    carried = {
        (step.kind, Applying._gated(cast(Applying, None), approval_examples.step("x", step.kind, "T07"), before))
        for before, step, _ in explored.transitions
        if gate_of(everything, step) is not None
    }
    passed_by = {kind for kind, waits in carried if not waits}
    allowed = {kind for kind in StepKind if stopped(kind, explored.wish.fallback)}
    assert set() == passed_by & allowed
    assert {StepKind.HOLD, StepKind.FREEZE, StepKind.DECIDE, StepKind.RETIRE} <= allowed


def test_no_step_and_no_crash_makes_a_second_side_writable(explored: Exploration) -> None:
    """Two writable sides are never the tool's doing, and where a person caused them the tool does not add to it."""
    worse = [
        (before, step)
        for before, step, ends in explored.outcomes
        for left in ends
        if len(writable(left)) > max(1, len(writable(before)))
    ]
    assert [] == worse


def test_a_side_opens_only_when_it_is_primary_and_the_other_is_frozen(explored: Exploration) -> None:
    """Writes begin where the register says, after the other side was proved shut."""
    for before, step, after in explored.transitions:
        for role in set(writable(after)) - set(writable(before)):
            assert StepKind.OPEN == step.kind
            assert role is before.primary
            assert Writes.FROZEN is side(before, other(role)).writes


def test_only_a_proved_and_frozen_world_is_decided(explored: Exploration) -> None:
    """The register moves in one step kind only, from a world where nothing can be lost."""
    for before, step, after in explored.transitions:
        if before.primary is not after.primary:
            assert StepKind.DECIDE == step.kind
            assert (Writes.FROZEN, Writes.FROZEN) == (before.old.writes, before.new.writes)
            assert (Data.EQUAL, TransferStage.PROVED) == (before.new.data, before.transfer)


def test_a_crash_before_the_durable_freeze_leaves_the_old_primary_open(explored: Exploration) -> None:
    """Until the freeze is committed the death of the tool costs nothing but the run."""
    for before, step, _ in explored.transitions:
        if before.primary is Role.OLD and before.old.writes in (Writes.OPEN, Writes.HELD):
            for left in crashes(step.kind, before, step.role):
                committed = left.term is Term.PENDING and step.kind is StepKind.FREEZE
                assert Writes.OPEN is left.old.writes or committed


def test_a_proof_never_outlives_what_it_proved(explored: Exploration) -> None:
    """`proved` means that the source could not have changed since."""
    for world in explored.worlds:
        if world.transfer is TransferStage.PROVED and world.primary is Role.OLD:
            assert world.old.writes in (Writes.HELD, Writes.FROZEN)


def test_the_fallback_is_retired_only_by_the_step_that_retires_and_only_on_wish(explored: Exploration) -> None:
    """Nothing retires a fallback by accident."""
    for before, step, after in explored.transitions:
        if before.retired is not after.retired:
            assert StepKind.RETIRE == step.kind
            assert FallbackMode.RETIRED is explored.wish.fallback


def test_access_only_ever_moves_to_the_primary(explored: Exploration) -> None:
    """Clients are never sent to a side that is not primary and open."""
    for before, step, after in explored.transitions:
        if before.access is not after.access:
            assert (StepKind.REDIRECT, Role.NEW) == (step.kind, before.primary)
            assert Writes.OPEN is before.new.writes


def test_planning_converges_from_every_world(explored: Exploration) -> None:
    """From everywhere the plan ends: the wish holds, or a refusal says why. No loop, no dead end without a reason."""
    following = {before: after for before, _, after in explored.transitions}
    ends = explored.satisfied | explored.refusals.keys()
    for world in explored.worlds:
        here = world
        for _ in range(MAX_STEPS):
            if here in ends:
                break
            here = following[here]
        assert here in ends


def test_every_refusal_says_what_and_what_to_do(explored: Exploration) -> None:
    """A refusal without a remedy would be an outage nobody can leave."""
    for refused in explored.refusals.values():
        assert "" not in (refused.code, refused.what, refused.remedy)


def test_from_every_world_the_primary_can_be_made_writable_again(explored: Exploration) -> None:
    """Abort is always there: wishing for the present primary ends with it open and the other side shut."""
    abort = Wish(document=False)
    for world in explored.worlds:
        here = hold_lost(world)
        if here.primary is Role.OLD:
            here = exchange(here)
        for _ in range(MAX_STEPS):
            if here.new.writes is Writes.OPEN and here.old.writes is Writes.FROZEN:
                break
            step = next_step(here, abort)
            assert isinstance(step, Next) or here.new.writes is Writes.OPEN
            if not isinstance(step, Next):
                break
            here = effect(step.kind, here, step.role)
        assert Writes.OPEN is here.new.writes


def running(world: World, role: Role) -> bool:
    """Whether a stream into this side is switched on, so that it brings changes, or may at any moment."""
    return side(world, role).follows in (Follows.COPYING, Follows.STREAMING, Follows.BROKEN)


def test_no_step_and_no_crash_switches_on_a_second_stream(explored: Exploration) -> None:
    """Two streams at once would send each other's changes round and round."""
    both = [
        (before, step, left)
        for before, step, ends in explored.outcomes
        for left in ends
        if running(left, Role.OLD) and running(left, Role.NEW)
        if not (running(before, Role.OLD) and running(before, Role.NEW))
    ]
    assert [] == both


def test_a_stream_into_the_serving_primary_is_never_the_tools_doing(explored: Exploration) -> None:
    """But for what is left of the one that filled it: its source is frozen, and it is taken down next but one."""
    left_over = 0
    for before, step, ends in explored.outcomes:
        for left in ends:
            primary = left.primary
            if side(left, primary).writes is not Writes.OPEN or not running(left, primary):
                continue
            if side(before, primary).writes is Writes.OPEN and running(before, primary):
                continue
            left_over += 1
            assert step.kind in (StepKind.OPEN, StepKind.DECIDE)  # in a switch the decision opens
            assert running(before, primary)
            assert Writes.FROZEN is side(left, other(primary)).writes
    assert left_over > 0 or explored.wish.method is not TransferMethod.REPLICATION


def test_nothing_is_copied_into_a_side_that_receives(explored: Exploration) -> None:
    """Rows would be there twice."""
    copied = [before.new.follows for before, step, _ in explored.transitions if step.kind is StepKind.COPY]
    assert copied or explored.wish.method is TransferMethod.REPLICATION
    assert {Follows.NOBODY} >= set(copied)


def test_a_fallback_that_is_to_follow_is_ready_to_before_writers_wait(explored: Exploration) -> None:
    """And still is when the old side is frozen for good: from the first write on the new one nothing is missed."""
    if (explored.wish.method, explored.wish.fallback) != (TransferMethod.REPLICATION, FallbackMode.FOLLOWING):
        return
    held = [
        before
        for before, step, _ in explored.transitions
        if step.kind is StepKind.HOLD or (step.kind is StepKind.FREEZE and before.old.writes is Writes.HELD)
    ]
    assert held
    assert {Follows.READY} == {before.old.follows for before in held}
    assert {Follows.STREAMING} == {before.new.follows for before in held}


def test_a_lost_stream_never_counts_as_prepared(explored: Exploration) -> None:
    """What it has missed can't be replayed: nothing is held for it, and the side is prepared anew."""
    for world in explored.worlds:
        if world.primary is Role.OLD and world.new.follows is Follows.LOST and world.old.writes is Writes.OPEN:
            assert TransferStage.NONE is world.transfer
    for _, _, ends in explored.outcomes:
        for left in ends:
            if left.primary is Role.OLD and left.new.follows is Follows.LOST:
                assert left.old.writes is Writes.FROZEN or TransferStage.NONE is left.transfer


def aborted(world: World, abort: Wish) -> World:
    """Where an abort leads: the primary open, the other side shut, each step allowed where it is taken."""
    for _ in range(MAX_STEPS):
        step = next_step(world, abort)
        if not isinstance(step, Next):
            break
        assert unmet_requirement(step, world) is None
        world = effect(step.kind, world, step.role)
    assert (Writes.OPEN, Writes.FROZEN) == (world.new.writes, world.old.writes)
    return world


def test_an_abort_before_the_decision_ends_with_nobody_following(explored: Exploration) -> None:
    """From every world: the old primary open, the other side shut, no stream in either direction."""
    abort = Wish(method=explored.wish.method, document=False, settle=False)
    for world in explored.worlds:
        if world.primary is not Role.OLD:
            continue
        here = aborted(exchange(hold_lost(world)), abort)
        assert (Follows.NOBODY, Follows.NOBODY) == (here.new.follows, here.old.follows)


def test_an_abort_of_a_later_move_keeps_a_fallback_that_follows(explored: Exploration) -> None:
    """Once a decision has fallen the present primary has a fallback: giving up a move away from it costs neither its
    stream nor leaves another one. Where that was being filled anew nothing is wished to follow."""
    abort = Wish(method=explored.wish.method, fallback=FallbackMode.FOLLOWING, document=False, settle=False)
    for world in explored.worlds:
        if world.primary is not Role.OLD:
            continue
        here = exchange(hold_lost(world))
        streamed = here.old.follows in (Follows.STREAMING, Follows.BROKEN, Follows.READY)
        if here.old.follows is Follows.COPYING:
            continue
        here = aborted(here, abort)
        assert Follows.NOBODY is here.new.follows
        assert (Follows.STREAMING if streamed else Follows.NOBODY) is here.old.follows


def test_a_restricted_view_never_leads_to_a_step_that_the_true_world_forbids(explored: Exploration) -> None:
    """A process that cannot see a side, the register or the access paths refuses, or does what is safe anyway.

    One case is beyond any tool and left out: after the decision somebody opened the old side by hand *and* it is out
    of sight. Refusing there would make every decided cutover whose old host died an outage nobody can leave.
    """
    checked = 0
    for world in explored.worlds:
        meddled = writable(world) != () and world.primary not in writable(world)
        if world != hold_lost(world) or meddled:
            continue
        for seen in veils(world):
            step = next_step(seen, explored.wish)
            checked += 1
            if isinstance(step, Next):
                for left in outcomes(world, step, effect(step.kind, world, step.role)):
                    assert len(writable(left)) <= max(1, len(writable(world)))
                    assert left.primary is world.primary or unmet_requirement(step, world) is None
            else:
                assert not isinstance(step, Refused) or step.remedy
    print(f"\n{checked} restricted views")
    assert checked > 0
