"""From a path or URL to a journal."""

from __future__ import annotations

import re
from pathlib import Path

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal.protocol import Journal
from statehub_plan.journal.sqlite import SqliteJournal


def open_journal(url: str | Path) -> Journal:
    """The journal at `url`: a path or `sqlite:///path` (relative; four slashes for an absolute one) is an SQLite file,
    `postgresql://…` or `host=… dbname=…` a PostgreSQL database.

    Nothing is made before something is written, so reading a journal that does not exist yet reads an empty one; a
    directory that does not exist is an error. StatehubError with the cause when it can't be read.
    """
    file = file_of(url)
    if file is None:
        # Imported here: psycopg costs more than all the rest of a `status` on a file.
        from statehub_plan.journal.postgres import PostgresJournal

        return PostgresJournal(str(url))
    return SqliteJournal(file)


def file_of(url: str | Path) -> Path | None:
    """The file that `open_journal` would open for it, there or not; None where that is a PostgreSQL database."""
    if isinstance(url, Path):
        return url
    if url.startswith(("postgresql://", "postgres://")) or _is_conninfo(url):
        return None
    if url.startswith("sqlite:///"):
        url = url.removeprefix("sqlite:///")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    if scheme or not url.strip() or "\0" in url:
        raise StatehubError(
            code="journal-url",
            what=f"a journal can't be kept at {f'a {scheme[1]} URL' if scheme else 'an empty path'}",
            hint="name a file, sqlite:///path, postgresql://user@host/database, or `host=… dbname=…`",
            exit_status=Exit.USAGE,
        )
    return Path(url)


def _is_conninfo(text: str) -> bool:
    return re.match(r"\s*(host|hostaddr|port|dbname|user|password|service|application_name)\s*=", text) is not None
