"""What a run's records say about time, also when processes died in between."""

from __future__ import annotations

from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.render.timeline import attempts, last_payload, pauses
from tests.golden import examples
from tests.golden.examples import Chain


def held(chain: Chain) -> Chain:
    """A run that holds writes."""
    chain.begin()
    chain.step("04-hold", "held", 0.5)
    return chain


def test_a_finished_run_has_one_pause() -> None:
    """From when the locks were asked for until the step that opened the new side ended; clients follow later."""
    (pause,) = pauses(examples.cutover("finished"))
    assert pause.opened
    assert 2.64 == pause.write_gap_s
    assert pause.until_clients_s is not None
    assert pause.write_gap_s < pause.until_clients_s


def test_a_failure_under_the_hold_ends_the_pause() -> None:
    """Writers went on at the old primary; that is a pause as well, and not a cutover."""
    chain = held(Chain())
    chain.add(RecordKind.STEP_INTENT, "05-copy", 0.1, kind="copy", subject=None)
    chain.add(RecordKind.STEP_FAILED, "05-copy", 1.0, code="disk-full", what="no space left")
    (pause,) = pauses(chain.records)
    assert not pause.opened
    assert 1.6 == pause.write_gap_s
    assert pause.until_clients_s is None


def test_a_killed_process_releases_what_it_held() -> None:
    """The locks died with the process, at a time that nobody recorded; that somebody came back later is not the end."""
    chain = held(Chain())
    chain.add(RecordKind.STEP_INTENT, "05-copy", 0.1, kind="copy", subject=None)
    assert [None] == [pause.write_gap_s for pause in pauses(chain.records)]
    chain.add(RecordKind.RUN_RESUMED, None, 30.0)
    assert [None] == [pause.write_gap_s for pause in pauses(chain.records)]


def test_a_durable_freeze_outlives_its_process() -> None:
    """Killed between freeze and opening: the pause goes on until somebody opens a side."""
    chain = held(Chain())
    chain.step("08-freeze", "frozen", 0.1)
    chain.add(RecordKind.STEP_INTENT, "09-decide", 0.1, kind="decide", subject=None)
    chain.add(RecordKind.RUN_RESUMED, None, 60.0)
    chain.step("10-open", "open", 0.5)
    (pause,) = pauses(chain.records)
    assert pause.opened
    assert pause.write_gap_s is not None
    assert 60 < pause.write_gap_s


def test_an_aborted_run_ends_the_pause_at_the_old_side() -> None:
    """The freeze was taken back before the decision."""
    chain = held(Chain())
    chain.step("08-freeze", "frozen", 0.1)
    chain.add(RecordKind.STEP_FAILED, "09-decide", 1.0, code="x", what="y")
    chain.add(RecordKind.RUN_ABORTED, None, 1.0, because="y", term=1)
    (pause,) = pauses(chain.records)
    assert not pause.opened


def test_every_attempt_is_told() -> None:
    """A step that was killed and tried again is two attempts; the first one's outcome is unknown."""
    chain = Chain()
    chain.begin()
    chain.add(RecordKind.STEP_INTENT, "02-backup", 1.0, kind="backup", subject=None)
    chain.add(RecordKind.RUN_RESUMED, None, 1.0)
    chain.step("02-backup", "7 tables", 2.0)
    chain.add(RecordKind.STEP_INTENT, "03-prepare-target", 1.0, kind="prepare-target", subject=None)
    tried = attempts(chain.records)
    assert ["unknown", "done", "unknown"] == [one.outcome for one in tried]
    assert [None, 2.0, None] == [one.duration_s for one in tried]
    assert "7 tables" == last_payload(tried, StepKind.BACKUP)["summary"]
    assert {} == last_payload(tried, StepKind.COPY)


def test_nothing_on_record() -> None:
    """A run that never began has no time line."""
    assert () == attempts(())
    assert () == pauses(())
