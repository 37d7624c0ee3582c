"""`observe`, `compare`, `doctor`: looking without touching."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace
from statehub_plan.errors import Exit
from statehub_plan.model.output import DoctorCheck, DoctorOutput, ObserveOutput


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
        from statehub_plan.abstraction import endpoints_by_role
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


@click.command()
@document_argument
@json_option
def compare(document: Path, as_json: bool) -> int:
    """Compare both databases of DOCUMENT: catalog, row counts, sequences, every value. Reads only.

    Exit status: 0 equal, 1 different, 7 not everything could be looked at. While somebody writes, a difference may be
    no more than a row that is on its way.
    """
    from statehub_plan.abstraction import endpoints_by_role
    from statehub_plan.postgres.compare import Answer
    from statehub_plan.postgres.compare import compare as compared
    from statehub_plan.postgres.connect import resolve_dsn

    with Workspace.load(document) as workspace:
        spec, reporter = workspace.document.spec, TerminalReporter(quiet=as_json)
        old, new = endpoints_by_role(workspace.document)
        source, target = (resolve_dsn(spec.endpoints[name].database.dsn, workspace.base_dir) for name in (old, new))
        found = compared(
            source,
            target,
            jobs=spec.compare.jobs,
            content=spec.compare.content,
            waive=spec.compare.waive,
            on_progress=lambda one: reporter.progress(one.phase, one.done, one.total, one.unit),
        )
    if as_json:
        print_json(found)
    else:
        from statehub_plan.render import comparison_view

        print_rich(comparison_view(found, source=old, target=new))
    return {Answer.EQUAL: Exit.DONE, Answer.DIFFERENT: Exit.ERROR}.get(found.answer, Exit.OUTCOME_UNKNOWN)


@click.command()
@click.argument("document", type=click.Path(path_type=Path), required=False)
@json_option
def doctor(document: Path | None, as_json: bool) -> int:
    """Check what DOCUMENT needs to be carried out (without it: the installed components), with a remedy each. Exit 1
    when anything is missing."""
    from statehub_plan.cli.checkup import check_components, check_document

    checks = list(check_components())
    if document is not None:
        with Workspace.load(document) as workspace:
            checks += check_document(workspace)
    problems = [one for one in checks if not one.ok]
    if as_json:
        print_json(DoctorOutput(ok=not problems, checks=tuple(checks)))
    else:
        print_text("\n".join([*map(_check_text, checks), f"{len(checks)} checks, {len(problems)} problems"]))
    return Exit.ERROR if problems else Exit.DONE


def _check_text(one: DoctorCheck) -> str:
    return f"ok      {one.id}: {one.what}" if one.ok else f"PROBLEM {one.id}: {one.what}\n        remedy: {one.remedy}"
