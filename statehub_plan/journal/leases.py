"""Leases as both kinds of journal keep them, and what is said about a lease that is held or lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from statehub_plan.errors import StatehubError
from statehub_plan.journal.protocol import LeaseLost, Locked
from statehub_plan.model.record import Lease, RecordKind

UNLEASED_KINDS = frozenset({RecordKind.FACT, RecordKind.VERDICT})
"""What may be recorded without a lease: knowledge, never a change to the world."""

LEASE_COLUMNS = ("service", "holder", "host", "pid", "epoch", "acquired_at", "heartbeat_at", "expires_at")


def new_lease(service: str, holder: str, epoch: int, *, ttl_s: float, now: datetime) -> Lease:
    """The lease that this process takes now."""
    if ttl_s <= 0:
        raise ValueError("a lease lives longer than nothing")
    return Lease(
        service=service,
        holder=holder,
        host=socket.gethostname(),
        pid=os.getpid(),
        epoch=epoch,
        acquired_at=now,
        heartbeat_at=now,
        expires_at=now + timedelta(seconds=ttl_s),
    )


def renewed(lease: Lease, now: datetime) -> Lease:
    """The lease with a heartbeat at `now` and the time to live that it was taken with."""
    return lease.model_copy(update={"heartbeat_at": now, "expires_at": now + (lease.expires_at - lease.heartbeat_at)})


def lease_of(row: Sequence[Any] | None) -> tuple[Lease | None, bool]:
    """The lease in a row of LEASE_COLUMNS and `released`, and whether it was released; no row is a released one."""
    if row is None:
        return None, True
    try:
        return Lease.model_validate(dict(zip(LEASE_COLUMNS, row[:-1], strict=True))), bool(row[-1])
    except ValidationError as error:
        raise StatehubError(
            code="journal-corrupt",
            what=f"the journal's lease of {row[0]} is not written the way the tool writes",
            hint="restore the journal from its backup, or find out who changed it",
        ) from error


def held_by(lease: Lease | None, service: str, *, now: datetime, where: str, end_it: str) -> Locked:
    """The refusal that says who holds `service` since when, whether the holder is stalled, and how to end it.

    `where` names the lock, `end_it` the way to end a holder that cannot be reached as a process of this host.
    """
    if lease is None:
        return Locked(
            what=f"the lease of {service} is held by a process that has not written its name yet",
            hint=f"try again in a second; if it stays, {end_it}",
            details=(f"the lock is {where}",),
        )
    details = [
        f"process {lease.pid} on host {lease.host}, epoch {lease.epoch}",
        f"last heartbeat at {lease.heartbeat_at.isoformat(timespec='seconds')}",
    ]
    hint = "wait until it has finished and run the command again"
    state = _process_state(lease)
    if state == "T":
        details.append(f"stalled: process {lease.pid} is stopped (SIGSTOP, Ctrl-Z or a debugger)")
        hint = (
            f"`kill -CONT {lease.pid}` lets it go on; `kill -KILL {lease.pid}` ends it, and the next apply takes over"
        )
    elif now > lease.expires_at:
        silent_s = round((now - lease.heartbeat_at).total_seconds())
        details.append(f"stalled: silent for {silent_s} s, but its lock is still held")
        hint = f"look at it on {lease.host}; if it will not go on, {end_it}, and the next apply takes over"
    return Locked(
        what=f"the lease of {service} is held by {lease.holder} since "
        f"{lease.acquired_at.isoformat(timespec='seconds')}",
        hint=hint,
        details=tuple(details),
    )


def require_lease_or_knowledge(lease: Lease | None, service: str, kind: RecordKind) -> None:
    """ValueError, a defect of the caller, for a change recorded without a lease or under another service's."""
    if lease is None and kind not in UNLEASED_KINDS:
        raise ValueError(f"a {kind.value} record needs a lease")
    if lease is not None and lease.service != service:
        raise ValueError(f"a lease of {lease.service} can't record for {service}")


def superseded(lease: Lease, newest: Lease | None) -> LeaseLost:
    """The refusal for a `lease` that is not the newest, unreleased one of its service."""
    if newest is None or newest.epoch < lease.epoch:
        return LeaseLost(lease, "the journal knows no such lease; it was replaced by an older copy of itself")
    if newest.epoch == lease.epoch:
        return LeaseLost(lease, "it was released")
    return LeaseLost(
        lease,
        f"{newest.holder} (process {newest.pid} on host {newest.host}) took over with epoch {newest.epoch} "
        f"at {newest.acquired_at.isoformat(timespec='seconds')}",
    )


def _process_state(lease: Lease) -> str | None:
    """The one-letter state of the holder (proc(5), /proc/pid/stat), or None where it can't be seen from here."""
    if lease.host != socket.gethostname() or lease.pid is None or lease.pid == os.getpid():
        return None
    try:
        stat = Path(f"/proc/{lease.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].strip()[:1] or None
