"""What the pre-flight checks found: the vocabulary that doctor, plans, observations and steps share."""

from __future__ import annotations

from enum import StrEnum

from statehub_plan.model.base import Frozen


class Severity(StrEnum):
    """`error` stands in the way of a move, `warning` is told and decided by people, `info` is only told."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Side(StrEnum):
    """Of the two databases: `source` is moved from, `target` is moved to."""

    SOURCE = "source"
    TARGET = "target"


class Found(Frozen):
    """One thing that a check has to say. `side` is where the remedy applies, `subject` the object that it is about
    (empty: the side as a whole), `reason` the incident that is prevented, `remedy` a statement to run where one exists.
    """

    id: str
    severity: Severity
    side: Side
    subject: str
    what: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what
