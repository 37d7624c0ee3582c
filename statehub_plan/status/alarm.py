"""Who accepts writes, where that is not exactly the primary, with every client pointed at it. Pure.

Told first, and loudly: an outage and two writable sides cost more each minute than whatever else there is to say.
"""

from __future__ import annotations

from enum import StrEnum

from statehub_plan.model.base import Frozen
from statehub_plan.model.facts import Observation
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.registers import Register, fence_term, mapping_of

_ACCEPTING = ("open", "held")  # writers that wait for a hold go on when it ends


class AlarmKind(StrEnum):
    """What is wrong. `writes-unknown`: no side is seen to accept writes, and not every side was seen."""

    BOTH = "both-accept-writes"
    NOBODY = "nobody-accepts-writes"
    WRONG = "wrong-side-accepts-writes"
    MISDIRECTED = "clients-misdirected"
    UNKNOWN = "writes-unknown"


class Alarm(Frozen):
    """`what` begins in capitals; `remedy` is what to do now."""

    kind: AlarmKind
    what: str
    remedy: str


def alarm_of(document: CutoverPlan, observation: Observation, register: Register) -> Alarm | None:
    """None where one side accepts writes, as far as can be seen, and nothing says that it should not be that one.

    Before a target is prepared both sides may accept writes: what it holds until then counts for nothing."""
    states = {name: str(observation.value(f"{name}.writes") or "unknown") for name in document.spec.endpoints}
    accepting = [name for name, state in states.items() if state in _ACCEPTING]
    if len(accepting) > 1:
        return _both(document, accepting, register) if _begun(observation, register, accepting) else None
    if not accepting:
        return _nobody(states)
    (one,) = accepting
    away = next(name for name in states if name != one)
    if register.primary == away and (states[away] == "frozen" or register.decided):
        return _wrong(document, one, away, states[away], register)
    if states[away] == "unknown" and register.primary is None and not register.decided:
        return _unseen(states)
    lost = [
        path.name
        for path in document.spec.access
        if states[away] == "frozen" and mapping_of(observation, f"access.{path.name}").get("endpoint") == away
    ]
    return _misdirected(document, lost, one, away) if lost and states[one] == "open" else None


def _begun(observation: Observation, register: Register, names: list[str]) -> bool:
    """Whether a side was shut for a move, so that it has no business to be open."""
    prepared = (mapping_of(observation, f"{name}.transfer").get("stage") not in (None, "none") for name in names)
    return register.decided > 0 or any(prepared) or any(fence_term(observation, name) for name in names)


def _kept(document: CutoverPlan, primary: str) -> str:
    """What plans to keep this primary and shut the other side: `plan` would move it where another one is wished."""
    return "plan" if primary == document.spec.desired.primary else "abort"


def _both(document: CutoverPlan, names: list[str], register: Register) -> Alarm:
    what = f"BOTH SIDES ACCEPT WRITES: {' and '.join(names)}"
    if register.primary is None:
        return Alarm(
            kind=AlarmKind.BOTH,
            what=f"{what}, and which of them is primary is not known: {register.basis}",
            remedy="keep the clients off one of them at once; then mend what keeps the primary from being known",
        )
    away = next(name for name in names if name != register.primary)
    return Alarm(
        kind=AlarmKind.BOTH,
        what=f"{what}; primary is {register.primary} ({register.basis})",
        remedy=f"keep the clients off {away} at once, and shut it: `apply` begins with that, with the plan of a run "
        f"that is not over, or with one that `{_kept(document, register.primary)}` makes; what was written on {away} "
        "stays there alone (`compare` shows it)",
    )


def _nobody(states: dict[str, str]) -> Alarm:
    if "unknown" in states.values():
        return _unseen(states)
    return Alarm(
        kind=AlarmKind.NOBODY,
        what=f"NOBODY CAN WRITE NOW: {' and '.join(states)} are frozen",
        remedy="run `apply` again with the plan of the run that was interrupted, or keep the present primary: `abort`",
    )


def _unseen(states: dict[str, str]) -> Alarm:
    words = {"open": "does", "held": "makes writers wait", "unknown": "could not be observed"}
    parts = (f"{name} {words.get(state, f'is {state}')}" for name, state in states.items())
    unseen = " and ".join(name for name, state in states.items() if state == "unknown")
    question = "WHETHER BOTH SIDES ACCEPT" if "open" in states.values() else "WHETHER ANYBODY ACCEPTS"
    return Alarm(
        kind=AlarmKind.UNKNOWN,
        what=f"{question} WRITES IS NOT KNOWN: {', '.join(parts)}",
        remedy=f"make {unseen} observable before anything else (`observe` says what is in the way)",
    )


def _wrong(document: CutoverPlan, one: str, primary: str, state: str, register: Register) -> Alarm:
    seen = "could not be observed" if state == "unknown" else f"is {state}"
    return Alarm(
        kind=AlarmKind.WRONG,
        what=f"THE WRONG SIDE ACCEPTS WRITES: {one}, while primary is {primary} ({register.basis}), which {seen}",
        remedy=f"keep the clients off {one} at once; then `apply` again where a run is not over, or "
        f"`{_kept(document, primary)}` and `apply`; what was written on {one} stays there alone (`compare` shows it)",
    )


def _misdirected(document: CutoverPlan, paths: list[str], one: str, away: str) -> Alarm:
    return Alarm(
        kind=AlarmKind.MISDIRECTED,
        what=f"CLIENTS ARE POINTED AT THE SIDE THAT REFUSES WRITES: {', '.join(paths)} at {away}; {one} accepts them",
        remedy="run `apply` again where a run is not over, or "
        f"`{_kept(document, one)}` and `apply`: that points them at {one}",
    )
