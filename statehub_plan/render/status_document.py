"""The migration strategy status document, regenerated from observed facts and the plans' own sentences."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.render.markdown import document, md, prose, table
from statehub_plan.render.status_words import alarms, gate_sentence, told
from statehub_plan.render.words import moment
from statehub_plan.status.model import GateStatus, LaneStanding, LaneStatus, Status


def status_markdown(status: Status) -> str:
    """Sections as people know them: decision, rationale, current state, human gates, stable pickup path."""
    return document(
        [
            [f"# {md(', '.join(status.titles))} Migration Strategy Status"],
            [f"Updated: {status.observed_at:%Y-%m-%d}"],
            *([f"**{md(text)}**"] for text in alarms(status)),
            _decision(status),
            _state(status),
            _gates(status),
            _pickup(status),
            [f"Written from facts observed at {moment(status.observed_at)}. {_sources(status)}".rstrip()],
        ]
    )


def _told_by(status: Status, lane: LaneStatus, text: str) -> str:
    first = status.lanes[0]
    return prose(text) if lane is first else f"{md(lane.name.upper())}: {prose(text)}"


def _decision(status: Status) -> list[str]:
    decisions = [_told_by(status, lane, lane.decision) for lane in status.lanes if lane.decision]
    reasons = [_told_by(status, lane, lane.rationale) for lane in status.lanes if lane.rationale]
    lines = ["## Decision", "", *_paragraphs(decisions or ["No decision is written down in these plans."])]
    if reasons:
        lines += ["", *_paragraphs([f"Rationale: {reasons[0]}", *reasons[1:]])]
    return [*lines, *_since(status)]


def _since(status: Status) -> Iterator[str]:
    """What has happened since those sentences were written."""
    for lane in status.lanes:
        if lane.primary is not None and lane.primary.term > 0 and lane.primary.endpoint is not None:
            when = f" on {lane.primary.decided_at:%Y-%m-%d}" if lane.primary.decided_at else ""
            primary = md(str(lane.primary.endpoint))
            yield ""
            yield f"Observed since: {primary} became primary by decision term {lane.primary.term}{when}."
            return


def _paragraphs(texts: list[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        if index:
            yield ""
        yield text


def _state(status: Status) -> list[str]:
    rows = [
        (md(f"{lane.name.upper()} {lane.title}"), prose(" ".join(told(lane))), prose(lane.next_action))
        for lane in status.lanes
    ]
    return ["## Current State", "", *table(("Path", "State", "Next action"), rows)]


def _gates(status: Status) -> list[str]:
    """Each gate once, as the first lane that has it sees it: lanes may stand behind the same decision."""
    gates: dict[str, GateStatus] = {}
    for lane in status.lanes:
        for gate in lane.gates:
            gates.setdefault(gate.gate, gate)
    lines = [f"- {md(name)}: {prose(gate_sentence(gate))}" for name, gate in gates.items()]
    return ["## Human Gates", "", *(lines or ["No gate is declared."])]


def _pickup(status: Status) -> list[str]:
    lines = ["## Stable Pickup Path"]
    for lane in status.lanes:
        lines += _path(lane, named=lane is not status.lanes[0])
    if len(lines) == 1:
        lines += ["", "No path is written down in these plans."]
    return lines


def _path(lane: LaneStatus, *, named: bool) -> Iterator[str]:
    """The document's own list while its cutover has not begun; afterwards what is left of it by observation."""
    if not lane.pickup:
        return
    yield ""
    if named:
        yield f"{md(lane.name.upper())}:"
        yield ""
    if not _under_way(lane):
        yield from (f"{number}. {prose(text)}" for number, text in enumerate(lane.pickup, start=1))
        return
    assert lane.primary is not None
    if not lane.steps_left and lane.to_mend:
        yield f"No step is left to pick up, but: {prose('; '.join(lane.to_mend))}."
        return
    if not lane.steps_left:
        yield f"Nothing is left to pick up: {md(lane.because)}."
        return
    primary = md(str(lane.primary.endpoint))
    yield f"Under way: primary is {primary} by decision term {lane.primary.term}. Left, as observed:"
    yield ""
    yield from (f"{number}. {md(title)}" for number, title in enumerate(lane.steps_left, start=1))


def _under_way(lane: LaneStatus) -> bool:
    return lane.moved or lane.standing is LaneStanding.WAITING


def _sources(status: Status) -> str:
    dated = [f"{lane.name} ({lane.updated})" for lane in status.lanes if lane.updated]
    return f"Sentences of the plans as of: {', '.join(dated)}." if dated else ""
