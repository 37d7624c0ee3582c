"""What applying sees and what it may use: one look at the world, and everything outside as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from statehub_plan.abstraction import Grounded
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Phase, Plan, Step, Verdict
from statehub_plan.model.record import GateState, Record, RecordKind, RunContext
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.switch import Switch
from statehub_plan.steps.stage import Execute, Stage
from statehub_plan.world import World


@dataclass(frozen=True)
class Glance:
    """One look at the world, in facts and in the finite model."""

    observation: Observation
    evidence: tuple[Evidence, ...]
    grounded: Grounded

    @property
    def world(self) -> World:
        """The finite world."""
        return self.grounded.world


@dataclass(frozen=True)
class Surroundings:
    """Everything outside that applying needs, as functions, so that a test can hold each of them in its hand.

    `observe` looks, deep or not; `observe_unrecorded` quickly, and with what was last read of the journal: it does not
    ask that again."""

    observe: Callable[[bool], tuple[Observation, tuple[Evidence, ...]]]
    observe_unrecorded: Callable[[], tuple[Observation, tuple[Evidence, ...]]]
    judge: Callable[[Plan, Phase, RunContext, Glance, tuple[GateState, ...]], Verdict]
    gates: Callable[[Plan], tuple[GateState, ...]]
    records: Callable[[], tuple[Record, ...]]
    append: Callable[[RecordKind, str | None, dict[str, JsonValue]], None]
    executor: Callable[[StepKind], Execute]
    begin_switch: Callable[[Stage, bool], Switch]
    switch_part: Callable[[Stage, Switch, Step], dict[str, JsonValue]]
    now: Callable[[], datetime]
