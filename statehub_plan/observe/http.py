"""One GET, bounded in time and size: no redirects followed, no proxies, no cookies, nothing kept."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pydantic import JsonValue

from statehub_plan import __version__
from statehub_plan.errors import StatehubError
from statehub_plan.observe.parallel import Attempt
from statehub_plan.redact import redact

BODY_CAP = 1 << 20

_HEADERS = {"Accept": "application/json", "User-Agent": f"statehub-plan/{__version__}", "Connection": "close"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever the status; `body` is cut off at the cap."""

    status: int
    body: bytes
    truncated: bool
    location: str | None
    latency_ms: int

    @property
    def successful(self) -> bool:
        """2xx, and nothing else."""
        return 200 <= self.status <= 299

    def json(self) -> JsonValue:
        """The body as JSON; ValueError says in a few words why it is none."""
        if self.truncated:
            raise ValueError(f"the body is larger than {BODY_CAP >> 20} MiB")
        try:
            value: JsonValue = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {self.body[:40].decode(errors='replace')!r}") from error
        return value


def get(url: str, *, timeout_s: float, attempt: Attempt | None = None) -> Answer:
    """GET `url` once. Blocks for at most `timeout_s`, however slowly bytes drip, plus what resolving the name takes.

    StatehubError `http-unanswered` when no complete answer came.
    """
    began = time.monotonic()
    expired = threading.Event()
    try:
        parts = urlsplit(url)
        with closing(_connected(parts, timeout_s)) as connection:
            left_s = began + timeout_s - time.monotonic()
            with _shut_after(connection.sock, left_s, expired, attempt):
                answer = _exchange(connection, parts, began)
        if expired.is_set():
            raise TimeoutError
        return answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StatehubError(
            code="http-unanswered",
            what=redact(f"GET {url}: {_why(error, timeout_s, expired.is_set())}"),
            hint="check that the service runs and that this address is reachable from here",
        ) from error


def _connected(parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http:// or https:// address")
    connection = (
        http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    )
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _exchange(connection: http.client.HTTPConnection, parts: SplitResult, began: float) -> Answer:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", path, headers=_HEADERS)
    with connection.getresponse() as response:
        body = response.read(BODY_CAP + 1)
        truncated = len(body) > BODY_CAP
        if response.length and not truncated:  # what Content-Length promised has not all come
            raise http.client.IncompleteRead(b"", response.length)
        return Answer(
            status=response.status,
            body=body[:BODY_CAP],
            truncated=truncated,
            location=response.headers.get("Location"),
            latency_ms=round((time.monotonic() - began) * 1000),
        )


@contextmanager
def _shut_after(
    sock: socket.socket, left_s: float, expired: threading.Event, attempt: Attempt | None
) -> Iterator[None]:
    """Shut the socket down after `left_s`: a socket's own time-out begins anew with every byte that drips in."""

    def shut() -> None:
        expired.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, left_s), shut)
    timer.daemon = True
    timer.start()
    if attempt is not None:
        attempt.when_abandoned(shut)
    try:
        yield
    finally:
        timer.cancel()


def _why(error: Exception, timeout_s: float, expired: bool) -> str:
    if expired or isinstance(error, TimeoutError):
        return f"no complete answer within {timeout_s:.3g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, socket.gaierror):
        return f"its host is not known: {error.strerror}"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer broke off"
    if isinstance(error, http.client.HTTPException) and not str(error):
        return "what answered does not speak HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
