"""The applier, call by call: whatever fails at whatever moment, and what it says about a world that has changed."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.apply.staleness import changed_evidence, changed_facts, stale, unexplained
from statehub_plan.apply.unseen import Unseen
from statehub_plan.cli.runs import ended_in_order
from statehub_plan.errors import Exit, LeaveNow, OutcomeUnknown, Refusal, StatehubError
from statehub_plan.history import REDIRECT, journal_facts
from statehub_plan.journal import LeaseLost
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Direction, Refused
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.spec import FallbackMode
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish, next_step
from statehub_plan.planning import REDIRECT_AGAIN, turned, wish_of
from statehub_plan.steps.stage import Waiting
from statehub_plan.world import Access, Data, Due, Health, Role, Side, Stable, Term, World, Writes
from tests.unit.facts import (
    DOCUMENT,
    LEASE,
    NOW,
    PASSED,
    document,
    evidence,
    facts,
    identity,
    observation,
    plan,
    record,
    restored,
    switched,
)
from tests.unit.simulated import PLAN, REPLACE, Simulated, Switching, assert_nobody_waits, ended, raising


def undisturbed() -> Simulated:
    """A whole run in which nothing goes wrong; it says what is called when."""
    world = Simulated(PLAN)
    world.run()
    assert ({"away"}, True) == (world.open, world.decided)
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_fails_at_whatever_call_nobody_is_left_waiting_before_the_decision(after: bool) -> None:
    """Every call of a whole run fails once, before or after its effect. Running again ends with the new primary, or
    says that the plan is spent while the old primary serves."""
    spent = finished = 0
    for at in range(1, undisturbed().calls + 1):
        world = Simulated(PLAN)
        world.after, world.mishaps = after, {at: raising(at)}
        ended(world)  # behind the decision a record that fails is a note
        assert_nobody_waits(world)
        again = ended(world)
        assert_nobody_waits(world)
        if world.decided:
            finished += 1
            assert {"away"} == world.open, (at, again)
        else:
            spent += 1
            assert isinstance(again, StatehubError), (at, again)
            assert Exit.STALE_PLAN == again.exit_status, (at, again)
    assert finished > spent > 0


def test_a_second_interruption_while_the_first_is_ended_leaves_nobody_waiting_either() -> None:
    """Somebody presses Ctrl-C again while a pending decision is being burned."""
    frozen = undisturbed().executed[StepKind.FREEZE]
    for first in range(frozen, frozen + 4):
        for second in range(first + 1, first + 12):
            world = Simulated(PLAN)
            world.after, world.mishaps = True, {first: raising(0), second: raising(1)}
            assert ended(world) is not None
            assert_nobody_waits(world)


def test_whoever_insists_a_third_time_leaves_at_once() -> None:
    """What the second signal promises: wherever the end in order has come to, nothing of it is begun anew."""
    frozen = undisturbed().executed[StepKind.FREEZE]
    for third in range(frozen + 2, frozen + 8):
        world = Simulated(PLAN)
        world.after = True
        world.mishaps = dict.fromkeys(
            [frozen, frozen + 1, third, third + 1], lambda: os.kill(os.getpid(), signal.SIGTERM)
        )
        with ended_in_order():
            assert isinstance(ended(world), LeaveNow), third
        assert (third, False) == (world.calls, world.decided)


def test_a_journal_that_fails_for_good_does_not_keep_the_old_primary_shut() -> None:
    """From any call on nothing can be put on record any more; ending the outage comes first, and that is told."""
    told = set()
    for at in range(1, undisturbed().calls + 1):
        world = Simulated(PLAN)
        world.journal_gone_at = at
        error = ended(world)
        assert error is None or isinstance(error, StatehubError)
        assert_nobody_waits(world)
        told |= set(error.details) if isinstance(error, StatehubError) else set()
    assert "not on record: the journal's disk is full" in told
    assert any("home accepts writes again; term 1 is burned" in line for line in told)


UNANSWERED = (
    LeaseLost(LEASE, "the connection that held it is gone", unanswered=True),
    StatehubError(code="journal-unreachable", what="the journal's server is away", hint="wait for it"),
)


@pytest.mark.parametrize("lost", UNANSWERED, ids=["lease", "heartbeat"])
def test_a_journal_that_nobody_can_ask_does_not_keep_the_old_primary_shut(lost: StatehubError) -> None:
    """From any call on it can neither be written nor read, and the heartbeat has noticed: the databases say what there
    is to end, and by their epochs whether a later run has begun there."""
    told = set()
    for at in range(1, undisturbed().calls + 1):
        world = Simulated(PLAN)
        world.journal_gone_at, world.unreadable, world.lost = at, True, lost
        error = ended(world)
        assert isinstance(error, StatehubError), at
        assert_nobody_waits(world)
        told |= set(error.details)
    assert any("home accepts writes again; term 1 is burned" in line for line in told)


def test_a_run_whose_lease_another_one_took_opens_nothing() -> None:
    """What is pending is the other run's now: it may be about to decide."""
    world = Simulated(PLAN)
    world.journal_gone_at, world.unreadable = undisturbed().executed[StepKind.FREEZE], True
    world.lost = LeaseLost(LEASE, "ann took over with epoch 2")
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (set(), False) == (world.open, world.decided)
    assert any("home could not be opened again: this run (epoch 1 of hub)" in line for line in error.details)


@pytest.mark.parametrize("fallen", [False, True])
def test_a_decision_that_nobody_can_tell_is_left_alone(fallen: bool) -> None:
    """Neither burned nor opened: `apply` looks again first, and goes forward whether it had fallen or not."""

    def nobody_can_tell() -> NoReturn:
        raise OutcomeUnknown(code="decision-unknown", what="nobody can tell", hint="look")

    world = Simulated(PLAN)
    world.after, world.mishaps = fallen, {undisturbed().executed[StepKind.DECIDE]: nobody_can_tell}
    assert isinstance(ended(world), OutcomeUnknown)
    assert set() == world.open
    assert ended(world) is None
    assert {"away"} == world.open


STATUS = {"approved": Exit.APPROVAL_MISSING, "allowed": Exit.VETOED}


@pytest.mark.parametrize("missing", STATUS)
def test_a_refusal_at_the_very_last_gate_opens_the_old_primary_again(missing: str) -> None:
    """Revoked or vetoed between freeze and decision."""
    world = Simulated(PLAN)
    world.after = True
    world.mishaps = {undisturbed().executed[StepKind.FREEZE]: lambda: setattr(world, missing, False)}
    assert_refused_and_reopened(world, STATUS[missing])


@pytest.mark.parametrize("missing", STATUS)
def test_a_killed_run_that_is_refused_when_it_is_resumed_opens_the_old_primary_again(missing: str) -> None:
    """The tool died between freeze and decision, and whoever runs it again may not decide any more."""
    world = Simulated(PLAN)
    world.left_pending()
    setattr(world, missing, False)
    assert_refused_and_reopened(world, STATUS[missing])


def test_a_killed_run_goes_on_with_the_decision_that_it_had_proved() -> None:
    """Frozen, proved, approved: forward."""
    world = Simulated(PLAN)
    world.left_pending()
    assert ended(world) is None
    assert {"away"} == world.open


def test_a_path_out_of_sight_keeps_nobody_else_from_the_decided_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run goes on: it decides, opens, and redirects who is in sight; only then it fails for the other path."""
    paths = [{**DOCUMENT["spec"]["access"][0], "name": name, "file": f"{name}.json"} for name in ("mcp", "cli")]
    doc = document(transfer={"method": "dump", "targetContent": "replace"}, access=paths)
    seen = {"access.cli": {"endpoint": "home"}}
    world = Simulated(plan(facts() | seen, doc))
    world.left_pending()
    redirect = world.redirect

    def all_but_one(stage: object) -> None:
        redirect(stage)
        raise StatehubError(code="redirect-incomplete", what="cli: its file is gone", hint="put it back")

    monkeypatch.setattr(world, "redirect", all_but_one)
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert ("redirect-incomplete", {"away"}) == (error.code, world.open)
    assert "away" == world.values["access.mcp"]["endpoint"]


BEGUN = record(1, RecordKind.STEP_INTENT, {"kind": "redirect"}, run="killed", step="08-redirect")
REDIRECTED = record(2, RecordKind.STEP_DONE, {"kind": "redirect"}, run="killed", step="08-redirect")


def moved(*journal: Record) -> Simulated:
    """The new primary serves, every path's file names it, nothing is left to do, and this is on record of a run."""
    values = switched(away__writes="open", access__mcp={"endpoint": "away"}, document={"exists": True}) | {
        "stabilization": PASSED,
        "document.recorded": {"term": 1, "identity": identity("away")},
    }
    world = Simulated(plan(values | remembered(*journal), REPLACE))
    world.values, world.journal = values, list(journal)
    return world


def remembered(*journal: Record) -> dict[str, Any]:
    """What the journal says of a redirect, as a fact."""
    return {fact.id: fact.value for fact in journal_facts(journal, NOW) if fact.id == REDIRECT}


def test_a_redirect_that_another_run_left_half_done_is_done_again_by_a_new_plan() -> None:
    """The file names the new primary, and whoever should have reloaded it still forwards to the old one: no look shows
    it, and the journal does, so it is in the plan. Once it is done nobody does it again."""
    for journal, again in (((BEGUN,), True), ((BEGUN, REDIRECTED), False), ((), False)):
        world = moved(*journal)
        assert [("redirect", REDIRECT_AGAIN)] * again == [(step.kind.value, step.because) for step in world.plan.steps]
        assert ended(world) is None
        assert again is (StepKind.REDIRECT in world.executed)


def test_a_plan_that_is_older_than_an_interrupted_redirect_is_stale() -> None:
    """It shows no step for clients who may be on their way to the frozen side."""
    world = moved()
    world.journal = [BEGUN]
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (Exit.STALE_PLAN, True) == (error.exit_status, any("access" in line for line in error.details))


def test_a_redirect_is_done_again_only_towards_the_primary_that_serves() -> None:
    """What was left half done before another move begins waits until that one has decided and opened; and the present
    primary is opened before anybody is sent there."""
    world = Simulated(PLAN)
    world.journal = [BEGUN]
    assert ended(world) is None
    shut = moved(BEGUN)
    shut.values["away.writes"], shut.values["away.fence"] = "frozen", {"term": 1, "hold": "h", "retired": False}
    shut.plan = plan(shut.values | remembered(BEGUN), REPLACE)
    assert ended(shut) is None
    for one in (world, shut):
        assert one.executed[StepKind.OPEN] < one.executed[StepKind.REDIRECT]


def test_a_path_that_went_out_of_sight_hides_no_redirect_that_is_due() -> None:
    """A run that goes on tries every path once more, where a fresh plan could only say that nobody can see one."""
    world = moved(BEGUN)
    world.journal.append(record(2, RecordKind.STEP_INTENT, {}, step="01-stabilize"))
    del world.values["access.mcp"]
    assert ended(world) is None
    assert StepKind.REDIRECT in world.executed


RETIRE_GATE = {
    "name": "T08",
    "title": "Retire",
    "guards": ["retire"],
    "approvers": ["ann@ops"],
    "allowedSigners": "allowed_signers",
}


def retiring() -> Simulated:
    """All that is left is to drill a failover of the new primary and to retire the fallback."""
    doc = document(
        desired={"primary": "away", "fallback": {"endpoint": "home", "mode": "retired"}},
        drills={
            "restore": {"maxAge": "30d"},
            "failover": {"argv": ["true"], "verify": DOCUMENT["spec"]["tasks"][0]["probes"]},
        },
        gates=[*DOCUMENT["spec"]["gates"], RETIRE_GATE],
        stabilization={"duration": "10s", "interval": "1s"},
    )
    values = switched(away__writes="open") | {
        "access.mcp": {"endpoint": "away"},
        "backup": {
            "taken_at": epoch_s(NOW),
            "checksum_ok": True,
            "encrypted": True,
            "manifest_digest": "sha256:1",
            **identity("away"),
        },
        "stabilization": PASSED,
        "document.recorded": {"term": 1, "identity": identity("away")},
        "document": {"exists": True},
        "drill.restore": {"passed": True, "at": epoch_s(NOW), **restored()},
    }
    world = Simulated(plan(values, doc))
    world.values = values
    return world


def test_the_fallback_is_retired_on_evidence_from_after_the_failover_drill() -> None:
    """What the drill broke is seen by whoever judges the retirement, also where this run has evidence on record."""
    for on_record in (False, True):
        world = retiring()
        world.after_failover = evidence(EvidenceStatus.FAILED)
        if on_record:
            world.check_evidence(None)
        world.run()
        assert [StepKind.FAILOVER_DRILL, StepKind.RETIRE] == list(world.executed)
        assert evidence(EvidenceStatus.FAILED) == world.judged[StepKind.RETIRE]


def test_the_end_of_a_run_says_what_it_implies() -> None:
    """A task that is done by a drill or the retirement is done where that was the wish."""
    ends = {}
    for world in (Simulated(PLAN), retiring()):
        world.run()
        ends[world.plan.spec.spec.desired.fallback.mode] = str(world.journal[-1].payload["implies"])
    for kind in ("failover-drill", "restore-drill", "retire"):
        assert kind not in ends[FallbackMode.FROZEN]
        assert kind in ends[FallbackMode.RETIRED]


def test_the_slow_facts_are_looked_at_before_the_fallback_is_retired() -> None:
    """After the drill and right before the gate; only what retiring left is looked at quickly."""
    world = retiring()
    world.run()
    assert [True, True, True, False] == world.looks


def test_a_run_that_an_earlier_release_began_watches_anew_and_ends() -> None:
    """What that one put on record does not say for which database; the plan goes on, and nothing is made again."""
    world = stabilizing()
    for index, one in enumerate(world.journal):
        payload = {key: value for key, value in one.payload.items() if key != "identity"}
        world.journal[index] = one.model_copy(update={"payload": payload})
    for seconds in range(12):
        world.now += timedelta(seconds=1)
        if seconds == 0:
            assert isinstance(ended(world), Waiting)
            assert (0, 1, identity("away")) == tuple(
                looks(world)[-1][key] for key in ("observed_s", "looks", "identity")
            )
        elif RecordKind.RUN_FINISHED not in {record.kind for record in world.journal}:
            ended(world)
    assert (RecordKind.RUN_FINISHED, identity("away")) == (
        world.journal[-1].kind,
        world.journal[-1].payload["identity"],
    )


# Looks that a stabilizing run does not get


def stabilizing(max_failures: int = 2, seconds: int = 3) -> Simulated:
    """Moved, and looked at twice within so many seconds; ten of them are demanded."""
    wanted = {"duration": "10s", "interval": "1s", "maxFailures": max_failures}
    world = Simulated(plan(doc=document(transfer={"method": "dump", "targetContent": "replace"}, stabilization=wanted)))
    world.real_stabilization = True
    for _ in range(2):
        error = ended(world)
        assert isinstance(error, Waiting), error
        world.now += timedelta(seconds=seconds)
    return world


UNSEEN = {
    "primary-unknown": ("away.register", "away.writes", "away.identity", "away.fence", "away.reach"),
    "primary-unreachable": ("away.reach", "away.writes"),
    "writability-unknown": ("away.writes",),
    "access-unknown": ("access.mcp",),
}


def looks(world: Simulated) -> list[dict[str, JsonValue]]:
    """What is on record of the stabilization."""
    return [one.payload for one in world.journal if one.kind is RecordKind.FACT and one.payload["kind"] == "stabilize"]


@pytest.mark.parametrize("code", UNSEEN)
def test_a_refused_look_of_a_stabilizing_run_is_a_bad_one(code: str) -> None:
    """Shaped as one that the step took, with the time of this look: the next good one counts from here only."""
    world = stabilizing()
    before = looks(world)[-1]
    hidden = {key: world.values.pop(key) for key in UNSEEN[code]}
    error = ended(world)
    assert isinstance(error, Unseen), error
    assert (code, Exit.ERROR) == (error.code, error.exit_status)
    assert "on record as a bad look of the stabilization: 1 so far, 2 tolerated" in error.details
    bad = looks(world)[-1]
    assert before.keys() == bad.keys()
    assert (1, "running", 1, 3, epoch_s(world.now)) == tuple(
        bad[key] for key in ("failures", "state", "term", "looks", "last_look")
    )
    assert RecordKind.STEP_WAITING is world.journal[-1].kind
    world.values |= hidden
    world.now += timedelta(seconds=1)
    assert isinstance(ended(world), Waiting)
    assert (1, "healthy", 7) == tuple(looks(world)[-1][key] for key in ("failures", "last", "observed_s"))


def test_too_many_refused_looks_end_a_stabilization() -> None:
    """With the step's own refusal and its record; after that nobody stabilizes, and nothing more is recorded."""
    world = stabilizing(max_failures=1)
    for key in UNSEEN["primary-unknown"]:
        del world.values[key]
    assert isinstance(ended(world), Unseen)
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert ("stabilization-failed", "which endpoint is primary could not be observed") == (error.code, error.details[0])
    assert ("failed", 2) == (looks(world)[-1]["state"], looks(world)[-1]["failures"])
    assert "stabilization-failed" in [
        one.payload["code"] for one in world.journal if one.kind is RecordKind.STEP_FAILED
    ]
    again, count = ended(world), len(looks(world))
    assert isinstance(again, StatehubError)
    assert ("primary-unknown", count) == (again.code, len(looks(world)))
    assert not isinstance(again, Unseen)


def test_a_veto_hides_no_bad_look() -> None:
    """Policies stop a run while the fallback accepts writes; where nothing looks bad, nothing is recorded."""
    world = stabilizing()
    world.allowed, count = False, len(looks(world))
    assert Exit.VETOED == getattr(ended(world), "exit_status", None)
    assert count == len(looks(world))
    world.values["home.writes"] = "open"
    assert Exit.VETOED == getattr(ended(world), "exit_status", None)
    assert (1, "the fallback accepts writes") == (looks(world)[-1]["failures"], looks(world)[-1]["last"])


def test_a_refusal_of_a_run_that_does_not_stabilize_records_nothing() -> None:
    """Neither before it looked for the first time, nor for the stabilization of another run, term or plan."""
    passed = Simulated(PLAN)
    passed.run()
    del passed.journal[-3:]  # the operating model and the end
    killed = stabilizing()
    killed.journal = [one for one in killed.journal if one.payload.get("kind") != "stabilize"]
    foreign = stabilizing()
    foreign.journal = [
        one.model_copy(update={"run": "other"}) if one.kind is RecordKind.FACT else one for one in foreign.journal
    ]
    later = stabilizing()
    later.journal.append(record(99, RecordKind.FACT, {"kind": "decide", "state": "passed", "term": 2}, run="back"))
    for world in (passed, killed, foreign, later):
        for key in UNSEEN["primary-unknown"]:
            del world.values[key]
        before = looks(world)
        error = ended(world)
        assert isinstance(error, StatehubError)
        assert ("primary-unknown", before) == (error.code, looks(world))


def test_a_primary_that_goes_away_during_a_look_does_not_lose_what_was_observed() -> None:
    """The step cannot read the register any more; which decision it watches is on record."""
    world = stabilizing()

    def go_away() -> None:
        for key in UNSEEN["primary-unknown"]:
            world.values.pop(key, None)

    calm = stabilizing()
    ended(calm)
    world.mishaps = {calm.executed[StepKind.STABILIZE]: go_away}
    assert isinstance(ended(world), Waiting)
    assert (1, 1, 6) == tuple(looks(world)[-1][key] for key in ("term", "failures", "observed_s"))


@pytest.mark.parametrize("minutes", [1, 11])
def test_nobody_is_held_on_facts_that_took_long_to_get_here(minutes: int) -> None:
    """Filling takes hours, in which a backup may go; the slow facts are looked at again before writers wait, once."""
    world = Simulated(PLAN)
    world.kept_for = timedelta(minutes=minutes)
    world.run()
    assert undisturbed().looks_before_hold.count(True) + (minutes > 10) == world.looks_before_hold.count(True)
    assert {"away"} == world.open


def test_a_gate_is_passed_when_its_step_begins_and_not_when_policies_still_object() -> None:
    """Its deciding clock stops only then: a vetoed run can't keep an approval alive."""
    world = Simulated(PLAN)
    world.after, judged = True, undisturbed().executed[StepKind.PREPARE_TARGET]
    world.mishaps = {judged: lambda: setattr(world, "allowed", False)}
    assert isinstance(ended(world), StatehubError)
    assert RecordKind.GATE_PASSED not in {record.kind for record in world.journal}


def assert_refused_and_reopened(world: Simulated, status: Exit) -> None:
    """Whatever the run ended with, the old primary serves and the record says that it was given up."""
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert status == error.exit_status
    assert "home" in world.open
    assert not world.decided
    assert RecordKind.RUN_ABORTED in {record.kind for record in world.journal}


@pytest.mark.parametrize("name", ["home", "away"])
def test_a_database_that_took_the_place_of_another_in_the_middle_of_a_run_is_not_touched(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gate and no policy stands before emptying the target; a tunnel that is bound anew leads to somebody else's."""
    world = Simulated(PLAN)
    check = world.check_evidence

    def check_and_swap(stage: object) -> None:
        check(stage)
        world.values[f"{name}.identity"] = identity("somebody else's")

    monkeypatch.setattr(world, "check_evidence", check_and_swap)
    told = ended(world)
    assert isinstance(told, StatehubError)
    assert Exit.STALE_PLAN == told.exit_status
    assert told.details[0].startswith(f"{name}.identity: ")
    assert {StepKind.CHECK_EVIDENCE} == set(world.executed)


def test_a_plan_that_is_a_refusal_is_refused_for_what_it_says() -> None:
    """Whatever policies would say about a world of which nothing is known."""
    unseen = Refused(code="primary-unknown", what="nobody could be asked", remedy="make the databases reachable")
    world = Simulated(PLAN.model_copy(update={"steps": (), "trajectory": PLAN.trajectory[:1], "refused": unseen}))
    told = ended(world)
    assert isinstance(told, Refusal)
    assert ("primary-unknown", Exit.ERROR) == (told.code, told.exit_status)
    assert "make the databases reachable; then make the plan again" == told.hint
    assert not world.executed


def test_a_fresh_run_that_is_refused_touches_nothing() -> None:
    """Not even a record of it, before the gate; and nobody is told about a primary that was never touched."""
    world = Simulated(PLAN)
    world.approved = False
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (Exit.APPROVAL_MISSING, [], facts()) == (error.exit_status, world.journal, world.values)
    assert ("no approval found for this gate",) == error.details


def test_a_vetoed_run_is_still_held_to_the_world_of_its_plan() -> None:
    """A run that never took a step is not resumed but begun: what changed since the plan makes it stale."""
    world = Simulated(PLAN)
    world.allowed = False
    assert isinstance(ended(world), StatehubError)
    world.allowed = True
    world.values["home.version_num"] = 180000
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (Exit.STALE_PLAN, ("home.version_num: 150000 → 180000",)) == (error.exit_status, error.details)


def test_a_burned_term_makes_a_plan_stale_before_anybody_judges_it() -> None:
    """Somebody aborted it: there is nothing left that policies could allow."""
    world = Simulated(PLAN)
    world.left_pending()
    world.burn(None)
    world.allowed = False
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (Exit.STALE_PLAN, "decision term: 1 → 2") == (error.exit_status, error.details[0])
    assert "home" in world.open


# What has changed


def unseen(*gone: str, **changes: Any) -> tuple[str, ...]:
    """What has changed for a plan when nothing of these endpoints answers any more."""
    then = facts(home__in_recovery=False, away__in_recovery=False)
    known = {**then, **{key.replace("__", "."): value for key, value in changes.items()}}
    away = [key for key in then if key.split(".")[0] in gone]
    fresh = observation({key: value for key, value in known.items() if key not in away}, *away)
    return changed_facts(plan(then, REPLACE), fresh, ground(REPLACE, fresh, evidence(), now=NOW).world)


def test_facts_that_one_reason_made_unknown_share_a_line() -> None:
    """Twenty facts of an endpoint that is down are one piece of news, and what they leave open is no news at all."""
    assert (
        "home.identity, home.version_num, home.in_recovery, home.writes, home.register: known → unknown (time-out)",
    ) == unseen("home")


def test_a_fact_that_no_plan_names_and_the_world_rests_on_is_missed_too() -> None:
    """Without the record of the transfer the target looks unprepared: the run does not begin on what it cannot see."""
    world = Switching()
    seen = {key: value for key, value in world.values.items() if key != "away.transfer"}
    fresh = observation(seen, "away.transfer")
    now = ground(world.plan.spec, fresh, evidence(), now=NOW).world
    refused = stale(changed_facts(world.plan, fresh, now))
    assert ("world-unseen", ("away.transfer: known → unknown (time-out)",)) == (refused.code, refused.details)


@pytest.mark.parametrize("gone", [("home",), ("away",), ("home", "away")], ids=lambda gone: "+".join(gone))
def test_a_world_that_cannot_be_seen_makes_no_plan_stale(gone: tuple[str, ...]) -> None:
    """Another plan would see no more: the reason comes first, and the same plan goes on once that is mended."""
    refused = stale(unseen(*gone))
    assert ("world-unseen", Exit.ERROR) == (refused.code, refused.exit_status)
    assert refused.what.startswith("time-out: ")
    assert "run the same `apply` again" in refused.hint
    assert "world" not in str(refused.details)


def test_a_probe_that_cannot_be_asked_makes_no_plan_stale_and_one_that_fails_does() -> None:
    """What is not known now was shown when the plan was made; what is shown not to hold is a change."""
    asked, failed = evidence(EvidenceStatus.UNKNOWN), evidence(EvidenceStatus.FAILED)
    assert "world-unseen" == stale(changed_evidence(PLAN, asked)).code
    assert "plan-stale" == stale(changed_evidence(PLAN, failed)).code


def test_a_real_change_beside_what_cannot_be_seen_makes_a_plan_stale() -> None:
    """What is known to be different stays so when the rest can be seen again; both are told."""
    refused = stale(unseen("home", away__version_num=180000))
    assert ("plan-stale", Exit.STALE_PLAN) == (refused.code, refused.exit_status)
    assert ["away.version_num: 150000 → 180000"] == [line for line in refused.details if "unknown" not in line]
    frozen = stale(unseen("home", away__writes="frozen"))
    assert ("plan-stale", True) == (frozen.code, "world new.writes: open → frozen" in frozen.details)


def test_an_apply_that_cannot_see_its_databases_has_touched_nothing() -> None:
    """Nothing is on record, and the same apply goes on when they answer again."""
    world = Simulated(PLAN)
    there = world.values
    world.values = {key: value for key, value in there.items() if not key.startswith("home.")}
    world.unknown = tuple(key for key in there if key.startswith("home."))
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert ("world-unseen", []) == (error.code, world.journal)
    world.values, world.unknown = there, ()
    world.run()
    assert {"away"} == world.open


def test_only_evidence_that_changed_is_told() -> None:
    """Then and now, with the detail of now; what is asked no more is told as well."""
    failed = evidence(EvidenceStatus.FAILED)
    assert () == changed_evidence(PLAN, evidence())
    assert ("evidence T01/image: passed → failed ()",) == changed_evidence(PLAN, failed)
    assert ("evidence T01/image: passed → not asked",) == changed_evidence(PLAN, ())


def test_what_moves_by_itself_is_no_surprise() -> None:
    """Health and the age of a backup at any time; evidence and the fallback's content once the decision has fallen;
    nothing else."""
    serving = World(
        old=Side(writes=Writes.FROZEN, data=Data.EQUAL), new=Side(writes=Writes.OPEN), primary=Role.NEW, backup=Due.DONE
    )
    moved = World(
        old=Side(writes=Writes.FROZEN, data=Data.STALE, health=Health.FAILING),
        new=Side(writes=Writes.OPEN),
        primary=Role.NEW,
        backup=Due.DUE,
    )
    assert () == unexplained(serving, moved)
    before = World(primary=Role.OLD, backup=Due.DONE)
    assert () == unexplained(before, World(primary=Role.OLD, backup=Due.DUE))
    assert ("backup: done → unknown",) == unexplained(before, World(primary=Role.OLD, backup=Due.UNKNOWN))
    stray = World(old=Side(writes=Writes.OPEN, data=Data.DIVERGED), new=serving.new, primary=Role.NEW, backup=Due.DONE)
    assert ("old.writes: frozen → open", "old.data: equal → diverged") == unexplained(serving, stray)
    left = replace(serving, access=Access.SPLIT)
    assert () == unexplained(serving, left)
    assert ("access: unknown → split",) == unexplained(before, replace(before, access=Access.SPLIT))
    assert ("access: new → split",) == unexplained(replace(serving, access=Access.NEW), left)


# Abort


def test_an_abort_is_over_when_the_present_primary_serves() -> None:
    """It neither waits for stabilization nor retires a fallback, whatever the document wishes in the end."""
    retiring = document(desired={"primary": "away", "fallback": {"endpoint": "home", "mode": "retired"}})
    moved = World(
        old=Side(writes=Writes.FROZEN, data=Data.STALE),
        new=Side(writes=Writes.OPEN, data=Data.EQUAL),
        primary=Role.NEW,
        term=Term.SETTLED,
        access=Access.NEW,
        stabilization=Stable.NONE,
    )
    assert next_step(moved, wish_of(retiring, Direction.FORWARD)) is not None
    assert next_step(moved, wish_of(retiring, Direction.ABORT)) is None
    assert Wish(settle=False).fallback == wish_of(turned(retiring, "home"), Direction.ABORT).fallback
