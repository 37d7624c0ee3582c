"""The status on a screen: one block a lane."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.render.status_words import alarms, gate_standing, headlines, told
from statehub_plan.render.text import RenderableType, columns, hanging, line, stack
from statehub_plan.render.words import moment
from statehub_plan.status.model import LaneStatus, Status, TaskStanding

_MARKS = {TaskStanding.DONE: "✓", TaskStanding.TODO: "·", TaskStanding.UNKNOWN: "?"}
_LABELS = (10,)


def status_view(status: Status) -> RenderableType:
    """Alarms first; then every lane with its standing, tasks, gates and next action."""
    head = line(f"{', '.join(status.titles)}: observed {moment(status.observed_at)}", style="bold")
    loud = [line(text, style="bold red") for text in alarms(status)]
    return stack([*loud, head, *(part for lane in status.lanes for part in _lane(lane))])


def _lane(lane: LaneStatus) -> Iterator[RenderableType]:
    yield line("")
    yield line(f"{lane.name.upper()} {lane.title}: {lane.standing.value.upper()}", style="bold")
    for label, text in headlines(lane):
        yield hanging((label,), text, widths=_LABELS, indent=2)
    yield hanging(("state",), " ".join(told(lane, headed=True)) or lane.because, widths=_LABELS, indent=2)
    if lane.tasks:
        rows = [(_MARKS[task.standing], task.id, task.title, task.detail) for task in lane.tasks]
        yield columns(rows, indent=2)
    for gate in lane.gates:
        yield hanging(("gate",), f"{gate.gate}: {gate_standing(gate)}", widths=_LABELS, indent=2)
    if lane.next_action:
        yield hanging(("next",), lane.next_action, widths=_LABELS, indent=2)
