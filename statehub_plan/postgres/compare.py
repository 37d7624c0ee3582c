"""Whether two databases hold the same: equal, different (where), or unknown (why); never a guess."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import digest
from statehub_plan.model.plan import Identity
from statehub_plan.model.spec import Waiver
from statehub_plan.postgres.by_keys import Changes, KeyProof, compare_keys
from statehub_plan.postgres.catalog import Judge, compare_catalogs, unseen
from statehub_plan.postgres.catalog_notes import left_out
from statehub_plan.postgres.comparison import Answer, CannotTell, Comparison, Difference, TableProof, Waived, covers
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.content import Buckets, ContentDigest, bucket_digests, count_rows, digest_rows
from statehub_plan.postgres.locate import FIRST_BITS, BucketSums, Located, added, keyed_alike, locate, veiled
from statehub_plan.postgres.opening import open_sides
from statehub_plan.postgres.redefined import REDEFINED, read_under_watch
from statehub_plan.postgres.relations import PageRange, Relation
from statehub_plan.postgres.replication import follows_by_stream
from statehub_plan.postgres.seeds import Seeds
from statehub_plan.postgres.sequences import SequenceValue
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour, Side, Sides, ask_both
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import OnProgress, nobody_looks, nothing_to_lose
from statehub_plan.redact import redact

__all__ = ["CHUNK_BYTES", "Answer", "Comparison", "Difference", "TableProof", "Waived", "compare"]

ROWS_LISTED = 1000
"""How many differing rows of a table are named unless the caller says otherwise."""

_COUNTED = "rows were counted, no value was compared"
_KEYS_SHOWN = 10
_PIECES = 8  # a table that is smaller than this part of a piece is read again rather than by buckets
_P = ParamSpec("_P")

_Measured = ContentDigest | str
"""What was found in a table, or the reason why nothing was."""
_Known = dict[str, tuple[BucketSums, BucketSums]]


def compare(
    source_dsn: str,
    target_dsn: str,
    *,
    jobs: int = 2,
    content: bool = True,
    waive: Sequence[Waiver] = (),
    snapshots: tuple[Snapshot, Snapshot] | None = None,
    sequences: bool = True,
    rows_listed: int = ROWS_LISTED,
    values: bool = False,
    expect_differences: bool = False,
    changes: Changes | None = None,
    seeds: Seeds | None = None,
    timeout_s: float | None = None,
    count_waived: bool = True,
    chunk_bytes: int = CHUNK_BYTES,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Comparison:
    """Catalog, row counts, sequences and (unless `content` is False) every value of both databases, each side under one
    snapshot of its own; blocks while the servers read everything, with `jobs` sessions on each side.

    `snapshots`: compare what these two see (source's first) instead of what is there now; the caller closes them, and
    nothing that is written meanwhile counts. Sequences have no snapshots (manual 9.17): values are those of the moment
    at which they are read, so pass `sequences=False` when either side hands out numbers, and prove them elsewhere.

    Of each differing table up to `rows_listed` rows are named, with what they hold if `values`. To find them, differing
    tables are read once more, unless `expect_differences`: then the first reading of large ones costs about an eighth
    more and the search next to nothing.

    `changes`: of tables that their baseline found equal only the rows are read whose keys changed since, which is as
    strong a proof. Tables of which the logs are in doubt, or whose keys cannot be looked up, are read whole, catalogs
    that changed on either side are compared anew, and the notes say which and why.

    `seeds`: what rows are hashed with. Leave them to chance (with known ones, rows could be made up that seem equal)
    unless they are those of an earlier comparison, whose digests are to be seen again.

    Reads only. Whatever cannot be read makes the answer `unknown`, unless a difference was found anyway; so does a
    defect of this tool, and a target that is the source's own database, unless `snapshots` are given. Only what `check`
    and `on_progress` (called every 50 ms) raise comes out as an exception.

    `content` False: `equal` says that there are as many rows, and every table's `reason` and a note say that it says no
    more. Of tables in `waive` rows are counted too, which decides nothing: not unless `count_waived`.
    """
    started = time.monotonic()
    waived_tables = {each.table for each in waive if each.table}
    theirs = _Callers()
    check = theirs(check)

    def tick() -> None:
        check()
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise CannotTell(f"the comparison did not end within {timeout_s:g} s")

    try:
        with ExitStack() as stack:
            stamps = changes.stamps if changes is not None else (None, None)
            seeds = seeds or Seeds.fresh()
            source, target = open_sides((source_dsn, target_dsn), snapshots, sequences, stamps, seeds, stack)
            differences, notes = _compare_catalogs(source, target, stack, (source_dsn, target_dsn))
            beside = left_out(source.snapshot.leader, target.snapshot.leader)
            notes += beside.notes
            behind = _compare_sequences(source, target)
            differences += behind
            notes += _why_behind(source, target) if behind else ()
            notes += () if sequences else ("sequence values were not compared",)
            notes += () if content else ("no value was compared: tables with as many rows count as equal",)
            labour = Labour(jobs, chunk_bytes, tick, theirs(on_progress))
            names = sorted((source.relations.keys() & target.relations.keys()) - waived_tables)
            sides = source, target
            asked = _Asked(content, expect_differences, rows_listed, values, changes)
            tables, found, read_whole = _prove_tables(sides, names, labour, asked)
            tables += tuple(table for table in beside.tables if table.table not in waived_tables)
            differences, notes = differences + found, notes + read_whole
            counted = _count_rows(sides, waived_tables, labour) if count_waived else {}
            hidden_ones = unseen(source.catalog or {}, target.catalog or {})
            kept, waived = _waive((*differences, *hidden_ones), waive, counted)
            doubtful = tuple(one for one in kept if one in hidden_ones)
            kept = tuple(one for one in kept if one not in hidden_ones)
            hashed = seeds if content else None
            return _conclude(source, target, hashed, tables, kept, doubtful, waived, notes, started)
    except Exception as error:
        if theirs.raised(error):
            raise
        return _nothing_known(_in_words(error), content, started)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is wanted to be known of the tables, as `compare` says it."""

    content: bool
    expect_differences: bool
    rows_listed: int
    values: bool
    changes: Changes | None


def _prove_tables(
    sides: Sides, names: Sequence[str], labour: Labour, asked: _Asked
) -> tuple[tuple[TableProof, ...], tuple[Difference, ...], tuple[str, ...]]:
    """Every table's proof, what differs and where, and which were read whole although their changes are known."""
    changes, content = asked.changes, asked.content
    by_keys, doubts = _compare_changed_keys(sides, names, labour, changes if content else None)
    rest = [name for name in names if name not in by_keys]
    tables, known = _compare_tables(sides, rest, labour, content, asked.expect_differences)
    located: dict[str, Located] = {}
    if content:
        located = locate(sides, _differing(tables), known, labour, limit=asked.rows_listed, values=asked.values)
    if changes is not None:
        tables = _merged(tables, by_keys, changes)
        located |= {name: Located(proof.rows, True) for name, proof in by_keys.items() if proof.rows}
    located = {name: veiled(one, sides[0].relations[name]) for name, one in located.items()}
    found = (_table_difference(table, located.get(table.table)) for table in _differing(tables))
    return tables, tuple(found), tuple(f"table {name} was read whole: {reason}" for name, reason in doubts.items())


def _differing(tables: Iterable[TableProof]) -> list[TableProof]:
    return [table for table in tables if table.answer is Answer.DIFFERENT]


class _Callers:
    """Functions that the caller gave, and whether an error is one that they raised."""

    def __init__(self) -> None:
        self._raised: list[Exception] = []

    def __call__(self, function: Callable[_P, None]) -> Callable[_P, None]:
        """The same function, under observation."""

        def observed(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                self._raised.append(error)
                raise

        return observed

    def raised(self, error: Exception) -> bool:
        """Whether it is the caller's own."""
        return any(error is one for one in self._raised)


def _in_words(error: Exception) -> str:
    """Why nothing is known. Of a defect only the place: what it was about may be anybody's data."""
    if isinstance(error, StatehubError):
        return error.what
    if isinstance(error, psycopg.Error):
        return redact(str(error).strip())
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"an unexpected {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: a defect of this "
        "tool, please report it"
    )


def _compare_catalogs(
    source: Side, target: Side, stack: ExitStack, dsns: tuple[str, str]
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    if source.catalog is None or target.catalog is None:
        return (), ("neither catalog has changed since the baseline, which found them equal",)
    newer_dsn = dsns[0] if source.version > target.version else dsns[1]

    def judging() -> Connection:
        try:
            return stack.enter_context(connect(newer_dsn, purpose="compare definitions"))
        except StatehubError as error:
            raise CannotTell(error.what) from error

    return compare_catalogs(
        source.catalog,
        target.catalog,
        source_version=source.version,
        target_version=target.version,
        judge=Judge(judging),
    )


def _compare_sequences(source: Side, target: Side) -> tuple[Difference, ...]:
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


def _why_behind(source: Side, target: Side) -> tuple[str, ...]:
    """For people: a stream carries rows and no values of sequences."""
    return tuple(
        f"the {side.name} follows another database: its sequences get their values when it becomes primary, not "
        "before; `--without-sequences` leaves them out"
        for side in (source, target)
        if follows_by_stream(side.snapshot.leader)
    )


def _sequence_text(value: SequenceValue) -> str:
    return f"{value.last_value}{'' if value.is_called else ' (not called)'}"


def _compare_tables(
    sides: Sides, names: Sequence[str], labour: Labour, content: bool, expect_differences: bool
) -> tuple[tuple[TableProof, ...], _Known]:
    """Every table's proof, and by buckets what was read that way."""
    if not names:
        return (), {}

    def read() -> tuple[dict[str, _Measured], dict[str, _Measured], _Known]:
        if content and expect_differences:
            return _read_by_buckets(sides, names, labour)
        asked = digest_rows if content else _count
        ours, theirs = (
            {name: _total(parts) for name, parts in side.items()}
            for side in ask_both(sides, names, asked, labour, "compare")
        )
        return ours, theirs, {}

    (ours, theirs, known), gone = read_under_watch(sides, names, read)
    for found, doubtful in zip((ours, theirs), gone, strict=True):
        found.update(dict.fromkeys(doubtful, REDEFINED))
    return tuple(_table_proof(name, ours[name], theirs[name], content) for name in names), known


def _compare_changed_keys(
    sides: Sides, names: Sequence[str], labour: Labour, changes: Changes | None
) -> tuple[dict[str, KeyProof], dict[str, str]]:
    """The proofs of tables that a baseline vouches for, and of the others, which are to be read whole, why it does
    not or why that could not be used."""
    if changes is None:
        return {}, {}
    # After the snapshots were taken: so the logs hold all that these see, and what is later does no harm.
    changes.catch_up(labour.tick)
    vouched = [name for name in names if changes.reason_to_doubt(name, sides) is None]
    proofs = compare_keys(sides, {name: changes.keys(name) for name in vouched}, labour)
    # After the rows were read: what was truncated or replaced by then looks empty to both snapshots, and so equal.
    changes.verify(labour.tick)
    doubts = {name: reason for name in names if (reason := changes.reason_to_doubt(name, sides)) is not None}
    doubts |= {
        name: f"its changed keys: {proof.reason}"
        for name, proof in proofs.items()
        if proof.reason is not None and name not in doubts
    }
    return {name: proof for name, proof in proofs.items() if name not in doubts}, doubts


def _merged(tables: tuple[TableProof, ...], by_keys: dict[str, KeyProof], changes: Changes) -> tuple[TableProof, ...]:
    proofs = [proof.proof(name, changes.baseline) for name, proof in by_keys.items()]
    return tuple(sorted((*tables, *proofs), key=lambda table: table.table))


def _count(connection: Connection, relation: Relation, pages: PageRange) -> ContentDigest:
    return ContentDigest(count_rows(connection, relation, pages), (0, 0))


def _count_rows(sides: Sides, wanted: Collection[str], labour: Labour) -> dict[str, tuple[int | None, int | None]]:
    """How many rows these tables have on each side, those that both have; None where that is not known."""
    names = sorted(sides[0].relations.keys() & sides[1].relations.keys() & set(wanted))
    try:
        found, gone = read_under_watch(sides, names, lambda: ask_both(sides, names, _count, labour, "count"))
    except (psycopg.Error, CannotTell):
        labour.tick()  # whatever the caller has to say is not about counting
        return dict.fromkeys(names, (None, None))  # what was proved before stands
    ours, theirs = (
        {name: None if name in lost else _rows(_total(parts)) for name, parts in side.items()}
        for side, lost in zip(found, gone, strict=True)
    )
    return {name: (ours[name], theirs[name]) for name in names}


def _rows(measured: _Measured) -> int | None:
    return measured.rows if isinstance(measured, ContentDigest) else None


def _read_by_buckets(
    sides: Sides, names: Sequence[str], labour: Labour
) -> tuple[dict[str, _Measured], dict[str, _Measured], _Known]:
    """The large ones by buckets; what is read again in a moment is not worth that."""
    least = labour.chunk_bytes // _PIECES
    large = {name for name in names if max(side.relations[name].bytes for side in sides) >= least}
    keyed = {name: keyed_alike(sides[0].relations[name], sides[1].relations[name]) for name in large}

    def ask(connection: Connection, relation: Relation, pages: PageRange) -> BucketSums:
        name = relation.qualified
        if name not in large:
            return {0: digest_rows(connection, relation, pages)}
        return bucket_digests(connection, relation, pages, Buckets(FIRST_BITS, keyed[name]))

    asked = ask_both(sides, names, ask, labour, "compare")
    sums = [{name: added(parts) for name, parts in side.items()} for side in asked]
    totals = [
        {
            name: _reason(side[name]) if found is None else ContentDigest.total(found.values())
            for name, found in by.items()
        }
        for side, by in zip(asked, sums, strict=True)
    ]
    known = {
        name: (ours, theirs)
        for name in large
        if (ours := sums[0][name]) is not None and (theirs := sums[1][name]) is not None
    }
    return totals[0], totals[1], known


def _total(parts: Sequence[_Measured]) -> _Measured:
    if any(isinstance(part, str) for part in parts):
        return _reason(parts)
    return ContentDigest.total(part for part in parts if isinstance(part, ContentDigest))


def _reason(parts: Sequence[object]) -> str:
    return next(part for part in parts if isinstance(part, str))


def _table_proof(name: str, ours: _Measured, theirs: _Measured, content: bool) -> TableProof:
    sides = {"source": ours, "target": theirs}
    reasons = [f"{side}: {found}" for side, found in sides.items() if isinstance(found, str)]
    rows = {side: found.rows for side, found in sides.items() if isinstance(found, ContentDigest)}
    digests = {side: str(found) for side, found in sides.items() if content and isinstance(found, ContentDigest)}
    answer = Answer.UNKNOWN if reasons else Answer.EQUAL if ours == theirs else Answer.DIFFERENT
    if answer is Answer.EQUAL and not content:
        reasons.append(_COUNTED)
    return TableProof(
        table=name,
        answer=answer,
        rows_source=rows.get("source"),
        rows_target=rows.get("target"),
        digest_source=digests.get("source"),
        digest_target=digests.get("target"),
        reason="; ".join(reasons) or None,
    )


def _table_difference(table: TableProof, located: Located | None) -> Difference:
    counted = table.rows_source != table.rows_target
    return Difference(
        kind="table",
        object=table.table,
        table=table.table,
        aspect="rows" if counted else "content",
        source=str(table.rows_source) if counted else table.digest_source,
        target=str(table.rows_target) if counted else table.digest_target,
        keys=_first_keys(located) if located else (),
        rows=located.rows if located else (),
        rows_complete=located.complete if located else False,
    )


def _first_keys(located: Located) -> tuple[str, ...]:
    keyed = [str(row) for row in located.rows if row.key is not None]
    surplus = [
        (side, sum(row.rows for row in located.rows if row.key is None and row.what == what))
        for side, what in (("source", "missing"), ("target", "extra"))
    ]
    unkeyed = [f"{count} rows only on the {side} (no key to name them by)" for side, count in surplus if count]
    more = len(keyed) - _KEYS_SHOWN
    least = "" if located.complete else "at least "
    told = [f"{least}{more} more"] if more > 0 else []
    return (*keyed[:_KEYS_SHOWN], *unkeyed, *told)


def _waive(
    differences: Iterable[Difference],
    waive: Sequence[Waiver],
    counted: Mapping[str, tuple[int | None, int | None]],
) -> tuple[tuple[Difference, ...], tuple[Waived, ...]]:
    hidden = [0] * len(waive)
    kept = []
    for difference in differences:
        index = next((index for index, one in enumerate(waive) if covers(one, difference)), None)
        if index is None:
            kept.append(difference)
        else:
            hidden[index] += 1
    waived = (
        _waived(one, count, *counted.get(one.table or "", (None, None)))
        for one, count in zip(waive, hidden, strict=True)
    )
    return tuple(kept), tuple(sorted(waived, key=lambda one: one.name))


def _waived(one: Waiver, hidden: int, ours: int | None, theirs: int | None) -> Waived:
    differ = ours is not None and theirs is not None and ours != theirs
    return Waived(
        name=one.name,
        table=one.table,
        reason=one.reason,
        differences=hidden + differ,
        rows_source=ours,
        rows_target=theirs,
    )


def _conclude(
    source: Side,
    target: Side,
    seeds: Seeds | None,
    tables: tuple[TableProof, ...],
    differences: tuple[Difference, ...],
    doubtful: tuple[Difference, ...],
    waived: tuple[Waived, ...],
    notes: tuple[str, ...],
    started: float,
) -> Comparison:
    unknown = tuple(f"table {table.table}: {table.reason}" for table in tables if table.answer is Answer.UNKNOWN)
    unknown += tuple(_why_unseen(one) for one in doubtful)
    answer = Answer.DIFFERENT if differences else Answer.UNKNOWN if unknown else Answer.EQUAL
    proof = {
        "answer": answer.value,
        "content": seeds is not None,
        "seeds": None if seeds is None else str(seeds),
        "tables": [table.model_dump(mode="json") for table in tables],
        "sides": [_side_digest(side) for side in (source, target)],
        "waived": [each.model_dump(mode="json") for each in waived],
    }
    return Comparison(
        answer=answer,
        content=seeds is not None,
        seeds=None if seeds is None else str(seeds),
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


def _why_unseen(one: Difference) -> str:
    reasons = {"source": one.source, "target": one.target}
    told = "; ".join(f"{side}: {reason}" for side, reason in reasons.items() if reason)
    return f"{one.kind} {one.object}: {told}"


def _side_digest(side: Side) -> str:
    # Big integers as text: RFC 8785 numbers are doubles, and a sequence's bounds are not.
    catalog = hashlib.sha256()
    for (kind, name), found in sorted((side.catalog or {}).items(), key=lambda one: one[0]):
        catalog.update(json.dumps([kind, name, repr(sorted(found.definition.items()))]).encode())
    sequences = [f"{name}={_sequence_text(value)}" for name, value in sorted(side.sequences.items())]
    proof = {"identity": side.identity.model_dump(), "catalog": catalog.hexdigest(), "sequences": sequences}
    return digest(proof)


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
