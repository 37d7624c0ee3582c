"""APIs, access paths and platforms as they are: web servers that lie, files that moved, a kubectl that is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Fact, FactStatus
from statehub_plan.model.spec import AccessPath, Platform
from statehub_plan.observe import http
from statehub_plan.observe.access import access_source
from statehub_plan.observe.api import api_source
from statehub_plan.observe.gather import Source, gather
from statehub_plan.observe.platform import CLUSTER_RESOURCE, platform_source
from tests.integration.observing import api_of, closed_port, fake_kubectl, liar, mute, no_look_is_left, now

VALUES = {"old": "http://old:1", "new": "http://new:2"}

CLUSTER: dict[str, Any] = {
    "kind": "Cluster",
    "metadata": {"name": "state-hub-db"},
    "spec": {"instances": 3, "imageName": "ghcr.io/cloudnative-pg/postgresql:17.5"},
    "status": {"phase": "Cluster in healthy state", "readyInstances": 3, "currentPrimary": "state-hub-db-1"},
}
DEPLOYMENT: dict[str, Any] = {
    "kind": "Deployment",
    "spec": {
        "replicas": 1,
        "template": {"spec": {"containers": [{"name": "api", "image": "registry/state-hub@sha256:1"}]}},
    },
    "status": {"updatedReplicas": 1},
}


@pytest.fixture
def url() -> Iterator[str]:
    """A web server that lies by path."""
    with liar() as base:
        yield base


def _one(source: Source, timeout_s: float = 5.0) -> Fact:
    (found,) = gather([source], now=now, timeout_s=timeout_s)
    return found


def _health(url: str, path: str, pointer: str | None = None, healthy: Any = "ok", **more: Any) -> Fact:
    api = api_of(url, healthPath=path, healthPointer=pointer, healthy=healthy, **more)
    return _one(api_source("db", api), timeout_s=1.0)


def _access(directory: Path, fields: dict[str, Any]) -> Fact:
    path: AccessPath = TypeAdapter(AccessPath).validate_python({"name": "clients", "values": VALUES} | fields)
    return _one(access_source(path, directory))


@pytest.mark.parametrize(
    ("path", "pointer", "healthy", "expected"),
    [
        ("/ok", None, "ok", None),
        ("/ok", "/status", "ok", None),
        ("/ok", "/flag", True, None),
        ("/ok", "/n", 1.0, None),
        ("/ok", "/deep/a~1b/1", 2, None),
        ("/ok", "/n", True, "HTTP 200, but /n is 1 instead of true"),
        ("/ok", "/nope", "ok", "HTTP 200, but /nope: there is no member 'nope'"),
        ("/failing", "/status", "ok", 'HTTP 200, but /status is "failing" instead of "ok"'),
        ("/failing", "", "ok", "***"),
        ("/500", "/status", "ok", "HTTP 500"),
        ("/404", None, "ok", "HTTP 404"),
        ("/away", None, "ok", "HTTP 302 to /ok, which is not followed"),
        ("/html", "/status", "ok", "HTTP 200, but the body is not JSON: '<html>down for maintenance</html>'"),
        ("/bomb", "/status", "ok", "the body is not JSON"),
        ("/big", "", "ok", "HTTP 200, but the body is larger than 1 MiB"),
    ],
)
def test_health_is_what_the_body_says(
    path: str, pointer: str | None, healthy: Any, expected: str | None, url: str
) -> None:
    """2xx is not enough where a pointer is given; all else is unhealthy, with what was wrong and without secrets."""
    fact = _health(url, path, pointer, healthy)
    assert FactStatus.KNOWN is fact.status
    assert isinstance(fact.value, dict)
    assert (expected is None) == fact.value["healthy"]
    assert (expected or "HTTP 200") in str(fact.value["detail"])
    assert "hunter2" not in str(fact.value)
    assert isinstance(fact.value["latency_ms"], int)
    assert f"GET {url}{path}" == fact.how


@pytest.mark.parametrize("path", ["/mute", "/drip"])
def test_an_api_that_hangs_or_drips_is_unknown(path: str, url: str) -> None:
    """A byte now and then doesn't keep the look waiting: the time-out is for the whole answer."""
    fact = _health(url, path, timeout="300ms")
    assert f"GET {url}{path}: no complete answer within 0.3 s" in str(fact.reason)
    assert no_look_is_left()


def test_an_api_that_never_comes_to_speak_is_unknown() -> None:
    """Refused, silent after accepting, unknown host, no HTTP at all, an answer that breaks off: each says which."""
    with liar() as url, mute() as silent:
        for address, expected in (
            (f"http://127.0.0.1:{closed_port()}", "refused"),
            (f"http://127.0.0.1:{silent}", "no complete answer within"),
            (f"https://127.0.0.1:{silent}", "no complete answer within"),
            ("http://no-such-host.invalid", "its host is not known"),
            (url.replace("http", "https"), "SSL"),
        ):
            fact = _health(address, "/ok", timeout="300ms")
            assert expected in str(fact.reason)
            assert "check that the service runs" in str(fact.reason)
        assert "the answer broke off" in str(_health(url, "/short").reason)


def test_a_peer_that_speaks_something_else() -> None:
    """An SSH server behind a mistaken port is no healthy API."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                client.recv(1000)

        greeter = threading.Thread(target=greet)
        greeter.start()
        fact = _health(f"http://127.0.0.1:{listener.getsockname()[1]}", "/ok")
        greeter.join()
    assert FactStatus.UNKNOWN is fact.status


@pytest.mark.parametrize("url", ["ftp://x/", "http:///x", "http://[::1", "http://x:99999/", "http://exa mple/ok"])
def test_addresses_that_are_none(url: str) -> None:
    """A bad address is a refusal with the reason, never a crash."""
    with pytest.raises(StatehubError) as refused:
        http.get(url, timeout_s=0.2)
    assert "http-unanswered" == refused.value.code


def test_a_body_is_never_read_beyond_the_cap(url: str) -> None:
    """Memory does not depend on what the other side sends."""
    answer = http.get(f"{url}/big", timeout_s=5.0)
    assert (http.BODY_CAP, True) == (len(answer.body), answer.truncated)


def test_where_clients_point_and_whether_it_answers(url: str, tmp_path: Path) -> None:
    """The value, the endpoint that the plan knows by it, and the probe's own answer."""
    (tmp_path / "clients.env").write_text("API=http://new:2\n")
    env = {"kind": "env-file", "file": "clients.env", "variable": "API"}
    unprobed = {"value": "http://new:2", "endpoint": "new", "answers": None, "detail": None}
    assert unprobed == _access(tmp_path, env).value
    for path, expected in (("/ok", True), ("/500", False)):
        fact = _access(tmp_path, env | {"probeUrl": url + path})
        assert isinstance(fact.value, dict)
        assert expected is fact.value["answers"]
        assert f"GET {url}{path}: HTTP" in str(fact.value["detail"])
    dead = _access(tmp_path, env | {"probeUrl": f"http://127.0.0.1:{closed_port()}/"})
    assert isinstance(dead.value, dict)
    assert (False, "new") == (dead.value["answers"], dead.value["endpoint"])


def test_a_value_that_the_plan_does_not_know_is_no_endpoint(tmp_path: Path) -> None:
    """Clients pointed elsewhere by hand are nobody's; a password in the value does not come along."""
    (tmp_path / "mcp.json").write_text('{"api": "http://me:hunter2@elsewhere"}')
    fact = _access(tmp_path, {"kind": "json-pointer", "file": "mcp.json", "pointer": "/api"})
    expected = {"value": "http://me:***@elsewhere", "endpoint": None, "answers": None}
    assert expected | {"detail": "the plan knows no endpoint by this value"} == fact.value
    assert "mcp.json: /api" == fact.how


def test_an_access_path_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    """Missing file, missing place, failing command: unknown with the remedy, which is what makes a cutover refuse."""
    (tmp_path / "t.yaml").write_text("tunnels: {}\n")
    for fields, expected in (
        ({"kind": "env-file", "file": "nope.env", "variable": "API"}, "nope.env can't be read: No such file"),
        ({"kind": "bridge", "file": "t.yaml", "tunnel": "hub"}, "t.yaml:1:10: there is no hub in tunnels"),
        ({"kind": "command", "get": ["false"], "set": ["true", "{value}"]}, "false (get): exit status 1"),
    ):
        fact = _access(tmp_path, fields)
        assert FactStatus.UNKNOWN is fact.status
        assert expected in str(fact.reason)


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    """Nobody waits for it, and nothing of it goes on in the background."""
    script = "echo $$ > pid; sleep 60 & wait"
    path = TypeAdapter(AccessPath).validate_python(
        {"name": "c", "values": VALUES, "kind": "command", "get": ["sh", "-c", script], "set": ["true", "{value}"]}
    )
    fact = _one(access_source(path, tmp_path), timeout_s=0.5)
    assert FactStatus.UNKNOWN is fact.status
    assert no_look_is_left()
    group = (tmp_path / "pid").read_text().strip()
    assert not [stat for stat in Path("/proc").glob("[0-9]*/stat") if f" {group} " in _group_of(stat)]


def _group_of(stat: Path) -> str:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f" {fields[2]} " if fields[0] != "Z" else ""


def test_a_platform_is_what_kubectl_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cluster and deployment by kubectl's JSON; what Kubernetes leaves out is null; context and namespace go along."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    bin_dir = fake_kubectl(
        tmp_path, {f"{CLUSTER_RESOURCE}/state-hub-db": CLUSTER, "deployments.apps/state-hub": DEPLOYMENT}
    )
    platform = Platform(namespace="hub", context="prod", cluster="state-hub-db", deployment="state-hub")
    fact = _one(platform_source("db", platform, tmp_path))
    assert {
        "namespace": "hub",
        "cluster": {
            "phase": "Cluster in healthy state",
            "instances": 3,
            "ready_instances": 3,
            "primary": "state-hub-db-1",
            "image": "ghcr.io/cloudnative-pg/postgresql:17.5",
        },
        "deployment": {
            "replicas": 1,
            "ready_replicas": None,
            "updated_replicas": 1,
            "image": "registry/state-hub@sha256:1",
        },
    } == fact.value
    expected = f"--context prod --namespace hub get {CLUSTER_RESOURCE}/state-hub-db -o json"
    assert expected == (bin_dir / "calls").read_text().splitlines()[0]


def test_a_platform_that_cannot_be_asked_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubectl: how to get it; a refusal or nonsense of kubectl's: its own last words, without secrets."""
    platform = Platform(namespace="hub", deployment="state-hub")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install it (https://kubernetes.io" in str(_one(platform_source("db", platform, tmp_path)).reason)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    fake_kubectl(tmp_path, {})
    reason = str(_one(platform_source("db", platform, tmp_path)).reason)
    assert "NotFound" in reason
    assert "hunter2" not in reason
    (tmp_path / "bin" / "kubectl").write_text("#!/bin/sh\necho '<html>'\n")
    assert "did not print JSON" in str(_one(platform_source("db", platform, tmp_path)).reason)


def test_a_kubectl_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that doesn't answer makes its own fact unknown and nothing else."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    fake_kubectl(tmp_path, {}, before="sleep 60")
    fact = _one(platform_source("db", Platform(namespace="hub"), tmp_path), timeout_s=0.5)
    assert FactStatus.UNKNOWN is fact.status
    assert no_look_is_left()
