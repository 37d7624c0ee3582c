"""The durable freeze on real servers: whom it binds, whom it lets pass, how it is proved and opened again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.components import client_tool
from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.postgres import fence, state
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.privileges import check_privileges
from statehub_plan.postgres.register import Decision
from statehub_plan.postgres.sessions import end_sessions, other_sessions
from statehub_plan.world import Writes
from tests.integration.deciding import decide_proved
from tests.integration.served_database import PASSWORD, TABLES, InBackground, Served, as_role, eventually, serve

BYPASSES = {
    "insert": "INSERT INTO public.tasks (plan_id, note) VALUES (1, 'late')",
    "insert on conflict": "INSERT INTO public.cache VALUES ('k', 'v') ON CONFLICT (key) DO UPDATE SET value = 'v'",
    "update": "UPDATE public.tasks SET note = 'late'",
    "update from": "UPDATE public.tasks t SET note = p.title FROM public.plans p WHERE p.id = t.plan_id",
    "delete": "DELETE FROM public.tasks",
    "cascade": "DELETE FROM public.plans WHERE id = 1",
    "truncate": "TRUNCATE public.tasks",
    "truncate cascade": "TRUNCATE public.plans CASCADE",
    "merge": "MERGE INTO public.cache c USING (VALUES ('k')) s (k) ON c.key = s.k "
    "WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'v')",
    "view": "INSERT INTO public.open_tasks (plan_id, note) VALUES (1, 'late')",
    "function of another role": "SELECT public.add_task('late')",
    "writing CTE": "WITH late AS (DELETE FROM public.tasks RETURNING id) SELECT count(*) FROM late",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM public.tasks",
    "partitioned table": "INSERT INTO public.events VALUES ('2026-07-01', 'late')",
    "partition itself": "INSERT INTO public.events_2026 VALUES ('2026-07-01', 'late')",
    "unlogged table": "DELETE FROM public.cache",
    "block of code": "DO $$ BEGIN UPDATE public.tasks SET note = 'late'; END $$",
    "prepared statement": "PREPARE late AS DELETE FROM public.tasks; EXECUTE late; DEALLOCATE late",
}
WAYS = {
    "as it comes": "BEGIN",
    "read write": "BEGIN READ WRITE",
    "default switched off": "SET default_transaction_read_only = off; BEGIN",
    "serializable": "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
}


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors."""
    return serve(request.getfixturevalue(f"{request.param}_db"))


@pytest.fixture
def frozen(served: Served) -> Served:
    """The same, durably frozen for term 2."""
    with served.tool() as session:
        fence.fence(session, term=2, run="run-a", epoch=1, primary="railiance01")
    return served


@contextmanager
def _session(dsn: str) -> Iterator[psycopg.Connection]:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        yield connection


def _burned(session: psycopg.Connection, term: int) -> Decision:
    return Decision.model_validate(
        {
            "term": term,
            "primary": None,
            "identity": state.identity(session),
            "run": "r",
            "decided_at": "2026-06-27T00:00Z",
        }
    )


def test_installing_puts_a_sleeping_fence_on_every_table(served: Served) -> None:
    """Online and in advance: writers notice nothing, and a second installation finds nothing to do."""
    with served.tool() as session:
        assert sorted(TABLES) == sorted(fence.install(session).added)
        assert () == fence.install(session).added
        status = fence.fence_status(session)
    assert (5, 0, 5, TABLES) == (status.tables, status.triggers_enabled, status.triggers_total, status.unfenced)
    served.app("INSERT INTO public.tasks (plan_id, note) VALUES (1, 'as usual')")


def test_installing_gives_way_to_a_long_transaction(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that a transaction keeps busy is reported instead of waited for; other writers don't queue up."""
    monkeypatch.setattr(fence, "_INSTALL_WAITS_MS", (20, 20))
    with _session(served.app_dsn) as writer, served.tool() as session:
        writer.execute("BEGIN; UPDATE public.tasks SET note = 'long'")
        installed = fence.install(session)
        served.app("INSERT INTO public.tasks (plan_id, note) VALUES (1, 'passes meanwhile')")
    assert ("public.tasks",) == installed.busy
    assert sorted(set(TABLES) - {"public.tasks"}) == sorted(installed.added)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ["app", "tool", "admin"])
def test_no_write_gets_past_the_fence(frozen: Served, who: str, way: str) -> None:
    """Application, owner and superuser, with every statement that writes a table: READ WRITE is no way round (SQLSTATE
    25006)."""
    dsn = {"app": frozen.app_dsn, "tool": frozen.tool_dsn, "admin": frozen.admin_dsn}[who]
    got_through = []
    with _session(dsn) as session:
        for name, statement in BYPASSES.items():
            session.execute(WAYS[way].encode())
            try:
                session.execute(statement.encode())
                got_through.append(name)
            except psycopg.errors.ReadOnlySqlTransaction:
                pass
            session.execute("ROLLBACK")
    assert [] == got_through
    assert [(2, 0)] == frozen.admin("SELECT (SELECT count(*) FROM public.tasks), (SELECT count(*) FROM public.cache)")


def test_copy_is_refused_too(frozen: Served) -> None:
    """COPY FROM fires the INSERT trigger before the first row."""
    with _session(frozen.app_dsn) as session:
        session.execute("BEGIN READ WRITE")
        with (
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
            session.cursor() as cursor,
            cursor.copy("COPY public.cache FROM STDIN") as copy,
        ):
            copy.write(b"a\tb\n")


def test_the_error_says_who_froze_what_and_where_to_go(frozen: Served) -> None:
    """A retrying client's log has to explain itself: tool, run, term, and where the primary will be."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as caught:
        frozen.app("BEGIN READ WRITE; DELETE FROM public.tasks")
    diagnosis = caught.value.diag
    assert "frozen by statehub-plan" in (diagnosis.message_primary or "")
    assert "DELETE on public.tasks refused" in (diagnosis.message_primary or "")
    assert "Run run-a, term 2" in (diagnosis.message_detail or "")
    assert "The primary will be railiance01" in (diagnosis.message_hint or "")


def test_an_old_snapshot_does_not_see_through_the_fence(served: Served) -> None:
    """A REPEATABLE READ transaction from before the freeze meets its triggers: catalogs are read as they are now."""
    with served.tool() as session, _session(served.admin_dsn) as old:
        fence.install(session)
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SELECT count(*) FROM public.tasks")
        with session.transaction():
            state.claim_epoch(session, 1)
            fence.seal(session, term=1, run="run-a", hold=None, primary=None, proof=None)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            old.execute("DELETE FROM public.tasks")


def test_reads_go_on_while_frozen(frozen: Served) -> None:
    """SELECT, views, functions that read, and a whole pg_dump."""
    assert [(2,)] == frozen.app("SELECT count(*) FROM public.open_tasks")
    with frozen.tool() as session:
        program = client_tool("pg_dump", session.info.server_version // 10000)
    parts = conninfo_to_dict(frozen.tool_dsn)
    dump = subprocess.run(
        [program, "-N", "statehub_plan", "-d", f"host={parts['host']} port={parts['port']} dbname={parts['dbname']}"],
        env=os.environ | {"PGUSER": frozen.tool_role, "PGPASSWORD": str(parts["password"])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "COPY public.tasks" in dump.stdout


def test_what_the_fence_leaves_open_is_closed_by_the_read_only_default(frozen: Served) -> None:
    """nextval, DDL, REFRESH and row locks are no table writes: ordinary sessions are refused by the database's default.

    A session that insists on READ WRITE can still do them; that is why it is told here, and observed in the cutover.
    """
    statements = (
        "SELECT nextval('public.tickets')",
        "CREATE TABLE public.new_one (id integer)",
        "REFRESH MATERIALIZED VIEW public.plan_titles",
        "SELECT * FROM public.tasks FOR UPDATE",
    )
    for statement in statements:
        with _session(frozen.admin_dsn) as session:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                session.execute(f"BEGIN; {statement}".encode())
            session.execute("ROLLBACK")
            session.execute(f"BEGIN READ WRITE; {statement}".encode())


def test_a_replication_apply_worker_passes(frozen: Served) -> None:
    """Ordinary triggers don't fire in `session_replication_role = replica`: a fallback can follow while frozen. A
    superuser can use the same door."""
    frozen.admin("SET session_replication_role = replica; BEGIN READ WRITE; DELETE FROM public.cache; COMMIT")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        frozen.app("SET session_replication_role = replica")


def test_freezing_ends_other_sessions(served: Served) -> None:
    """A session from before the freeze would keep its read-write default."""
    with _session(served.app_dsn) as app, served.tool() as session:
        app.execute("SELECT 1")
        ended = fence.fence(session, term=1, run="run-a", epoch=1)
        assert [served.app_role] == [each.user for each in ended.ended]
        with pytest.raises(psycopg.OperationalError):
            app.execute("SELECT 1")


def test_freezing_again_is_harmless_and_an_older_term_is_refused(frozen: Served) -> None:
    """The same term again proves the same; a zombie's older term does not overwrite a newer freeze."""
    with frozen.tool() as session:
        fence.fence(session, term=2, run="run-a", epoch=1, primary="railiance01")
        with pytest.raises(StatehubError) as caught:
            fence.fence(session, term=1, run="run-old", epoch=1)
        assert "term-outdated" == caught.value.code
        assert (2, "run-a") == (fence.fence_status(session).term, fence.fence_status(session).run)


def test_a_session_with_passage_writes_and_no_other(frozen: Served) -> None:
    """The tool's own copy goes through the fence; the same role in another session doesn't."""
    with frozen.tool() as copier, frozen.tool() as bystander:
        fence.pass_for_session(copier, epoch=1)
        copier.execute("INSERT INTO public.cache VALUES ('copied', 'row')")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            bystander.execute("INSERT INTO public.cache VALUES ('not', 'copied')")


def test_passage_ends_with_a_newer_epoch_and_with_the_next_freeze(frozen: Served) -> None:
    """A zombie's copy stops at its next statement once a newer run has claimed the database."""
    with frozen.tool() as zombie, frozen.tool() as newer:
        fence.pass_for_session(zombie, epoch=1)
        with newer.transaction():
            state.claim_epoch(newer, 2)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            zombie.execute("INSERT INTO public.cache VALUES ('late', 'row')")
        fence.pass_for_session(zombie, epoch=2)
        fence.fence(newer, term=3, run="run-b", epoch=2)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            zombie.execute("INSERT INTO public.cache VALUES ('late', 'row')")


def test_a_script_fences_what_it_creates_in_its_own_transaction(served: Served) -> None:
    """A schema loaded into a frozen target leaves no moment with an unfenced table."""
    with served.tool() as session:
        state.install(session)
        session.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        fence.fence(session, term=1, run="run-a", epoch=1)
        assert Writes.FROZEN == fence.writes(session)
        script = f"BEGIN; CREATE TABLE public.loaded (id integer); {fence.FENCE_ALL_SQL}; COMMIT"
        session.execute(script.encode())
        assert () == fence.prove_frozen(session)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("INSERT INTO public.loaded VALUES (1)")


def test_a_frozen_database_is_proved_frozen(frozen: Served) -> None:
    """Catalogs, a refused canary on every table as owner, as the application's role and through its own DSN."""
    frozen.admin(f"BEGIN READ WRITE; GRANT {frozen.app_role} TO {frozen.tool_role}; COMMIT")
    with frozen.tool() as session:
        assert () == fence.prove_frozen(session, app_roles=(frozen.app_role,), app_dsn=frozen.app_dsn)
        assert fence.fence_status(session).complete
        assert Writes.FROZEN == fence.writes(session)
        canaries = fence.canary(session, role=frozen.app_role)
    assert [(frozen.app_role, table, "frozen") for table in TABLES] == [(c.role, c.table, c.result) for c in canaries]


@pytest.mark.parametrize(
    ("sabotage", "codes"),
    [
        ("ALTER TABLE public.tasks DISABLE TRIGGER statehub_plan_fence", {"table-unfenced", "canary-not-refused"}),
        ("DROP TRIGGER statehub_plan_fence ON public.tasks", {"table-unfenced", "canary-not-refused"}),
        ("CREATE TABLE public.late (id integer)", {"table-unfenced"}),
        ("ALTER DATABASE {database} RESET default_transaction_read_only", {"default-not-read-only"}),
        ("UPDATE statehub_plan.state SET system_identifier = '1'", {"state-copied"}),
        (
            "CREATE OR REPLACE TRIGGER statehub_plan_fence BEFORE INSERT ON public.tasks "
            "FOR EACH STATEMENT EXECUTE FUNCTION statehub_plan.fence()",
            {"table-unfenced", "canary-not-refused"},
        ),
        (
            "CREATE RULE quiet AS ON DELETE TO public.tasks DO INSTEAD NOTHING; "
            "ALTER TABLE public.tasks DISABLE TRIGGER statehub_plan_fence",
            {"table-unfenced", "canary-not-refused"},
        ),
    ],
)
def test_whatever_is_missing_is_found_by_the_proof(frozen: Served, sabotage: str, codes: set[str]) -> None:
    """A trigger disabled, dropped or replaced, a new table, a reset default, a copied state: not proved."""
    database = f'"{conninfo_to_dict(frozen.tool_dsn)["dbname"]}"'
    frozen.admin(f"BEGIN READ WRITE; {sabotage.format(database=database)}; COMMIT")
    with frozen.tool() as session:
        assert codes == {problem.code for problem in fence.prove_frozen(session)}
        assert not fence.fence_status(session).complete


def test_a_rule_that_swallows_deletes_does_not_swallow_the_canary(frozen: Served) -> None:
    """An INSTEAD rule takes the triggers with it; the canary then tries an UPDATE."""
    frozen.admin("BEGIN READ WRITE; CREATE RULE quiet AS ON DELETE TO public.tasks DO INSTEAD NOTHING; COMMIT")
    with frozen.tool() as session:
        assert () == fence.prove_frozen(session)


def test_an_open_transaction_and_a_prepared_one_speak_against_the_proof(frozen: Served) -> None:
    """Whoever has a transaction id may have written; what is prepared may still commit."""
    with _session(frozen.admin_dsn) as admin, frozen.tool() as session:
        admin.execute("BEGIN READ WRITE; SELECT pg_current_xact_id()")
        frozen.admin("BEGIN READ WRITE; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'it''s pending'")
        problems = {problem.code: problem for problem in fence.prove_frozen(session, settle_s=0.05)}
    assert {"transaction-open", "transaction-prepared"} == set(problems)
    assert "ROLLBACK PREPARED 'it''s pending'" in problems["transaction-prepared"].remedy
    frozen.admin("ROLLBACK PREPARED 'it''s pending'")


def test_a_canary_uses_what_a_role_may_do_and_touches_nothing(served: Served) -> None:
    """An audit role with INSERT alone is probed by INSERT, one that may only read is said to have no privilege."""
    role = served.app_role
    served.admin(f"GRANT {role} TO {served.tool_role}")
    served.admin(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}; GRANT SELECT ON public.plans TO {role}")
    served.admin(f"GRANT INSERT ON public.tasks TO {role}; GRANT UPDATE (value) ON public.cache TO {role}")
    with served.tool() as session:
        before = session.execute("SELECT count(*), sum(n_live_tup) FROM pg_stat_user_tables").fetchone()
        results = {each.table: each.result for each in fence.canary(session, role=role)}
        assert before == session.execute("SELECT count(*), sum(n_live_tup) FROM pg_stat_user_tables").fetchone()
    assert {
        "public.cache": "open",
        "public.events": "no-privilege",
        "public.events_2026": "no-privilege",
        "public.plans": "no-privilege",
        "public.tasks": "open",
    } == results


def test_a_canary_that_waits_for_an_ordinary_lock_is_not_called_held(served: Served) -> None:
    """Only a living hold makes `held`; somebody's LOCK TABLE is `blocked`, and then nothing is known."""
    with served.tool() as session, _session(served.admin_dsn) as other:
        state.install(session)
        other.execute("BEGIN; LOCK TABLE public.tasks IN EXCLUSIVE MODE")
        results = {each.table: each.result for each in fence.canary(session, wait_ms=5)}
    assert ("blocked", "open") == (results["public.tasks"], results["public.plans"])


def test_opening_needs_a_decision_for_this_endpoint(frozen: Served) -> None:
    """Nothing opens by itself: not without a decision, not for another endpoint, not for an older term."""
    with frozen.tool() as session:
        for endpoint, term in (("here", 2), ("here", 1)):
            with pytest.raises(StatehubError) as caught:
                fence.open_writes(session, run="run-a", epoch=1, endpoint=endpoint, term=term)
            assert "not-decided" == caught.value.code
        decide_proved(session, term=2, primary="there", run="run-a", epoch=1)
        with pytest.raises(StatehubError):
            fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2)
        decide_proved(session, term=3, primary="here", run="run-a", epoch=1)
        with pytest.raises(StatehubError):
            fence.open_writes(session, run="run-a", epoch=1, endpoint="there", term=2)
        assert Writes.FROZEN == fence.writes(session)
        fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=3)
        assert Writes.OPEN == fence.writes(session)
    frozen.app("INSERT INTO public.tasks (plan_id, note) VALUES (1, 'again')")


def test_an_old_primary_reopens_only_for_a_burned_term(frozen: Served) -> None:
    """The other side's register has to say that the decision can no longer fall."""
    with frozen.tool() as session:
        other = Decision.model_validate({**_burned(session, 2).model_dump(), "primary": "there"})
        for claim in (None, _burned(session, 1), other):
            with pytest.raises(StatehubError):
                fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2, burned=claim)
        fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2, burned=_burned(session, 2))
        assert Writes.OPEN == fence.writes(session)
        fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2, burned=_burned(session, 2))


def test_opening_ends_sessions_that_began_frozen_and_spares_later_ones(frozen: Served) -> None:
    """A pool that connected during the freeze would stay read-only for ever; opening again disturbs nobody."""
    with frozen.tool() as session, _session(frozen.app_dsn) as early:
        early.execute("SELECT 1")
        decide_proved(session, term=2, primary="here", run="run-a", epoch=1)
        opened = fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2)
        assert [frozen.app_role] == [each.user for each in opened.sessions.ended]
        session.execute("UPDATE statehub_plan.state SET opened_at = opened_at - interval '1 minute'")
        with _session(frozen.app_dsn) as late:
            again = fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=2)
            assert () == again.sessions.ended
            late.execute("INSERT INTO public.tasks (plan_id, note) VALUES (1, 'late')")


def test_a_retired_database_stays_closed(frozen: Served) -> None:
    """Retiring keeps the fence and shuts the door for every later decision."""
    with frozen.tool() as session:
        state.retire(session, run="run-z", epoch=1)
        assert fence.fence_status(session).retired
        decide_proved(session, term=3, primary="here", run="run-a", epoch=1)
        with pytest.raises(StatehubError) as caught:
            fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=3)
    assert "endpoint-retired" == caught.value.code


def test_a_tool_that_lost_its_epoch_neither_freezes_nor_opens(frozen: Served) -> None:
    """The check is inside each transaction, so a late statement of a zombie changes nothing."""
    with frozen.tool() as session:
        decide_proved(session, term=3, primary="here", run="run-b", epoch=9)
        for act in (
            lambda: fence.fence(session, term=4, run="run-a", epoch=1),
            lambda: fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=3),
        ):
            with pytest.raises(StatehubError) as caught:
                act()
            assert "fenced-out" == caught.value.code
        assert Writes.FROZEN == fence.writes(session)


def test_the_freeze_survives_a_crash_of_the_server(source_cluster: Cluster, source_db: str) -> None:
    """It is in the catalogs: SIGKILL and recovery change nothing about it."""
    served = serve(source_db)
    with served.tool() as session:
        fence.fence(session, term=1, run="run-a", epoch=1)
    source_cluster.kill()
    source_cluster.start()
    with served.tool() as session:
        assert () == fence.prove_frozen(session)


def test_the_documented_privileges_are_enough(served: Served) -> None:
    """Owner of database and objects, pg_signal_backend, pg_read_all_stats: nothing to complain about."""
    with served.tool() as session:
        assert () == check_privileges(session, app_roles=(served.app_role,))


def test_membership_in_the_owner_is_enough(served: Served) -> None:
    """The tool need not own anything itself: an inherited membership does, for freezing and opening alike."""
    member = f"member_of_{served.tool_role}"
    served.admin(f"CREATE ROLE {member} LOGIN PASSWORD '{PASSWORD}' IN ROLE {served.tool_role}")
    served.admin(f"GRANT pg_signal_backend, pg_read_all_stats TO {member}")
    with closing(connect(as_role(served.admin_dsn, member), purpose="test")) as session:
        assert () == check_privileges(session)
        fence.fence(session, term=1, run="run-a", epoch=1)
        decide_proved(session, term=1, primary="here", run="run-a", epoch=1)
        fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=1)


def test_every_missing_privilege_is_named_with_its_grant_before_anything_happens(served: Served) -> None:
    """A stranger gets the whole list at once, and the database stays as it is."""
    admin = conninfo_to_dict(served.admin_dsn)["dbname"]
    stranger = served.app_role
    with closing(connect(served.app_dsn, purpose="test")) as session, _session(served.tool_dsn) as somebody:
        somebody.execute("SELECT 1")
        problems = {problem.code: problem.remedy for problem in check_privileges(session)}
        with pytest.raises(StatehubError) as caught:
            fence.fence(session, term=1, run="run-a", epoch=1)
    assert {
        "database-not-owned": f'GRANT "{served.tool_role}" TO "{stranger}"',
        "schema-not-creatable": f'GRANT CREATE ON DATABASE "{admin}" TO "{stranger}"',
        "table-not-owned": f'GRANT "{served.tool_role}" TO "{stranger}"',
        "sequence-not-owned": f'GRANT "{served.tool_role}" TO "{stranger}"',
        "sessions-not-endable": f'GRANT pg_signal_backend, pg_monitor TO "{stranger}"',
    } == problems
    assert ("privilege-missing", 5) == (caught.value.code, len(caught.value.details))
    assert [(None,)] == served.admin("SELECT to_regnamespace('statehub_plan')")


def test_an_owner_without_its_own_rights_cannot_lock(served: Served) -> None:
    """LOCK TABLE … EXCLUSIVE takes UPDATE, DELETE or TRUNCATE, which an owner may have revoked from itself."""
    served.admin(f"REVOKE ALL ON public.cache FROM {served.tool_role}")
    with served.tool() as session:
        (problem,) = check_privileges(session)
    assert ("table-not-lockable", f'GRANT DELETE ON public.cache TO "{served.tool_role}"') == (
        problem.code,
        problem.remedy,
    )


def test_ending_sessions_spares_replication_and_says_whom_it_may_not_end(served: Served) -> None:
    """A superuser's session stays (and is reported); walsenders are no clients."""
    with (
        _session(served.admin_dsn) as admin,
        closing(psycopg.connect(served.admin_dsn, replication="database", autocommit=True)) as walsender,
        served.tool() as session,
    ):
        ended = end_sessions(session, timeout_s=0.2)
        assert ((), ["postgres"]) == (ended.ended, [each.user for each in ended.remaining])
        walsender.execute("IDENTIFY_SYSTEM")
        assert [admin.info.backend_pid] == [each.pid for each in other_sessions(session)]


def test_a_busy_target_is_fenced_all_the_same(served: Served) -> None:
    """Somebody writing into a target is ended, not waited for."""
    with _session(served.app_dsn) as writer, served.tool() as session:
        writer.execute("BEGIN; UPDATE public.tasks SET note = 'long'")
        waiting = InBackground(served.app_dsn, "UPDATE public.tasks SET note = 'waiting'")
        assert eventually(lambda: waiting.waits(served.admin_dsn))
        fence.fence(session, term=1, run="run-a", epoch=1)
        assert waiting.outcome() in ("57P01", "25006", "done")  # whichever of the two sessions was ended first
        assert Writes.FROZEN == fence.writes(session)


def test_locks_that_cannot_be_had_are_reported_and_nothing_is_half_done(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A superuser's lock stops fencing, which changed nothing but the read-only default; opening waits for no table."""
    monkeypatch.setattr(fence, "_LOCK_WAIT_MS", 20)
    with served.tool() as session, _session(served.admin_dsn) as admin:
        admin.execute("BEGIN; LOCK TABLE public.tasks IN ROW EXCLUSIVE MODE")
        with pytest.raises(StatehubError) as caught:
            fence.fence(session, term=1, run="run-a", epoch=1)
        assert "fence-locked" == caught.value.code
        assert f"session {admin.info.backend_pid} (user postgres" in caught.value.details[0]
        assert fence.fence_status(session).term is None
        admin.execute("ROLLBACK")
        fence.fence(session, term=1, run="run-a", epoch=1)
        decide_proved(session, term=1, primary="here", run="run-a", epoch=1)
        admin.execute("BEGIN; LOCK TABLE public.tasks IN SHARE MODE")
        fence.open_writes(session, run="run-a", epoch=1, endpoint="here", term=1)
        assert Writes.OPEN == fence.writes(session)


def test_an_application_that_cannot_connect_proves_nothing(frozen: Served) -> None:
    """A canary that could not be sent is a problem, not a pass."""
    with frozen.tool() as session:
        (problem,) = fence.prove_frozen(session, app_dsn=make_conninfo(frozen.app_dsn, password="wrong"))
    assert "canary-impossible" == problem.code
    assert problem.remedy


def test_an_application_that_writes_elsewhere_proves_nothing(frozen: Served, target_db: str) -> None:
    """Another database, of the same cluster or another one, knows none of the tables, so no canary meets a fence there
    and none is let through: that must not pass for refused. Nor must a cluster that the role may not ask for."""
    database = conninfo_to_dict(frozen.app_dsn)["dbname"]
    for app_dsn in (make_conninfo(frozen.app_dsn, dbname="postgres"), target_db):
        if conninfo_to_dict(app_dsn)["dbname"] == database:
            continue  # the very database that is frozen
        with frozen.tool() as session:
            (problem,) = fence.prove_frozen(session, app_roles=(frozen.app_role,), app_dsn=app_dsn)
        assert "app-dsn-elsewhere" == problem.code
        assert f"and dsn to database {database} (OID " in problem.what
    with _session(frozen.admin_dsn) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        admin.execute(f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {frozen.tool_role}".encode())
    with frozen.tool() as session:
        (problem,) = fence.prove_frozen(session, app_dsn=frozen.app_dsn)
    assert "app-dsn-unidentified" == problem.code
    assert "GRANT EXECUTE" in problem.remedy


def test_an_application_that_only_reads_stands_in_the_way_of_no_proof(frozen: Served) -> None:
    """A role without a privilege to write is as good as frozen, where it looks at the right database."""
    with _session(frozen.admin_dsn) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {frozen.app_role}".encode())
    with frozen.tool() as session:
        assert () == fence.prove_frozen(session, app_dsn=frozen.app_dsn)
