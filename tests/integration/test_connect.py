"""Sessions of the tool on real servers: what they pin, why they fail, which tables they see."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import SecretRef
from statehub_plan.postgres.connect import connect, connect_again, resolve_dsn, user_tables
from tests.integration.served_database import PASSWORD, TABLES, Served, proxied, serve


@pytest.fixture(params=["source", "target"])
def served(request: pytest.FixtureRequest) -> Served:
    """A service's database on each of the two majors."""
    return serve(request.getfixturevalue(f"{request.param}_db"))


@pytest.fixture
def garbage_port() -> Iterator[int]:
    """A port where something answers that is no PostgreSQL server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


NASTY = st.text(alphabet="/@:?#[]%&=+,;'\"\\ $!qxZ79é", min_size=4, max_size=24)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(password="hun/ter2-canary")
@example(password="hun@ter2-canary")
@example(password="qxZ7/qxZ9")
@example(password="7979/qxZ9?qxZ7")
@given(password=NASTY)
def test_no_password_shows_in_what_is_said_about_a_connection(password: str, tmp_path: Path) -> None:
    """However it is written into a URL, unescaped as people do: neither the whole nor a piece of it is told as a host,
    a port or a database, or in the words of libpq."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    (tmp_path / "dsn").write_text(f"postgresql://shop_owner:{password}@127.0.0.1:{closed}/shop")
    with pytest.raises(StatehubError) as caught:
        connect(resolve_dsn(SecretRef(file="dsn"), tmp_path), purpose="test")
    pieces = {password[at : at + 4] for at in range(len(password) - 3)}
    assert [] == [piece for piece in pieces if piece in str(caught.value)]


def test_configured_surprises_do_not_reach_a_session_of_the_tool(served: Served) -> None:
    """Whatever a database or role sets by default, the tool's sessions resolve names, write and format as always."""
    database = conninfo_to_dict(served.tool_dsn)["dbname"]
    for change in (
        "search_path = evil",
        "default_transaction_isolation = 'serializable'",
        "TimeZone = 'Asia/Tokyo'",
        "default_transaction_read_only = on",
        "idle_in_transaction_session_timeout = '1s'",
        "lock_timeout = '1s'",
        "standard_conforming_strings = off",
        "statement_timeout = '1s'",
    ):
        for target in (f'DATABASE "{database}"', f"ROLE {served.tool_role}"):
            served.admin(f"BEGIN READ WRITE; ALTER {target} SET {change}; COMMIT")
    names = (
        "search_path, TimeZone, default_transaction_read_only, idle_in_transaction_session_timeout, "
        "lock_timeout, statement_timeout, default_transaction_isolation, application_name, standard_conforming_strings"
    )
    query = f"SELECT {', '.join(f'current_setting($${name}$$)' for name in names.split(', '))}"
    with closing(connect(served.tool_dsn, purpose="test")) as session:
        expected = ("pg_catalog", "UTC", "off", "0", "0", "0", "read committed", "statehub-plan test", "on")
        assert expected == session.execute(query).fetchone()
        assert (r"a\b",) == session.execute(r"SELECT 'a\b'").fetchone()


def test_a_login_trigger_changes_no_session_of_the_tool(target_db: str) -> None:
    """It runs after start-up options were applied; what the tool pins, it pins once more."""
    changes = {
        "DateStyle": "German",
        "TimeZone": "Asia/Tokyo",
        "IntervalStyle": "iso_8601",
        "search_path": "public, pg_catalog",
        "statement_timeout": "1s",
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "1s",
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "standard_conforming_strings": "off",
        "application_name": "somebody",
    }
    query = f"SELECT {', '.join(f'current_setting($${name}$$)' for name in changes)}"
    with closing(connect(target_db, purpose="test")) as session:
        assert session.info.server_version >= 170000
        before = session.execute(query.encode()).fetchone()
        body = " ".join(f"PERFORM set_config('{name}', '{value}', false);" for name, value in changes.items())
        function = f"CREATE FUNCTION public.arriving() RETURNS event_trigger LANGUAGE plpgsql AS $f$BEGIN {body} END$f$"
        session.execute(function.encode())
        session.execute("CREATE EVENT TRIGGER arriving ON login EXECUTE FUNCTION public.arriving()")
        session.execute("ALTER EVENT TRIGGER arriving ENABLE ALWAYS")
        try:
            with psycopg.connect(target_db) as other:
                assert ("somebody",) == other.execute("SELECT current_setting('application_name')").fetchone()
            with closing(connect(target_db, purpose="test")) as later:
                assert before == later.execute(query.encode()).fetchone()
        finally:
            session.execute("DROP EVENT TRIGGER arriving")


def test_options_of_the_dsn_are_kept_where_the_tool_pins_nothing(served: Served) -> None:
    """A DSN's own `options` still apply, but not against a pinned setting."""
    dsn = make_conninfo(served.tool_dsn, options="-c work_mem=7MB -c search_path=evil")
    with closing(connect(dsn, purpose="test")) as session:
        query = "SELECT current_setting('work_mem'), current_setting('search_path')"
        assert ("7MB", "pg_catalog") == session.execute(query).fetchone()


def test_a_read_only_session_refuses_to_write(served: Served) -> None:
    """Observation asks for sessions that cannot write by accident."""
    with (
        closing(connect(served.tool_dsn, purpose="look", read_only=True)) as session,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        session.execute("INSERT INTO public.plans (title) VALUES ('by accident')")


def test_a_long_or_foreign_purpose_is_cut_to_what_the_server_keeps(served: Served) -> None:
    """application_name has 63 bytes of ASCII; the rest is lost here rather than differently on each major."""
    with closing(connect(served.tool_dsn, purpose="ä" + "x" * 80)) as session:
        name = session.execute("SELECT current_setting('application_name')").fetchone()
    assert ("statehub-plan ?" + "x" * 48,) == name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"password": "wrong"}, "wrong-password"),
        ({"password": None}, "password-missing"),
        ({"dbname": "nowhere"}, "unknown-database"),
        ({"user": "nobody-here"}, "wrong-password"),  # the server doesn't tell strangers which roles exist
        ({"sslmode": "require"}, "tls-failed"),
        ({"host": "no-such-host.invalid"}, "unknown-host"),
        ({"host": "/nonexistent"}, "connection-refused"),
        ({"port": "1"}, "connection-refused"),
    ],
)
def test_each_cause_of_a_failed_connection_is_told_with_its_remedy(
    source_db: str, change: dict[str, str | None], code: str
) -> None:
    """Wrong password, unknown database, TLS, wrong host or port: distinct codes and hints, never the password."""
    served = serve(source_db, schema="SELECT 1")
    parameters = {**conninfo_to_dict(served.tool_dsn), **change}
    with pytest.raises(StatehubError) as caught:
        connect(make_conninfo("", **parameters), purpose="test")
    assert code == caught.value.code
    assert caught.value.hint
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("preparation", "code", "remedy"),
    [
        ("ALTER ROLE {role} NOLOGIN", "role-without-login", "use a role with LOGIN"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "too-many-connections", "close idle sessions"),
        (
            "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
            "database-closed",
            'ALTER DATABASE "guarded" ALLOW_CONNECTIONS true',
        ),
        (
            "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
            "connect-not-allowed",
            'GRANT CONNECT ON DATABASE "guarded" TO "visitor"',
        ),
    ],
)
def test_what_the_server_forbids_is_told_with_its_remedy(
    source_cluster: Cluster, preparation: str, code: str, remedy: str
) -> None:
    """No LOGIN, no free connection, a closed database, no CONNECT: each names the statement that helps."""
    admin_dsn = source_cluster.dsn()
    with closing(psycopg.connect(admin_dsn, autocommit=True)) as admin:
        admin.execute("DROP DATABASE IF EXISTS guarded WITH (FORCE)")
        admin.execute("DROP ROLE IF EXISTS visitor")
        admin.execute("CREATE DATABASE guarded TEMPLATE template0")
        admin.execute(f"CREATE ROLE visitor LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(preparation.format(role="visitor", database="guarded").encode())
        dsn = make_conninfo(admin_dsn, dbname="guarded", user="visitor", password=PASSWORD)
        with pytest.raises(StatehubError) as caught:
            connect(dsn, purpose="test")
        admin.execute("DROP DATABASE guarded WITH (FORCE)")
        admin.execute("DROP ROLE visitor")
    assert code == caught.value.code
    assert remedy in caught.value.hint


def test_something_else_on_that_port_is_told(garbage_port: int) -> None:
    """A mail server, or a tunnel to the wrong place, is no PostgreSQL."""
    with pytest.raises(StatehubError) as caught:
        connect(f"host=127.0.0.1 port={garbage_port} dbname=x user=x sslmode=disable", purpose="test")
    assert "connection-dropped" == caught.value.code


def test_a_pooler_in_between_is_refused(source_db: str) -> None:
    """A pooler hands out a process id of its own; locks and settings would not stay with one session."""
    with proxied(source_db) as (proxy, dsn):

        def other_pid(data: bytes) -> bytes:
            key = data.find(b"K\x00\x00\x00\x0c")
            return data if key < 0 else data[: key + 5] + b"\x00\x00\x00\x07" + data[key + 9 :]

        proxy.rewrite = other_pid
        with pytest.raises(StatehubError) as caught:
            connect(dsn, purpose="test")
    assert "database-pooled" == caught.value.code


def test_a_lost_session_can_be_followed_by_another_to_the_same_place(served: Served) -> None:
    """After the server ended a session, a new one goes to the same database with the same password."""
    with closing(connect(served.tool_dsn, purpose="test")) as lost:
        served.admin("SELECT pg_terminate_backend(%s)", lost.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")
        with closing(connect_again(lost, purpose="again")) as session:
            query = "SELECT current_database(), current_user::text"
            assert (conninfo_to_dict(served.tool_dsn)["dbname"], served.tool_role) == session.execute(query).fetchone()


def test_user_tables_are_those_that_hold_the_users_rows(served: Served) -> None:
    """Partitions, their parents and unlogged tables count; views, temporary, foreign and extensions' tables don't."""
    served.admin(
        "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; "
        "CREATE FOREIGN TABLE public.distant (id integer) SERVER far; "
        "CREATE TABLE public.of_extension (id integer); ALTER EXTENSION postgres_fdw ADD TABLE public.of_extension; "
        "CREATE SCHEMA statehub_plan; CREATE TABLE statehub_plan.own (id integer)"
    )
    with served.tool() as session:
        session.execute("CREATE TEMPORARY TABLE passing (id integer)")
        tables = user_tables(session)
    assert TABLES == tuple(table.qualified for table in tables)
    by_name = {table.name: table for table in tables}
    assert ("partitioned", False) == (by_name["events"].kind, by_name["events"].is_partition)
    assert ("ordinary", True) == (by_name["events_2026"].kind, by_name["events_2026"].is_partition)
    assert "unlogged" == by_name["cache"].persistence
    assert {served.tool_role} == {table.owner for table in tables}
