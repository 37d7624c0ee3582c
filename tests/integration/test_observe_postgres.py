"""Facts of real databases on two majors: what they say about themselves, and whether they really accept writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Fact, FactStatus
from statehub_plan.model.plan import Identity
from statehub_plan.observe import catalog
from statehub_plan.observe.gather import gather
from statehub_plan.observe.postgres import database_source
from statehub_plan.postgres import fence, state
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.hold import Hold
from statehub_plan.postgres.watch import HoldLimits
from statehub_plan.world import TransferStage
from tests.integration.deciding import decide_proved
from tests.integration.observing import as_endpoint, endpoint, now, served_endpoint
from tests.integration.served_database import PASSWORD, Served, as_role, serve

LIMITS = HoldLimits(lock_timeout_s=5.0, session_grace_s=0.2, writer_wait_s=5.0, max_duration_s=60.0)


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors."""
    return serve(request.getfixturevalue(f"{request.param}_db"))


@pytest.fixture
def one(source_db: str) -> Served:
    """A service's database on the lower major."""
    return serve(source_db)


def _look(declared: dict[str, Any], directory: Path, *, deep: bool = False, timeout_s: float = 5.0) -> dict[str, Fact]:
    """The facts of one database, without the endpoint's name."""
    source = database_source("db", as_endpoint(declared), directory, now=now, deep=deep)
    return {fact.id.removeprefix("db."): fact for fact in gather([source], now=now, timeout_s=timeout_s)}


def _value(fact: Fact) -> Any:
    return fact.value


def _values(served: Served, directory: Path, *, deep: bool = False) -> dict[str, Any]:
    facts = _look(served_endpoint(directory, "db", served), directory, deep=deep)
    assert {} == {key: fact.reason for key, fact in facts.items() if fact.reason}
    return {key: fact.value for key, fact in facts.items()}


def _despite_the_freeze(served: Served, *statements: str) -> None:
    """What an administrator who insists can still do."""
    served.admin("; ".join(["BEGIN READ WRITE", *statements, "COMMIT"]))


@contextmanager
def _locking(dsn: str, statement: str) -> Iterator[None]:
    """Somebody's open transaction that has locked something."""
    with closing(psycopg.connect(dsn)) as connection:
        connection.execute(statement.encode())
        yield


def test_what_a_database_says_about_itself(served: Served, tmp_path: Path) -> None:
    """Identity, version, counts, sizes, roles, settings, extensions and encoding are the server's own answers."""
    served.admin(
        "CREATE TABLE public.alembic_version (version_num text); GRANT SELECT ON public.alembic_version TO public"
    )
    served.admin("INSERT INTO public.alembic_version VALUES ('7c1f')")
    values = _values(served, tmp_path, deep=True)
    (found,) = served.admin(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), oid::int8, datname, datcollate, "
        "current_setting('server_version_num')::int FROM pg_database WHERE datname = current_database()"
    )
    assert {"system_identifier": found[0], "database_oid": found[1], "database": found[2]} == values["identity"]
    assert found[4] == values["version_num"]
    assert values["in_recovery"] is False
    assert abs(values["clock_skew_s"]) < 1
    assert 6 == values["tables"]
    expected = {"public.alembic_version": 1, "public.cache": 0, "public.events_2026": 1, "public.plans": 1}
    assert expected | {"public.tasks": 2} == values["row_counts"]
    assert values["size_bytes"] > 1_000_000
    assert "7c1f" == values["schema_revision"]["alembic"]
    roles = values["roles"]
    assert (served.tool_role, False, served.tool_role) == (
        roles["tool_role"],
        roles["tool_is_superuser"],
        roles["owner"],
    )
    assert [{"name": served.app_role, "exists": True, "login": True, "superuser": False}] == roles["app_roles"]
    assert "postgres" in roles["superusers"]
    assert ("logical", 20) == (values["settings"]["wal_level"], values["settings"]["max_wal_senders"])
    assert "on" == values["settings"]["synchronous_commit"], "what the server gives, not what the tool's sessions set"
    assert "plpgsql" in values["extensions"]
    assert ("UTF8", found[3]) == (values["encoding"]["encoding"], values["encoding"]["collate"])
    assert values["encoding"]["provider"] in {"libc", "icu", "builtin"}
    assert (None, []) == (values["transfer"], values["register"])


def test_the_fingerprint_follows_the_schema_and_nothing_else(served: Served, tmp_path: Path) -> None:
    """Rows, freezes and the tool's own objects leave it alone; any definition changes it, changing back restores it."""

    def fingerprint() -> str:
        return str(_values(served, tmp_path, deep=True)["schema_revision"]["fingerprint"])

    before = fingerprint()
    served.app("INSERT INTO public.plans (title) VALUES ('another')")
    with served.tool() as session:
        fence.install(session)
        fence.fence(session, term=1, run="r", epoch=1)
    assert before == fingerprint()
    for change, back in (
        ("ALTER TABLE public.plans ADD COLUMN more text", "ALTER TABLE public.plans DROP COLUMN more"),
        ("REVOKE SELECT ON public.plans FROM {}", "GRANT SELECT ON public.plans TO {}"),
        ("CREATE INDEX extra ON public.plans (title)", "DROP INDEX public.extra"),
    ):
        _despite_the_freeze(served, change.format(served.app_role))
        assert before != fingerprint()
        _despite_the_freeze(served, back.format(served.app_role))
        assert before == fingerprint()


def test_sessions_transactions_slots_and_subscriptions(served: Served, tmp_path: Path) -> None:
    """Who is connected, what is prepared or left open, and what replicates, as rows that policies can read. What a
    user has called like something of the tool's is not taken for that."""
    served.admin("SELECT pg_create_logical_replication_slot('statehub_plan_' || current_database(), 'pgoutput')")
    served.admin(
        "CREATE SUBSCRIPTION statehub_plan_followed CONNECTION 'dbname=elsewhere' PUBLICATION changes "
        "WITH (connect = false, slot_name = NONE, enabled = false)"
    )
    with closing(psycopg.connect(served.app_dsn, application_name="worker", autocommit=True)) as worker:
        worker.execute("BEGIN")
        worker.execute("INSERT INTO public.plans (title) VALUES ('prepared')")
        worker.execute("PREPARE TRANSACTION 'someday'")
        worker.execute("BEGIN")
        worker.execute("SELECT 1 FROM public.plans")
        values = _values(served, tmp_path)
        with served.tool() as session:
            long: Any = catalog.long_transactions(session, at_least_s=0)

    session_rows = [{"user": served.app_role, "application": "worker", "state": "idle in transaction", "count": 1}]
    assert session_rows == values["sessions"]
    assert [("someday", served.app_role)] == [(row["gid"], row["owner"]) for row in values["prepared_transactions"]]
    assert [] == values["long_transactions"]
    assert (served.app_role, "idle in transaction") in [(row["user"], row["state"]) for row in long]
    mine = [row for row in values["slots"] if row["database"] == values["identity"]["database"]]
    assert [("logical", "pgoutput", False)] == [(row["type"], row["plugin"], row["active"]) for row in mine]
    assert mine[0]["retained_bytes"] >= 0
    assert mine[0]["ours"] is False
    expected = {
        "name": "statehub_plan_followed",
        "enabled": False,
        "slot": None,
        "publications": ["changes"],
        "running": False,
    }
    (subscription,) = values["subscriptions"]
    assert expected | {"received_lsn": None, "applied_lsn": None} == {
        key: subscription[key] for key in (*expected, "received_lsn", "applied_lsn")
    }
    assert (False, 0, 0, None) == tuple(
        subscription[key] for key in ("ours", "tables", "tables_ready", "last_received")
    )


def test_what_a_role_may_not_see_is_unknown(one: Served, tmp_path: Path) -> None:
    """Without pg_read_all_stats a long transaction could hide: that is said, with the grant, instead of "none"."""
    one.admin(f"REVOKE pg_read_all_stats FROM {one.tool_role}")
    with closing(psycopg.connect(one.app_dsn)):
        facts = _look(served_endpoint(tmp_path, "db", one), tmp_path)
    assert "GRANT pg_monitor" in str(facts["long_transactions"].reason)
    assert FactStatus.KNOWN is facts["slots"].status


def test_an_application_that_writes_elsewhere_leaves_unknown_whether_writes_are_refused(
    served: Served, tmp_path: Path
) -> None:
    """Its canaries would find no table that they know, which looks like a role that may not write."""
    app_dsn = psycopg.conninfo.make_conninfo(served.app_dsn, dbname="postgres")
    facts = _look(endpoint(tmp_path, "db", served.tool_dsn, app_dsn=app_dsn), tmp_path)
    assert FactStatus.UNKNOWN is facts["writes"].status
    assert "appDsn leads to database postgres (OID " in str(facts["writes"].reason)
    assert "correct one of them" in str(facts["writes"].reason)
    assert ("the application", "unknown") in [(row["role"], row["result"]) for row in _value(facts["fence"])["canary"]]


@pytest.mark.parametrize("deep", [True, False])
def test_open_then_frozen_then_open_again(deep: bool, served: Served, tmp_path: Path) -> None:
    """The same canaries say open before the freeze, frozen after it, and who froze it for which term."""
    with served.tool() as session:
        assert "open" == _values(served, tmp_path, deep=deep)["writes"]
        fence.install(session)
        assert "open" == _values(served, tmp_path, deep=deep)["writes"]
        fence.fence(session, term=3, run="run-1", epoch=1, primary="away")
        values = _values(served, tmp_path, deep=deep)
        decide_proved(session, term=3, primary="db", run="run-1", epoch=1)
        fence.open_writes(session, run="run-1", epoch=1, endpoint="db", term=3)
        after = _values(served, tmp_path, deep=deep)
    assert "frozen" == values["writes"]
    expected: dict[str, Any] = {
        "tables": 5,
        "triggers_enabled": 5,
        "triggers_total": 5,
        "default_read_only": True,
        "term": 3,
    }
    expected |= {"run": "run-1", "hold": None, "retired": False, "unfenced": [], "primary": "away"}
    assert expected == {key: values["fence"][key] for key in expected}
    tried = {(each["role"], each["result"], each["tables"]) for each in values["fence"]["canary"]}
    tables = 5 if deep else 3
    assert {(served.tool_role, "frozen", tables), (served.app_role, "frozen", tables)} <= tried
    assert ("open", None) == (after["writes"], after["fence"]["term"])
    (decision,) = after["register"]
    assert (3, "db", "run-1") == (decision["term"], decision["primary"], decision["run"])
    assert abs(epoch_s(now()) - decision["decided_at"]) < 60


def test_held_while_the_hold_is_alive(served: Served, tmp_path: Path) -> None:
    """Writers wait under a hold that is named; the moment it ends, writes are open."""
    with Hold.take(served.tool_dsn, hold_id="hold-7", run="r", epoch=1, limits=LIMITS) as hold:
        values = _values(served, tmp_path)
        hold.check()
    assert ("held", "hold-7") == (values["writes"], values["fence"]["hold"])
    assert {"held"} == {each["result"] for each in values["fence"]["canary"] if each["tables"]}
    assert ("open", None) == (_values(served, tmp_path)["writes"], _values(served, tmp_path)["fence"]["hold"])


def test_locks_of_somebody_else_are_no_hold(one: Served, tmp_path: Path) -> None:
    """One busy table among others is daily life; when every table is locked by a stranger, nobody knows."""
    with _locking(one.admin_dsn, "LOCK public.tasks IN EXCLUSIVE MODE"):
        assert "open" == _values(one, tmp_path)["writes"]
    everything = "LOCK public.cache, public.events, public.plans, public.tasks IN EXCLUSIVE MODE"
    with _locking(one.admin_dsn, everything):
        reason = str(_look(served_endpoint(tmp_path, "db", one), tmp_path)["writes"].reason)
    assert f"{one.tool_role}: blocked on public.cache and 4 more" in reason


def test_a_fence_with_a_hole_is_unknown(one: Served, tmp_path: Path) -> None:
    """Where one table still takes writes, the database is neither frozen nor open, and the hole is named; also by a
    quick look, which samples only where the catalogs call all tables alike."""
    with one.tool() as session:
        fence.install(session)
        fence.fence(session, term=1, run="r", epoch=1)
    created = [f"CREATE TABLE public.more_{index} (i int)" for index in range(12)]
    _despite_the_freeze(one, *created, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {one.tool_role}")
    facts = _look(served_endpoint(tmp_path, "db", one), tmp_path)
    assert FactStatus.UNKNOWN is facts["writes"].status
    assert f"{one.tool_role}: open on public.more_0 and 11 more" in str(facts["writes"].reason)
    assert [f"public.more_{index}" for index in sorted(range(12), key=str)] == _value(facts["fence"])["unfenced"]


def test_a_read_only_default_alone_freezes_nothing(one: Served, tmp_path: Path) -> None:
    """`BEGIN READ WRITE` bypasses it (pg_easy_replicate#164), so the canary says open."""
    name = psycopg.conninfo.conninfo_to_dict(one.tool_dsn)["dbname"]
    one.admin(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    values = _values(one, tmp_path)
    assert ("open", True) == (values["writes"], values["fence"]["default_read_only"])


def test_without_tables_the_mark_decides(source_db: str, tmp_path: Path) -> None:
    """There is nothing to try in an empty database: it is open until its mark and its read-only default say frozen."""
    empty = serve(source_db, schema="SELECT 1")
    assert "open" == _values(empty, tmp_path)["writes"]
    with empty.tool() as session:
        fence.install(session)
        assert "open" == _values(empty, tmp_path)["writes"]
        fence.fence(session, term=1, run="r", epoch=1)
    assert ("frozen", 0) == (_values(empty, tmp_path)["writes"], _values(empty, tmp_path)["tables"])


def test_an_application_that_can_not_be_asked_leaves_writes_unknown(one: Served, tmp_path: Path) -> None:
    """What the plan says must be proved with the application's own session is not believed without it."""
    one.admin(f"ALTER ROLE {one.app_role} NOLOGIN")
    facts = _look(served_endpoint(tmp_path, "db", one), tmp_path)
    assert "the application: unknown" in str(facts["writes"].reason)
    assert "not permitted to log in" in str(facts["writes"].reason)
    assert PASSWORD not in str(facts["writes"].reason)


def test_app_roles_are_tried_where_the_tool_may_become_them(served: Served, tmp_path: Path) -> None:
    """A member tries as the role itself; a role that it can't become, or that does not exist, is listed as such."""
    declared = endpoint(tmp_path, "db", served.tool_dsn, appRoles=[served.app_role, "nobody_here"])

    def tried() -> set[tuple[str, str]]:
        value = _value(_look(declared, tmp_path)["fence"])
        return {(each["role"], each["result"]) for each in value["canary"]}

    assert {(served.tool_role, "open"), (served.app_role, "not-a-member"), ("nobody_here", "not-a-member")} == tried()
    served.admin(f"GRANT {served.app_role} TO {served.tool_role}")
    assert {(served.tool_role, "open"), (served.app_role, "open"), ("nobody_here", "not-a-member")} == tried()


def test_a_role_of_the_application_that_slips_through_is_found(one: Served, tmp_path: Path) -> None:
    """A fence that binds the owner but not the application (a trigger disabled for a table that only it may write) is
    no freeze."""
    with one.tool() as session:
        fence.install(session)
        fence.fence(session, term=1, run="r", epoch=1)
    _despite_the_freeze(
        one,
        "ALTER TABLE public.cache DISABLE TRIGGER statehub_plan_fence",
        "ALTER TABLE public.cache OWNER TO postgres",
        f"REVOKE ALL ON public.cache FROM {one.tool_role}",
        f"GRANT ALL ON public.cache TO {one.app_role}",
    )
    reason = str(_look(served_endpoint(tmp_path, "db", one), tmp_path)["writes"].reason)
    assert f"{one.app_role}: open on public.cache" in reason


def test_a_state_that_came_with_a_copy_is_not_believed(one: Served, source_cluster: Cluster, tmp_path: Path) -> None:
    """The tool's own tables in a restored or cloned database speak of another one: unknown, with what to do."""
    with one.tool() as session:
        state.install(session)
        decide_proved(session, term=1, primary="db", run="r", epoch=1)
        name = session.info.dbname
    with psycopg.connect(source_cluster.dsn(), autocommit=True) as admin:
        copy = sql.Identifier(f"{name}_copy")
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(copy, sql.Identifier(name)))
        try:
            declared = endpoint(tmp_path, "db", as_role(source_cluster.dsn(f"{name}_copy"), one.tool_role))
            facts = _look(declared, tmp_path)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(copy))
    for key in ("register", "transfer", "fence"):
        assert "DROP SCHEMA statehub_plan CASCADE" in str(facts[key].reason)
    assert "open" == facts["writes"].value


def test_the_transfer_into_a_target(one: Served, tmp_path: Path) -> None:
    """How far the copy has come, under which hold, for which term, and from which cluster."""
    source = Identity(system_identifier="42", database="hub", database_oid=7)
    with one.tool() as session:
        state.install(session)
        with session.transaction():
            state.claim_epoch(session, 1)
            state.set_transfer(session, stage=TransferStage.ARRIVED, hold="h", term=2, source_identity=source)
    fill: dict[str, Any] = {"fill_stage": None, "fill_slot": None, "fill_point": None, "fill_timeline": None}
    expected = {"stage": "arrived", "hold": "h", "term": 2, "source": "42"}
    assert expected | fill == _values(one, tmp_path)["transfer"]
    one.admin("UPDATE statehub_plan.state SET fill_stage = 'filling', fill_slot = 's', fill_point = '0/1'")
    fill |= {"fill_stage": "filling", "fill_slot": "s", "fill_point": "0/1"}
    assert expected | fill == _values(one, tmp_path)["transfer"]
    one.admin("UPDATE statehub_plan.state SET fill_timeline = 3")
    assert expected | fill | {"fill_timeline": 3} == _values(one, tmp_path)["transfer"]
    one.admin("ALTER TABLE statehub_plan.state DROP fill_timeline")
    assert expected | fill == _values(one, tmp_path)["transfer"]
    one.admin("ALTER TABLE statehub_plan.state DROP fill_stage, DROP fill_slot, DROP fill_point")
    assert expected == {key: value for key, value in _values(one, tmp_path)["transfer"].items() if key in expected}


def test_a_state_that_this_role_may_not_read(one: Served, tmp_path: Path) -> None:
    """Where another role installed the tool, what only its tables say is unknown with the reason; the rest is not."""
    with closing(connect(one.admin_dsn, purpose="test")) as session:
        state.install(session)
    facts = _look(served_endpoint(tmp_path, "db", one), tmp_path)
    unknown = {key for key, fact in facts.items() if fact.reason}
    assert {"writes", "fence", "transfer", "register"} == unknown
    assert all("permission denied for" in str(facts[key].reason) for key in unknown)


def test_a_table_of_others_hides_only_its_own_fact(one: Served, tmp_path: Path) -> None:
    """What the role may not read is unknown with the reason; the transaction goes on for everything after it."""
    one.admin("CREATE TABLE public.secret (i int)")
    facts = _look(served_endpoint(tmp_path, "db", one), tmp_path, deep=True)
    assert "permission denied for table secret; GRANT it" in str(facts["row_counts"].reason)
    assert FactStatus.KNOWN is facts["schema_revision"].status
    assert 6 == facts["tables"].value


def test_rows_behind_row_level_security_are_not_miscounted(one: Served, tmp_path: Path) -> None:
    """A count of what a policy lets through would be wrong, so there is none."""
    one.admin("ALTER TABLE public.plans ENABLE ROW LEVEL SECURITY; ALTER TABLE public.plans FORCE ROW LEVEL SECURITY")
    facts = _look(served_endpoint(tmp_path, "db", one), tmp_path, deep=True)
    assert "row-level security" in str(facts["row_counts"].reason)


def test_counts_over_budget_are_unknown_and_cost_nothing_else(one: Served, tmp_path: Path) -> None:
    """Counting that does not end in time is given up by the server itself; everything before it is known."""
    one.admin(f"CREATE TABLE public.busy (); GRANT ALL ON public.busy TO {one.tool_role}")
    with _locking(one.admin_dsn, "LOCK public.busy IN ACCESS EXCLUSIVE MODE"):
        facts = _look(served_endpoint(tmp_path, "db", one), tmp_path, deep=True, timeout_s=2.0)
    assert "allow a longer time-out" in str(facts["row_counts"].reason)
    assert {"row_counts"} == {key for key, fact in facts.items() if fact.reason}


def test_a_standby_is_frozen(pg_installations: tuple[PgInstallation, ...], scratch: Path, tmp_path: Path) -> None:
    """A server in recovery accepts no writes whoever asks; nothing is tried there."""
    with Cluster.create(scratch, "standby", pg_installations[0], settings=CHEAP_SETTINGS) as cluster:
        cluster.stop()
        (cluster.data_dir / "standby.signal").touch()
        cluster.start()
        facts = _look(endpoint(tmp_path, "db", cluster.dsn()), tmp_path)
    assert (True, "frozen") == (facts["in_recovery"].value, facts["writes"].value)
    assert (FactStatus.KNOWN, None) == (facts["timeline"].status, facts["timeline"].value)
    assert [] == _value(facts["fence"])["canary"]


def test_two_hundred_tables_are_sampled_by_a_quick_look_only(one: Served, tmp_path: Path) -> None:
    """Where the catalogs call all tables alike, a quick look tries a few; a deep one tries every table."""
    with one.tool() as session:
        for index in range(200):
            session.execute(f"CREATE TABLE public.t_{index:03} (i int)".encode())
    for deep, expected in ((False, range(3, 6)), (True, range(205, 206))):
        value = _value(_look(endpoint(tmp_path, "db", one.tool_dsn), tmp_path, deep=deep)["fence"])
        assert value["canary"][0]["tables"] in expected


def test_a_session_that_is_ended_under_the_look(one: Served, tmp_path: Path) -> None:
    """A look whose session an administrator ends says so for what it had not seen yet, and is no defect."""
    released = threading.Event()

    def end() -> None:
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'statehub-plan observe' AND wait_event_type = 'Lock'"
        )
        while not released.is_set() and not one.admin(query):
            released.wait(0.02)

    ender = threading.Thread(target=end)
    with _locking(one.admin_dsn, "LOCK public.tasks IN ACCESS EXCLUSIVE MODE"):
        ender.start()
        facts = _look(endpoint(tmp_path, "db", one.tool_dsn), tmp_path, deep=True)
        released.set()
        ender.join()
    assert "the session was lost while looking" in str(facts["row_counts"].reason)
