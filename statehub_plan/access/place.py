"""One value inside a text: where it stands, what it says, and how another value is spelled in its stead. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class PlaceError(ValueError):
    """There is no such place, or more than one, or it can't be changed safely. `offsets` are the characters of the
    text that the problem is about (none: the text as a whole)."""

    def __init__(self, problem: str, remedy: str, *offsets: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.offsets = offsets


@dataclass(frozen=True, slots=True)
class Place:
    """`value` is what readers of the file get; `start` and `end` bound its characters; `spell` gives the ways to write
    another value here, best first, none when that can't be done safely; `frame` is everything else that readers get."""

    value: str
    start: int
    end: int
    spell: Callable[[str], tuple[str, ...]]
    frame: object = None


def substitute(text: str, find: Callable[[str], Place], value: str) -> str:
    """`text` with the value at the place that `find` finds replaced by `value`: nothing but its characters changes.

    Every spelling is tried by reading the result again: `value` must be what stands there, and readers must get the
    same as before for everything else. PlaceError when no spelling passes.
    """
    place = find(text)
    for spelling in place.spell(value):
        changed = text[: place.start] + spelling + text[place.end :]
        try:
            now = find(changed)
        except PlaceError:
            continue
        if now.value == value and now.frame == place.frame:
            return changed
    raise PlaceError(
        f"the value {value!r} can't be written in the style of the one that stands here",
        "write it by hand once, quoted the way this file's readers expect",
        place.start,
    )


def position(text: str, offset: int) -> str:
    """`line:column` of a character, both counted from 1, lines ending with a line feed."""
    line_start = text.rfind("\n", 0, offset) + 1
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - line_start + 1}"
