"""What is wrong with a document, and where: the currency of the loader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from statehub_plan.redact import MASK, redact

SHOWN = 100
_QUOTED_LENGTH = 60


class Position(NamedTuple):
    """Line and column of a character, both from 1; columns count characters, not bytes."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to correct. `what` never holds a secret or a control character of the document."""

    at: Position
    what: str
    remedy: str

    def __str__(self) -> str:
        return redact(_printable(f"{self.at.line}:{self.at.column}: {self.what}; {self.remedy}"))


def shown(text: str) -> str:
    """A piece of the document as it may appear in a message: short and on one line."""
    plain = redact(_printable(text[:4000]))
    return plain if len(plain) <= _QUOTED_LENGTH else plain[: _QUOTED_LENGTH - 1] + "…"


def report(name: str, problems: Iterable[Problem], secrets: Iterable[str] = ()) -> tuple[str, ...]:
    """`file:line:column: what; remedy` for each problem, sorted by position, at most a hundred of them; `secrets` of
    the document do not appear, even where it repeats them as ordinary text."""
    place = redact(name)
    hidden = sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)
    lines = [f"{place}:{_without(str(problem), hidden)}" for problem in sorted(set(problems))]
    if len(lines) > SHOWN:
        return (*lines[:SHOWN], f"{place}: and {len(lines) - SHOWN} more problems; correct these first")
    return tuple(lines)


def _without(line: str, secrets: list[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, MASK)
    return line


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)
