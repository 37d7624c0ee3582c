"""`init` and `validate`: writing and checking plan documents."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.cli.options import json_option
from statehub_plan.cli.output import print_json, print_text
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.output import ValidateOutput, ValidDocument
from statehub_plan.render.words import plain


@click.command()
@click.argument("name")
@click.option("-out", "--out", "out", type=click.Path(path_type=Path), help="the file to write  [default: NAME.yaml]")
def init(name: str, out: Path | None) -> int:
    """Write a commented starter plan NAME that validates; `--out -` prints it. Never overwrites."""
    from statehub_plan.spec import starter

    text = starter(name)
    path = out or Path(f"{name}.yaml")
    if str(path) == "-":
        print_text(text)
        return Exit.DONE
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StatehubError(
            code="document-unwritable",
            what=f"the starter plan could not be written to {path}: {error.strerror or error}",
            hint="choose another path with `--out`; an existing file is never overwritten",
        ) from None
    print_text(f"wrote {plain(str(path))}; fill it in, then run: statehub-plan validate {plain(str(path))}")
    return Exit.DONE


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def validate(paths: tuple[Path, ...], as_json: bool) -> int:
    """Check plan documents (files or folders): every problem of all of them at once, each with its position."""
    from statehub_plan.spec import load, load_folder

    valid: list[ValidDocument] = []
    problems: list[str] = []
    for path in paths:
        try:
            loaded = load_folder(path) if path.is_dir() else (load(path),)
        except StatehubError as error:
            problems += error.details or (f"{path}: {error.what}; {error.hint}",)
            continue
        if not loaded:
            problems.append(f"{path}: no plan document (*.yaml) in this folder; name one, or write one with `init`")
        valid += [ValidDocument(path=str(one.path), name=one.document.metadata.name) for one in loaded]
    if as_json:
        print_json(ValidateOutput(valid=not problems, documents=tuple(valid), problems=tuple(problems)))
    else:
        told = [*problems, *(f"{one.path}: valid ({one.name})" for one in valid)]
        print_text("\n".join(map(plain, told)))
    return Exit.ERROR if problems else Exit.DONE
