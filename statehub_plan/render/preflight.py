"""What the pre-flight checks found, on a screen: by side, errors first, short when all is well. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from statehub_plan.model.output import CheckOutput, PreflightOutput
from statehub_plan.model.preflight import Severity
from statehub_plan.render.preflight_words import Remark
from statehub_plan.render.text import RenderableType, columns, hanging, heading, line, stack
from statehub_plan.render.words import counted

__all__ = ["checks_view", "preflight_said", "preflight_view", "remark_lines"]

_NAMED = 3  # objects per check and side; the others are counted
_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_WORDS = {Severity.ERROR: "ERROR", Severity.WARNING: "warning", Severity.INFO: "told"}


def preflight_said(output: PreflightOutput) -> str:
    """`111 checks, nothing stands in the way`, or how much does."""
    counts = {each: sum(1 for one in output.found if one.severity is each) for each in Severity}
    if not counts[Severity.ERROR]:
        warned = f", {counted(counts[Severity.WARNING], 'warning')}" if counts[Severity.WARNING] else ""
        return f"{counted(output.checks, 'check')}, nothing stands in the way{warned}"
    return (
        f"{counted(output.checks, 'check')}: {counted(counts[Severity.ERROR], 'error')}, "
        f"{counted(counts[Severity.WARNING], 'warning')}"
    )


def preflight_view(output: PreflightOutput) -> RenderableType:
    """Everything that was found, the side and the reason with it."""
    names = {"source": output.source, "target": output.target}
    parts: list[RenderableType] = [
        heading(f"Pre-flight {output.source} → {output.target}: {preflight_said(output)}"),
    ]
    for side in names:
        remarks = tuple(
            Remark(one.id, one.severity, names[side], one.what, one.remedy)
            for one in output.found
            if one.side.value == side
        )
        if remarks:
            parts += [heading(f"{names[side]} ({side})"), *remark_lines(remarks)]
    return stack(parts)


def remark_lines(remarks: Sequence[Remark], *, sided: bool = False) -> Iterator[RenderableType]:
    """Two lines for each: what, and the remedy; of one check's many objects some are named and the rest is counted.
    `sided`: which endpoint it is about comes first, where no heading says so."""
    for (severity, check_id, _), group in groupby(remarks, key=lambda one: (one.severity, one.id, one.where)):
        alike = tuple(group)
        for one in alike[:_NAMED]:
            label = (_WORDS[severity],)
            what = f"{one.where}: {one.what}" if sided else one.what
            yield hanging(label, f"{what} [{check_id}]", widths=(7,), indent=2, style=_STYLES[severity])
            if one.remedy:
                yield hanging(("",), f"remedy: {one.remedy}", widths=(7,), indent=2)
        if len(alike) > _NAMED:
            yield hanging(("",), f"… and {len(alike) - _NAMED} more of {check_id}", widths=(7,), indent=2)


def checks_view(checks: Sequence[CheckOutput]) -> RenderableType:
    """Every check with what it demands and what that prevents."""
    parts: list[RenderableType] = [line(f"{counted(len(checks), 'check')}; they only read", style="bold")]
    for theme, group in groupby(checks, key=lambda one: one.theme):
        rows = [(one.id, one.severity.value, one.where, one.title, one.reason) for one in group]
        parts += [heading(theme), columns(rows, indent=2)]
    return stack(parts)
