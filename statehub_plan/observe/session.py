"""A database session that only looks, and that can be hung up from another thread."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.observe.parallel import Attempt
from statehub_plan.postgres.connect import Connection, connect


@contextmanager
def session(
    dsn: str,
    attempt: Attempt,
    *,
    purpose: str,
    connect_timeout_s: float,
    statement_timeout_s: float | None = None,
) -> Iterator[Connection]:
    """A read-only session in autocommit mode that ends with the block, or when nobody waits for the attempt any more.

    Each statement may take `statement_timeout_s` (default: what is left of the attempt): the server ends by itself what
    a hung-up client no longer asks for. StatehubError when no session is had or it is lost; errors of the server's that
    leave the session alive and are not caught inside come out the same way.
    """
    limit_s = attempt.remaining_s() if statement_timeout_s is None else statement_timeout_s
    connection = connect(
        dsn,
        purpose=purpose,
        connect_timeout_s=connect_timeout_s,
        statement_timeout_ms=max(1, round(limit_s * 1000)),
        read_only=True,
    )
    # A descriptor of its own: hanging up from another thread can't hit one that was closed and is somebody else's now.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:

        def hang_up() -> None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

        attempt.when_abandoned(hang_up)
        try:
            yield connection
        except psycopg.Error as error:
            raise StatehubError(
                code="database-lost",
                what=f"the session was lost while looking: {' '.join(str(error).split())}",
                hint="look at the server's log and the network",
            ) from error
        finally:
            connection.close()
