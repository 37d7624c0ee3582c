"""A verdict on a screen: allowed or not, then every finding with its remedy, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.plan import Finding, Level, Verdict
from statehub_plan.render.plan_words import GRAVITY, sorted_findings
from statehub_plan.render.text import RenderableType, hanging, heading, stack
from statehub_plan.render.words import counted

_STYLES = {Level.HARD: "bold red", Level.SOFT: "yellow", Level.ADVISORY: "cyan"}


def verdict_view(verdict: Verdict | None) -> RenderableType:
    """What policies said; a plan without steps has nothing that could be judged."""
    if verdict is None:
        return heading("Policies: nothing to judge")
    return stack(_lines(verdict))


def _lines(verdict: Verdict) -> Iterator[RenderableType]:
    counts = [
        counted(count, f"{level.value} finding")
        for level in GRAVITY
        if (count := sum(finding.level is level for finding in verdict.findings))
    ]
    said = "allow" if verdict.allowed else "VETO"
    yield heading(f"Policies {said} this ({', '.join([f'{len(verdict.evaluated)} evaluated', *counts])})")
    for finding in sorted_findings(verdict.findings):
        yield from _finding(finding)


def _finding(finding: Finding) -> Iterator[RenderableType]:
    where = f" at {finding.step}" if finding.step else ""
    text = f"{finding.code}{where}: {finding.message}"
    yield hanging((finding.level.value,), text, widths=(8,), indent=2, style=_STYLES[finding.level])
    yield hanging(("",), f"remedy: {finding.remedy}", widths=(8,), indent=2)
