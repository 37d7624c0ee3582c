"""The few shapes that text for a terminal is made of. The only module of this package that imports rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from statehub_plan.render.words import plain

__all__ = ["RenderableType", "columns", "hanging", "heading", "line", "stack"]


def line(text: str, *, indent: int = 0, style: str = "") -> RenderableType:
    """A paragraph; wrapped lines keep the indent."""
    return Padding(Text(plain(text), style=style), (0, 0, 0, indent))


def heading(text: str) -> RenderableType:
    """A bold line with an empty one above."""
    return Padding(Text(plain(text), style="bold"), (1, 0, 0, 0))


def hanging(
    labels: Sequence[str], text: str, *, widths: Sequence[int], indent: int = 0, style: str = ""
) -> RenderableType:
    """Labels of fixed width (numbers stand right) and a paragraph that wraps beside them."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for label, width in zip(labels, widths, strict=True):
        grid.add_column(width=width, no_wrap=True, justify="right" if label.isdigit() else "left")
    grid.add_column(overflow="fold")
    grid.add_row(*(Text(plain(cell), style=style) for cell in (*labels, text)))
    return Padding(grid, (0, 0, 0, indent))


def columns(
    rows: Iterable[Sequence[str]], *, titles: Sequence[str] = (), indent: int = 0, styles: Sequence[str] = ()
) -> RenderableType:
    """Aligned columns without borders; long cells wrap inside their column."""
    table = Table(box=None, show_header=bool(titles), header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    found = [list(row) for row in rows]
    count = len(titles) or max((len(row) for row in found), default=0)
    for index in range(count):
        table.add_column(titles[index] if titles else "", overflow="fold")
    for number, row in enumerate(found):
        style = styles[number] if number < len(styles) else ""
        table.add_row(*(Text(plain(cell), style=style) for cell in row))
    return Padding(table, (0, 0, 0, indent))


def stack(parts: Iterable[RenderableType]) -> RenderableType:
    """One below the other."""
    return Group(*parts)
