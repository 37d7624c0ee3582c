"""The README's commands are the tool's commands: each parses, each `make` target exists, each linked file is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from statehub_plan.cli import cli
from statehub_plan.errors import Exit

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TYPED = re.findall(r"^\$ (.+)$", README, flags=re.MULTILINE)


def words(line: str) -> list[str]:
    """A typed line as arguments, without its comment."""
    return shlex.split(line, comments=True)


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("statehub-plan ")])
def test_every_command_shown_is_understood(line: str) -> None:
    """Options and arguments are those that the command has."""
    name, *arguments = words(line)[1:]
    group = click.Context(cli, **cli.context_settings)
    command = cli.get_command(group, name)
    assert command is not None
    assert arguments
    command.make_context(name, arguments, parent=group)  # without a parent, click would forget `-h` from then on


def test_the_two_set_up_commands_are_targets_of_make() -> None:
    """`make demo` and `make check` are all that a fresh machine needs."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    typed = {words(line)[1] for line in TYPED if line.startswith("make ")}
    assert {"demo", "check"} == typed
    assert typed <= targets


def test_every_file_that_is_linked_exists() -> None:
    """No link leads nowhere."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_exit_status_is_documented() -> None:
    """The table and the code name the same numbers."""
    table = README.split("## Exit statuses")[1].split("##")[0]
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert {int(status) for status in Exit} == told
