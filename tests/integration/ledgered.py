"""A database that moves between two clusters while writers keep a ledger: the move step by step, and what is left."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.fence import fence, fence_status, install, open_writes, settle_fence
from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.postgres.following import Stream, await_barrier
from statehub_plan.postgres.hold import HoldLimits
from statehub_plan.postgres.register import burn, read_decisions
from statehub_plan.postgres.replication import (
    enable_subscription,
    read_subscription,
    stream_name,
    wait_until_streaming,
)
from statehub_plan.postgres.reverse import ReverseEnds, prepare_reverse
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.sequences import read_sequences
from statehub_plan.postgres.sessions import end_others_at_once
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.postgres.switch import Switch, SwitchEnds, SwitchLimits, Timings
from statehub_plan.postgres.watch import HoldEvent
from statehub_plan.postgres.watermark import catalog_watermark
from tests.integration.moving import database
from tests.integration.served_database import PASSWORD, Served, as_role, eventually, serve

RUN, EPOCH = "run-of-the-test", 7
SCHEMA = """
CREATE SEQUENCE public.ticket;
CREATE TABLE public.ledger (writer integer, seq integer, ticket bigint NOT NULL UNIQUE DEFAULT nextval('public.ticket'),
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE, serial bigserial UNIQUE, PRIMARY KEY (writer, seq));
CREATE TABLE public.total (writer integer PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE public.doc (id bigint PRIMARY KEY, key text NOT NULL UNIQUE, body text);
CREATE TABLE public.note (id bigint PRIMARY KEY REFERENCES public.doc ON UPDATE CASCADE, body text);
CREATE TABLE public.swept (id bigint PRIMARY KEY);
CREATE SEQUENCE public.descending INCREMENT -3 MINVALUE -1000 MAXVALUE 50 START 50;
CREATE SEQUENCE public.cycling MINVALUE 1 MAXVALUE 5 CYCLE;
CREATE SEQUENCE public.at_its_end MINVALUE 1 MAXVALUE 7;
CREATE SEQUENCE public.never_called START 42;
INSERT INTO public.total SELECT n, 0 FROM generate_series(0, 31) n;
INSERT INTO public.doc SELECT n, 'key ' || n, repeat('x', 50) FROM generate_series(1, 500) n;
INSERT INTO public.note SELECT n, 'note' FROM generate_series(1, 100) n;
INSERT INTO public.swept SELECT generate_series(1, 50);
SELECT nextval('public.descending'), nextval('public.cycling');
SELECT setval('public.at_its_end', 7);
"""
LIMITS = SwitchLimits(
    hold=HoldLimits(lock_timeout_s=10, session_grace_s=0.1, writer_wait_s=10), switch_s=20, near_s=120
)
"""Generous, for a slow machine; tests of a time-out bring their own."""

SHORT = SwitchLimits(hold=HoldLimits(lock_timeout_s=1.5, session_grace_s=0.1, writer_wait_s=10), switch_s=1.5)
"""For tests of what happens when the time is up."""

At = Callable[[str, Switch], None]

# One row and its share of a sum, or neither: whoever repeats it after an answer that never came changes nothing more.
_WRITE = (
    "WITH one AS (INSERT INTO public.ledger (writer, seq) VALUES (%(writer)s, %(seq)s) "
    "ON CONFLICT (writer, seq) DO NOTHING RETURNING 1) "
    "UPDATE public.total SET n = n + 1 WHERE writer = %(writer)s AND EXISTS (SELECT FROM one)"
)
_LEDGERS = itertools.count()
_RETRIED = ("25006", "57P01", "57P02", "57P03", "57014", "25P03", None)
"""What a client of a moving database lives with: frozen, ended, not yet there, cancelled while it waited, hung up."""


def nothing(part: str, switch: Switch) -> None:
    """The `at` of whoever meddles with nothing."""


@dataclass
class Moved:
    """Two databases; `old` is primary now, `new` is to be. `publishers`: how each one's server is reached by the other,
    where that is not its own DSN."""

    old: Served
    new: Served
    directory: Path
    term: int = 1
    epoch: int = EPOCH
    names: dict[str, str] = field(default_factory=dict)
    publishers: dict[str, str] = field(default_factory=dict)
    events: list[HoldEvent] = field(default_factory=list)

    def fill(self) -> None:
        """`new` is prepared, filled and follows."""
        with self.old.tool() as source:
            install(source)
        with self.new.tool() as target:
            fence(target, term=self.term, run=RUN, epoch=self.epoch)
        prepare_schema(
            self.old.tool_dsn,
            self.new.tool_dsn,
            run=RUN,
            epoch=self.epoch,
            term=self.term,
            replace=False,
            safety_dir=self.directory,
            endpoint="new",
        )
        fill_and_follow(
            self.old.tool_dsn,
            self.new.tool_dsn,
            epoch=self.epoch,
            publisher=self.publisher(self.old),
            subscriber_dsn=self.subscriber(self.new),
            timeout_s=60,
        )

    def prepare(self) -> None:
        """The way back, made anew."""
        prepare_reverse(self.reverse(), epoch=self.epoch)

    def publisher(self, served: Served) -> str:
        """How the other side's server reaches this one."""
        return self.publishers.get(served.tool_dsn, served.tool_dsn)

    def subscriber(self, served: Served) -> str:
        """Who may subscribe there: before 16 superusers only."""
        with served.tool() as session:
            return served.admin_dsn if session.info.server_version < 160000 else served.tool_dsn

    def reverse(self) -> ReverseEnds:
        """The ends of the stream from `new` into `old`."""
        return ReverseEnds(
            self.old.tool_dsn, self.subscriber(self.old), self.new.tool_dsn, publisher=self.publisher(self.new)
        )

    def switch(self, limits: SwitchLimits = LIMITS, *, back: bool = True) -> Switch:
        """A switch of which nothing has been done."""
        ends = SwitchEnds(self.old.tool_dsn, self.new.tool_dsn, self.reverse() if back else None)
        return Switch(
            ends,
            run=RUN,
            epoch=self.epoch,
            term=self.term,
            hold_id=f"hold-{self.term}-{self.epoch}",
            limits=limits,
            on_event=self.events.append,
        )

    def decide(self, limits: SwitchLimits = LIMITS, at: At = nothing) -> Timings:
        """From the warm sessions to the decision, and no further. `at` is called after each part, with its name."""
        with self.old.tool() as source, self.new.tool() as target:
            before = catalog_watermark(source), catalog_watermark(target)
        with self.switch(limits) as switch:
            switch.prepare()
            at("prepared", switch)
            switch.take_hold()
            at("held", switch)
            switch.drain()
            at("drained", switch)
            switch.sync_sequences()
            at("sequenced", switch)
            switch.prove("test", lambda source, target: _require_unchanged(before, (source, target)))
            at("proved", switch)
            switch.freeze("new")
            at("frozen", switch)
            assert switch.decide().stands
            at("decided", switch)
            return switch.timings

    def settle(self) -> None:
        """What comes after the decision: `old` follows, the roles are exchanged."""
        self.welcome()
        self.follow_back()

    def welcome(self) -> None:
        """Sessions that began read-only are ended, and the stream that has served is taken down."""
        with self.new.tool() as new:
            end_others_at_once(new)
        stop_following(self.new.tool_dsn, self.old.tool_dsn, epoch=self.epoch, subscriber_dsn=self.subscriber(self.new))

    def follow_back(self, *, settle: bool = True) -> None:
        """The stream back runs, the new primary's fence is put away; the roles are exchanged."""
        with self.old.tool() as old, closing(connect(self.subscriber(self.old), purpose="test")) as subscriber:
            name = stream_name(identity(old))
            enable_subscription(subscriber, name)
            wait_until_streaming(old, name, timeout_s=60)
        with self.new.tool() as new:
            assert not settle or eventually(lambda: settle_fence(new, epoch=self.epoch) == ())
        self.old, self.new, self.term = self.new, self.old, self.term + 1

    def move(self, limits: SwitchLimits = LIMITS, at: At = nothing) -> Timings:
        """A whole move: afterwards `old` is the new primary, and the other one follows it."""
        self.prepare()
        timings = self.decide(limits, at)
        self.settle()
        return timings

    def reopen(self) -> None:
        """After a freeze without a decision: the term is burned, and the old side accepts writes again."""
        with self.new.tool() as target:
            assert burn(target, term=self.term, run=RUN, epoch=self.epoch).stands
            burned = next(one for one in read_decisions(target) if one.term == self.term)
        with self.old.tool() as source:
            open_writes(source, run=RUN, epoch=self.epoch, endpoint="old", term=self.term, burned=burned)
        self.term += 1

    def accepts_writes(self) -> bool:
        """Whether an application's write on the old side goes through, now and without waiting."""
        options = "-c lock_timeout=3s"
        with closing(psycopg.connect(self.old.app_dsn, autocommit=True, options=options)) as session:
            try:
                session.execute(
                    "INSERT INTO public.doc VALUES ((SELECT max(id) + 1 FROM public.doc), gen_random_uuid())"
                )
            except psycopg.Error:
                return False
        return True

    def stays_shut(self) -> bool:
        """Whether the new side is as it was: frozen, and not the primary of this term."""
        with self.new.tool() as target:
            undecided = self.term not in {one.term for one in read_decisions(target) if one.primary is not None}
            return undecided and fence_status(target).complete

    def drain(self) -> None:
        """Blocks until `new` has everything that `old` has."""
        with self.old.tool() as source, self.new.tool() as target:
            await_barrier(Stream(stream_name(identity(target)), source, target, 60.0))

    def assert_equal(self) -> None:
        """The side that follows has every row of the primary and no other; nobody writes any more."""
        self.drain()
        found = compare(self.old.tool_dsn, self.new.tool_dsn, sequences=False)
        assert Answer.EQUAL is found.answer, [str(one) for one in (*found.differences, *found.unknown)]

    def end(self) -> None:
        """No stream is left, so that both databases can be dropped."""
        for receiver, sender in ((self.old, self.new), (self.new, self.old)):
            stop_following(
                receiver.tool_dsn, sender.tool_dsn, epoch=self.epoch, subscriber_dsn=self.subscriber(receiver)
            )


def _require_unchanged(before: tuple[str, str], sessions: tuple[Connection, Connection]) -> None:
    if before != tuple(map(catalog_watermark, sessions)):
        raise StatehubError(code="definitions-changed", what="a definition has changed", hint="as a plan would be told")


@contextmanager
def moved(
    source_db: str, target_db: str, directory: Path, *, schema: str = SCHEMA, fill: bool = True
) -> Iterator[Moved]:
    """`source_db` with rows and roles, `target_db` filled from it and following; both streams are gone afterwards."""
    old = serve(source_db, schema=schema)
    new = _same_roles(target_db, old)
    for served in (old, new):
        _may_replicate(served)
    pair = Moved(old, new, directory)
    try:
        if fill:
            pair.fill()
        yield pair
    finally:
        pair.end()


def _same_roles(admin_dsn: str, model: Served) -> Served:
    name = str(conninfo_to_dict(admin_dsn)["dbname"])
    tool, app = sql.Identifier(model.tool_role), sql.Identifier(model.app_role)
    with closing(psycopg.connect(admin_dsn, autocommit=True)) as admin:
        for role in (tool, app):
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(PASSWORD)))
        admin.execute(sql.SQL("GRANT pg_signal_backend, pg_read_all_stats TO {}").format(tool))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), tool))
        admin.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(tool))
    return Served(
        admin_dsn,
        as_role(admin_dsn, model.tool_role),
        as_role(admin_dsn, model.app_role),
        model.tool_role,
        model.app_role,
    )


def _may_replicate(served: Served) -> None:
    served.admin(f"ALTER ROLE {served.tool_role} REPLICATION")
    served.admin(f"GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) TO {served.tool_role}")
    (version,) = served.admin("SELECT current_setting('server_version_num')::int")[0]
    if int(str(version)) >= 160000:
        served.admin(f"GRANT pg_create_subscription TO {served.tool_role}")


def sound(pair: Moved) -> bool:
    """Whether the next test can begin: the old side accepts writes, the new one is frozen and follows."""
    with pair.new.tool() as new:
        state = read_subscription(new, stream_name(identity(new)))
        following = state is not None and state.running
    return following and pair.accepts_writes()


class Pairs:
    """The pair that is used now."""

    def __init__(self, source: Cluster, target: Cluster, directory: Path) -> None:
        self._clusters, self._directory = (source, target), directory
        self._stack = ExitStack()
        self.pair: Moved | None = None

    def get(self) -> Moved:
        """One that is ready to be moved."""
        if self.pair is None or not sound(self.pair):
            self.close()
            old, new = (self._stack.enter_context(database(one)) for one in self._clusters)
            self.pair = self._stack.enter_context(moved(old, new, self._directory))
        self.pair.events.clear()
        self.pair.prepare()
        return self.pair

    def beside(self, served: Served) -> str:
        """The superuser's DSN of another database of that one's cluster."""
        return next(one.dsn() for one in self._clusters if f":{one.port}/" in served.admin_dsn)

    def close(self) -> None:
        """No database is left."""
        self._stack.close()
        self._stack, self.pair = ExitStack(), None


@contextmanager
def in_transaction(dsn: str, *statements: str) -> Iterator[psycopg.Connection]:
    """A session that is in the middle of a transaction."""
    with closing(psycopg.connect(dsn)) as found:
        for statement in statements:
            found.execute(statement.encode())
        yield found


def refused(
    pair: Moved, limits: SwitchLimits = SHORT, at: str = "", then: Callable[[Switch], None] | None = None
) -> StatehubError:
    """The switch comes to nothing before its decision, and the old side accepts writes at once."""

    def meddle(part: str, switch: Switch) -> None:
        if part == at and then is not None:
            then(switch)

    with pytest.raises(StatehubError) as raised:
        pair.decide(limits, meddle)
    assert pair.accepts_writes()
    assert pair.stays_shut(), "both sides accept writes"
    return raised.value


def told(error: StatehubError) -> str:
    """Everything that the error says."""
    return " ".join((error.what, *error.details))


class Ledger:
    """Clients that commit one row after the other as the application, remember what was acknowledged, and go on
    wherever writes are accepted. Something no client should see lands in `strange`."""

    def __init__(self, dsns: tuple[str, str], *, writers: int = 4, pause_s: float = 0.005) -> None:
        """Begins at once."""
        self.acknowledged: list[set[int]] = [set() for _ in range(writers)]
        self.seen: set[str | None] = set()
        self.hints: set[str] = set()
        self.strange: list[str] = []
        self._dsns, self._pause_s, self._stop = dsns, pause_s, threading.Event()
        self._first = next(_LEDGERS) * 1_000_000  # what an earlier ledger wrote is not written again
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(writers)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        connection: psycopg.Connection | None = None
        side = 0
        for seq in itertools.count(self._first):
            while seq not in self.acknowledged[number] and not self._stop.is_set():
                try:
                    connection = connection or psycopg.connect(self._dsns[side], autocommit=True, connect_timeout=5)
                    connection.execute(_WRITE, {"writer": number, "seq": seq})
                    self.acknowledged[number].add(seq)
                except psycopg.Error as error:
                    self._note(error)
                    if connection is not None:
                        connection.close()
                    connection, side = None, 1 - side
                    self._stop.wait(0.01)
            if self._stop.wait(self._pause_s):
                break
        if connection is not None:
            connection.close()

    def _note(self, error: psycopg.Error) -> None:
        self.seen.add(error.sqlstate)
        if error.diag.message_hint:
            self.hints.add(error.diag.message_hint)
        if error.sqlstate not in _RETRIED:
            self.strange.append(" ".join(str(error).split()))

    @property
    def count(self) -> int:
        """Acknowledged writes so far."""
        return sum(map(len, self.acknowledged))

    def goes_on(self, more: int = 20) -> bool:
        """Whether that many further writes are acknowledged."""
        wanted = self.count + more
        return eventually(lambda: self.count >= wanted, 30)

    def stop(self) -> None:
        """Nobody writes any more. Idempotent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def __enter__(self) -> Self:
        """Writing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Silent."""
        self.stop()

    def assert_nothing_lost(self, served: Served) -> None:
        """Each acknowledged row is there, none was done twice, and no client saw what it should not have."""
        assert not self.strange, self.strange
        rows = served.admin("SELECT writer, seq FROM public.ledger")
        wanted = {(writer, seq) for writer, seqs in enumerate(self.acknowledged) for seq in seqs}
        missing = sorted(wanted - set(rows))
        assert not missing, f"{len(missing)} acknowledged and not there: {missing[:10]}"
        ((total,),) = served.admin("SELECT sum(n)::int FROM public.total")
        assert len(rows) == total, f"{len(rows)} rows, done {total} times"


@contextmanager
def ledger(pair: Moved, *, writers: int = 4, pause_s: float = 0.005) -> Iterator[Ledger]:
    """Writers on both sides of a move, all of them past their first write."""
    with Ledger((pair.old.app_dsn, pair.new.app_dsn), writers=writers, pause_s=pause_s) as found:
        assert eventually(lambda: all(found.acknowledged), 30)
        yield found


def assert_moves_lose_nothing(pair: Moved, written: Ledger, *, moves: int) -> None:
    """The primary moves so often while clients write; each acknowledged row is there in the end, on both sides."""
    for _ in range(moves):
        pair.move()
        assert written.goes_on()
    written.stop()
    written.assert_nothing_lost(pair.old)
    pair.assert_equal()


def sequences_of(served: Served) -> dict[str, tuple[int, bool]]:
    """Every sequence's value."""
    with served.tool() as session:
        return {one.qualified: (one.last_value, one.is_called) for one in read_sequences(session)}
