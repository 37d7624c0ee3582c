"""Publication, slot and subscription one by one: repeatable, and refused with the statement that helps."""

from __future__ import annotations

import secrets
from contextlib import closing, nullcontext
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import connect, user_tables
from statehub_plan.postgres.following import tables_in_the_way
from statehub_plan.postgres.replication import (
    create_subscription,
    drop_publication,
    drop_subscription,
    enable_subscription,
    publish,
    published_tables,
    read_subscription,
    stream_name,
    subscribed_tables,
    wait_until_streaming,
    without_identity,
)
from statehub_plan.postgres.slots import create_slot, drop_slot, read_slot
from statehub_plan.postgres.snapshot import join_snapshot
from tests.integration.moving import run_script
from tests.integration.served_database import serve

SCHEMA = """
CREATE TABLE public.note (id integer PRIMARY KEY, text text);
CREATE TABLE public.parent (id integer PRIMARY KEY);
CREATE TABLE public.child (more text) INHERITS (public.parent);
CREATE UNLOGGED TABLE public.cache (id integer);
CREATE TABLE public.part (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE public.part_1 PARTITION OF public.part FOR VALUES FROM (0) TO (10);
CREATE TABLE public.late (id integer PRIMARY KEY DEFERRABLE);
CREATE TABLE public.full (id integer);
ALTER TABLE public.full REPLICA IDENTITY FULL;
"""


@pytest.fixture
def name() -> str:
    """A stream's name of its own."""
    return f"statehub_plan_{secrets.randbits(63)}_1"


def test_a_publication_lists_leaves_and_the_barrier(source_db: str) -> None:
    """Each table by itself, nothing unlogged; publishing again replaces the list."""
    run_script(source_db, SCHEMA)
    with connect(source_db, purpose="test") as connection:
        state.install(connection)
        tables = user_tables(connection)
        publish(connection, tables[:1])
        publish(connection, tables)
        listed = published_tables(connection)
        assert {"child", "full", "late", "note", "parent", "part_1", "barrier"} == {table for _, table in listed}
        assert ("public.child", "public.late") == without_identity(connection)
        assert (True, False) == (drop_publication(connection), drop_publication(connection))
        assert frozenset() == published_tables(connection)


def test_a_slot_exports_what_was_there_before_it(source_db: str, name: str) -> None:
    """What is committed after its consistent point is not in its snapshot; it can be dropped, and dropped again."""
    run_script(source_db, SCHEMA + "INSERT INTO public.note VALUES (1, 'before')")
    with connect(source_db, purpose="test") as connection:
        slot = create_slot(source_db, name)
        run_script(source_db, "INSERT INTO public.note VALUES (2, 'after')")
        with join_snapshot(source_db, slot.snapshot, purpose="test") as seen:
            assert [(1, "before")] == seen.execute("SELECT * FROM public.note").fetchall()
        found = read_slot(connection, name)
        assert found is not None
        assert (slot.consistent_point, False, False) == (found.confirmed, found.lost, found.active)
        slot.close()
        with pytest.raises(StatehubError) as caught:
            create_slot(source_db, name)
        assert "slot-not-created" == caught.value.code
        assert (True, False, None) == (
            drop_slot(connection, name),
            drop_slot(connection, name),
            read_slot(connection, name),
        )


def test_a_role_without_the_right_learns_what_to_grant(source_db: str, target_db: str, name: str) -> None:
    """REPLICATION on the sender; on the receiver a superuser before 16, a membership from 16 on."""
    source, target = serve(source_db), serve(target_db)
    with pytest.raises(StatehubError) as caught:
        create_slot(source.tool_dsn, name)
    assert ("slot-not-created", True) == (caught.value.code, "ALTER ROLE … REPLICATION" in caught.value.hint)
    for place, said in ((target, "pg_create_subscription"), (source, "superusers only")):
        with place.tool() as connection, pytest.raises(StatehubError) as refused:
            create_subscription(connection, name=name, publisher=source_db, slot=name, enabled=False)
        assert ("subscription-refused", True) == (refused.value.code, said in refused.value.hint)


def test_a_stream_from_end_to_end(source_db: str, target_db: str, name: str, tmp_path: Path) -> None:
    """Subscribed disabled, enabled, streaming, read from the slot what is in the way, dropped without its sender."""
    run_script(source_db, SCHEMA)
    run_script(target_db, SCHEMA)
    with closing(connect(source_db, purpose="test")) as source, closing(connect(target_db, purpose="test")) as target:
        for side in (source, target):
            state.install(side)
        publish(source, user_tables(source))
        create_slot(source_db, name).close()
        create_subscription(target, name=name, publisher=source_db, slot=name, enabled=False)
        before = read_subscription(target, name)
        assert before is not None
        assert (False, False, 7, 7) == (before.enabled, before.running, before.tables, before.tables_ready)
        source.execute("INSERT INTO public.full VALUES (1)")
        source.execute("INSERT INTO public.note VALUES (1, 'x')")
        assert ("public.full",) == tables_in_the_way(source, name)
        enable_subscription(target, name)
        assert wait_until_streaming(target, name, timeout_s=30).running
        assert {"r"} == set(subscribed_tables(target, name).values())
        assert (True, False) == (drop_subscription(target, name), drop_subscription(target, name))
        assert drop_slot(source, name)


@pytest.mark.parametrize("refused", [False, True], ids=["subscribed", "refused"])
def test_a_password_stays_out_of_the_receivers_log(
    source_db: str, target_db: str, target_cluster: Cluster, name: str, refused: bool
) -> None:
    """The statement holds it, and a server that logs statements, slow ones or failed ones would keep it in its log."""
    for side in (source_db, target_db):
        run_script(side, SCHEMA)
    with closing(connect(source_db, purpose="test")) as source, closing(connect(target_db, purpose="test")) as target:
        state.install(source)
        state.install(target)
        publish(source, user_tables(source))
        create_slot(source_db, name).close()
        target.execute("SET log_statement = 'all'; SET log_min_duration_statement = 0")
        source.execute(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'canary-in-a-log'".encode())
        there = {"user": name, "password": "canary-in-a-log"} | ({"port": "1"} if refused else {})
        publisher = make_conninfo(source_db, **there)
        with pytest.raises(StatehubError) if refused else nullcontext():
            create_subscription(target, name=name, publisher=publisher, slot=name, enabled=False)
        target.execute("SELECT 'logged again'")
        drop_subscription(target, name)
        drop_slot(source, name)
        source.execute(f"DROP ROLE {name}".encode())
    log = target_cluster.log_file.read_text(errors="replace")
    assert "logged again" in log
    assert "canary-in-a-log" not in log


def test_a_stream_is_named_after_a_database_that_is_known() -> None:
    """An identity that could not be read gives no name that two databases might share."""
    with pytest.raises(ValueError):
        stream_name(Identity())


def test_a_slot_that_is_made_for_somebody_who_died_can_be_dropped(source_db: str, name: str) -> None:
    """Its server process still waits for a transaction; dropping ends it."""
    run_script(source_db, SCHEMA)
    with (
        closing(psycopg.connect(source_db)) as writer,
        closing(psycopg.connect(source_db, autocommit=True, replication="database")) as session,
        connect(source_db, purpose="test") as connection,
    ):
        writer.execute("INSERT INTO public.note VALUES (1, 'open')")
        session.pgconn.send_query(f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput EXPORT_SNAPSHOT'.encode())
        while read_slot(connection, name) is None:
            session.pgconn.flush()
        drop_slot(connection, name)
        assert read_slot(connection, name) is None
