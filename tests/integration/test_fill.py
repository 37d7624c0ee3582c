"""A target is filled while the source is written to, and follows it: nothing missing, nothing twice."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence_status
from statehub_plan.postgres.filling import FillStage, read_fill
from statehub_plan.postgres.state import claim_epoch
from statehub_plan.postgres.workers import Progress
from tests.integration.filled import Writer, assert_same, drain, fill, killed, source_and_target
from tests.integration.moving import (
    EPOCH,
    EVERYTHING,
    PASSWORD,
    make_roles,
    prepare,
    run_past_fence,
    run_script,
    value,
)
from tests.integration.served_database import eventually, proxied

IDENTITIES = "; ".join(
    f"ALTER TABLE hub.{table} REPLICA IDENTITY FULL"
    for table in ("parent", "child", "remark_0", "remark_1", "no_columns", "booking", "dropped_column")
)


@pytest.fixture(autouse=True)
def _roles(source_cluster: Cluster, target_cluster: Cluster) -> None:
    make_roles(source_cluster)
    make_roles(target_cluster)


def stage(dsn: str) -> FillStage | None:
    """How far the target's fill says it is."""
    with connect(dsn, purpose="test") as target:
        mark = read_fill(target)
    return mark.stage if mark else None


def test_everything_arrives_and_goes_on_arriving(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Every kind of table and type, indexes, keys, triggers and views; what is written afterwards follows; fenced."""
    run_script(source_db, EVERYTHING + IDENTITIES)
    prepare(source_db, target_db, tmp_path)
    phases: dict[str, Progress] = {}
    followed = fill(source_db, target_db, on_progress=lambda progress: phases.update({progress.phase: progress}))
    run_script(
        source_db,
        "INSERT INTO hub.empty_one VALUES (1); UPDATE hub.no_key SET b = 'x'; TRUNCATE hub.remark; "
        "DELETE FROM hub.parent; UPDATE hub.team SET name = name || '!'",
    )
    assert_same(source_db, target_db)
    with connect(target_db, purpose="test") as target:
        assert () == fence_status(target).unfenced
    assert (17, ("hub.cache",), FillStage.FOLLOWING) == (followed.tables, followed.not_followed, stage(target_db))
    assert (True, True) == (phases["copy"].done == phases["copy"].total > 0, "catch up" in phases)


def test_back_into_the_older_major(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The newer server is the source, the older one the target, where a superuser has to subscribe and nothing else;
    writers meanwhile, one of them with a transaction that is open from the copy to the stream."""
    older, newer = source_db, target_db
    tool, _ = _roles_on(newer, older, sender="ALTER ROLE {tool} REPLICATION")
    old, new = (make_conninfo(dsn, user=tool, password=PASSWORD) for dsn in (older, newer))
    source_and_target(new, old, tmp_path)
    with closing(psycopg.connect(newer)) as long, Writer(newer):

        def begin_long(progress: Progress) -> None:
            if progress.phase == "copy" and long.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                long.execute("INSERT INTO public.account SELECT n, 'long ' || n FROM generate_series(1000, 4000) n")

        fill(new, old, subscriber_dsn=older, on_progress=begin_long)
        long.commit()
    assert_same(newer, older)
    gathered = "SELECT string_agg(tablename || CASE WHEN inherited THEN ', whole' ELSE '' END, '; ') FROM pg_stats"
    known = str(value(older, f"{gathered} WHERE schemaname = 'public'")).split("; ")
    assert {"account", "event, whole", "codes"} <= set(known)


def test_a_role_that_is_no_superuser_on_either_side(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Exactly the documented grants: also for tables of another owner, and when the server copies what a kill left."""
    tool, owner = _roles_on(
        source_db,
        target_db,
        sender="ALTER ROLE {tool} REPLICATION",
        receiver="GRANT pg_create_subscription TO {tool}",
    )
    old, new = (make_conninfo(dsn, user=tool, password=PASSWORD) for dsn in (source_db, target_db))
    source_and_target(old, new, tmp_path)
    for dsn in (source_db, target_db):
        run_past_fence(dsn, f"ALTER TABLE public.entry OWNER TO {owner}", f"ALTER TABLE public.swept OWNER TO {owner}")
    with Writer(source_db):
        killed(old, new, "record_filled", "call", 3)
        followed = fill(old, new)
    assert followed.synchronized
    assert_same(source_db, target_db)


def _roles_on(sending: str, receiving: str, *, sender: str, receiver: str = "") -> tuple[str, str]:
    """The tool's role and another owner on both sides, with what the tool needs there and nothing else."""
    tool, owner = (f"{name}_{secrets.token_hex(4)}" for name in ("tool", "owner"))
    for dsn, grant in ((sending, sender), (receiving, receiver)):
        statements = (
            "CREATE ROLE {tool} LOGIN PASSWORD {password}",
            "CREATE ROLE {owner}",
            "GRANT {owner} TO {tool}",
            "GRANT pg_signal_backend, pg_read_all_stats TO {tool}",
            "ALTER DATABASE {database} OWNER TO {tool}",
            "ALTER SCHEMA public OWNER TO {tool}",
            "GRANT ALL ON SCHEMA public TO {owner}",
            *([grant] if grant else []),
        )
        names = {"tool": tool, "owner": owner, "database": str(conninfo_to_dict(dsn)["dbname"])}
        identifiers = {key: sql.Identifier(name) for key, name in names.items()}
        with psycopg.connect(dsn, autocommit=True) as admin:
            for statement in statements:
                admin.execute(sql.SQL(statement).format(**identifiers, password=sql.Literal(PASSWORD)))
    return tool, owner


def test_whoever_holds_the_slot_up_is_named(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A transaction that has written, in whatever database, is waited for and named; one that only reads is not."""
    source_and_target(source_db, target_db, tmp_path)
    other = make_conninfo(source_db, dbname="postgres", application_name="night batch")
    seen: set[str] = set()
    with closing(psycopg.connect(source_db)) as reader, closing(psycopg.connect(other)) as writer:
        reader.execute("SELECT count(*) FROM public.account")
        writer.execute("SELECT pg_current_xact_id()")
        pid = writer.info.backend_pid
        with pytest.raises(StatehubError) as caught:
            fill(source_db, target_db, timeout_s=0.1, on_progress=lambda progress: seen.add(progress.phase))
        writer.rollback()
        assert "slot-not-created" == caught.value.code
        assert [True] == [f"session {pid} " in line and "night batch" in line for line in caught.value.details]
        assert any(phase.startswith("the slot waits for ") and f"session {pid} " in phase for phase in seen)
        fill(source_db, target_db)
    assert_same(source_db, target_db)


def test_a_prepared_transaction_holds_the_slot_up_too(source_db: str, target_db: str, tmp_path: Path) -> None:
    """It has no session, and is named by its own name."""
    source_and_target(source_db, target_db, tmp_path)
    name = f"forgotten_{secrets.token_hex(4)}"
    with closing(psycopg.connect(source_db, autocommit=True)) as connection:
        connection.execute(f"BEGIN; DELETE FROM public.swept; PREPARE TRANSACTION '{name}'".encode())
        with pytest.raises(StatehubError) as caught:
            fill(source_db, target_db, timeout_s=0.1)
        assert [True] == [f"prepared transaction {name}" in line for line in caught.value.details]
        assert value(source_db, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 0
        connection.execute(f"COMMIT PREPARED '{name}'".encode())


def test_processes_and_connections_that_break_are_survived(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Walsender killed, apply worker killed, network cut and restored: afterwards nothing is missing or twice."""
    source_and_target(source_db, target_db, tmp_path)
    with proxied(source_db) as (proxy, publisher), Writer(source_db) as writer:
        proxy.refuse_new = True
        with pytest.raises(StatehubError) as caught:
            fill(source_db, target_db, publisher=publisher)
        assert "subscription-refused" == caught.value.code
        proxy.refuse_new = False
        assert 0 == fill(source_db, target_db, publisher=publisher).rows
        for dsn, kill in (
            (source_db, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"),
            (target_db, "SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE pid IS NOT NULL"),
        ):
            drain(source_db, target_db)
            value(dsn, kill)
        drain(source_db, target_db)
        proxy.refuse_new = True
        proxy.hang_up()
        written = writer.written
        assert eventually(lambda: writer.written > written + 5)
        proxy.refuse_new = False
        drain(source_db, target_db)
        fill(source_db, target_db, publisher=publisher)
        writer.stop()
        assert_same(source_db, target_db)
        value(target_db, "SELECT 1")
        run_past_fence(target_db, *(f"ALTER SUBSCRIPTION {name} DISABLE" for name in _subscriptions(target_db)))


def _subscriptions(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT quote_ident(subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
            "WHERE datname = current_database()"
        )
        return [name for (name,) in rows]


@pytest.mark.parametrize("where", ["applied", "synchronized"])
def test_a_row_that_is_in_the_way_is_named(source_db: str, target_db: str, tmp_path: Path, where: str) -> None:
    """Someone got past the fence and wrote a row: the stream stops there, says so, and goes on once it is gone."""
    source_and_target(source_db, target_db, tmp_path)
    if where == "synchronized":
        killed(source_db, target_db, "record_filled", "call", 3)
        killed(source_db, target_db, "create_subscription", "return")
        killed(source_db, target_db, "refresh_subscription", "call")
        run_past_fence(target_db, "INSERT INTO public.swept VALUES (7, 'by hand')")
    else:
        fill(source_db, target_db)
        run_past_fence(target_db, "INSERT INTO public.swept VALUES (7000, 'by hand')")
        run_script(source_db, "INSERT INTO public.swept VALUES (7000, 'in order')")
    with pytest.raises(StatehubError) as caught:
        fill(source_db, target_db)
    assert ("apply-failed", True) == (caught.value.code, "public.swept" in caught.value.what)
    run_past_fence(target_db, "DELETE FROM public.swept WHERE text = 'by hand'")
    fill(source_db, target_db)
    assert_same(source_db, target_db)


def test_a_thousand_tables(source_db: str, target_db: str, tmp_path: Path) -> None:
    """As many small tables as a large application has."""
    run_script(
        source_db,
        "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format("
        "'CREATE TABLE public.t%s (id integer PRIMARY KEY); INSERT INTO public.t%s VALUES (%s)', n, n, n); "
        "END LOOP; END $$",
    )
    prepare(source_db, target_db, tmp_path)
    followed = fill(source_db, target_db)
    assert (1000, 1000) == (followed.tables, followed.rows)
    run_script(source_db, "INSERT INTO public.t1000 VALUES (1); DELETE FROM public.t1;")
    drain(source_db, target_db)
    assert value(target_db, "SELECT (SELECT count(*) FROM public.t1000) - (SELECT count(*) FROM public.t1)") == 2


def test_servers_that_crash_forget_nothing(
    source_cluster: Cluster, target_cluster: Cluster, source_db: str, target_db: str, tmp_path: Path
) -> None:
    """Both servers crash between two attempts, the target once more in the middle of one: the next one carries on."""
    source_and_target(source_db, target_db, tmp_path)
    killed(source_db, target_db, "record_filled", "call", 4)
    for cluster in (source_cluster, target_cluster):
        cluster.stop("immediate")
        cluster.start()
    crashed: list[str] = []

    def crash(progress: Progress) -> None:
        if progress.phase == "statistics" and not crashed:
            crashed.append(progress.phase)
            target_cluster.stop("immediate")
            target_cluster.start()

    with Writer(source_db):
        with pytest.raises(StatehubError):
            fill(source_db, target_db, on_progress=crash)
        followed = fill(source_db, target_db)
    assert (["statistics"], 0) == (crashed, followed.rows)
    assert_same(source_db, target_db)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
            "gone",
        ),
        (
            "SELECT pg_drop_replication_slot(slot_name), pg_create_logical_replication_slot(slot_name, plugin) "
            "FROM pg_replication_slots WHERE database = current_database()",
            "not the one",
        ),
        ("DROP PUBLICATION statehub_plan", "publishes no longer"),
    ],
)
def test_a_stream_that_is_lost_is_said_to_be(
    source_db: str, target_db: str, tmp_path: Path, statement: str, said: str
) -> None:
    """Without its slot, or with one that begins later, the target would silently miss changes: it is refused."""
    source_and_target(source_db, target_db, tmp_path)
    killed(source_db, target_db, "create_subscription", "call")
    run_script(source_db, "INSERT INTO public.swept VALUES (77777, 'missed')")
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute(statement.encode())
    with pytest.raises(StatehubError) as caught:
        fill(source_db, target_db)
    assert ("stream-lost", True) == (caught.value.code, said in caught.value.what)
    if said == "gone":
        prepare(source_db, target_db, tmp_path)
        fill(source_db, target_db)
        assert_same(source_db, target_db)


def test_refusals_before_anything_is_touched(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Not prepared; a table that would refuse its own writers once it is published; a run that lost its lease."""
    run_script(source_db, "CREATE TABLE public.note (id integer); INSERT INTO public.note VALUES (1);")
    run_script(target_db, "SELECT 1")
    prepare(source_db, target_db, tmp_path)
    with pytest.raises(Refusal) as refused:
        fill(source_db, target_db)
    assert ("identity-missing", ("public.note",)) == (refused.value.code, refused.value.details)
    assert value(source_db, "SELECT count(*) FROM pg_publication") == 0
    with connect(target_db, purpose="newer run") as newer, newer.transaction():
        claim_epoch(newer, EPOCH + 1)
    with pytest.raises(StatehubError) as caught:
        fill(source_db, target_db)
    assert ("fenced-out", Exit.LOCKED) == (caught.value.code, caught.value.exit_status)


def test_a_publisher_that_leads_elsewhere_is_noticed(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The target's server would follow another database than the one that it was filled from."""
    source_and_target(source_db, target_db, tmp_path)
    elsewhere = make_conninfo(source_db, dbname="postgres")
    with pytest.raises(StatehubError) as caught:
        fill(source_db, target_db, publisher=elsewhere)
    assert "publisher-elsewhere" == caught.value.code
    assert [] == _subscriptions(target_db)
    fill(source_db, target_db)
    assert_same(source_db, target_db)
