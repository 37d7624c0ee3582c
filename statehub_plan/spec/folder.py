"""Rules over all documents of a folder: lanes that share a name, lead nowhere, or wait for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Problem, shown
from statehub_plan.spec.shape import one_of


def problems(roots: Sequence[Node | None]) -> tuple[tuple[Problem, ...], ...]:
    """For each document (None where it could not be read) what is wrong with it among the others."""
    lanes: dict[str, Node] = {}
    for root in roots:
        name = root.child("metadata", "name").text if root is not None else None
        if root is not None and name is not None:
            lanes.setdefault(name, root)
    complete = None not in roots  # a lane may be in the file that could not be read
    return tuple(tuple(_problems(root, lanes, complete)) if root is not None else () for root in roots)


def _problems(root: Node, lanes: Mapping[str, Node], complete: bool) -> Iterator[Problem]:
    name = root.child("metadata", "name")
    if name.text is not None and lanes[name.text] is not root:
        yield Problem(name.at, f"another document is named `{shown(name.text)}` as well", "give each lane its own name")
    for lane in _references(root):
        if lane.text not in lanes and complete:
            what = f"there is no lane `{shown(lane.text or '')}` in this folder"
            yield Problem(lane.at, what, one_of(lane.text or "", list(lanes)))
    for criterion in root.child("spec", "entryCriteria").items:
        lane = criterion.child("lane")
        circle = _way_back(lane.text, name.text, lanes)
        if circle and lane.text != name.text:
            what = f"this lane and {circle} wait for each other, so neither can begin"
            yield Problem(lane.at, what, "take one of the entry criteria out")


def _references(root: Node) -> Iterator[Node]:
    nodes = [root.child("metadata", "supersededBy")]
    nodes += [criterion.child("lane") for criterion in root.child("spec", "entryCriteria").items]
    return (node for node in nodes if node.text is not None)


def _way_back(start: str | None, goal: str | None, lanes: Mapping[str, Node]) -> str | None:
    """The lane before `goal` on a way of entry criteria from `start` to it; None where there is no way."""
    pending, seen = [start], set[str | None]()
    while pending:
        lane = pending.pop()
        if lane in seen or lane not in lanes or lane is None:
            continue
        seen.add(lane)
        following = [one.child("lane").text for one in lanes[lane].child("spec", "entryCriteria").items]
        if goal in following and goal is not None:
            return lane
        pending += following
    return None
