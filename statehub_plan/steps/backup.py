"""`backup`: a dump of the primary with a checksummed manifest, taken online."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.access import resolve_path
from statehub_plan.model.plan import Step
from statehub_plan.postgres.age import load_recipients
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.evidence import BACKUP, check_key, sign_manifest, signing_key
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Appears whole or not at all; writers go on. One that could not be signed does not count (StatehubError)."""
    endpoint, settings, key = stage.subject(step), stage.plan.spec.spec.backup, signing_key()
    check_key(key, BACKUP)
    backup = take_backup(
        stage.dsn(endpoint),
        resolve_path(settings.directory, stage.base_dir),
        endpoint=endpoint,
        jobs=stage.plan.spec.spec.transfer.jobs,
        recipients=load_recipients(settings.encryption, stage.base_dir),
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    return {
        "summary": f"backup {backup.path.name}",
        "backup": backup.path.name,
        "manifest_digest": backup.manifest.digest,
        "encrypted": backup.manifest.encryption is not None,
        "signed_by": sign_manifest(backup, key) if key else None,
    }
