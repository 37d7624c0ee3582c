"""`prepare-target`: the target is shut for everybody but this tool, and holds the source's tables, empty and fenced."""

from __future__ import annotations

from contextlib import ExitStack

from pydantic import JsonValue

from statehub_plan.access import resolve_path
from statehub_plan.errors import Refusal
from statehub_plan.model.plan import Step
from statehub_plan.model.preflight import Severity, Side
from statehub_plan.postgres.age import load_recipients
from statehub_plan.postgres.checks.content import left_by_undecided_transfer
from statehub_plan.postgres.checks.ends import end_of, move_of
from statehub_plan.postgres.checks.run import run_checks
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import fence, install
from statehub_plan.postgres.filling import read_fill
from statehub_plan.postgres.replication import read_subscription, stream_name
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.state import claim_epoch, identity, read_state, set_transfer, spoil_transfer
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.render.words import counted
from statehub_plan.steps.compare import tell
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Everything that can be known to go wrong is refused before the target is touched; no writer of the source waits.

    Content of its own is dumped into the backup folder before it is replaced, and only where the plan says so."""
    endpoint, replace = stage.subject(step), step.params.get("replaces_content") is True
    backup = stage.plan.spec.spec.backup
    recipients = load_recipients(backup.encryption, stage.base_dir)
    _end_lost_stream(stage, endpoint)
    _require_fit(stage, endpoint, replace)
    with connect(stage.dsn(stage.away(endpoint)), purpose="install fence") as source:
        installed = install(source)
    with connect(stage.dsn(endpoint), purpose="fence") as target:
        _dismiss(stage, target)
        fence(target, term=stage.plan.term, run=stage.run, epoch=stage.epoch, primary=stage.away(endpoint))
    prepared = prepare_schema(
        stage.dsn(stage.away(endpoint)),
        stage.dsn(endpoint),
        run=stage.run,
        epoch=stage.epoch,
        term=stage.plan.term,
        replace=replace,
        safety_dir=resolve_path(backup.directory, stage.base_dir),
        endpoint=endpoint,
        recipients=recipients,
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


def _end_lost_stream(stage: Stage, endpoint: str) -> None:
    """What is left of an earlier stream into this side, which the planner found to be of no use any more."""
    with connect(stage.dsn(endpoint), purpose="prepare", read_only=True) as target:
        present = read_subscription(target, stream_name(identity(target))) is not None or read_fill(target) is not None
    if present:
        stop_following(
            stage.dsn(endpoint),
            stage.dsn(stage.away(endpoint)),
            epoch=stage.epoch,
            subscriber_dsn=stage.subscriber_dsn(endpoint),
            moment=stage.moment,
        )


def _require_fit(stage: Stage, endpoint: str, replace: bool) -> None:
    document, away = stage.plan.spec, stage.away(endpoint)
    with ExitStack() as stack:

        def opened(dsn: str) -> Connection:
            return stack.enter_context(connect(dsn, purpose="preflight", read_only=True))

        source, target = (
            end_of(document.spec.endpoints[name], opened(stage.dsn(name)), stage.base_dir, opened)
            for name in (away, endpoint)
        )
        found = run_checks(source, target, move_of(document, replace=replace))
    names = {Side.SOURCE: away, Side.TARGET: endpoint}
    problems = tuple(f"{names[one.side]}: {one}" for one in found if one.severity is Severity.ERROR)
    if problems:
        raise Refusal(
            code="preflight-failed",
            what=f"{counted(len(problems), 'thing')} in the way; nothing was touched",
            hint="remedy what is listed and run `apply` again; after an edit of the document make a new plan first, as "
            "this one goes by what it was made from",
            details=problems,
        )
