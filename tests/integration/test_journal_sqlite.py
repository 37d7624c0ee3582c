"""Every way in which a journal file can fail has its own refusal with a remedy, and none loses a record."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal import LeaseLost, Locked, open_journal
from statehub_plan.journal.sqlite import SqliteJournal
from statehub_plan.model.record import Record, RecordKind

NOW = datetime(2026, 6, 27, 10, 0, 0, tzinfo=UTC)
AS_SOMEBODY = """
import os, sys, tempfile
from datetime import UTC, datetime
from statehub_plan.errors import StatehubError
from statehub_plan.journal import open_journal
from statehub_plan.model.record import RecordKind

def use(path, say):
    journal = open_journal(path)
    say(len(journal.records()))
    journal.append(None, service="hub", plan_name="p", run="", kind=RecordKind.FACT, step=None, payload={},
                   at=datetime.now(UTC))
    journal.acquire("hub", "x", ttl_s=60, now=datetime.now(UTC))

with tempfile.TemporaryDirectory() as directory:
    use(directory + "/journal.db", lambda count: None)  # imports everything while this user may still read it
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    use(sys.argv[1], print)
except StatehubError as error:
    print(error.code)
"""
FILL_UP = """
import resource, signal, sys
from datetime import UTC, datetime
from statehub_plan.errors import StatehubError
from statehub_plan.journal import open_journal
from statehub_plan.model.record import RecordKind
journal = open_journal(sys.argv[1])
limit = int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    while True:
        print(journal.append(None, service="hub", plan_name="p", run="", kind=RecordKind.FACT, step=None,
                             payload={"text": "x" * 700}, at=datetime.now(UTC)).seq)
except StatehubError as error:
    print(error.code)
"""


@pytest.fixture
def path(scratch: Path) -> Iterator[Path]:
    """Where a journal could be: in a directory that every user can enter."""
    directory = scratch / f"journal-{os.urandom(4).hex()}"
    directory.mkdir(mode=0o755)
    yield directory / "journal.db"
    shutil.rmtree(directory)


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    """A journal with one record."""
    opened = SqliteJournal(path, busy_s=0.05)
    fact(opened)
    yield opened
    opened.close()


def fact(journal: SqliteJournal) -> Record:
    """A new record without a lease."""
    return journal.append(
        None, service="hub", plan_name="plan", run="", kind=RecordKind.FACT, step=None, payload={}, at=NOW
    )


def refusal_of(path: Path) -> StatehubError:
    """What opening a journal there, and writing to it, is refused with."""
    with pytest.raises(StatehubError) as refused:
        fact(SqliteJournal(path))
    assert str(path) in refused.value.what
    assert refused.value.hint
    return refused.value


def answers(program: str, *arguments: str) -> list[str]:
    """The lines that a program of its own prints."""
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_a_directory_that_is_missing_is_said_to_be(path: Path) -> None:
    """A mistyped path is an error from the first look on, not an empty journal."""
    missing = path.parent / "nowhere" / "journal.db"
    with pytest.raises(StatehubError) as refused:
        open_journal(missing)
    assert "journal-directory-missing" == refused.value.code
    assert f"mkdir -p {missing.parent}" in refused.value.hint


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"this is a text file, and long enough for a header of SQLite" * 20, "journal-corrupt"),
        (b"SQLite format 3\0" + b"\xff" * 4096, "journal-corrupt"),
    ],
    ids=["text", "broken-header"],
)
def test_a_file_of_another_kind_is_refused_and_left_alone(path: Path, content: bytes, code: str) -> None:
    """What is not a journal is never turned into one."""
    path.write_bytes(content)
    assert code == refusal_of(path).code
    assert content == path.read_bytes()


def test_a_database_of_somebody_else_is_refused_and_left_alone(path: Path) -> None:
    """An SQLite file with other tables keeps them, and gets none of ours."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
    before = path.read_bytes()
    assert "journal-foreign" == refusal_of(path).code
    assert before == path.read_bytes()


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """What a crash before the first write can leave (or `touch`) is no obstacle."""
    path.touch()
    with closing(SqliteJournal(path)) as journal:
        assert () == journal.records()
        assert 1 == fact(journal).seq


def test_a_damaged_page_is_reported_as_damage(path: Path, journal: SqliteJournal) -> None:
    """Overwritten pages are found on reading; the remedy is a backup, never a guess."""
    for _ in range(50):
        fact(journal)
    journal.close()
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\x17" * 4096)
    assert "journal-corrupt" == refusal_of(path).code


def test_a_directory_or_pipe_is_no_journal(path: Path) -> None:
    """Only regular files are opened; a pipe would block for ever."""
    path.mkdir()
    assert "journal-unreadable" == refusal_of(path).code
    path.rmdir()
    os.mkfifo(path)
    assert "journal-unreadable" == refusal_of(path).code


def test_two_names_of_one_journal_share_one_lease(path: Path, journal: SqliteJournal) -> None:
    """A symbolic link leads to the same locks; a second hard link, which can't, is refused."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    journal.acquire("hub", "alice@ops", ttl_s=60, now=NOW)
    with closing(SqliteJournal(link)) as second, pytest.raises(Locked):
        second.acquire("hub", "bob@ops", ttl_s=60, now=NOW)
    hard = path.with_name("hard.db")
    hard.hardlink_to(path)
    assert "journal-linked" == refusal_of(hard).code


def test_a_lock_file_that_is_a_link_is_refused(path: Path, journal: SqliteJournal) -> None:
    """Nobody can point the lease of this service at the lock of another."""
    Path(f"{path}.hub.lock").symlink_to(path.with_name("elsewhere"))
    with pytest.raises(StatehubError) as refused:
        journal.acquire("hub", "alice@ops", ttl_s=60, now=NOW)
    assert "lock-file-unusable" == refused.value.code


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "expected"),
    [
        (0o444, 0o755, ["1", "journal-read-only"]),
        (0o000, 0o755, ["journal-unreadable"]),
        (0o666, 0o755, ["1", "journal-read-only"]),
        (0o666, 0o777, ["1"]),
    ],
    ids=["read-only-file", "unreadable-file", "read-only-directory", "all-granted"],
)
def test_what_a_user_may_not_do_is_refused_and_the_rest_works(
    path: Path, journal: SqliteJournal, file_mode: int, directory_mode: int, expected: list[str]
) -> None:
    """A journal that may be read can be read; writing needs file and directory, and the refusal says so."""
    journal.close()
    path.chmod(file_mode)
    path.parent.chmod(directory_mode)
    if os.geteuid() != 0 and directory_mode == 0o755 and file_mode == 0o666:
        path.parent.chmod(0o555)
    try:
        assert expected == answers(AS_SOMEBODY, str(path))
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("room", [0, 3_000, 9_000, 20_000])
def test_a_full_disk_keeps_every_record_that_was_acknowledged(path: Path, journal: SqliteJournal, room: int) -> None:
    """When the file can't grow the append fails as a whole; what was there is sound, and writing goes on later."""
    journal.close()
    *acknowledged, code = answers(FILL_UP, str(path), str(path.stat().st_size + room))
    assert code in ("journal-disk-full", "journal-io")
    with closing(SqliteJournal(path)) as again:
        assert 1 + len(acknowledged) == again.verify()
        assert 2 + len(acknowledged) == fact(again).seq


def test_a_full_disk_is_called_that(path: Path, journal: SqliteJournal) -> None:
    """SQLite's own report of a full disk leads to the remedy: free some space."""
    assert journal._main is not None
    pages = journal._main.execute("PRAGMA page_count").fetchone()[0]
    journal._main.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StatehubError) as refused:
        any(fact(journal).seq > 1000 for _ in range(1000))
    assert "journal-disk-full" == refused.value.code
    assert len(journal.records()) == journal.verify()


def test_a_journal_moved_away_in_the_midst_takes_nothing_more(path: Path, journal: SqliteJournal) -> None:
    """Records never go into a file that nobody will find again."""
    elsewhere = path.with_name("moved.db")
    path.rename(elsewhere)
    with pytest.raises(StatehubError) as refused:
        fact(journal)
    assert "journal-moved" == refused.value.code
    elsewhere.rename(path)
    assert 2 == fact(journal).seq


def test_another_writer_that_does_not_finish_is_a_lock(path: Path, journal: SqliteJournal) -> None:
    """A process stopped in the middle of a write makes the others refuse with exit status 6 rather than hang."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked) as refused:
            fact(journal)
        other.execute("ROLLBACK")
    assert Exit.LOCKED == refused.value.exit_status
    assert f"fuser {path}" in refused.value.hint
    assert 2 == fact(journal).seq


def test_a_heartbeat_that_can_not_be_written_does_not_end_the_lease(path: Path, journal: SqliteJournal) -> None:
    """The lock keeps the lease, not the clock: a busy file only delays the news."""
    lease = journal.acquire("hub", "alice@ops", ttl_s=60, now=NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked):
            journal.heartbeat(lease, NOW)
        other.execute("ROLLBACK")
    assert lease == journal.heartbeat(lease, NOW)


def test_a_copy_put_back_over_the_journal_ends_the_lease(path: Path, journal: SqliteJournal) -> None:
    """A holder whose epoch the journal no longer knows stops: an older copy of the journal may grant it again."""
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    lease = journal.acquire("hub", "alice@ops", ttl_s=60, now=NOW)
    path.write_bytes(backup.read_bytes())
    with pytest.raises(LeaseLost, match="older copy"):
        journal.append(
            lease,
            service="hub",
            plan_name="plan",
            run="run",
            kind=RecordKind.STEP_INTENT,
            step="copy",
            payload={},
            at=NOW,
        )


def test_the_journal_is_one_file_when_nobody_writes(path: Path, journal: SqliteJournal) -> None:
    """A plain copy is a complete backup, even after a writer was killed: no side file holds records."""
    writer = subprocess.Popen([sys.executable, "-c", FILL_UP, str(path), "100000000"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(20):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    count = journal.verify()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with closing(SqliteJournal(copy)) as copied:
        assert count == copied.verify()
