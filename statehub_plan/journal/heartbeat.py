"""A thread that keeps saying that a lease's holder is alive, and notices when the lease is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from statehub_plan.errors import StatehubError
from statehub_plan.journal.protocol import Journal, LeaseLost
from statehub_plan.model.record import Lease


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _awake_s() -> float:
    """Seconds that, where the system can, also pass while the machine sleeps (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Heartbeat:
    """Renews `lease` every third of its time to live while the context lasts. Does not release it at the end.

    A heartbeat that can't be written (disk full, a busy file) is tried again: what keeps the lease is the lock. Only
    when none succeeded for a whole time to live does `check` refuse.
    """

    def __init__(self, journal: Journal, lease: Lease, *, now: Callable[[], datetime] = _utc_now) -> None:
        """Nothing starts before the context is entered."""
        self._journal = journal
        self._lease = lease
        self._now = now
        self._ttl_s = (lease.expires_at - lease.heartbeat_at).total_seconds()
        self._confirmed_s = _awake_s()
        self._lost: LeaseLost | None = None
        self._stop = threading.Event()
        self._beating = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat {lease.service}", daemon=True)

    @property
    def lease(self) -> Lease:
        """The lease as last renewed."""
        return self._lease

    def __enter__(self) -> Self:
        """Beating."""
        self._confirmed_s = _awake_s()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the thread; waits for a heartbeat that is being written."""
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """LeaseLost when the lease is known to be gone; costs nothing in the usual case, so call it often.

        After a pause longer than the time to live (the process was stopped, the machine slept) it asks the journal
        first, which may take as long as the journal does and raise what the journal raises.
        """
        if self._lost is None and not self._thread.is_alive():
            raise LeaseLost(self._lease, "its heartbeat is not running")
        if self._lost is None and _awake_s() - self._confirmed_s > self._ttl_s:
            self._beat()
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while self._lost is None and not self._stop.wait(self._ttl_s / 3):
            try:
                self._beat()
            except LeaseLost:
                return
            except StatehubError:
                continue  # `check` asks again, and raises, once this has lasted too long

    def _beat(self) -> None:
        with self._beating:
            try:
                self._lease = self._journal.heartbeat(self._lease, self._now())
            except LeaseLost as lost:
                self._lost = lost
                raise
            self._confirmed_s = _awake_s()
