"""The hold: one session's locks on every table. Reads go on, writers wait; if the tool dies, the locks die with it.

Only EXCLUSIVE is taken: it lets SELECT and pg_dump pass (manual, 13.3.1). Sequences that can be are locked against
nextval too (ALTER SEQUENCE … OWNED BY its present owner changes nothing and takes SHARE ROW EXCLUSIVE); reading the
view pg_sequences then waits like a writer, SELECT from a sequence does not.
"""

from __future__ import annotations

import re
import threading
import time
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import sql

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.spec import Freeze, duration_s
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, Table, connect, user_tables
from statehub_plan.postgres.fence import is_marked, mark_sealed, seal_tables
from statehub_plan.postgres.order import Edge, lock_order
from statehub_plan.postgres.privileges import LOCKABLE_SEQUENCES, require_privileges
from statehub_plan.postgres.proof import DOUBTFUL_SQL, prepared_problem, unknown_tables, unsound_tables
from statehub_plan.postgres.sessions import (
    HOLD_LOCK,
    HOLD_PURPOSE,
    Ended,
    end_sessions,
    held_by,
    prepared_transactions,
)
from statehub_plan.postgres.transaction import (
    LEAST_STANDBY_WAIT_S,
    STANDBY_WAIT_S,
    StandbySilent,
    backend_of,
    begin,
    commit,
    roll_back,
)
from statehub_plan.postgres.watch import HoldEvent, HoldLimits, OnEvent, WaitedOn, Watch
from statehub_plan.redact import redact

__all__ = ["FrozenReceipt", "Hold", "HoldEvent", "HoldLimits", "HoldLost", "WaitedOn", "held_by", "limits_of"]

_BREATH_S = 0.02  # after each attempt writers run freely for half as long as it lasted, within these two
_LONGEST_BREATH_S = 0.5
_LISTINGS = 5
_HOLD_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")

_ATTEMPT_ERRORS = (
    psycopg.errors.QueryCanceled,  # the watch gave way, or statement_timeout backed it up
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UndefinedTable,  # dropped between listing and locking
)


class HoldLost(StatehubError):
    """The hold is over although it was counted on: writers go on, and what was copied under it proves nothing."""

    def __init__(self, hold_id: str, why: str) -> None:
        super().__init__(
            code="hold-lost",
            what=f"the hold {hold_id} is over: {why}",
            hint="nothing was decided and the old primary accepts writes; run apply again",
        )


class FrozenReceipt(Frozen):
    """What `Hold.freeze` came to: the sessions that were ended, how long writers had been held and the commit took."""

    term: int
    sessions: Ended
    held_s: float
    commit_s: float


def limits_of(freeze: Freeze) -> HoldLimits:
    """The plan's limits in seconds."""
    return HoldLimits(
        lock_timeout_s=duration_s(freeze.lock_timeout),
        session_grace_s=duration_s(freeze.session_grace),
        writer_wait_s=duration_s(freeze.writer_wait),
        max_duration_s=duration_s(freeze.max_duration),
    )


class Hold:
    """Every user table locked in EXCLUSIVE mode by one session; take it with `Hold.take`, use it as a context manager.

    `tables` in the order in which they were locked; `lock_s` from the first attempt to the last lock; `waited_on` what
    stood in the way. Its methods may be called from any thread.
    """

    def __init__(self, dsn: str, hold_id: str, run: str, epoch: int, limits: HoldLimits, on_event: OnEvent) -> None:
        """Internal; use `take`."""
        self.hold_id = hold_id
        self.tables: tuple[Table, ...] = ()
        self.lock_s = 0.0
        self.attempts = 0
        self._dsn = dsn
        self._run = run
        self._epoch = epoch
        self._limits = limits
        self._on_event = on_event
        self._names: dict[int, str] = {}
        self._held_at = 0.0
        self._over: str | None = None
        self._frozen = False
        self._mutex = threading.RLock()
        self._connection = connect(dsn, purpose=HOLD_PURPOSE + hold_id)
        self._backend = backend_of(self._connection)
        try:
            self._watch = Watch(dsn, self._backend, limits, on_event, self._ended, self._name_of)
        except BaseException:
            self._connection.close()
            raise
        self._watch.start()

    @classmethod
    def take(
        cls,
        dsn: str,
        *,
        hold_id: str,
        run: str,
        epoch: int,
        limits: HoldLimits,
        on_event: OnEvent = lambda event: None,
    ) -> Hold:
        """All user tables locked, or nothing.

        Blocks for at most about `limits.lock_timeout_s`. Ends sessions that block it for longer than the grace; gives
        way between attempts. Tables without a fence trigger get one (disabled) under the locks. `on_event` is called
        from several threads and must not raise. StatehubError `privilege-missing`, `transaction-prepared`,
        `hold-timeout` (naming what held it up), `fenced-out`; then nothing stays locked.
        """
        if not _HOLD_ID.fullmatch(hold_id):
            raise ValueError(f"a hold's id is part of an application_name and has to match {_HOLD_ID.pattern}")
        with connect(dsn, purpose="hold preparation") as session:
            require_privileges(session)
            state.install(session)
            _refuse_prepared(session)
            with session.transaction():
                state.claim_epoch(session, epoch)
        hold = cls(dsn, hold_id, run, epoch, limits, on_event)
        try:
            hold._acquire()
        except BaseException as error:
            hold._end("released", "it could not be taken")
            hold._watch.join()
            if isinstance(error, psycopg.Error):
                raise _unexpected(error) from error
            raise
        return hold

    @property
    def waited_on(self) -> tuple[WaitedOn, ...]:
        """What stood in the way of the locks, longest first."""
        notes = tuple(self._watch.waited_on.values())
        return tuple(sorted(notes, key=lambda note: (-note.waited_s, note.who)))

    @property
    def frozen(self) -> bool:
        """Whether it is over because it became a durable freeze."""
        return self._frozen

    @property
    def held_s(self) -> float:
        """For how long writers have been waiting."""
        return time.monotonic() - self._held_at

    def check(self) -> None:
        """Raises HoldLost unless the locks are held at this moment (one round trip on the locking session itself)."""
        with self._mutex:
            if self._over is None:
                try:
                    self._connection.execute("SELECT")
                except psycopg.Error as error:
                    self._end("lost", f"its session was lost: {' '.join(str(error).split())}")
            if self._over is not None:
                raise HoldLost(self.hold_id, self._over)

    def freeze(self, *, term: int, proof: str | None = None, primary: str | None = None) -> FrozenReceipt:
        """Makes the hold durable: commits fence, read-only default and mark in the transaction that holds the locks.

        Then ends other sessions; `prove_frozen` is the caller's. Writers that waited get the fence's error. Whatever
        fails before the commit releases everything: new tables since the locks, a higher epoch, a prepared transaction.
        A connection lost at COMMIT is answered by observing; OutcomeUnknown when nobody can tell. The hold is over
        either way.
        """
        held_s = self.held_s
        started = time.monotonic()
        self.seal()
        self.commit_freeze(term=term, proof=proof, primary=primary)
        commit_s = time.monotonic() - started
        self._watch.join()
        with connect(self._dsn, purpose="freeze") as session:
            ended = end_sessions(session)
        return FrozenReceipt(term=term, sessions=ended, held_s=held_s, commit_s=commit_s)

    def seal(self) -> None:
        """Everything of a freeze that takes time, in the transaction that holds the locks; nobody notices before
        `commit_freeze`. Whatever goes wrong releases the hold."""
        with self._mutex:
            self.check()
            try:
                self._seal()
            except psycopg.errors.QueryCanceled as error:
                self._freezing_failed(error)
                raise self._seal_waited() from error
            except BaseException as error:
                self._freezing_failed(error)
                raise

    def commit_freeze(self, *, term: int, proof: str | None, primary: str | None) -> None:
        """Marks and commits what `seal` has prepared; the hold is over either way. A connection lost at COMMIT is
        answered by observing; OutcomeUnknown when nobody can tell. StatehubError `standby-silent` when it is frozen
        here, and no synchronous standby said in time that it knows."""
        with self._mutex:
            self.check()
            try:
                with self._connection.pipeline():
                    # Made since the seal, and committed: it would stay writable, or, fenced by its maker, never arrive.
                    doubtful = self._connection.execute(DOUBTFUL_SQL, [[table.oid for table in self.tables]])
                    mark_sealed(
                        self._connection, term=term, run=self._run, hold=self.hold_id, primary=primary, proof=proof
                    )
                if doubtful.fetchone() != (0,):
                    self._refuse_late_tables()
                    raise StatehubError(
                        code="fence-incomplete",
                        what="the fence of some table would not refuse every write; everything was released",
                        hint="find out who changed the trigger statehub_plan_fence of what is listed; then run again, "
                        "which repairs it",
                        details=tuple(name for _, name in unsound_tables(self._connection)),
                    )
                what = f"the freeze for term {term}"
                confirmed = commit(
                    self._connection,
                    self._backend,
                    lambda conn: is_marked(conn, term, self._run),
                    what=what,
                    standby_wait_s=max(
                        LEAST_STANDBY_WAIT_S, min(STANDBY_WAIT_S, self._limits.max_duration_s - self.held_s)
                    ),
                )
            except BaseException as error:
                self._freezing_failed(error)
                raise
            self._end("frozen", f"it became the freeze for term {term}")
            if not confirmed:
                raise StandbySilent(what)

    def _freezing_failed(self, error: BaseException) -> None:
        self._end("released", f"freezing failed: {str(error).splitlines()[0] if str(error) else error!r}")

    def release(self) -> None:
        """Lets writers go on; idempotent."""
        self._end("released", "it was released")
        self._watch.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _acquire(self) -> None:
        started = time.monotonic()
        deadline = started + self._limits.lock_timeout_s
        customary = _customary_order(self._connection)
        while True:
            self.attempts += 1
            try:
                self._attempt(customary, deadline)
                break
            except _ATTEMPT_ERRORS as error:
                self._watch.attempt(False)
                roll_back(self._connection)
                breath_s = min(_LONGEST_BREATH_S, max(_BREATH_S, self.held_s / 2))
                if time.monotonic() + breath_s > deadline:
                    raise self._timeout() from error
                _refuse_prepared(self._connection)
                time.sleep(breath_s)
        self.lock_s = time.monotonic() - started
        self._on_event(HoldEvent(kind="held", what=f"{len(self.tables)} tables locked in {self.lock_s:.3f} s"))

    def _attempt(self, customary: set[Edge], deadline: float) -> None:
        """One transaction that ends with everything locked, or raises one of `_ATTEMPT_ERRORS`."""
        connection = self._connection
        tables = {table.oid: table for table in user_tables(connection)}
        self._names.update({oid: table.qualified for oid, table in tables.items()})
        order = [tables[oid] for oid in lock_order(tables, customary, self._watch.learned)]
        sequences = _sequence_locks(connection)
        unknown_tables(connection, list(tables))  # asked first here, where a cold catalog costs nobody
        begin(connection)
        remaining_ms = max(1, round((deadline - time.monotonic()) * 1000))
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{remaining_ms}ms"])
        self._held_at = time.monotonic()
        self._watch.attempt(True)
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", HOLD_LOCK)
        _lock(connection, order)
        if sequences is not None:
            connection.execute(sequences)
        for _ in range(_LISTINGS):  # what was created until the locks stood
            if not unknown_tables(connection, list(tables)):
                break
            late = [table for table in user_tables(connection) if table.oid not in tables]
            _lock(connection, late)
            order += late
            tables |= {table.oid: table for table in late}
            for oid, _name in unsound_tables(connection):
                connection.execute("SELECT statehub_plan.fence_table(%s::oid, false)", [oid])
        self._watch.attempt(False)
        # A cancel that was under way arrives no later than here, where it still only costs this attempt.
        self._set_backstop()
        self.tables = tuple(order)
        self._watch.holding()

    def _set_backstop(self) -> None:
        """A tool that is stopped but not dead (a suspended host) can't release by itself, nor one whose own statement
        waits for somebody: the server does it then."""
        limit_ms = min(round((self._limits.max_duration_s + 1) * 1000), 2**31 - 1)
        self._connection.execute(
            "SELECT set_config('statement_timeout', %s, true), "
            "set_config('idle_in_transaction_session_timeout', %s, true)",
            [f"{max(1, limit_ms - 1000)}ms", f"{limit_ms}ms"],
        )

    def _seal(self) -> None:
        connection = self._connection
        state.claim_epoch(connection, self._epoch, current=True)
        _refuse_prepared(connection)
        self._refuse_late_tables()
        seal_tables(connection)

    def _refuse_late_tables(self) -> None:
        locked = {table.oid for table in self.tables}
        late = [table.qualified for table in user_tables(self._connection) if table.oid not in locked]
        if late:
            raise Refusal(
                code="ddl-during-hold",
                what=f"{len(late)} table(s) were created since everything was locked; the copy does not have them",
                hint="stop migrations and whatever creates tables, then run apply again",
                details=tuple(late),
            )

    def _ended(self, how: Literal["lost", "expired"]) -> None:
        """Called by the watch's thread."""
        limit_s = self._limits.max_duration_s
        why = {
            "lost": "its session was ended by the server or by somebody",
            "expired": f"it reached its longest duration of {limit_s:g} s and was released",
        }
        self._end(how, why[how])

    def _end(self, kind: Literal["lost", "expired", "released", "frozen"], why: str) -> None:
        with self._mutex:
            if self._over is not None:
                return
            self._over, self._frozen = why, kind == "frozen"
            roll_back(self._connection)
            self._connection.close()
            self._watch.stop()
        self._on_event(HoldEvent(kind=kind, what=f"hold {self.hold_id}: {why}"))

    def _name_of(self, oid: int) -> str:
        return self._names.get(oid, f"relation {oid}" if oid else "a table")

    def _seal_waited(self) -> StatehubError:
        return StatehubError(
            code="freeze-timeout",
            what=f"the freeze could not be prepared within {self._limits.max_duration_s:g} s; everything was released",
            hint="end or wait for what is listed (pg_terminate_backend): it has changed this database's settings, or "
            "the tool's own objects, and not committed",
            details=tuple(f"{note.who}, in the way for {note.waited_s:.2f} s" for note in self.waited_on),
        )

    def _timeout(self) -> StatehubError:
        notes = self.waited_on
        return StatehubError(
            code="hold-timeout",
            what=f"not every table could be locked within {self._limits.lock_timeout_s:g} s; everything was released"
            + (f". In the way: {notes[0].who} on {notes[0].table}" if notes else ""),
            hint="end or wait for what is listed (pg_terminate_backend), or raise spec.freeze.lockTimeout; "
            "ending a superuser's session takes a superuser",
            details=tuple(
                f"{note.table}: {note.who}, in the way for {note.waited_s:.2f} s{', ended' if note.ended else ''}"
                for note in notes
            ),
        )


def _lock(connection: Connection, tables: list[Table]) -> None:
    """ONLY: partitions are listed by themselves, in the order that was thought out."""
    if tables:
        names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.identifier) for table in tables)
        connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(names))


def _sequence_locks(connection: Connection) -> sql.Composed | None:
    """Statements that change nothing and keep nextval and setval of every lockable sequence waiting."""
    statements = []
    rows = connection.execute(f"{LOCKABLE_SEQUENCES} ORDER BY 1, 2").fetchall()
    for schema, name, _oid, table_oid, table, table_schema, column in rows:
        owner = sql.SQL("NONE") if table_oid is None else sql.Identifier(table_schema, table, column)
        statements.append(sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(sql.Identifier(schema, name), owner))
    return sql.SQL("; ").join(statements) if statements else None


def _customary_order(connection: Connection) -> set[Edge]:
    """What writers usually lock first: a foreign key's child, and a partitioned table before its partitions."""
    rows = connection.execute(
        "SELECT conrelid::int8, confrelid::int8 FROM pg_constraint WHERE contype = 'f' "
        "UNION SELECT inhparent::int8, inhrelid::int8 FROM pg_inherits"
    )
    return {(int(first), int(then)) for first, then in rows}


def _refuse_prepared(connection: Connection) -> None:
    problems = [prepared_problem(gid) for gid in prepared_transactions(connection)]
    if problems:
        raise Refusal(
            code="transaction-prepared",
            what=f"{len(problems)} prepared transaction(s) keep locks that neither waiting nor ending a session frees",
            hint="resolve them as listed, then run apply again",
            details=tuple(str(problem) for problem in problems),
        )


def _unexpected(error: psycopg.Error) -> StatehubError:
    text = redact(" ".join(str(error).split()))
    if isinstance(error, psycopg.errors.OutOfMemory):
        return StatehubError(
            code="lock-table-full",
            what=f"the server's lock table is too small to lock every table at once: {text}",
            hint="raise max_locks_per_transaction and restart that server",
        )
    return StatehubError(
        code="hold-failed",
        what=f"the tables could not be locked, everything was released: {text}",
        hint="look into the server's log, then run apply again",
    )
