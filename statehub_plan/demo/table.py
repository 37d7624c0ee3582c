"""What the demo proves, as a model, as JSON and as the table that ends it."""

from __future__ import annotations

from typing import IO, Any

from statehub_plan.demo.equality import Equality
from statehub_plan.demo.verdict import LedgerVerdict
from statehub_plan.model.base import Frozen


class Leg(Frozen):
    """One move of the primary, judged after it: the client's ledger against the new primary's database, and the new
    primary's content against the frozen side's. `primary` is who answered the client at the end."""

    old: str
    new: str
    primary: str | None
    ledger: LedgerVerdict
    content: Equality

    @property
    def write_gap_ms(self) -> float | None:
        """From the last write acknowledged by the old primary to the first by the new; None when it never moved."""
        move = self.ledger.moves[-1] if self.ledger.moves else None
        return round(move.gap_ms, 1) if move is not None and move.new == self.new else None

    @property
    def good(self) -> bool:
        """Whether the primary moved, lost nothing, doubled nothing and has the same content."""
        ledger = self.ledger
        intact = ledger.acknowledged > 0 and ledger.lost == 0 and ledger.duplicated == 0
        return intact and self.content.equal and self.primary == self.new and self.write_gap_ms is not None

    def figures(self) -> dict[str, Any]:
        """The published numbers."""
        return {
            "acknowledged": self.ledger.acknowledged,
            "lost": self.ledger.lost,
            "duplicated": self.ledger.duplicated,
            "errors": self.ledger.unresolved,
            "longest_write_ms": self.ledger.longest_ms,
            "write_gap_ms": self.write_gap_ms,
            "content_equal": self.content.equal,
            "primary": self.primary,
        }


_FIGURES = (
    "acknowledged",
    "lost",
    "duplicated",
    "errors",
    "longest_write_ms",
    "write_gap_ms",
    "content_equal",
    "primary",
)


class CommandRun(Frozen):
    """One command of the story."""

    command: str
    exit_status: int
    elapsed_s: float


class Outcome(Frozen):
    """The whole demo. Without `cutover` or `switchback` it ended before that; `failure` says why."""

    rows: int
    steps: tuple[CommandRun, ...]
    cutover: Leg | None = None
    switchback: Leg | None = None
    failure: str | None = None

    @property
    def good(self) -> bool:
        """Whether everything was done and nothing went wrong."""
        return self.failure is None and all(leg is not None and leg.good for leg in (self.cutover, self.switchback))

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints: the cutover's figures, the switchback's within, every command."""
        nothing = dict.fromkeys(_FIGURES)
        return {
            **(self.cutover.figures() if self.cutover else nothing),
            "switchback": self.switchback.figures() if self.switchback else nothing,
            "steps": [step.model_dump() for step in self.steps],
            "rows": self.rows,
            "good": self.good,
            "failure": self.failure,
        }


def print_table(outcome: Outcome, stream: IO[str]) -> None:
    """The closing table: one column for each move."""
    from rich.console import Console
    from rich.table import Table

    legs = [leg for leg in (outcome.cutover, outcome.switchback) if leg is not None]
    table = Table(title=f"{outcome.rows:,} rows, a client writing throughout; cumulative counts")
    table.add_column("")
    for leg in legs:
        table.add_column(f"{leg.old} → {leg.new}", justify="right")
    for label, values in zip(_LABELS, zip(*map(_cells, legs), strict=True), strict=False):
        table.add_row(label, *values)
    console = Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else 100)
    if legs:
        console.print(table)
    for leg in legs:
        for difference in leg.content.differences:
            console.print(f"{leg.old} → {leg.new}: {difference}")
    if outcome.failure:
        console.print(f"The demo failed: {outcome.failure}")


_LABELS = (
    "acknowledged writes",
    "lost",
    "duplicated",
    "errors that a caller saw",
    "retried by the client",
    "longest write",
    "write gap",
    "content equal",
    "primary",
)


def _cells(leg: Leg) -> tuple[str, ...]:
    gap = "none" if leg.write_gap_ms is None else f"{leg.write_gap_ms:,.0f} ms"
    ledger, equal = leg.ledger, "yes" if leg.content.equal else "NO"
    return (
        f"{ledger.acknowledged:,}",
        f"{ledger.lost:,}",
        f"{ledger.duplicated:,}",
        f"{ledger.unresolved:,}",
        f"{ledger.retried:,}",
        f"{ledger.longest_ms:,.0f} ms",
        gap,
        f"{equal} ({leg.content.rows:,} rows)",
        leg.primary or "nobody",
    )
