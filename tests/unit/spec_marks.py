"""Plan documents with marks: `▸` stands in front of each character where a problem is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.spec import parse, starter

MARK = "▸"
FILE = Path("plan.yaml")

OBSERVED = """\
apiVersion: statehub-plan/v1
kind: ObservedLane
metadata: {name: lane, title: A lane, service: hub}
spec:
  tasks:
    - id: P1
      title: Nodes
      probes:
        - {name: node, kind: kubernetes, context: c1, resource: node/a, pointer: /metadata/name, equals: a}
"""


def changed(old: str, new: str, text: str | None = None) -> str:
    """The starter plan (or `text`) with `old`, which is there exactly once, replaced by `new`."""
    whole = starter("hub") if text is None else text
    assert whole.count(old) == 1, f"{old!r} is there {whole.count(old)} times"
    return whole.replace(old, new)


def marks(text: str) -> tuple[str, list[str]]:
    """The text without marks, and `line:column` of each, sorted."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        pieces = line.split(MARK)
        column = 1
        for piece in pieces[:-1]:
            column += len(piece)
            found.append(f"{number}:{column}")
    return text.replace(MARK, ""), found


def problems(text: str) -> list[str]:
    """`line:column: what; remedy` of every problem, in the order in which they are reported."""
    with pytest.raises(StatehubError) as caught:
        parse(text.encode(), FILE)
    assert caught.value.code == "spec-invalid"
    return [line.removeprefix("plan.yaml:") for line in caught.value.details]


def assert_marked(text: str, *whats: str) -> None:
    """The problems of `text` are exactly `whats` (each a part of its line, in order of position) and at the marks."""
    plain, expected = marks(text)
    found = problems(plain)
    assert expected == [":".join(line.split(":")[:2]) for line in found], "\n".join(found)
    missing = [what for what, line in zip(whats, found, strict=True) if what not in line]
    assert not missing, "\n".join([*missing, *found])
