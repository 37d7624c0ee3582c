"""Where one lane stands: facts before narrative, and never done by accident."""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from statehub_plan.history import Lane, history_of
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, DrillRecord, GateState, History, Record, RecordKind
from statehub_plan.model.spec import CutoverPlan, ObservedLane, Task
from statehub_plan.render.status_words import gate_sentence, headlines, told
from statehub_plan.status import GateStanding, LaneInput, LaneStanding, LaneStatus, TaskStanding, build_status
from tests.golden import examples
from tests.unit import facts

NOTHING = Lane((), "no record of it in the journal")


def lane(document: CutoverPlan | ObservedLane | None = None, **given: Any) -> LaneStatus:
    """The status of one lane, by default of the example before its cutover."""
    values: dict[str, Any] = {
        "document": document or examples.document(),
        "history": History(),
        "reached": NOTHING,
        "evidence": examples.evidence(),
        "plan": examples.plan(),
        "gates": (examples.gate_state(),),
    }
    return build_status([LaneInput(**(values | given))], examples.NOW).lanes[0]


def changed(**metadata: str) -> CutoverPlan:
    """The example with other metadata."""
    document = examples.document()
    return document.model_copy(update={"metadata": document.metadata.model_copy(update=metadata)})


def observed(*tasks: Task) -> ObservedLane:
    """A lane that is watched."""
    return ObservedLane.model_validate(
        {
            "apiVersion": "statehub-plan/v1",
            "kind": "ObservedLane",
            "metadata": {"name": "watched", "title": "Watched", "service": "state-hub", "lane": "deferred"},
            "spec": {"tasks": [task.model_dump(by_alias=True) for task in tasks]},
        }
    )


def test_before_the_cutover() -> None:
    """The document's own sentence is what comes next."""
    found = lane()
    assert LaneStanding.ACTIVE is found.standing
    assert found.next_action.startswith("T07: Get explicit approval")
    assert "Primary is wsl2 (no decision yet)." in told(found)


def test_while_it_is_under_way() -> None:
    """What the document says comes next is over; what is left by observation is told instead."""
    found = lane(plan=examples.plan(examples.after_cutover()), records=examples.cutover())
    assert LaneStanding.WAITING is found.standing
    assert "T07: watch railiance01 for 24h, then write the operating model." == found.next_action
    assert "T07 under way: decide, redirect done; left: stabilize, document." in told(found)
    assert any(sentence.startswith("Stabilization running until 2026-06-28 11:00:00 UTC") for sentence in told(found))
    assert "The fallback wsl2 is retained: frozen." in told(found)


def test_steps_that_were_practised_with_on_other_databases_are_not_done_here() -> None:
    """The journal has a whole move on record, and the registers know of no decision."""
    found = lane(records=examples.cutover("finished"))
    (task,) = (one for one in found.tasks if one.id == "T07")
    assert (TaskStanding.UNKNOWN, ()) == (task.standing, task.steps_done)
    assert "knows of decision term 1, and the registers of none" in task.detail


def test_a_lane_that_could_not_be_looked_at_is_blocked() -> None:
    """No plan, no claim."""
    found = lane(plan=None, problem="STATEHUB_WSL2_DSN is not set; export it")
    assert LaneStanding.BLOCKED is found.standing
    assert "T07: make it observable first: STATEHUB_WSL2_DSN is not set; export it" == found.next_action
    assert "Blocked: STATEHUB_WSL2_DSN is not set; export it." in told(found)


def test_a_fallback_that_accepts_writes_is_shouted() -> None:
    """Two writable sides are the one thing that must never be overlooked."""
    seen = examples.observation(list(examples.after_cutover()), examples.endpoint_facts(examples.OLD, writes="open"))
    found = lane(plan=examples.plan(seen), records=examples.cutover())
    assert "The fallback wsl2 ACCEPTS WRITES and must not." in told(found)


def test_an_unobservable_fallback_is_not_called_frozen() -> None:
    """What was frozen yesterday may not be today."""
    down = [fact for fact in examples.after_cutover() if not fact.id.startswith("wsl2.")]
    seen = examples.observation(down, examples.unknown("wsl2.reach", "timed out"))
    found = lane(plan=examples.plan(seen), records=examples.cutover())
    assert not any("retained: frozen" in sentence for sentence in told(found))
    assert any("could not be observed" in sentence for sentence in told(found))


def test_who_is_primary_who_takes_writes_and_where_clients_point_come_first() -> None:
    """What somebody asks first who comes to a service in trouble; between freeze and decision nobody takes writes."""
    assert (
        ("primary", "railiance01 since term 1, decided 2026-06-27 11:00:00 UTC"),
        ("writes", "accepted by railiance01; wsl2 is frozen"),
        ("clients", "pointed at railiance01"),
    ) == headlines(lane(plan=examples.plan(examples.after_cutover())))
    shut = examples.observation(
        list(examples.before_cutover()),
        examples.endpoint_facts(examples.OLD, writes="frozen", term=1),
        examples.endpoint_facts(examples.NEW, writes="frozen", register=[], term=1),
    )
    writes = dict(headlines(lane(plan=examples.plan(shut))))["writes"]
    assert "accepted by nobody; wsl2 is frozen; railiance01 is frozen" == writes


def test_one_reason_is_told_once() -> None:
    """A database that is down is one piece of news, whatever it keeps from being observed."""
    down = [fact for fact in examples.after_cutover() if not fact.id.startswith("wsl2.")]
    gone = [examples.unknown(name, "connection refused") for name in ("wsl2.reach", "wsl2.identity", "preflight")]
    found = lane(plan=examples.plan(examples.observation(down, *gone)), records=examples.cutover())
    assert 1 == " ".join(told(found)).count("connection refused")


def test_a_drill_whose_evidence_could_not_be_signed_has_not_failed() -> None:
    """It restored what it should; it does not count, and why is told."""
    unsigned = DrillRecord(kind="restore", passed=False, at=examples.NOW, detail={"state": "unsigned"})
    failed = DrillRecord(kind="restore", passed=False, at=examples.NOW, detail={"state": "failed"})
    assert any(
        "does not count, its evidence could not be signed" in line
        for line in told(lane(history=History(drills=(unsigned,))))
    )
    assert any("drill FAILED" in line for line in told(lane(history=History(drills=(failed,)))))


def test_a_drill_of_an_earlier_release_is_not_told_as_passed() -> None:
    """It compared less than a drill does now, and counts neither here nor for the policies."""
    payload: dict[str, JsonValue] = {"state": "passed", "report": {"schema_version": "statehub-plan/restore-drill/v1"}}
    drilled = facts.record(9, RecordKind.FACT, {"kind": "restore-drill", **payload})
    found = history_of(examples.document(), {}, (drilled,))
    assert [False] == [one.passed for one in found.drills]
    lines = [line for line in told(lane(history=found)) if "restore drill" in line]
    assert ["of an earlier release" in line and "passed" not in line for line in lines] == [True]


def test_a_drill_that_was_only_begun_is_told_as_that() -> None:
    """It is under way, or was interrupted: it has neither passed nor failed."""
    begun = DrillRecord(kind="failover", passed=False, at=examples.NOW, detail={"state": "begun"})
    lines = [line for line in told(lane(history=History(drills=(begun,)))) if "failover drill" in line]
    assert ["Newest failover drill was begun, and no outcome is on record"] == [
        line.rpartition(",")[0] for line in lines
    ]


def test_a_superseded_lane_says_by_what() -> None:
    """It is over, whatever the world shows."""
    found = lane(changed(superseded_by="cust-wp-0038"))
    assert LaneStanding.SUPERSEDED is found.standing
    assert "Superseded by cust-wp-0038." == told(found)[0]
    assert GateStanding.IDLE is found.gates[0].standing


def test_a_deferred_lane_waits_for_all_of_its_criteria() -> None:
    """One unmet or unknown criterion defers it; the sentence names what it depends on."""
    spec = examples.document().spec
    criterion = {"name": "first", "lane": "other", "anyOf": ["complete"]}
    criteria = CutoverPlan.model_validate(
        {
            **examples.document().model_dump(by_alias=True),
            "metadata": {**examples.document().metadata.model_dump(by_alias=True), "lane": "deferred"},
            "spec": {**spec.model_dump(by_alias=True), "entryCriteria": [criterion]},
        }
    )
    found = lane(criteria, history=history_of(criteria, {}, ()))
    assert LaneStanding.DEFERRED is found.standing
    assert "Entry criteria depend on OTHER being complete." == told(found)[0]
    assert told(found)[1].startswith("Whether OTHER being complete holds is unknown: no document of lane other")


def test_an_observed_lane() -> None:
    """Its tasks are watched; when all of them are shown to be done the lane is."""
    found = lane(observed(Task(id="P1", title="Three nodes")), evidence=(), plan=None, gates=())
    assert LaneStanding.OBSERVED is found.standing
    assert ("All tasks are todo.",) == told(found)
    assert "Nothing to do here now." == found.next_action


def gate(state: GateState | None, plan: Plan | None = None) -> str:
    """What is said about the example's gate."""
    return gate_sentence(lane(plan=plan or examples.plan(), gates=(state,) if state else ()).gates[0])


def test_gates() -> None:
    """Missing and refused approvals are told with the reason; an approved gate with its clock."""
    asks = "explicit approval required for: Freeze WSL2 writes and make the cluster State Hub primary."
    missing = "Not approved: 0 of 1 approvals (operator@state-hub.example); no approval yet."
    assert f"{asks} {missing}" == gate(examples.gate_state())
    refused = gate(examples.gate_state(examples.approval(ApprovalStatus.EXPIRED)))
    assert "1 found that does not count: expired" in refused
    assert "Approved: operator@state-hub.example, valid until 2026-06-27 13:00 UTC." in gate(
        examples.gate_state(examples.approval())
    )
    assert "Unknown: its approvals were not looked at." in gate(None)


def test_a_gate_that_was_passed() -> None:
    """After the cutover nobody is asked for the same approval again."""
    found = lane(plan=examples.plan(examples.after_cutover()), records=examples.cutover())
    assert GateStanding.PASSED is found.gates[0].standing
    assert examples.RUN in found.gates[0].detail


# Runs that are not over


def interrupted(
    *steps: str, section: tuple[str, ...] = (), failed: str | None = None, direction: str = "forward"
) -> Any:
    """Records of a run that was left after these steps, in a switch or with a failure."""
    chain = examples.Chain()
    chain.begin(direction)
    for step in steps:
        chain.step(step, "done")
    if section or failed:
        chain.add(
            RecordKind.GATE_PASSED, section[0] if section else "04-hold", gate="CUST-WP-0011-T07", fingerprints=[]
        )
    if section:
        chain.add(RecordKind.STEP_INTENT, section[0], kind="hold", subject=None, section=list(section))
    if failed:
        chain.add(RecordKind.STEP_INTENT, "04-hold", kind="hold", subject=None)
        chain.add(RecordKind.STEP_FAILED, "04-hold", code="some-refusal", what=failed)
    return tuple(chain.records)


SWITCH = ("03-hold", "08-decide", "10-redirect")


def test_gates_of_an_interrupted_run_are_told_as_the_run_has_left_them() -> None:
    """Approvals of its plan say nothing about a plan made now; that they are about other effects is no news."""
    state = examples.gate_state(examples.approval(ApprovalStatus.OTHER_EFFECTS))
    passed = lane(records=interrupted("01-check-evidence", section=SWITCH), gates=(state,)).gates[0]
    assert (GateStanding.PASSED, True) == (passed.standing, examples.RUN in passed.detail)
    ahead = lane(records=interrupted("01-check-evidence"), gates=(state,)).gates[0]
    assert (GateStanding.UNKNOWN, True) == (ahead.standing, "goes by its own plan" in ahead.detail)


def test_before_its_decision_an_interrupted_run_may_be_given_up() -> None:
    """Both ways out, and what stopped it first where it said so."""
    killed = lane(records=interrupted(section=SWITCH))
    assert "in its switch (03-hold to 10-redirect) was interrupted, before its decision" in killed.because
    assert killed.next_action.startswith("Go on: run `apply` again with the plan of the interrupted run; or keep")
    failed = lane(records=interrupted(failed="schema public is not empty"))
    assert failed.next_action.startswith("Mend what stopped it first: schema public is not empty. Then run `apply`")
    assert "`abort`" in failed.next_action


def test_behind_its_decision_an_interrupted_run_only_goes_on() -> None:
    """The switch has one intent at its hold; that it has decided is in the register, and there is nothing to abort."""
    found = lane(records=interrupted(section=SWITCH), plan=examples.plan(examples.after_cutover()))
    assert "was interrupted, after its decision: railiance01 is primary by term 1" in found.because
    assert found.next_action.endswith("the interrupted run; railiance01 is primary already.")


def test_an_interrupted_run_whose_decision_nobody_can_see_is_not_given_up() -> None:
    """Whether it decided is to be known before anybody keeps the present primary."""
    seen = examples.observation(
        [fact for fact in examples.after_cutover() if not fact.id.startswith("railiance01.")],
        examples.unknown("railiance01.register", "timed out"),
    )
    for plan in (None, examples.plan(seen)):
        found = lane(records=interrupted(section=SWITCH), plan=plan)
        assert "whether it has decided could not be observed" in found.because
        assert "abort" not in found.next_action


def test_a_slot_that_a_killed_fill_has_left_is_told() -> None:
    """It keeps WAL on the primary's disk, which is what fills it."""
    slot: dict[str, JsonValue] = {"name": "statehub_plan_1_2", "database": "statehub", "active": False, "ours": True}
    seen = examples.observation(
        list(examples.before_cutover()), examples.known("wsl2.slots", [{**slot, "retained_bytes": 12 << 20}])
    )
    found = lane(records=interrupted("01-check-evidence"), plan=examples.plan(seen))
    (sentence,) = (one for one in told(found) if "slot" in one)
    assert sentence.startswith("wsl2 keeps 12 MB of WAL for slot statehub_plan_1_2, which nobody reads, ")
    assert "pg_drop_replication_slot" in " ".join(told(lane(plan=examples.plan(seen))))


def went_back() -> tuple[tuple[Record, ...], Observation]:
    """The way back has decided and is stabilizing: its records, and what is seen then."""
    chain = examples.Chain("back")
    chain.begin("switchback", term=2)
    looked: dict[str, JsonValue] = {"endpoint": examples.OLD, "term": 2, "looks": 1, "failures": 0}
    looked |= {"identity": examples.identity_of(examples.OLD), "last": "healthy"}
    chain.add(RecordKind.STEP_INTENT, "12-stabilize", kind="stabilize", subject=examples.OLD)
    chain.fact("stabilize", "running", "switchback", **looked)
    chain.add(RecordKind.STEP_WAITING, "12-stabilize", **looked)
    decided: dict[str, JsonValue] = {"term": 2, "primary": examples.OLD, "run": "back", "decided_at": 1782560000}
    seen = examples.observation(
        list(examples.after_cutover()),
        examples.endpoint_facts(examples.OLD, writes="open", register=[decided]),
        examples.endpoint_facts(examples.NEW, writes="frozen", term=2),
        examples.access_facts(examples.OLD),
        examples.known("stabilization", looked | {"state": "running"}),
    )
    return tuple(chain.records), seen


def test_while_the_way_back_stabilizes_the_way_there_is_not_begun_again() -> None:
    """What comes next is the rest of the way back, by its own plan."""
    records, seen = went_back()
    found = lane(records=records, plan=examples.plan(seen))
    assert LaneStanding.WAITING is found.standing
    assert found.next_action.startswith(
        "Go on with the way back's own plan (`watch`, or `apply` again later): watch wsl2"
    )
    assert found.steps_left[0].startswith("watch wsl2")
    assert "goes by its own plan" in found.gates[0].detail


def test_a_decision_outside_of_this_journal() -> None:
    """The register says that it was decided; which steps were done this journal cannot tell."""
    found = lane(plan=examples.plan(examples.after_cutover()))
    assert any("decision term 1 was not made by a run in this journal" in sentence for sentence in told(found))


def test_after_a_switchback() -> None:
    """The way there is open again; what was decided, and what the other side is now, is told all the same."""
    back: dict[str, JsonValue] = {"term": 2, "primary": examples.OLD, "run": "back", "decided_at": 1782560000}
    seen = examples.observation(
        list(examples.after_cutover()),
        examples.endpoint_facts(examples.OLD, writes="open", register=[back]),
        examples.endpoint_facts(examples.NEW, writes="frozen", term=2),
        examples.access_facts(examples.OLD),
    )
    found = lane(plan=examples.plan(seen), records=examples.cutover("finished"))
    assert LaneStanding.ACTIVE is found.standing
    assert not found.moved
    assert found.next_action.startswith("T07: Get explicit approval")
    assert any(sentence.startswith("Primary is wsl2 since term 2") for sentence in told(found))
    assert "The fallback railiance01 is retained: frozen." in told(found)
