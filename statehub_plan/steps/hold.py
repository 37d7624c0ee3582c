"""`hold`: every table of the primary is locked by a session of this process; reads go on, writers wait."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.plan import Step
from statehub_plan.postgres.hold import Hold, HoldEvent, limits_of
from statehub_plan.steps.redirect import require_redirectable
from statehub_plan.steps.stage import Stage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """The hold is kept in the stage until it is frozen or released; StatehubError says what stood in its way."""
    require_redirectable(stage)
    hold_id = f"{stage.run[-12:]}-{stage.epoch}"
    cancelled: set[str] = set()

    def tell(event: HoldEvent) -> None:
        if event.kind != "writer-canceled":
            stage.reporter.note(event.what)
        elif not cancelled:
            cancelled.add(event.what)
            wait = stage.plan.spec.spec.freeze.writer_wait
            stage.reporter.note(
                f"writers that wait longer than {wait} get an error and may retry; the first: {event.what}"
            )

    stage.hold = Hold.take(
        stage.dsn(stage.subject(step)),
        hold_id=hold_id,
        run=stage.run,
        epoch=stage.epoch,
        limits=limits_of(stage.plan.spec.spec.freeze),
        on_event=tell,
    )
    stage.hold_id = hold_id
    waited: list[JsonValue] = [f"{one.who} on {one.table} for {one.waited_s:.2f} s" for one in stage.hold.waited_on]
    return {
        "summary": f"{len(stage.hold.tables)} tables held after {stage.hold.lock_s * 1000:.0f} ms; writers wait",
        "hold": hold_id,
        "waited_on": waited,
    }
