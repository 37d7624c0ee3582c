"""`restore-drill`: the newest backup is restored into a scratch database and compared with its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from statehub_plan.access import resolve_path
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.model.spec import Backup as BackupSettings
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.age import load_identities
from statehub_plan.postgres.drill import DrillReport, restore_drill
from statehub_plan.postgres.evidence import DRILL, StoredEvidence, check_key, keep_evidence, signing_key
from statehub_plan.postgres.manifest import newest_backup
from statehub_plan.postgres.workers import OnProgress
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage


class Drilled(NamedTuple):
    """A drill that was carried out: what it came to, the evidence that was kept, and why it was not signed although a
    key was given."""

    report: DrillReport
    evidence: StoredEvidence
    trouble: StatehubError | None


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Recorded as evidence whether it passes or fails; StatehubError when it fails, or could not be signed."""
    drilled = drill_newest(
        stage.plan.spec.spec.backup,
        stage.base_dir,
        stage.dsn(stage.subject(step)),
        jobs=stage.plan.spec.spec.transfer.jobs,
        key=signing_key(),
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    state, payload = drill_fact(drilled)
    stage.record_fact(StepKind.RESTORE_DRILL.value, state, payload)
    report = drilled.report
    if not report.passed:
        raise drill_failed(report)
    if drilled.trouble is not None:
        raise drilled.trouble
    return {
        "summary": f"{report.tables} tables, {report.rows} rows, {report.restored_bytes / 1e6:.1f} MB restored in "
        f"{report.restore_ms / 1000:.1f} s, {_signed(drilled.evidence)}"
    }


def drill_newest(
    settings: BackupSettings,
    base_dir: Path,
    server_dsn: str,
    *,
    jobs: int,
    key: Path | None,
    on_progress: OnProgress,
    check: Callable[[], None],
) -> Drilled:
    """Drills the newest backup and keeps the evidence beside it, signed where a key is given. What would make it end
    without evidence (no backup, no identity, no such key) is refused first."""
    directory = resolve_path(settings.directory, base_dir)
    backup = newest_backup(directory)
    if backup is None:
        raise Refusal(
            code="backup-missing",
            what=f"there is no backup in {directory} to restore",
            hint="take one with `statehub-plan backup DOCUMENT`",
        )
    check_key(key, DRILL)
    identities = load_identities(settings.encryption, base_dir) if backup.manifest.encryption else None
    report = restore_drill(backup, server_dsn, jobs=jobs, identities=identities, on_progress=on_progress, check=check)
    return Drilled(report, *keep_evidence(backup, report, key))


def drill_fact(drilled: Drilled) -> tuple[str, dict[str, JsonValue]]:
    """(state, payload) of a drill for the journal: the report without its list of tables, and which evidence holds the
    rest. `signed_by` is the fingerprint of the key, null where the evidence is not signed."""
    payload: dict[str, JsonValue] = {
        "report": drilled.report.model_dump(mode="json", exclude={"contents"}),
        "evidence": {"file": drilled.evidence.file, "digest": drilled.evidence.digest},
        "signed_by": drilled.evidence.signed_by,
    }
    return "passed" if drilled.report.passed else "failed", payload


def drill_failed(report: DrillReport) -> StatehubError:
    """The failure with everything that was wrong."""
    return StatehubError(
        code="drill-failed",
        what=f"the backup {report.backup} does not restore to what its manifest says",
        hint="take a new backup and look into what damaged this one; the fallback stays retained",
        details=report.problems,
    )


def _signed(evidence: StoredEvidence) -> str:
    return f"signed by {evidence.signed_by}" if evidence.signed_by else "unsigned"
