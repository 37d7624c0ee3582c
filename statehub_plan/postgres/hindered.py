"""What stood in the way of a switch: a server's refusal as an error of the tool that names sessions and tables."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.sessions import lock_holders
from statehub_plan.redact import redact

__all__ = ["hindered"]


def hindered(
    part: str, error: psycopg.Error, *, frozen: bool, waited_s: float, source: Connection, target: Connection
) -> StatehubError:
    """`switch-timeout` with whoever has locks on either side now, where `part` of a switch had to wait for longer than
    `waited_s`; else `switch-failed` with what the server said. To be asked for once writers go on."""
    left = "the old side stays frozen, nothing is decided" if frozen else "writers go on"
    if not isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return StatehubError(
            code="switch-failed",
            what=f"{part} failed, {left}: {redact(' '.join(str(error).split()))}",
            hint="the message is the server's own; mend its cause, then run again",
        )
    holders: list[str] = []
    for side, session in (("source", source), ("target", target)):
        with suppress(psycopg.Error):
            holders += [f"on the {side}: {one}" for one in lock_holders(session)]
    return StatehubError(
        code="switch-timeout",
        what=f"{part} had to wait for longer than {waited_s:g} s, {left}",
        hint="end or wait for what is listed (pg_terminate_backend), then run again",
        details=tuple(holders),
    )
