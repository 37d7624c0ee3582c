"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

document_argument = click.argument("document", type=click.Path(path_type=Path))
plan_argument = click.argument("planfile", type=click.Path(path_type=Path))
json_option = click.option("-json", "--json", "as_json", is_flag=True, help="print one JSON document to stdout")
