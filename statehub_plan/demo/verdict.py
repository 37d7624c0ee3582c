"""What became of acknowledged writes: reads a client's ledger and asks a database for every token in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import psycopg

from statehub_plan.model.base import Frozen

_STRAGGLER_NS = 1_000_000_000
_NAMED = 20


class Opening(Frozen):
    """First line of a client's ledger. `source` is what its events carry in the database."""

    kind: Literal["opening"] = "opening"
    source: str


class Acknowledgement(Frozen):
    """A write that the service said it has. `server` is the endpoint that answered, `via` the access path; `mono_ns`
    and `wall_ns` are the client's clocks when the answer was there, `waited_ms` after its first attempt began; more
    than one of `attempts` means retries, which the client's caller does not see."""

    kind: Literal["acknowledged"] = "acknowledged"
    token: str
    writer: int
    seq: int
    server: str
    via: str
    attempts: int
    mono_ns: int
    wall_ns: int
    waited_ms: float = 0.0


class Unresolved(Frozen):
    """A write that was given up while its outcome was unknown; it may be there once or not at all."""

    kind: Literal["unresolved"] = "unresolved"
    token: str
    problem: str


class Ledger(Frozen):
    """What one file holds; acknowledgements in order of the monotonic clock."""

    sources: tuple[str, ...]
    acknowledged: tuple[Acknowledgement, ...]
    unresolved: tuple[Unresolved, ...]


class Move(Frozen):
    """The answering server changed; `gap_ms` from the last answer of `old` to the first of `new`."""

    old: str
    new: str
    gap_ms: float
    mono_ns: int


class LedgerVerdict(Frozen):
    """`lost` acknowledged writes are not in the database, `duplicated` ones are there more than once; `retried` needed
    more than one attempt, and no write took longer than `longest_ms`. The first twenty tokens of both are named."""

    acknowledged: int
    retried: int
    unresolved: int
    lost: int
    duplicated: int
    lost_tokens: tuple[str, ...]
    duplicated_tokens: tuple[str, ...]
    moves: tuple[Move, ...]
    longest_ms: float = 0.0

    @property
    def write_gap_ms(self) -> float | None:
        """The longest gap around a change of the answering server; None when it never changed."""
        return max((move.gap_ms for move in self.moves), default=None)


def read_ledger(path: Path) -> Ledger:
    """What the client has written down so far; a last line that is still being written is left out."""
    sources: list[str] = []
    acknowledged: list[Acknowledgement] = []
    unresolved: list[Unresolved] = []
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            match json.loads(line):
                case {"kind": "opening"} as entry:
                    sources.append(Opening.model_validate(entry).source)
                case {"kind": "acknowledged"} as entry:
                    acknowledged.append(Acknowledgement.model_validate(entry))
                case entry:
                    unresolved.append(Unresolved.model_validate(entry))
    acknowledged.sort(key=lambda entry: entry.mono_ns)
    return Ledger(sources=tuple(sources), acknowledged=tuple(acknowledged), unresolved=tuple(unresolved))


def verify(ledger_path: Path, dsn: str) -> LedgerVerdict:
    """Judge every acknowledgement that is in the ledger now against the database behind `dsn`; reads only.

    May run while the client goes on: an acknowledged write was committed before it was written down.
    """
    ledger = read_ledger(ledger_path)
    with psycopg.connect(dsn, autocommit=True, application_name="state-hub ledger") as conn:
        found = conn.execute(
            "SELECT detail->>'token', count(*) FROM public.progress_event WHERE source = ANY(%s) GROUP BY 1",
            [list(ledger.sources)],
        ).fetchall()
    return judge(ledger, dict(found))


def judge(ledger: Ledger, found: dict[str, int]) -> LedgerVerdict:
    """The verdict on a ledger, given how often each token was found."""
    times = Counter(found)
    lost = sorted({entry.token for entry in ledger.acknowledged if times[entry.token] == 0})
    duplicated = sorted(token for token, count in found.items() if count > 1)
    return LedgerVerdict(
        acknowledged=len(ledger.acknowledged),
        retried=sum(entry.attempts > 1 for entry in ledger.acknowledged),
        unresolved=len(ledger.unresolved),
        lost=len(lost),
        duplicated=len(duplicated),
        lost_tokens=tuple(lost[:_NAMED]),
        duplicated_tokens=tuple(duplicated[:_NAMED]),
        moves=moves(ledger.acknowledged),
        longest_ms=max((entry.waited_ms for entry in ledger.acknowledged), default=0.0),
    )


def moves(acknowledged: Sequence[Acknowledgement]) -> tuple[Move, ...]:
    """Every change of the answering server, given acknowledgements in order of time.

    Answers of the old server that were under way for up to a second when the new one first answered are no move back.
    """
    found: list[Move] = []
    for earlier, later in _changes(acknowledged):
        if found and later.server == found[-1].old and later.mono_ns - found[-1].mono_ns < _STRAGGLER_NS:
            continue
        if found and earlier.server == found[-1].old and later.server == found[-1].new:
            continue  # after a straggler
        gap_ms = (later.mono_ns - earlier.mono_ns) / 1e6
        found.append(Move(old=earlier.server, new=later.server, gap_ms=gap_ms, mono_ns=later.mono_ns))
    return tuple(found)


def _changes(acknowledged: Sequence[Acknowledgement]) -> Iterable[tuple[Acknowledgement, Acknowledgement]]:
    pairs = pairwise(acknowledged)
    return ((earlier, later) for earlier, later in pairs if earlier.server != later.server)
