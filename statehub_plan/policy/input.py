"""(Plan, fresh observation, approvals, history) → the document that policies see. Pure."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Identity, Phase, Plan, Refused
from statehub_plan.model.record import GateState, History, RunContext
from statehub_plan.model.spec import CutoverSpec, TransferMethod, duration_s, size_bytes
from statehub_plan.policy.document import (
    SCHEMA,
    ApprovalView,
    BundleInfo,
    CriterionView,
    DesiredView,
    DrillView,
    EvidenceView,
    FactView,
    FallbackView,
    GateStateView,
    GateView,
    HistoryView,
    IdentityView,
    LimitsView,
    ObservedView,
    OrphanView,
    PlanView,
    PolicyInput,
    RefusedView,
    RunView,
    SideView,
    StepView,
    StreamView,
    TaskView,
    WorldView,
)
from statehub_plan.streams import orphans, stream_between
from statehub_plan.world import Side, World

OBSERVATION_MAX_AGE_S = 120
"""How old a decisive fact may be when a run is judged; a look at two endpoints takes seconds, a human does not."""


def build_input(
    *,
    plan: Plan,
    phase: Phase,
    now: datetime,
    run: RunContext,
    observed: Observation,
    world: World,
    evidence: tuple[Evidence, ...],
    gates: tuple[GateState, ...],
    history: History,
    bundle: BundleInfo,
) -> dict[str, JsonValue]:
    """The document about one plan at one moment, valid by construction.

    `observed`, `world` and `evidence` are what is the case now (at planning those of the plan itself), never those
    that an older plan file carries.
    """
    document = PolicyInput(
        schema_version=SCHEMA,
        now=epoch_s(now),
        phase=phase,
        run=RunView(id=run.id, author=run.author, epoch=run.epoch, step=run.step),
        plan=_plan_view(plan),
        observed=_observed_view(plan, observed, world),
        evidence=tuple(_evidence_view(each) for each in evidence),
        approvals=tuple(_gate_state_view(gate) for gate in gates),
        history=_history_view(history),
        limits=_limits_view(plan.spec.spec),
        bundle=bundle,
    )
    plain: dict[str, JsonValue] = document.model_dump(mode="json", by_alias=True)
    return plain


def _world_view(world: World) -> WorldView:  # type: ignore[valid-type]
    sides = {name: SideView(**_fields_of(getattr(world, name))) for name in ("old", "new")}
    return WorldView(**{**_fields_of(world), **sides})


def _fields_of(value: Side | World) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _plan_view(plan: Plan) -> PlanView:
    spec = plan.spec.spec
    return PlanView(
        digest=plan.effects_digest,
        name=plan.spec.metadata.name,
        lane=plan.spec.metadata.lane,
        created_at=epoch_s(plan.created_at),
        old=plan.old,
        new=plan.new,
        term=plan.term,
        method=spec.transfer.method,
        disks_watched=tuple(
            sorted(name for name, endpoint in spec.endpoints.items() if endpoint.database.disk_free is not None)
        ),
        refused=_refused_view(plan.refused),
        steps=tuple(
            StepView(id=step.id, kind=step.kind, subject=step.subject, step_class=step.step_class, gate=step.gate)
            for step in plan.steps
        ),
        trajectory=tuple(_world_view(world) for world in plan.trajectory),
        gates=tuple(
            GateView(
                name=gate.name,
                guards=gate.guards,
                quorum=gate.quorum,
                approvers=gate.approvers,
                author_may_approve=gate.author_may_approve,
            )
            for gate in spec.gates
        ),
        tasks=tuple(TaskView(id=task.id, probes=tuple(probe.name for probe in task.probes)) for task in spec.tasks),
        criteria=tuple(criterion.name for criterion in spec.entry_criteria),
        desired=DesiredView(
            primary=spec.desired.primary,
            fallback=FallbackView(endpoint=spec.desired.fallback.endpoint, mode=spec.desired.fallback.mode),
        ),
        identities={name: _identity_view(identity) for name, identity in sorted(plan.identities.items())},
    )


def _refused_view(refused: Refused | None) -> RefusedView | None:
    return None if refused is None else RefusedView(code=refused.code, what=refused.what, remedy=refused.remedy)


def _identity_view(identity: Identity) -> IdentityView:
    return IdentityView(
        system_identifier=identity.system_identifier,
        database=identity.database,
        database_oid=identity.database_oid,
    )


def _observed_view(plan: Plan, observed: Observation, world: World) -> ObservedView:
    ends = ((plan.old, plan.new), (plan.new, plan.old))
    return ObservedView(
        streams={receiver: _stream_view(observed, receiver, sender) for receiver, sender in ends},
        orphans=tuple(
            OrphanView(endpoint=one.endpoint, name=one.name, retained_bytes=one.retained_bytes)
            for one in orphans(observed, (plan.old, plan.new))
        ),
        world=_world_view(world),
        identities={name: _observed_identity(observed, name) for name in sorted(plan.spec.spec.endpoints)},
        facts={
            fact.id: FactView(status=fact.status, value=fact.value, observed_at=epoch_s(fact.observed_at))
            for fact in observed
        },
    )


def _stream_view(observed: Observation, receiver: str, sender: str) -> StreamView:
    found = stream_between(observed, receiver, sender)
    return StreamView(**{name: getattr(found, name) for name in StreamView.model_fields})


def _observed_identity(observed: Observation, endpoint: str) -> IdentityView:
    value = observed.value(f"{endpoint}.identity")
    return _identity_view(Identity.model_validate(value) if isinstance(value, dict) else Identity())


def _evidence_view(evidence: Evidence) -> EvidenceView:
    return EvidenceView(
        task=evidence.task,
        probe=evidence.probe,
        status=evidence.status,
        detail=evidence.detail,
        observed_at=epoch_s(evidence.observed_at),
    )


def _gate_state_view(state: GateState) -> GateStateView:
    return GateStateView(
        gate=state.gate,
        quorum=state.quorum,
        satisfied=state.satisfied,
        fingerprints=state.fingerprints,
        approvals=tuple(
            ApprovalView(
                gate=each.gate,
                principal=each.principal,
                fingerprint=each.fingerprint,
                status=each.status,
                detail=each.detail,
                decide_by=None if each.decide_by is None else epoch_s(each.decide_by),
                execute_by=None if each.execute_by is None else epoch_s(each.execute_by),
                by_author=each.by_author,
                source=each.source,
            )
            for each in state.approvals
        ),
    )


def _history_view(history: History) -> HistoryView:
    return HistoryView(
        unknown_steps=history.unknown_steps,
        finished_runs=history.finished_runs,
        drills=tuple(DrillView(kind=drill.kind, passed=drill.passed, at=epoch_s(drill.at)) for drill in history.drills),
        criteria=tuple(
            CriterionView(name=each.name, lane=each.lane, status=each.status, detail=each.detail)
            for each in history.criteria
        ),
        gates_passed=history.gates_passed,
    )


def _limits_view(spec: CutoverSpec) -> LimitsView:
    drills, streams = spec.drills, spec.desired.fallback.limits
    replicates = spec.transfer.method is TransferMethod.REPLICATION
    return LimitsView(
        backup_max_age_s=_whole_s(spec.backup.max_age),
        restore_drill_max_age_s=None if drills.restore is None else _whole_s(drills.restore.max_age),
        failover_drill_max_age_s=None if drills.failover is None else _whole_s(drills.failover.max_age),
        observation_max_age_s=OBSERVATION_MAX_AGE_S,
        hold_max_s=_whole_s(spec.freeze.max_duration),
        rehearsal_max_age_s=_whole_s(spec.transfer.rehearsal.max_age) if replicates else None,
        switch_timeout_ms=math.ceil(duration_s(spec.freeze.switch_timeout) * 1000),
        advise_lag_bytes=size_bytes(streams.advise_lag),
        max_lag_bytes=size_bytes(streams.max_lag),
        advise_retained_bytes=size_bytes(streams.advise_retained),
        drop_slot_at_retained_bytes=size_bytes(streams.drop_slot_at_retained),
        advise_disk_free_bytes=size_bytes(streams.advise_disk_free),
        drop_slot_at_disk_free_bytes=size_bytes(streams.drop_slot_at_disk_free),
    )


def _whole_s(duration: str) -> int:
    return math.ceil(duration_s(duration))
