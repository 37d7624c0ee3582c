"""`demo`: the main job on real components, for people and for tests."""

from __future__ import annotations

import click

from statehub_plan.cli.options import json_option


@click.command()
@json_option
@click.option("--keep", is_flag=True, help="leave it running until Ctrl-C and print what to export")
@click.option("--rows", default=200_000, show_default=True, type=click.IntRange(min=200_000), help="rows of the seed")
def demo(as_json: bool, keep: bool, rows: int) -> int:
    """Move a real State Hub between two real PostgreSQL clusters and back, with a client that keeps writing.

    Exit status 1 if an acknowledged write was lost or duplicated, or contents differ afterwards.
    """
    from statehub_plan.demo.run import run_demo

    return run_demo(json_output=as_json, keep=keep, rows=rows)
