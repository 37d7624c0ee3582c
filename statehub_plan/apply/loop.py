"""Carries a plan out, one observed step after the other, and resumes what an earlier process left.

Level-triggered: each turn looks at the world, asks the planner for the one next step, checks that the plan which was
shown and signed contains it, and does it. A crash is just another world to look at.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import facts_age, ground
from statehub_plan.apply.aftermath import end_pending, not_on_record, recorded
from statehub_plan.apply.around import Glance, Surroundings
from statehub_plan.apply.refusals import (
    database_failed,
    interrupted,
    named,
    not_approved,
    nothing_planned,
    nothing_to_rehearse,
    refused,
    vetoed,
    world_differs,
)
from statehub_plan.apply.staleness import changed_evidence, changed_facts, changed_identities, stale, unexplained
from statehub_plan.apply.unseen import bad_look, refusal
from statehub_plan.errors import LeaveNow, OutcomeUnknown, StatehubError, refused_by_system
from statehub_plan.history import decided_term, evidence_recorded, redirect_interrupted, stabilizing
from statehub_plan.model.plan import Direction, Phase, Plan, Refused, Step
from statehub_plan.model.record import GateState, RecordKind, RunContext
from statehub_plan.model.spec import FallbackMode, TransferMethod
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Next, implied, next_step, unfold
from statehub_plan.planning import REDIRECT_AGAIN, SAFETY_KINDS, dress, effect_key, wish_of
from statehub_plan.postgres.switch import Switch
from statehub_plan.registers import identity_of_primary, observed_decision
from statehub_plan.steps.stage import Stage, Waiting
from statehub_plan.steps.switching import OUTDATED
from statehub_plan.transitions import effect
from statehub_plan.world import Access, Data, Reach, Role, World, Writes

_REHEARSALS_AGAIN = 2
"""So often one run proves everything anew when something came between its rehearsal and its hold."""

_SLOW_FACTS_LAST = timedelta(minutes=10)
"""Nobody is held on facts that are older."""

_ENDS_AN_OUTAGE = frozenset({StepKind.BURN, StepKind.OPEN, StepKind.FREEZE})

_LOOK_DEEP_AFTER = frozenset(
    {
        StepKind.BACKUP,
        StepKind.RESTORE_DRILL,
        StepKind.FAILOVER_DRILL,
        StepKind.PREPARE_TARGET,
        StepKind.DOCUMENT,
    }
)
"""After these the slow facts may have changed; under a hold only the quick ones are looked at."""


SECTION_KINDS = (
    StepKind.HOLD,
    StepKind.DRAIN,
    StepKind.SYNC_SEQUENCES,
    StepKind.COMPARE,
    StepKind.FREEZE,
    StepKind.DECIDE,
    StepKind.OPEN,
    StepKind.REDIRECT,
)
"""What a cutover by replication does without a look in between."""

_BEFORE_REHEARSAL = (
    StepKind.CHECK_EVIDENCE,
    StepKind.BACKUP,
    StepKind.RESTORE_DRILL,
    StepKind.PREPARE_TARGET,
    StepKind.FOLLOW,
    StepKind.PREPARE_REVERSE,
    StepKind.REHEARSE,
    StepKind.HOLD,
)


_SERVING = (StepKind.OPEN, StepKind.REDIRECT)
"""What ends the outage that a decision began."""


class Applying:
    """One run of one plan under one lease."""

    def __init__(
        self, plan: Plan, stage: Stage, around: Surroundings, author: str, *, rehearsing: bool = False
    ) -> None:
        """`rehearsing`: only as far as the rehearsal, which is then held in any case; no gate stands before it."""
        self.plan = plan
        self.rehearsing = rehearsing
        self.stage = stage
        self.around = around
        self.author = author
        self.wish = wish_of(plan.spec, plan.direction)
        self._touched = False
        self._decided = False
        self._step: Step | None = None
        self._step_count = 0
        self._after_section = 0
        self._rehearsed_again = 0

    def run(self) -> None:
        """Returns when the wish holds. Waiting (8), Refusal (3, 4, 5) or StatehubError otherwise; before the decision
        a failure of whatever kind ends with the old primary open again, or says that it could not."""
        try:
            self._rehearse() if self.rehearsing else self._carry_out()
        except (Waiting, LeaveNow):
            raise
        except psycopg.Error as problem:
            raise self._ended_by(database_failed(self._step, problem)) from problem
        except OSError as problem:
            raise self._ended_by(refused_by_system(problem, f"during {named(self._step)}")) from problem
        except KeyboardInterrupt:
            raise self._ended_by(interrupted(self._step)) from None
        except BaseException as error:  # a defect must not leave writers waiting either
            self._ended_by(error)
            raise
        finally:
            self.stage.close()

    def _carry_out(self) -> None:
        glance = self._begin()
        looked_deep = False
        while (found := self._next(glance.world)) is not None:
            if isinstance(found, Refused):
                raise refusal(found, self.plan, self.stage, self.around, glance)
            if not looked_deep and self._needs_deep_look(found, glance):
                glance, looked_deep = self.look(deep=True, evidence_anew=found.kind is StepKind.RETIRE), True
                continue
            looked_deep = False
            if found.kind is StepKind.HOLD and self.wish.method is TransferMethod.REPLICATION:
                glance = self._switch(glance)
            else:
                glance = self._turn(glance, found)
        self._finish(glance)

    def _next(self, world: World) -> Next | Refused | None:
        """The planner's next step. With a path out of sight it has none for clients; where a redirect was left half
        done the paths that are there are tried once more all the same: done again, it changes nothing that is right."""
        found = next_step(world, self.wish)
        unseen = isinstance(found, Refused) and world.primary is Role.NEW and world.access is Access.UNKNOWN
        if not unseen or world.new.writes is not Writes.OPEN or not redirect_interrupted(self.around.records()):
            return found
        return Next(StepKind.REDIRECT, Role.NEW, "access", REDIRECT_AGAIN)

    def _needs_deep_look(self, found: Next, glance: Glance) -> bool:
        """Before writers are held a backup may have gone since; the last way back is never given up on older facts than
        can be had, nor on evidence from before the failover."""
        old = facts_age(glance.observation, self.around.now()) > _SLOW_FACTS_LAST
        return found.kind is StepKind.RETIRE or (found.kind is StepKind.HOLD and old)

    def _rehearse(self) -> None:
        """What has to come first, which never holds, freezes or decides anything; then one rehearsal, also where the
        last one would do."""
        if self.wish.method is not TransferMethod.REPLICATION:
            raise nothing_to_rehearse(self.plan)
        glance = self._begin()
        while True:
            found = next_step(glance.world, self.wish)
            if isinstance(found, Refused):
                raise refused(found)
            if found is None or found.kind not in _BEFORE_REHEARSAL:
                raise nothing_to_rehearse(self.plan)
            if found.kind in (StepKind.REHEARSE, StepKind.HOLD):
                break
            glance = self._turn(glance, found)
        self._turn(glance, Next(StepKind.REHEARSE, Role.OLD, "transfer.rehearsal", "it was asked for"))
        self.around.append(RecordKind.STEP_WAITING, None, {"for": "apply", "kind": StepKind.REHEARSE.value})

    # Beginning and end

    def _begin(self) -> Glance:
        mine = {record.kind for record in self.around.records() if record.run == self.stage.run}
        if RecordKind.RUN_FINISHED in mine:
            raise stale((), f"run {self.stage.run} of this plan has finished; a plan is carried out once")
        self._touched = RecordKind.STEP_INTENT in mine
        if self.plan.refused is not None and not self.plan.steps:
            raise nothing_planned(self.plan.refused)
        glance = self.look(deep=True)
        if self._touched:
            self._refuse_other_term(glance)
        else:
            self._refuse_stale(glance)
        self._require_able(glance)
        if not self.rehearsing or self._replaces_content():
            self._require_gate_ahead(glance)
        if RecordKind.RUN_STARTED in mine:
            self.around.append(RecordKind.RUN_RESUMED, None, {"world": _world_json(glance.world)})
            self._remember_decision(glance)
        else:
            self.around.append(RecordKind.RUN_STARTED, None, self._identity_payload())
        self._refuse_unseen(glance)
        self._judge(Phase.APPLY, None, glance)
        return glance

    def _replaces_content(self) -> bool:
        """Whether something goes away that people have to agree to, also when nothing is held or decided."""
        return any(step.params.get("replaces_content") is True for step in self.plan.steps)

    def _require_able(self, glance: Glance) -> None:
        """Refuse before anything is touched when a step on the way to the decision is one that nobody can carry out."""
        if glance.world.primary is Role.OLD:
            for found in unfold(glance.world, self.wish).steps:
                if self.wish.method is not TransferMethod.REPLICATION or found.kind not in SECTION_KINDS:
                    self.around.executor(found.kind)

    def _identity_payload(self) -> dict[str, JsonValue]:
        return {
            "direction": self.plan.direction.value,
            "old": self.plan.old,
            "new": self.plan.new,
            "term": self.plan.term,
            "effects_digest": self.plan.effects_digest,
            "author": self.author,
        }

    def _remember_decision(self, glance: Glance) -> None:
        """A process of this run that died between the decision and its record, or had no journal then, left none."""
        decision = observed_decision(self.plan.spec, glance.observation)
        mine = decision is not None and decision.term == self.plan.term and decision.run == self.stage.run
        if mine and decided_term(self.around.records()) < self.plan.term:
            self.stage.record_decision()

    def _refuse_stale(self, glance: Glance) -> None:
        details = changed_facts(self.plan, glance.observation, glance.world)
        if self.plan.trajectory[0].primary is Role.OLD:
            details += changed_evidence(self.plan, glance.evidence)
        if details:
            raise stale(details)

    def _refuse_other_term(self, glance: Glance) -> None:
        """The decision that this plan would take was burned or taken meanwhile."""
        if glance.world.primary is Role.OLD and glance.grounded.term != self.plan.term:
            raise stale((f"decision term: {self.plan.term} → {glance.grounded.term}",))

    def _refuse_unseen(self, glance: Glance) -> None:
        """A stabilizing run that cannot see its primary is refused by the planner before policies are asked: they would
        say no more than that."""
        found = next_step(glance.world, self.wish)
        if isinstance(found, Refused) and stabilizing(self.around.records(), self.stage.run):
            raise refusal(found, self.plan, self.stage, self.around, glance)

    def _finish(self, glance: Glance) -> None:
        kinds = implied(self.wish)
        payload: dict[str, JsonValue] = {
            "direction": self.plan.direction.value,
            "term": glance.grounded.register.decided,
            "primary": glance.grounded.register.primary,
            "identity": identity_of_primary(self.plan.spec, glance.observation).model_dump(mode="json"),
            "implies": [kind.value for kind in StepKind if kind in kinds],
        }
        self.around.append(RecordKind.RUN_FINISHED, None, payload)
        if self.plan.direction is Direction.ABORT and glance.world.old.reach is Reach.UNREACHABLE:
            self.stage.reporter.note(
                f"{self.plan.old} is out of reach: a slot that keeps WAL for it may be left on {self.plan.new} "
                "(`observe` shows slots); run `abort` again once it answers"
            )

    # One turn

    def _turn(self, glance: Glance, found: Next) -> Glance:
        step = self._planned(found, glance)
        self._step = step
        self._pass_gate(step, glance)
        serving = step.kind in _SERVING and glance.world.primary is Role.NEW
        self.stage.require_not_taken() if serving else self.stage.checkpoint()
        self._touched = True
        intent: dict[str, JsonValue] = {"kind": step.kind.value, "subject": step.subject}
        self._record(RecordKind.STEP_INTENT, step.id, intent, waits=not serving)
        try:
            return self._execute(step, found, glance, waits=not serving and step.kind is not StepKind.DECIDE)
        except Waiting as waiting:
            self.around.append(RecordKind.STEP_WAITING, step.id, waiting.payload)
            raise

    def _record(self, kind: RecordKind, step: str, payload: dict[str, JsonValue], *, waits: bool) -> None:
        """Between a decision and clients that are served again nobody `waits` for a journal that is away."""
        if waits:
            self.around.append(kind, step, payload)
            return
        for told in recorded(self.around, kind, step, payload):
            self.stage.later(told)

    def _look_after(self, kind: StepKind, *, waits: bool) -> Glance:
        try:
            return self.look(deep=kind in _LOOK_DEEP_AFTER)
        except StatehubError:
            if waits:
                raise
            return self._look_unrecorded()

    def _execute(self, step: Step, found: Next, glance: Glance, *, waits: bool) -> Glance:
        self._step_count += 1
        remaining = len(unfold(glance.world, self.wish).steps)
        self.stage.reporter.step_started(step, self._step_count, self._step_count + remaining - 1)
        started = time.monotonic()
        payload = self.around.executor(step.kind)(self.stage, step)
        self._decided |= step.kind is StepKind.DECIDE
        self.stage.tell_later()
        elapsed_s = time.monotonic() - started
        after = self._look_after(step.kind, waits=waits)
        expected = effect(found.kind, glance.world, found.role)
        surprises = unexplained(expected, after.world, opened=step.kind is StepKind.OPEN)
        if surprises:
            raise world_differs(step, surprises)
        done = {**payload, "kind": step.kind.value, "elapsed_ms": round(elapsed_s * 1000)}
        self._record(RecordKind.STEP_DONE, step.id, done, waits=waits)
        self._step = None
        self.stage.reporter.step_ended(step, str(payload.get("summary", "done")), elapsed_s)
        return after

    # The switch

    def _switch(self, glance: Glance) -> Glance:
        """From the hold to the opening, and clients after it, without a look in between: writers wait for each one.

        What a step has to pass is passed before the first, what it leaves is looked at after the last; each step's own
        proof is made by the switch. The journal has one intent for all of them, and every outcome afterwards."""
        section, expected = self._section(glance)
        self._after_section = len(unfold(glance.world, self.wish).steps) - len(section)
        steps = [self._planned(found, _as_if(glance, before)) for found, before in section]
        for step, (_, before) in zip(steps, section, strict=True):
            self._pass_gate(step, _as_if(glance, before))
        self._step = steps[0]
        self._touched = True
        self.stage.checkpoint()
        self.around.append(
            RecordKind.STEP_INTENT,
            steps[0].id,
            {"kind": steps[0].kind.value, "subject": steps[0].subject, "section": [step.id for step in steps]},
        )
        try:
            self._carry_out_section(steps)
        except StatehubError as error:
            if error.code != OUTDATED or self._rehearsed_again == _REHEARSALS_AGAIN:
                raise
            return self._rehearse_again(error)
        self.stage.keep_baseline(None)  # its slots keep WAL, and nobody asks again
        after = self.look(deep=False)
        surprises = unexplained(expected, after.world)
        if surprises:
            raise world_differs(steps[-1], surprises)
        self._step = None
        return after

    def _rehearse_again(self, outdated: StatehubError) -> Glance:
        """What came between the rehearsal and the hold (a server that was restarted, a migration) costs a comparison
        more and no new approvals: a rehearsal decides nothing, and the switch that was approved asks for it again."""
        self._rehearsed_again += 1
        self.stage.release()
        if self._step is not None:
            payload: dict[str, JsonValue] = {"code": outdated.code, "what": outdated.what}
            self.around.append(RecordKind.STEP_FAILED, self._step.id, payload)
        self._step = None
        self.stage.reporter.note(f"{outdated.what}; it is rehearsed again")
        return self._turn(
            self.look(deep=False), Next(StepKind.REHEARSE, Role.OLD, "transfer.rehearsal", "the last one is outdated")
        )

    def _section(self, glance: Glance) -> tuple[list[tuple[Next, World]], World]:
        """The steps that are done without a look in between, each with the world before it, and the world after all."""
        unfolded = unfold(glance.world, self.wish)
        section = []
        for found, before, after in zip(unfolded.steps, unfolded.trajectory, unfolded.trajectory[1:], strict=False):
            if found.kind not in SECTION_KINDS:
                break
            section.append((found, before))
            expected = after
        return section, expected

    def _carry_out_section(self, steps: list[Step]) -> None:
        """Every step of it; what was done is on record in their order also where a later one fails. A journal that is
        away too hides nothing of that."""
        done: list[tuple[Step, dict[str, JsonValue], float]] = []
        reverse = self.wish.fallback is FallbackMode.FOLLOWING
        try:
            with self.around.begin_switch(self.stage, reverse) as switch:
                for step in steps:
                    self._step = step
                    self.stage.reporter.switching(step)
                    if step.kind is StepKind.REDIRECT:  # clients do not wait for a journal that is out of reach
                        intent: dict[str, JsonValue] = {"kind": step.kind.value, "subject": step.subject}
                        for told in recorded(self.around, RecordKind.STEP_INTENT, step.id, intent):
                            self.stage.later(told)
                    started = time.monotonic()
                    part = self.around.switch_part if step.kind is not StepKind.REDIRECT else self._redirect_at_once
                    done.append((step, part(self.stage, switch, step), time.monotonic() - started))
                    self._decided |= step.kind is StepKind.DECIDE
        except BaseException as failure:
            try:
                self._record_section(steps, done)
            except StatehubError as unrecorded:
                _add_details(failure, not_on_record(unrecorded))
            raise
        self._record_section(steps, done)

    def _redirect_at_once(self, stage: Stage, _switch: Switch, step: Step) -> dict[str, JsonValue]:
        return self.around.executor(step.kind)(stage, step)

    def _record_section(self, steps: list[Step], done: list[tuple[Step, dict[str, JsonValue], float]]) -> None:
        """Tells all of it, also where the journal can take none: that is raised then, and tried no more."""
        total = self._step_count + len(steps) + self._after_section
        unrecorded: StatehubError | None = None
        for step, payload, elapsed_s in done:
            self._step_count += 1
            try:
                if unrecorded is None:
                    self._record_part(step, payload, elapsed_s)
            except StatehubError as error:
                unrecorded = error
            self.stage.reporter.step_started(step, self._step_count, total)
            self.stage.reporter.step_ended(step, str(payload.get("summary", "done")), elapsed_s)
        self.stage.tell_later()
        if unrecorded is not None:
            raise unrecorded

    def _record_part(self, step: Step, payload: dict[str, JsonValue], elapsed_s: float) -> None:
        if step.kind is StepKind.DECIDE:
            self.stage.record_decision()
        done = {**payload, "kind": step.kind.value, "elapsed_ms": round(elapsed_s * 1000, 1)}
        self.around.append(RecordKind.STEP_DONE, step.id, done)

    def _planned(self, found: Next, glance: Glance) -> Step:
        """The step as the plan shows it; a refusal if what is needed now was never shown."""
        step = dress(self.plan.spec, glance.grounded, self._step_count + 1, found, glance.world)
        self._refuse_other_term(glance)
        self._refuse_other_database(step, glance)
        for shown in self.plan.steps:
            if effect_key(shown) == effect_key(step) or _same_preparation(shown, step, glance.world):
                return shown
        again = step.kind is StepKind.REDIRECT and redirect_interrupted(self.around.records())
        if step.kind not in SAFETY_KINDS and not again and not self._may_rehearse(step):
            raise stale((f"needed now and not in the plan: {step.title} ({step.because})",))
        return step.model_copy(update={"id": f"x{step.id}"})

    def _refuse_other_database(self, step: Step, glance: Glance) -> None:
        """Hours may lie between the beginning, when policies ask this, and a step that no gate guards: a tunnel is
        bound anew, and a connection string leads to somebody else's database."""
        crossing = glance.world.primary is Role.OLD and step.kind not in _ENDS_AN_OUTAGE
        names = [name for name in self.plan.identities if crossing or name == step.subject]
        details = changed_identities(self.plan, glance.observation, names)
        if details:
            raise stale(details)

    def _may_rehearse(self, step: Step) -> bool:
        """It does less than the switch that everybody has seen, and what came between asks for it again."""
        switches = any(shown.kind is StepKind.HOLD for shown in self.plan.steps)
        return step.kind is StepKind.REHEARSE and (self.rehearsing or switches)

    def look(self, *, deep: bool, evidence_anew: bool = False) -> Glance:
        """A fresh look, in the light of this run's own hold and journal. `evidence_anew`: what probes show now, also
        where this run has evidence on record."""
        observation, evidence = self.around.observe(deep)
        recorded = not evidence_anew and evidence_recorded(
            self.around.records(), self.stage.run, self.plan.evidence_digest, self.around.now()
        )
        if recorded:  # shown when this run began; what it refills meanwhile shows nothing
            evidence = self.plan.evidence
        grounded = ground(
            self.plan.spec,
            observation,
            evidence,
            now=self.around.now(),
            hold=self.stage.hold_id,
            evidence_recorded=recorded,
            redirecting=self._redirecting,
        )
        return Glance(observation, evidence, grounded)

    def _look_unrecorded(self) -> Glance:
        """A quick look that asks no journal: what ends an outage rests on the databases alone."""
        observation, evidence = self.around.observe_unrecorded()
        now, redirecting = self.around.now(), self._redirecting
        grounded = ground(self.plan.spec, observation, evidence, now=now, redirecting=redirecting)
        return Glance(observation, evidence, grounded)

    @property
    def _redirecting(self) -> bool:
        return self._step is not None and self._step.kind is StepKind.REDIRECT

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
            raise not_approved(state, step)
        return state

    def _pass_gate(self, step: Step, glance: Glance) -> None:
        if not self._gated(step, glance.world):
            return
        state = self._satisfied_gate(step)
        self._judge(Phase.STEP, step, glance)
        self.around.append(
            RecordKind.GATE_PASSED, step.id, {"gate": state.gate, "fingerprints": list(state.fingerprints)}
        )

    def _judge(self, phase: Phase, step: Step | None, glance: Glance) -> None:
        context = RunContext(
            id=self.stage.run, author=self.author, epoch=self.stage.epoch, step=step.id if step else None
        )
        verdict = self.around.judge(self._to_be_judged(), phase, context, glance, self.around.gates(self.plan))
        codes: list[JsonValue] = [finding.code for finding in verdict.findings]
        self.around.append(
            RecordKind.VERDICT,
            step.id if step else None,
            {"phase": phase.value, "allowed": verdict.allowed, "findings": codes, "input_digest": verdict.input_digest},
        )
        if not verdict.allowed:
            veto = vetoed(verdict)
            bad_look(self.plan, self.stage, self.around, glance, veto.what)
            raise veto

    def _to_be_judged(self) -> Plan:
        """What is going to be done: of a rehearsal what comes before the hold, unless it replaces content, for which
        people have to have agreed to all of it."""
        held = next((at for at, step in enumerate(self.plan.steps) if step.kind is StepKind.HOLD), None)
        if not self.rehearsing or held is None or self._replaces_content():
            return self.plan
        ahead = {"steps": self.plan.steps[:held], "trajectory": self.plan.trajectory[: held + 1]}
        return self.plan.model_copy(update=ahead)

    # Failure

    def _ended_by(self, error: BaseException) -> BaseException:
        """The error, after writers were released, a pending decision was ended before the point of no return, and
        both went on record; what a person has to know about that is among its details."""
        try:
            return self._left_in_order(error)
        except LeaveNow:
            raise
        except KeyboardInterrupt:  # somebody is impatient; all of it may be begun anew
            return self._left_in_order(error)

    def _left_in_order(self, error: BaseException) -> BaseException:
        self.stage.release()
        if not self._touched:
            return error
        what = error.what if isinstance(error, StatehubError) else f"{type(error).__name__}: {error}"
        told: tuple[str, ...] = ()
        if self._step is not None:
            code = error.code if isinstance(error, StatehubError) else "defect"
            told += recorded(self.around, RecordKind.STEP_FAILED, self._step.id, {"code": code, "what": what})
        unknown = isinstance(error, OutcomeUnknown) and self._step is not None and self._step.kind is StepKind.DECIDE
        if not (unknown or self._decided):
            told += end_pending(self.plan, self.stage, self.around, self._look_unrecorded, what)
        _add_details(error, told)
        return error


def _add_details(error: BaseException, told: tuple[str, ...]) -> None:
    if isinstance(error, StatehubError):
        error.details += told
    elif told:
        error.add_note("\n".join(told))


def _as_if(glance: Glance, world: World) -> Glance:
    """What would be seen if the model's next worlds were there already: how policies judge steps of one switch."""
    return replace(glance, grounded=replace(glance.grounded, world=world))


def _same_preparation(shown: Step, step: Step, world: World) -> bool:
    """An interrupted preparation may find the content that it put there itself."""
    same = (shown.kind, shown.subject) == (step.kind, step.subject) == (StepKind.PREPARE_TARGET, shown.subject)
    return same and world.new.data is not Data.DIVERGED


def _world_json(world: World) -> JsonValue:
    from pydantic import TypeAdapter

    plain: JsonValue = TypeAdapter(World).dump_python(world, mode="json")
    return plain
