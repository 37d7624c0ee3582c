"""A `NAME=value` line of an environment file. Pure.

Readers (shells, systemd, docker, dotenv libraries) differ in escapes, expansion and multi-line values. Only what they
read alike is changed or written; the rest is refused rather than guessed. A comment behind the value is taken for one,
as shells do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from statehub_plan.access.place import Place, PlaceError

_ASSIGNMENT = re.compile(
    r"^\ufeff?[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<gap>[ \t]*)=(?P<rest>[^\n]*?)\r?(?:\n|\Z)",
    re.MULTILINE,
)
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<value>[^"'\r\n]*)(?P=quote)(?:[ \t]+\#.*|[ \t]*)""")
_BARE = re.compile(r"""(?P<value>(?:[^\s"'\#][^\s"']*)?)(?:[ \t]+\#.*|[ \t]*)""")
_SAFE_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=?-]*")  # no reader quotes, expands or splits these
_SAFE_QUOTED = re.compile(r"""[^"'\\$`\x00-\x1f\x7f\ud800-\udfff]*""")


@dataclass(frozen=True, slots=True)
class _Assignment:
    name: str
    start: int  # of the line
    gapped: bool  # blanks before the equals sign: an assignment to some readers only
    value_start: int
    rest: str  # from behind the equals sign to the end of the line


def find(text: str, variable: str) -> Place:
    """The value of `variable`. PlaceError where it is not assigned, assigned more than once, or written in a way that
    readers understand differently (a multi-line value, a continued line, adjacent quotes)."""
    mine = [assignment for assignment in _assignments(text) if assignment.name == variable]
    if not mine:
        raise PlaceError(f"no line assigns {variable}", f"add the line {variable}=… with the value in use now")
    if len(mine) > 1:
        raise PlaceError(
            f"{variable} is assigned {len(mine)} times",
            "leave one; readers differ in which of them counts",
            *(assignment.start for assignment in mine),
        )
    _refuse_multiline(text, mine[0])
    return _place(mine[0])


def _assignments(text: str) -> Iterator[_Assignment]:
    for match in _ASSIGNMENT.finditer(text):
        yield _Assignment(match["name"], match.start(), bool(match["gap"]), match.start("rest"), match["rest"])


def _place(assignment: _Assignment) -> Place:
    quoted = _QUOTED.fullmatch(assignment.rest)
    match = quoted or _BARE.fullmatch(assignment.rest)
    if match is None or assignment.gapped or assignment.rest.endswith("\\"):
        raise PlaceError(
            f"the value of {assignment.name} is written in a way that readers understand differently",
            f"write {assignment.name}=value, or with one pair of quotes around the whole value",
            assignment.value_start,
        )
    safe = _SAFE_QUOTED if quoted else _SAFE_BARE
    return Place(
        value=match["value"],
        start=assignment.value_start + match.start("value"),
        end=assignment.value_start + match.end("value"),
        spell=lambda value: (value,) if safe.fullmatch(value) else (),
    )


def _refuse_multiline(text: str, mine: _Assignment) -> None:
    """Refuse when some readers would take the line for a part of what another line began."""
    before = text[: mine.start].removesuffix("\n").removesuffix("\r")
    previous = before[before.rfind("\n") + 1 :]
    if previous.endswith("\\") and not previous.lstrip().startswith("#"):
        raise PlaceError(
            f"the line before the one of {mine.name} ends with a backslash: some readers join the two",
            "end that line without a backslash",
            mine.start,
        )
    for other in _assignments(text[: mine.start]):
        opening = other.rest[:1]
        if opening in {'"', "'"} and _unclosed(text, other, opening, mine.start):
            raise PlaceError(
                f"the line of {mine.name} lies inside the quoted value of {other.name} for some readers",
                f"close the quote that {other.name} opens, or move {mine.name} before it",
                other.value_start,
                mine.start,
            )


def _unclosed(text: str, other: _Assignment, quote: str, until: int) -> bool:
    """Whether the quote that a value opens is still open at `until`, read the way a shell reads it."""
    position = other.value_start + 1
    while position < until:
        if text[position] == "\\" and quote == '"':
            position += 1
        elif text[position] == quote:
            return False
        position += 1
    return True
