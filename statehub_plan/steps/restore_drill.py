"""`restore-drill`: the newest backup of the primary is restored into a scratch database and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from statehub_plan.access import resolve_path
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.plan import Identity, Step
from statehub_plan.model.spec import CutoverSpec, size_bytes
from statehub_plan.model.steps import StepKind
from statehub_plan.observe.replication import disk_free_bytes
from statehub_plan.postgres.age import load_identities
from statehub_plan.postgres.drill import Disk, DrillReport, restore_drill
from statehub_plan.postgres.evidence import (
    DRILL,
    StoredEvidence,
    check_key,
    keep_evidence,
    not_vouched_for,
    signing_key,
)
from statehub_plan.postgres.manifest import Backup, find_backups
from statehub_plan.postgres.workers import OnProgress
from statehub_plan.registers import identity_of_primary
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage


class Drilled(NamedTuple):
    """A drill that was carried out: on which endpoint's server, what it came to, the evidence that was kept, and why it
    was not signed although a key was given."""

    restored_on: str
    report: DrillReport
    evidence: StoredEvidence
    trouble: StatehubError | None


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Recorded as evidence whether it passes or fails; StatehubError when it fails, or could not be signed."""
    endpoint, (seen, _) = stage.subject(step), stage.look()
    drilled = drill_newest(
        stage.plan.spec.spec,
        stage.base_dir,
        endpoint,
        stage.dsn(endpoint),
        of=identity_of_primary(stage.plan.spec, seen),
        now=stage.now(),
        key=signing_key(),
        note=stage.reporter.note,
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
        "summary": f"{report.tables} tables, {report.rows} rows, {report.sequences} sequences and {report.objects} "
        f"objects compared, {report.restored_bytes / 1e6:.1f} MB restored in "
        f"{report.restore_ms / 1000:.1f} s, {_signed(drilled.evidence)}"
    }


def drill_newest(
    spec: CutoverSpec,
    base_dir: Path,
    endpoint: str,
    server_dsn: str,
    *,
    of: Identity,
    now: datetime,
    key: Path | None,
    note: Callable[[str], None],
    on_progress: OnProgress,
    check: Callable[[], None],
) -> Drilled:
    """Drills the newest backup of the database `of`, the present primary, on the server of `endpoint`, and keeps the
    evidence beside it, signed where a key is given; then the backup has to be signed as well, with that key or by one
    whom a gate's allowed_signers names. Where the primary is not known it is the newest backup of all, and
    a note says so. What would make it end without evidence (no backup, identity, key or room) is refused first."""
    settings = spec.backup
    directory = resolve_path(settings.directory, base_dir)
    if not of.known:
        note("which database is primary is not known: the newest backup of any is drilled, and may not count")
    found = find_backups(directory, now=now, of=of if of.known else None)
    backup = found.newest
    if backup is None:
        whose = f" of database {of.database} in cluster {of.system_identifier}, the primary," if of.known else ""
        raise Refusal(
            code="backup-missing",
            what=f"there is no backup{whose} in {directory} to restore",
            hint="take one with `statehub-plan backup DOCUMENT`",
            details=found.told,
        )
    for told in found.told:
        note(told)
    check_key(key, DRILL)
    if key is not None:
        _require_vouched_for(backup, key, [resolve_path(file, base_dir) for file in spec.allowed_signers])
    identities = load_identities(settings.encryption, base_dir) if backup.manifest.encryption else None
    report = restore_drill(
        backup,
        server_dsn,
        jobs=spec.transfer.jobs,
        identities=identities,
        disk=_disk(spec, base_dir, endpoint, note),
        on_progress=on_progress,
        check=check,
    )
    return Drilled(endpoint, report, *keep_evidence(backup, report, key))


def _require_vouched_for(backup: Backup, key: Path, signers_files: Sequence[Path]) -> None:
    """Whose database a manifest names, whoever wrote it may have chosen: a drill that is signed speaks of no other."""
    if why := not_vouched_for(backup, key, signers_files):
        raise Refusal(
            code="backup-not-vouched-for",
            what=f"the newest backup {backup.path} is not drilled: {why}",
            hint="take one that is signed (`statehub-plan backup DOCUMENT --key KEY`), have its signer's key added to "
            "the allowed_signers of a gate, or move that folder away if nobody knows it",
        )


def _disk(spec: CutoverSpec, base_dir: Path, endpoint: str, note: Callable[[str], None]) -> Disk:
    """What `database.diskFree` of that endpoint tells; that it tells nothing is said once, and refuses nothing."""
    told: list[str] = []

    def free_bytes() -> int | None:
        try:
            return disk_free_bytes(spec.endpoints[endpoint].database.disk_free, base_dir)
        except StatehubError as error:
            if not told:
                told.append(f"whether {endpoint} has room for a restore drill is not known: {error.what}; {error.hint}")
                note(told[0])
            return None

    return Disk(free_bytes, size_bytes(spec.desired.fallback.limits.drop_slot_at_disk_free))


def drill_fact(drilled: Drilled) -> tuple[str, dict[str, JsonValue]]:
    """(state, payload) of a drill for the journal: the report without its lists, on which endpoint's server it
    was restored, and which evidence holds the rest. `signed_by` is the fingerprint of the key, null where the evidence
    is not signed; the state is `unsigned`, which does not count, where it should have been."""
    payload: dict[str, JsonValue] = {
        "restored_on": drilled.restored_on,
        "report": drilled.report.model_dump(mode="json", exclude={"contents", "excused"}),
        "evidence": {"file": drilled.evidence.file, "digest": drilled.evidence.digest},
        "signed_by": drilled.evidence.signed_by,
    }
    if not drilled.report.passed:
        return "failed", payload
    return "passed" if drilled.trouble is None else "unsigned", payload


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
