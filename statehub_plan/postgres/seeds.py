"""What rows are hashed with."""

from __future__ import annotations

import secrets
from typing import NamedTuple, Self

__all__ = ["SEEDS", "Seeds"]

_BITS = 64
_DIGITS = 16


class Seeds(NamedTuple):
    """A 64-bit number for each of a row's two hashes."""

    first: int
    second: int

    @classmethod
    def fresh(cls) -> Self:
        """Ones that nobody knew when the rows were written: for known ones, rows can be made up whose sums collide."""
        return cls(secrets.randbits(_BITS), secrets.randbits(_BITS))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` has written; ValueError for anything else."""
        if len(text) != 2 * _DIGITS or not all(each in "0123456789abcdef" for each in text):
            raise ValueError(f"seeds are {2 * _DIGITS} hexadecimal digits, not {text!r}")
        return cls(int(text[:_DIGITS], 16), int(text[_DIGITS:], 16))

    def __str__(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.first:016x}{self.second:016x}"


SEEDS = Seeds(0x5354415445485542, 0x2D504C414E2D7632)
"""For hashes that are kept and compared later: a backup's digest must mean the same years later."""
