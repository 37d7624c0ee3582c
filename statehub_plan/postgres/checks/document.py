"""docs/checks.md, generated: `python -m statehub_plan.postgres.checks.document > docs/checks.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from statehub_plan.model.spec import TransferMethod
from statehub_plan.postgres.checks.declare import Check
from statehub_plan.postgres.checks.registry import CHECKS

__all__ = ["text"]

_HEAD = """# Pre-flight checks

`statehub-plan doctor PLAN` and `statehub-plan plan PLAN` run these {count} checks; they only read. An *error* stands in
the way and is refused before anything is touched, a *warning* is told and left to people, an *info* says what becomes
of something. A question that a server does not answer counts as found: not knowing is not fine.

Where a check looks: on the source, on the target, on each side; or on the publisher or the subscriber, which are source
and target on the way there, and exchanged besides where the plan wishes a fallback that follows.

This page is generated: `python -m statehub_plan.postgres.checks.document > docs/checks.md`.
"""
_TITLES = {"types": "column types", "content": "what is there already", "identity": "replica identity"}


def text() -> str:
    """The whole page."""
    return "\n".join((_HEAD.format(count=len(CHECKS)), *_themes()))


def _themes() -> Iterator[str]:
    for theme, checks in groupby(CHECKS, key=lambda one: one.theme):
        yield f"## {_TITLES.get(theme, theme).capitalize()}\n"
        yield "| id | severity | where | what is demanded | what it prevents |"
        yield "|---|---|---|---|---|"
        yield from map(_row, checks)
        yield ""


def _row(check: Check) -> str:
    where = check.place.value
    if TransferMethod.DUMP not in check.methods:
        where += " (replication)"
    return f"| `{check.id}` | {check.severity} | {where} | {check.title} | {check.reason} |"


if __name__ == "__main__":
    sys.stdout.write(text())
