"""All rows of all tables from one database into another, in parallel, under one snapshot of the source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass, field

import psycopg
from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import pass_for_session
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.relations import PageRange, Relation, read_relations
from statehub_plan.postgres.snapshot import Snapshot, pin_rendering
from statehub_plan.postgres.state import claim_epoch
from statehub_plan.postgres.stream import Reader, Streamed, stream_blocks, stream_rows
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, nobody_looks, nothing_to_lose, run_crews
from statehub_plan.redact import redact

__all__ = [
    "CopiedTable",
    "CopyReport",
    "copy_data",
    "copy_relations",
    "empty_tables",
    "flush_copies",
    "open_copy_session",
]

CHUNK_BYTES = 128 * 1024 * 1024
"""Tables larger than one worker's share of everything are copied in pieces of this size, side by side."""

_FROZEN_BYTES = 1024 * 1024
"""Larger tables get a new file, and their rows are written frozen into it: building indexes then need not look each of
them up and mark it, which costs a second writing of the whole table wherever pages have checksums (manual, COPY)."""

_READER_BYTES = 4 * 1024 * 1024
"""More than this is read by a program of its own, which takes about 20 ms to start."""

_TRUNCATE_LOCK_MS = 10_000

_HINTS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (psycopg.errors.DiskFull, "free disk space on the target's server, then run again; the source was not touched"),
    (psycopg.errors.OutOfMemory, "raise what the message names on the target's server, then run again"),
    (psycopg.errors.InsufficientPrivilege, "grant the tool's role what the message names, then run again"),
    (psycopg.errors.ReadOnlySqlTransaction, "another run has taken over the target; look at `statehub-plan status`"),
    (psycopg.errors.QueryCanceled, "something cancelled it: another error of this run, an administrator, a time-out"),
    (psycopg.OperationalError, "the connection was lost: check the server's log and the network, then run again"),
)


class CopiedTable(Frozen):
    """One table as it was copied; `binary` False: some column has no binary form that means the same on both sides."""

    table: str
    rows: int
    bytes: int
    binary: bool


class CopyReport(Frozen):
    """Everything that was copied; `bytes` as they went over the wire."""

    tables: tuple[CopiedTable, ...]
    rows: int
    bytes: int
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    relation: Relation
    pages: PageRange
    alone: bool
    binary: bool

    @property
    def frozen(self) -> bool:
        return self.alone and self.relation.heap and self.relation.bytes > _FROZEN_BYTES


_Sessions = tuple[Connection, Connection, Reader]

Completed = Callable[[Connection, Relation, int, int], None]
"""Takes the target's session, the table that is complete, its rows and its bytes as they went over the wire."""


def nothing_to_note(session: Connection, relation: Relation, rows: int, size: int) -> None:
    """Of whoever needs no record of the tables that are complete."""


@dataclass(slots=True)
class _Tally:
    """How many pieces of a table are still to be committed; whoever commits the last one says that it is complete."""

    chunks: InitVar[list[_Chunk]]
    complete: Completed
    _left: dict[str, list[Streamed | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self, chunks: list[_Chunk]) -> None:
        for chunk in chunks:
            self._left.setdefault(chunk.relation.qualified, []).append(None)

    def committed(self, chunk: _Chunk, streamed: Streamed) -> Streamed | None:
        """The sum of all pieces once every one of them is committed."""
        with self._lock:
            pieces = self._left[chunk.relation.qualified]
            pieces[pieces.index(None)] = streamed
            done = [piece for piece in pieces if piece is not None]
        if len(done) < len(pieces):
            return None
        return Streamed(sum(piece.rows for piece in done), sum(piece.bytes for piece in done))


@dataclass(slots=True)
class _Meter:
    """Progress in bytes of the source's tables: what is on the wire counts for no more than its chunk's share.

    One entry per chunk, written by the one thread that copies it: adding up in place would lose updates."""

    total: float
    began: float = field(default_factory=time.monotonic)
    done: dict[int, float] = field(default_factory=dict)
    subject: str = ""

    def progress(self) -> Progress:
        total = round(self.total)
        done = min(total, round(sum(tuple(self.done.values()))))
        return Progress("copy", done, total, "bytes", time.monotonic() - self.began, self.subject)


def copy_data(
    source_dsn: str,
    target_dsn: str,
    *,
    epoch: int,
    jobs: int = 2,
    chunk_bytes: int = CHUNK_BYTES,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> CopyReport:
    """Every row of every user table, into the empty or half-filled tables of a target that `prepare_schema` made.

    Replaces what the target's tables hold. Needs their bare form: no foreign keys, no triggers but the fence, through
    which its sessions pass under `epoch`. Blocks until the last row is durable on the target; what `check` raises
    (called every 50 ms) stops it within about a second. StatehubError `copy-failed` names the table; the copy can
    then be begun anew. Memory: about half a megabyte per job, or the largest row.
    """
    with Snapshot(source_dsn, purpose="copy") as snapshot, connect(target_dsn, purpose="copy") as target:
        relations = read_relations(snapshot.leader)
        empty_tables(target, relations, epoch=epoch)
        report = copy_relations(
            relations,
            snapshot.join,
            target_dsn,
            epoch=epoch,
            binary=major_of(target) >= major_of(snapshot.leader),
            jobs=jobs,
            chunk_bytes=chunk_bytes,
            on_progress=on_progress,
            check=check,
        )
        flush_copies(target)
    return report


def copy_relations(
    relations: Iterable[Relation],
    join: Callable[[], Connection],
    target_dsn: str,
    *,
    epoch: int,
    binary: bool,
    jobs: int,
    chunk_bytes: int = CHUNK_BYTES,
    complete: Completed = nothing_to_note,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> CopyReport:
    """The rows of these tables, which must be empty on the target, as sessions of `join` see them.

    `binary`: whether the target's server is at least as new, so that it reads the source's binary forms.
    `complete` is called in the target's transaction that holds a table's last rows, or in a later one, but never in an
    earlier one: what it writes there is true whenever it is found. Not durable before `flush_copies`.
    """
    began = time.monotonic()
    chunks = list(_chunks(relations, binary, chunk_bytes, jobs))
    meter = _Meter(total=sum(chunk.relation.bytes * chunk.pages.share for chunk in chunks))
    tally = _Tally(chunks, complete)

    def copy_one(chunk: _Chunk, sessions: _Sessions) -> Streamed:
        return _copy_chunk(chunk, sessions, meter, tally)

    def tick() -> None:
        check()
        on_progress(meter.progress())

    def sessions() -> _Sessions:
        source = join()
        return source, open_copy_session(target_dsn, purpose="copy", epoch=epoch), Reader(source)

    streamed = run_crews([Crew(chunks, copy_one, sessions, jobs)], tick=tick)[0]
    return _report(chunks, streamed, began)


def open_copy_session(target_dsn: str, *, purpose: str, epoch: int) -> Connection:
    """A session that writes through the target's fence and doesn't wait for each commit; see `flush_copies`."""
    connection = connect(target_dsn, purpose=purpose)
    try:
        pin_rendering(connection)
        pass_for_session(connection, epoch=epoch)
        connection.execute("SET synchronous_commit = off")
        # Autovacuum comes for tables that were just filled, and the server takes it off them only after
        # deadlock_timeout (manual, 24.1.6): a second per lock. Superusers and those granted SET may shorten that.
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("SET deadlock_timeout = '20ms'")
    except BaseException:
        connection.close()
        raise
    return connection


def flush_copies(target: Connection) -> None:
    """Blocks until everything that any session has committed so far is durable.

    WAL is flushed in order, so one synchronous commit carries all earlier ones; it has to write something, because a
    transaction that wrote nothing flushes nothing.
    """
    with target.transaction():
        target.execute("SET LOCAL synchronous_commit = local")
        target.execute("SELECT pg_logical_emit_message(true, 'statehub_plan', 'copied')")


def _chunks(relations: Iterable[Relation], binary_allowed: bool, chunk_bytes: int, jobs: int) -> Iterator[_Chunk]:
    """Largest table first: what is begun last should be small."""
    ordered = sorted(relations, key=lambda each: (-each.bytes, each.schema, each.name))
    share = sum(relation.bytes for relation in ordered) / jobs
    for relation in ordered:
        binary = binary_allowed and all(column.portable for column in relation.columns)
        ranges = list(relation.ranges(chunk_bytes if relation.bytes > share else max(chunk_bytes, relation.bytes)))
        for pages in ranges:
            yield _Chunk(relation, pages, len(ranges) == 1, binary)


def empty_tables(target: Connection, relations: Iterable[Relation], *, epoch: int) -> None:
    """Rows of an earlier attempt go; tables that are empty are left alone, a new file each would cost more.

    StatehubError `target-not-prepared` names the tables that do not exist there."""
    with target.transaction():
        claim_epoch(target, epoch)
        pass_for_session(target, epoch=epoch)
        present = {(relation.schema, relation.name): relation for relation in read_relations(target)}
        wanted = [(each.schema, each.name) for each in relations]
        missing = [qualified(*name) for name in wanted if name not in present]
        if missing:
            raise StatehubError(
                code="target-not-prepared",
                what=f"{len(missing)} tables of the source do not exist on the target",
                hint="prepare the target again: the source's schema has changed since",
                details=tuple(missing),
            )
        filled = [present[name].identifier for name in wanted if present[name].pages > 0]
        if filled:
            target.execute(f"SET LOCAL lock_timeout = {_TRUNCATE_LOCK_MS}".encode())
            only = sql.SQL(", ").join(sql.SQL("ONLY {}").format(name) for name in filled)
            target.execute(sql.SQL("TRUNCATE {}").format(only))


def _copy_chunk(chunk: _Chunk, sessions: _Sessions, meter: _Meter, tally: _Tally) -> Streamed:
    source, target, reader = sessions
    relation, key = chunk.relation, id(chunk)
    share = relation.bytes * chunk.pages.share
    meter.subject = relation.qualified

    def moved(count: int) -> None:
        meter.done[key] = min(meter.done.get(key, 0.0) + count, share)

    try:
        with target.transaction():
            if chunk.frozen:
                target.execute(sql.SQL("TRUNCATE ONLY {}").format(relation.identifier))
            if chunk.binary and share > _READER_BYTES and reader.usable:
                streamed = stream_blocks(reader, target, *_statements(chunk), moved=moved)
            else:
                streamed = stream_rows(source, target, *_statements(chunk), moved=moved)
            if chunk.alone:
                tally.complete(target, relation, streamed.rows, streamed.bytes)
        if not chunk.alone and (whole := tally.committed(chunk, streamed)) is not None:
            with target.transaction():
                tally.complete(target, relation, whole.rows, whole.bytes)
    except psycopg.Error as error:
        raise _failure(relation, error) from error
    meter.done[key] = share
    return streamed


def _statements(chunk: _Chunk) -> tuple[sql.Composed, sql.Composed]:
    relation = chunk.relation
    # Names rather than `*`: the order of columns may differ, and generated columns are computed where they arrive.
    names = [sql.Identifier(column.name) for column in relation.columns if not column.generated]
    columns = sql.SQL(", ").join(names)
    options = [sql.SQL("FORMAT binary")] if chunk.binary else []
    listed = sql.SQL(" ({})").format(columns) if names else sql.SQL("")
    rows = sql.SQL("{}{}").format(relation.identifier, listed)
    # The table itself is read a fifth faster than a query of it.
    read = sql.SQL("(SELECT {} FROM ONLY {}{})").format(columns, relation.identifier, chunk.pages.condition)
    copy_out = sql.SQL("COPY {} TO STDOUT{}").format(rows if chunk.alone else read, _with(options))
    if chunk.frozen:
        options.append(sql.SQL("FREEZE"))
    return copy_out, sql.SQL("COPY {} FROM STDIN{}").format(rows, _with(options))


def _with(options: list[sql.SQL]) -> sql.Composable:
    return sql.SQL(" ({})").format(sql.SQL(", ").join(options)) if options else sql.SQL("")


def _failure(relation: Relation, error: psycopg.Error) -> StatehubError:
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "the message is the server's own")
    return StatehubError(
        code="copy-failed",
        what=redact(f"table {relation.qualified} could not be copied: {' '.join(str(error).split())}"),
        hint=hint,
    )


def _report(chunks: list[_Chunk], streamed: list[Streamed], began: float) -> CopyReport:
    found: dict[str, CopiedTable] = {}
    for chunk, moved in zip(chunks, streamed, strict=True):
        name = chunk.relation.qualified
        before = found.get(name)
        found[name] = CopiedTable(
            table=name,
            rows=moved.rows + (before.rows if before else 0),
            bytes=moved.bytes + (before.bytes if before else 0),
            binary=chunk.binary,
        )
    return CopyReport(
        tables=tuple(found[name] for name in sorted(found)),
        rows=sum(moved.rows for moved in streamed),
        bytes=sum(moved.bytes for moved in streamed),
        elapsed_ms=round((time.monotonic() - began) * 1000),
    )
