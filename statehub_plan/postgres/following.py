"""Whether a stream really gets through, and what stops it: asked by a barrier, by counters, and by the slot itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.replication import PUBLICATION, read_subscription, subscribed_tables
from statehub_plan.postgres.slots import read_slot
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose

__all__ = ["Stream", "await_barrier", "await_stopped", "await_tables", "tables_in_the_way"]

_LOOK_S = 0.1
_NUDGE_S = 0.5
_FAILURES = 2
"""One failure may be a connection that broke; a worker that fails again without getting any further won't succeed."""

_PEEK_S = 6.0
_MOST_NAMED = 10
_RELATION, _TRUNCATED_AT = ord("R"), (1, 100, 10_000)


@dataclass(frozen=True)
class Stream:
    """One stream and a session at each end. `copying`: sizes on the source of the tables that the server copies."""

    name: str
    source: Connection
    target: Connection
    timeout_s: float
    on_progress: OnProgress = nobody_looks
    check: Callable[[], None] = nothing_to_lose
    copying: dict[tuple[str, str], int] = field(default_factory=dict)


def await_barrier(stream: Stream) -> None:
    """Blocks until a change made on the source now has arrived on the target, and with it everything before it.

    As long as it takes while the receiver gets on; StatehubError `apply-failed` or `not-streaming` when it doesn't:
    failed twice, or stood still for the stream's time-out. Writes the source's barrier row.
    """
    token, end = _nudge(stream.source)
    patience = _Patience(stream)
    began, first = time.monotonic(), _distance(stream, end)

    def tell(left: int) -> None:
        elapsed_s = time.monotonic() - began
        stream.on_progress(Progress("catch up", max(0, first - left), first, "bytes", elapsed_s, stream.name))

    while not _arrived(stream.target, token):
        left = _distance(stream, end)
        tell(left)
        patience.look(left)
        time.sleep(_LOOK_S / 4)
    tell(0)


def await_tables(stream: Stream) -> None:
    """Blocks until every table of the subscription is past its initial synchronization; errors as of `await_barrier`.

    Writes the source's barrier row now and then: on a quiet source tables would wait for something to happen."""
    patience = _Patience(stream)
    began, nudged, total = time.monotonic(), 0.0, sum(stream.copying.values())
    while True:
        waiting = [name for name, state in subscribed_tables(stream.target, stream.name).items() if state != "r"]
        done = total - sum(stream.copying.get(name, 0) for name in waiting) + _arriving(stream, waiting)
        stream.on_progress(
            Progress(
                "synchronize", min(done, total), total, "bytes", time.monotonic() - began, ", ".join(_named(waiting))
            )
        )
        if not waiting:
            return
        if time.monotonic() - nudged > _NUDGE_S:
            _nudge(stream.source)
            nudged = time.monotonic()
        patience.look((len(waiting), done))
        time.sleep(_LOOK_S)


def await_stopped(stream: Stream) -> None:
    """Blocks until a disabled subscription's worker has gone, and with it its locks."""
    deadline = time.monotonic() + stream.timeout_s
    while (state := read_subscription(stream.target, stream.name)) is not None and state.running:
        stream.check()
        if time.monotonic() > deadline:
            raise _not_streaming(stream, "its worker does not stop")
        time.sleep(_LOOK_S / 4)


def tables_in_the_way(source: Connection, slot: str, *, timeout_s: float = _PEEK_S) -> tuple[str, ...]:
    """The tables that are changed by the first transaction which the receiver of a slot has not confirmed.

    Read from the slot itself, without moving it, once its receiver has let go of it; nothing when that doesn't happen
    in time, or nothing is waiting. A receiver that fails again and again fails at one of these.
    """
    deadline = time.monotonic() + timeout_s
    for limit in _TRUNCATED_AT:
        while True:
            try:
                tables = _peek(source, slot, limit)
                break
            except (psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState):
                if time.monotonic() > deadline:
                    return ()
                time.sleep(_LOOK_S / 4)
            except psycopg.Error:
                if source.closed:
                    raise
                return ()  # gone, or not for this role: whoever asks has an error to report anyway
        if tables:
            return tables
    return ()


def _peek(source: Connection, slot: str, limit: int) -> tuple[str, ...]:
    # `limit` counts messages and is looked at after whole transactions only (manual, 9.28.6); before 15 empty ones
    # count too. A Relation message precedes the first change of each table (manual, 55.9).
    rows = source.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, %s, 'proto_version', '1', "
        "'publication_names', %s) WHERE get_byte(data, 0) = %s",
        [slot, limit, PUBLICATION, _RELATION],
    )
    return tuple(dict.fromkeys(_relation(bytes(data)) for (data,) in rows))


def _relation(message: bytes) -> str:
    schema, name, _ = message[5:].split(b"\0", 2)
    return f"{(schema or b'pg_catalog').decode()}.{name.decode()}"


class _Patience:
    """Gives up when nothing has moved for the stream's time-out, or the receiver fails without getting any further."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._place: object = None
        self._moved_at = time.monotonic()
        self._errors = self._count()

    def look(self, place: object) -> None:
        """`place`: anything that changes as long as there is progress."""
        self._stream.check()
        errors, now = self._count(), time.monotonic()
        if place != self._place:
            self._place, self._moved_at, self._errors = place, now, errors
        elif errors - self._errors >= _FAILURES:
            raise _failing(self._stream, errors - self._errors)
        elif now - self._moved_at > self._stream.timeout_s:
            raise _not_streaming(self._stream, f"nothing has moved for {self._stream.timeout_s:g} s")

    def _count(self) -> int:
        state = read_subscription(self._stream.target, self._stream.name)
        return 0 if state is None else state.errors


def _failing(stream: Stream, failures: int) -> StatehubError:
    states = subscribed_tables(stream.target, stream.name)
    copying = tuple(qualified(schema, name) for (schema, name), state in states.items() if state not in ("r", "s"))
    tables = copying or tables_in_the_way(stream.source, stream.name)
    doing = "copy" if copying else "apply what the source has changed in"
    named = ", ".join(tables[:_MOST_NAMED]) or "its next transaction"
    return StatehubError(
        code="apply-failed",
        what=f"the target's server fails to {doing} {named}: {failures} attempts in a row came to nothing",
        hint="its log has the row and the reason (a row that is there already, a column that is not, a full disk); "
        "remove what is in the way there, then run again: nothing is lost meanwhile. DDL that came to the source alone "
        'comes to the target too (README, "Migrations while the fallback follows")',
        details=tables,
    )


def _not_streaming(stream: Stream, why: str) -> StatehubError:
    state = read_subscription(stream.target, stream.name)
    slot = read_slot(stream.source, stream.name)
    waiting = [name for name, each in subscribed_tables(stream.target, stream.name).items() if each != "r"]
    tables = tables_in_the_way(stream.source, stream.name) if state is not None and not state.running else ()
    return StatehubError(
        code="not-streaming",
        what=f"the stream {stream.name} stands still: {why}",
        hint="the target's server log says why: who refuses its connection, which limit is reached, which row cannot "
        "be applied; the conninfo by which it reaches the source must work from there",
        details=(
            "there is no subscription" if state is None else f"subscription: {_shown(state.enabled, state.running)}",
            "there is no slot" if slot is None else f"slot: {'being read' if slot.active else 'nobody reads it'}",
            *(f"not synchronized: {name}" for name in _named(waiting)),
            *(f"changed by the next transaction: {name}" for name in tables[:_MOST_NAMED]),
        ),
    )


def _shown(enabled: bool, running: bool) -> str:
    return f"{'enabled' if enabled else 'disabled'}, its worker {'runs' if running else 'does not run'}"


def _nudge(source: Connection) -> tuple[str, str]:
    """Changes the barrier row; the token in it, and a position behind its commit."""
    token = f"fill {secrets.token_hex(8)}"
    source.execute("UPDATE statehub_plan.barrier SET token = %s", [token])
    row = source.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    return token, str(row[0]) if row else "0/0"


def _arrived(target: Connection, token: str) -> bool:
    return target.execute("SELECT token FROM statehub_plan.barrier").fetchone() == (token,)


def _distance(stream: Stream, end: str) -> int:
    """Bytes of WAL that the receiver has not confirmed yet."""
    row = stream.source.execute(
        "SELECT greatest(0, pg_wal_lsn_diff(%s::pg_lsn, confirmed_flush_lsn))::int8 FROM pg_replication_slots "
        "WHERE slot_name = %s",
        [end, stream.name],
    ).fetchone()
    if row is None:
        raise _not_streaming(stream, "its slot is gone")
    return int(row[0])


def _arriving(stream: Stream, waiting: list[tuple[str, str]]) -> int:
    """Bytes on the target of tables that are being copied; no more than they have on the source."""
    sizes = stream.target.execute(
        "SELECT w.s, w.t, pg_table_size(format('%%I.%%I', w.s, w.t)::regclass) "
        "FROM unnest(%s::text[], %s::text[]) w (s, t)",
        [[schema for schema, _ in waiting], [name for _, name in waiting]],
    )
    return sum(min(size, stream.copying.get((schema, name), 0)) for schema, name, size in sizes)


def _named(tables: list[tuple[str, str]]) -> Iterator[str]:
    return (qualified(schema, name) for schema, name in sorted(tables)[:_MOST_NAMED])
