"""What could not be observed, gathered so that one dead endpoint is one line and not thirty. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from statehub_plan.model.facts import Fact
from statehub_plan.render.words import plain


@dataclass(frozen=True, slots=True)
class UnknownGroup:
    """Facts of one subject that are unknown for the same reason."""

    subject: str
    facts: tuple[str, ...]
    reason: str

    def text(self, most: int = 4) -> str:
        """`wsl2: reach, identity, writes and 20 more: connection refused`."""
        return f"{self.what(most)}: {plain(self.reason)}"

    def what(self, most: int = 4) -> str:
        """The same without the reason."""
        named = ", ".join(self.facts[:most])
        more = f" and {len(self.facts) - most} more" if len(self.facts) > most else ""
        return f"{self.subject}: {named}{more}" if named else self.subject


def gather_unknown(facts: Iterable[Fact]) -> tuple[UnknownGroup, ...]:
    """The unknown facts by subject and reason, in the order of their first fact."""
    found: dict[tuple[str, str], list[str]] = {}
    for fact in facts:
        if fact.reason is not None:
            subject, _, rest = fact.id.partition(".")
            found.setdefault((subject, fact.reason), []).append(rest)
    return tuple(
        UnknownGroup(subject, tuple(name for name in names if name), reason)
        for (subject, reason), names in found.items()
    )
