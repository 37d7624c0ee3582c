"""Worlds to look at: plans about real databases, web servers that lie, and peers that say nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from statehub_plan.model.facts import Fact, Observation
from statehub_plan.model.spec import Api, CutoverPlan, Endpoint
from tests.integration.served_database import Served, eventually

LOOK = "statehub-plan look"


def now() -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC)


def endpoint(directory: Path, name: str, dsn: str, *, app_dsn: str | None = None, **more: Any) -> dict[str, Any]:
    """An endpoint of a plan in `directory`, its DSNs in files there."""
    (directory / f"{name}.dsn").write_text(dsn)
    database: dict[str, Any] = {"dsn": {"file": f"{name}.dsn"}}
    if app_dsn is not None:
        (directory / f"{name}-app.dsn").write_text(app_dsn)
        database["appDsn"] = {"file": f"{name}-app.dsn"}
    return {"title": name, "database": database, **more}


def served_endpoint(directory: Path, name: str, served: Served, **more: Any) -> dict[str, Any]:
    """An endpoint of a served database, with the application's role and DSN."""
    return endpoint(
        directory, name, served.tool_dsn, app_dsn=served.app_dsn, **({"appRoles": [served.app_role]} | more)
    )


def plan_of(old: dict[str, Any], new: dict[str, Any], **more: Any) -> CutoverPlan:
    """A plan that moves the primary from `old` to `new`."""
    return CutoverPlan.model_validate(
        {
            "apiVersion": "statehub-plan/v1",
            "kind": "CutoverPlan",
            "metadata": {"name": "test", "title": "Test", "service": "test"},
            "spec": {
                "endpoints": {"old": old, "new": new},
                "desired": {"primary": "new", "fallback": {"endpoint": "old", "mode": "frozen"}},
                "transfer": {"method": "dump"},
                "backup": {"directory": "backups"},
                **more,
            },
        }
    )


def as_endpoint(declared: dict[str, Any]) -> Endpoint:
    """The model of a declared endpoint."""
    return Endpoint.model_validate(declared)


def api_of(url: str, **more: Any) -> Api:
    """An API with everything on `url`."""
    return TypeAdapter(Api).validate_python({"baseUrl": url, **more})


def fact(observation: Observation, fact_id: str) -> Fact:
    """The fact with this id; a test that asks for one that nobody observed is wrong."""
    found = observation.get(fact_id)
    assert found is not None, fact_id
    return found


def no_look_is_left() -> bool:
    """Whether every abandoned look has ended by itself, as it must once it was hung up on."""
    return eventually(lambda: not any(thread.name == LOOK for thread in threading.enumerate()))


@contextlib.contextmanager
def mute() -> Iterator[int]:
    """The port of a peer that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def closed_port() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def falling_silent(port: int, after: bytes) -> Iterator[int]:
    """The port of a proxy to `port` that forwards until the client has sent `after`, and then swallows every answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    silent, sockets, threads = threading.Event(), [listener], []

    def forward(source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_client and after in data:
                    silent.set()
                if is_client or not silent.is_set():
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                sockets.extend((client, server))
                for arguments in ((client, server, True), (server, client, False)):
                    threads.append(threading.Thread(target=forward, args=arguments))
                    threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join()


class _Liar(BaseHTTPRequestHandler):
    """Answers by path; `/drip` and `/mute` until the server is told to end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        bodies = {
            "/ok": b'{"status": "ok", "n": 1, "flag": true, "deep": {"a/b": [1, 2]}}',
            "/failing": b'{"status": "failing", "password": "hunter2"}',
            "/html": b"<html>down for maintenance</html>",
            "/bomb": b"[" * 100_000,
            "/big": b'"' + b"x" * (2 << 20) + b'"',
        }
        if self.path in bodies:
            self._answer(200, bodies[self.path])
        elif self.path == "/500":
            self._answer(500, b'{"status": "ok"}')
        elif self.path == "/away":
            self._answer(302, b"", {"Location": "/ok"})
        elif self.path == "/short":
            self._answer(200, b'{"status": "ok"}', {"Content-Length": "1000"})
        elif self.path == "/drip":
            self._answer(200, b"", {"Content-Length": "1000000"})
            while not self.server.ending.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b" ")
        elif self.path == "/mute":
            self.server.ending.wait()  # type: ignore[attr-defined]
        else:
            self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def liar() -> Iterator[str]:
    """The base URL of a web server that answers truthfully at /ok and otherwise as its paths say."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Liar)
    server.ending = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.ending.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        server.server_close()


def fake_kubectl(directory: Path, answers: dict[str, Any], *, before: str = "") -> Path:
    """A directory for PATH with a `kubectl` that prints stored JSON by resource, and refuses what it doesn't know.

    There is no cluster here; what is stored is what `kubectl get RESOURCE -o json` of 1.32 prints.
    """
    bin_dir = directory / "bin"
    bin_dir.mkdir()
    for resource, document in answers.items():
        (bin_dir / f"{resource.replace('/', '_')}.json").write_text(json.dumps(document))
    script = bin_dir / "kubectl"
    script.write_text(
        "#!/bin/sh\n" + before + f'\necho "$@" >> {bin_dir}/calls\n'
        'while [ "$1" != get ]; do shift; done\n'
        f'file={bin_dir}/"$(echo "$2" | tr / _)".json\n'
        'if [ -e "$file" ]; then cat "$file"; else\n'
        'echo "Error from server (NotFound): $2 not found, token=hunter2" >&2; exit 1; fi\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    return bin_dir
