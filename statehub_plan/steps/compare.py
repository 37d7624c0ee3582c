"""`compare`: the proof under the hold. Anything but `equal` ends the run and lets the old primary go on."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.workers import Progress
from statehub_plan.steps.marking import mark_stage
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Catalog, counts, sequences, content; StatehubError with every difference, or with what could not be read."""
    wanted = stage.plan.spec.spec.compare
    found = compare(
        stage.dsn(stage.plan.old),
        stage.dsn(stage.plan.new),
        jobs=wanted.jobs,
        content=wanted.content,
        waive=wanted.waive,
        count_waived=False,  # nobody waits under a hold for what decides nothing
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    require_equal(stage, found)
    mark_stage(stage, TransferStage.PROVED, proof=found.digest)
    rows = sum(table.rows_source or 0 for table in found.tables)
    equal = "equal" if found.content else "equal in row counts, no value was compared"
    return {"summary": f"{equal}: {len(found.tables)} tables, {rows} rows", **proof_payload(found)}


def require_equal(stage: Stage, found: Comparison) -> None:
    """StatehubError that lists what differs or could not be read, unless both sides are proved equal."""
    if found.answer is not Answer.EQUAL:
        raise StatehubError(
            code=f"content-{found.answer.value}",
            what=f"{stage.plan.new} is not proved equal to {stage.plan.old}: {found.answer.value}",
            hint="`compare` shows it again outside a cutover; mend the cause and run `apply` again",
            details=tuple(str(one) for one in (*found.differences, *found.unknown))[:50],
        )


def proof_payload(found: Comparison) -> dict[str, JsonValue]:
    """What of a comparison belongs on record."""
    tables: dict[str, JsonValue] = {
        one.table: {"rows": one.rows_source, "digest": one.digest_source} for one in found.tables
    }
    return {
        "answer": found.answer.value,
        "digest": found.digest,
        "content": found.content,
        "seeds": found.seeds,
        "tables": tables,
        "waived": [one.name for one in found.waived],
    }


def tell(stage: Stage, progress: Progress) -> None:
    """A phase's progress, for the person who waits."""
    stage.reporter.progress(progress.phase, progress.done, progress.total, progress.unit)
