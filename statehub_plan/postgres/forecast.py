"""What no rehearsal goes through, foretold from what it can try: freeze, decision, and clients that come back.

What the measures are multiplied by was fitted to moves that were measured (docs/benchmarks.md, "Forecast").
"""

from __future__ import annotations

import time
from collections.abc import Callable

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.barrier import send_barrier
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.sessions import other_sessions
from statehub_plan.postgres.transaction import begin

__all__ = ["Forecast", "Measures", "forecast", "measure_again", "measure_rest"]

_ATTEMPTS = 5
_AGAIN_MS = 20.0
_TIMES_AGAIN = 2

_LOOKS = 2.0
_OPENINGS = 7.0
_SWITCH_PER_SESSION = 0.2
_SESSIONS = 2.0
_SESSIONS_PER_SESSION = 0.15
_MOST_SESSIONS = 16


class Measures(Frozen):
    """Milliseconds, the shortest of several: a look for writers on the source, a commit there and one on the target
    until they are flushed, an opening of the target that is rolled back, a new session of the target; and how many
    sessions of others the source has."""

    look_ms: float
    flush_source_ms: float
    flush_target_ms: float
    opening_ms: float
    session_ms: float
    sessions: int


class Forecast(Frozen):
    """Milliseconds: `rehearsed_ms` from the locks to the end of the proof, `switch_ms` for what the tool does then to
    open the target, `clients_ms` until the first client that keeps trying has written."""

    rehearsed_ms: float
    switch_ms: float
    clients_ms: float

    @property
    def hold_ms(self) -> float:
        """From the locks to the opening."""
        return self.rehearsed_ms + self.switch_ms

    @property
    def gap_ms(self) -> float:
        """From the last write that the old side acknowledged to the first one by the new."""
        return self.hold_ms + self.clients_ms


def measure_rest(
    source: Connection, target: Connection, target_dsn: str, look: Callable[[], object], opening: Callable[[], object]
) -> Measures:
    """Before a rehearsal's hold, in sessions that are idle. `look` is a look for writers, `opening` one of the target
    that leaves no trace."""

    def flush_target() -> None:
        with target.pipeline():
            begin(target)
            target.execute("SELECT pg_logical_emit_message(true, 'statehub_plan', 'forecast')")
            target.execute("SET LOCAL synchronous_commit = local")
            target.execute("COMMIT")

    return Measures(
        look_ms=_shortest_ms(look),
        flush_source_ms=_shortest_ms(lambda: send_barrier(source)),
        flush_target_ms=_shortest_ms(flush_target),
        opening_ms=_shortest_ms(opening),
        session_ms=_shortest_ms(lambda: _begin_a_session(target_dsn)),
        sessions=len(other_sessions(source)),
    )


def measure_again(before: Measures, target_dsn: str, opening: Callable[[], object]) -> Measures:
    """The same under the hold, where no writer takes processor time, which is how a move finds it; but not what would
    keep writers waiting for long. No session to be had is no reason to end a rehearsal."""
    if before.opening_ms + before.session_ms > _AGAIN_MS:
        return before
    opening_ms = _shortest_ms(opening, _TIMES_AGAIN)
    try:
        session_ms = _shortest_ms(lambda: _begin_a_session(target_dsn), _TIMES_AGAIN)
    except StatehubError:
        session_ms = before.session_ms
    return before.model_copy(update={"opening_ms": opening_ms, "session_ms": session_ms})


def _begin_a_session(dsn: str) -> None:
    connect(dsn, purpose="forecast").close()


def _shortest_ms(work: Callable[[], object], attempts: int = _ATTEMPTS) -> float:
    """What it takes with little in its way."""
    took = []
    for _ in range(attempts):
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return round(min(took) * 1000, 3)


def forecast(measured: Measures, rehearsed_ms: float) -> Forecast:
    """A client that comes back has tried once too early. Each one takes processor time from the switch and from the
    others; more than 16 count as 16, for nothing was measured beyond."""
    sessions = min(measured.sessions, _MOST_SESSIONS)
    looks_ms, flushes_ms = _LOOKS * measured.look_ms, measured.flush_source_ms + measured.flush_target_ms
    tried_ms = _OPENINGS * measured.opening_ms + _SWITCH_PER_SESSION * sessions * measured.session_ms
    clients_ms = measured.session_ms * (_SESSIONS + _SESSIONS_PER_SESSION * sessions)
    return Forecast(
        rehearsed_ms=round(rehearsed_ms, 2),
        switch_ms=round(looks_ms + flushes_ms + tried_ms, 2),
        clients_ms=round(clients_ms, 2),
    )
