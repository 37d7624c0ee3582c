"""`completion`: what a shell sources so that commands and options complete."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from statehub_plan.errors import Exit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of SHELL; for example: source <(statehub-plan completion bash)"""
    from statehub_plan.cli import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.BadParameter(f"no completion for {shell}")
    made = found(cli, {}, "statehub-plan", "_STATEHUB_PLAN_COMPLETE")
    # The template alone: click's own source() would first run whatever `bash` is on PATH to ask for its version.
    print(made.source_template % made.source_vars())
    return Exit.DONE
