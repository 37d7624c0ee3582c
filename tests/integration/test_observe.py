"""The whole look: every fact of the catalogue, whatever is dead, hangs or falls silent."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from statehub_plan.model.base import canonical
from statehub_plan.model.facts import Fact, FactStatus, Observation
from statehub_plan.observe import observe
from tests.integration.observing import (
    closed_port,
    endpoint,
    fact,
    falling_silent,
    liar,
    mute,
    no_look_is_left,
    now,
    plan_of,
    served_endpoint,
)
from tests.integration.served_database import PASSWORD, Served, as_role, eventually, serve

OF_A_DATABASE = {
    "reach", "identity", "version_num", "in_recovery", "clock_skew_s", "writes", "fence", "transfer", "register",
    "tables", "row_counts", "size_bytes", "schema_revision", "roles", "sessions", "prepared_transactions",
    "long_transactions", "slots", "subscriptions", "settings", "extensions", "encoding",
    "definitions", "published", "unpublished", "timeline",
}  # fmt: skip
SLOW = {"row_counts", "size_bytes", "schema_revision"}


def _of(name: str, observation: Observation) -> dict[str, Fact]:
    """The database's facts of one endpoint, without its name."""
    prefix = f"{name}."
    return {each.id.removeprefix(prefix): each for each in observation if each.id.startswith(prefix)}


@pytest.fixture
def old(source_db: str) -> Served:
    """A service's database on the lower major."""
    return serve(source_db)


@pytest.fixture
def new(target_db: str) -> Served:
    """A service's database on the higher major."""
    return serve(target_db)


def test_a_healthy_world_is_known_completely(old: Served, new: Served, tmp_path: Path) -> None:
    """Every fact of the catalogue is there, known, with how, when and how long; `extra` facts are among them."""
    (tmp_path / "clients.env").write_text("API=one\n")
    with liar() as url:
        api = {"baseUrl": url, "healthPath": "/ok", "healthPointer": "/status"}
        access = {
            "name": "clients",
            "kind": "env-file",
            "file": "clients.env",
            "variable": "API",
            "probeUrl": f"{url}/ok",
        }
        plan = plan_of(
            served_endpoint(tmp_path, "old", old, api=api),
            served_endpoint(tmp_path, "new", new, api=api),
            access=[access | {"values": {"old": "one", "new": "two"}}],
            operatingModel={"path": "model.md"},
        )
        before = now()
        extra = Fact(id="drill.restore", status=FactStatus.KNOWN, how="journal", observed_at=before)
        observation = observe(plan, tmp_path, now=now, extra=(extra,))

    names = {f"{name}.{each}" for name in ("old", "new") for each in (*OF_A_DATABASE, "api.health")}
    assert names | {"access.clients", "backup", "document", "drill.restore", "preflight"} == {
        each.id for each in observation
    }
    assert () == observation.unknown()
    assert all(each.how for each in observation)
    assert all(before <= each.observed_at <= now() and each.elapsed_ms >= 0 for each in observation)
    assert observation.observed_at >= before


def test_a_quick_look_leaves_out_what_is_slow(old: Served, tmp_path: Path) -> None:
    """Between steps nobody counts rows; facts that were not looked at are absent rather than stale."""
    declared = served_endpoint(tmp_path, "old", old)
    observation = observe(plan_of(declared, declared), tmp_path, now=now, deep=False)
    assert OF_A_DATABASE - SLOW == set(_of("old", observation))
    assert () == observation.unknown()


@pytest.mark.parametrize(("peer", "expected"), [("dead", "refused"), ("mute", "did not answer within 0.6 s")])
def test_a_dead_endpoint_hides_nothing(peer: str, expected: str, old: Served, tmp_path: Path) -> None:
    """Refused at once, or accepted and never answered: the other endpoint's facts are all there, these say why not."""
    alive = served_endpoint(tmp_path, "old", old)
    with mute() as silent_port:
        port = closed_port() if peer == "dead" else silent_port
        dead = endpoint(tmp_path, "new", f"postgresql://tool:{PASSWORD}@127.0.0.1:{port}/hub")
        observation = observe(plan_of(alive, dead), tmp_path, now=now, timeout_s=0.6)
        assert no_look_is_left()
    assert OF_A_DATABASE == set(_of("new", observation))
    assert all(expected in str(each.reason) for each in _of("new", observation).values())
    assert all(each.status is FactStatus.KNOWN for each in _of("old", observation).values())
    assert PASSWORD.encode() not in canonical(observation)


def test_a_server_that_falls_silent_keeps_what_it_said(old: Served, source_db: str, tmp_path: Path) -> None:
    """A connection that dies without a word in the middle of the look: what was known stays, the rest is unknown, the
    look is hung up on, and no thread and no session of it remains."""
    with psycopg.connect(source_db) as admin:
        port = admin.info.port
    with falling_silent(port, after=b"pg_replication_slots") as silent:
        dsn = psycopg.conninfo.make_conninfo(old.tool_dsn, port=silent)
        declared = endpoint(tmp_path, "old", dsn)
        other = served_endpoint(tmp_path, "new", old)
        observation = observe(plan_of(declared, other), tmp_path, now=now, timeout_s=1.0, deep=False)

        facts = _of("old", observation)
        assert "reachable" == facts["reach"].value
        assert FactStatus.KNOWN is facts["identity"].status
        assert "database of old did not answer within 1 s" == facts["slots"].reason
        assert "database of old did not answer within 1 s" == facts["writes"].reason
        assert all(each.status is FactStatus.KNOWN for each in _of("new", observation).values())
        assert no_look_is_left()
    watching = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'statehub-plan observe'"
    assert eventually(lambda: old.admin(watching) == [(0,)])


def test_an_application_that_hangs_leaves_the_rest_known(old: Served, tmp_path: Path) -> None:
    """Only what needs the application's own session waits for it: whether writes are refused, and what comes after."""
    with mute() as port:
        app_dsn = psycopg.conninfo.make_conninfo(old.app_dsn, port=port)
        declared = endpoint(tmp_path, "old", old.tool_dsn, app_dsn=app_dsn)
        observation = observe(plan_of(declared, declared), tmp_path, now=now, timeout_s=0.6, deep=False)
        assert no_look_is_left()
    assert {"old.fence", "old.writes", "new.fence", "new.writes"} == {each.id for each in observation.unknown()}


def test_a_missing_secret_says_what_to_export(old: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of each unknown fact is the remedy too."""
    monkeypatch.delenv("NO_SUCH_DSN", raising=False)
    declared = served_endpoint(tmp_path, "old", old)
    missing = declared | {"database": {"dsn": {"env": "NO_SUCH_DSN"}}}
    observation = observe(plan_of(declared, missing), tmp_path, now=now, deep=False)
    assert "export NO_SUCH_DSN=" in str(fact(observation, "new.reach").reason)
    assert FactStatus.KNOWN is fact(observation, "old.reach").status


def test_a_wrong_password_is_not_shown(old: Served, source_db: str, tmp_path: Path) -> None:
    """What was tried never appears, not even where it is what was wrong."""
    wrong = psycopg.conninfo.make_conninfo(as_role(source_db, old.tool_role), password="hunter2-canary")
    declared = endpoint(tmp_path, "old", wrong)
    observation = observe(plan_of(declared, declared), tmp_path, now=now, deep=False)
    assert "password authentication failed" in str(fact(observation, "old.reach").reason)
    assert b"hunter2-canary" not in canonical(observation)


def test_looking_changes_nothing(old: Served, tmp_path: Path) -> None:
    """Not a row, not an object, not even a transaction id is taken: canary writes touch no row."""
    declared = served_endpoint(tmp_path, "old", old)
    plan = plan_of(declared, declared)
    state = (
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, (SELECT count(*) FROM pg_class), "
        "(SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables)"
    )
    old.admin("VACUUM (ANALYZE)")

    def unchanged() -> bool:
        before = old.admin(state)
        for deep in (True, False):
            assert () == observe(plan, tmp_path, now=now, deep=deep).unknown()
        return before == old.admin(state)

    assert eventually(unchanged)  # autovacuum may take a transaction id of its own meanwhile


def test_threads_do_not_pile_up(old: Served, tmp_path: Path) -> None:
    """A watch that looks again and again against a silent endpoint does not collect threads."""
    alive = served_endpoint(tmp_path, "old", old)
    with mute() as port:
        dead = endpoint(tmp_path, "new", f"postgresql://tool@127.0.0.1:{port}/hub")
        plan = plan_of(alive, dead)
        for _ in range(3):
            observe(plan, tmp_path, now=now, timeout_s=0.3, deep=False)
        assert no_look_is_left()
    assert threading.active_count() < 10
