"""`backup` and `backup verify`: what keeps a way back, and whether it is still what it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_error, print_json, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.registers import read_register

if TYPE_CHECKING:
    from statehub_plan.postgres.backup_check import BackupCheck
    from statehub_plan.postgres.manifest import Backup

endpoint_option = click.option("--endpoint", help="default: the present primary")
key_option = click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar="STATEHUB_PLAN_SIGNING_KEY",
    help="the SSH key to sign with, or its .pub file where an agent holds it [$STATEHUB_PLAN_SIGNING_KEY]",
)
signers_option = click.option(
    "--allowed-signers", type=click.Path(path_type=Path), help="demand a signature of a key that this file lists"
)


class _TakesByDefault(click.Group):
    """`backup DOCUMENT` takes one, as it always did; only the other commands are named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What names no command is for `take`."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["take", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TakesByDefault)
def backup() -> None:
    """Take a backup (`backup DOCUMENT` is short for `backup take DOCUMENT`), or verify one."""


@backup.command()
@document_argument
@endpoint_option
@key_option
@json_option
def take(document: Path, endpoint: str | None, key: Path | None, as_json: bool) -> int:
    """Take a backup of the primary, online, with a manifest of checksums, row counts and content digests; encrypted
    where the plan says `backup.encryption`."""
    from statehub_plan.access import resolve_path
    from statehub_plan.cli.runs import ended_in_order
    from statehub_plan.postgres.age import load_recipients
    from statehub_plan.postgres.backup import take_backup
    from statehub_plan.postgres.connect import resolve_dsn
    from statehub_plan.postgres.evidence import BACKUP, BackupOutput, check_key, sign_manifest

    check_key(key, BACKUP)
    with Workspace.load(document) as workspace:
        name = named(workspace, endpoint)
        spec, reporter = workspace.document.spec, TerminalReporter(quiet=as_json)
        with ended_in_order():
            taken = take_backup(
                resolve_dsn(spec.endpoints[name].database.dsn, workspace.base_dir),
                resolve_path(spec.backup.directory, workspace.base_dir),
                endpoint=name,
                jobs=spec.transfer.jobs,
                recipients=load_recipients(spec.backup.encryption, workspace.base_dir),
                on_progress=lambda one: reporter.progress(one.phase, one.done, one.total, one.unit),
            )
    signed_by, trouble = None, None
    try:
        signed_by = sign_manifest(taken, key) if key else None
    except StatehubError as error:  # the backup is there and sound: it is told, and then that it is not signed
        trouble = error
    if as_json:
        print_json(BackupOutput(path=taken.path, manifest=taken.manifest, signed_by=signed_by))
    else:
        print_text(_taken_text(taken, signed_by))
    return ended(trouble)


@backup.command()
@click.argument("document_or_backup", type=click.Path(path_type=Path))
@signers_option
@click.option("--identity", type=click.Path(path_type=Path), help="decrypt with it, too [the plan's identityFile]")
@json_option
def verify(document_or_backup: Path, allowed_signers: Path | None, identity: Path | None, as_json: bool) -> int:
    """Check the manifest and every checksum of a backup's directory, or of the newest backup of a plan document; needs
    no server. Exit 1 when anything is not what it was."""
    from statehub_plan.postgres.age import load_identities, read_identities
    from statehub_plan.postgres.backup_check import check_backup
    from statehub_plan.postgres.evidence import BACKUP
    from statehub_plan.postgres.manifest import read_backup
    from statehub_plan.signatures.keygen import load_signers

    identities = read_identities(identity) if identity else None
    reporter = TerminalReporter(quiet=as_json)
    if document_or_backup.is_dir():
        found = read_backup(document_or_backup)
    else:
        with Workspace.load(document_or_backup) as workspace:
            found = _newest(workspace, reporter)
            settings = workspace.document.spec.backup.encryption
            if identities is None and found.manifest.encryption is not None:
                identities = load_identities(settings, workspace.base_dir)
    signers = load_signers(allowed_signers, BACKUP) if allowed_signers else None
    checked = check_backup(
        found,
        identities=identities,
        signers=signers,
        on_progress=lambda one: reporter.progress(one.phase, one.done, one.total, one.unit),
    )
    if as_json:
        print_json(checked)
    else:
        print_text(_checked_text(checked))
    return ended(None if checked.sound else _damaged(checked))


def ended(trouble: StatehubError | None) -> int:
    """The exit status; what there is to say goes to stderr, because stdout has its one document already."""
    if trouble is None:
        return Exit.DONE
    print_error(trouble, as_json=False)
    return trouble.exit_status


def named(workspace: Workspace, endpoint: str | None) -> str:
    """The endpoint that was named, or the present primary."""
    if endpoint is None:
        return _primary(workspace)
    if endpoint not in workspace.document.spec.endpoints:
        raise click.BadParameter(f"{endpoint!r} is none of {', '.join(workspace.document.spec.endpoints)}")
    return endpoint


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


def _newest(workspace: Workspace, reporter: TerminalReporter) -> Backup:
    from statehub_plan.access import resolve_path
    from statehub_plan.postgres.manifest import find_backups

    directory = resolve_path(workspace.document.spec.backup.directory, workspace.base_dir)
    found = find_backups(directory, now=utc_now())
    if found.newest is None:
        hint = f"take one with `statehub-plan backup {workspace.path}`"
        what = f"there is no backup in {directory}{' that counts' if found.told else ''}"
        raise StatehubError(code="backup-missing", what=what, hint=hint, details=found.told)
    for told in found.told:
        reporter.note(told)
    return found.newest


def _taken_text(taken: Backup, signed_by: str | None) -> str:
    from statehub_plan.render.words import counted, plain

    manifest = taken.manifest
    recipients = manifest.encryption.recipients if manifest.encryption else ()
    return "\n".join(
        (
            f"{plain(str(taken.path))}: {manifest.size_bytes / 1e6:.1f} MB, {counted(len(manifest.tables), 'table')}, "
            f"{counted(len(manifest.sequences), 'sequence')}, "
            f"{counted(manifest.catalog.objects, 'object')} of the schema",
            f"  {manifest.table_bytes / 1e6:.1f} MB of tables in {manifest.elapsed_ms / 1000:.1f} s, "
            f"{manifest.bytes_per_s / 1e6:.1f} MB/s",
            f"  encrypted with age for {counted(len(recipients), 'recipient')}" if recipients else "  not encrypted",
            f"  manifest {manifest.digest}, {f'signed by {signed_by}' if signed_by else 'unsigned'}",
        )
    )


def _checked_text(checked: BackupCheck) -> str:
    from statehub_plan.render.words import counted, plain

    sound = "sound" if checked.sound else "NOT SOUND"
    inside = {None: "not encrypted", True: "encrypted, decrypted and compared", False: "encrypted, not decrypted"}
    who = f" ({checked.principal})" if checked.principal else ""
    without = "unsigned" if checked.sound else "no signature that counts"
    return "\n".join(
        (
            f"{plain(checked.path)}: {sound}",
            f"  of {checked.endpoint}, {checked.taken_at:%Y-%m-%dT%H:%M:%SZ}: {counted(checked.tables, 'table')}, "
            f"{counted(checked.rows, 'row')}",
            f"  {counted(checked.files, 'file')}, {checked.size_bytes / 1e6:.1f} MB read in "
            f"{checked.elapsed_ms / 1000:.1f} s, {checked.bytes_per_s / 1e6:.1f} MB/s; {inside[checked.decrypted]}",
            f"  manifest {checked.manifest_digest}, "
            + (f"signed by {checked.signed_by}{who}" if checked.signed_by else without),
        )
    )


def _damaged(checked: BackupCheck) -> StatehubError:
    return StatehubError(
        code="backup-damaged",
        what=f"the backup {checked.path} is not what it was when it was taken",
        hint="take another one, and look into what changed this one; keep it until then",
        details=checked.problems,
    )
