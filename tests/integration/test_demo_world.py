"""The demo's world, taken apart: a real hub, a real tunnel, a real client, two real clusters."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import sql

from statehub_plan.components import PgInstallation
from statehub_plan.demo import guardian, seed, tunnel
from statehub_plan.demo.cluster import CHEAP_SETTINGS, SUPERUSER
from statehub_plan.demo.equality import equality
from statehub_plan.demo.ledger import read_ledger
from statehub_plan.demo.site import TOOL, Site
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld, row_counts
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.privileges import check_privileges
from tests.integration.demo_processes import descendants, running

ROWS = 1_000
T = TypeVar("T")


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], ssh_keygen: Path) -> Iterator[DemoWorld]:
    """A small world; tests put back what they move."""
    with DemoWorld(rows=ROWS, rate=100, settings=CHEAP_SETTINGS) as world:
        yield world


def test_the_source_holds_the_rows_asked_for_and_the_target_an_earlier_restore(world: DemoWorld) -> None:
    """Both sides start out equal, with ownership carried over by the real dump."""
    counts = row_counts(world.sites[SOURCE])
    assert sum(counts.values()) >= ROWS
    assert counts.keys() == row_counts(world.sites[TARGET]).keys()
    for site in world.sites.values():
        with psycopg.connect(site.dsn()) as conn:
            owners = conn.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'audit')")
            assert [("statehub_owner",)] == owners.fetchall()


def test_the_tool_s_role_is_no_superuser_and_lacks_nothing(world: DemoWorld) -> None:
    """The privileges that the documentation asks for are those that the demo grants."""
    for site in world.sites.values():
        with psycopg.connect(site.dsn(TOOL), autocommit=True) as conn:
            assert "off" == conn.info.parameter_status("is_superuser")
            assert () == check_privileges(conn, app_roles=("statehub_app", "statehub_reader"))


def test_seeding_is_deterministic(world: DemoWorld) -> None:
    """Two seeded databases differ in nothing, sequences included."""
    source = world.sites[SOURCE]
    with psycopg.connect(source.cluster.dsn(), autocommit=True) as conn:
        contents = [_seeded_copy(source, conn, name) for name in ("first", "second")]
    assert contents[0] == contents[1]


def test_seeding_fewer_rows_than_make_sense_is_refused() -> None:
    """A hub of a hundred rows would leave tables empty."""
    with pytest.raises(ValueError):
        seed.Shares.of(100)


def test_the_hub_says_which_database_answers(world: DemoWorld) -> None:
    """Health is asked of the database, and names it by the identity that the tool observes too."""
    site = world.sites[SOURCE]
    status, _, body = _ask(site, "GET", "/state/health")
    with psycopg.connect(site.dsn()) as conn:
        row = conn.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row is not None
    assert (200, "ok", seed.REVISION, SOURCE) == (status, body["status"], body["revision"], body["endpoint"])
    assert (row[0], False) == (body["database"]["system_identifier"], body["database"]["read_only"])


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("/work-plans", {"code": "DEMO-WP-0001", "title": "a plan", "budget": "12.50", "metadata": {"a": [1, None]}}),
        ("/tasks", {"work_plan_id": 1, "title": "a task", "due_on": "2026-07-01", "labels": ["x", "y"]}),
        ("/decisions", {"work_plan_id": 1, "title": "a decision", "confidence": 0.75}),
        ("/progress-events", {"work_plan_id": 1, "source": "test", "summary": "an event", "detail": {"n": 1}}),
    ],
)
def test_what_was_created_can_be_read_and_listed(world: DemoWorld, path: str, new: dict[str, Any]) -> None:
    """Create, get and list answer the same row, with every field as it was sent."""
    site = world.sites[SOURCE]
    status, _, created = _ask(site, "POST", path, new)
    assert 201 == status
    assert new.items() <= created.items()
    assert (200, created) == _ask(site, "GET", f"{path}/{created['id']}")[::2]
    assert created == _ask(site, "GET", f"{path}?limit=1")[2][0]


def test_a_retry_with_the_same_key_gets_the_first_answer_and_writes_nothing(world: DemoWorld) -> None:
    """What makes an unknown outcome harmless; another request under the same key is refused."""
    site = world.sites[SOURCE]
    event = {"work_plan_id": 1, "source": "retry", "summary": "once"}
    _, _, first = _ask(site, "POST", "/progress-events", event, key="same")
    status, headers, again = _ask(site, "POST", "/progress-events", event, key="same")
    assert (201, "true", first) == (status, headers["Idempotent-Replayed"], again)
    other = _ask(site, "POST", "/progress-events", {**event, "summary": "twice"}, key="same")
    assert (422, "key-reused") == (other[0], other[2]["error"])
    with psycopg.connect(site.dsn()) as conn:
        assert (1,) == conn.execute("SELECT count(*) FROM progress_event WHERE source = 'retry'").fetchone()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/tasks/99999999", None, 404, "not-found"),
        ("PATCH", "/tasks/99999999", {"state": "done"}, 404, "not-found"),
        ("POST", "/tasks", {"work_plan_id": 99999999, "title": "x"}, 409, "missing-reference"),
        ("POST", "/work-plans", {"code": "CUST-WP-0001", "title": "x"}, 409, "exists"),
        ("POST", "/tasks", {"work_plan_id": 1, "title": "x", "estimate_hours": 1e9}, 422, "invalid"),
    ],
)
def test_a_client_s_own_mistake_is_no_reason_to_try_again(
    world: DemoWorld, method: str, path: str, body: object, status: int, reason: str
) -> None:
    """4xx without Retry-After, and a stable word."""
    answer = _ask(world.sites[SOURCE], method, path, body)
    assert (status, reason, False) == (answer[0], answer[2]["error"], "Retry-After" in answer[1])


def test_a_frozen_database_is_told_as_503_with_retry_after_and_thaws(world: DemoWorld) -> None:
    """SQLSTATE 25006; the sessions that the tool ends in between cost the next request nothing."""
    site = world.sites[TARGET]
    with psycopg.connect(site.dsn(SUPERUSER), autocommit=True) as conn:
        conn.execute("ALTER DATABASE statehub SET default_transaction_read_only = on")
        _end_app_sessions(conn)
        status, headers, body = _ask(site, "POST", "/decisions", {"work_plan_id": 1, "title": "x"})
        assert (503, "1", "read-only") == (status, headers["Retry-After"], body["error"])
        assert (200, True) == _health_and_read_only(site)
        conn.execute("ALTER DATABASE statehub RESET default_transaction_read_only")
        _end_app_sessions(conn)
        assert 201 == _ask(site, "POST", "/decisions", {"work_plan_id": 1, "title": "x"})[0]


def test_reads_go_on_while_writers_wait_for_a_lock_and_a_canceled_writer_is_told_to_retry(world: DemoWorld) -> None:
    """Waiting writers don't use up the connections that reads need."""
    site = world.sites[SOURCE]
    waiting = _Request(site, {"work_plan_id": 1, "source": "held", "summary": "x"})
    with psycopg.connect(site.dsn(SUPERUSER)) as hold, psycopg.connect(site.dsn(SUPERUSER), autocommit=True) as other:
        hold.execute("LOCK TABLE progress_event IN EXCLUSIVE MODE")
        waiting.send()
        waiter = _until(lambda: _waiting_pid(other))
        assert 200 == _ask(site, "GET", "/state/health")[0]
        assert 200 == _ask(site, "GET", "/progress-events?limit=1")[0]
        other.execute("SELECT pg_cancel_backend(%s)", [waiter])
        assert (503, "canceled") == waiting.answer()


def test_a_database_that_is_down_is_told_as_503_without_its_address(world: DemoWorld) -> None:
    """The hub itself stays up and serves again as soon as the database does."""
    site = world.sites[TARGET]
    site.cluster.stop()
    try:
        status, headers, body = _ask(site, "GET", "/state/health")
    finally:
        site.cluster.start()
    assert (503, "1", "connection-lost") == (status, headers["Retry-After"], body["error"])
    assert str(site.cluster.port) not in json.dumps(body)
    assert 200 == _ask(site, "GET", "/state/health")[0]


def test_the_hub_never_takes_its_dsn_from_the_command_line(world: DemoWorld) -> None:
    """Without the variable it says which one is missing."""
    command = [sys.executable, "-m", "statehub_plan.demo.statehub", "--name", "x", "--port", "1"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert (64, True) == (done.returncode, "STATEHUB_DSN" in done.stderr)


def test_editing_tunnels_yaml_moves_the_tunnel_and_cuts_what_went_through_it(world: DemoWorld) -> None:
    """As with a restarted SSH tunnel; the reload command returns when new connections go to the new place."""
    conn = http.client.HTTPConnection(world.bridge_url.removeprefix("http://"), timeout=5)
    assert SOURCE == _served_by(conn)
    with _moved(world, TARGET):
        with pytest.raises((http.client.HTTPException, OSError)):
            _served_by(conn)
        conn.close()
        assert TARGET == _served_by(conn)
        conn.close()
    assert SOURCE == _served_by(conn)
    conn.close()


def test_the_bridge_notices_a_changed_file_by_itself(world: DemoWorld) -> None:
    """A file edited by hand needs no reload command; one that can't be understood changes nothing."""
    file, status_file = world.directory / "bridge" / "tunnels.yaml", world.directory / "bridge" / "status.json"
    before = file.read_text()
    try:
        file.write_text(before.replace("target:", "target: ["))
        file.write_text(before.replace(world.sites[SOURCE].address, world.sites[TARGET].address))
        _until(lambda: world.sites[TARGET].address in status_file.read_text())
    finally:
        file.write_text(before)
        tunnel.reload(file, status_file)


@pytest.mark.parametrize(
    "text", ["", "tunnels: 5", "tunnels: {a: {local: x, target: y}}", "tunnels: [", "tunnels: {a: {}}"]
)
def test_tunnels_that_can_t_be_understood_are_refused_with_the_file_s_name(tmp_path: Path, text: str) -> None:
    """One kind of error, whatever is wrong with the file."""
    file = tmp_path / "tunnels.yaml"
    file.write_text(text)
    with pytest.raises(StatehubError, match=str(file)) as caught:
        tunnel.read_tunnels(file)
    assert "tunnels-unreadable" == caught.value.code


def test_reloading_a_bridge_that_does_not_run_says_so(world: DemoWorld, tmp_path: Path) -> None:
    """Nothing is signalled on a guess."""
    with pytest.raises(StatehubError) as caught:
        tunnel.reload(world.directory / "bridge" / "tunnels.yaml", tmp_path / "status.json")
    assert "bridge-not-running" == caught.value.code


def test_the_client_s_ledger_survives_ended_sessions_and_a_moved_tunnel(world: DemoWorld) -> None:
    """Sessions ended in the middle of writes, tunnel moved there and back: nothing lost or doubled, moves seen."""
    source = world.sites[SOURCE]
    world.start_client()
    with psycopg.connect(source.dsn(SUPERUSER), autocommit=True) as conn:
        for _ in range(5):
            _wait_for_acknowledgements(world, 10)
            _end_app_sessions(conn)
    with _moved(world, TARGET):
        _until(lambda: len(_acknowledged_by(world, TARGET)) >= 10)
    _wait_for_acknowledgements(world, 10)
    assert 0 == world.stop_client()
    ledger = read_ledger(world.ledger_file)
    assert {"bridge", "mcp"} == {entry.via for entry in ledger.acknowledged}
    assert {SOURCE, TARGET} == {entry.server for entry in ledger.acknowledged}
    by_source = world.verify(SOURCE)
    # Both sides are writable here: a write cut off before its answer may be on both, and is lost to neither.
    only_on_target = _acknowledged_by(world, TARGET) - _tokens(source)
    assert only_on_target
    assert (len(only_on_target), 0) == (by_source.lost, by_source.duplicated)
    assert by_source.moves[0].gap_ms > 0


def test_the_second_opinion_sees_a_changed_a_missing_and_a_foreign_row_and_a_sequence_behind(world: DemoWorld) -> None:
    """It may not call anything equal that a person would not."""
    frozen, primary = world.sites[SOURCE], world.sites[TARGET]
    with psycopg.connect(primary.dsn(SUPERUSER), autocommit=True) as conn:
        conn.execute("UPDATE work_plan SET budget = 1.00 WHERE id = 1")
        conn.execute("DELETE FROM task_dependency WHERE task_id = 2")
        conn.execute("INSERT INTO person (handle, display_name) VALUES ('nobody', 'Nobody')")
        conn.execute("SELECT setval('ticket_number', 1000)")
        found = equality(frozen, primary)
    told = {difference.split(":")[0] for difference in found.differences}
    assert not found.equal
    assert {"public.work_plan", "public.task_dependency", "public.person", "sequence public.ticket_number"} <= told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_made_a_world(tmp_path: Path, number: signal.Signals) -> None:
    """Hubs, bridge, client and clusters end with their owner, even when it is killed."""
    script = tmp_path / "owner.py"
    script.write_text(_OWNER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        directory = Path(owner.stdout.readline().strip())
        children = descendants(owner.pid)
        owner.send_signal(number)
    try:
        assert len(children) >= 8  # two clusters with a guardian each, two hubs, bridge, client
        _until(lambda: children.isdisjoint(running()) and not _servers_in(directory))
    finally:
        if directory.is_dir() and number is signal.SIGKILL:  # nobody was left to remove the empty rest
            subprocess.run(["rm", "-r", str(directory)], check=True)
    assert not directory.exists()


def test_what_is_printed_for_playing_works_in_another_shell_until_ctrl_c(tmp_path: Path) -> None:
    """The printed lines alone make the tool's commands work there."""
    script = tmp_path / "keeper.py"
    script.write_text(_KEEPER)
    printed = ""
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        for line in keeper.stdout:
            printed += line if line.startswith(("cd ", "export ")) else ""
            if line.startswith("The hub:"):
                break
        shell = subprocess.run(
            ["bash", "-e"],
            input=f"{printed}statehub-plan validate plans/cust-wp-0011.yaml\n",
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
        keeper.send_signal(signal.SIGINT)
    assert (0, 0) == (shell.returncode, keeper.returncode), shell.stderr


_KEEPER = """
import sys
from statehub_plan.demo.run import ended_in_order, stay
from statehub_plan.demo.world import DemoWorld
with ended_in_order(), DemoWorld(rows=1000, settings={"fsync": "off"}) as world:
    stay(world, sys.stdout)
"""
_OWNER = """
import signal, sys
from statehub_plan.demo.run import ended_in_order
from statehub_plan.demo.world import DemoWorld
with ended_in_order(), DemoWorld(rows=1000, settings={"fsync": "off"}) as world:
    world.start_client()
    print(world.directory, flush=True)
    signal.pause()
"""


class _Request:
    """A POST whose answer is read later."""

    def __init__(self, site: Site, event: dict[str, object]) -> None:
        self._conn = http.client.HTTPConnection(site.address, timeout=10)
        self._event = event

    def send(self) -> None:
        self._conn.request("POST", "/progress-events", json.dumps(self._event), {"Content-Type": "application/json"})

    def answer(self) -> tuple[int, str]:
        response = self._conn.getresponse()
        body = json.loads(response.read())
        self._conn.close()
        return response.status, body["error"]


@contextmanager
def _moved(world: DemoWorld, target: str) -> Iterator[None]:
    """The bridge's tunnel pointed at another site for the length of a block."""
    file, status_file = world.directory / "bridge" / "tunnels.yaml", world.directory / "bridge" / "status.json"
    before = file.read_text()
    file.write_text(before.replace(world.sites[SOURCE].address, world.sites[target].address))
    tunnel.reload(file, status_file)
    try:
        yield
    finally:
        file.write_text(before)
        tunnel.reload(file, status_file)


def _ask(site: Site, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any, Any]:
    conn = http.client.HTTPConnection(site.address, timeout=10)
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    conn.request(method, path, None if body is None else json.dumps(body), headers)
    response = conn.getresponse()
    answer = response.status, response.headers, json.loads(response.read())
    conn.close()
    return answer


def _served_by(conn: http.client.HTTPConnection) -> str | None:
    conn.request("GET", "/state/health")
    response = conn.getresponse()
    response.read()
    return response.headers["State-Hub-Endpoint"]


def _health_and_read_only(site: Site) -> tuple[int, bool]:
    status, _, body = _ask(site, "GET", "/state/health")
    return status, body["database"]["read_only"]


def _end_app_sessions(conn: psycopg.Connection) -> None:
    conn.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'statehub_app'")


def _waiting_pid(conn: psycopg.Connection) -> int | None:
    row = conn.execute(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'statehub_app' AND wait_event_type = 'Lock'"
    ).fetchone()
    return None if row is None else int(row[0])


def _wait_for_acknowledgements(world: DemoWorld, count: int) -> None:
    before = len(read_ledger(world.ledger_file).acknowledged)
    _until(lambda: len(read_ledger(world.ledger_file).acknowledged) >= before + count)


def _acknowledged_by(world: DemoWorld, server: str) -> set[str]:
    return {entry.token for entry in read_ledger(world.ledger_file).acknowledged if entry.server == server}


def _tokens(site: Site) -> set[str]:
    with psycopg.connect(site.dsn()) as conn:
        rows = conn.execute("SELECT detail->>'token' FROM progress_event WHERE detail ? 'token'").fetchall()
    return {row[0] for row in rows}


def _seeded_copy(site: Site, server: psycopg.Connection, name: str) -> list[object]:
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(site.cluster.dsn(name), autocommit=True) as conn:
        seed.create_schema(conn)
        seed.seed(conn, ROWS)
        content: list[object] = [
            conn.execute(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t").fetchone()
            for table in ("person", "work_plan", "task", "task_dependency", "decision", "attachment", "progress_event")
        ]
        content.append(conn.execute("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1").fetchall())
    server.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))
    return content


def _until(look: Callable[[], T], timeout_s: float = 20.0) -> T:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)
    return found


def _servers_in(directory: Path) -> list[int]:
    return [pid for name in (SOURCE, TARGET) for pid in guardian.members(directory / name / "data")]
