"""A verdict on a screen: allowed or not, then every finding with its remedy, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.plan import Finding, Level, Verdict
from statehub_plan.render.plan_words import GRAVITY, sorted_findings
from statehub_plan.render.text import RenderableType, hanging, line, stack
from statehub_plan.render.words import counted

_STYLES = {Level.HARD: "bold red", Level.SOFT: "yellow", Level.ADVISORY: "cyan"}


_REFUSAL = "refused_plans.refusal"


def verdict_view(verdict: Verdict | None, *, refusal_told: bool = False) -> RenderableType:
    """What policies said; a plan without steps has nothing that could be judged. With `refusal_told` the policy that
    repeats the planner's refusal is named, and its words are not printed again."""
    if verdict is None:
        return line("Policies: nothing to judge", style="bold")
    return stack(_lines(verdict, refusal_told))


def _lines(verdict: Verdict, refusal_told: bool) -> Iterator[RenderableType]:
    counts = [
        counted(count, f"{level.value} finding")
        for level in GRAVITY
        if (count := sum(finding.level is level for finding in verdict.findings))
    ]
    said = "allow" if verdict.allowed else "VETO"
    yield line(f"Policies {said} this ({', '.join([f'{len(verdict.evaluated)} evaluated', *counts])})", style="bold")
    for group in _alike(sorted_findings(verdict.findings)):
        if refusal_told and group[0].code == _REFUSAL:
            yield hanging((group[0].level.value,), f"{_REFUSAL}: see above", widths=(8,), indent=2)
        else:
            yield from _findings(group)


def _alike(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    """One rule's objections to several steps, where the same remedy helps against all of them."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.level.value, finding.code, finding.remedy), []).append(finding)
    return list(groups.values())


def _findings(alike: list[Finding]) -> Iterator[RenderableType]:
    finding = alike[0]
    where = f" at {finding.step}" if finding.step else ""
    others = ", ".join(one.step or one.message for one in alike[1:])
    text = f"{finding.code}{where}: {finding.message}{f' (also: {others})' if others else ''}"
    yield hanging((finding.level.value,), text, widths=(8,), indent=2, style=_STYLES[finding.level])
    yield hanging(("",), f"remedy: {finding.remedy}", widths=(8,), indent=2)
