"""The switch of a cutover by replication: from the hold to the opening in milliseconds, each part a method of its own.

Everything that can be done before writers wait is done by `prepare`: sessions, plans and caches are warm, sequences
nearly right, the stream near. Under the hold the barrier travels while the freeze is being sealed; the freeze is
committed on the old side before the decision falls on the new one, and the decision opens it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen, digest
from statehub_plan.moments import Moment, passed_by
from statehub_plan.postgres.barrier import Barrier, await_barrier, send_barrier
from statehub_plan.postgres.connect import Connection, connect, keep_plans, user_tables
from statehub_plan.postgres.fence import arm, open_by_gate, settle_fence
from statehub_plan.postgres.forecast import Forecast, Measures, forecast, measure_again, measure_rest
from statehub_plan.postgres.frozen import (
    end_all_others,
    late_tables,
    require_frozen,
    require_no_writer,
    why_not_refused,
)
from statehub_plan.postgres.hindered import hindered
from statehub_plan.postgres.hold import Hold, HoldLimits
from statehub_plan.postgres.names import once
from statehub_plan.postgres.proof import canary, doubtful_tables, find_probes
from statehub_plan.postgres.register import Outcome, begin_decision
from statehub_plan.postgres.replication import advance_origin, read_subscription, stream_name
from statehub_plan.postgres.reverse import ReverseEnds, forget_reverse_slot_lag
from statehub_plan.postgres.sequences import SequenceValue, read_sequences, set_sequences
from statehub_plan.postgres.sessions import end_open_transactions, end_others_at_once, end_sessions, other_sessions
from statehub_plan.postgres.standbys import await_standbys, close_standbys
from statehub_plan.postgres.state import claim_epoch, identity, set_transfer
from statehub_plan.postgres.transaction import LEAST_STANDBY_WAIT_S, backend_of, begin, roll_back
from statehub_plan.postgres.watch import OnEvent
from statehub_plan.world import TransferStage

__all__ = ["Switch", "SwitchEnds", "SwitchLimits", "Timings"]

_NEAR_S = 0.25
_NEAR_ATTEMPTS = 20

Prepared = tuple[Outcome, Callable[[float], bool]]


@dataclass(frozen=True, slots=True)
class SwitchEnds:
    """Both databases as the tool's role reaches them, and the stream back where the fallback is to follow."""

    source_dsn: str
    target_dsn: str
    reverse: ReverseEnds | None


@dataclass(frozen=True, slots=True)
class SwitchLimits:
    """`switch_s`: longest time from the first lock to the decision. `near_s`: longest wait, before anything is held,
    for the stream to come near."""

    hold: HoldLimits
    switch_s: float = 5.0
    near_s: float = 60.0


class Timings(Frozen):
    """Milliseconds of each part; `gap_ms` from the lock request to the committed opening (rehearsed: the release)."""

    lock_ms: float = 0.0
    drain_ms: float = 0.0
    sequences_ms: float = 0.0
    proof_ms: float = 0.0
    seal_ms: float = 0.0
    freeze_ms: float = 0.0
    decide_ms: float = 0.0
    gap_ms: float = 0.0


@dataclass
class _Clock:
    """Adds up how long each part took."""

    parts: dict[str, float] = field(default_factory=dict)

    def measure(self, part: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            work()
        finally:
            self.parts[part] = round((time.monotonic() - began) * 1000, 2)


class Switch:
    """One attempt to move the primary, or to rehearse that. Use as a context manager: leaving it before the freeze is
    committed releases writers. Its methods are called in their order, from one thread."""

    def __init__(
        self,
        ends: SwitchEnds,
        *,
        run: str,
        epoch: int,
        term: int,
        hold_id: str,
        limits: SwitchLimits,
        on_event: OnEvent,
        moment: Moment = passed_by,
    ) -> None:
        """Contacts nothing before `prepare`. `moment` is told when each is reached: armed, locked, barrier-sent,
        sealed, arrived, origin-moved, decision-prepared, freeze-committed, proved-frozen, decision-committed."""
        self._ends = ends
        self._run = run
        self._epoch = epoch
        self._term = term
        self.hold_id = hold_id
        self._limits = limits
        self._on_event = on_event
        self._moment = moment
        self._stack = ExitStack()
        self._clock = _Clock()
        self._held_at = 0.0
        self.hold: Hold | None = None
        self.barrier: Barrier | None = None
        self.sequences: tuple[SequenceValue, ...] = ()
        self.proof: str | None = None
        self.opened_at: datetime | None = None
        self.confirmed = True
        self.forecast: Forecast | None = None
        self._measured: Measures | None = None
        self._armed = False
        self._own_from: str | None = None
        self._sealing: Future[None] | None = None
        self._deciding: Future[Prepared] | None = None

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases writers, unless frozen already, and ends every session. Idempotent."""
        try:
            if self.hold is not None:
                self.hold.release()
            for under_way in (self._sealing, self._deciding):
                if under_way is not None:
                    with suppress(Exception):  # it was told already, or is of no interest any more
                        under_way.result()
        finally:
            self._stack.close()
            self._disarm()

    def _disarm(self) -> None:
        """Writers need not pay for a fence that froze nothing. Whatever is left of it, the next switch makes use of."""
        if not self._armed or (self.hold is not None and self.hold.frozen):
            return
        self._armed = False
        with suppress(StatehubError, psycopg.Error), connect(self._ends.source_dsn, purpose="disarm") as source:
            settle_fence(source, epoch=self._epoch, at_once=True)

    @property
    def timings(self) -> Timings:
        """What was measured so far."""
        return Timings(**self._clock.parts)

    def prepare(self) -> None:
        """Sessions, warm plans, sequences nearly right, and the stream near; writers notice nothing.

        StatehubError `stream-behind` when the stream does not come within a quarter of a second in `near_s`."""
        with self._explaining("the preparation"):
            self._prepare()

    def _prepare(self) -> None:
        timeout_ms = round(self._limits.switch_s * 1000) + 1000
        self._source = self._session(self._ends.source_dsn, timeout_ms)
        keep_plans(self._source)
        self._second = self._session(self._ends.source_dsn, timeout_ms)
        self._target = self._session(self._ends.target_dsn, timeout_ms)
        self._pool = self._stack.enter_context(ThreadPoolExecutor(3, thread_name_prefix="statehub-plan switch"))
        self._source_identity = identity(self._source)
        self._target_identity = identity(self._target)
        self._target_backend = backend_of(self._target)
        self._stream = stream_name(self._target_identity)
        self._reverse_oid = self._prepare_reverse()
        with self._target.transaction():
            claim_epoch(self._target, self._epoch)
        # What this session commits in the hold the decision takes along, which is flushed, and alone awaits standbys.
        self._target.execute("SET synchronous_commit = off")
        self._approach_sequences()
        self._armed = True
        arm(self._source, epoch=self._epoch)
        self._moment("armed")
        self._come_near()
        self._standbys = close_standbys(self._second)
        self._warm()

    def _session(self, dsn: str, timeout_ms: int = 0) -> Connection:
        """Closed with the switch, never left as a context: that would commit whatever is open in it, and here that may
        be the decision."""
        session = connect(dsn, purpose="switch", statement_timeout_ms=timeout_ms)
        self._stack.callback(session.close)
        return session

    def look(self, check: Callable[[Connection, Connection], None]) -> None:
        """`check` is given sessions of both sides while nobody waits, and raises where there is no use in a hold."""
        with self._explaining("the preparation"):
            check(self._source, self._target)

    def measure(self) -> None:
        """Before a rehearsal's hold: how long the things take here of which the rest of a move consists."""
        with self._explaining("the preparation"):
            self._measured = measure_rest(
                self._source, self._target, self._ends.target_dsn, self._look_for_writers, self._open_and_roll_back
            )

    def take_hold(self) -> Hold:
        """Every table of the source locked; from here on writers wait, and the clock of `switch_s` runs. When it has
        run out the hold ends by itself, wherever this thread may be stuck then."""
        began = time.monotonic()
        longest_s = min(self._limits.hold.max_duration_s, self._limits.switch_s)
        self.hold = Hold.take(
            self._ends.source_dsn,
            hold_id=self.hold_id,
            run=self._run,
            epoch=self._epoch,
            limits=self._limits.hold.model_copy(update={"max_duration_s": longest_s}),
            on_event=self._on_event,
        )
        self._held_at = time.monotonic() - self.hold.held_s
        self._clock.parts["lock_ms"] = round((time.monotonic() - began) * 1000, 2)
        self._moment("locked")
        return self.hold

    def drain(self) -> Barrier:
        """Everything that was committed before the hold has arrived on the target; meanwhile the freeze is sealed."""
        hold = self._require_hold()
        with self._explaining("the drain"):
            self._clock.measure("drain_ms", lambda: self._drain(hold))
        assert self.barrier is not None
        return self.barrier

    def sync_sequences(self) -> tuple[SequenceValue, ...]:
        """Every sequence of the target has its value on the source, which the hold keeps still where it can."""
        self._require_hold()
        with self._explaining("setting the sequences"):
            self._clock.measure("sequences_ms", self._read_and_set_sequences)
        return self.sequences

    def prove(self, evidence: str, check: Callable[[Connection, Connection], None]) -> str:
        """What makes the target equal goes on record there, and is returned as the proof that the decision asks for.

        `evidence` is the digest of what was proved online; `check` is given sessions of both sides and raises where
        anything has changed since that the stream does not carry."""
        hold = self._require_hold()

        def work() -> None:
            check(self._source, self._target)
            barrier = self.barrier
            if barrier is None:
                raise ValueError("nothing is proved before the barrier has arrived")
            values = [f"{one.qualified}={one.last_value},{one.is_called}" for one in self.sequences]
            self.proof = digest(
                {"evidence": evidence, "barrier": barrier.token, "sequences": values, "hold": self.hold_id}
            )
            self._mark_proved(hold)

        with self._explaining("the proof"):
            self._clock.measure("proof_ms", work)
        assert self.proof is not None
        return self.proof

    def freeze(self, primary: str) -> None:
        """The hold becomes durable, once the decision is ready to be committed on the target. Proved before it returns:
        the fence refuses a write on every table that exists now, and nobody is left who could have made one."""
        hold = self._require_hold()

        def work() -> None:
            if self._reverse_oid is not None:
                self._move_origin(self._reverse_oid)
                self._moment("origin-moved")
            self._deciding = self._pool.submit(self._prepare_decision, primary)
            require_no_writer(self._source, timeout_s=self._left_s())
            # Awake, each of those who wait would first meet the fence. They are on their way back when it is decided.
            ending = self._pool.submit(end_others_at_once, self._source)
            try:
                self._require_sealing().result()
                self._require_decidable(primary, self._deciding)
                self._require_time("the freeze")
                hold.commit_freeze(term=self._term, proof=self.proof, primary=primary)
            finally:
                if not hold.frozen:
                    hold.release()  # writers go on before anything is waited for
                wait([ending])  # whatever became of it: everybody is asked again when everything is frozen
            self._moment("freeze-committed")
            refusing = self._pool.submit(why_not_refused, self._second, self._tables, self._probes)
            left = end_all_others(self._source)
            late = late_tables(self._source, hold.tables)  # of those who are gone now, none can bring another
            self._overtake_sequences()
            require_frozen([*left, *late, *refusing.result()])
            what, wait_s = f"the freeze for term {self._term}", max(LEAST_STANDBY_WAIT_S, self._left_s())
            await_standbys(self._second, self._standbys, what=what, timeout_s=wait_s)
            self._moment("proved-frozen")

        with self._explaining("the freeze"):
            self._clock.measure("freeze_ms", work)

    def decide(self) -> Outcome:
        """The decision falls, and opens the target with the same commit; `gap_ms` is known from here on, and when by
        the target's clock (`opened_at`): sessions that began before are read-only by default. Not `confirmed`: it
        stands, and no synchronous standby of the target said in time that it has it."""
        deciding = self._deciding
        if deciding is None:
            raise ValueError("nothing is decided before the freeze")
        outcome, commit = deciding.result()
        if outcome.stands:
            self._clock.measure("decide_ms", lambda: self._commit_decision(commit))
            self._moment("decision-committed")
            self._clock.parts["gap_ms"] = round((time.monotonic() - self._held_at) * 1000, 2)
            self.opened_at = self._time_of_opening()
        return outcome

    def _commit_decision(self, commit: Callable[[float], bool]) -> None:
        self.confirmed = commit(max(LEAST_STANDBY_WAIT_S, self._left_s()))

    def end_read_only_sessions(self, *, timeout_s: float) -> int:
        """How many sessions of the target were ended because they began while it was frozen, and would stay read-only.
        In a session that is there already: one more now would take a processor from clients."""
        if self._target.closed:  # lost at the decision's commit, which another session has observed
            self._target = self._session(self._ends.target_dsn)
        row = self._target.execute("SELECT coalesce(%s, clock_timestamp())", [self.opened_at]).fetchone()
        return len(end_sessions(self._target, began_before=row[0] if row else None, timeout_s=timeout_s).ended)

    def _time_of_opening(self) -> datetime | None:
        with suppress(psycopg.Error):  # the decision stands, whoever asks for the time of day afterwards
            row = self._target.execute("SELECT clock_timestamp()").fetchone()
            return row[0] if row is not None else None
        return None

    def rehearse_rest(self, check: Callable[[Connection, Connection], None]) -> None:
        """What comes between the barrier and the freeze, as far as it leaves no trace: `check`, and the sealing. Once
        `measure` was called, `forecast` is known from here on."""
        self._require_hold()
        with self._explaining("the proof"):
            self._clock.measure("proof_ms", lambda: check(self._source, self._target))
        self._require_sealing().result()
        if self._measured is not None:
            rehearsed_ms = (time.monotonic() - self._held_at) * 1000
            with self._explaining("the forecast"):
                again = measure_again(self._measured, self._ends.target_dsn, self._open_and_roll_back)
                self.forecast = forecast(again, rehearsed_ms)
        self._require_time("the end of the rehearsal")

    def release(self) -> float:
        """Ends a rehearsal: writers go on; how many milliseconds they had waited. HoldLost if they went on before."""
        hold = self._require_hold()
        gap_ms = (time.monotonic() - self._held_at) * 1000
        hold.check()
        hold.release()
        self._disarm()  # whoever rehearses keeps this open for as long as comparing takes
        self._clock.parts["gap_ms"] = round(gap_ms, 2)
        return gap_ms

    @contextmanager
    def _explaining(self, part: str) -> Iterator[None]:
        """A server's refusal as an error of the tool; writers go on before anybody looks into it."""
        try:
            yield
        except psycopg.Error as error:
            if self.hold is not None:
                self.hold.release()
            frozen = self.hold is not None and self.hold.frozen
            raise hindered(
                part, error, frozen=frozen, waited_s=self._limits.switch_s, source=self._source, target=self._target
            ) from error

    # Before the hold

    def _prepare_reverse(self) -> int | None:
        ends = self._ends.reverse
        if ends is None:
            return None
        name = stream_name(self._source_identity)
        self._subscriber = self._session(ends.subscriber_dsn)
        made = read_subscription(self._subscriber, name)
        if made is None or made.enabled:
            raise StatehubError(
                code="reverse-not-ready",
                what=f"the stream back, {name}, is {'running already' if made else 'not there'}",
                hint="make a new plan; it prepares the way back first",
                exit_status=Exit.STALE_PLAN,
            )
        forget_reverse_slot_lag(ends.sender_dsn, name)
        return made.oid

    def _come_near(self) -> None:
        deadline = time.monotonic() + self._limits.near_s
        latency_s = 0.0
        for _ in range(_NEAR_ATTEMPTS):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            barrier = send_barrier(self._source)
            latency_s = self._arrival(barrier, left_s)
            if latency_s < _NEAR_S:
                return
        raise StatehubError(
            code="stream-behind",
            what=f"the target does not come nearer than {latency_s:.1f} s behind the source; nothing was held",
            hint="wait until a large transaction or a burst of writes has arrived, then run again",
        )

    def _arrival(self, barrier: Barrier, timeout_s: float) -> float:
        # The session's own statement time-out is for the hold; outside it the stream may take its time.
        self._target.execute(
            "SELECT set_config('statement_timeout', %s, false)", [f"{round(timeout_s * 1000) + 1000}ms"]
        )
        try:
            return await_barrier(self._target, barrier, timeout_s=timeout_s, stream=self._stream)
        finally:
            self._target.execute(
                "SELECT set_config('statement_timeout', %s, false)", [f"{round(self._limits.switch_s * 1000) + 1000}ms"]
            )

    def _warm(self) -> None:
        """Each statement of the hold once, where nobody waits, so that no plan and no catalog page is cold."""
        self._tables = user_tables(self._source)
        self._probes = find_probes(self._source, self._source.info.user)
        read_sequences(self._source, names=self._sequence_names())
        self._look_for_writers()
        other_sessions(self._target)
        self._open_and_roll_back()

    def _open_and_roll_back(self) -> None:
        with self._target.pipeline():
            begin(self._target)
            self._mark(None)
            open_by_gate(self._target, term=self._term)
        self._target.execute("ROLLBACK")

    def _look_for_writers(self) -> None:
        canary(self._second, tables=self._tables[:1], probes=self._probes)
        doubtful_tables(self._source, [table.oid for table in self._tables])
        end_others_at_once(self._source, end=False)
        end_open_transactions(self._source, timeout_s=0.0, end=False)

    # Under the hold

    def _require_hold(self) -> Hold:
        if self.hold is None:
            raise ValueError("nothing is held")
        return self.hold

    def _left_s(self) -> float:
        return self._limits.switch_s - (time.monotonic() - self._held_at)

    def _require_time(self, what: str) -> None:
        if self._left_s() <= 0:
            raise StatehubError(
                code="switch-timeout",
                what=f"{what} would come over {self._limits.switch_s:g} s after the locks; everything was released",
                hint="see in the record which part took long; `freeze.switchTimeout` says how long writers may wait",
                details=tuple(f"{part}: {value:.0f}" for part, value in self._clock.parts.items()),
            )

    def _drain(self, hold: Hold) -> None:
        self.barrier = send_barrier(self._source)
        self._moment("barrier-sent")
        self._sealing = self._pool.submit(self._seal, hold)
        self._require_time("the barrier")
        await_barrier(self._target, self.barrier, timeout_s=self._left_s(), stream=self._stream, give_up=hold.release)
        self._moment("arrived")

    def _seal(self, hold: Hold) -> None:
        self._clock.measure("seal_ms", hold.seal)
        self._moment("sealed")

    def _require_sealing(self) -> Future[None]:
        if self._sealing is None:
            raise ValueError("nothing is frozen before it has been drained")
        return self._sealing

    def _prepare_decision(self, primary: str) -> Prepared:
        if self.proof is None:
            raise ValueError("nothing is decided without a proof")
        prepared = begin_decision(
            self._target,
            term=self._term,
            primary=primary,
            run=self._run,
            epoch=self._epoch,
            hold=self.hold_id,
            proof=self.proof,
            backend=self._target_backend,
            here=self._target_identity,
            also=lambda conn: open_by_gate(conn, term=self._term),
        )
        # A tool that is stopped here but not dead would keep the register from everybody: the server ends it then.
        limit = f"{round(self._limits.switch_s * 1000) + 1000}ms"
        self._target.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [limit])
        self._moment("decision-prepared")
        return prepared

    def _set_sequences(self, wanted: tuple[SequenceValue, ...]) -> None:
        """Those that differ from what they were given before; nobody else can touch them on a frozen target."""
        before = once(((one.qualified, one) for one in self.sequences), "sequences")
        set_sequences(self._target, [one for one in wanted if before.get(one.qualified) != one])
        self.sequences = wanted

    def _approach_sequences(self) -> None:
        """The first time, before the hold: they are all there, and keep what they are given."""
        self._set_sequences(read_sequences(self._source))
        kept = once(((one.qualified, one) for one in read_sequences(self._target)), "sequences")
        strange = [one.qualified for one in self.sequences if kept.get(one.qualified) != one]
        if strange:
            raise StatehubError(
                code="sequences-differ",
                what=f"{len(strange)} sequences of the target are missing or did not keep a value; nothing was held",
                hint="make a new plan if the source's schema has changed; nobody else may write to the target",
                details=tuple(strange),
            )

    def _mark_proved(self, hold: Hold) -> None:
        try:
            with self._target.pipeline():
                begin(self._target)
                # The next commit that is flushed takes this one along; the decision's own transaction looks for it.
                self._target.execute("SET LOCAL synchronous_commit = off")
                self._mark(self.proof)
                # Before the mark's own commit: where the mark has survived a crash, the log reaches beyond this.
                row = self._target.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
                self._own_from = str(row[0]) if row is not None else None
                self._target.execute("COMMIT")
        except BaseException:
            roll_back(self._target)
            raise

    def _mark(self, proof: str | None) -> None:
        claim_epoch(self._target, self._epoch, current=True)
        set_transfer(
            self._target,
            stage=TransferStage.PROVED if proof else TransferStage.PREPARED,
            hold=self.hold_id if proof else None,
            term=self._term,
            source_identity=self._source_identity,
            proof=proof,
        )

    def _move_origin(self, subscription_oid: int) -> None:
        """What the target commits from here on is its own; all that came down the stream lies before."""
        if self._own_from is None:
            raise ValueError("nothing is known to be the target's own before the proof is on record")
        advance_origin(self._subscriber, subscription_oid, self._own_from)

    def _require_decidable(self, primary: str, deciding: Future[Prepared]) -> None:
        outcome, _ = deciding.result()
        if not outcome.stands:
            raise StatehubError(
                code="decision-lost",
                what=f"term {self._term} cannot be decided for {primary}: {outcome.value}; everything was released",
                hint="`observe` shows both registers; make a new plan from there",
                exit_status=Exit.STALE_PLAN,
            )

    def _overtake_sequences(self) -> None:
        """Whoever called nextval() until the freeze has a number that the target must not hand out again: an identity
        column's sequence cannot be locked, and who waited for another's lock may have gone on until its session ended.
        In the decision's transaction, whose commit takes this along."""
        self._read_and_set_sequences()

    def _read_and_set_sequences(self) -> None:
        """Those that there were before the hold: a sequence that has come since is a change of definitions."""
        self._set_sequences(read_sequences(self._source, names=self._sequence_names()))

    def _sequence_names(self) -> list[tuple[str, str]]:
        return [(one.schema_name, one.name) for one in self.sequences]
