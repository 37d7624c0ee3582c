"""Which worlds are an alarm, and which are none."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from statehub_plan.history import Lane
from statehub_plan.model.facts import Fact, Observation
from statehub_plan.model.record import History
from statehub_plan.registers import read_register
from statehub_plan.status import Alarm, AlarmKind, LaneInput, LaneStanding, alarm_of, build_status
from tests.golden import examples
from tests.golden.examples import NEW, OLD

DECIDED: JsonValue = {"term": 1, "primary": NEW, "run": examples.RUN, "decided_at": 1782560000}
BACK: JsonValue = {"term": 2, "primary": OLD, "run": "back", "decided_at": 1782570000}


def _seen(
    old: str, new: str, *more: Fact | list[Fact], decided: bool = True, clients: str | None = None
) -> Observation:
    """Both sides' writes; where a decision fell, the old side was frozen for it."""
    return examples.observation(
        examples.endpoint_facts(OLD, writes=old, term=1 if decided else 0),
        examples.endpoint_facts(NEW, writes=new, register=[DECIDED] if decided else []),
        examples.access_facts(clients or (NEW if decided else OLD)),
        *more,
    )


def _alarm(seen: Observation) -> Alarm | None:
    document = examples.document()
    return alarm_of(document, seen, read_register(document, seen))


@pytest.mark.parametrize(
    ("old", "new", "decided", "clients", "kind"),
    [
        ("open", "open", False, OLD, None),
        ("open", "frozen", False, OLD, None),
        ("held", "frozen", False, OLD, None),
        ("open", "unknown", False, OLD, None),
        ("frozen", "open", True, NEW, None),
        ("unknown", "open", True, NEW, None),
        ("frozen", "held", True, NEW, None),
        ("open", "open", True, NEW, AlarmKind.BOTH),
        ("open", "held", True, NEW, AlarmKind.BOTH),
        ("frozen", "frozen", True, NEW, AlarmKind.NOBODY),
        ("frozen", "frozen", False, OLD, AlarmKind.NOBODY),
        ("open", "frozen", True, NEW, AlarmKind.WRONG),
        ("open", "unknown", True, NEW, AlarmKind.WRONG),
        ("frozen", "open", True, OLD, AlarmKind.MISDIRECTED),
        ("frozen", "unknown", True, NEW, AlarmKind.UNKNOWN),
        ("unknown", "unknown", True, NEW, AlarmKind.UNKNOWN),
        ("unknown", "frozen", False, OLD, AlarmKind.UNKNOWN),
    ],
)
def test_who_accepts_writes(old: str, new: str, decided: bool, clients: str, kind: AlarmKind | None) -> None:
    """Before the target is prepared both may; afterwards it is one, the primary, and clients are pointed at it."""
    alarm = _alarm(_seen(old, new, decided=decided, clients=clients))
    assert kind == (None if alarm is None else alarm.kind)


def test_a_target_that_was_prepared_has_no_business_to_be_open() -> None:
    """Before any decision as well: the run that prepared it has fenced it."""
    mark: dict[str, JsonValue] = {"stage": "prepared", "hold": None, "term": None, "source": None}
    alarm = _alarm(_seen("open", "open", examples.known(f"{NEW}.transfer", mark), decided=False))
    assert alarm is not None
    assert alarm.what.startswith(f"BOTH SIDES ACCEPT WRITES: {OLD} and {NEW}; primary is {OLD} (no decision yet")


def test_after_the_way_back_the_other_side_is_the_wrong_one() -> None:
    """By the newest decision."""
    seen = examples.observation(
        list(_seen("frozen", "open")), examples.endpoint_facts(OLD, writes="frozen", register=[BACK])
    )
    alarm = _alarm(seen)
    assert alarm is not None
    assert (
        f"THE WRONG SIDE ACCEPTS WRITES: {NEW}, while primary is {OLD} (decision term 2), which is frozen" == alarm.what
    )


def test_a_lane_that_stands_apart_raises_none() -> None:
    """The lane that is at work does."""
    plan = examples.plan(_seen("frozen", "frozen"))
    document = examples.document()
    apart = document.model_copy(
        update={"metadata": document.metadata.model_copy(update={"superseded_by": "another-lane"})}
    )
    for one, alarmed in ((document, True), (apart, False)):
        (lane,) = build_status(
            [LaneInput(document=one, history=History(), reached=Lane((), ""), plan=plan)], examples.NOW
        ).lanes
        assert alarmed is (lane.alarm is not None)
        assert alarmed is (lane.standing is not LaneStanding.SUPERSEDED)
