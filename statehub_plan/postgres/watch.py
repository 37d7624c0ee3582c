"""The hold's second pair of eyes: who is in its way while it locks, who waits for it while it holds.

Server behaviour relied on: pg_blocking_pids lists holders and those ahead in the queue, and 0 for a prepared
transaction (manual, 9.26.1); pg_locks.waitstart (from 14); an autovacuum in the way of a lock is cancelled by the
server itself after deadlock_timeout (24.1.6); a session that waits gives up only after deadlock_timeout.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Literal

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import APPLICATION_PREFIX, connect
from statehub_plan.postgres.order import Edge
from statehub_plan.postgres.sessions import HOLD_PURPOSE, Session, end_session, session_of
from statehub_plan.postgres.transaction import Backend

LOCKING_POLL_S = 0.02
HOLDING_POLL_S = 0.1
_ATTEMPT_MARGIN_S = 0.25
_RECONNECT_S = 0.5


class HoldLimits(Frozen):
    """How long what may last; `statehub_plan.model.spec.Freeze` in seconds. Nothing here is ever unlimited."""

    lock_timeout_s: float = 5.0
    session_grace_s: float = 0.5
    writer_wait_s: float = 5.0
    max_duration_s: float = 1800.0


class HoldEvent(Frozen):
    """Something that a person wants to read about in the run's record."""

    kind: Literal["session-ended", "writer-canceled", "yielded", "held", "released", "expired", "lost", "frozen"]
    what: str
    session: Session | None = None


class WaitedOn(Frozen):
    """What stood in the hold's way: a session (None: maintenance or a prepared transaction), on which table, for how
    long so far, and whether it was ended."""

    who: str
    session: Session | None
    table: str
    waited_s: float
    ended: bool


OnEvent = Callable[[HoldEvent], None]

_BLOCKERS = """
WITH RECURSIVE blocker AS (
    SELECT DISTINCT b.pid FROM unnest(pg_blocking_pids(%(hold)s)) AS b (pid)
), chain (root, pid, depth) AS (
    SELECT pid, pid, 0 FROM blocker WHERE pid <> 0
    UNION SELECT c.root, n.pid, c.depth + 1 FROM chain c, unnest(pg_blocking_pids(c.pid)) AS n (pid)
        WHERE c.pid <> %(hold)s AND n.pid <> 0 AND c.depth < 4
), crossed AS (
    SELECT c.root, (SELECT max(w.relation::int8) FROM chain last JOIN pg_locks w ON w.pid = last.pid AND NOT w.granted
                    WHERE last.root = c.root AND w.locktype = 'relation'
                      AND %(hold)s = ANY (pg_blocking_pids(last.pid))) AS wants
    FROM chain c WHERE c.pid = %(hold)s GROUP BY c.root
)
SELECT b.pid, a.backend_start, coalesce(a.usename, ''), coalesce(a.application_name, ''), a.client_addr::text, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, a.query, a.backend_xid IS NOT NULL,
       a.backend_type, a.xact_start, (SELECT w.relation::int8 FROM pg_locks w WHERE w.pid = %(hold)s AND NOT w.granted
                                      AND w.locktype = 'relation' LIMIT 1) AS wanted,
       x.root IS NOT NULL, x.wants
FROM blocker b LEFT JOIN pg_stat_activity a ON a.pid = b.pid LEFT JOIN crossed x ON x.root = b.pid
"""
# DDL that waits is cancelled sooner than a writer: readers queue up behind its ACCESS EXCLUSIVE request.
_WAITERS = """
SELECT a.pid, a.backend_start, a.usename, a.application_name, a.client_addr::text, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, a.query, a.backend_xid IS NOT NULL,
       l.relation::int8, extract(epoch FROM clock_timestamp() - l.waitstart)::float8
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.locktype = 'relation' AND a.usename IS NOT NULL
  AND coalesce(a.backend_type, 'client backend') = 'client backend'
  AND clock_timestamp() - l.waitstart > make_interval(secs => CASE l.mode
      WHEN 'AccessExclusiveLock' THEN least(%(ddl)s, %(writer)s) ELSE %(writer)s END)
  AND %(hold)s = ANY (pg_blocking_pids(l.pid))
"""
_CANCEL_WAITER = """
SELECT pg_cancel_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.pid = %s AND a.backend_start IS NOT DISTINCT FROM %s AND NOT l.granted AND %s = ANY (pg_blocking_pids(l.pid))
"""


class Watch:
    """Looks after one hold from a session and a thread of its own, until `stop`.

    While locking, it ends sessions that block for longer than the grace, and gives way (cancels the hold's own attempt)
    to a transaction that also waits for the hold, and to everybody who queues after a while. While holding, it cancels
    whoever has waited too long, and calls `on_end` when the hold's session is gone or its time is up.
    """

    def __init__(
        self,
        dsn: str,
        hold: Backend,
        limits: HoldLimits,
        on_event: OnEvent,
        on_end: Callable[[Literal["lost", "expired"]], None],
        table_name: Callable[[int], str],
    ) -> None:
        """Connects; the thread begins with `start`."""
        self._dsn = dsn
        self._connection = connect(dsn, purpose="watch")
        self._user = self._connection.info.user
        self.waited_on: dict[tuple[int, object], WaitedOn] = {}
        self.learned: set[Edge] = set()
        self._hold = hold
        self._limits = limits
        self._on_event = on_event
        self._on_end = on_end
        self._table_name = table_name
        self._seen_at: dict[tuple[int, object], float] = {}
        self._untouchable: set[int] = set()
        self._attempt_at: float | None = None
        self._held_until: float | None = None
        self._fresh = False
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="statehub-plan hold watch", daemon=True)
        row = self._connection.execute(
            "SELECT setting::int / 1000.0::float8 FROM pg_settings WHERE name = 'deadlock_timeout'"
        )
        self._deadlock_timeout_s = float((row.fetchone() or (1.0,))[0])

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def attempt(self, running: bool) -> None:
        """Says whether the hold is asking for locks right now; afterwards no cancel of that attempt is on its way."""
        with self._mutex:
            self._attempt_at = time.monotonic() if running else None
            self._fresh = running
        self._wake.set()

    def holding(self) -> None:
        """Says that all locks are held: from now on waiters are watched, and the clock of `max_duration_s` runs."""
        with self._mutex:
            self._attempt_at = None
            self._held_until = time.monotonic() + self._limits.max_duration_s
            self._fresh = True
        self._wake.set()

    def stop(self) -> None:
        """Asks the thread to end, without waiting for it; it closes its session."""
        self._stopped = True
        self._wake.set()

    def join(self) -> None:
        """Waits for the thread to have ended after `stop`; from the thread itself it returns at once."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped:
                try:
                    with self._mutex:
                        pause_s = self._look()
                except psycopg.OperationalError:
                    pause_s = self._reconnect()
                if not self._stopped:
                    self._wake.wait(pause_s)
                    self._wake.clear()
        finally:
            self._connection.close()

    def _look(self) -> float | None:
        if self._fresh:  # nobody has waited for long yet, and the hold has better use for the server just now
            self._fresh = False
            return HOLDING_POLL_S if self._held_until is not None else LOCKING_POLL_S
        if self._held_until is not None:
            self._look_at_waiters()
            return HOLDING_POLL_S
        if self._attempt_at is not None:
            self._look_at_blockers(time.monotonic() - self._attempt_at)
            return LOCKING_POLL_S
        return None

    def _reconnect(self) -> float:
        """Without eyes the hold goes on, being a session of its own; waiters are cancelled again afterwards."""
        try:
            self._connection = connect(self._dsn, purpose="watch")
        except StatehubError:
            return _RECONNECT_S
        return 0.0

    def _look_at_blockers(self, attempt_s: float) -> None:
        rows = self._connection.execute(_BLOCKERS, {"hold": self._hold[0]}).fetchall()
        now = time.monotonic()
        patience_s = self._limits.session_grace_s + _ATTEMPT_MARGIN_S
        for row in rows:
            session, (kind, transaction, wanted, crossed, wants) = session_of(row[:9]), row[9:]
            key = (session.pid, transaction)
            waited_s = now - self._seen_at.setdefault(key, now)
            is_client = bool(session.user) and kind in (None, "client backend")
            if session.pid and not is_client:
                if kind == "autovacuum worker" and waited_s > self._limits.session_grace_s:
                    self._cancel_maintenance(session)
                # Where the role may not, the server itself cancels autovacuum in the way, after this long.
                patience_s = max(patience_s, self._deadlock_timeout_s + 2 * _ATTEMPT_MARGIN_S)
            ended = is_client and self._end_if_due(session, crossed, waited_s, wanted)
            self._note(key, session, kind, wanted, waited_s, ended)
            if is_client and crossed and wanted and wants and (wanted, wants) not in self.learned:
                self.learned.add((wanted, wants))
                self._give_way(f"{session} waits for {self._table_name(wants)}, which was locked first")
                return
        if rows and attempt_s > patience_s:
            self._give_way(f"still waiting after {attempt_s:.2f} s: writers queue behind")

    def _note_blockers(self) -> None:
        """Who keeps the hold's own session waiting while it seals; nobody is ended for that, for people to read."""
        now = time.monotonic()
        for row in self._connection.execute(_BLOCKERS, {"hold": self._hold[0]}).fetchall():
            session, (kind, transaction, wanted, _, _) = session_of(row[:9]), row[9:]
            key = (session.pid, transaction)
            self._note(key, session, kind, wanted, now - self._seen_at.setdefault(key, now), ended=False)

    def _end_if_due(self, session: Session, crossed: bool, waited_s: float, wanted: int | None) -> bool:
        ours = session.user == self._user and session.application.startswith(APPLICATION_PREFIX)
        if ours and not session.application.startswith(APPLICATION_PREFIX + HOLD_PURPOSE):
            return False
        if waited_s < self._limits.session_grace_s or session.pid in self._untouchable:
            return False
        if not end_session(self._connection, session):
            self._untouchable.add(session.pid)
            return False
        why = "crossed with" if crossed else "blocked"
        self._on_event(
            HoldEvent(
                kind="session-ended",
                what=f"{session} {why} the hold on {self._table_name(wanted or 0)} for {waited_s:.2f} s and was ended",
                session=session,
            )
        )
        return True

    def _cancel_maintenance(self, process: Session) -> None:
        """Needs a superuser, or from PostgreSQL 18 pg_signal_autovacuum_worker."""
        if process.pid not in self._untouchable:
            self._untouchable.add(process.pid)
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                self._connection.execute("SELECT pg_cancel_backend(%s)", [process.pid])

    def _note(
        self,
        key: tuple[int, object],
        session: Session,
        kind: str | None,
        wanted: int | None,
        waited_s: float,
        ended: bool,
    ) -> None:
        table = self._table_name(wanted or 0)
        if session.pid == 0:
            note = WaitedOn(who="a prepared transaction", session=None, table=table, waited_s=waited_s, ended=False)
        elif not session.user:
            who = f"process {session.pid} ({kind or 'background process'})"
            note = WaitedOn(who=who, session=None, table=table, waited_s=waited_s, ended=False)
        else:
            before = self.waited_on.get(key)
            ended = ended or (before is not None and before.ended)
            note = WaitedOn(who=str(session), session=session, table=table, waited_s=waited_s, ended=ended)
        self.waited_on[key] = note

    def _give_way(self, why: str) -> None:
        self._attempt_at = None
        self._connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
            self._hold,
        )
        self._on_event(HoldEvent(kind="yielded", what=f"gave way: {why}"))

    def _look_at_waiters(self) -> None:
        if self._held_until is not None and time.monotonic() > self._held_until:
            self._held_until = None
            self._on_end("expired")
            return
        alive = self._connection.execute(
            "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s AND backend_start = %s::timestamptz",
            self._hold,
        ).fetchone()
        if alive is None:
            self._held_until = None
            self._on_end("lost")
            return
        if alive[0]:
            self._note_blockers()
        limits = {"ddl": self._limits.session_grace_s, "writer": self._limits.writer_wait_s, "hold": self._hold[0]}
        for row in self._connection.execute(_WAITERS, limits).fetchall():
            session, relation, waited_s = session_of(row[:9]), row[9], row[10]
            if session.pid not in self._untouchable:
                self._cancel(session, relation, waited_s)

    def _cancel(self, session: Session, relation: int, waited_s: float) -> None:
        try:
            self._connection.execute(_CANCEL_WAITER, [session.pid, session.began_at, self._hold[0]])
        except psycopg.errors.InsufficientPrivilege:
            self._untouchable.add(session.pid)
            return
        what = f"{session} had waited {waited_s:.2f} s for {self._table_name(relation)} and was cancelled"
        self._on_event(HoldEvent(kind="writer-canceled", what=what, session=session))
