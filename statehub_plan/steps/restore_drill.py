"""`restore-drill`: the newest backup is restored into a scratch database and compared with its manifest."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.backup import newest_backup
from statehub_plan.postgres.drill import DrillReport, restore_drill
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Recorded as evidence whether it passes or fails; StatehubError when it fails."""
    directory = stage.base_dir / stage.plan.spec.spec.backup.directory
    backup = newest_backup(directory)
    if backup is None:
        raise Refusal(
            code="backup-missing",
            what=f"there is no backup in {directory} to restore",
            hint="take one with `statehub-plan backup DOCUMENT`",
        )
    report = restore_drill(
        backup,
        stage.dsn(stage.subject(step)),
        jobs=stage.plan.spec.spec.transfer.jobs,
        check=stage.checkpoint,
    )
    state, payload = drill_fact(report)
    stage.record_fact(StepKind.RESTORE_DRILL.value, state, payload)
    if not report.passed:
        raise drill_failed(report)
    return {"summary": f"{report.tables} tables, {report.rows} rows restored in {report.restore_ms / 1000:.1f} s"}


def drill_fact(report: DrillReport) -> tuple[str, dict[str, JsonValue]]:
    """(state, payload) of a drill for the journal."""
    return "passed" if report.passed else "failed", {"report": report.model_dump(mode="json")}


def drill_failed(report: DrillReport) -> StatehubError:
    """The failure with everything that was wrong."""
    return StatehubError(
        code="drill-failed",
        what=f"the backup {report.backup} does not restore to what its manifest says",
        hint="take a new backup and look into what damaged this one; the fallback stays retained",
        details=report.problems,
    )
