"""Evidence probes of every kind, against real servers, commands and files: passed, failed, or honestly unknown."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.spec import CutoverPlan, Task
from statehub_plan.observe import observe_evidence
from tests.integration.observing import endpoint, fake_kubectl, liar, mute, no_look_is_left, now, plan_of
from tests.integration.served_database import Served, serve

PASSED, FAILED, UNKNOWN = EvidenceStatus.PASSED, EvidenceStatus.FAILED, EvidenceStatus.UNKNOWN
DEPLOYMENT = {"status": {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}


@pytest.fixture
def url() -> Iterator[str]:
    """A web server that lies by path."""
    with liar() as base:
        yield base


@pytest.fixture
def served(source_db: str) -> Served:
    """A service's database."""
    return serve(source_db)


def _probe(directory: Path, plan: CutoverPlan | None = None, **fields: Any) -> Evidence:
    task = TypeAdapter(Task).validate_python({"id": "T01", "title": "T", "probes": [{"name": "probe"} | fields]})
    (evidence,) = observe_evidence([task], plan, directory, now)
    assert ("T01", "probe") == (evidence.task, evidence.probe)
    return evidence


def _plan(directory: Path, served: Served, **more: Any) -> CutoverPlan:
    declared = endpoint(directory, "db", served.tool_dsn, **more)
    return plan_of(declared, declared)


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"path": "/ok"}, PASSED, "HTTP 200"),
        ({"path": "/ok", "pointer": "/flag", "equals": True}, PASSED, "/flag is true"),
        ({"path": "/ok", "pointer": "/flag", "equals": 1}, FAILED, "/flag is true instead of 1"),
        ({"path": "/500", "status": 500}, PASSED, "HTTP 500"),
        ({"path": "/500"}, FAILED, "HTTP 500 instead of 200"),
        ({"path": "/away"}, FAILED, "HTTP 302 instead of 200"),
        ({"path": "/away", "status": 302}, PASSED, "HTTP 302"),
        ({"path": "/html", "pointer": "/x", "equals": 1}, FAILED, "not JSON"),
        ({"path": "/drip", "timeout": "200ms"}, UNKNOWN, "no complete answer within 0.2 s"),
    ],
)
def test_http(fields: dict[str, Any], status: EvidenceStatus, detail: str, url: str, tmp_path: Path) -> None:
    """An answer that is not the expected one fails; no answer is unknown."""
    evidence = _probe(tmp_path, kind="http", url=url + fields.pop("path"), **fields)
    assert status is evidence.status
    assert detail in evidence.detail


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"query": "SELECT count(*) FROM tasks", "equals": 2}, PASSED, "db: the query answers 2"),
        ({"query": "SELECT sum(id) FROM tasks", "equals": 3}, PASSED, "answers 3"),
        ({"query": "SELECT 0.5::numeric", "equals": 0.5}, PASSED, "answers 0.5"),
        ({"query": "SELECT count(*) FROM public.tasks", "atLeast": 2}, PASSED, "answers 2, at least 2 is wanted"),
        ({"query": "SELECT count(*) FROM tasks;", "atLeast": 3}, FAILED, "answers 2, at least 3 is wanted"),
        ({"query": "SELECT 'x'", "atLeast": 0}, FAILED, 'answers "x", at least 0 is wanted'),
        ({"query": "SELECT true", "atLeast": 1}, FAILED, "answers true"),
        ({"query": "SELECT true", "equals": 1}, FAILED, "answers true instead of 1"),
        ({"query": "SELECT NULL", "equals": 1}, FAILED, "answers null instead of 1"),
        ({"query": "SELECT '{\"a\": [1]}'::jsonb", "equals": {"a": [1]}}, PASSED, '{"a": [1]}'),
        ({"query": "SELECT date '2026-06-27'", "equals": "2026-06-27"}, PASSED, "2026-06-27"),
        ({"query": "SHOW server_encoding", "equals": "UTF8"}, PASSED, "UTF8"),
        ({"query": "SELECT 9223372036854775807", "equals": 9223372036854775807}, PASSED, "9223372036854775807"),
        ({"query": "SELECT 1, 2", "equals": 1}, FAILED, "one row of one column, not 2 columns"),
        ({"query": "SELECT 1 WHERE false", "equals": 1}, FAILED, "not no row"),
        ({"query": "SELECT generate_series(1, 100000000)", "equals": 1}, FAILED, "not several rows"),
        ({"query": "SELECT count(*) FROM nowhere", "equals": 1}, UNKNOWN, 'relation "nowhere" does not exist'),
        ({"query": "DELETE FROM tasks RETURNING 1", "equals": 1}, UNKNOWN, "in a read-only transaction"),
        ({"query": "COMMIT; BEGIN READ WRITE; DELETE FROM tasks", "equals": 1}, UNKNOWN, "multiple commands"),
        ({"query": "SELECT pg_sleep(60)", "equals": 1, "timeout": "200ms"}, UNKNOWN, "statement timeout"),
        ({"query": "SELECT 1", "equals": 1, "endpoint": "gone"}, UNKNOWN, "there is no endpoint gone"),
    ],
)
def test_sql(fields: dict[str, Any], status: EvidenceStatus, detail: str, served: Served, tmp_path: Path) -> None:
    """One value, read-only, bounded; a query that can't be answered is unknown, not failed, and nothing is written."""
    evidence = _probe(tmp_path, _plan(tmp_path, served), **({"kind": "sql", "endpoint": "old"} | fields))
    assert status is evidence.status
    assert detail.replace("db:", "old:") in evidence.detail
    assert [(2,)] == served.admin("SELECT count(*) FROM public.tasks")


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"argv": ["true"]}, PASSED, "true: exit status 0"),
        ({"argv": ["sh", "-c", "exit 3"], "exitStatus": 3}, PASSED, "exit status 3"),
        (
            {"argv": ["sh", "-c", "echo sorry, password=hunter2 >&2; exit 3"]},
            FAILED,
            "exit status 3: sorry, password=***",
        ),
        ({"argv": ["cat", "note"], "stdoutContains": "hello; $HOME"}, PASSED, "exit status 0"),
        ({"argv": ["cat", "note"], "stdoutContains": "goodbye"}, FAILED, 'stdout does not contain "goodbye"'),
        ({"argv": ["echo", "$HOME; rm -rf /"], "stdoutContains": "$HOME; rm -rf /"}, PASSED, "exit status 0"),
        ({"argv": ["no-such-command"]}, UNKNOWN, "could not be started: No such file"),
        ({"argv": ["sh", "-c", "sleep 60 & wait"], "timeout": "200ms"}, UNKNOWN, "did not end within 0.2 s"),
        ({"argv": ["yes"], "timeout": "200ms"}, UNKNOWN, "did not end within 0.2 s"),
        ({"argv": ["head", "-c", "3000000", "/dev/zero"], "stdoutContains": "x"}, FAILED, "in the first 1 MiB"),
    ],
)
def test_command(fields: dict[str, Any], status: EvidenceStatus, detail: str, tmp_path: Path) -> None:
    """Started in the plan's folder without a shell; its exit status decides; what hangs is ended with its children."""
    (tmp_path / "note").write_text("hello; $HOME\n")
    evidence = _probe(tmp_path, kind="command", **fields)
    assert status is evidence.status
    assert detail in evidence.detail


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"path": "note"}, PASSED, "note is there"),
        ({"path": "note", "contains": "ell"}, PASSED, "as it must be"),
        ({"path": "note", "sha256": hashlib.sha256(b"hello\n").hexdigest()}, PASSED, "as it must be"),
        ({"path": "note", "contains": "bye"}, FAILED, 'does not contain "bye"'),
        ({"path": "note", "sha256": "0" * 64}, FAILED, "SHA-256 is 5891"),
        ({"path": "nope"}, FAILED, "does not exist"),
        ({"path": "."}, FAILED, "is not a file"),
        ({"path": "fifo"}, FAILED, "is not a file"),
        ({"path": "note/below"}, FAILED, "does not exist"),
    ],
)
def test_file(fields: dict[str, Any], status: EvidenceStatus, detail: str, tmp_path: Path) -> None:
    """Relative to the plan's folder; digest and text as said; nothing but a file is a file."""
    (tmp_path / "note").write_text("hello\n")
    os.mkfifo(tmp_path / "fifo")
    evidence = _probe(tmp_path, kind="file", **fields)
    assert status is evidence.status
    assert detail in evidence.detail


def test_a_file_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    """What can't be looked at is not called missing."""
    if os.geteuid() == 0:
        (tmp_path / "note").symlink_to("/proc/self/mem")  # root may open it, nobody may read its first page
    else:
        (tmp_path / "note").write_text("secret")
        (tmp_path / "note").chmod(0)
    evidence = _probe(tmp_path, kind="file", path="note")
    assert UNKNOWN is evidence.status
    assert "note can't be read" in evidence.detail


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"pointer": "/status/readyReplicas", "equals": 1}, PASSED, "/status/readyReplicas is 1"),
        ({"pointer": "/status/readyReplicas", "equals": 2}, FAILED, "is 1 instead of 2"),
        ({"pointer": "/status/nope", "equals": 1}, FAILED, "there is no member 'nope'"),
        ({"pointer": "", "equals": 1, "resource": "deployment/gone"}, UNKNOWN, "NotFound"),
        ({"pointer": "", "equals": 1, "endpoint": "new"}, UNKNOWN, "no endpoint new with a platform"),
        ({"pointer": "", "equals": 1, "endpoint": "gone"}, UNKNOWN, "no endpoint gone with a platform"),
    ],
)
def test_kubernetes(
    fields: dict[str, Any],
    status: EvidenceStatus,
    detail: str,
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kubectl's JSON at a pointer, in the endpoint's namespace and context; what kubectl refuses is unknown."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    bin_dir = fake_kubectl(tmp_path, {"deployment/hub": DEPLOYMENT})
    platform = {"kind": "kubernetes", "namespace": "hub", "context": "prod"}
    plan = plan_of(
        endpoint(tmp_path, "old", served.tool_dsn, platform=platform), endpoint(tmp_path, "new", served.tool_dsn)
    )
    evidence = _probe(
        tmp_path, plan, **({"kind": "kubernetes", "endpoint": "old", "resource": "deployment/hub"} | fields)
    )
    assert status is evidence.status
    assert detail in evidence.detail
    if status is PASSED:
        assert "--context prod --namespace hub get deployment/hub -o json\n" == (bin_dir / "calls").read_text()


def test_kubernetes_without_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that is only observed names its namespace in the probe, and needs no endpoints."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    bin_dir = fake_kubectl(tmp_path, {"nodes": {"items": [1, 2, 3]}})
    fields: dict[str, Any] = {"kind": "kubernetes", "namespace": "kube-system", "resource": "nodes", "context": "lab"}
    assert PASSED is _probe(tmp_path, pointer="/items/2", equals=3, **fields).status
    assert "--context lab --namespace kube-system get nodes -o json\n" == (bin_dir / "calls").read_text()
    monkeypatch.setenv("PATH", str(tmp_path))
    evidence = _probe(tmp_path, pointer="/items/2", equals=3, **fields)
    assert UNKNOWN is evidence.status
    assert "install it (https://kubernetes.io/docs/tasks/tools/)" in evidence.detail


def test_one_hanging_probe_hides_no_other(url: str, tmp_path: Path) -> None:
    """All probes of all tasks at once, sorted by task and probe; a database that never answers costs only its own."""
    (tmp_path / "note").write_text("x")
    with mute() as port:
        silent = endpoint(tmp_path, "db", f"postgresql://tool@127.0.0.1:{port}/hub")
        probes = [
            {"kind": "sql", "name": "hangs", "endpoint": "old", "query": "SELECT 1", "equals": 1, "timeout": "100ms"},
            {"kind": "file", "name": "a-file", "path": "note"},
        ]
        tasks = TypeAdapter(list[Task]).validate_python(
            [
                {"id": "T02", "title": "T", "probes": [{"kind": "http", "name": "api", "url": f"{url}/ok"}]},
                {"id": "T01", "title": "T", "probes": probes},
                {"id": "T00", "title": "nothing to probe"},
            ]
        )
        evidence = observe_evidence(tasks, plan_of(silent, silent), tmp_path, now)
        assert no_look_is_left()
    expected = [("T01", "a-file", PASSED), ("T01", "hangs", UNKNOWN), ("T02", "api", PASSED)]
    assert expected == [(one.task, one.probe, one.status) for one in evidence]
    assert () == observe_evidence([], None, tmp_path, now)


def test_no_secret_in_evidence(served: Served, tmp_path: Path) -> None:
    """A probe that reads a secret by mistake does not publish it."""
    (tmp_path / "config.json").write_text(json.dumps({"password": "hunter2"}))
    evidence = _probe(tmp_path, kind="command", argv=["sh", "-c", "cat config.json >&2; exit 1"])
    assert FAILED is evidence.status
    assert "hunter2" not in evidence.detail
