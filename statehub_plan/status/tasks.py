"""Which tasks are done: by probes that pass now, and by steps that a run of this lane finished and nobody took back."""

from __future__ import annotations

from collections.abc import Iterable

from statehub_plan.history import FORWARD
from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.spec import Task
from statehub_plan.model.steps import StepKind
from statehub_plan.status.model import TaskStanding, TaskStatus

Finding = tuple[TaskStanding, str]


def current_runs(name: str, records: tuple[Record, ...], decided: int) -> frozenset[str]:
    """The forward runs of lane `name` whose steps still count under the decision `decided` (0 = none yet): the one that
    made it, and those begun after it. A later decision by anybody takes every earlier run's steps back."""
    started = {
        record.run: record.seq
        for record in reversed(records)
        if record.kind is RecordKind.RUN_STARTED
        and record.plan_name == name
        and record.payload.get("direction") == FORWARD
    }
    if decided == 0:
        return frozenset(started)
    made = [record for record in records if _decides(record, decided)]
    if not made:
        return frozenset()
    return frozenset(run for run, seq in started.items() if seq > made[0].seq or run == made[0].run)


def _decides(record: Record, term: int) -> bool:
    fact = record.kind is RecordKind.FACT and record.payload.get("kind") == StepKind.DECIDE.value
    return fact and record.payload.get("term") == term


def steps_done(records: Iterable[Record], runs: frozenset[str]) -> dict[StepKind, Record]:
    """The newest finished step of each kind in these runs."""
    done: dict[StepKind, Record] = {}
    for record in records:
        if record.kind is RecordKind.STEP_DONE and record.run in runs and record.payload.get("kind") in set(StepKind):
            done[StepKind(str(record.payload["kind"]))] = record
    return done


def task_status(
    task: Task, evidence: tuple[Evidence, ...], done: dict[StepKind, Record], journal_gap: str | None
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


def _by_steps(task: Task, done: dict[StepKind, Record], journal_gap: str | None) -> Finding:
    missing = [kind.value for kind in task.done_by if kind not in done]
    if not missing:
        last = max((done[kind] for kind in task.done_by), key=lambda record: record.seq)
        return TaskStanding.DONE, f"run {last.run} finished {last.step}"
    if journal_gap is not None:
        return TaskStanding.UNKNOWN, journal_gap
    return TaskStanding.TODO, f"not yet: {', '.join(missing)}"
