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
        self.began = time.monotonic()
        self.timeout_s = timeout_s
        """How long somebody waits for this look; it may itself make it longer."""
        self._lock = threading.Lock()
        self._enders: list[Callable[[], None]] = []
        self.stop = threading.Event()
        """Set once nobody waits for this look any more."""

    def remaining_s(self) -> float:
        """Seconds left, never below a millisecond: zero means "for ever" to most of what takes a time-out."""
        margin_s = min(_MARGIN_S, self.timeout_s * _MARGIN)
        return max(0.001, self.ends_at - margin_s - time.monotonic())

    @property
    def ends_at(self) -> float:
        """When nobody waits any more, by `time.monotonic()`."""
        return self.began + self.timeout_s

    def extend(self, by_s: float) -> None:
        """Ask for more time, having found out that there is that much to do and that it goes on."""
        self.timeout_s += by_s

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


def in_parallel(looks: Sequence[Callable[[Attempt], None]], timeouts_s: Sequence[float]) -> tuple[float | None, ...]:
    """Run every look in a thread of its own; for each, None when it ended in time, else the seconds it was given.

    Blocks for at most the longest time-out, unless a look extends its own. Looks that did not end are abandoned; what
    they still do or find is for them to keep to themselves. An exception that escapes from a look that ended is raised.
    """
    threads = [_Look(look, timeout_s) for look, timeout_s in zip(looks, timeouts_s, strict=True)]
    late: dict[_Look, float] = {}
    try:
        for thread in threads:
            thread.start()
        waiting = set(threads)
        while waiting:
            thread = min(waiting, key=lambda each: each.attempt.ends_at)
            if thread.ended.wait(max(0.0, thread.attempt.ends_at - time.monotonic())):
                waiting.remove(thread)
            elif time.monotonic() >= thread.attempt.ends_at:
                late[thread] = thread.attempt.timeout_s
                thread.attempt.abandon()
                waiting.remove(thread)
    finally:
        for thread in threads:  # after Ctrl-C too: nobody waits for any of them
            thread.attempt.abandon()
    for thread in threads:
        if thread not in late and thread.defect is not None:
            raise thread.defect
    return tuple(late.get(thread) for thread in threads)
