"""Filling a prepared target online until it follows the source: whoever is killed here is carried on from, not undone.

All rows as of one position of the source come by COPY, under the snapshot that a replication slot exported there; the
subscription begins at that very position. What a killed run has finished is never copied again, although its snapshot
is gone: finished tables keep the slot's position, and the others are copied by the server itself, each from a position
of its own (table synchronization).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import APPLICATION_PREFIX, Connection, connect, user_tables
from statehub_plan.postgres.copy import CHUNK_BYTES, CopyReport, copy_relations, empty_tables, flush_copies
from statehub_plan.postgres.dump import SchemaDump, dump_schema
from statehub_plan.postgres.filling import (
    FillMark,
    FillStage,
    begin_fill,
    filled_tables,
    mark_following,
    read_fill,
    record_filled,
)
from statehub_plan.postgres.finish import Effort, Finished, build_keys, finish_schema, gather_statistics
from statehub_plan.postgres.following import Stream, await_barrier, await_stopped, await_tables
from statehub_plan.postgres.loading import is_bare
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.relations import Relation, read_relations
from statehub_plan.postgres.replication import (
    PUBLICATION,
    create_subscription,
    drop_publication,
    enable_subscription,
    publish,
    published_tables,
    read_subscription,
    refresh_subscription,
    stream_name,
    subscribed_tables,
    without_identity,
)
from statehub_plan.postgres.slots import create_slot, drop_slot, read_slot
from statehub_plan.postgres.snapshot import Snapshot, join_snapshot
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.transaction import commit_once
from statehub_plan.postgres.workers import OnProgress, Progress, nobody_looks, nothing_to_lose
from statehub_plan.redact import redact
from statehub_plan.world import TransferStage

__all__ = ["FINISHED_PART", "Followed", "fill_and_follow"]

FINISHED_PART = "statehub_plan_part"
"""Publication of the tables that a killed run had finished; exists only while a subscription is made from it."""

_WORKERS = ("copy", "finish")
_GONE_S = 15.0
_POLL_S = 0.05

TableName = tuple[str, str]


class Followed(Frozen):
    """What `fill_and_follow` came to; rows and bytes are those that this call has copied itself.

    `synchronized`: tables that the server copied, because an earlier run was killed before it had. `not_followed`:
    tables that were copied and then stay as they are (unlogged ones, of whose changes no server keeps a record).
    `followed_ms`: until changes got through, of `elapsed_ms` until the planner's statistics were there as well."""

    stream: str
    consistent_point: str
    tables: int
    rows: int
    bytes: int
    synchronized: tuple[str, ...]
    not_followed: tuple[str, ...]
    indexes: int
    foreign_keys: int
    followed_ms: int
    elapsed_ms: int


def fill_and_follow(
    source_dsn: str,
    target_dsn: str,
    *,
    epoch: int,
    publisher: str,
    subscriber_dsn: str | None = None,
    jobs: int = 2,
    chunk_bytes: int = CHUNK_BYTES,
    timeout_s: float = 120.0,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Followed:
    """Blocks until the prepared, fenced target holds everything that the source holds, and follows it.

    `publisher`: conninfo by which the target's server reaches the source. `subscriber_dsn`: the target for a role that
    may subscribe (default: `target_dsn`; superuser before 16). Idempotent: carries on with what an earlier call, killed
    anywhere, has left, and only looks whether changes get through where the target follows already. `timeout_s` limits
    waiting for running transactions and for a stream that stands still, never work that gets on.

    Refusal `identity-missing`; StatehubError `target-not-prepared`, `slot-not-created`, `copy-failed`,
    `subscription-refused`, `apply-failed`, `not-streaming`; `stream-lost` when the target must be prepared again.
    """
    with (
        connect(source_dsn, purpose="fill") as source,
        connect(target_dsn, purpose="fill") as target,
        connect(subscriber_dsn or target_dsn, purpose="fill") as subscriber,
    ):
        name = stream_name(state.identity(target))
        stream = Stream(name, source, target, timeout_s, on_progress, check)
        fill = _Fill(source_dsn, target_dsn, publisher, subscriber, epoch, jobs, chunk_bytes, stream)
        try:
            return fill.run()
        except psycopg.OperationalError as error:
            raise StatehubError(
                code="connection-lost",
                what=redact(f"the fill was interrupted: {' '.join(str(error).split())}"),
                hint="check both servers' logs and the network, then run again: it carries on with what is there",
            ) from error


@dataclass
class _Fill:
    source_dsn: str
    target_dsn: str
    publisher: str
    subscriber: Connection
    epoch: int
    jobs: int
    chunk_bytes: int
    stream: Stream
    copied: list[CopyReport] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    post: SchemaDump | None = None
    synchronized: tuple[TableName, ...] = ()

    @property
    def source(self) -> Connection:
        return self.stream.source

    @property
    def target(self) -> Connection:
        return self.stream.target

    @property
    def _effort(self) -> Effort:
        return Effort(self.epoch, self.jobs, self.stream.on_progress, self.stream.check)

    def run(self) -> Followed:
        began = time.monotonic()
        with self.target.transaction():
            state.claim_epoch(self.target, self.epoch)
        self._require_prepared()
        self._end_leftovers()
        mark = self._carried_on() or self._begun()
        if mark.stage is FillStage.FILLING:
            self._complete()
        self._enable()
        await_barrier(self.stream)
        followed_ms = _ms_since(began)
        if mark.stage is FillStage.FILLING:
            gather_statistics(self.source_dsn, self.target_dsn, self._effort)
            await_barrier(self.stream)  # that may have taken minutes, and the record says that it follows
        self._record(mark_following, mark.model_copy(update={"stage": FillStage.FOLLOWING}))
        return self._report(mark, followed_ms, began)

    def _require_prepared(self) -> None:
        current = state.read_state(self.target)
        transfer = current.transfer if current is not None and not current.copied else None
        if current is None or current.fence is None or transfer is None or transfer.stage is TransferStage.NONE:
            raise _not_prepared("the target is not prepared and frozen")
        if transfer.source != state.identity(self.source):
            raise _not_prepared("the target was prepared for another source")

    def _end_leftovers(self) -> None:
        """Server processes of a killed run may be at work for a while; what they still commit would be a surprise."""
        names = [APPLICATION_PREFIX + purpose for purpose in _WORKERS]
        deadline = time.monotonic() + _GONE_S
        while self.target.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = ANY (%s)",
            [names],
        ).fetchall():
            if time.monotonic() > deadline:
                raise StatehubError(
                    code="target-busy",
                    what="sessions of an earlier run still work on the target and do not end",
                    hint="end the sessions named 'statehub-plan copy' and 'statehub-plan finish' there, then run again",
                )
            time.sleep(_POLL_S)

    def _carried_on(self) -> FillMark | None:
        """The mark of a fill that something can be kept of; None when there is none, or nothing of it was finished."""
        mark = read_fill(self.target)
        subscription = read_subscription(self.target, self.stream.name)
        if subscription is None and (
            mark is None or (mark.stage is FillStage.FILLING and not filled_tables(self.target))
        ):
            return None
        slot = read_slot(self.source, self.stream.name)
        if mark is None or (subscription is None and mark.stage is FillStage.FOLLOWING):
            why = (
                "its subscription is gone" if subscription is None else "its subscription is not one that was recorded"
            )
        elif slot is None:
            why = f"the slot {self.stream.name} is gone from the source"
        elif slot.lost:
            why = f"the source has removed WAL that the slot {self.stream.name} still needed"
        elif subscription is not None and subscription.slot != self.stream.name:
            why = "its subscription was being taken down"
        elif subscription is None and slot.confirmed != mark.point:
            why = f"the slot {self.stream.name} is not the one that was made for it: it begins elsewhere"
        elif missing := self._permanent().keys() - published_tables(self.source):
            why = f"the source publishes no longer what the target follows: {', '.join(map('.'.join, sorted(missing)))}"
        else:
            return mark
        raise StatehubError(
            code="stream-lost",
            what=f"the target cannot catch up with the source any more: {why}",
            hint="prepare the target again; it is then filled from the beginning",
        )

    def _begun(self) -> FillMark:
        """A new slot, recorded before a row is copied; then all rows as of its beginning."""
        if not is_bare(self.target):
            raise _not_prepared("the target has indexes or triggers, so it has been filled before")
        missing = without_identity(self.source)
        if missing:
            raise Refusal(
                code="identity-missing",
                what=f"{len(missing)} tables have neither a primary key nor another replica identity; published, they "
                "would refuse their own writers' UPDATE and DELETE",
                hint="give each a primary key, or ALTER TABLE … REPLICA IDENTITY FULL (or USING INDEX)",
                details=missing,
            )
        empty_tables(self.target, read_relations(self.source), epoch=self.epoch)  # no slot for what must fail
        self._publish()
        drop_slot(self.source, self.stream.name)
        slot = create_slot(
            self.source_dsn, self.stream.name, timeout_s=self.stream.timeout_s, on_wait=self._tell_who_holds_up()
        )
        try:
            mark = FillMark(stage=FillStage.FILLING, slot=slot.name, point=slot.consistent_point)
            self._record(partial(begin_fill, slot=mark.slot, point=mark.point), mark)
            join = partial(join_snapshot, self.source_dsn, slot.snapshot, purpose="copy")
            with join() as seen:
                relations = read_relations(seen)
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="statehub-plan") as meanwhile:
                dumped = meanwhile.submit(self._dump_post)
                self._copy(relations, join)
            self.post = dumped.result()
        finally:
            slot.close()
        return mark

    def _dump_post(self) -> SchemaDump | None:
        """What is built after the rows; None, to be asked for again then, where pg_dump found a table locked."""
        with suppress(StatehubError), connect(self.source_dsn, purpose="fill") as session:
            return dump_schema(session, "post-data", target_major=major_of(self.target), check=nothing_to_lose)
        return None

    def _publish(self) -> None:
        state.install(self.source)
        with self.source.transaction():
            state.claim_epoch(self.source, self.epoch)
            publish(self.source, user_tables(self.source))

    def _tell_who_holds_up(self) -> Callable[[tuple[str, ...]], None]:
        began = time.monotonic()

        def tell(held_up_by: tuple[str, ...]) -> None:
            self.stream.check()
            subject = "; ".join(held_up_by) or self.stream.name
            waited_s = time.monotonic() - began
            phase = f"the slot waits for {subject}" if held_up_by else "wait for the slot"
            self.stream.on_progress(Progress(phase, round(waited_s), 0, "s", waited_s, subject))

        return tell

    def _copy(self, relations: tuple[Relation, ...], join: Callable[[], Connection]) -> None:
        empty_tables(self.target, relations, epoch=self.epoch)

        def complete(session: Connection, relation: Relation, rows: int, size: int) -> None:
            state.require_epoch(session, self.epoch)
            record_filled(session, (relation.schema, relation.name), rows, size)

        self.copied.append(
            copy_relations(
                relations,
                join,
                self.target_dsn,
                epoch=self.epoch,
                binary=major_of(self.target) >= major_of(self.source),
                jobs=self.jobs,
                chunk_bytes=self.chunk_bytes,
                complete=complete,
                on_progress=self.stream.on_progress,
                check=self.stream.check,
            )
        )

    def _complete(self) -> None:
        """Everything that is still missing between the copied rows and a stream that may begin, or has begun."""
        if read_subscription(self.target, self.stream.name) is None:
            present = {(each.schema, each.name): each for each in read_relations(self.target)}
            left = [each for name, each in present.items() if name not in filled_tables(self.target)]
            if not left:
                self._finish()
                self._subscribe(self._permanent())
                return
            self._subscribe_to_finished(left)
        # Here the server copies what no run had finished, into tables that have keys and nothing else yet.
        self._synchronize()
        self._finish()

    def _subscribe_to_finished(self, left: list[Relation]) -> None:
        """A subscription that takes changes of the finished tables only; the others are empty and have their keys.

        It never reads the publication of the finished tables, only that publication's list, once: what the slot reads
        is decided by the publications as they were when each change was made, and there was only the full one then.
        """
        empty_tables(self.target, left, epoch=self.epoch)
        unlogged = tuple(each for each in left if each.unlogged)
        if unlogged:
            with Snapshot(self.source_dsn, purpose="copy") as snapshot:
                names = {(each.schema, each.name) for each in unlogged}
                seen = tuple(r for r in read_relations(snapshot.leader) if (r.schema, r.name) in names)
                self._copy(seen, snapshot.join)
            flush_copies(self.target)
        build_keys(self.source_dsn, self.target_dsn, self._effort)
        done = filled_tables(self.target)
        with self.source.transaction():
            state.claim_epoch(self.source, self.epoch)
            tables = (table for table in user_tables(self.source) if (table.schema, table.name) in done)
            publish(self.source, tables, publication=FINISHED_PART)
        self._subscribe(done & self._permanent().keys(), tables_of=FINISHED_PART)

    def _synchronize(self) -> None:
        drop_publication(self.source, publication=FINISHED_PART)
        self._enable()
        sizes = {(each.schema, each.name): each.bytes for each in read_relations(self.source)}
        taken = subscribed_tables(self.target, self.stream.name)
        if self._permanent().keys() - taken.keys():
            refresh_subscription(self.subscriber, self.stream.name)
            taken = subscribed_tables(self.target, self.stream.name)
        waiting = {name: sizes.get(name, 0) for name, each in taken.items() if each != "r"}
        self.synchronized = tuple(sorted(waiting))
        self.stream.copying.update(waiting)
        await_tables(self.stream)
        # In peace: an index that is being built and a worker that applies would wait for each other.
        self._enable(enabled=False)
        await_stopped(self.stream)

    def _finish(self) -> None:
        finished = finish_schema(
            self.source_dsn,
            self.target_dsn,
            epoch=self.epoch,
            jobs=self.jobs,
            resumable=True,
            statistics=False,  # the stream need not wait for them: it finds its rows by their keys
            post=self.post,
            on_progress=self.stream.on_progress,
            check=self.stream.check,
        )
        self.finished.append(finished)

    def _subscribe(self, expected: Iterable[TableName], *, tables_of: str = PUBLICATION) -> None:
        name = self.stream.name
        # The claim's lock keeps other runs out while the subscriber's own session works.
        with self.target.transaction(), self.subscriber.transaction():
            state.claim_epoch(self.target, self.epoch)
            create_subscription(
                self.subscriber, name=name, publisher=self.publisher, slot=name, enabled=False, tables_of=tables_of
            )
            missing = set(expected) - subscribed_tables(self.subscriber, name).keys()
            if missing:
                raise StatehubError(
                    code="publisher-elsewhere",
                    what="the conninfo by which the target's server reaches the source leads to a database that does "
                    f"not publish {len(missing)} of the tables; there is no subscription",
                    hint="let it lead to the very database that the tool itself uses as the source",
                    details=tuple(sorted(qualified(*table) for table in missing)),
                )

    def _enable(self, *, enabled: bool = True) -> None:
        with self.target.transaction():
            state.claim_epoch(self.target, self.epoch)
            enable_subscription(self.subscriber, self.stream.name, enabled=enabled)

    def _record(self, work: Callable[[Connection], None], mark: FillMark) -> None:
        def fenced(connection: Connection) -> None:
            state.claim_epoch(connection, self.epoch)
            work(connection)

        commit_once(self.target, fenced, lambda seen, _: read_fill(seen) == mark, what=f"the stage {mark.stage}")

    def _permanent(self) -> dict[TableName, Relation]:
        return {(each.schema, each.name): each for each in read_relations(self.target) if not each.unlogged}

    def _report(self, mark: FillMark, followed_ms: int, began: float) -> Followed:
        relations = read_relations(self.target)
        return Followed(
            stream=self.stream.name,
            consistent_point=mark.point,
            tables=len(relations),
            rows=sum(each.rows for each in self.copied),
            bytes=sum(each.bytes for each in self.copied),
            synchronized=tuple(qualified(*table) for table in self.synchronized),
            not_followed=tuple(each.qualified for each in relations if each.unlogged),
            indexes=sum(each.indexes for each in self.finished),
            foreign_keys=sum(each.foreign_keys for each in self.finished),
            followed_ms=followed_ms,
            elapsed_ms=_ms_since(began),
        )


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _not_prepared(why: str) -> StatehubError:
    return StatehubError(
        code="target-not-prepared",
        what=f"{why}; nothing is filled in there",
        hint="make a new plan; it begins with preparing the target",
    )
