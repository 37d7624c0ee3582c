"""The document that policies see: complete, strict, instants as integers."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from statehub_plan.model.base import canonical, epoch_s
from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Phase
from statehub_plan.model.record import CriterionState, CriterionStatus, History, RunContext
from statehub_plan.planner import Wish
from statehub_plan.policy import BundleInfo, PolicyInput, build_input
from statehub_plan.policy.document import SideView, WorldView
from statehub_plan.policy.input import OBSERVATION_MAX_AGE_S
from statehub_plan.world import Data, Side, World, Writes
from tests.unit.explorer import initial_worlds
from tests.unit.facts import NOW, document, evidence, facts, plan
from tests.unit.policy_story import approved, asked, planned

BUNDLE = BundleInfo(digest="sha256:b", packages=("canary", "one_writable"))
TOP_LEVEL = {
    "schema",
    "now",
    "phase",
    "run",
    "plan",
    "observed",
    "evidence",
    "approvals",
    "history",
    "limits",
    "bundle",
}


def first_document(**changed: Any) -> dict[str, Any]:
    """The input document about the first initial world."""
    return asked(planned(next(initial_worlds()), Wish(replace_target=True)), BUNDLE, **changed)


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all object members, those inside facts' values left out: they are facts' own business."""
    if isinstance(value, list):
        return [path for i, each in enumerate(value[:1]) for path in paths(each, (*at, i))]
    if not isinstance(value, dict):
        return []
    here = [(*at, key) for key in value]
    return here + [path for key, each in value.items() if key != "value" for path in paths(each, (*at, key))]


def without(value: Any, path: tuple[str | int, ...]) -> Any:
    """A copy of `value` that lacks the member at `path`."""
    key, *rest = path
    if isinstance(value, list):
        return [without(each, tuple(rest)) if i == key else each for i, each in enumerate(value)]
    if rest:
        return {name: without(each, tuple(rest)) if name == key else each for name, each in value.items()}
    return {name: each for name, each in value.items() if name != key}


def reads(document: Any) -> None:
    """Validates as the host does: from canonical JSON."""
    PolicyInput.model_validate_json(canonical(document))


def test_the_document_has_exactly_the_parts_that_policies_are_written_for() -> None:
    """Policies may rely on these names."""
    assert TOP_LEVEL == first_document().keys()
    assert "statehub-plan/input/v1" == first_document()["schema"]


def test_every_field_is_mandatory() -> None:
    """Whatever is left out of the document, it is refused before any policy could be silent about it."""
    complete = first_document()
    reads(complete)
    named_by_the_plan = {"wsl2", "home", "away", "identities", "facts"}
    removable = [
        path
        for path in paths(complete)
        if not (len(path) > 1 and path[-2] in ("facts", "identities") and path[-1] not in named_by_the_plan)
        and path[-2:] not in [(by, name) for by in ("identities", "streams") for name in ("home", "away")]
    ]
    assert len(removable) > 100
    for path in removable:
        with pytest.raises(ValidationError):
            reads(without(complete, path))


def test_a_field_that_nobody_knows_is_refused() -> None:
    """A newer tool's document is not half understood."""
    with pytest.raises(ValidationError):
        reads({**first_document(), "hint": "allow"})


def test_nothing_is_coerced() -> None:
    """A text that looks like a number is not one: Rego would order it above every number."""
    with pytest.raises(ValidationError):
        reads({**first_document(), "now": str(epoch_s(NOW))})


def test_worlds_have_every_field_of_the_model() -> None:
    """The transition model cannot grow a field that policies do not see."""
    assert {field.name for field in fields(World)} == set(WorldView.model_fields)
    assert {field.name for field in fields(Side)} == set(SideView.model_fields)
    assert all(field.is_required() for field in (*WorldView.model_fields.values(), *SideView.model_fields.values()))


def test_instants_are_whole_seconds_since_1970() -> None:
    """Rounded down, whatever the fraction and the zone they were written in."""
    late = NOW + timedelta(milliseconds=999)
    told = first_document(now=late)
    assert epoch_s(NOW) == told["now"]
    approval = told["approvals"][0]["approvals"][0]
    assert (epoch_s(NOW) + 3600, epoch_s(NOW) + 7200) == (approval["decide_by"], approval["execute_by"])
    assert {epoch_s(NOW)} == {fact["observed_at"] for fact in told["observed"]["facts"].values()}
    assert int(datetime(2026, 6, 27, 12, tzinfo=UTC).timestamp()) == epoch_s(NOW)


def test_the_trajectory_is_the_plans_and_the_observed_world_is_not() -> None:
    """A policy can tell what was planned from what is the case."""
    made = planned(next(initial_worlds()), Wish(replace_target=True))
    now_diverged = replace(made.trajectory[0], new=Side(writes=Writes.OPEN, data=Data.DIVERGED))
    told: Any = asked(made, BUNDLE, world=now_diverged)
    assert len(made.steps) + 1 == len(told["plan"]["trajectory"])
    assert "absent" == told["plan"]["trajectory"][0]["new"]["data"]
    assert "diverged" == told["observed"]["world"]["new"]["data"]


def test_identities_come_from_fresh_facts_and_unknown_ones_are_null() -> None:
    """An endpoint that does not answer has no identity, however well the plan knew it."""
    made = plan()
    fresh = made.observation.model_copy(
        update={"facts": tuple(fact for fact in made.observation.facts if fact.id != "away.identity")}
    )
    told: Any = asked(made, BUNDLE, observed=fresh)
    assert {"system_identifier": None, "database": None, "database_oid": None} == told["observed"]["identities"]["away"]
    assert made.identities["home"].system_identifier == told["observed"]["identities"]["home"]["system_identifier"]
    assert made.identities["away"].system_identifier == told["plan"]["identities"]["away"]["system_identifier"]


def test_declared_probes_and_criteria_are_told_beside_what_was_found() -> None:
    """A policy can see that something was left out."""
    told: Any = asked(plan(), BUNDLE, evidence=(), history=History())
    assert [{"id": "T01", "probes": ["image"]}] == told["plan"]["tasks"]
    assert [] == told["evidence"]


def test_history_approvals_and_run_are_told_as_they_are() -> None:
    """Nothing is summed up on the way to the policies."""
    criterion = CriterionState(name="done", lane="move", status=CriterionStatus.UNKNOWN, detail="no journal")
    told: Any = build_input(
        plan=plan(),
        phase=Phase.STEP,
        now=NOW,
        run=RunContext(id="r1", author="bob@ops", epoch=3, step="03-hold"),
        observed=plan().observation,
        world=plan().trajectory[0],
        evidence=evidence(EvidenceStatus.FAILED),
        gates=approved(plan()),
        history=History(unknown_steps=("02",), finished_runs=("r0",), criteria=(criterion,), gates_passed=("T07",)),
        bundle=BUNDLE,
    )
    assert {"id": "r1", "author": "bob@ops", "epoch": 3, "step": "03-hold"} == told["run"]
    assert ["failed"] == [item["status"] for item in told["evidence"]]
    assert (["02"], ["r0"], ["T07"]) == tuple(
        told["history"][key] for key in ("unknown_steps", "finished_runs", "gates_passed")
    )
    assert ["unknown"] == [state["status"] for state in told["history"]["criteria"]]


def test_limits_are_whole_seconds_rounded_up_and_null_where_nothing_is_declared() -> None:
    """Half a second is a limit, not none; a drill that the plan does not declare has no age."""
    told: Any = asked(plan(doc=document(freeze={"maxDuration": "500ms"})), BUNDLE)
    assert {
        "backup_max_age_s": 86400,
        "restore_drill_max_age_s": None,
        "failover_drill_max_age_s": None,
        "observation_max_age_s": OBSERVATION_MAX_AGE_S,
        "hold_max_s": 1,
        "rehearsal_max_age_s": None,
        "switch_timeout_ms": 5000,
        "advise_lag_bytes": 64 << 20,
        "max_lag_bytes": 1 << 30,
        "advise_retained_bytes": 2 << 30,
        "drop_slot_at_retained_bytes": 8 << 30,
        "advise_disk_free_bytes": 10 << 30,
        "drop_slot_at_disk_free_bytes": 4 << 30,
    } == told["limits"]


def test_streams_are_told_by_receiver_and_orphans_by_where_they_are() -> None:
    """Policies need not dig through two sides' facts to know whether one follows the other."""
    slot = {"name": "statehub_plan_1_2", "database": "hub", "active": False, "retained_bytes": 7, "ours": True}
    values = facts(home__slots=[slot], away__slots=[], home__subscriptions=[], away__subscriptions=[])
    made = plan(values, doc=document(transfer={"method": "replication"}))
    told: Any = asked(made, BUNDLE)
    assert ("replication", [], 86400) == (
        told["plan"]["method"],
        told["plan"]["disks_watched"],
        told["limits"]["rehearsal_max_age_s"],
    )
    assert {"home", "away"} == told["observed"]["streams"].keys()
    assert ("nobody", False, True) == tuple(
        told["observed"]["streams"]["away"][key] for key in ("state", "lossless", "observed")
    )
    assert [{"endpoint": "home", "name": "statehub_plan_1_2", "retained_bytes": 7}] == told["observed"]["orphans"]
