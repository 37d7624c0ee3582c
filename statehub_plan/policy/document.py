"""The document that policies see, as models: every field mandatory, instants as integer UTC seconds. Pure."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import ConfigDict, Field, JsonValue, create_model

from statehub_plan.model.base import Frozen
from statehub_plan.model.facts import EvidenceStatus, FactStatus
from statehub_plan.model.plan import Phase
from statehub_plan.model.record import ApprovalStatus, CriterionStatus
from statehub_plan.model.spec import FallbackMode, Lane, TransferMethod
from statehub_plan.model.steps import StepClass, StepKind
from statehub_plan.model.stream import StreamState
from statehub_plan.world import Side, World

SCHEMA: Literal["statehub-plan/input/v1"] = "statehub-plan/input/v1"
Seconds = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]


class _View(Frozen):
    """Strict: a document that had to be coerced was not made by this tool."""

    model_config = ConfigDict(strict=True, populate_by_name=True)


@cache  # one model per dataclass: a second SideView would not be the SideView that WorldView wants
def _view_of(dataclass_type: type) -> type[_View]:
    """The model with exactly the fields of a dataclass, all mandatory: the world can't grow past the policies."""
    hints = get_type_hints(dataclass_type)
    types = {
        field.name: _view_of(hints[field.name]) if is_dataclass(hints[field.name]) else hints[field.name]
        for field in fields(dataclass_type)
    }
    definitions: dict[str, Any] = {name: (kind, ...) for name, kind in types.items()}
    model: type[_View] = create_model(
        f"{dataclass_type.__name__}View", __base__=_View, __doc__=dataclass_type.__doc__, **definitions
    )
    return model


SideView = _view_of(Side)
WorldView = _view_of(World)


class IdentityView(_View):
    """Who an endpoint is; all null when that is not known."""

    system_identifier: str | None
    database: str | None
    database_oid: int | None


class RunView(_View):
    """Who is asking, for which step; no id before a run exists, no step outside the phase `step`."""

    id: str
    author: str
    epoch: Annotated[int, Field(ge=0)]
    step: str | None


class RefusedView(_View):
    """Why the planner could not reach the wish."""

    code: str
    what: str
    remedy: str


class StepView(_View):
    """One step of the plan; `subject` is the endpoint it acts on."""

    id: str
    kind: StepKind
    subject: str | None
    step_class: StepClass = Field(alias="class")
    gate: str | None


class GateView(_View):
    """A gate as the plan declares it."""

    name: str
    guards: tuple[StepKind, ...]
    quorum: int
    approvers: tuple[str, ...]
    author_may_approve: bool


class FallbackView(_View):
    """The retained other side, as wished."""

    endpoint: str
    mode: FallbackMode


class DesiredView(_View):
    """The wish."""

    primary: str
    fallback: FallbackView


class TaskView(_View):
    """A task and the probes that must show it to be done."""

    id: str
    probes: tuple[str, ...]


class PlanView(_View):
    """The plan being judged. World i of the trajectory is the one before step i; the last one is the end.
    `disks_watched`: endpoints for which the plan names a command that tells the disk left."""

    digest: str
    name: str
    lane: Lane
    created_at: int
    old: str
    new: str
    term: int
    method: TransferMethod
    disks_watched: tuple[str, ...]
    refused: RefusedView | None
    steps: tuple[StepView, ...]
    trajectory: Annotated[tuple[WorldView, ...], Field(min_length=1)]  # type: ignore[valid-type]
    gates: tuple[GateView, ...]
    tasks: tuple[TaskView, ...]
    criteria: tuple[str, ...]
    desired: DesiredView
    identities: dict[str, IdentityView]


class FactView(_View):
    """One observed fact."""

    status: FactStatus
    value: JsonValue
    observed_at: int


class StreamView(_View):
    """The stream into one endpoint from the other. `observed` is false where either end could not be seen; sizes are
    null where they are not known."""

    state: StreamState
    why: str
    slot: str | None
    lag_bytes: Bytes | None
    retained_bytes: Bytes | None
    disk_free_bytes: Bytes | None
    lossless: bool
    observed: bool
    since: int | None


class OrphanView(_View):
    """A slot of the tool's that keeps WAL for nobody."""

    endpoint: str
    name: str
    retained_bytes: Bytes | None


class ObservedView(_View):
    """What is the case now; `identities` are those just observed, not those of the plan. `streams` by receiver."""

    world: WorldView  # type: ignore[valid-type]
    identities: dict[str, IdentityView]
    streams: dict[str, StreamView]
    orphans: tuple[OrphanView, ...]
    facts: dict[str, FactView]


class EvidenceView(_View):
    """One probe and what it showed."""

    task: str
    probe: str
    status: EvidenceStatus
    detail: str
    observed_at: int


class ApprovalView(_View):
    """One approval after its signature and its bindings were judged."""

    gate: str
    principal: str
    fingerprint: str | None
    status: ApprovalStatus
    detail: str
    decide_by: int | None
    execute_by: int | None
    by_author: bool
    source: str


class GateStateView(_View):
    """A gate and the approvals given for it."""

    gate: str
    quorum: int
    satisfied: bool
    fingerprints: tuple[str, ...]
    approvals: tuple[ApprovalView, ...]


class DrillView(_View):
    """The newest drill of one kind."""

    kind: str
    passed: bool
    at: int


class CriterionView(_View):
    """An entry criterion of the lane and whether it holds."""

    name: str
    lane: str
    status: CriterionStatus
    detail: str


class HistoryView(_View):
    """What the journal says."""

    unknown_steps: tuple[str, ...]
    finished_runs: tuple[str, ...]
    drills: tuple[DrillView, ...]
    criteria: tuple[CriterionView, ...]
    gates_passed: tuple[str, ...]


class LimitsView(_View):
    """The plan's own limits in whole seconds (milliseconds, bytes), rounded up; null where the plan declares no such
    drill, or rows travel by dump and nothing is rehearsed."""

    backup_max_age_s: Seconds
    restore_drill_max_age_s: Seconds | None
    failover_drill_max_age_s: Seconds | None
    observation_max_age_s: Seconds
    hold_max_s: Seconds
    rehearsal_max_age_s: Seconds | None
    switch_timeout_ms: Milliseconds
    advise_lag_bytes: Bytes
    max_lag_bytes: Bytes
    advise_retained_bytes: Bytes
    drop_slot_at_retained_bytes: Bytes
    advise_disk_free_bytes: Bytes
    drop_slot_at_disk_free_bytes: Bytes


class BundleInfo(Frozen):
    """Which policies judge: a digest over every policy and data file, and the hazards that they cover, sorted."""

    digest: str
    packages: tuple[str, ...]


class PolicyInput(_View):
    """Everything a policy may read."""

    schema_version: Literal["statehub-plan/input/v1"] = Field(alias="schema")
    now: int
    phase: Phase
    run: RunView
    plan: PlanView
    observed: ObservedView
    evidence: tuple[EvidenceView, ...]
    approvals: tuple[GateStateView, ...]
    history: HistoryView
    limits: LimitsView
    bundle: BundleInfo
