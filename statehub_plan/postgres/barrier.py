"""A barrier down the stream: a row changed on the source, looked for on the target; never a lag that is zero.

Commits are applied in the order in which the source made them, so whatever was committed there before the barrier has
arrived with it. An apply worker does not wait for its commits to be flushed; the next commit of the target that does
takes them along.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection
from statehub_plan.redact import redact

__all__ = ["Barrier", "await_barrier", "send_barrier"]

_QUERY_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Barrier:
    """A barrier under way: its token, and where the source's log stood once it was committed."""

    token: str
    lsn: str
    sent_at: float


def send_barrier(source: Connection) -> Barrier:
    """Commits a barrier on the source; one round trip. Takes no lock that a writer or a hold would wait for."""
    token = secrets.token_hex(12)
    # The log's end is read once the barrier is in it.
    cursor = source.execute(
        f"BEGIN; UPDATE statehub_plan.barrier SET token = '{token}'; COMMIT; "
        "SELECT pg_current_wal_lsn()::text".encode(),
        prepare=False,
    )
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    return Barrier(token=token, lsn=str(row[0]) if row else "unknown", sent_at=time.monotonic())


def nobody_held() -> None:
    """The `give_up` of whoever keeps nobody waiting."""


def await_barrier(
    target: Connection, barrier: Barrier, *, timeout_s: float, stream: str, give_up: Callable[[], None] = nobody_held
) -> float:
    """Seconds from the barrier's commit to its arrival, as seen here; StatehubError `barrier-not-arrived` that says how
    far the stream has come and what its worker waits for. `give_up` is called before that is looked into."""
    try:
        row = target.execute(
            "SELECT statehub_plan.await_barrier(%s, %s)", [barrier.token, max(1, round(timeout_s * 1000))]
        ).fetchone()
    except psycopg.errors.QueryCanceled:
        row = None
    if row != (True,):
        give_up()
        raise _not_arrived(target, barrier, timeout_s, stream)
    return time.monotonic() - barrier.sent_at


def _not_arrived(target: Connection, barrier: Barrier, timeout_s: float, stream: str) -> StatehubError:
    return StatehubError(
        code="barrier-not-arrived",
        what=f"the barrier at LSN {barrier.lsn} of the source has not arrived within {timeout_s:.1f} s",
        hint="look at what is listed; a large transaction may still be on its way: wait for it, then run again",
        details=_where_it_is(target, stream),
    )


def _where_it_is(target: Connection, stream: str) -> tuple[str, ...]:
    """For people: how far the apply worker has come, what it waits for, and who is in its way."""
    rows = target.execute(
        """
        SELECT w.pid, w.received_lsn::text, w.latest_end_lsn::text, a.wait_event_type, a.wait_event, a.query,
               pg_blocking_pids(w.pid)
        FROM pg_subscription s LEFT JOIN pg_stat_subscription w ON w.subid = s.oid
        LEFT JOIN pg_stat_activity a ON a.pid = w.pid
        WHERE s.subname = %s
        """,
        [stream],
    ).fetchall()
    lines = []
    for pid, received, reported, kind, event, _query, blockers in rows:
        if pid is None:
            lines.append(f"the stream {stream} has no running worker: its server's log says why")
            continue
        waits = f", waits for {kind}/{event}" if event else ""
        lines.append(f"apply worker {pid}: received up to {received}, reported {reported}{waits}")
        lines += [_blocker(target, blocker) for blocker in blockers or ()]
    return tuple(lines) or (f"there is no subscription {stream}",)


def _blocker(target: Connection, pid: int) -> str:
    row = target.execute(
        "SELECT coalesce(a.usename, a.backend_type, '?'), a.application_name, a.state, a.query, "
        "(SELECT string_agg(DISTINCT l.relation::regclass::text, ', ') FROM pg_locks l "
        " WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384) "
        "FROM pg_stat_activity a WHERE a.pid = %s",
        [pid],
    ).fetchone()
    if row is None:
        return f"blocked by process {pid}"
    user, application, state, query, tables = row
    asked = redact(" ".join((query or "").split()))[:_QUERY_CHARACTERS]
    return f"blocked by session {pid} (user {user}, application {application}, {state}) on {tables or '?'}: {asked}"
