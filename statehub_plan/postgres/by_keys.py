"""The incremental proof: tables that were proved equal once are equal still if the rows that changed since are.

A verdict of this module stands on a baseline comparison that found a table equal, on two change logs that were opened
before that comparison took its snapshots, and on the rows of all the keys that either of them names since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.changes import ChangeLog, Key, Stamp, key_form
from statehub_plan.postgres.comparison import Answer, Comparison, RowDifference, TableProof
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.content import key_digest, key_hashes
from statehub_plan.postgres.locate import matched
from statehub_plan.postgres.names import once
from statehub_plan.postgres.relations import Relation, read_relations
from statehub_plan.postgres.seeds import Seeds
from statehub_plan.postgres.sides import Labour, Side, Sides, attempt
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import server_of
from statehub_plan.postgres.workers import Crew, at_once, cancel_statement, nothing_to_lose, run_crews

__all__ = ["Changes", "KeyProof", "compare_keys", "settle"]

FoundT = TypeVar("FoundT")
_Task = tuple[str, tuple[Key, ...]]
_BATCH = 1000
_FEW = 4


@dataclass(frozen=True)
class Changes:
    """What is known of both databases since `baseline`, a comparison whose snapshots were taken after both logs had
    been opened."""

    source: ChangeLog
    target: ChangeLog
    baseline: Comparison

    def catch_up(self, tick: Callable[[], None] = nothing_to_lose) -> None:
        """Takes in, on both sides at once, what was committed before this call. What `tick`, called every 50 ms, raises
        ends that, and nothing is known afterwards."""
        at_once([self.source.catch_up, self.target.catch_up], cancel=self._give_up, tick=tick)

    def verify(self, tick: Callable[[], None] = nothing_to_lose) -> None:
        """Looks, on both sides at once, for what no slot tells; `tick` as in `catch_up`."""
        at_once([self.source.verify, self.target.verify], cancel=self._give_up, tick=tick)

    def _give_up(self) -> None:
        self.source.give_up()
        self.target.give_up()

    @property
    def stamps(self) -> tuple[Stamp | None, Stamp | None]:
        """What both catalogs were when the logs were opened; None where the baseline did not find them equal as they
        are."""
        proved = self.baseline.answer is Answer.EQUAL and not any(one.hides_definitions for one in self.baseline.waived)
        return (self.source.stamp, self.target.stamp) if proved else (None, None)

    @cached_property
    def _proved(self) -> frozenset[str]:
        return frozenset(proof.table for proof in self.baseline.tables if proof.answer is Answer.EQUAL)

    def reason_to_doubt(self, table: str, sides: Sides) -> str | None:
        """Why this table, as both sides have it, has to be compared in full; None when its changed keys are enough."""
        if table not in self._proved:
            return "the baseline did not find it equal"
        if not self.baseline.content:
            return "the baseline counted rows only"
        for side, log in zip(sides, (self.source, self.target), strict=True):
            if reason := log.reason_to_doubt(side.relations[table], side.server):
                return f"{side.name}: {reason}"
        ours, theirs = (key_form(side.relations[table]) for side in sides)
        if ours != theirs and self.keys(table):
            return "its key is another one on the other side"
        return None

    def keys(self, table: str) -> list[Key]:
        """Every key of this table that changed on either side, sorted."""
        return sorted(self.source.keys.get(table, set()) | self.target.keys.get(table, set()))


@dataclass(frozen=True, slots=True)
class KeyProof:
    """Some rows of one table: how many keys were looked at, those of equal batches, every row that differs; `reason`
    when they could not be read."""

    keys: int
    settled: tuple[Key, ...]
    rows: tuple[RowDifference, ...]
    reason: str | None = None

    def proof(self, table: str, baseline: Comparison) -> TableProof:
        """As a table's proof."""
        answer = Answer.UNKNOWN if self.reason else Answer.DIFFERENT if self.rows else Answer.EQUAL
        told = f"{self.keys} changed keys were compared; the rest was proved by {baseline.digest}"
        return TableProof(table=table, answer=answer, reason=self.reason or told)


def compare_keys(sides: Sides, keys: Mapping[str, Sequence[Key]], labour: Labour) -> dict[str, KeyProof]:
    """Whether the rows with these keys are the same on both sides, table by table; blocks while the servers look.

    Keys go in batches of 1,000, each as strong a proof as that of a whole table; only a batch that differs is taken
    apart. Costs follow the number of keys, not the size of the tables.
    """
    tasks = [
        (name, tuple(some[start : start + _BATCH]))
        for name, some in keys.items()
        for start in range(0, len(some), _BATCH)
    ]
    digests = _ask(sides, tasks, key_digest, labour)
    differing = [task for task, ours, theirs in zip(tasks, *digests, strict=True) if ours != theirs]
    rows = _ask(sides, differing, key_hashes, labour)
    found: dict[str, list[RowDifference]] = {name: [] for name in keys}
    reasons: dict[str, str] = {}
    for (name, _), *both in zip(tasks, *digests, strict=True):
        for side, part in zip(sides, both, strict=True):
            if isinstance(part, str):
                reasons[name] = f"{side.name}: {part}"
    for (name, _), ours, theirs in zip(differing, *rows, strict=True):
        if isinstance(ours, str) or isinstance(theirs, str):
            reasons.setdefault(name, str(ours if isinstance(ours, str) else theirs))
        else:
            found[name] += matched(ours, theirs)
    unsettled = {(name, key) for name, batch in differing for key in batch}
    return {
        name: KeyProof(
            len(some),
            tuple(key for key in some if (name, key) not in unsettled and name not in reasons),
            tuple(found[name]),
            reasons.get(name),
        )
        for name, some in keys.items()
    }


def settle(source_dsn: str, target_dsn: str, changes: Changes, labour: Labour) -> int:
    """Compares the keys that changed so far, while writing goes on, and forgets those that are the same on both sides;
    how many are left to be compared later.

    A row that is the same in two snapshots taken after the logs caught up, and of which neither log tells a change
    after that, is the same for good. Call it again and again: what is left for the hold is what was written meanwhile.
    """
    changes.catch_up(labour.tick)
    try:
        with Snapshot(source_dsn, purpose="settle") as ours, Snapshot(target_dsn, purpose="settle") as theirs:
            if changes.source.all_visible(ours.leader) and changes.target.all_visible(theirs.leader):
                _settle((ours, theirs), changes, labour)
    except (psycopg.Error, StatehubError):
        labour.tick()  # nothing was settled, and nothing is lost by that; whatever the caller has to say is said
    tables = changes.source.keys.keys() | changes.target.keys.keys()
    return sum(len(changes.keys(table)) for table in tables)


def _settle(snapshots: tuple[Snapshot, Snapshot], changes: Changes, labour: Labour) -> None:
    seeds = Seeds.fresh()
    ours, theirs = (_side(name, one, seeds) for name, one in zip(("source", "target"), snapshots, strict=True))
    changes.source.meet(ours.server)
    changes.target.meet(theirs.server)
    both = ours.relations.keys() & theirs.relations.keys()
    known = {table for log in (changes.source, changes.target) for table in log.keys}
    names = [name for name in sorted(known & both) if changes.reason_to_doubt(name, (ours, theirs)) is None]
    proofs = compare_keys((ours, theirs), {name: changes.keys(name) for name in names}, labour)
    settled = {table: proof.settled for table, proof in proofs.items()}
    changes.source.forget(settled)
    changes.target.forget(settled)


def _side(name: str, snapshot: Snapshot, seeds: Seeds) -> Side:
    relations = once(((each.qualified, each) for each in read_relations(snapshot.leader, seeds)), "tables")
    return Side(name, snapshot, server_of(snapshot.leader), snapshot.leader.info.server_version, None, relations, {})


def _ask(
    sides: Sides,
    tasks: Sequence[_Task],
    ask: Callable[[Connection, Relation, Sequence[Key]], FoundT],
    labour: Labour,
) -> tuple[list[FoundT | str], list[FoundT | str]]:
    """What both sides answer to each task, in their order; a text is the reason why not."""

    def one(side: Side, session: Connection, task: _Task) -> FoundT | str:
        return attempt(session, lambda: ask(session, side.relations[task[0]], task[1]))

    def all_of(side: Side) -> list[FoundT | str]:
        return [one(side, side.snapshot.leader, task) for task in tasks]

    if len(tasks) <= _FEW:
        # Connecting takes longer than looking up a few thousand keys.
        def cancel() -> None:
            for side in sides:
                cancel_statement(side.snapshot.leader)

        ours, theirs = at_once([lambda side=side: all_of(side) for side in sides], cancel=cancel, tick=labour.tick)  # type: ignore[misc]
        return ours, theirs

    def crew(side: Side) -> Crew[_Task, tuple[Connection, ...], FoundT | str]:
        return Crew(tasks, lambda task, sessions: one(side, sessions[0], task), lambda: (side.join(),), labour.jobs)

    ours, theirs = run_crews([crew(side) for side in sides], tick=labour.tick)
    return ours, theirs
