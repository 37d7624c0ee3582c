"""(document, observation, evidence) → Plan: the planner's steps dressed with ids, titles, gates and parameters. Pure.

Digests: `effects_digest` covers everything that changes what will be done to whom (kinds, subjects, parameters, gates,
identities, term) and nothing else, so that a re-plan with the same effects keeps its approvals.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue

from statehub_plan.abstraction import Grounded, ground
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import digest
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Direction, Plan, PlanFile, Refused, Step
from statehub_plan.model.spec import (
    CutoverPlan,
    Desired,
    Fallback,
    FallbackMode,
    Gate,
    Lane,
    TransferMethod,
)
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Next, Wish, unfold
from statehub_plan.registers import identity_of
from statehub_plan.transitions import TRANSITIONS
from statehub_plan.world import Access, Data, Role, World

SAFETY_KINDS = frozenset({StepKind.BURN, StepKind.OPEN, StepKind.FREEZE, StepKind.CHECK_EVIDENCE, StepKind.BACKUP})
"""Kinds that an interrupted run may add to what its plan shows: they end an outage or only read and keep."""

REDIRECT_AGAIN = "an interrupted run may have changed a path and not made it known"

_NO_EFFECT = frozenset({StepKind.CHECK_EVIDENCE, StepKind.BACKUP, StepKind.RESTORE_DRILL})


def turned(document: CutoverPlan, primary: str, *, alone: bool = False) -> CutoverPlan:
    """The document with `primary` as the wish and the other endpoint as retained fallback; with `alone`, as one that is
    frozen and follows nobody: what keeping a primary ends with that was never moved, and so has no fallback yet.

    Evidence of the way there says nothing about the way back, so tasks and entry criteria are dropped; gates, limits
    and policies stay. A lane that is deferred is so on the way there: nobody waits for it to be allowed back."""
    desired = document.spec.desired
    if primary == desired.primary:
        return document
    frozen = alone or desired.fallback.mode is FallbackMode.RETIRED
    mode = FallbackMode.FROZEN if frozen else desired.fallback.mode
    away = next(name for name in document.spec.endpoints if name != primary)
    spec = document.spec.model_copy(
        update={
            "desired": Desired(
                primary=primary, fallback=Fallback(endpoint=away, mode=mode, limits=desired.fallback.limits)
            ),
            "tasks": (),
            "entry_criteria": (),
        }
    )
    metadata = document.metadata.model_copy(update={"lane": Lane.ACTIVE})
    return document.model_copy(update={"spec": spec, "metadata": metadata})


def with_method(document: CutoverPlan, observation: Observation) -> CutoverPlan:
    """The document with `transfer.method: auto` settled by the pre-flight checks: a dump where something stands in the
    way of replication alone, and the fallback is not to follow (then only replication will do)."""
    transfer = document.spec.transfer
    if transfer.method is not TransferMethod.AUTO:
        return document
    preflight = observation.value("preflight")
    hindered = isinstance(preflight, dict) and bool(preflight.get("replication_errors"))
    follows = document.spec.desired.fallback.mode is FallbackMode.FOLLOWING
    method = TransferMethod.DUMP if hindered and not follows else TransferMethod.REPLICATION
    spec = document.spec.model_copy(update={"transfer": transfer.model_copy(update={"method": method})})
    return document.model_copy(update={"spec": spec})


def wish_of(document: CutoverPlan, direction: Direction) -> Wish:
    """What of the document chooses steps. An abort ends with the present primary serving: it retires nothing."""
    spec = document.spec
    return Wish(
        fallback=spec.desired.fallback.mode,
        method=TransferMethod.REPLICATION if spec.transfer.method is TransferMethod.AUTO else spec.transfer.method,
        replace_target=spec.transfer.target_content == "replace",
        drill_before_cutover=spec.drills.before_cutover,
        document=spec.operating_model is not None,
        settle=direction is not Direction.ABORT,
    )


def gate_of(document: CutoverPlan, step: Next) -> Gate | None:
    """The gate that guards this step. Steps that only restore safety (reopening the old primary, burning a term,
    shutting a stray writer) are never gated: nobody may have to be asked to end an outage."""
    reopening = step.kind is StepKind.OPEN and step.role is Role.OLD
    if step.serves == "safety" or step.kind is StepKind.BURN or reopening:
        return None
    return next((gate for gate in document.spec.gates if step.kind in gate.guards), None)


def _replacing(subject: str, away: str) -> str:
    """Whoever signs must see that rows go away, and where they can be found again."""
    return f"fence {subject}, dump what it holds into the backup folder, REPLACE it by the empty schema of {away}"


def _title(kind: StepKind, subject: str, away: str, document: CutoverPlan) -> str:
    titles = {
        StepKind.CHECK_EVIDENCE: "put the evidence of the earlier tasks on record",
        StepKind.BACKUP: f"back up {subject} with a checksummed manifest",
        StepKind.RESTORE_DRILL: f"restore the newest backup into a scratch database on {subject} and compare",
        StepKind.PREPARE_TARGET: f"fence {subject} and load the schema of {away} into it",
        StepKind.FOLLOW: f"make {subject} follow {away}",
        StepKind.PREPARE_REVERSE: f"prepare {subject} to follow {away} from that one's first write on",
        StepKind.UNFOLLOW: f"end the stream from {away} into {subject}",
        StepKind.REHEARSE: f"rehearse hold, drain and proof on {subject}, then release",
        StepKind.HOLD: f"hold writes on {subject} (writers wait; released at once if this tool dies)",
        StepKind.COPY: f"copy every row from {away} to {subject}, then indexes and constraints",
        StepKind.DRAIN: f"wait until the barrier written on {away} has arrived on {subject}",
        StepKind.SYNC_SEQUENCES: f"set every sequence of {subject} to its value on {away}",
        StepKind.COMPARE: f"prove {subject} equal to {away}: catalog, row counts, content",
        StepKind.FREEZE: f"freeze {subject} durably",
        StepKind.DECIDE: f"POINT OF NO RETURN: decide that {subject} is primary",
        StepKind.BURN: f"burn the pending term, so that no late decision can fall against {subject}",
        StepKind.OPEN: f"open {subject} for writes",
        StepKind.REVERSE_FOLLOW: f"make {subject} follow {away}",
        StepKind.REDIRECT: f"point every access path at {subject}",
        StepKind.STABILIZE: f"watch {subject} for {document.spec.stabilization.duration}",
        StepKind.DOCUMENT: "write the operating model",
        StepKind.FAILOVER_DRILL: f"make {subject} fail over and verify",
        StepKind.RETIRE: f"retire the fallback {subject} (it stays frozen; nothing is deleted)",
    }
    return titles[kind]


def _access_params(document: CutoverPlan, subject: str) -> dict[str, JsonValue]:
    """All of each path: which file, which place in it, which commands, and the value."""
    return {
        path.name: {"path": path.model_dump(mode="json", by_alias=True), "value": path.values.get(subject)}
        for path in document.spec.access
    }


def _params(step: Next, document: CutoverPlan, grounded: Grounded, before: World, away: str) -> dict[str, JsonValue]:
    """Everything about the step that changes its effect."""
    spec = document.spec
    subject = grounded.old if step.role is Role.OLD else grounded.new
    if step.kind is StepKind.PREPARE_TARGET:
        return {
            "replaces_content": before.new.data is not Data.ABSENT,
            "method": spec.transfer.method.value,
            "source": away,
        }
    if step.kind in (StepKind.HOLD, StepKind.REHEARSE):
        return {"limits": spec.freeze.model_dump(mode="json", by_alias=True)}
    if step.kind is StepKind.COMPARE:
        return {"content": spec.compare.content, "waived": [one.name for one in spec.compare.waive]}
    if step.kind is StepKind.REDIRECT:
        return {"paths": _access_params(document, subject)}
    if step.kind is StepKind.STABILIZE:
        return spec.stabilization.model_dump(mode="json", by_alias=True)
    if step.kind is StepKind.DOCUMENT and spec.operating_model is not None:
        return {"path": spec.operating_model.path}
    if step.kind is StepKind.FAILOVER_DRILL and spec.drills.failover is not None:
        return {"argv": list(spec.drills.failover.argv)}
    if step.kind in (StepKind.FREEZE, StepKind.DECIDE, StepKind.BURN):
        return {"term": grounded.term}
    return {}


def dress(document: CutoverPlan, grounded: Grounded, index: int, step: Next, before: World) -> Step:
    """One step of the planner as it is shown, signed and carried out."""
    subject, away = (grounded.old, grounded.new) if step.role is Role.OLD else (grounded.new, grounded.old)
    gate = gate_of(document, step)
    params = _params(step, document, grounded, before, away)
    again = step.kind is StepKind.REDIRECT and before.access is Access.SPLIT and grounded.redirect_due
    return Step(
        id=f"{index:02d}-{step.kind.value}",
        kind=step.kind,
        subject=subject,
        step_class=TRANSITIONS[step.kind].step_class,
        title=_replacing(subject, away)
        if params.get("replaces_content")
        else _title(step.kind, subject, away, document),
        serves=step.serves,
        because=REDIRECT_AGAIN if again else step.because,
        gate=gate.name if gate is not None else None,
        params=params,
    )


def effect_key(step: Step) -> JsonValue:
    """What of a step is an effect: two steps with the same key do the same to the same."""
    return [step.kind.value, step.subject, step.gate, dict(step.params)]


_WORDS = frozenset({"title", "narrative", "nextAction", "whenDone", "serviceTitle", "tasksCalled"})
"""Keys of a document that only people read."""


def _without_words(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _without_words(inner) for key, inner in value.items() if key not in _WORDS}
    return [_without_words(inner) for inner in value] if isinstance(value, list) else value


def _effects(plan: Plan) -> JsonValue:
    """What is done to whom, and everything in the document that steers it: limits, gates, probes, policies, files."""
    return {
        "name": plan.spec.metadata.name,
        "lane": plan.spec.metadata.lane.value,
        "old": plan.old,
        "new": plan.new,
        "term": plan.term,
        "identities": {name: one.model_dump(mode="json") for name, one in plan.identities.items()},
        "steps": [effect_key(step) for step in plan.steps if step.kind not in _NO_EFFECT],
        "spec": _without_words(plan.spec.spec.model_dump(mode="json", by_alias=True)),
    }


def probe_digests(document: CutoverPlan) -> dict[str, JsonValue]:
    """`task/probe` → digest of the probe's definition: a recorded outcome speaks for that very probe only."""
    return {
        f"{task.id}/{probe.name}": digest(probe.model_dump(mode="json", by_alias=True))
        for task in document.spec.tasks
        for probe in task.probes
    }


def evidence_digest(evidence: tuple[Evidence, ...]) -> str:
    """Digest of what each probe showed, without when."""
    return digest({f"{one.task}/{one.probe}": one.status.value for one in evidence})


def make_plan(
    document: CutoverPlan,
    *,
    observation: Observation,
    evidence: tuple[Evidence, ...],
    now: datetime,
    author: str,
    tool_version: str,
    spec_digest: str,
    spec_path: str,
    direction: Direction = Direction.FORWARD,
) -> Plan:
    """The plan from the observed world to the document's wish, not yet judged. Deterministic in its arguments."""
    document = with_method(document, observation)
    grounded = ground(document, observation, evidence, now=now)
    unfolded = unfold(grounded.world, wish_of(document, direction))
    steps = tuple(
        dress(document, grounded, index, step, before)
        for index, (step, before) in enumerate(zip(unfolded.steps, unfolded.trajectory, strict=False), start=1)
    )
    plan = Plan(
        tool_version=tool_version,
        created_at=now,
        author=author,
        direction=direction,
        spec=document,
        spec_digest=spec_digest,
        spec_path=spec_path,
        old=grounded.old,
        new=grounded.new,
        term=grounded.term,
        identities={name: identity_of(observation, name) for name in sorted(document.spec.endpoints)},
        observation=observation,
        evidence=evidence,
        steps=steps,
        trajectory=unfolded.trajectory,
        refused=_with_basis(unfolded.refused, grounded),
        effects_digest="",
        evidence_digest=evidence_digest(evidence),
    )
    return plan.model_copy(update={"effects_digest": digest(_effects(plan))})


def _with_basis(refused: Refused | None, grounded: Grounded) -> Refused | None:
    """A refusal for want of a primary says why it is not known."""
    if refused is None or refused.code != "primary-unknown" or grounded.register.primary is not None:
        return refused
    return refused.model_copy(update={"what": f"{refused.what}: {grounded.register.basis}"})


def read_plan_file(text: bytes, source: str, parse: Callable[[bytes], PlanFile]) -> Plan:
    """The plan inside a saved file; a refusal when any byte of it changed since it was saved, or when it is not what
    this planner makes of the document and the facts in it: whoever approves reads its words and signs its effects. Of
    the verdict only the policies themselves can tell; they are asked again by whoever carries the plan out."""
    saved = parse(text)
    if PlanFile.seal(saved.plan).digest != saved.digest:
        raise _tampered(source, f"the content does not match its digest {saved.digest}")
    if _made_again(saved.plan) != saved.plan:
        raise _tampered(source, f"statehub-plan {saved.plan.tool_version} or somebody else has written other steps")
    return saved.plan


def _made_again(plan: Plan) -> Plan:
    made = make_plan(
        plan.spec,
        observation=plan.observation,
        evidence=plan.evidence,
        now=plan.created_at,
        author=plan.author,
        tool_version=plan.tool_version,
        spec_digest=plan.spec_digest,
        spec_path=plan.spec_path,
        direction=plan.direction,
    )
    return made.model_copy(update={"verdict": plan.verdict})


def _tampered(source: str, what: str) -> StatehubError:
    return StatehubError(
        code="plan-tampered",
        what=f"{source}: {what}",
        hint="make the plan again with `plan -out`; a plan file is never edited",
        exit_status=Exit.STALE_PLAN,
    )
