"""A comparison that both sides' change logs vouch for from then on: what the proof inside a hold stands on.

Its slots are temporary, so nothing of it outlives this process, and whoever comes after makes a baseline of its own.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.by_keys import Changes, settle
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.comparison import Comparison
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.replication import PUBLICATION
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour
from statehub_plan.postgres.state import server_of
from statehub_plan.postgres.workers import nobody_looks

__all__ = ["Baseline"]

_CATCH_UP_S = 0.5
_FEW_KEYS = 500
_ROUNDS = 20
_ALL = "all tables"


class Baseline:
    """Both change logs, and the comparison once there is one. A context manager, for one thread."""

    def __init__(self, source_dsn: str, target_dsn: str) -> None:
        """Opens both logs, before the snapshots of the comparison; StatehubError `changes-busy`, `changes-slot-refused`
        or `changes-not-known`."""
        self._dsns = source_dsn, target_dsn
        self._changes: Changes | None = None
        self._stack = ExitStack()
        name = f"statehub_plan_changes_{secrets.token_hex(4)}"
        try:
            self._source, self._target = (self._opened(dsn, name) for dsn in self._dsns)
        except BaseException:
            self._stack.close()
            raise
        self._known_doubts = set(self._doubts())
        if _ALL in self._known_doubts:
            self._stack.close()
            raise StatehubError(
                code="changes-not-known",
                what=f"nobody would tell which rows change: {self._doubts()[_ALL]}",
                hint="`compare.underHold: changes` needs a fallback that follows (desired.fallback.mode), whose "
                "preparation publishes the target's tables; otherwise choose `stream` or `content`",
            )

    def _opened(self, dsn: str, slot: str) -> ChangeLog:
        log = ChangeLog(dsn, slot=slot, publications=[PUBLICATION], temporary=True)
        return self._stack.enter_context(log)

    @property
    def changes(self) -> Changes:
        """What to compare with; ValueError before `proved_by`."""
        if self._changes is None:
            raise ValueError("nothing was compared yet")
        return self._changes

    def proved_by(self, comparison: Comparison) -> None:
        """That comparison, made of snapshots taken since this was opened, is what the logs count from."""
        self._changes = Changes(self._source, self._target, comparison)

    def taken_from(self, source: Connection, target: Connection) -> None:
        """Snapshots of these sessions are what is compared: on other servers than those whose changes are told, this
        baseline is worth nothing."""
        self._source.meet(server_of(source))
        self._target.meet(server_of(target))

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """While the comparison reads on, which may take hours, both slots are read too, so that neither keeps WAL."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(_CATCH_UP_S):
                self._source.catch_up()
                self._target.catch_up()

        thread = threading.Thread(target=follow, name="statehub-plan baseline", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            over.set()
            while thread.is_alive():  # whoever failed waits for no decoding
                self._source.give_up()
                self._target.give_up()
                thread.join(_CATCH_UP_S)
            raise
        finally:
            over.set()
            thread.join()

    def settle(self, jobs: int, check: Callable[[], None], *, rounds: int = _ROUNDS) -> int:
        """Compares what was written so far, while writing goes on, until little is left; how many keys are. Looks for
        what was redefined, too: here that costs another baseline, and under the hold reading tables whole."""
        labour = Labour(jobs, CHUNK_BYTES, check, nobody_looks)
        left = 0
        for _ in range(rounds):
            left = settle(*self._dsns, self.changes, labour)
            if left <= _FEW_KEYS:
                break
        self.changes.verify(check)
        return left

    def curable(self) -> tuple[str, ...]:
        """What came between that another baseline would not have, for people: a truncation, a slot that was lost."""
        lasting = self._source.lasting | self._target.lasting | self._known_doubts
        return tuple(f"{name}: {why}" for name, why in sorted(self._doubts().items()) if name not in lasting)

    def read_whole(self) -> tuple[str, ...]:
        """Tables whose changed keys nobody tells, for people: they are compared whole inside the hold."""
        return tuple(f"{name}: {why}" for name, why in sorted(self._doubts().items()))

    def _doubts(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for log in (self._source, self._target):
            found |= log.doubts
            if log.doubt is not None:
                found[_ALL] = log.doubt
        return found

    def close(self) -> None:
        """Ends both sessions, and with them their slots. Idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
