"""Which tables were redefined while they were read: a snapshot keeps rows, not what they are called and look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TypeVar

from statehub_plan.postgres.catalog_stamp import row_stamps
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.sides import Side, Sides

__all__ = ["REDEFINED", "read_under_watch"]

REDEFINED = (
    "it was truncated, rewritten or redefined after the snapshot was taken (or its schema, or a type of its columns, "
    "was): it may have been read as what it is not; compare again while nobody does that"
)

FoundT = TypeVar("FoundT")
_Stamps = dict[int, tuple[object, ...]]


def read_under_watch(
    sides: Sides, names: Sequence[str], read: Callable[[], FoundT]
) -> tuple[FoundT, tuple[set[str], set[str]]]:
    """What `read` returns, and those of these tables, on either side, of which it proves nothing.

    Names, columns, labels of enums and attributes of composite types are looked up as they are at that moment, whatever
    a snapshot shows (manual 13.6). A table that was truncated or rewritten, or has taken another one's name over, looks
    empty, and empty equals empty; what has its own name again may have been read under another. So what the snapshot
    says of each table is compared with what there is once everything was read: any new version of it is a doubt.

    Uses the snapshots' leaders meanwhile, and one more session a side. Nobody needs to be kept out by locks until then.
    """
    if not names:
        return read(), (set(), set())
    with ExitStack() as stack, ThreadPoolExecutor(2, thread_name_prefix="statehub-plan watch") as pool:
        watches = [stack.enter_context(closing(_Watch(side, names))) for side in sides]
        begun = [pool.submit(watch.begin) for watch in watches]
        found = read()
        for each in begun:
            each.result()
        ours, theirs = pool.map(_Watch.redefined, watches)
    return found, (ours, theirs)


class _Watch:
    """Tables of one side, what the snapshot says of them, and a session that sees what there is by now."""

    def __init__(self, side: Side, names: Sequence[str]) -> None:
        self._side = side
        self._tables = {oid: name for name in names if (oid := side.relations[name].oid)}
        self._session: Connection | None = None
        self._since = 0
        self._before: _Stamps = {}

    def begin(self) -> None:
        """To be called while rows are read, so that nobody waits for it."""
        leader = self._side.snapshot.leader
        row = leader.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8").fetchone()
        if row is None:
            raise RuntimeError("a query for one number returned no row")
        self._since = row[0]
        self._before = row_stamps(leader, list(self._tables), self._since)
        # Whoever joins a snapshot is on the same server, which a connection string with several hosts does not promise.
        self._session = self._side.join()
        self._session.execute("ROLLBACK")

    def redefined(self) -> set[str]:
        """Those that are not what they were."""
        if self._session is None:
            raise ValueError("nothing was watched")
        after = row_stamps(self._session, list(self._tables), self._since)
        return {name for oid, name in self._tables.items() if after.get(oid) != self._before.get(oid)}

    def close(self) -> None:
        """Ends the session."""
        if self._session is not None:
            self._session.close()
