"""A client that keeps writing progress events through the access paths and keeps a ledger of what was acknowledged.

Run as `python -m statehub_plan.demo.ledger --ledger FILE --url URL --mcp-config FILE`. Every event has a token, sent as
its Idempotency-Key and again with each retry, so that a write whose outcome is unknown can be repeated. An event is in
the ledger only after the service said that it has it: whatever the ledger holds must never be lost.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import count, cycle
from pathlib import Path
from urllib.parse import urlsplit

from statehub_plan.demo.process import end_with_owner
from statehub_plan.demo.verdict import (
    Acknowledgement,
    Ledger,
    LedgerVerdict,
    Move,
    Opening,
    Unresolved,
    read_ledger,
    verify,
)
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen

__all__ = ["Ledger", "LedgerVerdict", "Move", "read_ledger", "verify"]

API_BASE_POINTER = "/mcpServers/state-hub/env/API_BASE"
SERVED_BY = "State-Hub-Endpoint"

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2
_FSYNC_S = 0.2


class Book:
    """The ledger file: appended and flushed line by line from any thread, fsynced by `sync`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._lock = threading.Lock()
        self.acknowledged = 0
        self.unresolved = 0
        self.problems: Counter[str] = Counter()

    def write(self, entry: Opening | Acknowledgement | Unresolved) -> None:
        """Append one line; once this returns, the operating system has it."""
        with self._lock:
            self._file.write(entry.model_dump_json().encode() + b"\n")
            self._file.flush()
            self.acknowledged += isinstance(entry, Acknowledgement)
            self.unresolved += isinstance(entry, Unresolved)

    def count_problem(self, reason: str) -> None:
        """Remember that an attempt failed."""
        with self._lock:
            self.problems[reason] += 1

    def sync(self) -> None:
        """Once this returns, the disk has it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()


class Settings(Frozen):
    """What all writers of one client have in common: `pause_s` between two writes of one writer, the access path looked
    at again each `reread_after` writes, `timeout_s` for one attempt, `grace_s` for what is under way at the end."""

    client: str
    work_plan_id: int
    pause_s: float
    reread_after: int
    timeout_s: float
    grace_s: float


class AttemptFailed(Exception):
    """One attempt was not acknowledged; whether the write is there is unknown."""


class Line:
    """One keep-alive connection to wherever the access path points."""

    def __init__(self, where: Callable[[], str], timeout_s: float) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._base: str | None = None
        self._conn: HTTPConnection | None = None

    def look_again(self) -> None:
        """Read the access path; hang up if it points elsewhere."""
        base = self._where().rstrip("/")
        if base != self._base:
            self.hang_up()
            self._base = base

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def post(self, path: str, body: bytes, key: str) -> str:
        """The name of the server that acknowledged it with 201; AttemptFailed otherwise."""
        try:
            response = self._send(path, body, key)
            answer = response.read()
        except (OSError, HTTPException, ValueError, KeyError) as error:
            self.hang_up()
            raise AttemptFailed(type(error).__name__) from error
        if response.status != 201:
            raise AttemptFailed(f"{response.status} {_reason(answer)}")
        return response.headers.get(SERVED_BY, "unknown")

    def _send(self, path: str, body: bytes, key: str) -> HTTPResponse:
        if self._base is None:
            self.look_again()
        url = urlsplit(self._base or "")
        if self._conn is None:
            self._conn = HTTPConnection(url.hostname or "", url.port, timeout=self._timeout_s)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        self._conn.request("POST", url.path + path, body, headers)
        return self._conn.getresponse()


class Writer(threading.Thread):
    """One thread that writes one event after the other, each until it is acknowledged."""

    def __init__(
        self, number: int, via: str, line: Line, book: Book, settings: Settings, stop: threading.Event
    ) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self._number = number
        self._via = via
        self._line = line
        self._book = book
        self._settings = settings
        self._stop_asked = stop

    def run(self) -> None:
        """Write until asked to stop; what is under way then gets `grace_s` more."""
        due = time.monotonic() + self._settings.pause_s * self._number
        for seq in count():
            if self._stop_asked.wait(max(0.0, due - time.monotonic())):
                break
            if seq % self._settings.reread_after == 0:
                self._look_again()
            self._write(seq)
            due = max(due + self._settings.pause_s, time.monotonic())  # no burst after a pause
        self._line.hang_up()

    def _write(self, seq: int) -> None:
        token = f"{self._settings.client}-{self._number}-{seq}"
        body = self._body(token, seq)
        give_up_at: float | None = None
        began = time.monotonic_ns()
        for attempt in count(1):
            try:
                server = self._line.post("/progress-events", body, token)
            except AttemptFailed as failure:
                self._book.count_problem(str(failure))
                if give_up_at is None and self._stop_asked.is_set():
                    give_up_at = time.monotonic() + self._settings.grace_s
                if give_up_at is not None and time.monotonic() > give_up_at:
                    self._book.write(Unresolved(token=token, problem=str(failure)))
                    return
                # Shorter than the Retry-After of whole seconds that the service sends: the gap is to be measured.
                time.sleep(min(_FIRST_PAUSE_S * attempt, _LONGEST_PAUSE_S))
                self._look_again()
            else:
                self._acknowledged(token, seq, server, attempt, began)
                return

    def _acknowledged(self, token: str, seq: int, server: str, attempts: int, began_ns: int) -> None:
        now_ns = time.monotonic_ns()
        self._book.write(
            Acknowledgement(
                token=token,
                writer=self._number,
                seq=seq,
                server=server,
                via=self._via,
                attempts=attempts,
                mono_ns=now_ns,
                wall_ns=time.time_ns(),
                waited_ms=round((now_ns - began_ns) / 1e6, 1),
            )
        )

    def _look_again(self) -> None:
        try:
            self._line.look_again()
        except (OSError, ValueError, KeyError) as error:
            self._book.count_problem(f"access path: {type(error).__name__}")

    def _body(self, token: str, seq: int) -> bytes:
        event = {
            "work_plan_id": self._settings.work_plan_id,
            "source": source_of(self._settings.client),
            "kind": "progress",
            "summary": f"{self._via} {seq}",
            "detail": {"token": token, "writer": self._number, "seq": seq},
        }
        return json.dumps(event).encode()


def source_of(client: str) -> str:
    """What a client's events carry as their source."""
    return f"ledger:{client}"


def api_base(config: Path, pointer: str = API_BASE_POINTER) -> str:
    """The URL that an MCP client's configuration points to; ValueError or KeyError where it holds none."""
    value = json.loads(config.read_text(encoding="utf-8"))
    for part in pointer.removeprefix("/").split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    if not isinstance(value, str):
        raise ValueError(f"{pointer} of {config} is no text")
    return value


def run_client(
    book: Book, paths: dict[str, Callable[[], str]], settings: Settings, writers: int, stop: threading.Event
) -> None:
    """Write through the paths in turn, with `writers` threads, until `stop` is set and what was under way has ended."""
    book.write(Opening(source=source_of(settings.client)))
    threads = [
        Writer(number, via, Line(where, settings.timeout_s), book, settings, stop)
        for number, (via, where) in zip(range(writers), cycle(paths.items()), strict=False)
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(_FSYNC_S):
        book.sync()
    for thread in threads:
        thread.join()


def main() -> int:
    """Write until SIGTERM or SIGINT, then print the numbers as one line of JSON; 1 if any write is unresolved."""
    arguments = _parser().parse_args()
    paths: dict[str, Callable[[], str]] = {}
    if arguments.url:
        paths["bridge"] = lambda: str(arguments.url)
    if arguments.mcp_config:
        paths["mcp"] = lambda: api_base(arguments.mcp_config, arguments.pointer)
    if not paths:
        raise StatehubError(code="no-access-path", what="nowhere to write to", hint="give --url, --mcp-config or both")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.with_owner:
        end_with_owner()
    settings = Settings(
        client=arguments.client or secrets.token_hex(4),
        work_plan_id=arguments.work_plan,
        pause_s=arguments.writers / arguments.rate,
        reread_after=arguments.reread_after,
        timeout_s=arguments.timeout,
        grace_s=arguments.grace,
    )
    book = Book(arguments.ledger)
    run_client(book, paths, settings, arguments.writers, stop)
    book.close()
    print(json.dumps({"acknowledged": book.acknowledged, "unresolved": book.unresolved, "problems": book.problems}))
    return 1 if book.unresolved else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m statehub_plan.demo.ledger", description=main.__doc__)
    parser.add_argument("--ledger", type=Path, required=True, help="file to append to")
    parser.add_argument("--url", help="write to this URL (a tunnel's local end)")
    parser.add_argument("--mcp-config", type=Path, help="write to the API_BASE that this MCP configuration holds")
    parser.add_argument("--pointer", default=API_BASE_POINTER, help="where in it (RFC 6901)")
    parser.add_argument("--client", help="a name no other client has; default: a random one")
    parser.add_argument("--work-plan", type=int, default=1, help="whose progress is reported")
    parser.add_argument("--writers", type=int, default=4, help="threads, shared out over the access paths")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second, all writers together")
    parser.add_argument("--reread-after", type=int, default=20, help="look where to write after so many events")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for one attempt")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds to finish what is under way at the end")
    parser.add_argument("--with-owner", action="store_true", help="end when standard input closes")
    return parser


def _reason(answer: bytes) -> str:
    try:
        document = json.loads(answer)
    except ValueError:
        return ""
    return str(document.get("error", "")) if isinstance(document, dict) else ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StatehubError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
