"""Which processes run, for tests that look for what was left behind."""

from __future__ import annotations

from pathlib import Path

Process = tuple[int, str]
"""Id and start time: ids are used again."""


def running() -> dict[Process, int]:
    """Every process that is not a zombie, with its parent's id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(entry.name), fields[19]] = int(fields[1])
    return found


def descendants(pid: int) -> set[Process]:
    """Every process that `pid` started, directly or not, and that runs now."""
    parents = running()
    found: set[Process] = set()
    while (
        more := {process for process, parent in parents.items() if parent in {pid, *(one for one, _ in found)}} - found
    ):
        found |= more
    return found
