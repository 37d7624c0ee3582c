"""Makes the demo's bridge read its file again and waits until it has; standard library only, so that it starts at once.

Run as `python -I -S reload.py STATUS_FILE`: clients wait for this while their access path is being moved.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

_TIMEOUT_S = 10.0
_POLL_S = 0.002


def main(status_file: str) -> int:
    """0 once the running bridge has told its targets anew, 1 when nobody answers."""
    try:
        before = _stamp(status_file)
        with open(status_file, encoding="utf-8") as status:
            os.kill(json.load(status)["pid"], signal.SIGHUP)
        deadline = time.monotonic() + _TIMEOUT_S
        while _stamp(status_file) == before:
            if time.monotonic() > deadline:
                print(f"the bridge did not reload within {_TIMEOUT_S:.0f} s", file=sys.stderr)
                return 1
            time.sleep(_POLL_S)
    except (OSError, KeyError, TypeError, ValueError) as error:
        print(f"no bridge answers: {error}", file=sys.stderr)
        return 1
    return 0


def _stamp(file: str) -> tuple[int, int]:
    # The bridge may have seen by itself that its file has changed, too: the third status can be where the first was.
    found = os.stat(file)
    return found.st_ino, found.st_mtime_ns


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
