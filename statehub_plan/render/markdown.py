"""The few shapes that Markdown documents are made of; whatever comes from outside is made harmless. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from statehub_plan.render.words import plain

_ESCAPES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"} | {sign: f"\\{sign}" for sign in "\\`*[]|~"}
_PROSE_ESCAPES = {"<": "&lt;", ">": "&gt;", "|": "\\|"}


def md(text: str) -> str:
    """Text from anywhere as one line that means itself and nothing else (GitHub Flavored Markdown)."""
    return "".join(_ESCAPES.get(sign, sign) for sign in plain(text))


def prose(text: str) -> str:
    """A sentence of the plan's own author: code spans and emphasis stay, tags and cell borders don't."""
    return "".join(_PROSE_ESCAPES.get(sign, sign) for sign in plain(text))


def code(text: str) -> str:
    """A code span that no backtick inside can end (CommonMark 0.31, code spans)."""
    inner = plain(text).replace("|", "\\|")
    fence = "`"
    while fence in inner:
        fence += "`"
    pad = " " if inner.startswith("`") or inner.endswith("`") else ""
    return f"{fence}{pad}{inner}{pad}{fence}" if inner else ""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; cells are Markdown already."""
    return [
        f"| {' | '.join(titles)} |",
        f"|{'|'.join(' --- ' for _ in titles)}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def folded(summary: str, lines: Iterable[str]) -> list[str]:
    """Lines that a reader unfolds."""
    return ["<details>", f"<summary>{md(summary)}</summary>", "", *lines, "", "</details>"]


def document(sections: Iterable[Sequence[str]]) -> str:
    """Sections of lines, one empty line between them, one newline at the end."""
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"
