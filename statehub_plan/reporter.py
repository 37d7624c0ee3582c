"""Where a run tells a person how it goes; anything with these five methods will do."""

from __future__ import annotations

from typing import Protocol

from statehub_plan.model.plan import Step


class Reporter(Protocol):
    """Where a person is told how it goes; never a place for results."""

    def step_started(self, step: Step, index: int, total: int) -> None:
        """A step begins."""
        ...

    def step_ended(self, step: Step, outcome: str, elapsed_s: float) -> None:
        """A step ended; `outcome` is one short line."""
        ...

    def switching(self, step: Step) -> None:
        """A step begins while writers wait: nothing that takes time. It is told again, with its outcome, afterwards."""
        ...

    def progress(self, label: str, done: float, total: float | None, unit: str) -> None:
        """How far a long step is; `total` is None when nobody knows."""
        ...

    def note(self, text: str) -> None:
        """One line worth reading now."""
        ...
