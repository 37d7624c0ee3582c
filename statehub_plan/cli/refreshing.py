"""`refresh`: an ordinary migration, carried out on both sides, is taken into the stream of a following fallback."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import click

from statehub_plan.abstraction import ground
from statehub_plan.cli.leased import leased_stage, standing_plan
from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import TerminalReporter, print_json, print_text
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit
from statehub_plan.model.output import RefreshOutput


@click.command()
@document_argument
@json_option
def refresh(document: Path, as_json: bool) -> int:
    """Take tables that a migration made on both sides of DOCUMENT into the stream of its following fallback.

    Fences them on the fallback, publishes them on the primary, lets the fallback's server copy the rows that are there
    and waits until it has; nobody who writes waits. Needs the lease (exit 6 while a run has it). Run again, it goes on
    with what a killed one left. Exit 1, with nothing done but fences, where tables or columns are not the same on both
    sides, or the fallback does not follow. The next rehearsal proves what was copied.
    """
    from statehub_plan.cli.runs import ended_in_order
    from statehub_plan.steps.refreshing import refresh_fallback
    from statehub_plan.streams import stream_between

    reporter = TerminalReporter(quiet=as_json)
    with Workspace.load(document) as workspace:
        workspace.journal.verify()
        plan = standing_plan(workspace, workspace.observe(deep=False))
        with ended_in_order(), leased_stage(workspace, plan, f"refresh-{secrets.token_hex(4)}", reporter) as stage:
            seen = stage.look()
            plan = standing_plan(workspace, seen)
            grounded = ground(plan.spec, *seen, now=utc_now())
            done = refresh_fallback(replace(stage, plan=plan), seen[0], grounded)
        stream = stream_between(workspace.observe(deep=False)[0], plan.old, plan.new)
    told = RefreshOutput(
        fallback=plan.old,
        stream=stream,
        fenced=done.fenced,
        published=done.published,
        copied=done.copied,
        sequences=done.sequences,
    )
    print_json(told) if as_json else print_text(_text(told))
    return Exit.DONE


def _text(told: RefreshOutput) -> str:
    from statehub_plan.render.words import counted, plain

    lines = [
        plain(f"{label} {counted(len(names), 'table')}: {', '.join(names)}")
        for label, names in (("fenced", told.fenced), ("published", told.published), ("copied", told.copied))
        if names
    ]
    if told.copied:
        lines.append("the next rehearsal proves what was copied")
    if told.sequences:
        lines.append(plain(f"sequences get their values at a switch: {', '.join(told.sequences)}"))
    how = (
        f"{told.fallback} follows, way back: lossless"
        if told.stream.lossless
        else f"{told.fallback}: {told.stream.why}"
    )
    return "\n".join([*lines, plain(how if lines else f"nothing to take in; {how}")])
