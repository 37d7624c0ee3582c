"""Two databases that are asked the same questions: each under one snapshot, by several sessions at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.catalog import Catalog
from statehub_plan.postgres.comparison import CannotTell
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.relations import PageRange, Relation
from statehub_plan.postgres.sequences import SequenceValue
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import Server
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, run_crews
from statehub_plan.redact import redact

__all__ = ["CHUNK_BYTES", "Labour", "Side", "Sides", "ask_both", "attempt"]

CHUNK_BYTES = 64 * 1024 * 1024
"""Tables are read in pieces of this size: the unit of parallel work and of progress."""

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Side:
    """One database under one snapshot, and what its catalog says; None where that need not be read."""

    name: str
    snapshot: Snapshot
    server: Server
    version: int
    catalog: Catalog | None
    relations: dict[str, Relation]
    sequences: dict[str, SequenceValue]

    @property
    def identity(self) -> Identity:
        """Which database of which cluster it is."""
        return self.server.identity

    def join(self) -> Connection:
        """One more session that sees the same; CannotTell when none is had."""
        try:
            return self.snapshot.join()
        except StatehubError as error:
            raise CannotTell(error.what) from error


Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Labour:
    """How the work is done: `jobs` sessions a side, pieces of `chunk_bytes`; `tick` is called every 50 ms."""

    jobs: int
    chunk_bytes: int
    tick: Callable[[], None]
    on_progress: OnProgress


@dataclass(frozen=True, slots=True)
class _Piece:
    relation: Relation
    pages: PageRange

    @property
    def bytes(self) -> float:
        return self.relation.bytes * self.pages.share


def ask_both(
    sides: Sides,
    names: Iterable[str],
    ask: Callable[[Connection, Relation, PageRange], FoundT],
    labour: Labour,
    phase: str,
) -> tuple[dict[str, list[FoundT | str]], dict[str, list[FoundT | str]]]:
    """What `ask` found in each piece of these tables, by table, on the source and on the target; a text where a piece
    could not be read: the reason. Both sides work at once; blocks until all is done."""
    tasks = [_pieces(side, names, labour.chunk_bytes) for side in sides]
    total = sum(piece.bytes for each in tasks for piece in each)
    began, done = time.monotonic(), [0.0]

    def work(piece: _Piece, sessions: tuple[Connection, ...]) -> FoundT | str:
        found = attempt(sessions[0], lambda: ask(sessions[0], piece.relation, piece.pages))
        done.append(piece.bytes)
        return found

    def look() -> None:
        labour.tick()
        elapsed_s = time.monotonic() - began
        labour.on_progress(Progress(phase, round(sum(tuple(done))), round(total), "bytes", elapsed_s))

    crews = [
        Crew(pieces, work, lambda side=side: (side.join(),), labour.jobs)  # type: ignore[misc]
        for side, pieces in zip(sides, tasks, strict=True)
    ]
    ours, theirs = (
        _by_table(pieces, results) for pieces, results in zip(tasks, run_crews(crews, tick=look), strict=True)
    )
    return ours, theirs


def _pieces(side: Side, names: Iterable[str], chunk_bytes: int) -> list[_Piece]:
    """The largest tables first, so that none of them is begun when everything else is done."""
    relations = sorted((side.relations[name] for name in names), key=lambda relation: -relation.bytes)
    return [_Piece(relation, pages) for relation in relations for pages in relation.ranges(chunk_bytes)]


def attempt(connection: Connection, work: Callable[[], FoundT]) -> FoundT | str:
    """What `work`, which only reads, returns, or the server's reason why it could not be done; the session goes on
    either way, and holds no lock of it."""
    try:
        # A savepoint: one unreadable table must not spoil the session for the next. Rolled back, so that nobody who
        # alters a table waits until all the others are read, and everybody who uses it behind him; what was altered
        # since the snapshot is looked for when everything is read (`redefined`, `ChangeLog.verify`).
        with connection.transaction(force_rollback=True):
            return work()
    except psycopg.errors.DataError as error:
        # Of class 22 (manual, appendix A): the message would quote the value.
        return f"a value could not be computed or converted (SQLSTATE {error.sqlstate})"
    except psycopg.Error as error:
        return redact(" ".join(str(error).split()))


def _by_table(pieces: Sequence[_Piece], results: Sequence[FoundT]) -> dict[str, list[FoundT]]:
    found: dict[str, list[FoundT]] = {}
    for piece, result in zip(pieces, results, strict=True):
        found.setdefault(piece.relation.qualified, []).append(result)
    return found
