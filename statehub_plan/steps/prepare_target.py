"""`prepare-target`: the target is shut for everybody but this tool, and holds the source's tables, empty and fenced."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import Refusal
from statehub_plan.model.plan import Step
from statehub_plan.postgres.checks.content import left_by_undecided_transfer
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import fence, install
from statehub_plan.postgres.preflight import preflight_schema
from statehub_plan.postgres.privileges import check_privileges
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.state import claim_epoch, read_state, set_transfer, spoil_transfer
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Everything that can be known to go wrong is refused before the target is touched; no writer of the source waits.

    Content of its own is dumped into the backup folder before it is replaced, and only where the plan says so."""
    endpoint, replace = stage.subject(step), step.params.get("replaces_content") is True
    _require_fit(stage, endpoint, replace)
    with connect(stage.dsn(stage.away(endpoint)), purpose="install fence") as source:
        installed = install(source)
    with connect(stage.dsn(endpoint), purpose="fence") as target:
        _dismiss(stage, target)
        fence(target, term=stage.plan.term, run=stage.run, epoch=stage.epoch, primary=stage.away(endpoint))
    # A stream that is not good enough to go on with would be in the way of the tables that it fills.
    stop_following(
        stage.dsn(endpoint),
        stage.dsn(stage.away(endpoint)),
        epoch=stage.epoch,
        subscriber_dsn=stage.subscriber_dsn(endpoint),
        moment=stage.moment,
    )
    prepared = prepare_schema(
        stage.dsn(stage.away(endpoint)),
        stage.dsn(endpoint),
        run=stage.run,
        epoch=stage.epoch,
        term=stage.plan.term,
        replace=replace,
        safety_dir=stage.base_dir / stage.plan.spec.spec.backup.directory,
        endpoint=endpoint,
        jobs=stage.plan.spec.spec.transfer.jobs,
        on_progress=lambda one: tell(stage, one),
        check=stage.checkpoint,
    )
    return {
        "summary": f"{endpoint} is fenced and holds {installed.tables} empty tables",
        "prepared": prepared.model_dump(mode="json"),
        "fences_added": list(installed.added),
    }


def _dismiss(stage: Stage, target: Connection) -> None:
    """Before it is shut: shut, a target that somebody has opened would look like one that was only ever filled."""
    found = read_state(target)
    if found is None or found.copied or found.transfer is None:
        return
    ours = left_by_undecided_transfer(target)
    with target.transaction():
        claim_epoch(target, stage.epoch)
        if ours:
            spoil_transfer(target)
        else:
            set_transfer(target, stage=TransferStage.NONE)


def _require_fit(stage: Stage, endpoint: str, replace: bool) -> None:
    endpoints = stage.plan.spec.spec.endpoints
    away = stage.away(endpoint)
    with (
        connect(stage.dsn(away), purpose="preflight", read_only=True) as source,
        connect(stage.dsn(endpoint), purpose="preflight", read_only=True) as target,
    ):
        problems = (
            *((away, one) for one in check_privileges(source, app_roles=endpoints[away].app_roles)),
            *((endpoint, one) for one in check_privileges(target, app_roles=endpoints[endpoint].app_roles)),
            *((endpoint, one) for one in preflight_schema(source, target, replace=replace)),
        )
    if problems:
        raise Refusal(
            code="preflight-failed",
            what=f"{len(problems)} things stand in the way; nothing was touched",
            hint="remedy what is listed and run `apply` again",
            details=tuple(f"{where}: {problem}" for where, problem in problems),
        )
