"""A server that lies, in every way in which opa-python-client would let it pass, and in some more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.model.plan import Phase, Verdict
from statehub_plan.planner import Wish
from statehub_plan.policy import PolicyHost, bundle_info
from statehub_plan.policy.opa import ANSWER_CAP
from tests.unit.explorer import initial_worlds
from tests.unit.facts import NOW
from tests.unit.policy_story import BUNDLE_DIR, asked, planned

Lie = Callable[["Handler", dict[str, Any]], None]
PLAN = planned(next(initial_worlds()), Wish(replace_target=True))
BUNDLE = bundle_info(BUNDLE_DIR)
TIMEOUT_S = 5.0


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the server's lie."""

    server: Liar

    def do_POST(self) -> None:  # the name is http.server's
        """Read the question, tell the lie."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(self.path)
        self.server.lie(self, question["input"])

    def do_GET(self) -> None:
        """Only a followed redirect comes here; it finds what it wants."""
        self.server.asked.append(self.path)
        reply(self, b'{"result": {"evaluated": [], "findings": []}}')

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Liar(ThreadingHTTPServer):
    """Listens on a free port of loopback."""

    daemon_threads = True

    def __init__(self, lie: Lie) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lie = lie
        self.asked: list[str] = []
        self.told = threading.Event()


def reply(handler: Handler, body: bytes, *, status: int = 200, kind: str = "application/json", **headers: str) -> None:
    """One response."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    try:
        handler.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        handler.server.told.set()


def verdict(findings: list[Any], evaluated: list[str] | None = None, revision: str = BUNDLE.digest) -> bytes:
    """A body as OPA would write it."""
    return json.dumps(
        {
            "provenance": {"bundles": {"b": {"revision": revision}}},
            "result": {"evaluated": list(BUNDLE.packages) if evaluated is None else evaluated, "findings": findings},
        }
    ).encode()


def canary(question: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The finding of the canary about this question."""
    return {
        "code": "canary.sings",
        "level": "hard",
        "message": "denied",
        "step": None,
        "path": "schema",
        "evidence": {"nonce": question.get("nonce")},
        "remedy": "none",
        **changed,
    }


def says(body: bytes, **how: Any) -> Lie:
    """Always the same answer."""
    return lambda handler, question: reply(handler, body, **how)


def after_the_canary(body: bytes) -> Lie:
    """Sings properly, then answers the real question like this."""

    def lie(handler: Handler, question: dict[str, Any]) -> None:
        reply(handler, verdict([canary(question)]) if "nonce" in question else body)

    return lie


def hangs(handler: Handler, question: dict[str, Any]) -> None:
    """Accepts the question and says nothing until it is over."""
    handler.server.told.wait()


def drips(handler: Handler, question: dict[str, Any]) -> None:
    """A byte now and then: each one would start the client's own time-out anew."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        while not handler.server.told.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except (BrokenPipeError, ConnectionResetError):
        pass


def hangs_up(handler: Handler, question: dict[str, Any]) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"result": ')
    handler.close_connection = True


@contextmanager
def liar(lie: Lie) -> Iterator[Liar]:
    """A running server."""
    with Liar(lie) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.told.set()
            server.shutdown()
            thread.join()


def judged(server: Liar, timeout_s: float = TIMEOUT_S) -> Verdict:
    """What the host makes of the server's answers."""
    url = f"http://127.0.0.1:{server.server_address[1]}"
    with PolicyHost(BUNDLE_DIR, timeout_s=timeout_s, url=url, token="t") as host:
        return host.judge(asked(PLAN, host.bundle), phase=Phase.PLAN, now=NOW)


HTML = b"<html><body>Bad Gateway</body></html>"
LIES: list[tuple[str, str, Lie]] = [
    (
        "a 502 in HTML, which the client calls a JSON error",
        "host.http_status",
        says(HTML, status=502, kind="text/html"),
    ),
    (
        "a 500, which the client calls policy not found",
        "host.http_status",
        says(b'{"code": "internal_error"}', status=500),
    ),
    ("a 404", "host.http_status", says(b"{}", status=404)),
    ("a 204", "host.http_status", says(b"", status=204)),
    ("a redirect", "host.http_status", says(b"", status=302, Location="/elsewhere")),
    (
        "a redirect that keeps the method",
        "host.http_status",
        says(b"", status=307, Location="/v1/data/statehub/main/verdict"),
    ),
    ("nothing", "host.not_json", says(b"")),
    ("an undefined decision, which the client returns as {}", "host.undefined", says(b"{}")),
    ("a decision of null", "host.bundle_differs", says(b'{"result": null}')),
    ("an empty decision", "host.bundle_differs", says(b'{"result": {}}')),
    ("a list", "host.not_json", says(b"[]")),
    ("half of a JSON text", "host.not_json", says(b'{"result": {"evaluated": [')),
    ("text that is no UTF-8", "host.not_json", says(b'{"result": "\xff\xfe\xfa"}')),
    ("a bomb of brackets", "host.not_json", says(b"[" * 200_000)),
    ("JSON that calls itself HTML", "host.content_type", says(verdict([]), kind="text/html")),
    ("JSON of no declared type", "host.content_type", says(verdict([]), kind="")),
    ("a compressed body that nobody asked for", "host.content_type", says(verdict([]), Content_Encoding="gzip")),
    ("more than a verdict can be", "host.too_large", says(b" " * (ANSWER_CAP + 1))),
    ("a body shorter than promised", "host.unreachable", hangs_up),
    ("allow without revision", "host.bundle_differs", says(b'{"result": {"evaluated": ["canary"], "findings": []}}')),
    ("allow by another bundle", "host.bundle_differs", says(verdict([], revision="sha256:0"))),
    ("allow without a song", "host.canary_silent", says(verdict([]))),
    ("a remembered song", "host.canary_silent", says(verdict([canary({"nonce": "yesterday"})]))),
    ("a song that is not hard", "host.canary_silent", lambda h, q: reply(h, verdict([canary(q, level="advisory")]))),
    ("fewer policies", "host.evaluated_differs", after_the_canary(verdict([], evaluated=["canary"]))),
    ("no policies", "host.nothing_evaluated", after_the_canary(verdict([], evaluated=[]))),
    ("findings that are none", "host.malformed_finding", after_the_canary(verdict(["allow"]))),
    ("findings as an object", "host.malformed_verdict", after_the_canary(verdict({"a": 1}))),  # type: ignore[arg-type]
    ("an unknown level", "host.unknown_level", lambda h, q: reply(h, verdict([canary(q), canary(q, level="info")]))),
]


@pytest.mark.parametrize(("code", "lie"), [(code, lie) for _, code, lie in LIES], ids=[name for name, _, _ in LIES])
def test_no_answer_but_a_proper_verdict_allows(code: str, lie: Lie) -> None:
    """Whatever a server says instead, it is one hard finding that names what was wrong."""
    with liar(lie) as server:
        found = judged(server)
    assert not found.allowed
    assert code in [each.code for each in found.findings]
    assert all(each.level == "hard" and each.message and each.remedy for each in found.findings)


def test_a_server_that_plays_its_part_perfectly_is_believed() -> None:
    """The lies above fail for what they change, not for coming from a stand-in."""
    with liar(after_the_canary(verdict([]))) as server:
        assert judged(server).allowed
        assert ["/v1/data/statehub/main/verdict?provenance=true&strict-builtin-errors=true"] * 2 == server.asked


@pytest.mark.parametrize("lie", [hangs, drips])
def test_silence_ends_with_the_time_out(lie: Lie) -> None:
    """Also when a byte arrives now and then: the server would go on for ever."""
    with liar(lie) as server:
        found = judged(server, timeout_s=0.4)
    assert ["host.timed_out"] == [each.code for each in found.findings]


def test_a_failure_is_not_tried_again() -> None:
    """One question, one answer: retries would multiply the time-out and hide what is wrong."""
    with liar(says(b"{}", status=503)) as server:
        assert not judged(server).allowed
        assert 1 == len(server.asked)


def test_a_redirect_is_not_followed() -> None:
    """The question, and the token, go nowhere else."""
    with liar(says(b"", status=302, Location="/elsewhere")) as server:
        judged(server)
        assert not any("elsewhere" in path for path in server.asked)


def test_nobody_there_denies() -> None:
    """A closed port."""
    with liar(hangs) as server:
        address = server.server_address
    with PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S, url=f"http://127.0.0.1:{address[1]}") as host:
        found = host.judge(asked(PLAN, host.bundle), phase=Phase.PLAN, now=NOW)
    assert ["host.unreachable"] == [each.code for each in found.findings]


def test_proxies_and_netrc_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither sees the question, nor replaces the token."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    seen: list[str | None] = []

    def lie(handler: Handler, question: dict[str, Any]) -> None:
        seen.append(handler.headers["Authorization"])
        after_the_canary(verdict([]))(handler, question)

    with liar(lie) as server:
        assert judged(server).allowed
    assert ["Bearer t", "Bearer t"] == seen
