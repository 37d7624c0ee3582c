"""Sentences about lanes that every form of the status says alike. Facts only; narrative is added where it is told."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.abstraction import BEGUN
from statehub_plan.model.record import CriterionStatus, DrillRecord, drill_outdated
from statehub_plan.model.steps import StepKind
from statehub_plan.model.stream import StreamState
from statehub_plan.render.stream_words import ORPHANED, of_receiver, slot_text, stream_text
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.words import counted, moment, plain
from statehub_plan.status.model import (
    GateStanding,
    GateStatus,
    LaneStanding,
    LaneStatus,
    Status,
    TaskStanding,
    TaskStatus,
)

_APART = (LaneStanding.DEFERRED, LaneStanding.OBSERVED, LaneStanding.SUPERSEDED)


def alarms(status: Status) -> tuple[str, ...]:
    """What has to be told before anything else, once for all lanes that it concerns."""
    told: dict[str, list[str]] = {}
    for lane in status.lanes:
        if lane.alarm is not None:
            told.setdefault(f"{lane.alarm.what}. {_capital(lane.alarm.remedy)}.", []).append(lane.name.upper())
    return tuple(f"{plain(text)} ({', '.join(names)})" for text, names in told.items())


def headlines(lane: LaneStatus) -> tuple[tuple[str, str], ...]:
    """(label, text) of what is asked first when something is wrong: who is primary, who accepts writes, where clients
    are pointed. Nothing for a lane that is not looked at, or stands apart."""
    primary = lane.primary
    if primary is None or lane.standing in _APART:
        return ()
    if primary.endpoint is None:
        return (("primary", f"unknown: {primary.basis}"), ("clients", _clients(primary.access)))
    since = f"since term {primary.term}" if primary.term else "(no decision yet)"
    when = f", decided {moment(primary.decided_at)}" if primary.decided_at else ""
    return (
        ("primary", f"{primary.endpoint} {since}{when}"),
        ("writes", _writes(lane, primary.endpoint, primary.writes)),
        ("clients", _clients(primary.access)),
    )


def _writes(lane: LaneStatus, primary: str, writes: str) -> str:
    states = {primary: writes}
    if lane.fallback is not None:
        states[lane.fallback.endpoint] = lane.fallback.writes
    accepting = [name for name, state in states.items() if state == "open"]
    nobody = "nobody for sure" if "unknown" in states.values() else "nobody"
    others = [
        f"whether by {name} is not known" if state == "unknown" else f"{name} is {state}"
        for name, state in states.items()
        if state != "open"
    ]
    return "; ".join((f"accepted by {' AND '.join(accepting) or nobody}", *others))


def _clients(access: str) -> str:
    split = "NOT ALL known to be pointed at the same side"
    return {"unknown": "could not be observed", "split": split}.get(access, f"pointed at {access}")


def told(lane: LaneStatus, *, headed: bool = False) -> tuple[str, ...]:
    """Where the lane stands, sentence by sentence; what could not be observed is said, never left out. `headed`: but
    for what `headlines` says."""
    sentences = [*_criteria(lane), *_tasks(lane)]
    if lane.standing is LaneStanding.SUPERSEDED:
        sentences.insert(0, f"{_capital(lane.because)}.")
    if lane.standing not in _APART:
        sentences += [
            *(() if headed else _primary(lane)),
            *_health(lane),
            *_stabilization(lane),
            *_fallback(lane),
            *_slots(lane),
            *_drills(lane),
            *_trouble(lane),
        ]
    return tuple(sentences)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _criteria(lane: LaneStatus) -> Iterator[str]:
    if not lane.criteria:
        return
    titles = [one.title for one in lane.criteria]
    joined = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
    yield f"Entry criteria depend on {joined}."
    unmet = [one.title for one in lane.criteria if one.state.status is CriterionStatus.UNMET]
    if len(unmet) == len(titles):
        yield "None of them is met yet." if len(titles) > 1 else "It is not met yet."
    elif unmet:
        yield f"Not met yet: {'; '.join(unmet)}."
    for one in lane.criteria:
        if one.state.status is CriterionStatus.UNKNOWN:
            yield f"Whether {one.title} holds is unknown: {one.state.detail}."
    if all(one.state.status is CriterionStatus.MET for one in lane.criteria):
        yield "They are met." if len(titles) > 1 else "It is met."


def _tasks(lane: LaneStatus) -> Iterator[str]:
    tasks, called = lane.tasks, lane.tasks_called
    done = [index for index, task in enumerate(tasks) if task.standing is TaskStanding.DONE]
    if tasks and len(done) == len(tasks):
        yield f"All {called} are done."
    elif done:
        yield f"{ranges(tasks, done)} done."
    elif tasks and all(task.standing is TaskStanding.TODO for task in tasks):
        yield f"All {called} are {'still ' if lane.kind == 'CutoverPlan' else ''}todo."
    yield from _tasks_unknown(tasks)
    for task in tasks:
        if task.steps_done and task.steps_left:
            yield f"{task.id} under way: {_kinds(task.steps_done)} done; left: {_kinds(task.steps_left)}."
    for index in done:
        if tasks[index].when_done:
            yield str(tasks[index].when_done)


def _tasks_unknown(tasks: tuple[TaskStatus, ...]) -> Iterator[str]:
    """All of them in one sentence, with the first reason: the others are told beside each task."""
    found = [index for index, task in enumerate(tasks) if task.standing is TaskStanding.UNKNOWN]
    if found:
        first = tasks[found[0]]
        verb, more = ("is", "") if len(found) == 1 else ("are", "; …")
        yield f"Whether {ranges(tasks, found)} {verb} done is unknown ({first.id}: {first.detail}{more})."


def _kinds(kinds: tuple[StepKind, ...]) -> str:
    return ", ".join(kind.value for kind in kinds)


def ranges(tasks: tuple[TaskStatus, ...], indices: list[int]) -> str:
    """Neighbouring tasks joined: `T01-T06, T08`."""
    groups: list[list[int]] = []
    for index in indices:
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return ", ".join(
        tasks[group[0]].id if len(group) == 1 else f"{tasks[group[0]].id}-{tasks[group[-1]].id}" for group in groups
    )


def _primary(lane: LaneStatus) -> Iterator[str]:
    primary = lane.primary
    if primary is None:
        return
    if primary.endpoint is None:
        yield f"Which endpoint is primary could not be observed: {primary.basis}."
        return
    since = f" since term {primary.term}" if primary.term else " (no decision yet)"
    when = f", decided {moment(primary.decided_at)}" if primary.decided_at else ""
    yield f"Primary is {primary.endpoint}{since}{when}."
    if primary.writes != "open":
        yield f"It does not accept writes now: {primary.writes}."
    if primary.access == "unknown":
        yield "Where clients are pointed could not be observed."
    elif primary.access != primary.endpoint:
        yield f"Clients are pointed at: {primary.access}."


def _health(lane: LaneStatus) -> Iterator[str]:
    if lane.primary is not None and lane.primary.endpoint is not None and lane.primary.health == "failing":
        yield f"The API of {lane.primary.endpoint} is not healthy."


def _stabilization(lane: LaneStatus) -> Iterator[str]:
    one = lane.stabilization
    if one is None:
        return
    until = f" until {moment(one.until_at)}" if one.state == "running" and one.until_at else ""
    looks = (
        f" ({counted(one.looks, 'look')}, {counted(one.failures, 'failure')}; last: {one.last})" if one.looks else ""
    )
    yield f"Stabilization {one.state}{until}{looks}."


def _fallback(lane: LaneStatus) -> Iterator[str]:
    one = lane.fallback
    if one is None or lane.primary is None or lane.primary.term == 0:
        return
    if one.retired:
        yield f"The fallback {one.endpoint} is retired; it stays frozen."
    elif one.writes == "unknown":
        yield f"Whether the fallback {one.endpoint} is {one.mode} could not be observed."
    elif one.writes == "open":
        yield f"The fallback {one.endpoint} ACCEPTS WRITES and must not."
    else:
        following = f", follows: {one.follows}" if one.follows != "nobody" and one.stream is None else ""
        feeds = (StreamState.STREAMING, StreamState.BROKEN)
        fed = one.stream is not None and one.stream.observed and one.stream.state in feeds
        but = " but for the stream into it" if fed and one.writes == "frozen" else ""
        yield f"The fallback {one.endpoint} is retained: {one.writes}{but}{following}."
    if one.stream is not None and not one.retired:
        limit = one.retained_limit_bytes or 0
        told = stream_text(one.stream, str(lane.primary.endpoint), retained_limit_bytes=limit, way_back=True)
        reasons = {fact.reason for fact in lane.unknown if fact.reason is not None}
        if not one.stream.observed and any(one.stream.why.endswith(reason) for reason in reasons):
            told = told.partition(": ")[0]  # the reason is told once, with all that it keeps from being observed
        yield f"{of_receiver('It', told)}."


def _slots(lane: LaneStatus) -> Iterator[str]:
    """A run at work has slots that nobody reads for a moment."""
    for one in lane.slots if lane.standing is not LaneStanding.RUNNING else ():
        if one.orphan:
            ends = ORPHANED
        elif lane.standing is LaneStanding.INTERRUPTED:
            ends = "until the run goes on, or `abort` drops it"
        else:
            ends = "until its stream goes on, or it is dropped with pg_drop_replication_slot"
        yield f"{slot_text(one.endpoint, one.name, one.retained_bytes)}, {ends}."


def _drills(lane: LaneStatus) -> Iterator[str]:
    for drill in lane.drills:
        yield f"Newest {drill.kind} drill {_outcome(drill)}, {moment(drill.at)}."


def _outcome(drill: DrillRecord) -> str:
    if drill.detail.get("state") == "unsigned":
        return "does not count, its evidence could not be signed"
    if drill.detail.get("state") == BEGUN:
        return "was begun, and no outcome is on record"
    if drill.detail.get("state") == "passed" and drill_outdated(drill.detail):
        return "does not count, it is of an earlier release, which compared rows of tables and nothing else"
    return "passed" if drill.passed else "FAILED"


def _trouble(lane: LaneStatus) -> Iterator[str]:
    told = {
        LaneStanding.BLOCKED: "Blocked",
        LaneStanding.RUNNING: "Under way",
        LaneStanding.INTERRUPTED: "INTERRUPTED",
    }.get(lane.standing)
    if told is not None:
        yield f"{told}: {lane.because.rstrip('.')}."
    told_once: dict[str, list[str]] = {}
    for group in gather_unknown(lane.unknown):
        told_once.setdefault(plain(group.reason), []).append(group.what(most=3))
    if told_once:
        groups = (f"{'; '.join(what)}: {reason}" for reason, what in told_once.items())
        yield f"Could not be observed: {'; '.join(groups)}."


def gate_sentence(gate: GateStatus) -> str:
    """What the gate asks for, then how far it is."""
    first = gate.title.split()[0]
    asks = f"before {gate.title}" if first.endswith("ing") else f"for: {gate.title}"
    asks = gate.title if gate.title.lower().startswith("explicit approval") else f"explicit approval required {asks}"
    return f"{asks.removesuffix('.')}. {gate_standing(gate)}"


def gate_standing(gate: GateStatus) -> str:
    """How far the gate is, in one sentence."""
    needed = f"{gate.given} of {gate.quorum} approvals ({', '.join(gate.approvers)})"
    return {
        GateStanding.PASSED: f"Passed: {gate.detail}.",
        GateStanding.APPROVED: f"Approved: {gate.detail}.",
        GateStanding.MISSING: f"Not approved: {needed}; {gate.detail}.",
        GateStanding.IDLE: f"Not asked for now: {gate.detail}.",
        GateStanding.UNKNOWN: f"Unknown: {gate.detail}.",
    }[gate.standing]
