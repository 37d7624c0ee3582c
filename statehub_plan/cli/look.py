"""`observe`, `compare`, `doctor`: looking without touching."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.cli.options import document_argument, json_option
from statehub_plan.cli.output import print_json, print_rich
from statehub_plan.cli.workspace import Workspace
from statehub_plan.errors import Exit


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
        shown = [one.model_dump(mode="json") for one in evidence]
        print_json({"observation": observation.model_dump(mode="json"), "evidence": shown})
    else:
        from statehub_plan.render import observation_view

        print_rich(observation_view(observation, evidence, only_unknown=only_unknown))
    return Exit.DONE
