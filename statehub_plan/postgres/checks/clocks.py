"""Checks of the servers' clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, Unanswered, check

__all__: list[str] = []

_TOLERATED = timedelta(seconds=5)
_CLOCK = Query("SELECT clock_timestamp()")


@check(
    "clock-skew",
    Severity.WARNING,
    Place.EACH,
    title=f"the server's clock agrees with this host's within {_TOLERATED.seconds} s",
    reason="approvals expire early or late, rows are stamped before the rows that they follow, certificates fail",
    here=(_CLOCK,),
)
def _clock_skew(look: Look) -> Iterator[Seen]:
    if look.here.info.asked_between is None:
        raise Unanswered("this host's clock was not read")
    began, ended = look.here.info.asked_between
    there = look.here.value(_CLOCK)
    ahead = max(there - ended, timedelta(0)) - max(began - there, timedelta(0))
    if abs(ahead) > _TOLERATED:
        way = "ahead of" if ahead > timedelta(0) else "behind"
        yield Seen(
            f"the {look.side}'s clock is {abs(ahead).total_seconds():.0f} s {way} this host's",
            "synchronise both clocks (chronyc tracking, timedatectl timesync-status)",
        )
