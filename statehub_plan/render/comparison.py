"""A comparison of two databases on a screen: short when equal, useful when not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Protocol

from statehub_plan.model.base import Instant
from statehub_plan.render.text import RenderableType, columns, heading, line, stack
from statehub_plan.render.words import counted, moment, shown, span

_MOST = 40
_ROWS = 10


class TableSeen(Protocol):
    """What is told of one table."""

    @property
    def table(self) -> str:
        """Schema and name."""

    @property
    def answer(self) -> str:
        """`equal`, `different` or `unknown`."""

    @property
    def rows_source(self) -> int | None:
        """None where they could not be counted."""

    @property
    def rows_target(self) -> int | None:
        """None where they could not be counted."""

    @property
    def reason(self) -> str | None:
        """Why the answer is unknown."""


class ValueSeen(Protocol):
    """One column of a row that differs."""

    @property
    def column(self) -> str:
        """Its name."""

    @property
    def source(self) -> str | None:
        """None is NULL."""

    @property
    def target(self) -> str | None:
        """None is NULL."""


class RowSeen(Protocol):
    """What is told of one row; it renders itself as a line."""

    @property
    def what(self) -> str:
        """`changed`, `missing` or `extra`."""

    @property
    def values(self) -> Sequence[ValueSeen]:
        """The columns that differ, where they were asked for."""


class DifferenceSeen(Protocol):
    """One thing that is not the same; it renders itself as a line."""

    @property
    def rows(self) -> Sequence[RowSeen]:
        """The differing rows of a table."""

    @property
    def rows_complete(self) -> bool:
        """Whether those are all."""


class WaivedSeen(Protocol):
    """What the plan leaves out."""

    @property
    def name(self) -> str:
        """A table, or an object of the catalog."""

    @property
    def table(self) -> str | None:
        """Schema and name, where it is a table."""

    @property
    def reason(self) -> str:
        """Why it is left out."""

    @property
    def differences(self) -> int:
        """How many differences that hides."""

    @property
    def rows_source(self) -> int | None:
        """Of a table; None where they were not counted."""

    @property
    def rows_target(self) -> int | None:
        """Of a table; None where they were not counted."""


class ComparisonSeen(Protocol):
    """What is told of a comparison; `statehub_plan.postgres.proof.Comparison` is one."""

    @property
    def answer(self) -> str:
        """`equal`, `different` or `unknown`."""

    @property
    def content(self) -> bool:
        """Whether values were compared, or rows counted only."""

    @property
    def tables(self) -> Sequence[TableSeen]:
        """Every table that both sides have."""

    @property
    def differences(self) -> Sequence[DifferenceSeen]:
        """Sorted by what they are differences of."""

    @property
    def unknown(self) -> Sequence[str]:
        """What could not be looked at, and why."""

    @property
    def waived(self) -> Sequence[WaivedSeen]:
        """What the plan leaves out."""

    @property
    def notes(self) -> Sequence[str]:
        """What was passed over by rule."""

    @property
    def digest(self) -> str:
        """Over everything but the times."""

    @property
    def compared_at(self) -> Instant:
        """When."""

    @property
    def elapsed_ms(self) -> int:
        """How long it took."""


def comparison_view(comparison: ComparisonSeen, *, source: str, target: str) -> RenderableType:
    """The answer first; then every difference, what could not be looked at, what was waived."""
    return stack([*_answer(comparison, source, target), *_differences(comparison, source, target), *_rest(comparison)])


def _answer(comparison: ComparisonSeen, source: str, target: str) -> Iterator[RenderableType]:
    rows = sum(table.rows_source or 0 for table in comparison.tables)
    looked = "rows and values" if comparison.content else "row counts only"
    equal = "equal" if comparison.content else "equal in row counts, no value was compared"
    answer = str(comparison.answer).upper() if comparison.answer != "equal" else equal
    yield line(f"{source} and {target}: {answer}", style="bold")
    tables = counted(len(comparison.tables), "table")
    yield line(f"{tables}, {rows:,} rows, {looked}, in {span(comparison.elapsed_ms / 1000)}", indent=2)
    yield line(f"{moment(comparison.compared_at)}, proof {comparison.digest}", indent=2, style="dim")


def _differences(comparison: ComparisonSeen, source: str, target: str) -> Iterator[RenderableType]:
    if comparison.differences:
        yield heading(f"{counted(len(comparison.differences), 'difference')} ({source} → {target})")
        for difference in comparison.differences[:_MOST]:
            yield line(f"≠ {difference}", indent=2, style="red")
            yield from _rows(difference.rows)
        if len(comparison.differences) > _MOST:
            yield line(f"… and {len(comparison.differences) - _MOST} more: `--json` lists all", indent=2)
    differing = [table for table in comparison.tables if table.answer != "equal"]
    if differing:
        yield heading("Tables that are not equal")
        rows = [
            (one.table, str(one.answer), _count(one.rows_source), _count(one.rows_target), one.reason or "")
            for one in differing[:_MOST]
        ]
        yield columns(rows, titles=("table", "answer", source, target, "reason"), indent=2)


def _rows(rows: Sequence[RowSeen]) -> Iterator[RenderableType]:
    """What the first rows hold, where values were asked for."""
    for row in [row for row in rows if row.values][:_ROWS]:
        yield line(str(row), indent=6)
        for value in row.values:
            sides = {"missing": [value.source], "extra": [value.target]}.get(row.what, [value.source, value.target])
            # Quoted, or what is called like a secret would look like one to whatever prints this, with all behind it.
            yield line(f"{_value(value.column)}: {' → '.join(map(_value, sides))}", indent=8)


def _value(text: str | None) -> str:
    return "NULL" if text is None else shown(json.dumps(text, ensure_ascii=False), 100)


def _count(rows: int | None) -> str:
    return "unknown" if rows is None else f"{rows:,}"


def _other_rows(waived: WaivedSeen) -> str:
    ours, theirs = waived.rows_source, waived.rows_target
    return (
        ""
        if ours is None or theirs is None or ours == theirs
        else f", {counted(ours, 'row')} ≠ {counted(theirs, 'row')}"
    )


def _rest(comparison: ComparisonSeen) -> Iterator[RenderableType]:
    if comparison.unknown:
        yield heading("Could not be looked at")
        for reason in comparison.unknown[:_MOST]:
            yield line(f"? {reason}", indent=2, style="magenta")
    for waived in comparison.waived:
        unread = f", content not looked at{_other_rows(waived)}" if waived.table else ""
        hidden = f"hides {counted(waived.differences, 'difference')}{unread}"
        yield line(f"waived: {waived.name}: {waived.reason} ({hidden})", indent=2)
    for note in comparison.notes[:_MOST]:
        yield line(f"note: {note}", indent=2, style="dim")
    if len(comparison.notes) > _MOST:
        yield line(f"note: … and {len(comparison.notes) - _MOST} more: `--json` lists all", indent=2, style="dim")
