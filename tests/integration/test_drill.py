"""Restore drills that are disturbed: killed, refused, interrupted, given a backup that changes under their hands."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pyrage
import pytest

from statehub_plan.cli.checkup import _remains
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.postgres import drill
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.drill import Disk, restore_drill
from statehub_plan.postgres.manifest import Backup, find_backups, newest_backup, read_backup, verify_backup
from statehub_plan.postgres.scratch import SCRATCH_PREFIX, drop_abandoned
from statehub_plan.postgres.workers import Progress
from tests.integration.drilling import BUILDING, SLOW, as_an_earlier_release_left_it
from tests.integration.moving import run_script, value

ACTOR = Path(__file__).with_name("drill_actor.py")
ROWS = "CREATE TABLE public.note AS SELECT n AS id, md5(n::text) AS text FROM generate_series(1, 40000) n;"


def scratches(dsn: str) -> object:
    """How many scratch databases there are."""
    return value(dsn, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{SCRATCH_PREFIX}%'")


@pytest.fixture
def backup(source_db: str, tmp_path: Path) -> Backup:
    """A backup of one table."""
    run_script(source_db, ROWS)
    return take_backup(source_db, tmp_path, endpoint="old")


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_killed_drill_leaves_what_the_next_one_removes(
    source_db: str, target_db: str, tmp_path: Path, encrypted: bool
) -> None:
    """SIGKILL while pg_restore works: it works on, alone, in a scratch database, and the next drill ends it."""
    run_script(source_db, ROWS + SLOW)
    identity = pyrage.x25519.Identity.generate()
    key = tmp_path / "key"
    key.write_text(str(identity))
    key.chmod(0o600)
    recipients = (str(identity.to_public()),) if encrypted else ()
    taken = take_backup(source_db, tmp_path / "backups", endpoint="old", recipients=recipients)
    command = [sys.executable, str(ACTOR), str(taken.path), target_db, str(key) if encrypted else ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as actor:
        assert actor.stdout is not None
        assert "filling" == actor.stdout.readline().strip()
        actor.kill()
    assert 1 == scratches(target_db)
    with connect(target_db, purpose="test", read_only=True) as server:
        while not (left := tuple(_remains("new", server))):
            pass
    assert [("new.drill-remains", False)] == [(one.id, one.ok) for one in left]
    assert "DROP DATABASE statehub_plan_drill_" in left[0].remedy
    assert 1 == scratches(target_db)
    working = f"SELECT count(*) FROM pg_stat_activity WHERE datname LIKE '{SCRATCH_PREFIX}%'"
    assert 0 != value(target_db, working)
    with connect(target_db, purpose="test") as server:
        # Until the server has noticed that the drill's own session is gone, somebody seems to live there.
        while not drop_abandoned(server):
            pass
    assert (0, 0) == (scratches(target_db), value(target_db, working))


@pytest.mark.parametrize("grown", [False, True], ids=["before", "meanwhile"])
def test_a_drill_leaves_room_on_the_disk(
    source_db: str, target_db: str, tmp_path: Path, grown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary's disk is not filled by a rehearsal: refused at once, or ended when the limit is reached, and nothing
    is left."""
    run_script(source_db, ROWS + SLOW)
    taken = take_backup(source_db, tmp_path, endpoint="old")
    needed = 2 * taken.manifest.table_bytes
    monkeypatch.setattr(drill, "_DISK_EVERY_S", 0.0)
    free = iter([needed + 100 if grown else needed + 99])
    with pytest.raises(Refusal) as caught:
        restore_drill(taken, target_db, disk=Disk(lambda: next(free, 99), 100))
    assert "drill-disk-full" == caught.value.code
    assert 0 == scratches(target_db)


def test_a_disk_that_nobody_watches_refuses_nothing(backup: Backup, target_db: str) -> None:
    """It is asked once, and the drill goes on."""
    asked: list[None] = []
    assert restore_drill(backup, target_db, disk=Disk(lambda: asked.append(None), 100)).passed
    assert 1 == len(asked)


def test_a_backup_that_changes_while_it_is_restored_fails(backup: Backup, target_db: str) -> None:
    """Whatever was restored then, it is not known to be what was verified: also when the old content is put back."""
    victim = max((backup.path / "dump").iterdir(), key=lambda path: path.stat().st_size)

    def meddle(progress: Progress) -> None:
        if progress.phase == "digest":
            victim.write_bytes(victim.read_bytes())

    report = restore_drill(backup, target_db, on_progress=meddle)
    assert (False, ("the backup was changed while it was being restored",)) == (report.passed, report.problems)
    assert 0 == scratches(target_db)


def test_a_tampered_manifest_is_seen(backup: Backup, target_db: str) -> None:
    """It stays the newest backup, and a bad one: falling back to an older one would hide what happened."""
    path = backup.path / "manifest.json"
    text = path.read_text()
    for old, new in (
        ('"rows": 40000', '"rows": 40001'),
        ('"endpoint": "old"', '"endpoint": "new"'),
        ('"taken_at": "20', '"taken_at": "19'),
    ):
        assert 1 == text.count(old)
        path.write_text(text.replace(old, new))
        found = newest_backup(backup.path.parent)
        assert found is not None
        assert any("it no longer has the digest that it carries" in problem for problem in verify_backup(found))
        report = restore_drill(found, target_db)
        assert (False, 0, None) == (report.passed, report.restore_ms, report.content_digest)


def test_what_lies_outside_is_never_read(backup: Backup) -> None:
    """A manifest that lists files elsewhere, and links, are problems of their own, and are not followed."""
    (file, *_) = backup.manifest.files
    files = (*backup.manifest.files, file.model_copy(update={"path": "dump/../../../../../dev/zero"}))
    outside = backup.model_copy(update={"manifest": backup.manifest.model_copy(update={"files": files}).sealed()})
    assert any("outside of the backup" in problem for problem in verify_backup(outside))
    (backup.path / file.path).rename(backup.path / "elsewhere")
    (backup.path / file.path).symlink_to(backup.path / "elsewhere")
    assert (f"{file.path}: it is not a regular file",) == verify_backup(backup)


def test_an_older_server_is_refused_by_name(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A dump of the newer major is not tried on the older one: that failure would say nothing."""
    run_script(target_db, ROWS)
    with pytest.raises(Refusal) as caught:
        restore_drill(take_backup(target_db, tmp_path, endpoint="new"), source_db)
    assert "drill-older-server" == caught.value.code
    newer, older = (int(str(value(dsn, "SHOW server_version_num"))) // 10000 for dsn in (target_db, source_db))
    assert f"of PostgreSQL {newer}" in caught.value.what
    assert f"runs {older}" in caught.value.what


def test_what_the_server_is_to_blame_for_is_no_failure_of_the_backup(
    source_db: str, target_db: str, tmp_path: Path
) -> None:
    """Somebody ends pg_restore's session: the drill could not be carried out, and that is all that is known."""
    run_script(source_db, ROWS + SLOW)
    taken = take_backup(source_db, tmp_path, endpoint="old")

    def end_it() -> None:
        with psycopg.connect(target_db, autocommit=True) as admin:
            ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {BUILDING}"
            admin.execute(ended.encode(), [SCRATCH_PREFIX])

    with pytest.raises(StatehubError) as caught:
        restore_drill(taken, target_db, check=end_it)
    assert "drill-interrupted" == caught.value.code
    assert 0 == scratches(target_db)


def test_the_report_says_how_long_and_how_large(backup: Backup, target_db: str) -> None:
    """Durations of the phases, sizes before and after, the rate, and where; phases tell how far they are."""
    phases: list[Progress] = []
    report = restore_drill(backup, target_db, on_progress=phases.append)
    assert report.passed
    assert {"verify", "restore", "digest"} == {one.phase for one in phases}
    assert {"bytes"} == {one.unit for one in phases}
    assert report.elapsed_ms >= report.verify_ms + report.restore_ms + report.compare_ms > 0
    assert report.restored_bytes > report.size_bytes > 0
    assert report.restored_bytes_per_s == report.restored_bytes * 1000 // report.restore_ms
    assert report.restored_on.server_version == report.server_version
    assert report.restored_on.system_identifier != report.identity.system_identifier
    assert "pg_restore (PostgreSQL)" in report.restored_on.tool
    assert (backup.manifest.digest, backup.manifest.content_digest) == (report.manifest_digest, report.content_digest)
    assert backup.manifest.tables == report.contents


def test_what_is_no_backup_says_why(tmp_path: Path) -> None:
    """Nothing there, garbage, another version."""
    for text, expected in ((None, "No such file"), ("{", "Invalid JSON"), ("{}", "kind: Field required")):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(StatehubError) as caught:
            read_backup(tmp_path)
        assert "backup-unreadable" == caught.value.code
        assert expected in caught.value.what


def test_what_an_earlier_release_took_says_so(backup: Backup, tmp_path: Path) -> None:
    """It is no backup that counts, and not nothing either: whoever looks for one is told why, and what to do."""
    folder = as_an_earlier_release_left_it(backup, tmp_path / "earlier")
    with pytest.raises(StatehubError) as caught:
        read_backup(folder)
    assert ("backup-outdated", True) == (caught.value.code, "can still be restored by hand" in caught.value.what)
    found = find_backups(tmp_path, now=datetime.now(UTC))
    assert (backup.path, (), ()) == (found.newest and found.newest.path, found.outdated, found.told)
    (backup.path / "manifest.json").unlink()
    found = find_backups(tmp_path, now=datetime.now(UTC), endpoint="old", of=backup.manifest.identity)
    assert (None, (folder,)) == (found.newest, found.outdated)
    assert [True] == ["taken by an earlier release" in one for one in found.told]
    assert () == find_backups(tmp_path, now=datetime.now(UTC), endpoint="other").told
