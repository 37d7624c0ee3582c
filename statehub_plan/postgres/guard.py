"""Drops a slot that only serves the fallback before the WAL that it keeps fills the primary's disk.

The primary matters more than the way back: a full disk stops everybody's writes, a dropped slot costs a new copy.
`max_slot_wal_keep_size` does the same on the server's side, silently and at the next checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from statehub_plan.model.base import Frozen
from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.replication import drop_slot


class Dropped(Frozen):
    """A slot that had to go: which limit was reached, and the figures that were read in the very session that dropped
    it. `disk_free_bytes` is None where nobody watches the disk."""

    slot: str
    retained_bytes: int
    disk_free_bytes: int | None
    limit: Literal["retained", "disk-free"]
    limit_bytes: int
    why: str


class _Kept(Frozen):
    """What a slot keeps: up to now, and beyond what the server would keep anyway since its last checkpoint."""

    retained_bytes: int
    held_back_bytes: int
    segment_bytes: int


def guard_slot(
    sender: Connection,
    *,
    name: str,
    retained_limit_bytes: int,
    disk_free_bytes: int | None,
    disk_limit_bytes: int,
    idle_only: bool = False,
    before_drop: Callable[[Dropped], None] = lambda _: None,
) -> Dropped | None:
    """Drops this slot of the session's database when it keeps as much as `retained_limit_bytes`, or when no more than
    `disk_limit_bytes` are left and its going would free a segment of WAL at least; None when nothing had to be done.

    Calls `before_drop` first, with what is about to happen; it may raise to prevent that. Whoever reads from the slot
    is ended; with `idle_only` nothing is done while somebody does. Needs REPLICATION or superuser. ValueError for a
    slot that is not the tool's; StatehubError when it is still read from after ten seconds, or the role may not drop
    it. Takes no lock that a writer would wait for.
    """
    if re.search(OWN_STREAMS, name) is None:
        raise ValueError(f"{name} is not a slot of the tool's")
    kept = _kept(sender, name, idle_only)
    reached = None if kept is None else _reached(name, kept, retained_limit_bytes, disk_free_bytes, disk_limit_bytes)
    if reached is None:
        return None
    before_drop(reached)
    return reached if drop_slot(sender, name) else None


def _kept(sender: Connection, name: str, idle_only: bool) -> _Kept | None:
    """None where there is no such slot, it keeps nothing any more, or it is read and was to be idle."""
    row = sender.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8, "
        "greatest(0, pg_wal_lsn_diff(c.redo_lsn, s.restart_lsn))::int8, i.bytes_per_wal_segment::int8 "
        "FROM pg_replication_slots s, pg_control_checkpoint() c, pg_control_init() i "
        "WHERE s.slot_name = %s AND s.database = current_database() AND s.restart_lsn IS NOT NULL "
        "AND NOT (%s AND s.active)",
        [name, idle_only],
    ).fetchone()
    if row is None:
        return None
    return _Kept(retained_bytes=row[0], held_back_bytes=row[1], segment_bytes=row[2])


def _reached(
    name: str, kept: _Kept, retained_limit_bytes: int, disk_free_bytes: int | None, disk_limit_bytes: int
) -> Dropped | None:
    if kept.retained_bytes >= retained_limit_bytes:
        why = f"it kept {kept.retained_bytes} bytes of WAL, and {retained_limit_bytes} is the limit"
        limit, limit_bytes = "retained", retained_limit_bytes
    elif (
        disk_free_bytes is not None
        and disk_free_bytes <= disk_limit_bytes
        and kept.held_back_bytes >= kept.segment_bytes
    ):
        why = f"{disk_free_bytes} bytes of disk were left, and {disk_limit_bytes} is the limit; it kept "
        why += f"{kept.retained_bytes} bytes of WAL"
        limit, limit_bytes = "disk-free", disk_limit_bytes
    else:
        return None
    return Dropped.model_validate(
        {
            "slot": name,
            "retained_bytes": kept.retained_bytes,
            "disk_free_bytes": disk_free_bytes,
            "limit": limit,
            "limit_bytes": limit_bytes,
            "why": why,
        }
    )
