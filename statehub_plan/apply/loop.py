"""Carries a plan out, one observed step after the other, and resumes what an earlier process left.

Level-triggered: each turn looks at the world, asks the planner for the one next step, checks that the plan which was
shown and signed contains it, and does it. A crash is just another world to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import Grounded, ground
from statehub_plan.apply.staleness import changed_facts, stale
from statehub_plan.errors import Exit, OutcomeUnknown, Refusal, StatehubError
from statehub_plan.history import evidence_recorded
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Phase, Plan, Refused, Step, Verdict
from statehub_plan.model.record import GateState, Record, RecordKind, RunContext
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Next, Wish, next_step, unfold
from statehub_plan.planning import SAFETY_KINDS, dress, effect_key, evidence_digest, turned, wish_of
from statehub_plan.steps.stage import Execute, Stage, Waiting
from statehub_plan.transitions import effect
from statehub_plan.world import Data, Role, Term, World, difference

_LOOK_DEEP_AFTER = frozenset({StepKind.BACKUP, StepKind.RESTORE_DRILL, StepKind.PREPARE_TARGET, StepKind.DOCUMENT})
"""After these the slow facts may have changed; under a hold only the quick ones are looked at."""


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
    """Everything outside that applying needs, as functions, so that a test can hold each of them in its hand."""

    observe: Callable[[bool], tuple[Observation, tuple[Evidence, ...]]]
    judge: Callable[[Plan, Phase, RunContext, Glance, tuple[GateState, ...]], Verdict]
    gates: Callable[[Plan], tuple[GateState, ...]]
    records: Callable[[], tuple[Record, ...]]
    append: Callable[[RecordKind, str | None, dict[str, JsonValue]], None]
    executor: Callable[[StepKind], Execute]
    now: Callable[[], datetime]


class Applying:
    """One run of one plan under one lease."""

    def __init__(self, plan: Plan, stage: Stage, around: Surroundings, author: str) -> None:
        self.plan = plan
        self.stage = stage
        self.around = around
        self.author = author
        self.wish = wish_of(plan.spec)
        self._step_count = 0

    def run(self) -> None:
        """Returns when the wish holds. Waiting (8), Refusal (3, 4, 5) or StatehubError otherwise; before the decision
        a failure ends with the old primary open again, or says that it could not."""
        glance = self._begin()
        try:
            while (found := next_step(glance.world, self.wish)) is not None:
                if isinstance(found, Refused):
                    self._fail(None, _refusal(found))
                glance = self._turn(glance, found)
        finally:
            self.stage.release()
        self._finish(glance)

    # Beginning and end

    def _begin(self) -> Glance:
        records = self.around.records()
        mine = [record for record in records if record.run == self.stage.run]
        if any(record.kind is RecordKind.RUN_FINISHED for record in mine):
            raise stale((), f"run {self.stage.run} of this plan has finished; a plan is carried out once")
        glance = self.look(deep=True)
        if not any(record.kind is RecordKind.RUN_STARTED for record in mine):
            self._refuse_stale(glance)
            kind, payload = RecordKind.RUN_STARTED, self._identity_payload()
        else:
            kind, payload = RecordKind.RUN_RESUMED, {"world": _world_json(glance.world)}
        self._require_gate_ahead(glance)
        self.around.append(kind, None, payload)
        self._judge(Phase.APPLY, None, glance)
        return glance

    def _identity_payload(self) -> dict[str, JsonValue]:
        return {
            "direction": self.plan.direction.value,
            "old": self.plan.old,
            "new": self.plan.new,
            "term": self.plan.term,
            "effects_digest": self.plan.effects_digest,
            "author": self.author,
        }

    def _refuse_stale(self, glance: Glance) -> None:
        details = changed_facts(self.plan, glance.observation, glance.world)
        undecided = self.plan.trajectory[0].primary is Role.OLD
        if undecided and evidence_digest(glance.evidence) != self.plan.evidence_digest:
            details += tuple(f"evidence {one.task}/{one.probe}: {one.status} ({one.detail})" for one in glance.evidence)
        if details:
            raise stale(details)

    def _finish(self, glance: Glance) -> None:
        payload: dict[str, JsonValue] = {
            "direction": self.plan.direction.value,
            "term": glance.grounded.register.decided,
            "primary": glance.grounded.register.primary,
        }
        self.around.append(RecordKind.RUN_FINISHED, None, payload)

    # One turn

    def _turn(self, glance: Glance, found: Next) -> Glance:
        step = self._planned(found, glance)
        try:
            self._pass_gate(step, glance)
            self.stage.checkpoint()
            self.around.append(RecordKind.STEP_INTENT, step.id, {"kind": step.kind.value, "subject": step.subject})
            return self._execute(step, found, glance)
        except Waiting as waiting:
            self.around.append(RecordKind.STEP_WAITING, step.id, waiting.payload)
            raise
        except StatehubError as error:
            self._fail(step, error)
        except psycopg.Error as error:
            self._fail(step, _database_failed(step, error))
        except KeyboardInterrupt:
            self._fail(step, _interrupted(step))

    def _execute(self, step: Step, found: Next, glance: Glance) -> Glance:
        self._step_count += 1
        remaining = len(unfold(glance.world, self.wish).steps)
        self.stage.reporter.step_started(step, self._step_count, self._step_count + remaining - 1)
        started = time.monotonic()
        payload = self.around.executor(step.kind)(self.stage, step)
        elapsed_s = time.monotonic() - started
        after = self.look(deep=step.kind in _LOOK_DEEP_AFTER)
        expected = effect(found.kind, glance.world, found.role)
        surprises = unexplained(expected, after.world)
        if surprises:
            raise OutcomeUnknown(
                code="world-differs",
                what=f"after {step.id} the world is not what the model says",
                hint="`observe` shows what is there now; run `apply` again once the difference is understood",
                details=surprises,
            )
        done = {**payload, "kind": step.kind.value, "elapsed_ms": round(elapsed_s * 1000)}
        self.around.append(RecordKind.STEP_DONE, step.id, done)
        self.stage.reporter.step_ended(step, str(payload.get("summary", "done")), elapsed_s)
        return after

    def _planned(self, found: Next, glance: Glance) -> Step:
        """The step as the plan shows it; a refusal if what is needed now was never shown."""
        step = dress(self.plan.spec, glance.grounded, self._step_count + 1, found, glance.world)
        undecided = glance.world.primary is Role.OLD
        if undecided and glance.grounded.term != self.plan.term:
            self._fail(None, stale((f"decision term: {self.plan.term} → {glance.grounded.term}",)))
        for shown in self.plan.steps:
            if effect_key(shown) == effect_key(step) or _same_preparation(shown, step, glance.world):
                return shown
        if step.kind not in SAFETY_KINDS:
            self._fail(None, stale((f"needed now and not in the plan: {step.title} ({step.because})",)))
        return step.model_copy(update={"id": f"x{step.id}"})

    def look(self, *, deep: bool) -> Glance:
        """A fresh look, in the light of this run's own hold and journal."""
        observation, evidence = self.around.observe(deep)
        recorded = evidence_recorded(self.around.records(), self.stage.run, evidence_digest(evidence))
        grounded = ground(
            self.plan.spec,
            observation,
            evidence,
            now=self.around.now(),
            hold=self.stage.hold_id,
            evidence_recorded=recorded,
        )
        return Glance(observation, evidence, grounded)

    # Gates and verdicts

    def _require_gate_ahead(self, glance: Glance) -> None:
        """Refuse before anything is touched when the first gate on the way is not approved."""
        ahead = unfold(glance.world, self.wish).steps
        for index, found in enumerate(ahead):
            step = dress(self.plan.spec, glance.grounded, index + 1, found, glance.world)
            if step.gate is not None and self._gated(step, glance.world):
                self._satisfied_gate(step)
                return

    def _gated(self, step: Step, world: World) -> bool:
        """After the decision a clock that ran out must not keep clients from the new primary."""
        return step.gate is not None and (world.primary is Role.OLD or step.kind is StepKind.RETIRE)

    def _satisfied_gate(self, step: Step) -> GateState:
        state = next(state for state in self.around.gates(self.plan) if state.gate == step.gate)
        if not state.satisfied:
            raise _not_approved(state, step)
        return state

    def _pass_gate(self, step: Step, glance: Glance) -> None:
        if not self._gated(step, glance.world):
            return
        state = self._satisfied_gate(step)
        self.around.append(
            RecordKind.GATE_PASSED, step.id, {"gate": state.gate, "fingerprints": list(state.fingerprints)}
        )
        self._judge(Phase.STEP, step, glance)

    def _judge(self, phase: Phase, step: Step | None, glance: Glance) -> None:
        context = RunContext(
            id=self.stage.run, author=self.author, epoch=self.stage.epoch, step=step.id if step else None
        )
        verdict = self.around.judge(self.plan, phase, context, glance, self.around.gates(self.plan))
        codes: list[JsonValue] = [finding.code for finding in verdict.findings]
        self.around.append(
            RecordKind.VERDICT,
            step.id if step else None,
            {"phase": phase.value, "allowed": verdict.allowed, "findings": codes, "input_digest": verdict.input_digest},
        )
        if not verdict.allowed:
            raise vetoed(verdict)

    # Failure

    def _fail(self, step: Step | None, error: StatehubError) -> NoReturn:
        """Release writers, end a pending decision before the point of no return, record, raise."""
        self.stage.release()
        if step is not None:
            self.around.append(RecordKind.STEP_FAILED, step.id, {"code": error.code, "what": error.what})
        if not (isinstance(error, OutcomeUnknown) and step is not None and step.kind is StepKind.DECIDE):
            self._reopen(error)
        raise error

    def _reopen(self, error: StatehubError) -> None:
        """Burn a pending term and open the old primary again, if that is the world we are in."""
        glance = self.look(deep=False)
        if glance.world.primary is not Role.OLD or glance.world.term not in (Term.PENDING, Term.BURNED):
            return
        back = turned(self.plan.spec, self.plan.old)
        grounded = ground(back, glance.observation, (), now=self.around.now())
        for index, found in enumerate(unfold(grounded.world, Wish(document=False)).steps, start=1):
            if found.kind not in (StepKind.BURN, StepKind.OPEN):
                break
            step = dress(back, grounded, index, found, grounded.world)
            self.around.executor(step.kind)(self.stage, step.model_copy(update={"id": f"abort-{step.id}"}))
            self.around.append(RecordKind.STEP_ABORTED, step.id, {"kind": step.kind.value, "because": error.what})
        self.around.append(RecordKind.RUN_ABORTED, None, {"because": error.what, "term": self.plan.term})
        self.stage.reporter.note(f"{self.plan.old} accepts writes again; term {self.plan.term} is burned")


def unexplained(expected: World, observed: World) -> tuple[str, ...]:
    """Differences between model and observation that nothing outside could have caused. Health moves by itself, a
    retained side falls behind an open primary, evidence and backups concern the time before the decision."""
    lines = []
    for line in difference(expected, observed):
        name = line.split(":")[0]
        decided = observed.primary is Role.NEW
        ages = name in ("backup", "evidence", "restore_drill", "failover_drill")
        fell_behind = name == "old.data" and decided and observed.old.data in (Data.STALE, Data.EQUAL)
        if not (name.endswith(".health") or fell_behind or (ages and decided)):
            lines.append(line)
    return tuple(lines)


def vetoed(verdict: Verdict) -> Refusal:
    """The refusal with every hard or soft finding and its remedy."""
    details = tuple(
        f"{finding.level.value} {finding.code}: {finding.message} (remedy: {finding.remedy})"
        for finding in verdict.findings
    )
    return Refusal(
        code="vetoed",
        what=f"policies veto this at phase {verdict.phase.value}",
        hint="`policy explain CODE` says which incident each rule prevents",
        exit_status=Exit.VETOED,
        details=details,
    )


def _same_preparation(shown: Step, step: Step, world: World) -> bool:
    """An interrupted preparation may find the content that it put there itself."""
    same = (shown.kind, shown.subject) == (step.kind, step.subject) == (StepKind.PREPARE_TARGET, shown.subject)
    return same and world.new.data is not Data.DIVERGED


def _refusal(found: Refused) -> Refusal:
    return Refusal(code=found.code, what=found.what, hint=found.remedy)


def _not_approved(state: GateState, step: Step) -> Refusal:
    details = tuple(f"{one.principal or one.source}: {one.status.value}: {one.detail}" for one in state.approvals) or (
        "no approval found for this gate",
    )
    return Refusal(
        code="approval-missing",
        what=f"gate {state.gate} in front of {step.title!r} has {len(state.fingerprints)} of {state.quorum} approvals",
        hint=f"an approver runs `statehub-plan approve PLANFILE --gate {state.gate}` with an own SSH key",
        exit_status=Exit.APPROVAL_MISSING,
        details=details,
    )


def _database_failed(step: Step, error: psycopg.Error) -> StatehubError:
    return StatehubError(
        code="database-error",
        what=f"the database refused or went away during {step.id}: {str(error).strip() or type(error).__name__}",
        hint="look at the server's log, then run `apply` again; it observes first and repeats nothing blindly",
    )


def _interrupted(step: Step) -> StatehubError:
    return StatehubError(
        code="interrupted",
        what=f"interrupted during {step.id}",
        hint="run `apply` again to go on, or `abort` to keep the present primary",
    )


def _world_json(world: World) -> JsonValue:
    from pydantic import TypeAdapter

    plain: JsonValue = TypeAdapter(World).dump_python(world, mode="json")
    return plain
