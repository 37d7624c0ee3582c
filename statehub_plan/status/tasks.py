"""Which tasks are done: by probes that pass now, and by steps that a run of this lane finished and nobody took back."""

from __future__ import annotations

from collections.abc import Iterable

from statehub_plan.history import FORWARD, OUTCOMES
from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.spec import Task
from statehub_plan.model.steps import StepKind
from statehub_plan.status.model import TaskStanding, TaskStatus

Finding = tuple[TaskStanding, str]


def current_runs(name: str, records: tuple[Record, ...], decided: int, decider: str | None) -> frozenset[str] | None:
    """The forward runs of lane `name` whose steps still count under the decision `decided` (0 = none yet): the run that
    made it (`decider`, where the register told) and those begun after it. A later decision by anybody takes every
    earlier run's steps back. None when the decision was made by a run that these records don't know."""
    begun = {record.run: record.seq for record in reversed(records) if record.kind is RecordKind.RUN_STARTED}
    ours = {
        record.run
        for record in records
        if record.kind is RecordKind.RUN_STARTED
        and record.plan_name == name
        and record.payload.get("direction") == FORWARD
    }
    if decided == 0:
        return frozenset(ours)
    made = decider or next((record.run for record in records if _decides(record, decided)), None)
    if made is None or made not in begun:
        return None
    return frozenset(run for run in ours if begun[run] >= begun[made])


def _decides(record: Record, term: int) -> bool:
    fact = record.kind is RecordKind.FACT and record.payload.get("kind") == StepKind.DECIDE.value
    return fact and record.payload.get("term") == term


_NEVER_BY_THE_WAY = frozenset({StepKind.RESTORE_DRILL, StepKind.FAILOVER_DRILL, StepKind.RETIRE})
"""What the end of a run never implied unless it says so."""


def _implied(finished: Record) -> frozenset[StepKind]:
    """Kinds of steps that the wish of a finished run demanded; earlier releases did not put them on record."""
    told = finished.payload.get("implies")
    if not isinstance(told, list):
        return frozenset(StepKind) - _NEVER_BY_THE_WAY
    return frozenset(kind for kind in StepKind if kind.value in told)


def steps_done(records: Iterable[Record], runs: frozenset[str]) -> dict[StepKind, str]:
    """Kinds of steps that these runs finished, and what shows it.

    Besides a recorded outcome that is: the run went on to another step, or ended with a wish that demands the step,
    after a kill had kept the outcome off the record; the planner would have asked for the step again had its effect
    been missing."""
    done: dict[StepKind, str] = {}
    pending: dict[str, StepKind] = {}
    for record in records:
        if record.run not in runs:
            continue
        kind = _kind(record)
        before = pending.get(record.run)
        if record.kind is RecordKind.STEP_INTENT and kind is not None:
            if before is not None and before is not kind:
                done[before] = f"run {record.run} went on after it"
            pending[record.run] = kind
        elif record.kind is RecordKind.STEP_DONE and kind is not None:
            done[kind] = f"run {record.run} finished {record.step}"
            pending.pop(record.run, None)
        elif record.kind in OUTCOMES:
            pending.pop(record.run, None)
        elif record.kind is RecordKind.RUN_FINISHED:
            done |= dict.fromkeys(_implied(record) - done.keys(), f"run {record.run} reached its wish")
    return done


def _kind(record: Record) -> StepKind | None:
    kind = record.payload.get("kind")
    return StepKind(str(kind)) if kind in set(StepKind) else None


def task_status(
    task: Task, evidence: tuple[Evidence, ...], done: dict[StepKind, str], journal_gap: str | None
) -> TaskStatus:
    """One task. `journal_gap` says why the journal cannot tell about steps, where it can't."""
    findings: list[Finding] = []
    if task.probes:
        findings.append(_by_probes(task, evidence))
    if task.done_by:
        findings.append(_by_steps(task, done, journal_gap))
    standing, detail = _together(findings)
    return TaskStatus(
        id=task.id,
        title=task.title,
        standing=standing,
        detail=detail,
        steps_done=tuple(kind for kind in task.done_by if kind in done),
        steps_left=tuple(kind for kind in task.done_by if kind not in done),
        when_done=task.when_done,
        next_action=task.next_action,
    )


def _together(findings: list[Finding]) -> Finding:
    if not findings:
        return TaskStanding.TODO, "nothing that can be observed shows it to be done"
    for standing in (TaskStanding.TODO, TaskStanding.UNKNOWN):
        details = [detail for found, detail in findings if found is standing]
        if details:
            return standing, "; ".join(details)
    return TaskStanding.DONE, "; ".join(detail for _, detail in findings)


def _by_probes(task: Task, evidence: tuple[Evidence, ...]) -> Finding:
    seen = {one.probe: one for one in evidence if one.task == task.id}
    failed = [f"{name}: {one.detail}" for name, one in seen.items() if one.status is EvidenceStatus.FAILED]
    if failed:
        return TaskStanding.TODO, f"not shown by {'; '.join(failed)}"
    unseen = [f"{probe.name}: not looked at" for probe in task.probes if probe.name not in seen]
    unseen += [f"{name}: {one.detail}" for name, one in seen.items() if one.status is EvidenceStatus.UNKNOWN]
    if unseen:
        return TaskStanding.UNKNOWN, f"could not be observed: {'; '.join(unseen)}"
    return TaskStanding.DONE, f"shown by {', '.join(probe.name for probe in task.probes)}"


def _by_steps(task: Task, done: dict[StepKind, str], journal_gap: str | None) -> Finding:
    missing = [kind.value for kind in task.done_by if kind not in done]
    if not missing:
        return TaskStanding.DONE, done[task.done_by[-1]]
    if journal_gap is not None:
        return TaskStanding.UNKNOWN, journal_gap
    return TaskStanding.TODO, f"not yet: {', '.join(missing)}"
