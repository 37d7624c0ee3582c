"""What `doctor` looks at: components, references, connections, privileges, policies, signers. Changes nothing."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg

from statehub_plan.access import resolve_path
from statehub_plan.cli.workspace import HOME_ENV, JOURNAL_ENV, Workspace, utc_now
from statehub_plan.components import client_tool, find_opa, find_ssh_keygen, postgres_installations
from statehub_plan.errors import StatehubError
from statehub_plan.model.output import CheckOutput, DoctorCheck, PreflightOutput
from statehub_plan.model.spec import Gate, SecretRef
from statehub_plan.postgres.connect import Connection, connect, resolve_dsn, user_tables
from statehub_plan.postgres.manifest import OUTDATED, find_backups
from statehub_plan.postgres.privileges import check_privileges
from statehub_plan.postgres.scratch import abandoned
from statehub_plan.registers import endpoints_by_role
from statehub_plan.render.words import counted

_UNFENCED_TOLD = 10


def check_components() -> Iterator[DoctorCheck]:
    """What is installed: client tools of every PostgreSQL version, OPA, ssh-keygen."""
    yield _tried("component.opa", lambda: str(find_opa()))
    yield _tried("component.ssh-keygen", lambda: str(find_ssh_keygen()))
    yield _tried("component.postgresql", _installations)
    for tool in ("pg_dump", "pg_restore"):
        yield _tried(f"component.{tool}", lambda tool=tool: str(client_tool(tool, 0)))  # type: ignore[misc]


def _installations() -> str:
    return ", ".join(f"{one.version} in {one.bin_dir}" for one in postgres_installations()) or "no version found"


def _tried(check_id: str, look: Callable[[], str]) -> DoctorCheck:
    try:
        return _fine(check_id, look())
    except StatehubError as error:
        return _refused(check_id, error)


def _fine(check_id: str, what: str) -> DoctorCheck:
    return DoctorCheck(id=check_id, ok=True, what=what, remedy="")


def _refused(check_id: str, error: StatehubError) -> DoctorCheck:
    return DoctorCheck(id=check_id, ok=False, what="; ".join((error.what, *error.details)), remedy=error.hint)


def check_document(workspace: Workspace) -> tuple[tuple[DoctorCheck, ...], PreflightOutput | None]:
    """Everything that a plan of this document would stand on, and the pre-flight checks where both databases answer."""
    found, preflight = _databases(workspace)
    return (*found, *_surroundings(workspace)), preflight


def _surroundings(workspace: Workspace) -> Iterator[DoctorCheck]:
    yield from _access(workspace)
    yield _bundle(workspace)
    for gate in workspace.document.spec.gates:
        yield from _signers(workspace, gate)
    yield _folder("backup.directory", resolve_path(workspace.document.spec.backup.directory, workspace.base_dir))
    yield from _outdated_backups(workspace)
    if workspace.document.spec.backup.encryption is not None:
        yield _tried("backup.encryption", lambda: _encryption(workspace))
    yield _journal(workspace)


def _databases(workspace: Workspace) -> tuple[list[DoctorCheck], PreflightOutput | None]:
    """Each endpoint on its own, so that one that is down hides nothing; then both together."""
    spec = workspace.document.spec
    found: list[DoctorCheck] = []
    preflight = None
    with ExitStack() as stack:
        reached: dict[str, Connection] = {}
        for name, endpoint in spec.endpoints.items():
            found += _endpoint(name, endpoint.database.dsn, workspace, stack, reached)
            if endpoint.database.app_dsn is not None:
                found.append(_app_connection(name, endpoint.database.app_dsn, workspace, reached.get(name)))
        over = _move_is_over(workspace, reached)
        if over is not None:
            found.append(over)
        if over is None and len(reached) == len(spec.endpoints):
            try:
                preflight = _together(workspace, reached, stack)
            except StatehubError as error:
                found.append(_refused("preflight", error))
        else:
            for name, connection in reached.items():
                found += _alone(name, connection, spec.endpoints[name].app_roles)
    return found, preflight


def _endpoint(
    name: str,
    ref: SecretRef,
    workspace: Workspace,
    stack: ExitStack,
    reached: dict[str, Connection],
) -> Iterator[DoctorCheck]:
    try:
        dsn = resolve_dsn(ref, workspace.base_dir)
        yield _fine(f"{name}.dsn", "its reference leads to a connection string")
        connection = stack.enter_context(connect(dsn, purpose="doctor", read_only=True))
    except StatehubError as error:
        yield _refused(f"{name}.connection", error)
        return
    reached[name] = connection
    version = connection.info.parameter_status("server_version")
    yield _fine(f"{name}.connection", f"PostgreSQL {version} answers")
    yield from _remains(name, connection)
    yield from _unfenced(name, connection, workspace)


def _remains(name: str, connection: Connection) -> Iterator[DoctorCheck]:
    """What killed restore drills have left on a server: as large as what they restored, and nobody's."""
    for database in abandoned(connection):
        yield DoctorCheck(
            id=f"{name}.drill-remains",
            ok=False,
            what=f"the scratch database {database} was left there by a restore drill that was killed",
            remedy=f"DROP DATABASE {database} (FORCE), or drill there again: the next drill removes it",
        )


def _unfenced(name: str, connection: Connection, workspace: Workspace) -> Iterator[DoctorCheck]:
    """Tables that were made since on a side that is frozen: anybody may write there, and no move will begin."""
    from statehub_plan.postgres.proof import fence_status

    status = fence_status(connection)
    if status.term is None or status.copied or not status.unfenced:
        return
    named = ", ".join(status.unfenced[:_UNFENCED_TOLD])
    more = ", …" if len(status.unfenced) > _UNFENCED_TOLD else ""
    yield DoctorCheck(
        id=f"{name}.unfenced",
        ok=False,
        what=f"{name} is frozen, and {counted(len(status.unfenced), 'table')} there without an enabled fence: "
        f"{named}{more}",
        remedy=f"statehub-plan refresh {workspace.path}, where it follows the primary; else plan again",
    )


def _app_connection(name: str, ref: SecretRef, workspace: Workspace, owner: Connection | None) -> DoctorCheck:
    """Whether the service's own session is to be had, and leads where the tool's does; `owner` if that answers."""

    def look() -> str:
        with connect(resolve_dsn(ref, workspace.base_dir), purpose="doctor", read_only=True) as session:
            return f"the service's role {session.info.user} can connect, for canary writes" + _worth(session, owner)

    return _tried(f"{name}.app-connection", look)


def _worth(session: Connection, owner: Connection | None) -> str:
    """What canaries of the service's own session are worth, for people; StatehubError where that is nothing at all."""
    from statehub_plan.postgres.proof import database_of, elsewhere, find_probes

    if owner is None:
        return ""
    problem = elsewhere(session, database_of(owner))
    if problem is not None:
        raise StatehubError(code=problem.code, what=problem.what, hint=problem.remedy)
    tables, probes = user_tables(owner), find_probes(session, session.info.user)
    if not tables or any(probes.get(table.oid) is not None for table in tables):
        return ""
    return f"; it may write in none of the {counted(len(tables), 'table')}, so they prove nothing beyond that"


def _move_is_over(workspace: Workspace, reached: dict[str, Connection]) -> DoctorCheck | None:
    """Whether the endpoint that the checks would take for a target to be filled is primary by a decision: they would
    demand that the live primary be emptied."""
    from statehub_plan.postgres.register import read_decisions

    terms: dict[str, int] = {}
    for name, connection in reached.items():
        try:
            decisions = read_decisions(connection)
        except psycopg.Error:
            return None
        terms[name] = max((one.term for one in decisions if one.primary == name), default=0)
    old, new = endpoints_by_role(workspace.document)
    if terms.get(new, 0) <= terms.get(old, 0):
        return None
    what = f"{new} is primary by term {terms[new]}: this move is over, so nothing is asked about filling {new}"
    return _fine("preflight", f"{what}; `switchback` asks the checks about the way back")


def _together(workspace: Workspace, reached: dict[str, Connection], stack: ExitStack) -> PreflightOutput:
    from statehub_plan.postgres.checks.ends import end_of, move_of
    from statehub_plan.postgres.checks.registry import CHECKS
    from statehub_plan.postgres.checks.run import run_checks

    old, new = endpoints_by_role(workspace.document)
    endpoints = workspace.document.spec.endpoints

    def opened(dsn: str) -> Connection:
        return stack.enter_context(connect(dsn, purpose="doctor", read_only=True))

    source, target = (end_of(endpoints[name], reached[name], workspace.base_dir, opened) for name in (old, new))
    move = move_of(workspace.document)
    made = [one for one in CHECKS if one.sides(move)]
    return PreflightOutput(source=old, target=new, checks=len(made), found=run_checks(source, target, move))


def _alone(name: str, connection: Connection, app_roles: tuple[str, ...]) -> Iterator[DoctorCheck]:
    """What can be said of a database while the other one does not answer."""
    check_id = f"{name}.privileges"
    try:
        found = check_privileges(connection, app_roles=app_roles)
    except StatehubError as error:
        yield _refused(check_id, error)
        return
    if not found:
        yield _fine(check_id, "the tool's role may hold, freeze, copy and open")
    for problem in found:
        yield DoctorCheck(id=f"{check_id}.{problem.code}", ok=False, what=problem.what, remedy=problem.remedy)


def listed_checks() -> tuple[CheckOutput, ...]:
    """Every pre-flight check as it is declared."""
    from statehub_plan.postgres.checks.registry import CHECKS

    return tuple(
        CheckOutput(
            id=one.id,
            theme=one.theme,
            severity=one.severity,
            where=one.place.value,
            methods=tuple(sorted(one.methods)),
            title=one.title,
            reason=one.reason,
        )
        for one in CHECKS
    )


def _access(workspace: Workspace) -> Iterator[DoctorCheck]:
    from statehub_plan.access import endpoint_of, read_access, try_redirect

    for path in workspace.document.spec.access:
        check_id = f"access.{path.name}"
        try:
            value = read_access(path, workspace.base_dir)
            endpoint = endpoint_of(path, value)
            for name in sorted(path.values) if endpoint else ():
                try_redirect(path, name, workspace.base_dir)
        except StatehubError as error:
            yield _refused(check_id, error)
            continue
        known = " or ".join(sorted(path.values.values()))
        what = f"{value}, which is {endpoint}" if endpoint else f"{value}, which is no endpoint's value"
        yield DoctorCheck(
            id=check_id, ok=endpoint is not None, what=what, remedy="" if endpoint else f"put {known} there"
        )


def _outdated_backups(workspace: Workspace) -> Iterator[DoctorCheck]:
    """Backups that would be the newest, had the release that took them recorded what this one compares."""
    directory = resolve_path(workspace.document.spec.backup.directory, workspace.base_dir)
    if not (found := find_backups(directory, now=utc_now())).outdated:
        return
    yield DoctorCheck(
        id="backup.outdated",
        ok=False,
        what=f"{'' if found.newest else 'there is no backup that counts; '}{OUTDATED}: "
        + ", ".join(map(str, found.outdated)),
        remedy=f"statehub-plan backup {workspace.path}",
    )


def _encryption(workspace: Workspace) -> str:
    from statehub_plan.postgres.age import load_identities, load_recipients, try_out

    settings = workspace.document.spec.backup.encryption
    recipients = load_recipients(settings, workspace.base_dir)
    identities = load_identities(settings, workspace.base_dir)
    if identities is None:
        return f"encrypts for {counted(len(recipients), 'recipient')}; nothing here decrypts"
    try_out(recipients, identities)
    return f"encrypts for {counted(len(recipients), 'recipient')}, and {identities.source} decrypts"


def _bundle(workspace: Workspace) -> DoctorCheck:
    from statehub_plan.policy import bundle_info

    return _tried("policy.bundle", lambda: f"{len(bundle_info(workspace.bundle_dir).packages)} policies judge")


def _signers(workspace: Workspace, gate: Gate) -> Iterator[DoctorCheck]:
    from statehub_plan.approvals.ssh import load_signers

    check_id = f"gate.{gate.name}"
    file = workspace.base_dir / Path(gate.allowed_signers).expanduser()
    try:
        listed = {one.principal for one in load_signers(file)}
    except StatehubError as error:
        yield _refused(check_id, error)
        return
    missing = sorted(set(gate.approvers) - listed)
    able = len(set(gate.approvers) & listed)
    lists = f"{able} of {len(gate.approvers)} approvers" if listed else "nobody"
    what = f"{file} lists {lists}, {counted(gate.quorum, 'key')} needed"
    line = f"{' or '.join(missing)} ssh-ed25519 AAAA…"
    remedy = f"add a line with the public key of each to {file}: `{line}`" if able < gate.quorum else ""
    yield DoctorCheck(id=check_id, ok=able >= gate.quorum, what=what, remedy=remedy)


def _folder(check_id: str, folder: Path) -> DoctorCheck:
    standing = next(one for one in (folder, *folder.parents) if one.exists())
    if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
        return _fine(check_id, f"{folder} can be written to")
    return DoctorCheck(id=check_id, ok=False, what=f"{folder} cannot be written to", remedy=f"make {standing} writable")


def _journal(workspace: Workspace) -> DoctorCheck:
    def look() -> str:
        checked = workspace.verify_journal()
        _require_writable(workspace.journal_file)
        return f"{checked} records, the hash chain is whole" if checked else "no journal yet; the first run begins it"

    return _tried("journal", look)


def _require_writable(file: Path | None) -> None:
    """StatehubError unless a run could keep its lease and its records there, as far as that is known without trying."""
    if file is None:
        return
    real = file.expanduser().resolve()
    standing = next(one for one in real.parents if one.exists())
    locks = real.parent.glob(f"{glob.escape(real.name)}.*.lock")
    wrong = [one for one in (standing, real, *sorted(locks)) if one.exists() and not os.access(one, os.W_OK)]
    if wrong or not standing.is_dir():
        raise StatehubError(
            code="journal-read-only",
            what=f"{(wrong or [standing])[0]} cannot be written to: a run could keep neither its lease nor its records",
            hint=f"make it writable for everyone who applies, or name another journal in ${JOURNAL_ENV} (a file in a "
            f"folder that is writable, or a PostgreSQL URL) or another folder in ${HOME_ENV}",
        )
    if standing not in (real.parent, real.parent.parent):
        raise StatehubError(
            code="journal-directory-missing",
            what=f"there is no folder {real.parent.parent} for the journal {real}",
            hint=f"make it: mkdir -p {shlex.quote(str(real.parent))}",
        )
