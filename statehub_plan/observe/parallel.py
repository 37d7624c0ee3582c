"""Look at many things at once, each bounded in time: what hangs is abandoned and ended, and never hides the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

_MARGIN = 0.1  # of the time-out, kept back so that a look can say by itself why it had no answer
_MARGIN_S = 0.25  # at most


class Attempt:
    """One look, as the code that looks sees it: how long it may take, and how it is ended from outside."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s - min(_MARGIN_S, timeout_s * _MARGIN)
        self._lock = threading.Lock()
        self._enders: list[Callable[[], None]] = []
        self.stop = threading.Event()
        """Set once nobody waits for this look any more."""

    def remaining_s(self) -> float:
        """Seconds left, never below a millisecond: zero means "for ever" to most of what takes a time-out."""
        return max(0.001, self._deadline - time.monotonic())

    def when_abandoned(self, end: Callable[[], None]) -> None:
        """Have `end` called, from another thread, when nobody waits any more; at once if that is so already.

        It must not block; shutting a socket down is what makes a blocked reader return.
        """
        with self._lock:
            if not self.stop.is_set():
                self._enders.append(end)
                return
        end()

    def abandon(self) -> None:
        """Tell the look that nobody waits any more, and end what it blocks on."""
        with self._lock:
            self.stop.set()
            enders, self._enders = self._enders, []
        for end in enders:
            end()


class _Look(threading.Thread):
    def __init__(self, look: Callable[[Attempt], None], timeout_s: float) -> None:
        # A daemon: a call that can't be ended (a name server that doesn't answer) must not keep the process alive.
        super().__init__(name="statehub-plan look", daemon=True)
        self._look = look
        self.attempt = Attempt(timeout_s)
        self.ended = threading.Event()
        self.defect: BaseException | None = None

    def run(self) -> None:
        try:
            self._look(self.attempt)
        except BaseException as error:  # noqa: BLE001 -- carried over to the thread that asked, and raised there
            self.defect = error
        finally:
            self.ended.set()


def in_parallel(looks: Sequence[Callable[[Attempt], None]], timeouts_s: Sequence[float]) -> tuple[bool, ...]:
    """Run every look in a thread of its own; for each, whether it ended within its time-out.

    Blocks for at most the longest time-out. Looks that did not end are abandoned; what they still do or find is for
    them to keep to themselves. An exception that escapes from a look that ended is raised here.
    """
    began = time.monotonic()
    threads = [_Look(look, timeout_s) for look, timeout_s in zip(looks, timeouts_s, strict=True)]
    try:
        for thread in threads:
            thread.start()
        for thread, timeout_s in sorted(zip(threads, timeouts_s, strict=True), key=lambda pair: pair[1]):
            if not thread.ended.wait(max(0.0, began + timeout_s - time.monotonic())):
                thread.attempt.abandon()
        ended = tuple(not thread.attempt.stop.is_set() for thread in threads)
    finally:
        for thread in threads:  # after Ctrl-C too: nobody waits for any of them
            thread.attempt.abandon()
    for thread, in_time in zip(threads, ended, strict=True):
        if in_time and thread.defect is not None:
            raise thread.defect
    return ended
