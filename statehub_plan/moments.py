"""Named places inside a step, where what is done so far is one thing and what comes next another.

A run takes no notice of them. A test ends its own process at one, which leaves what a power cut would leave there.
"""

from __future__ import annotations

from collections.abc import Callable

Moment = Callable[[str], None]
"""Called with the name of the place that was just reached; from any thread, and also while writers wait."""


def passed_by(_name: str) -> None:
    """Nothing happens there."""
