"""What a journal promises, whatever keeps it, and the refusals that both kinds share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import Lease, Record, RecordKind

LEASE_HELD = "lease-held"
"""The code of a refusal for a lease that somebody else holds."""


ANOTHER_JOURNAL = (
    "where writers are refused meanwhile, make and apply the plan of "
    "`STATEHUB_PLAN_JOURNAL=/path/to/a/new/journal.db statehub-plan abort …` under that new journal: the databases say "
    "what there is to end. First make sure that both connection strings lead to the right databases: a new journal "
    "does not know what was decided, nor drills, rehearsals, stabilization and finished lanes"
)
"""The way out of an outage that does not wait for this journal."""


class Locked(Refusal):
    """Somebody else holds the lease, or the journal itself is busy."""

    def __init__(self, *, what: str, hint: str, details: tuple[str, ...] = (), code: str = LEASE_HELD) -> None:
        super().__init__(code=code, what=what, hint=hint, exit_status=Exit.LOCKED, details=details)


class LeaseLost(StatehubError):
    """The caller no longer holds the lease it acts under; it must stop changing anything, but for ending an outage
    where nobody could be asked (`unanswered`): then no other run is known to have taken it."""

    def __init__(self, lease: Lease, why: str, *, unanswered: bool = False) -> None:
        super().__init__(
            code="lease-lost",
            what=f"this run (epoch {lease.epoch} of {lease.service}) no longer holds the lease: {why}",
            hint="change nothing more here; look at `statehub-plan status`, then run `statehub-plan apply` again",
            exit_status=Exit.LOCKED,
        )
        self.unanswered = unanswered


class JournalTampered(StatehubError):
    """The hash chain does not hold. `seq` is the first record that is wrong or missing."""

    def __init__(self, seq: int, why: str, location: str) -> None:
        super().__init__(
            code="journal-tampered",
            what=f"the journal {location} was changed behind the tool's back at record {seq}: {why}",
            hint="restore the journal from its backup, or find out who changed it; nothing is run on its word; "
            + ANOTHER_JOURNAL,
        )
        self.seq = seq


class Journal(Protocol):
    """An append-only record and one lease per service. Every method is safe to call from several threads.

    A lease is held while its holder's process (or session) lives: the operating system's or server's own lock decides,
    never a clock. Every acquisition takes a higher epoch than all before it.
    """

    @property
    def location(self) -> str:
        """Where it is, without secrets, for messages."""
        ...

    def identity(self) -> Identity | None:
        """Which database keeps it, so that a caller can refuse one of those that move; None for a file."""
        ...

    def append(
        self,
        lease: Lease | None,
        *,
        service: str,
        plan_name: str,
        run: str,
        kind: RecordKind,
        step: str | None,
        payload: dict[str, Any],
        at: datetime,
    ) -> Record:
        """The record as durably stored, its payload redacted.

        LeaseLost, decided in the same transaction, unless `lease` is the newest of its service and unreleased. Without
        a lease only FACT and VERDICT can be recorded (epoch 0). JournalTampered when the end of the chain is wrong.
        """
        ...

    def records(
        self, *, service: str | None = None, plan_name: str | None = None, run: str | None = None
    ) -> tuple[Record, ...]:
        """The records that match everything given, oldest first. Does not check the chain; `verify` does."""
        ...

    def verify(self) -> int:
        """The number of records, all of them checked against the hash chain and the head; else JournalTampered."""
        ...

    def acquire(self, service: str, holder: str, *, ttl_s: float, now: datetime, at_least: int = 0) -> Lease:
        """The lease of `service` with the next epoch; Locked, within half a second, while somebody else lives on it.

        `ttl_s` only says after how long a silent holder is called stalled. `at_least` is the highest epoch known from
        elsewhere, such as a database that another journal's run has acted on; the new one is higher.
        """
        ...

    def heartbeat(self, lease: Lease, now: datetime) -> Lease:
        """The lease renewed; LeaseLost when its lock is gone, it was released or a higher epoch exists."""
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens if it was lost or released already."""
        ...

    def current_lease(self, service: str) -> Lease | None:
        """The lease that a living holder has on `service`, else None (whatever a dead holder left written)."""
        ...

    def close(self) -> None:
        """Give up every lock and connection; a lease not released is then free for the next one."""
        ...
