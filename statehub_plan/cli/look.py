"""`observe`, `compare`, `doctor`: looking without touching."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace
from statehub_plan.errors import Exit
from statehub_plan.model.output import ChecksOutput, DoctorCheck, DoctorOutput, ObserveOutput
from statehub_plan.model.preflight import Severity


@click.command()
@document_argument
@json_option
@click.option("--unknown", "only_unknown", is_flag=True, help="only what could not be observed, with the reason")
def observe(document: Path, as_json: bool, only_unknown: bool) -> int:
    """Look at everything that DOCUMENT is about and print every fact: its value, when and how it was seen."""
    with Workspace.load(document) as workspace:
        observation, evidence = workspace.observe()
    if as_json:
        if only_unknown:
            observation = observation.model_copy(update={"facts": observation.unknown()})
        print_json(ObserveOutput(observation=observation, evidence=evidence))
    else:
        from statehub_plan.render import observation_view

        print_rich(observation_view(observation, evidence, only_unknown=only_unknown))
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
    return f"ok      {one.id}: {one.what}" if one.ok else f"PROBLEM {one.id}: {one.what}\n        remedy: {one.remedy}"
