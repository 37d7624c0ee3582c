"""Writers that commit one row after the other, note each acknowledgement, and go on wherever writes are accepted.

Run as `python -m benchmarks.ledger_writers FILE RATE THREADS` with the DSNs of both sides in LEDGER_DSNS (a line each);
ends on SIGTERM. FILE gets a line `writer seq side monotonic_ns` per acknowledged commit.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

import psycopg

_RETRY_S = 0.01


class Writer(threading.Thread):
    """One connection, one row at a time; after an error the next side is tried."""

    def __init__(self, number: int, dsns: list[str], pause_s: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.lines: list[str] = []
        self._dsns = dsns
        self._side = 0
        self._pause_s = pause_s
        self._stop_asked = stop
        self._connection: psycopg.Connection | None = None

    def run(self) -> None:
        """Until asked to stop."""
        due = time.monotonic() + self._pause_s * self.number
        for seq in itertools.count():
            if self._stop_asked.wait(max(0.0, due - time.monotonic())):
                break
            self._write(seq)
            due = max(due + self._pause_s, time.monotonic() - 10 * self._pause_s)

    def _write(self, seq: int) -> None:
        while not self._stop_asked.is_set():
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(self._dsns[self._side], autocommit=True, connect_timeout=5)
                self._connection.execute(
                    "INSERT INTO hub.ledger (writer, seq) VALUES (%s, %s) ON CONFLICT DO NOTHING", (self.number, seq)
                )
            except psycopg.Error:
                self._hang_up()
                self._side = 1 - self._side
                time.sleep(_RETRY_S)
            else:
                self.lines.append(f"{self.number} {seq} {self._side} {time.monotonic_ns()}\n")
                return

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main() -> None:
    """Writes until SIGTERM."""
    path, rate, threads = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    writers = [Writer(n, os.environ["LEDGER_DSNS"].splitlines(), threads / rate, stop) for n in range(threads)]
    for writer in writers:
        writer.start()
    with open(path, "w", encoding="ascii") as ledger:
        while not stop.wait(0.2):
            for writer in writers:
                taken, writer.lines = writer.lines, []
                ledger.writelines(taken)
            ledger.flush()
        for writer in writers:
            writer.join()
            ledger.writelines(writer.lines)


if __name__ == "__main__":
    main()
