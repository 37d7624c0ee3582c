"""Fills a target, or stops following, in a process of its own, and dies at one exact place: `fill_actor.py JSON`.

The place is a function of the tool by name, its nth call, before or after its work. Nothing is patched: the
interpreter's profiling hook watches calls go by.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.postgres.stopping import stop_following


def die_at(function: str, event: str, nth: int) -> None:
    """SIGKILL for this process at the nth `call` of, or `return` from, that function in any thread."""
    seen = [0]
    lock = threading.Lock()

    def watch(frame: FrameType, what: str, argument: Any) -> None:
        if what != event or frame.f_code.co_name != function or "statehub_plan" not in frame.f_code.co_filename:
            return
        with lock:
            seen[0] += 1
            if seen[0] == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    die_at(*order["die"])
    if "fill" in order:
        fill_and_follow(**order["fill"])
    else:
        stop_following(**order["stop"])
