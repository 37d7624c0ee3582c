"""`apply` in a process that kills itself with SIGKILL at one named moment; what is left is what a power cut leaves.

The moment comes through the reporter, which the applier tells everything: `started:N` right after step N's intent is on
record, `inside:N` at the first thing that step N reports, `ended:N` right after its outcome is on record, `switching:N`
right before part N of a switch. Any other word is a place that a step names itself (`statehub_plan.moments`), with the
kind of the step; those of a switch that is no rehearsal are `PLACE:switch`, as several threads reach them, and as the
first of them come before any of its parts has begun.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from statehub_plan.cli.runs import carry_out
from statehub_plan.cli.workspace import Workspace, load_plan
from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Step
from tests.integration.forking import forked


class Killer:
    """A reporter that ends its own process at one moment."""

    def __init__(self, moment: str) -> None:
        self._when, _, self._kind = moment.partition(":")
        self._kind_now = "switch"  # between two steps nothing but a switch is being prepared
        self._switching = False

    def _at(self, when: str, kind: str) -> None:
        if (when, kind) == (self._when, self._kind):
            os.kill(os.getpid(), signal.SIGKILL)

    def step_started(self, step: Step, index: int, total: int) -> None:
        """After the intent is on record."""
        self._kind_now = step.kind.value
        self._switching = False
        self._at("started", step.kind.value)

    def step_ended(self, step: Step, outcome: str, elapsed_s: float) -> None:
        """After the outcome is on record."""
        self._at("ended", step.kind.value)
        self._kind_now = "switch"

    def switching(self, step: Step) -> None:
        """Between two parts of the switch, while writers wait."""
        self._kind_now = step.kind.value
        self._switching = True
        self._at("switching", step.kind.value)

    def moment(self, name: str) -> None:
        """At a place inside a step."""
        self._at(name, "switch" if self._switching else self._kind_now)

    def progress(self, label: str, done: float, total: float | None, unit: str) -> None:
        """Somewhere inside a long step."""
        self._at("inside", self._kind_now)

    def note(self, text: str) -> None:
        """Somewhere inside a step."""
        self._at("inside", self._kind_now)


def killed_apply(plan_file: Path, moment: str) -> int:
    """`apply` in a child process that kills itself at `moment`; minus the signal that ended it, else its status."""
    return forked(lambda: _apply(plan_file, moment))


def _apply(plan_file: Path, moment: str) -> int:
    plan = load_plan(plan_file)
    try:
        with Workspace.of_plan(plan) as workspace:
            killer = Killer(moment)
            carry_out(workspace, plan, killer, killer.moment)
    except StatehubError as error:
        print(error, file=sys.stderr, flush=True)
        return int(error.exit_status)
    return 0
