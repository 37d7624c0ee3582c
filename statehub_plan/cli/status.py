"""`status`: where every lane of a folder stands, from observed facts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from statehub_plan.cli.options import json_option
from statehub_plan.cli.output import print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.history import history_of, lane_states
from statehub_plan.model.record import Record
from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.redact import redact
from statehub_plan.registers import observed_decision
from statehub_plan.render.words import plain

if TYPE_CHECKING:
    from statehub_plan.spec import LoadedDocument
    from statehub_plan.status import LaneInput, Status

_AT_ONCE = 8


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="markdown is the migration strategy status document",
)
@json_option
@click.option("-out", "--out", "out", type=click.Path(path_type=Path), help="write it to this file instead of stdout")
@click.option(
    "--exit-code",
    "detailed",
    is_flag=True,
    help="exit 1 where nobody, both sides or the wrong one accept writes, or where clients are pointed at a side that "
    "refuses them; 7 where that could not be observed",
)
def status(folder: Path, form: str, as_json: bool, out: Path | None, detailed: bool) -> int:
    """Show where every lane of the plans in FOLDER (or beside a document) stands: tasks, primary, gates, next action.

    Everything is observed now; an endpoint that is down is told and never hides the rest. What keeps clients from
    writing, or lets them write on two sides, comes first; `--exit-code` tells a monitor of it.
    """
    from statehub_plan.spec import load_folder
    from statehub_plan.status import build_status

    loaded = load_folder(folder if folder.is_dir() else folder.parent)
    if not loaded:
        raise StatehubError(
            code="folder-empty",
            what=f"{folder} holds no plan document (*.yaml), so there is nothing to show",
            hint="name the folder of your plans, or write one with `statehub-plan init`",
        )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        lanes = tuple(pool.map(lambda one: _lane(one, loaded), loaded))
    found = build_status(lanes, utc_now())
    _present(found, "json" if as_json else form, out)
    return _exit_code(found) if detailed else Exit.DONE


def _exit_code(found: Status) -> Exit:
    """Of what is known to be wrong before what is not known; a lane that stands apart says nothing."""
    from statehub_plan.status import AlarmKind, LaneStanding

    alarms = {lane.alarm.kind for lane in found.lanes if lane.alarm is not None}
    if alarms - {AlarmKind.UNKNOWN}:
        return Exit.ERROR
    apart = (LaneStanding.DEFERRED, LaneStanding.SUPERSEDED)
    moving = [lane for lane in found.lanes if lane.kind == "CutoverPlan" and lane.standing not in apart]
    unknown = any(lane.primary is None or lane.primary.endpoint is None for lane in moving)
    return Exit.OUTCOME_UNKNOWN if alarms or unknown else Exit.DONE


def _lane(loaded: LoadedDocument, folder: tuple[LoadedDocument, ...]) -> LaneInput:
    """Everything about one lane; one that cannot be looked at says why and stands beside the others."""
    from statehub_plan.observe import observe_evidence
    from statehub_plan.status import LaneInput

    document = loaded.document
    name = document.metadata.name
    documents = {one.document.metadata.name: one.document for one in folder}
    records, problem = _records(document.metadata.service, folder)
    found = LaneInput(
        document=document,
        history=history_of(document, documents, records),
        reached=lane_states(name, document, records),
        records=records,
        problem=problem,
    )
    if isinstance(document, CutoverPlan):
        return _look(found, document, loaded, documents)
    return replace(found, evidence=observe_evidence(document.spec.tasks, None, loaded.path.parent, utc_now))


def _look(
    found: LaneInput,
    document: CutoverPlan,
    loaded: LoadedDocument,
    documents: Mapping[str, CutoverPlan | ObservedLane],
) -> LaneInput:
    """The lane with a plan made from what is observed now, and what is on record held against that; or with the reason
    why none could be made, and what is on record."""
    with Workspace(document, loaded.path, loaded.text_digest) as workspace:
        try:
            observation, evidence = workspace.observe()
            plan = workspace.plan(document, observation, evidence)
            seen = observed_decision(document, observation)
            found = replace(
                found,
                history=history_of(document, documents, found.records, seen=seen),
                reached=lane_states(document.metadata.name, document, found.records, seen),
            )
            lease = workspace.journal.current_lease(workspace.service) if found.records else None
            return replace(found, evidence=evidence, plan=plan, gates=workspace.gates(plan), lease=lease)
        except StatehubError as error:
            return replace(found, problem=redact(f"{error.what}; {error.hint}"))


def _records(service: str, folder: tuple[LoadedDocument, ...]) -> tuple[tuple[Record, ...], str | None]:
    """The service's journal, and why it could not be read where it couldn't."""
    for one in folder:
        if isinstance(one.document, CutoverPlan) and one.document.metadata.service == service:
            with Workspace(one.document, one.path, one.text_digest) as workspace:
                try:
                    return workspace.records(), None
                except StatehubError as error:
                    return (), redact(f"the journal: {error.what}; {error.hint}")
    return (), None


def _present(found: Status, form: str, out: Path | None) -> None:
    if out is None:
        _print(found, form)
        return
    with redirect_stdout(StringIO()) as text:
        _print(found, form)
    _write(out, text.getvalue())
    print_text(f"wrote {plain(str(out))}")


def _print(found: Status, form: str) -> None:
    from statehub_plan.render import status_markdown, status_view

    if form == "json":
        print_json(found)
    elif form == "markdown":
        print_text(status_markdown(found))
    else:
        print_rich(status_view(found))


def _write(out: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StatehubError(
            code="status-unwritable",
            what=f"the status could not be written to {out}: {error.strerror or error}",
            hint="choose a path in a writable folder with free space",
        ) from None
