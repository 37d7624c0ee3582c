"""What a comparison of two databases found, as it is shown, kept and signed."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.model.spec import Waiver

__all__ = [
    "Answer",
    "CannotTell",
    "Comparison",
    "Difference",
    "RowDifference",
    "TableProof",
    "ValueDifference",
    "Waived",
    "covers",
]


class ValueDifference(Frozen):
    """One column of a row that differs, as redacted text; None is NULL, or no such row on that side."""

    column: str
    source: str | None
    target: str | None


class RowDifference(Frozen):
    """One row: `changed`, `missing` (only on the source) or `extra` (only on the target). `key`: its key as the text of
    a record, or that text's SHA-256 where a column of it is called like a secret; None in a table without one, where
    `rows` says how many equal rows too many there are. `digest_*`: its two hashes. `values`: the columns that differ,
    where they were asked for."""

    key: str | None
    what: Literal["changed", "missing", "extra"]
    rows: int = 1
    digest_source: str | None = None
    digest_target: str | None = None
    values: tuple[ValueDifference, ...] = ()

    def __str__(self) -> str:
        """Key and what is wrong, for people."""
        words = {"changed": "differs", "missing": "only on the source", "extra": "only on the target"}
        return f"{self.key or 'a row without a key'} {words[self.what]}"


class Difference(Frozen):
    """One thing that is not the same. `object` is qualified, `aspect` what of it differs (`missing`, `extra`, `rows`,
    `content`, or a property), `source` and `target` what each side says, `keys` the first places in a table, in words,
    `rows` all of them, unless `rows_complete` is False."""

    kind: str
    object: str
    table: str | None = None
    aspect: str
    source: str | None = None
    target: str | None = None
    keys: tuple[str, ...] = ()
    rows: tuple[RowDifference, ...] = ()
    rows_complete: bool = True

    def __str__(self) -> str:
        """One line for people."""
        values = "" if self.aspect in ("missing", "extra") else f": {self.source} ≠ {self.target}"
        keys = f" at {', '.join(self.keys)}" if self.keys else ""
        return f"{self.kind} {self.object}: {self.aspect}{values}{keys}"


class Answer(StrEnum):
    """What a comparison found. `unknown`: nothing was found to differ, but not everything could be looked at."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class CannotTell(StatehubError):
    """Nothing can be said about two databases, or about one, and why; in a comparison the answer `unknown`."""

    def __init__(self, what: str) -> None:
        super().__init__(
            code="compare-unknown", what=what, hint="nothing was changed; mend what is said here, and do it again"
        )


class TableProof(Frozen):
    """One table on both sides; `digest_*` is None where only rows were counted, both where they could not be read."""

    table: str
    answer: Answer
    rows_source: int | None = None
    rows_target: int | None = None
    digest_source: str | None = None
    digest_target: str | None = None
    reason: str | None = None


class Waived(Frozen):
    """What the plan left out, why, and how many differences that hides. `table`: where it is one; its content was not
    looked at, its rows were counted (None where they could not be, or writers would have waited for it). `name`: that
    table, or the catalog's object as the plan names it."""

    name: str
    table: str | None = None
    reason: str
    differences: int
    rows_source: int | None = None
    rows_target: int | None = None

    @property
    def hides_definitions(self) -> bool:
        """Whether anything but a number of rows is hidden."""
        rows_differ = None not in (self.rows_source, self.rows_target) and self.rows_source != self.rows_target
        return self.differences > rows_differ


def covers(waiver: Waiver, difference: Difference) -> bool:
    """Whether the plan leaves this out."""
    if waiver.table is not None:
        return difference.table == waiver.table
    same = (waiver.kind, waiver.object) == (difference.kind, difference.object)
    return same and waiver.aspect in (None, difference.aspect)


class Comparison(Frozen):
    """The proof. `content` False: rows were counted and no value was compared, which `notes` and the `reason` of every
    table say again; `equal` means no more than that then. `unknown`: what could not be looked at and
    why. `notes`: what was passed over by a rule of the tool. `digest` covers identities, tables, catalogs, sequences
    and the answer, not the times. `seeds`: what rows were hashed with; with them the same contents have the same
    digests again."""

    schema_version: str = "statehub-plan/comparison/v1"
    answer: Answer
    content: bool
    seeds: str | None = None
    source: Identity
    target: Identity
    tables: tuple[TableProof, ...] = ()
    differences: tuple[Difference, ...] = ()
    unknown: tuple[str, ...] = ()
    waived: tuple[Waived, ...] = ()
    notes: tuple[str, ...] = ()
    digest: str
    compared_at: Instant
    elapsed_ms: int
