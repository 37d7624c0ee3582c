"""Which keys changed in a database since a moment, from a logical slot; and whatever makes that knowledge doubtful.

The slot comes first, the baseline comparison afterwards: then every change that the baseline did not see is in the
slot. Some that it did see are there too, which costs a look and nothing else. A doubt is never taken back: the tables
that it concerns have to be compared in full.

What a log knows holds for the definitions that it began with: a table that was out of a publication's sight, or had
another name, key or label for a while, looks afterwards as it did before. So tables are told apart by their OIDs, and
one of which anything was redefined since, whatever it was, is in doubt for good.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import psycopg
from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.postgres import pgoutput
from statehub_plan.postgres.catalog_stamp import catalog_stamp, publication_stamps, table_stamps
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.relations import Relation, read_relations
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.state import Server, server_of
from statehub_plan.postgres.workers import cancel_statement
from statehub_plan.redact import redact

__all__ = ["MOST_KEYS", "ChangeLog", "Key", "Stamp", "key_form"]

MOST_KEYS = 500_000
"""Above this many changed keys in a database, reading whole tables is no dearer, and memory is better kept."""

_WAIT_S = 10.0
_POLL_S = 0.02
_SLOT_PREFIX = "statehub_plan"

Key = tuple[str, ...]
"""The values of a table's key as text, in the order of `Relation.key`."""

_PUBLISHED = """
SELECT schemaname, tablename, to_jsonb(x)->>'rowfilter', to_jsonb(x)->'attnames'
FROM pg_publication_tables x WHERE pubname = ANY (%s)
"""
_SLOT = """
SELECT plugin = 'pgoutput' AND database = current_database() AND coalesce(wal_status, '') <> 'lost'
       AND (to_jsonb(s)->>'invalidation_reason') IS NULL,
       confirmed_flush_lsn - '0/0'::pg_lsn
FROM pg_replication_slots s WHERE slot_name = %s
"""


_ELSEWHERE = "another server answers in its place than the one that tells which rows changed"


class Stamp(NamedTuple):
    """What the catalog of a database on one server was; see `catalog_stamp`."""

    server: Server
    catalog: str


def key_form(relation: Relation) -> tuple[tuple[str, str], ...]:
    """What the texts of a key are: the columns in their order, and how each is read."""
    return tuple((column.name, column.type_name) for column in relation.key_columns)


class ChangeLog:
    """The keys that changed in one database since this log was opened, by table; a context manager. Not thread-safe,
    except for `give_up`.

    `doubts` says of tables why their keys are not known, `doubt` why nothing is; both only grow. `lasting` are tables
    of which the same would be said after another baseline. `stamp`: the catalog's at the beginning. It tells of
    `server` alone, on which its session stays after a failover that leads others away. Sessions that write are not
    disturbed; the slot keeps WAL until `catch_up` has read it.
    """

    def __init__(self, dsn: str, *, slot: str, publications: Sequence[str], temporary: bool = False) -> None:
        """Connects, makes the slot unless it is there, and waits until every transaction that the slot may have missed
        has ended (10 s; then StatehubError `changes-busy`). Open it before the baseline's snapshot is taken.

        `publications` decide which tables the slot tells of. Needs REPLICATION (StatehubError `changes-slot-refused`).
        The slot belongs to this log alone; a `temporary` one goes with its session, however that ends.
        """
        self.keys: dict[str, set[Key]] = {}
        self.doubts: dict[str, str] = {}
        self.lasting: set[str] = set()
        self.doubt: str | None = None
        self.xids: set[int] = set()
        self.slot = slot
        self._temporary = temporary
        self._opened = False
        self._given_up = threading.Event()
        self._count = 0
        self._publications = list(publications)
        self._described: dict[int, tuple[int, ...] | None] = {}
        self._connection = connect(dsn, purpose="changes")
        try:
            pin_rendering(self._connection)
            self.server = server_of(self._connection)
            self._position = self._open_slot()
            # Before the wait, and before anything is read that depends on them: a transaction that is decoded as a
            # definition was before another one changed it has ended by then, or that change is noticed.
            self._tables = table_stamps(self._connection)
            self._published = publication_stamps(self._connection, self._publications)
            self._wait_for_older_transactions()
            self._relations = {relation.oid: relation for relation in read_relations(self._connection)}
            self._doubt_what_is_not_published()
            self.stamp = Stamp(self.server, catalog_stamp(self._connection))
            self._opened = True
        except BaseException:
            self._connection.close()
            raise

    def catch_up(self) -> None:
        """Takes in everything that was committed before this call; blocks while the server decodes it.

        Memory: one key for each changed row, MOST_KEYS at most. Whatever goes wrong on the way is a doubt, never an
        exception: what was read from the slot and not understood cannot be read again.
        """
        if self.doubt is not None:
            return
        try:
            self.xids = self._unseen(self._connection)
            self._flush()
            self._require_slot()
            self._read()
        except (psycopg.Error, ValueError) as error:
            self._doubt_all(f"changes could not be read from slot {self.slot}: {redact(' '.join(str(error).split()))}")
        except BaseException as error:  # whoever calls from a thread of its own may never hear of it
            self._doubt_all(f"changes were not read to their end: {error!r}")
            raise

    def verify(self) -> None:
        """Looks for what a slot does not tell: tables that were rewritten or redefined, publications that were changed.
        To be called after rows were read by their keys; at any time before, to learn of it early."""
        if self.doubt is not None:
            return
        try:
            tables = table_stamps(self._connection)
            published = publication_stamps(self._connection, self._publications)
        except psycopg.Error as error:
            self._doubt_all(f"tables could not be looked at again: {redact(' '.join(str(error).split()))}")
            return
        except BaseException as error:  # as in `catch_up`
            self._doubt_all(f"tables were not looked at again: {error!r}")
            raise
        for oid, relation in self._relations.items():
            if tables.get(oid) != self._tables.get(oid):
                self._doubt_table(
                    relation.qualified, "it was dropped, truncated, rewritten or redefined since the baseline"
                )
        if published != self._published:
            self._doubt_all("what is published was changed since the baseline")

    def meet(self, server: Server) -> None:
        """Where others were led: to another server than this log's, and nothing is known of what they see, for good."""
        if server != self.server:
            self._doubt_all(_ELSEWHERE)

    def give_up(self) -> None:
        """Ends `catch_up` or `verify` from another thread, one call after the other until it has ended: they are in
        doubt then, and everything with them."""
        self._given_up.set()
        cancel_statement(self._connection)

    def reason_to_doubt(self, relation: Relation, server: Server) -> str | None:
        """Why the keys of this table, as it is now on `server`, are not known; None when they are."""
        if self.doubt is not None:
            return self.doubt
        if server != self.server:
            return _ELSEWHERE
        known = self._relations.get(relation.oid)
        if known is None or (known.schema, known.name) != (relation.schema, relation.name):
            return "no slot tells of it"
        if key_form(known) != key_form(relation):
            return "its key is not the one that its changes were told by"
        return self.doubts.get(relation.qualified)

    def forget(self, settled: Mapping[str, Iterable[Key]]) -> None:
        """Drops keys that were found equal on both sides in snapshots that were taken after `catch_up`."""
        for table, keys in settled.items():
            self.keys.get(table, set()).difference_update(keys)
        self._count = sum(map(len, self.keys.values()))

    def all_visible(self, connection: Connection) -> bool:
        """Whether the snapshot of `connection` sees every transaction that was ever taken in. A commit is in the WAL
        before other sessions see it, for as long as a synchronous standby takes to answer."""
        return not self._unseen(connection)

    def _unseen(self, connection: Connection) -> set[int]:
        """Of the transactions that were taken in, those that a snapshot does not see. What one sees, each later one
        does."""
        row = connection.execute(
            "SELECT pg_snapshot_xmax(s)::text, ARRAY(SELECT x::text FROM pg_snapshot_xip(s) x) "
            "FROM pg_current_snapshot() s"
        ).fetchone()
        if row is None:
            return self.xids
        newest, running = int(row[0]), {int(xid) % (1 << 32) for xid in row[1]}
        return {xid for xid in self.xids if xid in running or ((newest - xid) % (1 << 32)) - 1 >= 1 << 31}

    def drop_slot(self) -> None:
        """Removes the slot, so that it keeps no WAL; nothing happens when it is gone already."""
        self._connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [self.slot]
        )

    def close(self) -> None:
        """Ends the session; the slot stays."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_slot(self) -> int:
        if self._slot_position() is None:
            self._create_slot()
        position = self._slot_position()
        if position is None:
            raise StatehubError(
                code="changes-slot-unusable",
                what=f"the replication slot {self.slot} is not pgoutput's, not in this database, or was invalidated",
                hint="drop it, or name another one",
            )
        return position

    def _create_slot(self) -> None:
        """Waits for the transactions that write at this moment."""
        self._connection.execute(sql.SQL("SET statement_timeout = {}").format(sql.Literal(f"{_WAIT_S:g}s")))
        try:
            self._connection.execute(
                "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', %s)", [self.slot, self._temporary]
            )
        except psycopg.errors.QueryCanceled:
            raise self._busy() from None
        except psycopg.Error as error:
            raise StatehubError(
                code="changes-slot-refused",
                what=f"no slot could be made to learn which keys change: {redact(' '.join(str(error).split()))}",
                hint="ALTER ROLE … REPLICATION for the tool's role, raise max_replication_slots, or choose another "
                "compare.underHold",
            ) from error
        self._connection.execute("SET statement_timeout = 0")

    def _busy(self) -> StatehubError:
        return StatehubError(
            code="changes-busy",
            what=f"transactions that are older than the slot {self.slot} have not ended within {_WAIT_S:g} s",
            hint="end the long transactions (pg_stat_activity shows them), or try again later",
        )

    def _slot_position(self) -> int | None:
        row = self._connection.execute(_SLOT, [self.slot]).fetchone()
        return int(row[1]) if row and row[0] and row[1] is not None else None

    def _wait_for_older_transactions(self) -> None:
        """A transaction that committed just before the slot's first position may not be visible yet, and would be
        neither in the baseline nor in the slot."""
        newest = self._number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        until = time.monotonic() + _WAIT_S
        while self._number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text") < newest:
            if time.monotonic() > until:
                raise self._busy()
            time.sleep(_POLL_S)

    def _number(self, query: str) -> int:
        row = self._connection.execute(query.encode()).fetchone()
        if row is None:
            raise RuntimeError("a query for one number returned no row")
        return int(row[0])

    def _doubt_what_is_not_published(self) -> None:
        if len(self._published) != len(set(self._publications)) or not all(one.complete for one in self._published):
            self._doubt_all("a publication is missing, or does not publish every kind of change table by table")
        published: dict[tuple[str, str], list[list[str] | None]] = {}
        for schema, table, row_filter, columns in self._connection.execute(_PUBLISHED, [self._publications]):
            published.setdefault((schema, table), []).extend([columns] if row_filter is None else [])
        for relation in self._relations.values():
            name, told = relation.qualified, published.get((relation.schema, relation.name))
            if told is None:
                self._doubt_table(name, "it is in none of the publications")
            elif not any(columns is None or set(relation.key) <= set(columns) for columns in told):
                self._doubt_table(name, "it is published with a filter or without its key")
            elif relation.unlogged:
                self._doubt_table(name, "it is unlogged, and no slot tells of it")

    def _flush(self) -> None:
        # The slot is read up to where WAL is flushed, and asynchronous commits are visible before that; a commit of our
        # own flushes what came before it (manual 30.4), and does not wait for standbys. pgoutput passes it over.
        self._connection.execute("SELECT pg_logical_emit_message(true, %s, '')", [_SLOT_PREFIX])

    def _require_slot(self) -> None:
        position = self._slot_position()
        if position is None:
            raise ValueError("it is gone, or was invalidated")
        if position > self._position:
            raise ValueError("somebody else has read from it, or it was made anew")

    def _read(self) -> None:
        query = (
            "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, "
            "'proto_version', '1', 'publication_names', %s)"
        )
        names = ",".join(sql.Identifier(name).as_string(self._connection) for name in self._publications)
        with self._connection.cursor(binary=True) as cursor:
            for (data,) in cursor.stream(query, [self.slot, names]):
                if self._given_up.is_set():
                    raise ValueError("nobody waits for them any more")
                self._take(pgoutput.parse(data))
        position = self._slot_position()
        if position is None:
            raise ValueError("it is gone")
        self._position = position

    def _take(self, message: pgoutput.Message | None) -> None:
        if isinstance(message, pgoutput.Begin):
            self.xids.add(message.xid)
        elif isinstance(message, pgoutput.Relation):
            self._described[message.oid] = self._describe(message)
        elif isinstance(message, pgoutput.Truncate):
            for oid in message.oids:
                if (relation := self._known(oid)) is not None:
                    self._doubt_table(relation.qualified, "it was truncated")
        elif message is not None:
            self._take_row(message)

    def _known(self, oid: int) -> Relation | None:
        """None for a table that is newer than this log, which vouches for none of those."""
        if oid not in self._described:
            raise ValueError(f"a change of the table with OID {oid}, which was not described before")
        return self._relations.get(oid)

    def _describe(self, message: pgoutput.Relation) -> tuple[int, ...] | None:
        """Where the table's key stands in tuples; None when tuples do not tell it."""
        relation = self._relations.get(message.oid)
        if relation is None:
            return None
        if (relation.schema, relation.name) != (message.schema, message.name):
            self._doubt_table(relation.qualified, "it was written to under another name")
        places = {column.name: place for place, column in enumerate(message.columns) if column.in_identity}
        if not relation.key or not all(key in places for key in relation.key):
            return None
        if not all(column.portable for column in relation.key_columns):
            return None  # its operators are an extension's, and cannot be named without a search path
        return tuple(places[key] for key in relation.key)

    def _take_row(self, message: pgoutput.Insert | pgoutput.Update | pgoutput.Delete) -> None:
        relation = self._known(message.oid)
        if relation is None or relation.qualified in self.doubts:
            return
        table, places = relation.qualified, self._described[message.oid]
        if places is None:
            self.lasting.add(table)
            self._doubt_table(table, "its rows have no key that its replica identity tells")
            return
        old = None if isinstance(message, pgoutput.Insert) else message.old
        new = None if isinstance(message, pgoutput.Delete) else message.new
        for row in (old, new):
            if row is not None:
                self._add(table, [row[place] for place in places])

    def _add(self, table: str, values: list[str | pgoutput.Absent | None]) -> None:
        key = tuple(value for value in values if isinstance(value, str))
        if table in self.doubts:
            return
        if len(key) < len(values):
            self.lasting.add(table)
            self._doubt_table(table, "a change came without the values of its key")
            return
        keys = self.keys.setdefault(table, set())
        if key not in keys:
            keys.add(key)
            self._count += 1
        if self._count > MOST_KEYS:
            self._doubt_table(max(self.keys, key=lambda name: len(self.keys[name])), "too many of its rows changed")

    def _doubt_table(self, table: str, reason: str) -> None:
        self.doubts.setdefault(table, reason)
        self._count -= len(self.keys.pop(table, ()))

    def _doubt_all(self, reason: str) -> None:
        self.doubt = self.doubt or reason
        self.keys.clear()
        self._count = 0
        if self._temporary and self._opened:
            self._connection.close()  # nobody reads this slot any more, and it would keep WAL
