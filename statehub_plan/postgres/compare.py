"""Whether two databases hold the same: equal, different (where), or unknown (why); never a guess."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import digest
from statehub_plan.model.plan import Identity
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.catalog import Catalog, Judge, compare_catalogs, read_catalog
from statehub_plan.postgres.comparison import Answer, Comparison, Difference, TableProof, Waived
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.content import ContentDigest, count_rows, digest_rows
from statehub_plan.postgres.locate import locate
from statehub_plan.postgres.relations import PageRange, Relation, read_relations, rewritten_tables
from statehub_plan.postgres.sequences import SequenceValue, read_sequences
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, nobody_looks, nothing_to_lose, run_crews
from statehub_plan.redact import redact

__all__ = ["Answer", "Comparison", "Difference", "TableProof", "Waived", "compare"]

CHUNK_BYTES = 64 * 1024 * 1024
"""Tables are read in pieces of this size: the unit of parallel work and of progress."""

_REWRITTEN = "it was truncated or rewritten after the snapshot, which no longer sees its rows"

_KEYS_PER_TABLE = 10
_TABLES_LOCATED = 20


class _CannotTell(StatehubError):
    """Becomes the answer `unknown`; never leaves this module."""

    def __init__(self, what: str) -> None:
        super().__init__(code="compare-unknown", what=what, hint="")


@dataclass(frozen=True)
class _Side:
    """One database under one snapshot, and what its catalog says."""

    name: str
    snapshot: Snapshot
    identity: Identity
    version: int
    catalog: Catalog
    relations: dict[str, Relation]
    sequences: dict[str, SequenceValue]


@dataclass(frozen=True, slots=True)
class _Piece:
    relation: Relation
    pages: PageRange


_Measured = ContentDigest | str
"""What was found in a piece, or the reason why nothing was."""


def compare(
    source_dsn: str,
    target_dsn: str,
    *,
    jobs: int = 2,
    content: bool = True,
    waive: Sequence[Waiver] = (),
    snapshots: tuple[Snapshot, Snapshot] | None = None,
    sequences: bool = True,
    timeout_s: float | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Comparison:
    """Catalog, row counts, sequences and (unless `content` is False) every value of both databases, each side under one
    snapshot of its own; blocks while the servers read everything, with `jobs` sessions on each side.

    `snapshots`: compare what these two see (source's first) instead of what is there now; the caller closes them, and
    nothing that is written meanwhile counts. Sequences have no snapshots (manual 9.17): values are those of the moment
    at which they are read, so pass `sequences=False` when either side hands out numbers, and prove them elsewhere.

    Reads only. Whatever cannot be read makes the answer `unknown`, unless a difference was found anyway. Only what
    `check` raises (called every 50 ms) comes out as an exception.
    """
    started = time.monotonic()
    waived_tables = {each.table for each in waive if each.table}

    def tick() -> None:
        check()
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise _CannotTell(f"the comparison did not end within {timeout_s:g} s")

    try:
        with ExitStack() as stack:
            source, target = _open_sides((source_dsn, target_dsn), snapshots, sequences, stack)
            differences, notes = _compare_catalogs(source, target, stack, (source_dsn, target_dsn))
            differences += _compare_sequences(source, target)
            notes += () if sequences else ("sequence values were not compared",)
            tables = _compare_tables(source, target, waived_tables, jobs, content, chunk_bytes, tick, on_progress)
            differences += _table_differences(tables, source, target, tick)
            kept, hidden = _waive(differences, waive)
            return _conclude(source, target, content, tables, kept, hidden, notes, started)
    except (psycopg.Error, _CannotTell) as error:
        return _nothing_known(redact(str(error).strip()), content, started)


def _open_sides(
    dsns: tuple[str, str], given: tuple[Snapshot, Snapshot] | None, sequences: bool, stack: ExitStack
) -> tuple[_Side, _Side]:
    snapshots = given or tuple(stack.enter_context(_snapshot(dsn)) for dsn in dsns)
    versions = [snapshot.leader.info.server_version for snapshot in snapshots]
    sides = []
    for name, snapshot, other in zip(("source", "target"), snapshots, reversed(versions), strict=True):
        leader = snapshot.leader
        sides.append(
            _Side(
                name=name,
                snapshot=snapshot,
                identity=identity(leader),
                version=leader.info.server_version,
                catalog=read_catalog(leader, other_version=other),
                relations={relation.qualified: relation for relation in read_relations(leader)},
                sequences={value.qualified: value for value in (read_sequences(leader) if sequences else ())},
            )
        )
    return sides[0], sides[1]


def _snapshot(dsn: str) -> Snapshot:
    try:
        return Snapshot(dsn, purpose="compare")
    except StatehubError as error:
        raise _CannotTell(error.what) from error


def _join(side: _Side) -> Connection:
    try:
        return side.snapshot.join()
    except StatehubError as error:
        raise _CannotTell(error.what) from error


def _compare_catalogs(
    source: _Side, target: _Side, stack: ExitStack, dsns: tuple[str, str]
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    newer_dsn = dsns[0] if source.version > target.version else dsns[1]
    try:
        judging = stack.enter_context(connect(newer_dsn, purpose="compare definitions"))
    except StatehubError as error:
        raise _CannotTell(error.what) from error
    return compare_catalogs(
        source.catalog,
        target.catalog,
        source_version=source.version,
        target_version=target.version,
        judge=Judge(judging),
    )


def _compare_sequences(source: _Side, target: _Side) -> tuple[Difference, ...]:
    return tuple(
        Difference(
            kind="sequence",
            object=name,
            aspect="value",
            source=_sequence_text(source.sequences[name]),
            target=_sequence_text(target.sequences[name]),
        )
        for name in sorted(source.sequences.keys() & target.sequences.keys())
        if source.sequences[name] != target.sequences[name]
    )


def _sequence_text(value: SequenceValue) -> str:
    return f"{value.last_value}{'' if value.is_called else ' (not called)'}"


def _compare_tables(
    source: _Side,
    target: _Side,
    waived: set[str],
    jobs: int,
    content: bool,
    chunk_bytes: int,
    tick: Callable[[], None],
    on_progress: OnProgress,
) -> tuple[TableProof, ...]:
    names = sorted((source.relations.keys() & target.relations.keys()) - waived)
    pieces = [_pieces(side, names, chunk_bytes) for side in (source, target)]
    total = sum(piece.relation.bytes * piece.pages.share for each in pieces for piece in each)
    began, done = time.monotonic(), [0.0]

    def measure(piece: _Piece, sessions: tuple[Connection, ...]) -> _Measured:
        measured = _measure(piece, sessions[0], content)
        done.append(piece.relation.bytes * piece.pages.share)
        return measured

    def look() -> None:
        tick()
        on_progress(Progress("compare", round(sum(tuple(done))), round(total), "bytes", time.monotonic() - began))

    crews = [
        Crew(tasks, measure, lambda side=side: (_join(side),), jobs)  # type: ignore[misc]
        for side, tasks in zip((source, target), pieces, strict=True)
    ]
    ours, theirs = (
        _by_table(tasks, results) for tasks, results in zip(pieces, run_crews(crews, tick=look), strict=True)
    )
    for side, found in ((source, ours), (target, theirs)):
        found.update(dict.fromkeys(rewritten_tables(side.snapshot.leader) & found.keys(), _REWRITTEN))
    return tuple(_table_proof(name, ours[name], theirs[name], content) for name in names)


def _pieces(side: _Side, names: Iterable[str], chunk_bytes: int) -> list[_Piece]:
    """The largest tables first, so that none of them is begun when everything else is done."""
    relations = sorted((side.relations[name] for name in names), key=lambda relation: -relation.bytes)
    return [_Piece(relation, pages) for relation in relations for pages in relation.ranges(chunk_bytes)]


def _measure(piece: _Piece, connection: Connection, content: bool) -> _Measured:
    try:
        with connection.transaction():  # a savepoint: one unreadable table must not spoil the session for the next
            if content:
                return digest_rows(connection, piece.relation, piece.pages)
            return ContentDigest(count_rows(connection, piece.relation, piece.pages), (0, 0))
    except psycopg.Error as error:
        return redact(" ".join(str(error).split()))


def _by_table(pieces: Sequence[_Piece], results: Sequence[_Measured]) -> dict[str, _Measured]:
    found: dict[str, list[_Measured]] = {}
    for piece, result in zip(pieces, results, strict=True):
        found.setdefault(piece.relation.qualified, []).append(result)
    return {name: _combined(parts) for name, parts in found.items()}


def _combined(parts: Sequence[_Measured]) -> _Measured:
    reasons = [part for part in parts if isinstance(part, str)]
    return reasons[0] if reasons else ContentDigest.total(part for part in parts if isinstance(part, ContentDigest))


def _table_proof(name: str, ours: _Measured, theirs: _Measured, content: bool) -> TableProof:
    sides = {"source": ours, "target": theirs}
    reasons = [f"{side}: {found}" for side, found in sides.items() if isinstance(found, str)]
    rows = {side: found.rows for side, found in sides.items() if isinstance(found, ContentDigest)}
    digests = {side: str(found) for side, found in sides.items() if content and isinstance(found, ContentDigest)}
    answer = Answer.UNKNOWN if reasons else Answer.EQUAL if ours == theirs else Answer.DIFFERENT
    return TableProof(
        table=name,
        answer=answer,
        rows_source=rows.get("source"),
        rows_target=rows.get("target"),
        digest_source=digests.get("source"),
        digest_target=digests.get("target"),
        reason="; ".join(reasons) or None,
    )


def _table_differences(
    tables: Iterable[TableProof], source: _Side, target: _Side, tick: Callable[[], None]
) -> tuple[Difference, ...]:
    differing = [table for table in tables if table.answer is Answer.DIFFERENT]

    def keys(table: TableProof, sessions: tuple[Connection, ...]) -> tuple[str, ...]:
        if table.digest_source is None:
            return ()
        ours, theirs = (side.relations[table.table] for side in (source, target))
        return locate((sessions[0], ours), (sessions[1], theirs), _KEYS_PER_TABLE)

    crew = Crew(differing[:_TABLES_LOCATED], keys, lambda: (_join(source), _join(target)), 1)
    found = run_crews([crew], tick=tick)[0]
    located = dict(zip((table.table for table in differing), found, strict=False))
    return tuple(_table_difference(table, located.get(table.table, ())) for table in differing)


def _table_difference(table: TableProof, keys: tuple[str, ...]) -> Difference:
    counted = table.rows_source != table.rows_target
    return Difference(
        kind="table",
        object=table.table,
        table=table.table,
        aspect="rows" if counted else "content",
        source=str(table.rows_source) if counted else table.digest_source,
        target=str(table.rows_target) if counted else table.digest_target,
        keys=keys,
    )


def _waive(
    differences: Iterable[Difference], waive: Sequence[Waiver]
) -> tuple[tuple[Difference, ...], tuple[Waived, ...]]:
    hidden = [0] * len(waive)
    kept = []
    for difference in differences:
        index = next((index for index, one in enumerate(waive) if _covers(one, difference)), None)
        if index is None:
            kept.append(difference)
        else:
            hidden[index] += 1
    waived = (
        Waived(name=one.name, table=one.table, reason=one.reason, differences=count)
        for one, count in zip(waive, hidden, strict=True)
    )
    return tuple(kept), tuple(sorted(waived, key=lambda one: one.name))


def _covers(one: Waiver, difference: Difference) -> bool:
    if one.table is not None:
        return difference.table == one.table
    same = (one.kind, one.object) == (difference.kind, difference.object)
    return same and one.aspect in (None, difference.aspect)


def _conclude(
    source: _Side,
    target: _Side,
    content: bool,
    tables: tuple[TableProof, ...],
    differences: tuple[Difference, ...],
    waived: tuple[Waived, ...],
    notes: tuple[str, ...],
    started: float,
) -> Comparison:
    unknown = tuple(f"table {table.table}: {table.reason}" for table in tables if table.answer is Answer.UNKNOWN)
    answer = Answer.DIFFERENT if differences else Answer.UNKNOWN if unknown else Answer.EQUAL
    proof = {
        "answer": answer.value,
        "content": content,
        "tables": [table.model_dump(mode="json") for table in tables],
        "sides": [_side_digest(side) for side in (source, target)],
        "waived": [each.model_dump(mode="json") for each in waived],
    }
    return Comparison(
        answer=answer,
        content=content,
        source=source.identity,
        target=target.identity,
        tables=tables,
        differences=differences,
        unknown=unknown,
        waived=waived,
        notes=notes,
        digest=digest(proof),
        compared_at=datetime.now(UTC),
        elapsed_ms=round((time.monotonic() - started) * 1000),
    )


def _side_digest(side: _Side) -> str:
    # Big integers as text: RFC 8785 numbers are doubles, and a sequence's bounds are not.
    catalog = [[kind, name, repr(sorted(found.definition.items()))] for (kind, name), found in side.catalog.items()]
    sequences = [f"{name}={_sequence_text(value)}" for name, value in sorted(side.sequences.items())]
    return digest({"identity": side.identity.model_dump(), "catalog": sorted(catalog), "sequences": sequences})


def _nothing_known(reason: str, content: bool, started: float) -> Comparison:
    return Comparison(
        answer=Answer.UNKNOWN,
        content=content,
        source=Identity(),
        target=Identity(),
        unknown=(reason,),
        digest=digest({"answer": Answer.UNKNOWN.value, "reason": reason}),
        compared_at=datetime.now(UTC),
        elapsed_ms=round((time.monotonic() - started) * 1000),
    )
