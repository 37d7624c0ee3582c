"""A child process that begins as this one is, and need not import everything again."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

_OWN = "statehub-plan"
_WAIT_S = 20.0
_DEFECT = 70


def forked(work: Callable[[], int]) -> int:
    """The exit status of `work` in a forked child; minus the signal that ended it.

    No thread of the tool is there when it is forked, not even one that is coming to its end: of the locks that it has
    then (OpenSSL's, the allocator's) the child would have a copy that nobody ever lets go."""
    deadline = time.monotonic() + _WAIT_S
    while left := _tasks() - _FROM_THE_FIRST - _of_the_test():
        assert time.monotonic() < deadline, (left, threading.enumerate())
        time.sleep(0.002)
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException:  # noqa: BLE001 - the child must never return into its parent's test
            traceback.print_exc()
        finally:
            os._exit(_DEFECT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _of_the_test() -> set[int | None]:
    return {one.native_id for one in threading.enumerate() if not one.name.startswith(_OWN)}


def _tasks() -> set[int | None]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


_FROM_THE_FIRST = _tasks()  # the test runner's, of which `threading` need not know
