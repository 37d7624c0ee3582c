"""Which tasks are done: by probes that pass now, by steps on record that nobody took back."""

from __future__ import annotations

import pytest

from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.record import Record, RecordKind
from statehub_plan.model.spec import FallbackMode, FileProbe, Task, TransferMethod
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish, implied
from statehub_plan.render.status_words import ranges
from statehub_plan.status import TaskStanding, TaskStatus
from statehub_plan.status.tasks import current_runs, steps_done, task_status
from tests.golden import examples
from tests.golden.examples import Chain

LANE = "cust-wp-0011"
PROBED = Task(
    id="T01", title="t", probes=(FileProbe(kind="file", name="a", path="a"), FileProbe(kind="file", name="b", path="b"))
)
STEPPED = Task.model_validate({"id": "T07", "title": "t", "doneBy": ["decide", "redirect"]})


def seen(*statuses: EvidenceStatus) -> tuple[Evidence, ...]:
    """What probes a, b, … of T01 showed."""
    return tuple(
        Evidence(task="T01", probe=name, status=status, detail="because", observed_at=examples.NOW)
        for name, status in zip("ab", statuses, strict=False)
    )


PASSED, FAILED, UNKNOWN = EvidenceStatus.PASSED, EvidenceStatus.FAILED, EvidenceStatus.UNKNOWN


@pytest.mark.parametrize(
    ("evidence", "standing"),
    [
        (seen(PASSED, PASSED), TaskStanding.DONE),
        (seen(PASSED, FAILED), TaskStanding.TODO),
        (seen(UNKNOWN, FAILED), TaskStanding.TODO),
        (seen(PASSED, UNKNOWN), TaskStanding.UNKNOWN),
        (seen(PASSED), TaskStanding.UNKNOWN),
        ((), TaskStanding.UNKNOWN),
    ],
)
def test_probes(evidence: tuple[Evidence, ...], standing: TaskStanding) -> None:
    """Done only when every probe was asked and passed; a probe that nobody asked is unknown, not fine."""
    assert standing is task_status(PROBED, evidence, {}, None).standing


def test_a_task_that_nothing_shows_is_todo() -> None:
    """Saying so is not enough: without probe or step nothing is done."""
    assert TaskStanding.TODO is task_status(Task(id="P1", title="t"), (), {}, None).standing


def test_steps() -> None:
    """All of the steps, in runs that still count."""
    half = {StepKind.DECIDE: "run r"}
    both = half | {StepKind.REDIRECT: "run r finished 11-redirect"}
    assert TaskStanding.TODO is task_status(STEPPED, (), half, None).standing
    assert TaskStanding.DONE is task_status(STEPPED, (), both, None).standing
    assert (StepKind.REDIRECT,) == task_status(STEPPED, (), half, None).steps_left


def test_a_decision_from_another_journal_makes_steps_unknown() -> None:
    """What this journal never saw it cannot deny."""
    found = task_status(STEPPED, (), {}, "decision term 3 was not made by a run in this journal")
    assert TaskStanding.UNKNOWN is found.standing


def test_probes_and_steps_together() -> None:
    """A task with both is done when both say so."""
    task = STEPPED.model_copy(update={"id": "T01", "probes": PROBED.probes})
    done = {StepKind.DECIDE: "x", StepKind.REDIRECT: "y"}
    assert TaskStanding.DONE is task_status(task, seen(PASSED, PASSED), done, None).standing
    assert TaskStanding.TODO is task_status(task, seen(PASSED, FAILED), done, None).standing


def switched_back() -> tuple[Record, ...]:
    """A finished cutover (term 1), then a finished way back (term 2)."""
    forward = examples.cutover("finished")
    back = Chain("back", start=forward[-1].at, after=examples.head_of(forward))
    back.begin("switchback", term=2)
    back.fact("decide", "passed", "switchback", term=2, primary=examples.OLD)
    back.add(RecordKind.RUN_FINISHED, direction="switchback", term=2, primary=examples.OLD)
    return (*forward, *back.records)


def test_the_run_that_decided_counts() -> None:
    """Under its own decision every step of the run stands."""
    records = examples.cutover()
    runs = current_runs(LANE, records, 1, examples.RUN)
    assert frozenset({examples.RUN}) == runs
    done = steps_done(records, frozenset({examples.RUN}))
    assert {StepKind.DECIDE, StepKind.REDIRECT} <= done.keys()
    assert StepKind.DOCUMENT not in done


def test_a_switchback_takes_the_cutover_back() -> None:
    """After the way back T07 is to be done again, although its steps are on record."""
    assert frozenset() == current_runs(LANE, switched_back(), 2, "back")


def test_another_lane_has_no_part_in_it() -> None:
    """Steps of one lane never finish the tasks of another."""
    assert frozenset() == current_runs("cust-wp-0038", examples.cutover(), 1, examples.RUN)


def test_a_decision_that_is_not_on_record() -> None:
    """The register knows a run that this journal does not: nothing can be said."""
    assert current_runs(LANE, (), 1, "elsewhere") is None
    assert current_runs(LANE, (), 1, None) is None


def test_without_a_decision_every_run_counts() -> None:
    """Nothing was decided that could take anything back."""
    assert frozenset({examples.RUN}) == current_runs(LANE, examples.cutover(), 0, None)


def test_a_kill_between_a_step_and_its_record() -> None:
    """The redirect was done and its outcome never recorded; the run went on to watch, so it was done."""
    chain = Chain()
    chain.begin()
    chain.add(RecordKind.STEP_INTENT, "11-redirect", 1.0, kind="redirect", subject=None)
    chain.add(RecordKind.RUN_RESUMED)
    runs = frozenset({examples.RUN})
    assert {} == steps_done(chain.records, runs)
    chain.add(RecordKind.STEP_INTENT, "12-stabilize", 1.0, kind="stabilize", subject=None)
    assert {StepKind.REDIRECT} == steps_done(chain.records, runs).keys()


def test_a_kill_before_a_step_had_its_effect() -> None:
    """The hold died with its process and was taken again: it is not done before its outcome is on record."""
    chain = Chain()
    chain.begin()
    chain.add(RecordKind.STEP_INTENT, "04-hold", 1.0, kind="hold", subject=None)
    chain.add(RecordKind.RUN_RESUMED)
    chain.add(RecordKind.STEP_INTENT, "04-hold", 1.0, kind="hold", subject=None)
    chain.add(RecordKind.STEP_FAILED, "04-hold", 1.0, code="x", what="y")
    assert {} == steps_done(chain.records, frozenset({examples.RUN}))


DRILLED = {StepKind.RESTORE_DRILL, StepKind.FAILOVER_DRILL, StepKind.RETIRE}


def test_a_finished_run_reached_its_wish() -> None:
    """Whatever it was spared because the world was already so counts as done, by a record of an earlier release too;
    drills and the retirement never do by the way."""
    done = steps_done(examples.cutover("finished"), frozenset({examples.RUN}))
    assert set(StepKind) - DRILLED == done.keys()


@pytest.mark.parametrize("mode", list(FallbackMode))
def test_a_finished_run_implies_what_its_wish_demands(mode: FallbackMode) -> None:
    """A cutover that retained its fallback has drilled nothing and retired nothing; one that retired it has."""
    chain = Chain()
    chain.begin()
    wish = Wish(fallback=mode, method=TransferMethod.REPLICATION)
    chain.add(RecordKind.RUN_FINISHED, implies=[kind.value for kind in implied(wish)], term=1, primary=examples.NEW)
    done = steps_done(chain.records, frozenset({examples.RUN})).keys()
    assert (DRILLED if mode is FallbackMode.RETIRED else set()) == done & DRILLED
    assert (mode is FallbackMode.FOLLOWING) == (StepKind.REVERSE_FOLLOW in done)
    assert {StepKind.DECIDE, StepKind.STABILIZE, StepKind.DOCUMENT, StepKind.FOLLOW} <= done
    assert not {StepKind.BURN, StepKind.COPY} & done


def test_ranges() -> None:
    """Neighbours are joined, gaps are kept."""
    tasks = tuple(
        TaskStatus(id=f"T0{number}", title="t", standing=TaskStanding.DONE, detail="") for number in range(1, 8)
    )
    assert "T01-T03, T05, T07" == ranges(tasks, [0, 1, 2, 4, 6])
