"""`observe`, `compare`, `doctor`: looking without touching."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace
from statehub_plan.errors import Exit
from statehub_plan.model.output import ChecksOutput, DoctorCheck, DoctorOutput, ObserveOutput
from statehub_plan.model.preflight import Severity
from statehub_plan.render.words import plain

if TYPE_CHECKING:
    from statehub_plan.model.spec import Compare, SecretRef
    from statehub_plan.postgres.seeds import Seeds
    from statehub_plan.postgres.workers import Progress


@click.command()
@document_argument
@json_option
@click.option("--unknown", "only_unknown", is_flag=True, help="only what could not be observed, with the reason")
def observe(document: Path, as_json: bool, only_unknown: bool) -> int:
    """Look at everything that DOCUMENT is about and print every fact: its value, when and how it was seen."""
    with Workspace.load(document) as workspace:
        observation, evidence = workspace.observe()
        document_seen = workspace.document
    if as_json:
        from statehub_plan.registers import endpoints_by_role
        from statehub_plan.streams import stream_between

        ends = endpoints_by_role(document_seen)
        streams = {into: stream_between(observation, into, of) for into, of in (ends, ends[::-1])}
        if only_unknown:
            observation = observation.model_copy(update={"facts": observation.unknown()})
        print_json(ObserveOutput(observation=observation, evidence=evidence, streams=streams))
    else:
        from statehub_plan.render import observation_view, told_streams

        told = told_streams(document_seen, observation)
        print_rich(observation_view(observation, evidence, only_unknown=only_unknown, streams=told))
    return Exit.DONE


_ROWS = 10_000


@click.command()
@click.argument("document", type=click.Path(path_type=Path), required=False)
@json_option
@click.option(
    "--source", metavar="REF", help="env:NAME, file:PATH or service:NAME; with --target, in place of DOCUMENT"
)
@click.option("--target", metavar="REF", help="the database that should hold the same")
@click.option("--jobs", type=click.IntRange(1, 64), help="sessions on each side [default: as DOCUMENT says, or 2]")
@click.option("--rows", type=click.IntRange(0), default=_ROWS, show_default=True, help="most rows named of a table")
@click.option(
    "--values",
    is_flag=True,
    help="also what both sides hold in those rows, as it is: only what has the shape of a secret is hidden",
)
@click.option("--without-sequences", is_flag=True, help="for a side that follows: its sequences wait for the switch")
@click.option("--expect-equal", is_flag=True, help="read an eighth faster; where rows differ, tables are read again")
@click.option("--seeds", metavar="HEX", help="those of an earlier comparison, to see whether its digests come again")
def compare(
    document: Path | None,
    as_json: bool,
    source: str | None,
    target: str | None,
    jobs: int | None,
    rows: int,
    values: bool,
    without_sequences: bool,
    expect_equal: bool,
    seeds: str | None,
) -> int:
    """Compare both databases of DOCUMENT, or any two: catalog, row counts, sequences, large objects, every value.
    Reads only.

    Exit status: 0 equal, 1 different, 7 not everything could be looked at, or both names lead to one database. While
    somebody writes, a difference may be no more than a row that is on its way. Where DOCUMENT says `content: false`,
    rows are counted and no value is compared: the first line, a note and `reason` of each table in JSON say so.
    """
    from statehub_plan.postgres.compare import Answer
    from statehub_plan.postgres.compare import compare as compared

    names, dsns, wanted = _two_sides(document, source, target)
    progress = _Progress(quiet=as_json)
    found = compared(
        *dsns,
        jobs=jobs or wanted.jobs,
        content=wanted.content,
        waive=wanted.waive,
        rows_listed=rows,
        values=values,
        sequences=not without_sequences,
        expect_differences=not expect_equal,
        seeds=_seeds(seeds),
        on_progress=progress.tell,
    )
    progress.end()
    if as_json:
        print_json(found)
    else:
        from statehub_plan.render import comparison_view

        print_rich(comparison_view(found, source=names[0], target=names[1]))
    return {Answer.EQUAL: Exit.DONE, Answer.DIFFERENT: Exit.ERROR}.get(found.answer, Exit.OUTCOME_UNKNOWN)


def _seeds(text: str | None) -> Seeds | None:
    from statehub_plan.postgres.seeds import Seeds

    try:
        return None if text is None else Seeds.parse(text)
    except ValueError as error:
        hint = "take them from `compare --json` or from the run's report"
        raise click.BadParameter(f"{error}; {hint}", param_hint="--seeds") from error


def _two_sides(
    document: Path | None, source: str | None, target: str | None
) -> tuple[tuple[str, str], tuple[str, str], Compare]:
    """Both sides' names and DSNs, and how they are to be compared."""
    from statehub_plan.model.spec import Compare
    from statehub_plan.postgres.connect import resolve_dsn
    from statehub_plan.registers import endpoints_by_role

    if document is None and source and target:
        refs = _secret_ref(source, "--source"), _secret_ref(target, "--target")
        return (source, target), (resolve_dsn(refs[0], Path()), resolve_dsn(refs[1], Path())), Compare()
    if document is None or source or target:
        raise click.UsageError("give DOCUMENT, or both --source and --target")
    with Workspace.load(document) as workspace:
        spec = workspace.document.spec
        old, new = endpoints_by_role(workspace.document)
        dsns = tuple(resolve_dsn(spec.endpoints[name].database.dsn, workspace.base_dir) for name in (old, new))
    return (old, new), (dsns[0], dsns[1]), spec.compare


def _secret_ref(text: str, option: str) -> SecretRef:
    """A connection string itself would stand in the shell's history and in the list of processes."""
    from pydantic import ValidationError

    from statehub_plan.model.spec import SecretRef

    kind, _, value = text.partition(":")
    try:
        return SecretRef.model_validate({kind: value})
    except ValidationError:
        raise click.BadParameter("expected env:NAME, file:PATH or service:NAME", param_hint=option) from None


class _Progress:
    """A moving line with rate and time left, anew for each phase of the work."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._phase = ""
        self._reporter = TerminalReporter(quiet=quiet)

    def tell(self, one: Progress) -> None:
        """Shows it, not more often than a person can read."""
        if one.phase != self._phase:
            self.end()
            self._phase, self._reporter = one.phase, TerminalReporter(quiet=self._quiet)
        self._reporter.progress(one.phase, one.done, one.total, one.unit)

    def end(self) -> None:
        """Takes the moving line away."""
        self._reporter.clear()


@click.command()
@click.argument("document", type=click.Path(path_type=Path), required=False)
@json_option
@click.option(
    "--list", "only_list", is_flag=True, help="list every pre-flight check with its reason, and look at nothing"
)
def doctor(document: Path | None, as_json: bool, only_list: bool) -> int:
    """Check what DOCUMENT needs to be carried out (without it: the installed components), with a remedy each. Exit 1
    when anything is missing or stands in the way."""
    from statehub_plan.cli.checkup import check_components, check_document

    if only_list:
        return _list_checks(as_json)
    checks, preflight = tuple(check_components()), None
    if document is not None:
        with Workspace.load(document) as workspace:
            found, preflight = check_document(workspace)
        checks = (*checks, *found)
    problems = sum(1 for one in checks if not one.ok)
    in_the_way = preflight is not None and any(one.severity is Severity.ERROR for one in preflight.found)
    if as_json:
        print_json(DoctorOutput(ok=not problems and not in_the_way, checks=checks, preflight=preflight))
    else:
        print_text("\n".join([*map(_check_text, checks), f"{len(checks)} checks, {problems} problems"]))
        if preflight is not None:
            from statehub_plan.render import preflight_view

            print_rich(preflight_view(preflight))
    return Exit.ERROR if problems or in_the_way else Exit.DONE


def _list_checks(as_json: bool) -> int:
    from statehub_plan.cli.checkup import listed_checks

    if as_json:
        print_json(ChecksOutput(checks=listed_checks()))
    else:
        from statehub_plan.render import checks_view

        print_rich(checks_view(listed_checks()))
    return Exit.DONE


def _check_text(one: DoctorCheck) -> str:
    what = f"{one.id}: {plain(one.what)}"
    return f"ok      {what}" if one.ok else f"PROBLEM {what}\n        remedy: {plain(one.remedy)}"
