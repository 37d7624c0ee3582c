"""`policy check`, `test`, `explain`, `list`: what judges, whether it is sound, and why each rule is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from statehub_plan.cli.options import json_option, plan_document_option
from statehub_plan.cli.output import print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace, opened
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.output import PolicyCheckOutput, PolicyTestOutput
from statehub_plan.model.plan import Plan

if TYPE_CHECKING:
    from statehub_plan.policy import PolicyExplanation, PolicyTestReport

_DOCUMENTS = (".yaml", ".yml")
_bundle = click.argument("bundle", type=click.Path(path_type=Path), default=Path("policies"))
_bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), default=Path("policies"), show_default=True, help="the bundle's folder"
)


def _there(bundle: Path, command: str) -> Path:
    """The folder itself; an error that says how this command is told another one. No document is asked here."""
    if not bundle.is_dir():
        raise StatehubError(
            code="policy-bundle-missing",
            what=f"there is no folder {bundle} here to read policies from",
            hint=f"name the folder that holds statehub/: `statehub-plan policy {command}`",
        )
    return bundle


@click.group()
def policy() -> None:
    """Ask, test and explain the policies that judge plans."""


@policy.command()
@click.argument("plan_or_document", type=click.Path(path_type=Path))
@plan_document_option
@json_option
def check(plan_or_document: Path, named: Path | None, as_json: bool) -> int:
    """Ask the policies about a saved plan, or about a plan made now from a document. Exit 3 when they object."""
    verdict = _judged(plan_or_document, named).verdict
    if as_json:
        print_json(PolicyCheckOutput(verdict=verdict))
    else:
        from statehub_plan.render import verdict_view

        print_rich(verdict_view(verdict))
    return Exit.VETOED if verdict is not None and not verdict.allowed else Exit.DONE


def _judged(path: Path, named: Path | None) -> Plan:
    from statehub_plan.cli.judging import judged

    if path.suffix in _DOCUMENTS:
        if named is not None:
            raise click.UsageError("--document goes with a saved plan, not with another document")
        with Workspace.load(path) as workspace:
            observation, evidence = workspace.observe()
            return judged(workspace, workspace.plan(workspace.document, observation, evidence))
    plan, workspace = opened(path, named)
    with workspace:
        return judged(workspace, plan)


@policy.command()
@_bundle
@json_option
def test(bundle: Path, as_json: bool) -> int:
    """Run the tests of BUNDLE (default: ./policies) with OPA: none at all, a failed one or an uncovered line fails."""
    from statehub_plan.policy import run_tests

    report = run_tests(_there(bundle, "test BUNDLE"))
    if as_json:
        told = {**report.model_dump(), "coverage": report.coverage, "problems": report.problems}
        print_json(PolicyTestOutput.model_validate(told))
    else:
        print_text(_test_text(report))
    return Exit.DONE if report.ok else Exit.ERROR


def _test_text(report: PolicyTestReport) -> str:
    lines = report.covered_lines + len(report.not_covered)
    said = (
        f"{len(report.bundle.packages)} policies, {len(report.passed)} tests passed, {len(report.failed)} failed, "
        f"{len(report.skipped)} skipped, coverage {report.coverage!r} % ({report.covered_lines} of {lines} lines)"
    )
    return "\n".join([said, *report.problems])


@policy.command()
@click.argument("code")
@_bundle_option
@json_option
def explain(code: str, bundle: Path, as_json: bool) -> int:
    """Say which incident the rule CODE prevents, how binding it is and what to do about it."""
    from statehub_plan.policy import explain as explained

    found = explained(_there(bundle, f"explain {code} --bundle BUNDLE"), code)
    if as_json:
        print_json(found)
    else:
        print_text(_rule_text(found))
    return Exit.DONE


def _rule_text(rule: PolicyExplanation) -> str:
    return "\n".join(
        (
            f"{rule.code} ({rule.level.value}): {rule.title}",
            f"  {rule.description}",
            f"  remedy: {rule.remedy}",
            f"  {rule.position}",
        )
    )


@policy.command(name="list")
@_bundle
@json_option
def list_(bundle: Path, as_json: bool) -> int:
    """List every policy of BUNDLE (default: ./policies) and the codes of its rules."""
    from statehub_plan.policy import list_policies

    found = list_policies(_there(bundle, "list BUNDLE"))
    if as_json:
        print_json({"policies": [one.model_dump(mode="json") for one in found]})
        return Exit.DONE
    for one in found:
        print_text(f"{one.name}: {one.title}")
        for rule in one.rules:
            print_text(f"  {rule.level.value:8} {rule.code}: {rule.title}")
    return Exit.DONE
