"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

document_argument = click.argument("document", type=click.Path(path_type=Path))
plan_argument = click.argument("planfile", type=click.Path(path_type=Path))
plan_document_option = click.option(
    "--document",
    "named",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="the plan's document in this checkout, whose folder has policies, signers and approvals "
    "[default: where the plan was made, else the same file below the current folder]",
)
json_option = click.option("-json", "--json", "as_json", is_flag=True, help="print one JSON document to stdout")
