"""Tables made on both sides of a running stream are taken into it: fenced, published, copied, while everybody goes on.

Each part looks at what is there, so whoever is killed here is carried on from. The fence comes first: a table that the
fallback's own writers can reach would hold rows that no stream brought.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.moments import Moment, passed_by
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, Table, connect, user_tables
from statehub_plan.postgres.following import Stream, await_barrier, await_tables
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.proof import fence_status, unfenced_tables
from statehub_plan.postgres.relations import read_relations
from statehub_plan.postgres.replication import (
    publish_also,
    published_tables,
    read_subscription,
    refresh_subscription,
    stream_name,
    subscribed_tables,
    without_identity,
)
from statehub_plan.postgres.workers import OnProgress, nobody_looks, nothing_to_lose

__all__ = ["DDL_ORDER", "RefreshEnds", "Refreshed", "refresh_stream"]

DDL_ORDER = (
    "what is added comes first on the fallback (BEGIN READ WRITE; …; COMMIT) and then on the primary, what is dropped "
    "the other way round; then run `refresh` again"
)
_WAITS_MS = (100, 200, 400, 800, 1500)
"""Longest wait for a table's lock, round by round; the last exceeds deadlock_timeout's default, after which the server
cancels an autovacuum that is in the way (manual, 24.1.6)."""
_MOST_NAMED = 20

TableName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RefreshEnds:
    """Who is who, and how they are reached. `subscriber_dsn`: the fallback as a role that may subscribe there."""

    primary: str
    fallback: str
    primary_dsn: str
    fallback_dsn: str
    subscriber_dsn: str


class Refreshed(Frozen):
    """What `refresh_stream` came to: tables that got a fence on the fallback, that were published, and that the server
    has copied, each as `schema.table`. `sequences`: those of copied tables, which get their values at a switch."""

    stream: str
    fenced: tuple[str, ...]
    published: tuple[str, ...]
    copied: tuple[str, ...]
    sequences: tuple[str, ...]


def refresh_stream(
    ends: RefreshEnds,
    *,
    epoch: int,
    timeout_s: float = 120.0,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
    moment: Moment = passed_by,
) -> Refreshed:
    """Blocks until every table of the primary is fenced on the fallback and in the stream into it, with all its rows.

    Idempotent. Writers of the primary wait for nothing. `timeout_s` limits a stream that stands still, never a copy
    that gets on. Refusal `sides-differ`, `identity-missing`, `fallback-holds-rows`, `stream-gap`, all of them with the
    tables' names and nothing done but fences; StatehubError `fence-locked`, `publish-locked`, `subscription-refused`,
    `apply-failed`, `not-streaming`.
    """
    with (
        connect(ends.primary_dsn, purpose="refresh") as primary,
        connect(ends.fallback_dsn, purpose="refresh") as fallback,
        connect(ends.subscriber_dsn, purpose="refresh") as subscriber,
    ):
        stream = Stream(stream_name(state.identity(fallback)), primary, fallback, timeout_s, on_progress, check)
        return _Refresh(ends, stream, subscriber, epoch, moment).run()


@dataclass
class _Refresh:
    ends: RefreshEnds
    stream: Stream
    subscriber: Connection
    epoch: int
    moment: Moment

    def run(self) -> Refreshed:
        for one in (self.stream.target, self.stream.source):
            with one.transaction():
                state.claim_epoch(one, self.epoch)
        if read_subscription(self.stream.target, self.stream.name) is None:
            raise _not_following(self.ends, "its subscription is gone")
        fenced = self._fence()
        self.moment("fenced")
        tables = self._streamed()
        published = self._publish(tables)
        self.moment("published")
        copied = self._subscribe()
        await_barrier(self.stream)
        return Refreshed(
            stream=self.stream.name,
            fenced=fenced,
            published=published,
            copied=tuple(sorted(qualified(*name) for name in copied)),
            sequences=_sequences(self.stream.target, copied),
        )

    def _fence(self) -> tuple[str, ...]:
        """Every table of the fallback has its fence, enabled; also one that the primary doesn't have yet."""
        fallback, done = self.stream.target, []
        missing = unfenced_tables(fallback)
        for wait_ms in _WAITS_MS:
            self.stream.check()
            for table in missing:
                if self._fence_one(table, wait_ms):
                    done.append(table.qualified)
            missing = [table for table in missing if table.qualified not in done]
            if not missing:
                break
            time.sleep(random.uniform(0.5, 1.5) * wait_ms / 1000)
        if missing:
            raise StatehubError(
                code="fence-locked",
                what=f"{len(missing)} tables of {self.ends.fallback} could not be fenced: other sessions kept them "
                "locked, and may be writing there",
                hint="look at pg_locks and pg_stat_activity of that database, end what holds a lock, then run again",
                details=_named(table.qualified for table in missing),
            )
        if not fence_status(fallback).complete:
            raise _not_following(self.ends, "it is not frozen as a whole")
        return tuple(sorted(done))

    def _fence_one(self, table: Table, wait_ms: int) -> bool:
        """False when the table's lock was not to be had in time."""
        fallback = self.stream.target
        try:
            with fallback.transaction():
                state.claim_epoch(fallback, self.epoch)
                row = fallback.execute("SELECT fence_term IS NOT NULL FROM statehub_plan.state").fetchone()
                if row != (True,):
                    raise _not_following(self.ends, "it is not frozen")
                fallback.execute("SELECT set_config('lock_timeout', %s, true)", [f"{wait_ms}ms"])
                fallback.execute(
                    "SELECT statehub_plan.fence_table(oid::oid, true) FROM statehub_plan.user_table WHERE oid = %s",
                    [table.oid],
                )
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            return False
        except psycopg.errors.UndefinedTable:
            return True  # dropped meanwhile
        return True

    def _streamed(self) -> dict[TableName, Table]:
        """The tables that the stream has to carry, once everything that speaks against it has been ruled out."""
        primary, fallback = self.stream.source, self.stream.target
        _require_alike(self.ends, primary, fallback)
        tables = {
            (one.schema, one.name): one
            for one in user_tables(primary)
            if one.kind == "ordinary" and one.persistence == "permanent"
        }
        published, taken = published_tables(primary), subscribed_tables(fallback, self.stream.name)
        if gap := tables.keys() - published & taken.keys():
            raise Refusal(
                code="stream-gap",
                what=f"{len(gap)} tables that {self.ends.fallback} follows were taken out of the publication of "
                f"{self.ends.primary}, or dropped and made anew there alone: what was written meanwhile is missing",
                hint=f"drop and create each anew on {self.ends.fallback} as well (BEGIN READ WRITE; …; COMMIT), empty; "
                "then run `refresh` again, which copies it",
                details=_named(qualified(*name) for name in gap),
            )
        _require_identity(self.ends, primary, fallback, tables.keys() - published)
        self._require_empty(tables.keys() - taken.keys())
        return tables

    def _require_empty(self, names: Iterable[TableName]) -> None:
        """What would be copied on top of them could collide with them, or hide them."""
        fallback, holding = self.stream.target, []
        with fallback.transaction():
            fallback.execute("SET LOCAL row_security = off")
            for name in sorted(names):
                found = fallback.execute(
                    sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*name))
                ).fetchone()
                if found == (True,):
                    holding.append(qualified(*name))
        if holding:
            raise Refusal(
                code="fallback-holds-rows",
                what=f"{len(holding)} tables of {self.ends.fallback} that do not follow yet hold rows, which no stream "
                "brought there",
                hint=f"see that {self.ends.primary} has what they hold, then empty them, as the tool's role: BEGIN "
                "READ WRITE; SELECT statehub_plan.admit(); TRUNCATE …; COMMIT; their rows are then copied",
                details=_named(holding),
            )

    def _publish(self, tables: dict[TableName, Table]) -> tuple[str, ...]:
        """Before they are subscribed: from then on the slot keeps what is written to them."""
        primary = self.stream.source
        missing = [tables[name] for name in sorted(tables.keys() - published_tables(primary))]
        if not missing:
            return ()
        for wait_ms in _WAITS_MS:
            self.stream.check()
            try:
                with primary.transaction():
                    state.claim_epoch(primary, self.epoch)
                    primary.execute("SELECT set_config('lock_timeout', %s, true)", [f"{wait_ms}ms"])
                    publish_also(primary, missing)
                return tuple(one.qualified for one in missing)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                time.sleep(random.uniform(0.5, 1.5) * wait_ms / 1000)
        raise StatehubError(
            code="publish-locked",
            what=f"tables of {self.ends.primary} could not be published: others kept them locked",
            hint="wait until what alters or vacuums them is over, then run again",
            details=_named(one.qualified for one in missing),
        )

    def _subscribe(self) -> tuple[TableName, ...]:
        """The tables that the server copies, once it has; also those that an earlier, killed call began."""
        target, name = self.stream.target, self.stream.name
        if published_tables(self.stream.source) - subscribed_tables(target, name).keys():
            with target.transaction():
                state.claim_epoch(target, self.epoch)
            self.stream.check()
            refresh_subscription(self.subscriber, name)
            self.moment("subscribed")
        sizes = {(one.schema, one.name): one.bytes for one in read_relations(self.stream.source)}
        copying = {each: sizes.get(each, 0) for each, at in subscribed_tables(target, name).items() if at != "r"}
        self.stream.copying.update(copying)
        await_tables(self.stream)
        return tuple(sorted(copying))


def _require_alike(ends: RefreshEnds, primary: Connection, fallback: Connection) -> None:
    """Rows travel down a stream, definitions don't: what one side lacks has to be done there first."""
    here, there = _definitions(primary), _definitions(fallback)
    details = [f"{name} is on {ends.primary} only" for name in here.keys() - there.keys()]
    details += [f"{name} is on {ends.fallback} only" for name in there.keys() - here.keys()]
    for name in here.keys() & there.keys():
        details += [
            f"{name} {column}: {here[name].get(column, 'absent')} on {ends.primary}, "
            f"{there[name].get(column, 'absent')} on {ends.fallback}"
            for column in here[name].keys() | there[name].keys()
            if here[name].get(column) != there[name].get(column)
        ]
    if details:
        raise Refusal(
            code="sides-differ",
            what=f"{ends.primary} and {ends.fallback} do not have the same tables and columns, and a stream carries "
            "rows, not DDL",
            hint=f"give both sides the same: {DDL_ORDER}",
            details=_named(details),
        )


def _definitions(connection: Connection) -> dict[str, dict[str, str]]:
    """Table → what the table is (`itself`) and each of its columns, as a stream of rows needs them alike."""
    tables = {table.oid: table for table in user_tables(connection)}
    found = {table.qualified: {"itself": f"{table.persistence} {table.kind}"} for table in tables.values()}
    rows = connection.execute(
        "SELECT attrelid::int8, attname, format_type(atttypid, atttypmod), attnotnull, attgenerated <> '' "
        "FROM pg_attribute WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped",
        [list(tables)],
    )
    for oid, column, type_name, not_null, generated in rows:
        words = (type_name, "not null" if not_null else "", "generated" if generated else "")
        found[tables[oid].qualified][f"column {column}"] = " ".join(filter(None, words))
    return found


def _require_identity(ends: RefreshEnds, primary: Connection, fallback: Connection, names: Iterable[TableName]) -> None:
    wanted = {qualified(*name) for name in names}
    missing = [
        f"{name} on {side}"
        for side, connection in ((ends.primary, primary), (ends.fallback, fallback))
        for name in without_identity(connection)
        if name in wanted
    ]
    if missing:
        raise Refusal(
            code="identity-missing",
            what=f"{len(missing)} tables have neither a primary key nor another replica identity; published, they "
            "would refuse their own writers' UPDATE and DELETE",
            hint="give each a primary key, or ALTER TABLE … REPLICA IDENTITY FULL (or USING INDEX), on both sides",
            details=_named(missing),
        )


def _sequences(connection: Connection, names: Sequence[TableName]) -> tuple[str, ...]:
    """Sequences that belong to columns of these tables, sorted."""
    rows = connection.execute(
        "SELECT DISTINCT sn.nspname, s.relname FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' "
        "JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_class t ON t.oid = d.refobjid "
        "JOIN pg_namespace tn ON tn.oid = t.relnamespace "
        "JOIN unnest(%s::text[], %s::text[]) w (s, t) ON (w.s, w.t) = (tn.nspname, t.relname) "
        "WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')",
        [[schema for schema, _ in names], [table for _, table in names]],
    )
    return tuple(sorted(qualified(schema, name) for schema, name in rows))


def _named(lines: Iterable[str]) -> tuple[str, ...]:
    told = sorted(lines)
    more = len(told) - _MOST_NAMED
    return (*told[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else ()))


def _not_following(ends: RefreshEnds, why: str) -> Refusal:
    return Refusal(
        code="not-following",
        what=f"{ends.fallback} does not follow {ends.primary}: {why}; nothing can be taken into its stream",
        hint='`observe` and `plan` say what it is; README, "When the fallback is lost or no longer follows"',
    )
