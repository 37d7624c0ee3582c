"""Schema and rows from one real server to another of a different major version, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.components import PgInstallation
from statehub_plan.demo.cluster import CHEAP_SETTINGS, Cluster
from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.copy import copy_data
from statehub_plan.postgres.dump import Entry
from statehub_plan.postgres.fence import fence_status, open_writes
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.loading import explained
from statehub_plan.postgres.manifest import newest_backup, verify_backup
from statehub_plan.postgres.preflight import preflight_schema
from statehub_plan.postgres.schema import refresh_schema
from statehub_plan.postgres.state import claim_epoch, read_state
from statehub_plan.postgres.workers import Progress
from statehub_plan.world import TransferStage
from tests.integration.deciding import decide_proved
from tests.integration.moving import (
    EPOCH,
    EVERYTHING,
    PASSWORD,
    RUN,
    TERM,
    database,
    fill,
    make_roles,
    prepare,
    run_past_fence,
    run_script,
    value,
)

SMALL = "CREATE TABLE public.note (id integer PRIMARY KEY, text text); INSERT INTO public.note VALUES (1, 'one');"
LARGE = (
    "CREATE TABLE public.large AS SELECT n AS id, repeat(md5(n::text), 4) AS text FROM generate_series(1, 200000) n; "
    "CREATE TABLE public.small AS SELECT 1 AS one;"
)


@pytest.fixture(autouse=True)
def _roles(source_cluster: Cluster, target_cluster: Cluster) -> None:
    make_roles(source_cluster)
    make_roles(target_cluster)


def sessions_of_the_tool(dsn: str) -> object:
    """How many sessions of the tool the database has now."""
    return value(
        dsn,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'statehub-plan %'",
    )


def codes(source: str, target: str, *, replace: bool = False) -> set[str]:
    """What pre-flight finds."""
    with connect(source, purpose="test") as old, connect(target, purpose="test") as new:
        return {problem.code for problem in preflight_schema(old, new, replace=replace)}


def test_everything_arrives_equal_and_fenced(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Quoted names, keys in circles, partitions, triggers that raise, types of all kinds: equal across majors."""
    run_script(source_db, EVERYTHING)
    prepared = prepare(source_db, target_db, tmp_path)
    copied = fill(source_db, target_db)
    comparison = compare(source_db, target_db)
    assert (Answer.EQUAL, (), ()) == (comparison.answer, comparison.differences, comparison.unknown)
    assert {"hub.every_type": 3, "hub.no_columns": 4, "hub.child": 7, "hub.parent": 5, "hub.empty_one": 0}.items() <= {
        table.table: table.rows_target for table in comparison.tables
    }.items()
    assert copied.rows == sum(table.rows_source or 0 for table in comparison.tables)
    with connect(target_db, purpose="test") as target:
        status = fence_status(target)
    assert (prepared.tables, ()) == (status.triggers_enabled, status.unfenced)


def test_going_back_to_the_older_major_works_too(
    source_db: str, target_cluster: Cluster, source_cluster: Cluster, tmp_path: Path
) -> None:
    """A switchback copies from the newer server into the older one, by the newer one's client tools."""
    with database(target_cluster) as newer, database(source_cluster) as older:
        run_script(newer, EVERYTHING)
        prepare(newer, older, tmp_path)
        fill(newer, older)
        comparison = compare(newer, older)
    assert (Answer.EQUAL, ()) == (comparison.answer, comparison.differences)


def test_no_table_is_ever_unfenced(source_db: str, target_db: str, tmp_path: Path) -> None:
    """After preparing, even the owner and superuser cannot write into the new tables."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    with psycopg.connect(target_db, autocommit=True) as owner:
        owner.execute("BEGIN READ WRITE")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            owner.execute("INSERT INTO public.note VALUES (2, 'late')")


def test_a_copy_begun_again_replaces_the_first(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A hold was lost after indexes were built: the schema becomes bare again and nothing is there twice."""
    run_script(source_db, EVERYTHING)
    prepare(source_db, target_db, tmp_path)
    assert refresh_schema(source_db, target_db, run=RUN, epoch=EPOCH) is False
    fill(source_db, target_db)
    assert refresh_schema(source_db, target_db, run=RUN, epoch=EPOCH) is True
    fill(source_db, target_db)
    assert compare(source_db, target_db).answer is Answer.EQUAL


def test_a_half_filled_table_is_emptied_first(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Rows of an interrupted copy do not stay."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    copy_data(source_db, target_db, epoch=EPOCH)
    copy_data(source_db, target_db, epoch=EPOCH)
    assert value(target_db, "SELECT count(*) FROM public.note") == 1


def test_schema_that_changed_after_preparing_is_taken_anew(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A migration ran between preparing and the hold: the copy step notices and loads the schema again."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    run_script(source_db, "ALTER TABLE public.note ADD COLUMN more integer DEFAULT 3")
    assert refresh_schema(source_db, target_db, run=RUN, epoch=EPOCH) is True
    fill(source_db, target_db)
    assert compare(source_db, target_db).answer is Answer.EQUAL


def test_large_tables_travel_in_pieces(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Every page range arrives once, also when pages were emptied, and progress ends at its total."""
    run_script(source_db, LARGE + "DELETE FROM public.large WHERE id % 3 = 0 OR id BETWEEN 1000 AND 90000;")
    prepare(source_db, target_db, tmp_path)
    seen: list[Progress] = []
    copy_data(source_db, target_db, epoch=EPOCH, jobs=3, chunk_bytes=1 << 20, on_progress=seen.append)
    assert compare(source_db, target_db, chunk_bytes=1 << 21).answer is Answer.EQUAL
    assert seen[-1].done == seen[-1].total > 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_lost_hold_stops_the_copy(source_db: str, target_db: str, tmp_path: Path, jobs: int) -> None:
    """What `check` raises comes out, and no session of the tool goes on working."""
    run_script(source_db, LARGE)
    prepare(source_db, target_db, tmp_path)

    def lost() -> None:
        raise StatehubError(code="hold-lost", what="the hold is gone", hint="")

    with pytest.raises(StatehubError) as caught:
        copy_data(source_db, target_db, epoch=EPOCH, jobs=jobs, check=lost)
    assert caught.value.code == "hold-lost"
    assert (0, 0) == (sessions_of_the_tool(source_db), sessions_of_the_tool(target_db))


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_killed_session_names_its_table(source_db: str, target_db: str, tmp_path: Path, side: str) -> None:
    """A server process that dies mid-copy is a clean failure; copying again succeeds."""
    run_script(source_db, LARGE)
    prepare(source_db, target_db, tmp_path)
    with psycopg.connect({"source": source_db, "target": target_db}[side], autocommit=True) as administrator:

        def kill() -> None:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'statehub-plan copy' AND query LIKE 'COPY%large%' AND state = 'active'"
            )

        with pytest.raises(StatehubError) as caught:
            copy_data(source_db, target_db, epoch=EPOCH, check=kill)
    assert caught.value.code == "copy-failed"
    assert "public.large" in caught.value.what
    copy_data(source_db, target_db, epoch=EPOCH)
    assert value(target_db, "SELECT count(*) FROM public.large") == 200000


def test_a_full_disk_is_said_to_be_one(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The server's own refusal, with the table and what to do."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    run_past_fence(
        target_db,
        "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON public.note FOR EACH ROW EXECUTE FUNCTION public.full_disk()",
    )
    with pytest.raises(StatehubError) as caught:
        copy_data(source_db, target_db, epoch=EPOCH)
    assert ("copy-failed", True) == (caught.value.code, "public.note" in caught.value.what)
    assert "disk space" in caught.value.hint


@pytest.mark.parametrize("act", [copy_data, finish_schema])
def test_an_older_run_is_fenced_out(source_db: str, target_db: str, tmp_path: Path, act: Callable[..., object]) -> None:
    """A run that lost its lease to another cannot fill or finish the target any more."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    with connect(target_db, purpose="newer run") as newer, newer.transaction():
        claim_epoch(newer, EPOCH + 1)
    with pytest.raises(StatehubError) as caught:
        act(source_db, target_db, epoch=EPOCH)
    assert ("fenced-out", Exit.LOCKED) == (caught.value.code, caught.value.exit_status)


def test_what_the_target_holds_is_refused(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A target with content of its own is left as it is, and the refusal says what is there."""
    run_script(source_db, SMALL)
    run_script(target_db, "CREATE TABLE public.precious (id integer); CREATE VIEW public.seen AS SELECT 1;")
    with pytest.raises(Refusal) as caught:
        prepare(source_db, target_db, tmp_path)
    assert caught.value.code == "preflight-failed"
    assert "table public.precious" in str(caught.value)
    assert value(target_db, "SELECT to_regclass('public.precious') IS NOT NULL") is True


def test_what_the_target_holds_is_dumped_before_it_is_replaced(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The safety dump exists, is whole, and is never mistaken for a backup of the primary."""
    run_script(source_db, EVERYTHING)
    run_script(target_db, EVERYTHING + "CREATE TABLE hub.only_here (id integer); INSERT INTO hub.only_here VALUES (7);")
    prepared = prepare(source_db, target_db, tmp_path, replace=True)
    fill(source_db, target_db)
    assert compare(source_db, target_db).answer is Answer.EQUAL
    assert prepared.safety_dump is not None
    assert newest_backup(tmp_path) is None
    manifest = Path(prepared.safety_dump, "manifest.json").read_text()
    assert '"hub.only_here"' in manifest
    assert '"kind": "safety"' in manifest
    assert "table" in " ".join(prepared.dropped)


def test_leftovers_of_an_undecided_transfer_are_no_content(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A run that failed before its decision does not make the target count as filled; a decided one does."""
    run_script(source_db, SMALL)
    prepare(source_db, target_db, tmp_path)
    fill(source_db, target_db)
    assert prepare(source_db, target_db, tmp_path, term=TERM + 1).safety_dump is None
    with connect(target_db, purpose="test") as target:
        mark = read_state(target)
        assert mark is not None
        assert mark.transfer is not None
        assert (TransferStage.PREPARED, TERM + 1) == (mark.transfer.stage, mark.transfer.term)
        decide_proved(target, term=TERM + 1, primary="new", run=RUN, epoch=EPOCH)
    assert codes(source_db, target_db) == {"target-not-empty"}
    with connect(target_db, purpose="test") as target:
        open_writes(target, run=RUN, epoch=EPOCH, endpoint="new", term=TERM + 1)
    assert codes(source_db, target_db) == {"target-not-empty"}
    with pytest.raises(StatehubError) as caught:
        refresh_schema(source_db, target_db, run=RUN, epoch=EPOCH)
    assert caught.value.code == "target-not-prepared"


def test_a_schema_the_target_refuses_is_found_before_anything_changes(
    source_db: str, target_db: str, tmp_path: Path
) -> None:
    """The whole schema is tried out first: an error names the entry, and the target's old content is still there."""
    run_script(
        source_db, SMALL + "CREATE FUNCTION public.c() RETURNS trigger LANGUAGE c AS 'adminpack', 'pg_file_write_v1_1';"
    )
    run_script(target_db, "CREATE TABLE public.precious (id integer)")
    with pytest.raises(StatehubError) as caught:
        prepare(source_db, target_db, tmp_path, replace=True)
    assert caught.value.code == "schema-refused"
    assert "function c()" in caught.value.what
    assert value(target_db, "SELECT to_regclass('public.precious') IS NOT NULL") is True
    assert list(tmp_path.iterdir()) == []


def test_without_superuser(source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path) -> None:
    """Owning the two databases and everything in them is enough to move them."""
    with (
        database(source_cluster, owner="mover_tool") as source,
        database(target_cluster, owner="mover_tool") as target,
    ):
        old, new = (
            cluster.dsn(str(conninfo_to_dict(dsn)["dbname"]), "mover_tool", PASSWORD)
            for cluster, dsn in ((source_cluster, source), (target_cluster, target))
        )
        run_script(
            old,
            "CREATE SCHEMA hub; CREATE TYPE hub.mood AS ENUM ('ok'); "
            "CREATE TABLE hub.a (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, feels hub.mood DEFAULT 'ok'); "
            "CREATE TABLE hub.b (a integer REFERENCES hub.a); INSERT INTO hub.a DEFAULT VALUES; "
            "CREATE MATERIALIZED VIEW hub.m AS SELECT * FROM hub.a; INSERT INTO hub.b VALUES (1)",
        )
        prepare(old, new, tmp_path)
        fill(old, new)
        comparison = compare(old, new)
        assert (Answer.EQUAL, ()) == (comparison.answer, comparison.differences)


@pytest.mark.parametrize("analysed", ["ANALYZE", "SELECT 1"])
def test_the_planner_knows_its_tables(source_db: str, target_db: str, tmp_path: Path, analysed: str) -> None:
    """Statistics are there when writes may begin, taken over where the source has them, gathered where not."""
    run_script(source_db, LARGE + "CREATE STATISTICS public.both ON id, text FROM public.large;" + analysed)
    prepare(source_db, target_db, tmp_path)
    fill(source_db, target_db)
    known = "SELECT array_agg(DISTINCT tablename || '.' || attname) FROM pg_stats WHERE schemaname = 'public'"
    assert ["large.id", "large.text", "small.one"] == value(target_db, known)
    assert value(target_db, "SELECT count(*) FROM pg_stats_ext") == 1
    assert value(target_db, "SELECT reltuples FROM pg_class WHERE relname = 'large'") == pytest.approx(200000, rel=0.05)


def test_database_settings_travel_and_the_freeze_does_not(source_db: str, target_db: str, tmp_path: Path) -> None:
    """An application that relies on its database's search_path finds it again."""
    name = conninfo_to_dict(source_db)["dbname"]
    run_script(
        source_db,
        SMALL + f'ALTER DATABASE {name} SET search_path = "Odd ""one", public; '
        f"ALTER DATABASE {name} SET app.motto = 'it''s, fine'; "
        f"ALTER DATABASE {name} SET default_transaction_read_only = off; "
        f"ALTER ROLE mover_app IN DATABASE {name} SET work_mem = '7MB'",
    )
    prepare(source_db, target_db, tmp_path)
    fill(source_db, target_db)
    assert (Answer.EQUAL, ()) == ((found := compare(source_db, target_db)).answer, found.differences)
    assert value(target_db, "SHOW search_path") == '"Odd ""one", public'
    assert value(target_db, "SHOW app.motto") == "it's, fine"
    assert value(target_db, "SHOW default_transaction_read_only") == "on"


OWNED = SMALL + "ALTER TABLE public.note OWNER TO mover_tool; "
ADVANCE = "pg_catalog.pg_replication_origin_advance(text, pg_lsn)"


def test_what_the_tool_was_granted_on_a_place_is_not_carried(
    source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path
) -> None:
    """`doctor` asks for a privilege on the server's own function for the side that is to follow: the tool's role could
    not grant it on the target, where nobody needs it, and its absence there is no difference."""
    with two_of_the_tool(source_cluster, target_cluster) as (source, target, as_tool):
        run_script(source, OWNED + f"GRANT EXECUTE ON FUNCTION {ADVANCE} TO mover_tool")
        prepare(source, as_tool, tmp_path)
        fill(source, as_tool)
        assert (Answer.EQUAL, ()) == ((found := compare(source, target)).answer, found.differences)


@contextmanager
def two_of_the_tool(source: Cluster, target: Cluster) -> Iterator[tuple[str, str, str]]:
    """A database on each side that the tool's role owns: both as superuser, and the second as that role."""
    with database(source, owner="mover_tool") as old, database(target, owner="mover_tool") as new:
        yield old, new, make_conninfo(new, user="mover_tool", password=PASSWORD)


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("GRANT SELECT ON pg_catalog.pg_authid TO mover_app", "pg_catalog.pg_authid"),
        ("GRANT SELECT (rolname) ON pg_catalog.pg_authid TO mover_app", "pg_catalog.pg_authid.rolname"),
        ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO mover_app", "pg_catalog.pg_ls_dir(pg_catalog.text)"),
        ("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep FROM PUBLIC", "pg_catalog.pg_sleep(double precision)"),
        ("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC; GRANT USAGE ON LANGUAGE plpgsql TO mover_tool", "plpgsql"),
    ],
)
def test_other_privileges_on_what_came_with_the_server_are_asked_for_by_name(
    source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path, statement: str, subject: str
) -> None:
    """The tool's role may not grant them on the target: refused before anything is touched, and the remedy works in a
    database that the fence has made read-only already. Then they are there, and everything else is loaded."""
    with two_of_the_tool(source_cluster, target_cluster) as (source, target, as_tool):
        run_script(source, OWNED + statement)
        with pytest.raises(Refusal) as caught:
            prepare(source, as_tool, tmp_path)
        assert "preflight-failed" == caught.value.code
        with connect(source, purpose="test") as old, connect(as_tool, purpose="test") as new:
            (problem,) = preflight_schema(old, new)
        assert ("system-privileges", True) == (problem.code, subject in problem.what)
        with psycopg.connect(target, autocommit=True) as admin:
            admin.execute(problem.remedy[problem.remedy.index("BEGIN") :].encode())
        prepare(source, as_tool, tmp_path)
        fill(source, as_tool)
        assert (Answer.EQUAL, ()) == ((found := compare(source, target)).answer, found.differences)


def test_what_the_target_refuses_for_want_of_a_privilege_says_how_to_grant_it_there() -> None:
    """The database was set read-only before its server was asked."""
    error = explained(psycopg.errors.InsufficientPrivilege("permission denied"), Entry("x", "ACL", "public", ""))
    assert "BEGIN READ WRITE; GRANT" in error.hint


PROBLEMS = {
    "large-objects": "SELECT lo_create(0)",
    "extension-unavailable": "CREATE EXTENSION adminpack",
    "extension-data": "CREATE EXTENSION hstore; CREATE TABLE public.settings (a integer); "
    "INSERT INTO public.settings VALUES (1); "
    "ALTER EXTENSION hstore ADD TABLE public.settings; "
    "UPDATE pg_extension SET extconfig = ARRAY['settings'::regclass::oid], extcondition = ARRAY[''] "
    "WHERE extname = 'hstore'",
    "role-missing": "CREATE ROLE mover_only_here; CREATE TABLE public.granted (); "
    "GRANT SELECT ON public.granted TO mover_only_here",
    "xml-unsupported": "CREATE TABLE public.page (body xml)",
}


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_preflight_names_what_would_go_wrong(
    source_db: str, target_db: str, target_cluster: Cluster, code: str
) -> None:
    """Each known obstacle is found by looking, before anything is touched, and comes with a remedy."""
    if code == "xml-unsupported" and "libxml" in str(
        value(target_db, "SELECT setting FROM pg_config WHERE name = 'CONFIGURE'")
    ):
        pytest.skip("this target's server was built with libxml")
    with psycopg.connect(source_db) as source:
        source.execute(PROBLEMS[code].encode())
    try:
        with connect(source_db, purpose="test") as old, connect(target_db, purpose="test") as new:
            problems = preflight_schema(old, new)
        assert [code] == [problem.code for problem in problems]
        assert all(problem.remedy for problem in problems)
    finally:
        if code == "role-missing":
            run_script(source_db, "DROP TABLE public.granted; DROP ROLE mover_only_here")


def test_preflight_sees_one_database_behind_two_names(source_db: str) -> None:
    """Two DSNs that lead to one place are found out by identity, not by spelling."""
    assert codes(source_db, source_db.replace("127.0.0.1", "localhost")) == {"same-database"}


def test_preflight_sees_another_encoding(source_db: str, target_cluster: Cluster) -> None:
    """Text would have to be converted, and not every text can be."""
    with psycopg.connect(target_cluster.dsn(), autocommit=True) as server:
        server.execute("CREATE DATABASE moved_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            assert codes(source_db, target_cluster.dsn("moved_latin")) == {"encoding-differs"}
        finally:
            server.execute("DROP DATABASE moved_latin (FORCE)")


def test_preflight_sees_rows_that_the_tool_may_not_see(source_db: str, target_db: str, source_cluster: Cluster) -> None:
    """Row-level security and missing grants hide rows; neither may pass for an empty table."""
    run_script(
        source_db,
        "CREATE TABLE public.hidden (); ALTER TABLE public.hidden ENABLE ROW LEVEL SECURITY; "
        "GRANT SELECT ON public.hidden TO mover_tool; CREATE TABLE public.secret ();",
    )
    as_tool = source_cluster.dsn(str(conninfo_to_dict(source_db)["dbname"]), "mover_tool", PASSWORD)
    with connect(as_tool, purpose="test") as old, connect(target_db, purpose="test") as new:
        found = [problem for problem in preflight_schema(old, new) if problem.code == "table-unreadable"]
    assert [
        "row-level security hides rows of public.hidden from the tool's role mover_tool",
        "the tool's role mover_tool may not read public.secret",
    ] == sorted(problem.what for problem in found)


def test_a_safety_dump_is_whole(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Its files are what the manifest says."""
    run_script(source_db, SMALL)
    run_script(target_db, SMALL)
    prepared = prepare(source_db, target_db, tmp_path, replace=True)
    assert prepared.safety_dump is not None
    found = newest_backup(tmp_path, kind="safety")
    assert found is not None
    assert (Path(prepared.safety_dump), ()) == (found.path, verify_backup(found))


def test_a_small_lock_table_is_no_obstacle(
    source_db: str, pg_installations: tuple[PgInstallation, ...], scratch: Path, tmp_path: Path
) -> None:
    """Where one transaction cannot drop the old content and load the new, the old one is dropped piece by piece."""
    tables = (
        "DO $$ BEGIN FOR n IN 1..250 LOOP "
        "EXECUTE format('CREATE TABLE public.t%s (id serial PRIMARY KEY, a text, b integer UNIQUE)', n); "
        "END LOOP; END $$"
    )
    settings = {**CHEAP_SETTINGS, "max_locks_per_transaction": "16", "max_connections": "80"}
    run_script(source_db, tables)
    with Cluster.create(scratch, "few-locks", pg_installations[-1], settings=settings) as cluster:
        make_roles(cluster)
        with database(cluster) as target:
            for start in range(1, 250, 50):
                piece = tables.replace("1..250", f"{start}..{start + 49}").replace("public.t", "public.old")
                run_script(target, piece)
            with pytest.raises(psycopg.errors.OutOfMemory):
                run_script(target, "DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + tables)
            prepared = prepare(source_db, target, tmp_path, replace=True)
            fill(source_db, target)
            comparison = compare(source_db, target)
    assert (250, True) == (prepared.tables, prepared.safety_dump is not None)
    assert (Answer.EQUAL, ()) == (comparison.answer, comparison.differences)
