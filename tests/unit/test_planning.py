"""From facts to plans: which steps, which digests, which refusals."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from statehub_plan.abstraction import compared_as, ground
from statehub_plan.apply.staleness import changed_facts
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import canonical
from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Direction, PlanFile
from statehub_plan.model.spec import FallbackMode
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish, unfold
from statehub_plan.planning import read_plan_file, turned
from statehub_plan.registers import observed_decision, read_register
from statehub_plan.world import Access, Data, Due, Follows, Role, Term, TransferStage, Writes, with_side
from tests.unit.facts import (
    DOCUMENT,
    NOW,
    PASSED,
    decided,
    document,
    evidence,
    facts,
    fenced,
    identity,
    observation,
    plan,
    restored,
    switched,
)
from tests.unit.simulated import following

FULL = [
    "check-evidence",
    "prepare-target",
    "hold",
    "copy",
    "sync-sequences",
    "compare",
    "freeze",
    "decide",
    "open",
    "redirect",
    "stabilize",
    "document",
]
REPLACE = document(transfer={"method": "dump", "targetContent": "replace"})


def kinds(made: Any) -> list[str]:
    """The step kinds of a plan."""
    return [step.kind.value for step in made.steps]


def test_a_forward_plan_has_every_step_in_the_order_that_loses_nothing() -> None:
    """The whole main job, step by step; each says why."""
    made = plan(doc=REPLACE)
    assert FULL == kinds(made)
    assert made.refused is None
    assert all(step.serves and step.because for step in made.steps)
    assert ("home", "away", 1) == (made.old, made.new, made.term)


def test_only_hold_freeze_and_decide_stand_behind_the_gate_of_the_document() -> None:
    """The gate guards what it says it guards."""
    assert {"hold", "freeze", "decide"} == {step.kind.value for step in plan(doc=REPLACE).steps if step.gate == "T07"}


def test_foreign_content_on_the_target_is_refused_unless_the_plan_says_replace() -> None:
    """What somebody put there is not overwritten on a guess."""
    made = plan()
    assert made.refused is not None
    assert "target-not-empty" == made.refused.code


@pytest.mark.parametrize("lost", ["home", "away"])
def test_an_unreachable_endpoint_means_a_plan_that_refuses_and_says_which(lost: str) -> None:
    """Unknown is not fine."""
    values = {key: value for key, value in facts().items() if not key.startswith(f"{lost}.")}
    made = plan(values, REPLACE)
    assert made.refused is not None
    assert made.refused.code in {"primary-unknown", "old-unreachable", "new-unreachable"}
    assert StepKind.HOLD not in [step.kind for step in made.steps]


def test_a_replan_of_the_same_world_has_the_same_effects_and_keeps_its_approvals() -> None:
    """Approvals bind to effects, not to the minute of planning, the author or a fresh backup."""
    stale_backup = facts() | {"backup": None}
    one = plan(doc=REPLACE)
    later = plan(stale_backup, REPLACE, now=NOW + timedelta(hours=1), author="eve@ops")
    assert "backup" in kinds(later)
    assert one.effects_digest == later.effects_digest


@pytest.mark.parametrize(
    "spec",
    [
        {"freeze": {"writerWait": "9s"}},
        {"compare": {"content": False}},
        {"stabilization": {"duration": "11s"}},
        {"desired": {"primary": "away", "fallback": {"endpoint": "home", "mode": "retired"}}},
        {"operatingModel": {"path": "other.md"}},
        {"policy": {"bundle": "elsewhere"}},
        {"backup": {"directory": "backups", "maxAge": "9d"}},
        {
            "tasks": [
                {"id": "T01", "title": "Image", "probes": [{"kind": "command", "name": "image", "argv": ["true"]}]}
            ]
        },
        {"access": [{**DOCUMENT["spec"]["access"][0], "file": "other.json"}]},
    ],
)
def test_any_changed_effect_changes_the_digest(spec: dict[str, Any]) -> None:
    """A wish that does something else needs new approvals."""
    base = {"transfer": {"method": "dump", "targetContent": "replace"}}
    assert plan(doc=document(**base)).effects_digest != plan(doc=document(**base, **spec)).effects_digest


def test_another_identity_or_term_changes_the_digest() -> None:
    """An approval for one pair of databases never covers another, and none is replayed in a later term."""
    digests = {
        plan(doc=REPLACE).effects_digest,
        plan(facts(away__identity=identity("elsewhere")), REPLACE).effects_digest,
        plan(facts(home__register=[{"term": 1, "primary": None}]), REPLACE).effects_digest,
    }
    assert 3 == len(digests)


def test_failed_evidence_refuses_and_names_no_write_step() -> None:
    """T01–T06 are shown to be done, not believed."""
    made = plan(doc=REPLACE, evidence=evidence(EvidenceStatus.FAILED))
    assert made.refused is not None
    assert ("evidence-incomplete", []) == (made.refused.code, kinds(made))


def test_switchback_is_the_same_planner_with_the_roles_exchanged() -> None:
    """Going back needs no code of its own."""
    values = switched(away__writes="open", backup=None) | {
        "access.mcp": {"endpoint": "away"},
        "stabilization": PASSED,
    }
    back = turned(REPLACE, "home")
    made = plan(values, back, evidence=(), direction=Direction.SWITCHBACK)
    assert ["backup", *FULL[1:]] == kinds(made)
    assert ("away", "home", 2) == (made.old, made.new, made.term)


def test_after_the_decision_only_finishing_steps_are_left() -> None:
    """A crash right after the point of no return goes forward."""
    assert ["open", "redirect", "stabilize", "document"] == kinds(plan(switched(away__writes="frozen"), REPLACE))


def test_a_pending_decision_with_its_proof_goes_forward_and_without_it_is_burned() -> None:
    """Frozen and undecided: the proof of that very hold decides which way."""
    proof = {"stage": "proved", "term": 1, "hold": "h1", "source": identity("home")["system_identifier"]}
    values = facts(
        home__writes="frozen", home__fence=fenced(1, hold="h1"), away__writes="frozen", away__fence=fenced(1)
    )
    assert StepKind.DECIDE == plan(values | {"away.transfer": proof}, REPLACE).steps[0].kind
    other_hold = {**proof, "hold": "h2"}
    assert ["burn", "open"] == kinds(plan(values | {"away.transfer": other_hold}, REPLACE))[:2]
    abort = plan(values | {"away.transfer": proof}, turned(REPLACE, "home"), evidence=())
    assert ["burn", "open"] == kinds(abort)
    assert {None} == {step.gate for step in abort.steps}


def test_locks_that_are_not_our_own_make_writability_unknown() -> None:
    """Somebody else's hold is not a world to plan in."""
    values = facts(home__writes="held", home__fence=fenced(None, hold="h9"))
    ours = ground(REPLACE, observation(values), (), now=NOW, hold="h9").world
    theirs = ground(REPLACE, observation(values), (), now=NOW).world
    assert (Writes.HELD, Writes.UNKNOWN) == (ours.old.writes, theirs.old.writes)


def test_a_stage_beyond_prepared_counts_only_under_its_own_hold() -> None:
    """A copy made under a hold that is gone is worth nothing."""
    row = {"stage": "arrived", "term": 1, "hold": "h1", "source": identity("home")["system_identifier"]}
    values = facts(
        home__writes="held",
        home__fence=fenced(None, hold="h1"),
        away__writes="frozen",
        away__fence=fenced(1),
        away__transfer=row,
    )
    assert TransferStage.ARRIVED is ground(REPLACE, observation(values), (), now=NOW, hold="h1").world.transfer
    assert TransferStage.NONE is ground(REPLACE, observation(values), (), now=NOW, hold="h2").world.transfer


def test_with_one_register_out_of_reach_only_a_serving_side_is_known_to_be_primary() -> None:
    """A source is always frozen before a decision falls elsewhere, so a side that serves is primary."""
    values = {key: value for key, value in facts().items() if not key.startswith("away.")}
    assert "home" == read_register(REPLACE, observation(values)).primary
    frozen = values | {"home.writes": "frozen", "home.fence": fenced(1)}
    assert read_register(REPLACE, observation(frozen)).primary is None


def test_a_writable_restore_never_becomes_primary_because_the_real_one_is_out_of_sight() -> None:
    """The workstation sleeps, the cluster's old restore accepts writes: nobody may send the clients there."""
    values = {key: value for key, value in facts().items() if not key.startswith("home.")}
    made = plan(values, REPLACE)
    assert made.refused is not None
    assert ("primary-unknown", []) == (made.refused.code, kinds(made))


def test_before_any_decision_disagreeing_access_paths_leave_the_primary_unknown() -> None:
    """The tool never guesses who is primary."""
    values = facts() | {"access.mcp": {"endpoint": None}}
    assert read_register(REPLACE, observation(values)).primary is None


def test_the_world_after_the_switch_is_seen_as_it_is() -> None:
    """Facts become exactly the finite world that the model's steps lead to."""
    world = ground(REPLACE, observation(switched(away__writes="open")), (), now=NOW).world
    assert (Role.NEW, Term.SETTLED, Access.OLD) == (world.primary, world.term, world.access)
    assert (Writes.FROZEN, Data.STALE) == (world.old.writes, world.old.data)


TWO_PATHS = document(
    access=[{**DOCUMENT["spec"]["access"][0], "name": name, "file": f"{name}.json"} for name in ("mcp", "cli")]
)


@pytest.mark.parametrize(
    ("known", "expected"),
    [("home", Access.SPLIT), ("away", Access.UNKNOWN)],
)
@pytest.mark.parametrize("dark", ["unread", "foreign"])
def test_a_path_out_of_sight_hides_no_client_that_can_be_taken_along(known: str, expected: Access, dark: str) -> None:
    """After the decision a path that is known to lead to the frozen side is redirected; with none such, nothing says
    that all of them lead to the new one."""
    values = switched(away__writes="open") | {"access.mcp": {"endpoint": known}}
    values |= {"access.cli": {"endpoint": None}} if dark == "foreign" else {}
    made = plan(values, TWO_PATHS)
    assert expected is made.trajectory[0].access
    if known == "home":
        assert ["redirect", "stabilize", "document"] == kinds(made)
    else:
        assert made.refused is not None
        assert ("access-unknown", []) == (made.refused.code, kinds(made))


@pytest.mark.parametrize("known", ["home", "away"])
def test_nobody_crosses_while_a_path_is_out_of_sight(known: str) -> None:
    """Before the decision one path that cannot be read is enough, wherever the others lead."""
    back = turned(TWO_PATHS, "home")
    values = switched(away__writes="open") | {"access.mcp": {"endpoint": known}}
    made = plan(values, back, evidence=())
    assert made.refused is not None
    assert (Access.UNKNOWN, "access-unknown") == (made.trajectory[0].access, made.refused.code)


@pytest.mark.parametrize("sealed", [False, True], ids=["edited", "sealed anew"])
def test_a_saved_plan_is_read_back_and_any_changed_byte_is_noticed(sealed: bool) -> None:
    """A plan file is what was shown, or it is refused; sealing it anew doesn't help: an approver reads the words of the
    steps and signs their effects, so the words are made again from the facts."""
    text = canonical(PlanFile.seal(plan(doc=REPLACE)))

    def parse(data: bytes) -> PlanFile:
        return PlanFile.model_validate_json(data)

    assert plan(doc=REPLACE) == read_plan_file(text, "f", parse)
    tampered = json.loads(text)
    tampered["plan"]["steps"][2]["title"] = "nothing to see here"
    if sealed:
        tampered = PlanFile.seal(parse(json.dumps(tampered).encode()).plan).model_dump(mode="json", by_alias=True)
    with pytest.raises(StatehubError) as refused:
        read_plan_file(json.dumps(tampered).encode(), "f", parse)
    assert ("plan-tampered", Exit.STALE_PLAN) == (refused.value.code, refused.value.exit_status)


def test_staleness_is_told_fact_by_fact() -> None:
    """What moved since the plan was made is named, then and now."""
    made = plan(doc=REPLACE)
    later = facts(home__version_num=160000) | {"access.mcp": {"endpoint": "away"}}
    fresh = observation(later)
    lines = changed_facts(made, fresh, ground(REPLACE, fresh, evidence(), now=NOW).world)
    assert "home.version_num: 150000 → 160000" in lines
    assert 'access.mcp: "home" → "away"' in lines
    assert () == changed_facts(made, made.observation, made.trajectory[0])


def test_words_that_only_people_read_are_no_effect() -> None:
    """A corrected title does not cost anybody an approval."""
    gate = {**DOCUMENT["spec"]["gates"][0], "title": "Another title"}
    assert plan(doc=document(gates=[gate])).effects_digest == plan(doc=document()).effects_digest


def test_clients_that_were_pointed_too_early_do_not_make_a_primary() -> None:
    """Access already at the target, both sides writable, nothing decided: nobody is frozen and nothing is done."""
    made = plan(facts() | {"access.mcp": {"endpoint": "away"}}, REPLACE)
    assert made.refused is not None
    assert ("primary-unknown", []) == (made.refused.code, kinds(made))
    assert "point the clients at the side that is primary" in made.refused.what


def test_exchanged_connection_strings_are_noticed_by_where_a_decision_stands() -> None:
    """The register of an endpoint only ever names that endpoint."""
    values = facts(home__register=decided(1, "away"))
    made = plan(values, REPLACE)
    assert made.refused is not None
    assert ("primary-unknown", []) == (made.refused.code, kinds(made))
    assert "exchanged" in made.refused.what


@pytest.mark.parametrize("pointed", ["home", "away", None])
def test_before_any_decision_the_side_that_a_hold_froze_was_primary_wherever_clients_point(pointed: str | None) -> None:
    """An access file that cannot be read must not strand a frozen primary."""
    values = facts(
        home__writes="frozen", home__fence=fenced(1, hold="h1"), away__writes="frozen", away__fence=fenced(1)
    )
    abort = plan(values | {"access.mcp": {"endpoint": pointed}}, turned(REPLACE, "home"), evidence=())
    assert ["burn", "open"] == kinds(abort)[:2]


@pytest.mark.parametrize("pointed", ["home", "away"])
@pytest.mark.parametrize("wish", ["home", "away"])
def test_a_register_that_forgot_a_decision_opens_nothing(pointed: str, wish: str) -> None:
    """The new side's connection string leads to an empty database, which would burn a term that was decided long ago;
    opened again, the old primary would be writable beside the one that clients use."""
    values = switched(away__register=[]) | {"access.mcp": {"endpoint": pointed}}
    values["decided"] = {"term": 1, "primary": "away"}
    made = plan(values, turned(REPLACE, wish), evidence=())
    assert made.refused is not None
    assert ("primary-unknown", []) == (made.refused.code, kinds(made))
    assert "the journal knows that term 1 made away primary" in made.refused.what


def test_a_later_decision_that_its_register_forgot_is_not_replaced_by_an_earlier_one() -> None:
    """After a switchback the same: the side of term 1 is not primary again because the other one forgot term 2."""
    values = switched(away__writes="frozen", away__fence=fenced(2, hold="h2"), home__writes="open")
    known = values | {"decided": {"term": 2, "primary": "home"}}
    assert read_register(REPLACE, observation(known)).primary is None
    kept = known | {"home.register": decided(2, "home")}
    assert "home" == read_register(REPLACE, observation(kept)).primary


def test_a_journal_that_is_behind_or_names_a_side_of_another_plan_doubts_nothing() -> None:
    """Another operator's journal may know more; an endpoint that was renamed is not in this one."""
    for known in ({"term": 1, "primary": "away"}, {"term": 9, "primary": "renamed"}, {}):
        assert "away" == read_register(REPLACE, observation(switched() | {"decided": known})).primary


def test_a_side_that_was_opened_by_hand_is_not_believed_over_its_own_later_mark() -> None:
    """Its mark says that a later term froze it; the other register would say what was decided then."""
    values = {key: value for key, value in switched(away__writes="open").items() if not key.startswith("home.")}
    reopened = values | {"away.fence": fenced(2, hold="h2")}
    assert "away" == read_register(REPLACE, observation(values)).primary
    assert read_register(REPLACE, observation(reopened)).primary is None


def test_a_fallback_that_was_shut_again_after_somebody_opened_it_may_hold_rows_of_its_own() -> None:
    """Only a fallback that its hold froze is known to hold nothing else."""
    shut_again = switched(away__writes="open", home__fence=fenced(1))
    assert Data.DIVERGED is ground(REPLACE, observation(shut_again), (), now=NOW).world.old.data


RETIRING = document(
    desired={"primary": "away", "fallback": {"endpoint": "home", "mode": "retired"}},
    drills={
        "restore": {"maxAge": "30d"},
        "failover": {"argv": ["true"], "verify": DOCUMENT["spec"]["tasks"][0]["probes"]},
    },
)


def stabilized(**drills: Any) -> dict[str, Any]:
    """The move is over but for retiring the fallback; with these drills on record."""
    return switched(away__writes="open") | {
        "access.mcp": {"endpoint": "away"},
        "stabilization": PASSED,
        "document.recorded": {"term": 1, "identity": identity("away")},
        "document": {"exists": True},
        **{f"drill.{name}": {"passed": True, "at": int(NOW.timestamp()), **detail} for name, detail in drills.items()},
    }


def retirable(drill: dict[str, Any], decided_at: datetime = NOW - timedelta(days=1), **newest: Any) -> dict[str, Any]:
    """The move is over since `decided_at`, the newest backup is one of the new primary, and `drill` is on record."""
    backup = {"manifest_digest": "sha256:1", "encrypted": True, **identity("away"), **newest}
    row = decided(1, "away")[0] | {"decided_at": int(decided_at.timestamp())}
    values = stabilized(restore=drill)
    return values | {"backup": values["backup"] | backup, "away.register": [row]}


def drill_state(values: dict[str, Any], *unknown: str) -> Due:
    """What the restore drill on record is worth for retiring the fallback."""
    known = {key: value for key, value in values.items() if key not in unknown}
    return ground(RETIRING, observation(known, *unknown), (), now=NOW).world.restore_drill


def test_a_restore_drill_stands_for_the_present_backups() -> None:
    """Those taken since the decision, whichever of them was restored; or the newest, whatever the clocks say."""
    assert Due.DONE is drill_state(retirable(restored()))
    assert Due.DONE is drill_state(retirable(restored(), manifest_digest="sha256:later"))
    assert Due.DONE is drill_state(retirable(restored(), decided_at=NOW))
    assert ["failover-drill", "retire"] == kinds(plan(retirable(restored()), RETIRING))


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": identity("home")},
        {"identity": identity("away") | {"database": "wiki"}},
        {"identity": None},
        {"encrypted": False},
        {"encrypted": None},
        {"taken_at": (NOW - timedelta(days=730)).isoformat()},
        {"taken_at": None},
        {"taken_at": (NOW - timedelta(days=2)).isoformat(), "drilled_at": None},
        {"restored_on": "home"},
        {"restored_on": None},
        {"restored_on": "a name that the plan has no more"},
        {"schema_version": "statehub-plan/restore-drill/v1"},
        {"schema_version": None},
    ],
)
def test_a_restore_drill_of_something_else_is_due_again(changes: dict[str, Any]) -> None:
    """Of another database under the same name, of a plain backup, of one that is years old, on the fallback itself; or
    recorded by a release that did not say, or compared less."""
    values = retirable(restored(**changes), manifest_digest="sha256:later")
    assert Due.DUE is drill_state(values)
    assert ["restore-drill", "failover-drill", "retire"] == kinds(plan(values, RETIRING))


def test_a_restore_drill_of_before_the_decision_stands_for_the_newest_backup_only() -> None:
    """What the endpoint held before it was primary is not what has to be had back."""
    assert Due.DUE is drill_state(retirable(restored(), decided_at=NOW, manifest_digest="sha256:later"))


def test_a_restore_drill_on_the_cluster_of_the_fallback_does_not_count() -> None:
    """By whatever name it was reached; where both endpoints are in one cluster, only the name can tell."""
    there = restored() | {"restored_on": "away"}
    there["report"]["restored_on"] = {"system_identifier": identity("home")["system_identifier"]}
    assert Due.DUE is drill_state(retirable(there))
    third = restored()
    third["report"]["restored_on"] = {"system_identifier": "7"}
    assert Due.DONE is drill_state(retirable(third))
    assert Due.DUE is drill_state(retirable(third), "home.identity")
    one_cluster = identity("home") | {"system_identifier": identity("away")["system_identifier"]}
    assert Due.DONE is drill_state(retirable(restored()) | {"home.identity": one_cluster})
    assert Due.DUE is drill_state(retirable(restored(restored_on="home")) | {"home.identity": one_cluster})


def test_without_a_known_primary_or_backup_of_it_a_restore_drill_says_nothing() -> None:
    """No answer is a refusal."""
    for unknown in ("away.identity", "away.register", "backup"):
        assert Due.DUE is drill_state(retirable(restored()), unknown)
    assert Due.DUE is drill_state(retirable(restored(), **identity("home")))


def test_before_the_move_a_drill_may_be_restored_on_the_new_side() -> None:
    """It is where the plan itself restores, and nothing is the fallback yet."""
    drilled = restored(identity=identity("home"), restored_on="away")
    values = facts() | {"drill.restore": {"passed": True, "at": int(NOW.timestamp()), **drilled}}
    values["backup"] = values["backup"] | {"manifest_digest": "sha256:1", "encrypted": True}
    assert Due.DONE is drill_state(values)


def test_what_could_not_be_signed_does_not_count() -> None:
    """The run that failed for it would otherwise be followed by one that takes it for done."""
    unsigned = retirable(restored(), signature_missing=True)
    unsigned["drill.restore"] = unsigned["drill.restore"] | {"state": "unsigned", "passed": False}
    assert ["backup", "restore-drill", "failover-drill", "retire"] == kinds(plan(unsigned, RETIRING))
    assert Due.DONE is ground(RETIRING, observation(retirable({}, signature_missing=False)), (), now=NOW).world.backup


def test_what_is_dated_in_the_future_is_not_fresh() -> None:
    """A clock that jumped ahead once would keep it fresh until that date; a minute is what clocks may differ by."""
    for ahead_s, expected in ((60, Due.DONE), (61, Due.DUE)):
        at = int(NOW.timestamp()) + ahead_s
        values = retirable(restored(), taken_at=at)
        values["drill.restore"] = values["drill.restore"] | {"at": at}
        world = ground(RETIRING, observation(values), (), now=NOW).world
        assert (expected, expected) == (world.backup, world.restore_drill)
    only_ahead = facts() | {"backup": {"passed_over": ["backups/x"]}}
    assert Due.DUE is ground(REPLACE, observation(only_ahead), (), now=NOW).world.backup


def test_a_backup_of_another_service_in_the_same_cluster_is_not_one_of_the_primary() -> None:
    """Two services may share a cluster and a backup folder."""
    values = facts()
    for changed in ({"database": "wiki"}, {"database_oid": 16385}, {"database": None}):
        other = values | {"backup": values["backup"] | changed}
        assert Due.DUE is ground(REPLACE, observation(other), (), now=NOW).world.backup


def test_a_backup_of_another_endpoint_proves_nothing_before_the_fallback_is_retired() -> None:
    """A restore drill from before the move does not show that the new primary can be restored."""
    values = stabilized(restore=restored(endpoint="home", identity=identity("home")))
    assert ["backup", "restore-drill", "failover-drill", "retire"] == kinds(plan(values, RETIRING))


@pytest.mark.parametrize(("mode", "when"), [("frozen", "first"), ("retired", "last")])
def test_a_fallback_that_followed_is_kept_current_until_it_is_retired(mode: str, when: str) -> None:
    """A drill that fails must not leave a way back that was cut off before it."""
    world = ground(RETIRING, observation(stabilized()), (), now=NOW).world
    followed = with_side(world, Role.OLD, follows=Follows.STREAMING)
    steps = [one.kind.value for one in unfold(followed, Wish(fallback=FallbackMode(mode))).steps]
    assert ("unfollow" == steps[0], "unfollow" == steps[-1]) == (when == "first", True)
    if when == "last":
        assert ["restore-drill", "failover-drill", "retire", "unfollow"] == steps[-4:]


def test_a_failover_drill_speaks_for_one_endpoint_and_one_definition() -> None:
    """Neither the failover of the side that is retired nor a placeholder's shows that the new primary can."""
    drill = RETIRING.spec.drills.failover
    assert drill is not None
    done = {"endpoint": "away", "identity": identity("away"), "definition": drill.definition}
    assert Due.DONE is ground(RETIRING, observation(stabilized(failover=done)), (), now=NOW).world.failover_drill
    others = {"endpoint": "home"}, {"definition": "sha256:of-another-command"}, {"identity": identity("staging")}
    for changed in (*others, {"identity": None}):
        seen = observation(stabilized(failover=done | changed))
        assert Due.DUE is ground(RETIRING, seen, (), now=NOW).world.failover_drill


def test_an_operating_model_is_written_for_the_database_that_it_describes() -> None:
    """One that was practised with elsewhere, or that an earlier release recorded without saying where, is written
    anew; while nobody can tell which database is primary, what is on record stands."""
    doc = document(operatingModel={"path": "operating-model.md"})
    for about, due in ((identity("away"), Due.DONE), (identity("staging"), Due.DUE), (None, Due.DUE)):
        values = stabilized() | {"document.recorded": {"term": 1, "identity": about}}
        assert due is ground(doc, observation(values), (), now=NOW).world.document
        unseen = {name: value for name, value in values.items() if name != "away.identity"}
        assert Due.DONE is ground(doc, observation(unseen), (), now=NOW).world.document


def test_the_decision_that_registers_show_is_unknown_while_one_of_them_may_know_a_later_one() -> None:
    """Before any decision it is term 0; a primary that is known although the other register is not will do."""
    before = observed_decision(REPLACE, observation(facts()))
    assert before is not None
    assert (0, None) == (before.term, before.run)
    moved = observed_decision(REPLACE, observation(switched(), "home.register"))
    assert moved is not None
    assert (1, identity("away")["system_identifier"], "r") == (moved.term, moved.identity.system_identifier, moved.run)
    assert observed_decision(REPLACE, observation(switched(), "away.register")) is None


def rehearsed(**changes: Any) -> dict[str, Any]:
    """A receipt that counts for the document's own move by replication, but for `changes`."""
    receipt = {
        "state": "passed",
        "passed": True,
        "at": int(NOW.timestamp()) - 60,
        "term": 1,
        "stream": "slot",
        "stream_point": "0/1",
        "watermarks": {"home": "a", "away": "b"},
        "compared_as": compared_as(document()),
    }
    return receipt | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Due.DONE),
        ({"compared_as": compared_as(document(compare={"content": False}))}, Due.DUE),
        ({"term": 2}, Due.DUE),
        ({"stream_point": "0/2"}, Due.DUE),
        ({"watermarks": {"home": "a", "away": "c"}}, Due.DUE),
        ({"at": int(NOW.timestamp()) - 90_000}, Due.DUE),
        ({"passed": False}, Due.FAILED),
    ],
)
def test_a_rehearsal_counts_for_what_it_was_of_and_no_more(changes: dict[str, Any], expected: Due) -> None:
    """One that compared counts only, or another stream, decision or definition, proves nothing for this plan."""
    values = facts(
        rehearsal=rehearsed(**changes),
        home__definitions="a",
        away__definitions="b",
        away__transfer={"fill_slot": "slot", "fill_point": "0/1"},
    )
    assert expected is ground(document(), observation(values), evidence(), now=NOW).world.rehearsal


def test_a_move_that_fills_its_target_anew_rehearses_anew() -> None:
    """The newest rehearsal was of a stream that has been lost since: what it proved says nothing about the next one."""
    doc = document(transfer={"method": "replication", "targetContent": "replace"})
    fine = following(doc)
    assert "rehearse" not in kinds(plan(fine, doc))
    lost = plan(fine | {"home.slots": []}, doc)
    expected = ["prepare-target", "follow", "rehearse", "hold"]
    assert expected == [kind for kind in kinds(lost) if kind in expected]


def test_connection_strings_that_were_exchanged_while_the_target_was_filled_make_nobody_primary() -> None:
    """Under the name of the old side the fenced target answers: its mark says in whose favour it was frozen, and that
    is never its own. Without that, the desired side would pass for the primary, and clients be sent to the target."""
    values = facts(home__writes="frozen", home__fence=fenced(1, primary="home")) | {
        "home.identity": identity("away"),
        "away.identity": identity("home"),
    }
    register = read_register(document(), observation(values))
    assert (None, True) == (register.primary, "are their connection strings exchanged?" in register.basis)
    right = facts(away__writes="frozen", away__fence=fenced(1, primary="home"))
    assert "home" == read_register(document(), observation(right)).primary
