"""Where every lane stands: the model behind `status`, the same for text, JSON and Markdown."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.facts import Fact
from statehub_plan.model.plan import Refused
from statehub_plan.model.record import CriterionState, DrillRecord
from statehub_plan.model.steps import StepKind
from statehub_plan.model.stream import IdleSlot, Stream
from statehub_plan.status.alarm import Alarm


class LaneStanding(StrEnum):
    """`active`: there are steps to take. `waiting`: stabilization runs. `running`: a plan is being carried out now.
    `interrupted`: a run began, is not over, and nobody carries it on. `blocked`: something stands in the way or could
    not be observed. `deferred`: its entry criteria don't hold. `observed`: watched, never carried out."""

    DONE = "done"
    ACTIVE = "active"
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"
    DEFERRED = "deferred"
    OBSERVED = "observed"
    SUPERSEDED = "superseded"


class TaskStanding(StrEnum):
    """`unknown`: what would show it could not be looked at; never taken for done."""

    DONE = "done"
    TODO = "todo"
    UNKNOWN = "unknown"


class TaskStatus(Frozen):
    """One task; `detail` is what shows it to be done, or what is missing. `steps_done`, `steps_left`: the kinds of
    steps whose completion shows it, under the decision that stands now."""

    id: str
    title: str
    standing: TaskStanding
    detail: str
    steps_done: tuple[StepKind, ...] = ()
    steps_left: tuple[StepKind, ...] = ()
    when_done: str | None = None
    next_action: str | None = None


class GateStanding(StrEnum):
    """`passed`: its guarded steps were begun under it. `idle`: no step stands behind it now."""

    PASSED = "passed"
    APPROVED = "approved"
    MISSING = "missing"
    IDLE = "idle"
    UNKNOWN = "unknown"


class GateStatus(Frozen):
    """One human decision: what it guards, who may give it, how far it is."""

    gate: str
    title: str
    standing: GateStanding
    approvers: tuple[str, ...]
    quorum: int
    given: int
    detail: str


class CriterionStanding(Frozen):
    """One entry criterion; `title` completes "entry criteria depend on …"."""

    title: str
    state: CriterionState


class StabilizationStatus(Frozen):
    """The newest stabilization of the current term, as the journal has it."""

    state: str
    since_at: Instant | None = None
    until_at: Instant | None = None
    looks: int = 0
    failures: int = 0
    last: str = ""


class PrimaryStatus(Frozen):
    """Who is primary by the registers, and whether clients and writes are where they belong. `endpoint` is None where
    that could not be observed, and `basis` says why; `access` is an endpoint, `split` or `unknown`."""

    endpoint: str | None
    basis: str
    term: int
    decided_at: Instant | None = None
    decided_by: str | None = None
    writes: str = "unknown"
    health: str = "unknown"
    access: str = "unknown"


class FallbackStatus(Frozen):
    """The side that is not primary. `mode` is what the plan wishes it to be; `stream` is the one into it from the
    primary, None where none is wished and none is there, and `retained_limit_bytes` where its slot would be dropped."""

    endpoint: str
    mode: str
    writes: str
    follows: str
    retired: bool
    stream: Stream | None = None
    retained_limit_bytes: int | None = None


class LaneStatus(Frozen):
    """One lane: what was observed beside what its document says. `steps_left` are titles of the steps that a plan made
    now would take, `slots` what keeps WAL and nobody reads, `reached` is what criteria of other lanes may rest on,
    `unknown` what could not be observed, `to_mend` what no step of a plan mends, `alarm` that not exactly the primary
    accepts writes and gets them; None for a lane that stands apart."""

    name: str
    title: str
    kind: Literal["CutoverPlan", "ObservedLane"]
    standing: LaneStanding
    because: str
    alarm: Alarm | None = None
    wished_primary: str | None = None
    primary: PrimaryStatus | None = None
    fallback: FallbackStatus | None = None
    slots: tuple[IdleSlot, ...] = ()
    stabilization: StabilizationStatus | None = None
    reached: tuple[str, ...] = ()
    drills: tuple[DrillRecord, ...] = ()
    tasks_called: str = "tasks"
    tasks: tuple[TaskStatus, ...] = ()
    criteria: tuple[CriterionStanding, ...] = ()
    gates: tuple[GateStatus, ...] = ()
    steps_left: tuple[str, ...] = ()
    refused: Refused | None = None
    unknown: tuple[Fact, ...] = ()
    to_mend: tuple[str, ...] = ()
    next_action: str = ""
    decision: str | None = None
    rationale: str | None = None
    pickup: tuple[str, ...] = ()
    updated: str | None = None

    @property
    def moved(self) -> bool:
        """True when a decision has made the wished primary primary."""
        return self.primary is not None and self.primary.term > 0 and self.primary.endpoint == self.wished_primary


class Status(Frozen):
    """All lanes of a folder, active ones first."""

    schema_version: Literal["statehub-plan/status/v1"] = "statehub-plan/status/v1"
    observed_at: Instant
    services: tuple[str, ...]
    titles: tuple[str, ...]
    lanes: tuple[LaneStatus, ...]
