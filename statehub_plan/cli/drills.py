"""`backup` and `drill restore`: what keeps a way back, and the dated proof that it works."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.abstraction import read_register
from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.connect import resolve_dsn


def _primary(workspace: Workspace) -> str:
    observation, _ = workspace.observe(deep=False)
    register = read_register(workspace.document, observation)
    if register.primary is None:
        raise StatehubError(
            code="primary-unknown",
            what=f"which endpoint is primary could not be observed: {register.basis}",
            hint="name it with --endpoint, or make both databases reachable",
        )
    return register.primary


_endpoint = click.option("--endpoint", help="default: the present primary")


def _named(workspace: Workspace, endpoint: str | None) -> str:
    if endpoint is None:
        return _primary(workspace)
    if endpoint not in workspace.document.spec.endpoints:
        raise click.BadParameter(f"{endpoint!r} is none of {', '.join(workspace.document.spec.endpoints)}")
    return endpoint


@click.command()
@document_argument
@_endpoint
@json_option
def backup(document: Path, endpoint: str | None, as_json: bool) -> int:
    """Take a backup of the primary, online, with a manifest of checksums, row counts and content digests."""
    from statehub_plan.postgres.backup import take_backup

    with Workspace.load(document) as workspace:
        name = _named(workspace, endpoint)
        reporter = TerminalReporter(quiet=as_json)
        taken = take_backup(
            resolve_dsn(workspace.document.spec.endpoints[name].database.dsn, workspace.base_dir),
            workspace.base_dir / workspace.document.spec.backup.directory,
            endpoint=name,
            jobs=workspace.document.spec.transfer.jobs,
            on_progress=lambda one: reporter.progress(one.phase, one.done, one.total, one.unit),
        )
    if as_json:
        print_json(taken)
    else:
        print_text(f"{taken.path}: {taken.manifest.size_bytes / 1e6:.1f} MB, {len(taken.manifest.tables)} tables")
    return Exit.DONE


@click.group()
def drill() -> None:
    """Rehearse what must work on a bad day, and record the proof."""


@drill.command()
@document_argument
@_endpoint
@json_option
def restore(document: Path, endpoint: str | None, as_json: bool) -> int:
    """Restore the newest backup into a scratch database, compare it with its manifest, drop it, record the outcome."""
    from statehub_plan.postgres.backup import newest_backup
    from statehub_plan.postgres.drill import restore_drill
    from statehub_plan.steps.restore_drill import drill_fact, drill_failed

    with Workspace.load(document) as workspace:
        directory = workspace.base_dir / workspace.document.spec.backup.directory
        name, newest = _named(workspace, endpoint), newest_backup(directory)
        if newest is None:
            raise StatehubError(
                code="backup-missing",
                what=f"there is no backup in {directory}",
                hint=f"take one with `statehub-plan backup {document}`",
            )
        report = restore_drill(
            newest,
            resolve_dsn(workspace.document.spec.endpoints[name].database.dsn, workspace.base_dir),
            jobs=workspace.document.spec.transfer.jobs,
        )
        state, payload = drill_fact(report)
        workspace.journal.append(
            None,
            service=workspace.service,
            plan_name=workspace.document.metadata.name,
            run="",
            kind=RecordKind.FACT,
            step=None,
            payload={**payload, "kind": StepKind.RESTORE_DRILL.value, "state": state},
            at=utc_now(),
        )
    if as_json:
        print_json(report)
    if not report.passed:
        raise drill_failed(report)
    if not as_json:
        print_text(f"{newest.path.name} restores: {report.tables} tables, {report.rows} rows, {report.restore_ms} ms")
    return Exit.DONE
