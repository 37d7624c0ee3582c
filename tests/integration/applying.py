"""The command line run in this process on the demo's real world, and `apply` with something happening in the middle."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from statehub_plan import cli
from statehub_plan.cli.runs import carry_out
from statehub_plan.cli.workspace import Workspace, load_plan
from statehub_plan.demo.world import DemoWorld
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.plan import Step

GATE = "CUST-WP-0011-T07"


@dataclass(frozen=True)
class Ran:
    """How one command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def told(self) -> str:
        """Everything that was printed."""
        return self.out + self.err


def ran(*arguments: str | Path) -> Ran:
    """One command of the tool, as `main` would run it."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.run([str(argument) for argument in arguments])
    return Ran(int(status), out.getvalue(), err.getvalue())


@contextmanager
def demo_world(**options: Any) -> Iterator[DemoWorld]:
    """Two sites with few rows, and this process's environment as their user's shell would have it."""
    wished = {"method": "dump", "fallback": "frozen"} | options
    with DemoWorld(rows=5_000, settings={"fsync": "off"}, **wished) as built:
        before = dict(os.environ)
        os.environ.update(built.env)
        try:
            yield built
        finally:
            os.environ.clear()
            os.environ.update(before)


def approve(world: DemoWorld, file: Path, gate: str = GATE) -> Ran:
    """The approver's signature under a saved plan."""
    return ran("approve", file, "--gate", gate, "--key", world.key_file, "--reason", "agreed", "--yes")


def planned(world: DemoWorld, name: str, making: str = "plan", document: Path | None = None) -> Path:
    """A saved plan that nobody has approved."""
    file = world.directory / f"{name}.plan"
    made = ran(making, document or world.plan_file, "-out", file)
    assert Exit.DONE == made.status, made.told
    return file


def approved(world: DemoWorld, name: str, making: str = "plan", document: Path | None = None, gate: str = GATE) -> Path:
    """A saved and approved plan."""
    file = planned(world, name, making, document)
    signed = approve(world, file, gate)
    assert Exit.DONE == signed.status, signed.told
    return file


class At:
    """A reporter that does something once, at one moment: `started:KIND`, `inside:KIND`, `ended:KIND`, `switching:KIND`
    or, for a place that a step names itself, PLACE:KIND (PLACE:switch in a switch that is no rehearsal)."""

    def __init__(self, moment: str, act: Callable[[], object]) -> None:
        self.acted = False
        self.steps: list[str] = []
        self._moment = moment
        self._act = act
        self._kind = ""
        self._switching = False

    def _reached(self, when: str) -> None:
        if not self.acted and self._moment == f"{when}:{self._kind}":
            self.acted = True
            self._act()

    def step_started(self, step: Step, index: int, total: int) -> None:
        """After the intent is on record."""
        self._kind = step.kind.value
        self._switching = False
        self.steps.append(self._kind)
        self._reached("started")

    def step_ended(self, step: Step, outcome: str, elapsed_s: float) -> None:
        """After the outcome is on record."""
        self._reached("ended")

    def switching(self, step: Step) -> None:
        """Between two parts of the switch, while writers wait."""
        self._kind = step.kind.value
        self._switching = True
        self.steps.append(self._kind)
        self._reached("switching")

    def moment(self, name: str) -> None:
        """At a place inside a step; any of its threads may come there."""
        if self._switching and not self.acted and self._moment == f"{name}:switch":
            self.acted = True
            self._act()
        self._reached(name)

    def progress(self, label: str, done: float, total: float | None, unit: str) -> None:
        """Somewhere inside a long step."""
        self._reached("inside")

    def note(self, text: str) -> None:
        """Somewhere inside a step."""
        self._reached("inside")


def applied_with(file: Path, reporter: At) -> StatehubError | None:
    """How `apply` ended: None when it was done, else what it says."""
    plan = load_plan(file)
    try:
        with Workspace.of_plan(plan) as workspace:
            carry_out(workspace, plan, reporter, reporter.moment)
    except StatehubError as error:
        return error
    return None


def accepts_writes(world: DemoWorld, name: str) -> bool:
    """Whether the service's own role could write there now; waits for nothing, changes nothing."""
    with psycopg.connect(world.sites[name].dsn("statehub_app"), autocommit=True) as connection:
        try:
            connection.execute("BEGIN READ WRITE")
            connection.execute("SET LOCAL lock_timeout = '500ms'")
            connection.execute("DELETE FROM public.idempotency_key WHERE false")
        except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.LockNotAvailable):
            return False
        return True


def fences_enabled(world: DemoWorld, name: str) -> int:
    """How many tables of that side refuse writes by the tool's triggers."""
    with psycopg.connect(world.sites[name].cluster.dsn("statehub"), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%statehub_plan%' AND tgenabled <> 'D'"
        ).fetchone()
    assert row is not None
    return int(row[0])
