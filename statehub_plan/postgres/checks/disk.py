"""Checks of room on disk."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check
from statehub_plan.postgres.checks.questions import SETTINGS, integer

__all__: list[str] = []

_SIZE = Query("SELECT pg_database_size(current_database())")
_FACTOR = 1.3  # indexes are built by sorting into temporary files, and WAL of the fill waits for a checkpoint
_MEGABYTE = 1024 * 1024


@check(
    "disk-target",
    Severity.ERROR,
    Place.TARGET,
    title="the target's disk has room for the source's database",
    reason="the disk fills while the target is filled, and takes whatever else lives there down",
    here=(SETTINGS,),
    there=(_SIZE,),
)
def _target(look: Look) -> Iterator[Seen]:
    free = look.here.info.disk_free_bytes
    needed = int(look.there.value(_SIZE) * _FACTOR) + integer(look.here, "max_wal_size") * _MEGABYTE
    if free is not None and free < needed:
        yield Seen(
            f"{_size(free)} are free on the target's disk; the copy with its WAL takes about {_size(needed)}",
            f"make {_size(needed - free)} of room there",
        )


@check(
    "disk-wal",
    Severity.WARNING,
    Place.PUBLISHER,
    title="the sender's disk has room for the WAL that a stalled receiver leaves behind",
    reason="a receiver that is down makes the sender keep WAL until its disk is full and it stops accepting writes",
    here=(SETTINGS,),
)
def _wal(look: Look) -> Iterator[Seen]:
    free, most = look.here.info.disk_free_bytes, integer(look.here, "max_slot_wal_keep_size")
    needed = (most if most >= 0 else integer(look.here, "max_wal_size")) * _MEGABYTE
    if free is not None and free < needed:
        yield Seen(
            f"{_size(free)} are free on the {look.side}'s disk; slots may keep {_size(needed)} of WAL",
            f"make {_size(needed - free)} of room there, or lower max_slot_wal_keep_size",
        )


@check(
    "disk-unknown",
    Severity.INFO,
    Place.EACH,
    title="room on disk is known",
    reason="PostgreSQL does not tell how much room is left, so a disk that is nearly full is found out by filling it",
)
def _unknown(look: Look) -> Iterator[Seen]:
    if look.here.info.disk_free_bytes is None:
        why = look.here.info.disk_unknown_because
        yield Seen(
            f"how much room the {look.side}'s disk has is not known" + (f": {why}" if why else ""),
            "let the plan's database.diskFree name a command that prints the free bytes",
        )


def _size(count: int) -> str:
    return f"{count / _MEGABYTE:,.0f} MB"
