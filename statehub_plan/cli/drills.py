"""`drill restore`, `drill failover`, `drill verify`: the dated proof that a way back works, and what it is worth."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import JsonValue

from statehub_plan.abstraction import BEGUN, ground
from statehub_plan.cli.backups import ended, endpoint_option, key_option, named, signers_option
from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, error_output, print_json, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.output import FailoverDrillOutput
from statehub_plan.model.plan import Step
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Next
from statehub_plan.planning import dress
from statehub_plan.render.words import plain
from statehub_plan.world import Role

if TYPE_CHECKING:
    from statehub_plan.postgres.drill import DrillReport
    from statehub_plan.postgres.evidence import VerifiedEvidence
    from statehub_plan.postgres.restored import Excused


_EXCUSED_NAMED = 3
_FAILOVER = Next(StepKind.FAILOVER_DRILL, Role.NEW, "drills.failover", "somebody asked for it")


@click.group()
def drill() -> None:
    """Rehearse what must work on a bad day, and record the proof."""


@drill.command()
@document_argument
@endpoint_option
@key_option
@json_option
def restore(document: Path, endpoint: str | None, key: Path | None, as_json: bool) -> int:
    """Restore the primary's newest backup into a scratch database, compare it with its manifest, drop it, record the
    outcome; the evidence is kept beside the backup, signed where a key is given."""
    from statehub_plan.cli.leased import appending
    from statehub_plan.cli.runs import ended_in_order
    from statehub_plan.postgres.connect import resolve_dsn
    from statehub_plan.postgres.evidence import DrillOutput
    from statehub_plan.registers import identity_of_primary
    from statehub_plan.steps.restore_drill import drill_fact, drill_failed, drill_newest

    with Workspace.load(document) as workspace:
        name, spec = named(workspace, endpoint), workspace.document.spec
        reporter, (seen, _) = TerminalReporter(quiet=as_json), workspace.observe(deep=False)
        with ended_in_order():
            drilled = drill_newest(
                spec,
                workspace.base_dir,
                name,
                resolve_dsn(spec.endpoints[name].database.dsn, workspace.base_dir),
                of=identity_of_primary(workspace.document, seen),
                now=utc_now(),
                key=key,
                note=reporter.note,
                on_progress=lambda one: reporter.progress(one.phase, one.done, one.total, one.unit),
                check=lambda: None,
            )
        state, payload = drill_fact(drilled)
        append = appending(workspace, "", None, reporter)
        append(RecordKind.FACT, None, {**payload, "kind": StepKind.RESTORE_DRILL.value, "state": state})
    evidence = drilled.evidence
    if as_json:
        print_json(DrillOutput(**dict(drilled.report), evidence=evidence))
    else:
        signed = f"signed by {evidence.signed_by}" if evidence.signed_by else "unsigned"
        print_text(f"{_text(drilled.report)}\n  evidence {plain(evidence.file)}, {signed}")
    trouble = drilled.trouble if drilled.report.passed else drill_failed(drilled.report)
    return ended(trouble)


@drill.command()
@document_argument
@json_option
def failover(document: Path, as_json: bool) -> int:
    """Make the primary's platform fail over by DOCUMENT's own command (`drills.failover`), look until every probe of it
    passes, and record the outcome; so that whoever approves the retirement of the fallback knows how it went.

    Only once the lane is due, the primary has moved and serves, and the fallback is there and refuses writes; looked at
    again under the lease, which it needs (exit 6 while a run has it). Needs no approval.
    """
    from statehub_plan.cli.leased import leased_stage
    from statehub_plan.cli.runs import ended_in_order
    from statehub_plan.steps.failover_drill import declared, execute

    reporter = TerminalReporter(quiet=as_json)
    with Workspace.load(document) as workspace:
        spec = workspace.document
        declared(spec)
        seen = workspace.observe(deep=True)
        _required_now(workspace, seen)
        plan = workspace.plan(spec, *seen)
        found: dict[str, JsonValue] = {}
        trouble: StatehubError | None = None
        with ended_in_order(), leased_stage(workspace, plan, f"drill-{secrets.token_hex(4)}", reporter) as stage:
            step = _required_now(workspace, stage.look())

            def record_fact(kind: str, state: str, payload: dict[str, JsonValue]) -> None:
                stage.record_fact(kind, state, payload)
                if state != BEGUN:
                    found.update(payload)

            try:
                execute(replace(stage, record_fact=record_fact), step)
            except StatehubError as error:
                if not found:
                    raise
                trouble = error
    if as_json:
        told = {name: found.get(name) for name in ("endpoint", "duration_s", "probes")}
        error_told = None if trouble is None else error_output(trouble)
        print_json(FailoverDrillOutput.model_validate({**told, "passed": trouble is None, "error": error_told}))
        return Exit.DONE if trouble is None else trouble.exit_status
    if trouble is None:
        print_text(f"{found['endpoint']} failed over and was verified in {found['duration_s']} s")
    return ended(trouble)


def _required_now(workspace: Workspace, seen: tuple[Observation, tuple[Evidence, ...]]) -> Step:
    """The drill as a step from the world that is seen; a refusal where none may be ordered there."""
    from statehub_plan.steps.failover_drill import require_now

    spec = workspace.document
    grounded = ground(spec, *seen, now=utc_now())
    step = dress(spec, grounded, 1, _FAILOVER, grounded.world)
    require_now(spec, step, grounded.world, workspace.history(seen[0]).criteria)
    return step


@drill.command()
@click.argument("file", type=click.Path(path_type=Path))
@signers_option
@json_option
def verify(file: Path, allowed_signers: Path | None, as_json: bool) -> int:
    """Check the signature of a drill's evidence, and that the backup beside it is the one that was drilled; needs no
    server and no plan. Exit 1 when it is not worth anything, or says that the drill failed."""
    from statehub_plan.postgres.evidence import DRILL, verify_evidence
    from statehub_plan.signatures.keygen import load_signers
    from statehub_plan.steps.restore_drill import drill_failed

    found = verify_evidence(file, load_signers(allowed_signers, DRILL) if allowed_signers else None)
    if as_json:
        print_json(found)
    else:
        print_text(f"{_text(found.statement)}\n{_worth(found)}")
    if found.backup == "changed":
        return ended(_other_backup(found))
    return ended(None if found.statement.passed else drill_failed(found.statement))


def _text(report: DrillReport) -> str:
    from statehub_plan.render.words import counted

    on = report.restored_on
    phases = (
        ("verified", report.verify_ms),
        ("decrypted", report.decrypt_ms),
        ("restored", report.restore_ms),
        ("compared", report.compare_ms),
    )
    took = ", ".join(f"{name} in {elapsed_ms / 1000:.1f} s" for name, elapsed_ms in phases if elapsed_ms)
    lines = [
        f"{report.backup} {'restores' if report.passed else 'DOES NOT RESTORE'}: {counted(report.tables, 'table')}, "
        f"{counted(report.rows, 'row')}, {counted(report.sequences, 'sequence')}, "
        f"{counted(report.objects, 'object')} of the schema compared, {report.drilled_at:%Y-%m-%dT%H:%M:%SZ}",
        f"  on {on.host} port {on.port}, PostgreSQL {on.server_version // 10000}: "
        f"{report.restored_bytes / 1e6:.1f} MB from {report.size_bytes / 1e6:.1f} MB"
        f"{' encrypted' if report.encrypted else ''}, {report.restored_bytes_per_s / 1e6:.1f} MB/s",
        f"  {took}; {report.elapsed_ms / 1000:.1f} s in all",
    ]
    lines += [f"  {_excused_text(one)}" for one in report.excused]
    if report.left_behind:
        lines.append(f"  the scratch database {report.left_behind} could not be dropped; the next drill removes it")
    return "\n".join(lines)


def _excused_text(one: Excused) -> str:
    from statehub_plan.render.words import plain

    named = ", ".join(one.objects[:_EXCUSED_NAMED])
    more = f" and {one.count - _EXCUSED_NAMED} more" if one.count > _EXCUSED_NAMED else ""
    return plain(f"{one.reason}: {named}{more}" if one.objects else one.reason)


def _worth(found: VerifiedEvidence) -> str:
    beside = {"same": "the backup beside it is the one", "changed": "ANOTHER BACKUP lies beside it", "absent": ""}
    who = found.principal or "nobody vouches for this key: give --allowed-signers"
    return "\n".join(filter(None, (f"  signed by {found.signed_by} ({who})", f"  {beside[found.backup]}".rstrip())))


def _other_backup(found: VerifiedEvidence) -> StatehubError:
    return StatehubError(
        code="evidence-of-another-backup",
        what=f"the backup beside {found.file} is not the one that was drilled, or was changed since",
        hint="`statehub-plan backup verify` says what is wrong with it; drill it again",
    )
