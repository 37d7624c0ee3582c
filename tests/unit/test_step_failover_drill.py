"""The step `failover-drill`: from its command on no earlier drill speaks for the platform, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from statehub_plan.abstraction import ground
from statehub_plan.errors import StatehubError
from statehub_plan.history import history_of, journal_facts
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.steps import executor
from statehub_plan.steps.stage import FactWriter
from statehub_plan.world import Due
from tests.unit.facts import NOW, PASSED, document, identity, observation, plan, record, restored, switched
from tests.unit.simulated import staged

RETIRING = document(
    desired={"primary": "away", "fallback": {"endpoint": "home", "mode": "retired"}},
    drills={
        "restore": {"maxAge": "30d"},
        "failover": {
            "argv": ["touch", "ordered"],
            "verify": [{"kind": "file", "name": "serves", "path": "serves"}],
            "timeout": "5m",
        },
    },
)
SWITCHED = switched(away__writes="open") | {
    "access.mcp": {"endpoint": "away"},
    "stabilization": PASSED,
    "drill.restore": {"passed": True, "at": int(NOW.timestamp()), **restored()},
}


def drilled(directory: Path, record_fact: FactWriter, check_lease: Callable[[], None] = lambda: None) -> None:
    """Carries the drill out."""
    made = plan(SWITCHED, RETIRING)
    (step,) = (one for one in made.steps if one.kind is StepKind.FAILOVER_DRILL)
    looked = observation(SWITCHED), ()
    stage = staged(made, directory, record_fact=record_fact, check_lease=check_lease, look=lambda: looked)
    executor(StepKind.FAILOVER_DRILL)(stage, step)


def into(journal: list[Record]) -> FactWriter:
    """Puts facts at its end."""
    return lambda kind, state, payload: journal.append(
        record(len(journal) + 1, RecordKind.FACT, {**payload, "kind": kind, "state": state})
    )


def worth(journal: list[Record]) -> Due:
    """What the drills on record are worth for retiring the fallback."""
    known = {fact.id: fact.value for fact in journal_facts(tuple(journal), NOW)}
    return ground(RETIRING, observation(SWITCHED | known), (), now=NOW).world.failover_drill


@pytest.mark.parametrize(
    "ending", [KeyboardInterrupt(), StatehubError(code="lease-lost", what="another run has it", hint="")]
)
def test_a_drill_that_was_interrupted_leaves_no_earlier_pass_standing(tmp_path: Path, ending: BaseException) -> None:
    """The failover was ordered and nobody saw how it ended: what passed before says nothing about the platform now."""
    drill = RETIRING.spec.drills.failover
    assert drill is not None
    about = {"endpoint": "away", "identity": identity("away"), "definition": drill.definition}
    passed = {"kind": StepKind.FAILOVER_DRILL.value, "state": "passed", **about}
    journal = [record(1, RecordKind.FACT, passed)]
    assert Due.DONE is worth(journal)

    def end() -> NoReturn:
        raise ending

    with pytest.raises(type(ending)):
        drilled(tmp_path, into(journal), end)
    assert (tmp_path / "ordered").exists()
    assert {**passed, "state": "begun"} == journal[-1].payload
    assert Due.DUE is worth(journal)
    (seen,) = history_of(RETIRING, {}, tuple(journal)).drills
    assert (False, "begun") == (seen.passed, seen.detail["state"])


def test_a_drill_is_on_record_before_its_command_and_with_its_outcome(tmp_path: Path) -> None:
    """A journal that takes no record prevents the failover; the outcome takes the place of the beginning."""

    def full(*_: object) -> NoReturn:
        raise StatehubError(code="journal-disk-full", what="the journal's disk is full", hint="free some space")

    (tmp_path / "serves").touch()
    with pytest.raises(StatehubError, match="disk is full"):
        drilled(tmp_path, full)
    assert not (tmp_path / "ordered").exists()
    journal: list[Record] = []
    drilled(tmp_path, into(journal))
    assert ["begun", "passed"] == [one.payload["state"] for one in journal]
    assert Due.DONE is worth(journal)
