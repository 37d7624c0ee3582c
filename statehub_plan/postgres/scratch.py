"""A database to try something out in: made, used, dropped; and what a killed process left of one is found again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.postgres.connect import Connection, connect_again

__all__ = ["MARK", "SCRATCH_PREFIX", "Scratch", "abandoned", "drop_abandoned", "scratch_database"]

SCRATCH_PREFIX = "statehub_plan_drill_"
_NAME = re.compile(rf"{SCRATCH_PREFIX}([0-9a-f]{{12}})")

MARK = 977
"""The connection limit of every scratch database. The statement that creates it sets it, so that there is no moment in
which one is unmarked, and no database that merely has such a name is ever taken for one."""

_LOCK_CLASS = 0x53485044  # "SHPD"; the second key is the end of the name


class Scratch:
    """The scratch database; `left_behind` tells that it could not be dropped, and is for the next drill to remove."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left_behind = False


@contextmanager
def scratch_database(server: Connection, encoding: str) -> Iterator[Scratch]:
    """A new, empty database on this server, dropped in the end whatever happens; abandoned ones are dropped first.

    `server` holds a lock for as long as it is used, by which others see that somebody lives there. Refusal
    `drill-not-allowed` without CREATEDB.
    """
    drop_abandoned(server)
    scratch = Scratch(SCRATCH_PREFIX + secrets.token_hex(6))
    server.execute("SELECT pg_advisory_lock(%s, %s)", [_LOCK_CLASS, _lock_of(scratch.name)])
    try:
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} CONNECTION LIMIT {}").format(
                sql.Identifier(scratch.name), sql.Literal(encoding), sql.Literal(MARK)
            )
        )
    except psycopg.errors.InsufficientPrivilege as error:
        role = sql.Identifier(server.info.user).as_string(server)
        raise Refusal(
            code="drill-not-allowed",
            what=f"the role {server.info.user} may not create the scratch database of a restore drill",
            hint=f"as superuser there: ALTER ROLE {role} CREATEDB",
        ) from error
    try:
        yield scratch
    finally:
        scratch.left_behind = not _dropped(server, scratch.name)


def abandoned(server: Connection) -> tuple[str, ...]:
    """The scratch databases of this role on this server whose process is gone: by name, mark and owner they are such,
    and nobody holds their lock. Changes nothing."""
    rows = server.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND datconnlimit = %s "
        "AND pg_has_role(datdba, 'USAGE') ORDER BY datname",
        [SCRATCH_PREFIX, MARK],
    ).fetchall()
    return tuple(name for (name,) in rows if _NAME.fullmatch(name) and not _inhabited(server, name))


def drop_abandoned(server: Connection) -> tuple[str, ...]:
    """Drops what is `abandoned`, with the sessions that are left there; the names of what is gone.

    What a killed drill had started (pg_restore) may still work there: it is ended.
    """
    return tuple(name for name in abandoned(server) if _dropped(server, name))


def _inhabited(server: Connection, name: str) -> bool:
    # Across all databases of the server: pg_locks shows those too, and whoever drills elsewhere counts as well.
    row = server.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted "
        "AND classid::int8 = %s AND objid::int8 = %s",
        [_LOCK_CLASS, _lock_of(name) % (1 << 32)],
    ).fetchone()
    return row is None or row[0] > 0


def _lock_of(name: str) -> int:
    value = int(name[-8:], 16)
    return value - (1 << 32) if value >= 1 << 31 else value


def _dropped(server: Connection, name: str) -> bool:
    statement = sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name))
    with suppress(psycopg.Error):
        if not server.closed:
            server.execute(statement)
            return True
    with suppress(psycopg.Error, StatehubError), connect_again(server, purpose="restore drill") as again:
        again.execute(statement)
        return True
    return False
