"""The journal's SQLite file: layout, opening, transactions, and every way in which a file can fail, explained."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from statehub_plan.errors import StatehubError
from statehub_plan.journal.protocol import Locked

APPLICATION_ID = 0x53485031  # "SHP1", PRAGMA application_id: tells the journal from any other SQLite file
SCHEMA_VERSION = 1
BUSY_S = 5.0

_CAUSES: tuple[tuple[str, str, str, str], ...] = (
    (
        "SQLITE_READONLY_DBMOVED",
        "journal-moved",
        "the file was moved, replaced or deleted while it was in use",
        "put the file back where it was and run the command again; nothing more was recorded since",
    ),
    (
        "SQLITE_READONLY",
        "journal-read-only",
        "it can't be written: the file or its directory is read-only for this user",
        "give this user write permission on the file and its directory, or name another journal",
    ),
    (
        "SQLITE_FULL",
        "journal-disk-full",
        "its disk is full; nothing of the last record was kept",
        "free some space and run the command again: it goes on from what is recorded",
    ),
    (
        "SQLITE_CANTOPEN",
        "journal-unreadable",
        "the file can't be opened",
        "check that it is a file that this user may read and write, in a directory this user may write",
    ),
    (
        "SQLITE_PERM",
        "journal-unreadable",
        "this user may not open the file",
        "give this user read and write permission on it",
    ),
    (
        "SQLITE_NOTADB",
        "journal-corrupt",
        "the file is not an SQLite database, or its beginning was overwritten",
        "name the right file, or restore the journal from its backup",
    ),
    (
        "SQLITE_CORRUPT",
        "journal-corrupt",
        "the file is damaged",
        "restore the journal from its backup (`sqlite3 {path} .recover` may save what is left, for reading)",
    ),
    (
        "SQLITE_IOERR",
        "journal-io",
        "reading or writing it failed",
        "check the disk (full? a file size limit? unmounted?) and run the command again: nothing half-written is kept",
    ),
)


def checked(path: Path) -> Path:
    """The real path of a journal that is, or could be, there; StatehubError when it can't be one.

    Links are resolved, so that two names of one journal lead to the same lock files; that can't be done for hard links.
    """
    try:
        real = path.expanduser().resolve()
        parent_there, there = real.parent.is_dir(), real.exists()
        regular, names = (real.is_file(), real.stat().st_nlink) if there else (True, 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, an unknown ~user
        raise _refused("journal-unreadable", path, f"it can't be looked at: {error}", "check the path") from error
    if not parent_there:
        hint = f"make it with `mkdir -p {real.parent}`, or name another path"
        raise _refused("journal-directory-missing", real, f"there is no directory {real.parent}", hint)
    if not regular:
        raise _refused("journal-unreadable", real, "it is not a regular file", "name a file")
    if names > 1:
        hint = "remove all names but one: with two, two runs could hold the lease at once"
        raise _refused("journal-linked", real, f"the file has {names} names (hard links)", hint)
    return real


def connect(path: Path, *, create: bool, busy_s: float) -> sqlite3.Connection | None:
    """A connection to the journal at `path`; None when there is none yet and `create` is false."""
    if not create and not (path.exists() and path.stat().st_size):
        return None
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode={'rwc' if create else 'rw'}",
        uri=True,
        isolation_level=None,
        timeout=busy_s,
        check_same_thread=False,
    )
    try:
        for pragma in ("synchronous = EXTRA", "trusted_schema = OFF", "cell_size_check = ON"):
            db.execute(f"PRAGMA {pragma}")
        if create:
            with transaction(db, "BEGIN IMMEDIATE"):
                if _is_empty(db):
                    for statement in _statements():
                        db.execute(statement)
        if not create and _is_empty(db):
            db.close()
            return None
        _require_ours(db, path)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Everything inside is committed when left normally, and rolled back otherwise."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors roll back by themselves
            db.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors as StatehubErrors with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        detail = f"{name}: {error}"
        if name.startswith("SQLITE_BUSY"):
            raise Locked(
                code="journal-busy",
                what=f"the journal {path}: another process is writing to it and does not finish",
                hint="run the command again; if it stays, a process is stopped in the middle of a write: "
                f"`fuser {path}` names it",
                details=(detail,),
            ) from error
        for prefix, code, why, hint in _CAUSES:
            if name.startswith(prefix):
                raise _refused(code, path, why, hint.format(path=path), detail) from error
        raise _refused("journal-failed", path, f"{name}: {error}", "report this with the message above") from error


def _statements() -> Iterator[str]:
    statement = ""
    for line in Path(__file__).with_name("schema_sqlite.sql").read_text(encoding="utf-8").splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield f"PRAGMA application_id = {APPLICATION_ID}"
    yield f"PRAGMA user_version = {SCHEMA_VERSION}"


def _is_empty(db: sqlite3.Connection) -> bool:
    ours = _number(db, "PRAGMA application_id") or _number(db, "PRAGMA user_version")
    return not ours and not _number(db, "SELECT count(*) FROM sqlite_master")


def _require_ours(db: sqlite3.Connection, path: Path) -> None:
    if _number(db, "PRAGMA application_id") != APPLICATION_ID:
        hint = "name another file; this one was left as it is"
        raise _refused("journal-foreign", path, "the file is an SQLite database of something else", hint)
    version = _number(db, "PRAGMA user_version")
    if version != SCHEMA_VERSION:
        raise _refused(
            "journal-newer",
            path,
            f"it was written in format {version}; this version knows format {SCHEMA_VERSION}",
            "use the newest statehub-plan that any of you runs",
        )


def _number(db: sqlite3.Connection, query: str) -> int:
    with closing(db.execute(query)) as cursor:
        return int(cursor.fetchone()[0])


def _refused(code: str, path: Path, why: str, hint: str, *details: str) -> StatehubError:
    return StatehubError(code=code, what=f"the journal {path}: {why}", hint=hint, details=details)
