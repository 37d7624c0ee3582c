"""The journal's PostgreSQL schema: looking, making it once, and the server's refusals explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import errors

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal.protocol import ANOTHER_JOURNAL, LeaseLost, Locked
from statehub_plan.model.record import Lease
from statehub_plan.postgres.connect import Connection
from statehub_plan.redact import redact

SCHEMA_VERSION = 1
_INSTALL_LOCK = 0x5348504A  # "SHPJ": two first writers make the schema one after the other

_CAUSES: tuple[tuple[tuple[type[psycopg.Error], ...], str, str, str], ...] = (
    (
        (errors.DiskFull,),
        "journal-disk-full",
        "its server's disk is full; nothing of the last record was kept",
        "free some space and run the command again: it goes on from what is recorded",
    ),
    (
        (errors.ReadOnlySqlTransaction,),
        "journal-read-only",
        "its server only reads (a standby?)",
        "name the primary in the journal's URL",
    ),
    (
        (errors.InsufficientPrivilege,),
        "journal-permission",
        "this role may not use it",
        "as the database's owner: GRANT CREATE ON DATABASE … TO …, or let the owner of the schema "
        "statehub_plan_journal run the command",
    ),
    (
        (psycopg.OperationalError, psycopg.InterfaceError, errors.IdleInTransactionSessionTimeout),
        "journal-unreachable",
        "the connection was lost",
        f"check the server and run the command again: it goes on from what is recorded; {ANOTHER_JOURNAL}",
    ),
)


def is_installed(db: Connection, location: str) -> bool:
    """Whether the schema is there, in the version that this tool knows; StatehubError for another one."""
    row = db.execute("SELECT to_regclass('statehub_plan_journal.meta') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return False
    found = db.execute("SELECT version FROM statehub_plan_journal.meta").fetchone()
    if found is None or found[0] != SCHEMA_VERSION:
        raise StatehubError(
            code="journal-newer",
            what=f"the journal {location}: it was written in format {found and found[0]}; "
            f"this version knows format {SCHEMA_VERSION}",
            hint="use the newest statehub-plan that any of you runs",
        )
    return True


def install(db: Connection) -> None:
    """Make the schema inside the caller's transaction, unless somebody else just has."""
    db.execute("SELECT pg_advisory_xact_lock(%s)", [_INSTALL_LOCK])
    # Not to_regclass: it answers from a cache that waiting for this lock does not refresh.
    made = (
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'statehub_plan_journal' AND c.relname = 'meta'"
    )
    if db.execute(made).fetchone() is None:
        db.execute(Path(__file__).with_name("schema_postgres.sql").read_bytes())


@contextmanager
def explained(location: str, lease: Lease | None = None) -> Iterator[None]:
    """The server's errors as StatehubErrors with a remedy; a lost connection as LeaseLost where `lease` hung on it."""
    try:
        yield
    except (errors.LockNotAvailable, errors.QueryCanceled) as error:
        raise Locked(
            code="journal-busy",
            what=f"the journal {location}: another session has been writing to it for seconds",
            hint="run the command again; pg_stat_activity shows sessions named `statehub-plan journal`",
        ) from error
    except psycopg.Error as error:
        text = redact(" ".join(str(error).split()))
        for kinds, code, why, hint in _CAUSES:
            if isinstance(error, kinds):
                if lease is not None and code == "journal-unreachable":
                    raise LeaseLost(lease, f"the connection that held it is gone: {text}", unanswered=True) from error
                raise StatehubError(
                    code=code,
                    what=f"the journal {location}: {why}",
                    hint=hint,
                    exit_status=Exit.ERROR,
                    details=(text,),
                ) from error
        raise StatehubError(
            code="journal-failed",
            what=f"the journal {location}: {text}",
            hint="report this with the message above",
        ) from error
