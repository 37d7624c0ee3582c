"""A process with a journal and perhaps a lease, told what to do line by line: `python journal_actor.py URL SERVICE`.

Answers each command with one JSON line: {"ok": …} or {"error": code, "text": …, "exit": status}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

from statehub_plan.errors import StatehubError
from statehub_plan.journal import open_journal
from statehub_plan.model.record import Lease, RecordKind


class Actor:
    """One journal, the lease it last got, and a method per command."""

    def __init__(self, url: str, service: str) -> None:
        """Opens the journal."""
        self.journal = open_journal(url)
        self.service = service
        self.lease: Lease | None = None

    def acquire(self) -> int:
        """The epoch of a new lease that says it lives for an hour."""
        self.lease = self.journal.acquire(self.service, f"actor-{os.getpid()}", ttl_s=3600, now=datetime.now(UTC))
        return self.lease.epoch

    def append(self) -> int:
        """The sequence number of a new record under the lease."""
        record = self.journal.append(
            self.lease,
            service=self.service,
            plan_name="plan",
            run="run",
            kind=RecordKind.STEP_INTENT,
            step="copy",
            payload={"pid": os.getpid()},
            at=datetime.now(UTC),
        )
        return record.seq

    def know(self) -> int:
        """The sequence number of a new record without a lease."""
        record = self.journal.append(
            None,
            service=self.service,
            plan_name="plan",
            run="run",
            kind=RecordKind.FACT,
            step=None,
            payload={"pid": os.getpid()},
            at=datetime.now(UTC),
        )
        return record.seq

    def heartbeat(self) -> int:
        """The epoch of the renewed lease."""
        assert self.lease is not None
        return self.journal.heartbeat(self.lease, datetime.now(UTC)).epoch

    def flood(self) -> int:
        """Never: one record after the other, each acknowledged by its number."""
        while True:
            print(json.dumps({"ok": self.append()}), flush=True)

    def fork(self) -> int:
        """The process id of a child that was forked, without exec, and lives on for a minute."""
        child = os.fork()
        if child == 0:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            time.sleep(60)
            os._exit(0)
        return child

    def spawn(self) -> int:
        """The process id of another program that lives on for a minute."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(["sleep", "60"], stdin=quiet, stdout=quiet, stderr=quiet).pid


def main() -> None:
    """Serve commands until stdin ends."""
    actor = Actor(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            answer = {"ok": getattr(actor, line.strip())()}
        except StatehubError as error:
            answer = {"error": error.code, "text": str(error), "exit": int(error.exit_status)}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # as a process that was killed: without giving anything back


if __name__ == "__main__":
    main()
