"""A database as a service has it: owned by the tool's role (no superuser), written by an application role."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.transaction import no_longer_than

PASSWORD = "an-app-password"

SCHEMA = """
CREATE TABLE public.plans (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
CREATE TABLE public.tasks (
    id serial PRIMARY KEY,
    plan_id integer REFERENCES public.plans ON DELETE CASCADE,
    note text
);
CREATE TABLE public.events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE public.events_2026 PARTITION OF public.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE UNLOGGED TABLE public.cache (key text PRIMARY KEY, value text);
CREATE SEQUENCE public.tickets;
CREATE VIEW public.open_tasks AS SELECT id, plan_id, note FROM public.tasks;
CREATE MATERIALIZED VIEW public.plan_titles AS SELECT title FROM public.plans;
CREATE FUNCTION public.add_task(what text) RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = public
    AS 'INSERT INTO tasks (plan_id, note) VALUES (1, what) RETURNING id';
INSERT INTO public.plans (title) VALUES ('first');
INSERT INTO public.tasks (plan_id, note) VALUES (1, 'one'), (1, 'two');
INSERT INTO public.events VALUES ('2026-06-27', 'seen');
"""
TABLES = ("public.cache", "public.events", "public.events_2026", "public.plans", "public.tasks")


@dataclass(frozen=True)
class Served:
    """DSNs of one database as superuser, as the tool's role, as the application's role."""

    admin_dsn: str
    tool_dsn: str
    app_dsn: str
    tool_role: str
    app_role: str

    def admin(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Runs as superuser in a session of its own; rows, if there are any."""
        return _run(self.admin_dsn, statement, parameters)

    def app(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Runs as the application in a session of its own; rows, if there are any."""
        return _run(self.app_dsn, statement, parameters)

    @contextmanager
    def tool(self) -> Iterator[Connection]:
        """A session of the tool."""
        with closing(connect(self.tool_dsn, purpose="test")) as connection:
            yield connection


def serve(admin_dsn: str, *, schema: str = SCHEMA) -> Served:
    """Gives a fresh database to a tool role of its own with exactly the documented privileges, and fills it."""
    name = conninfo_to_dict(admin_dsn)["dbname"]
    suffix = secrets.token_hex(4)
    tool, app = f"tool_{suffix}", f"app_{suffix}"
    with closing(psycopg.connect(admin_dsn, autocommit=True)) as admin:
        for role in (tool, app):
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD))
            )
        admin.execute(sql.SQL("GRANT pg_signal_backend, pg_read_all_stats TO {}").format(sql.Identifier(tool)))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(str(name)), sql.Identifier(tool)))
        admin.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(tool)))
        admin.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(tool)))
        admin.execute(schema.encode())
        admin.execute(
            sql.SQL(
                "GRANT USAGE ON SCHEMA public TO {app}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {app}; "
                "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {app}"
            ).format(app=sql.Identifier(app))
        )
    return Served(admin_dsn, as_role(admin_dsn, tool), as_role(admin_dsn, app), tool, app)


def as_role(dsn: str, role: str) -> str:
    """The same place for another role."""
    return make_conninfo(dsn, user=role, password=PASSWORD)


def eventually(happened: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether it happened before the time was up."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class InBackground:
    """A statement that runs in a thread and session of its own, as one that has to wait does."""

    def __init__(self, dsn: str, statement: str) -> None:
        """Begins at once; `pid` is its server process."""
        self.error: psycopg.Error | None = None
        self.rows: list[tuple[object, ...]] = []
        self._connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self._connection.info.backend_pid
        self._thread = threading.Thread(target=self._work, args=(statement,))
        self._thread.start()

    def _work(self, statement: str) -> None:
        try:
            cursor = self._connection.execute(statement.encode())
            if cursor.description:
                self.rows = cursor.fetchall()
        except psycopg.Error as error:
            self.error = error
        finally:
            self._connection.close()

    @property
    def running(self) -> bool:
        """Whether it has not come back yet."""
        return self._thread.is_alive()

    def waits(self, admin_dsn: str) -> bool:
        """Whether its server process waits for a lock."""
        asked = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
        return _run(admin_dsn, asked, (self.pid,)) == [("Lock",)]

    def outcome(self, timeout_s: float = 20.0) -> str:
        """`done`, or the SQLSTATE of its failure."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()
        return "done" if self.error is None else str(self.error.sqlstate)


class Proxy:
    """A TCP proxy on loopback that can hang up when the client sends, or the server answers, certain bytes, or take
    everything and answer nothing from then on, as the near end of a tunnel does whose far end is gone."""

    def __init__(self, host: str, port: int) -> None:
        """Listens at once; `port` is where."""
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        self.hush_after: bytes | None = None
        self.hushed = False
        self.refuse_new = False
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self._sockets: list[socket.socket] = []
        self._swallowed: dict[socket.socket, threading.Event] = {}
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse_new:
                client.close()
                continue
            if self.hushed:
                self._sockets.append(client)
                continue
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for pump, arguments in ((self._upstream, (client, server)), (self._downstream, (server, client))):
                thread = threading.Thread(target=pump, args=arguments)
                self._threads.append(thread)
                thread.start()

    def _upstream(self, client: socket.socket, server: socket.socket) -> None:
        for data in _chunks(client):
            if self.cut_before and self.cut_before in data:
                self.cut_before = None
                break
            if self.cut_after and self.cut_after in data:
                self.cut_after = None
                # The server has done it and says so, and the client never hears of it.
                answered = self._swallowed[client] = threading.Event()
                server.sendall(data)
                answered.wait(10)
                break
            if self.hush_after and self.hush_after in data:
                self.hush_after, self.hushed = None, True
            try:
                server.sendall(data)
            except OSError:
                break
        _hang_up(client, server)

    def _downstream(self, server: socket.socket, client: socket.socket) -> None:
        for data in _chunks(server):
            if client in self._swallowed:
                self._swallowed[client].set()
                continue
            if self.hushed:
                continue
            try:
                client.sendall(self.rewrite(data))
            except OSError:
                break
        _hang_up(client)

    def hang_up(self) -> None:
        """Ends every connection there is; new ones are taken unless `refuse_new`."""
        _hang_up(*self._sockets)

    def close(self) -> None:
        """Hangs up on everybody and ends its threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        _hang_up(*self._sockets)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()


@contextmanager
def proxied(dsn: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of `dsn`'s server, and the DSN that goes through it."""
    parameters = conninfo_to_dict(dsn)
    proxy = Proxy(str(parameters["host"]), int(str(parameters["port"])))
    try:
        yield proxy, make_conninfo(dsn, port=proxy.port)
    finally:
        proxy.close()


def _chunks(source: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            data = source.recv(1 << 16)
        except OSError:
            return
        if not data:
            return
        yield data


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def _run(dsn: str, statement: str, parameters: tuple[object, ...]) -> list[tuple[object, ...]]:
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        cursor = connection.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def name_standbys(admin_dsn: str, names: str) -> None:
    """That server's synchronous_standby_names from now on, or in a moment: the checkpointer tells the others."""
    with closing(psycopg.connect(admin_dsn, autocommit=True)) as session:
        session.execute("SET synchronous_commit = local; SET default_transaction_read_only = off")
        session.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'".encode())
        session.execute("SELECT pg_reload_conf()")


def demand_standby(admin_dsn: str, names: str) -> None:
    """From now on every commit of that server waits for a standby of these names, of which there is none; with no names
    for nobody. Returns once it is so."""
    ended: list[str] = []
    name_standbys(admin_dsn, names)
    with closing(psycopg.connect(admin_dsn, autocommit=True)) as session:
        session.execute("SET default_transaction_read_only = off")
        session.add_notice_handler(lambda told: ended.append(str(told.source_function)))

        def is_so() -> bool:
            ended.clear()
            with no_longer_than(session, 0.1):
                session.execute("SELECT pg_logical_emit_message(true, 'test', 'test')")
            return ("SyncRepWaitForLSN" in ended) == bool(names)

        assert eventually(is_so)
