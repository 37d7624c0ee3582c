"""Backups that count, backups that don't, and the drill that tells them apart."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import psycopg
import pyrage
import pytest
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.components import client_tool
from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.age import read_identities
from statehub_plan.postgres.backup import require_room, take_backup
from statehub_plan.postgres.connect import connect, user_tables
from statehub_plan.postgres.drill import restore_drill
from statehub_plan.postgres.fence import install
from statehub_plan.postgres.manifest import Backup, newest_backup, verify_backup
from statehub_plan.postgres.replication import publish
from statehub_plan.postgres.scratch import MARK, SCRATCH_PREFIX
from statehub_plan.postgres.state import identity
from tests.integration.moving import EVERYTHING, PASSWORD, database, make_roles, run_script, value

SMALL = (
    "CREATE TABLE public.note (id integer PRIMARY KEY, text text); INSERT INTO public.note VALUES (1, 'one'), (2, 'x');"
)


@pytest.fixture
def backup(source_db: str, tmp_path: Path) -> Backup:
    """A backup of a small database."""
    run_script(source_db, SMALL)
    return take_backup(source_db, tmp_path, endpoint="old")


def scratch_databases(dsn: str) -> object:
    """How many databases of drills there are."""
    return value(dsn, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{SCRATCH_PREFIX}%'")


def test_a_backup_says_what_it_is(backup: Backup, source_db: str, tmp_path: Path) -> None:
    """Manifest with identity, moment, files and contents; found again, whole, and for nobody else to read."""
    assert backup == newest_backup(tmp_path)
    assert () == verify_backup(backup)
    manifest = backup.manifest
    with connect(source_db, purpose="test") as source:
        assert identity(source) == manifest.identity
    assert isinstance(manifest.identity, Identity)
    assert [("public.note", 2)] == [(table.table, table.rows) for table in manifest.tables]
    assert manifest.size_bytes == sum(file.size_bytes for file in manifest.files) > 0
    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in (backup.path, backup.path / "dump")}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (backup.path / "dump").iterdir()}


def test_everything_restores_into_the_newer_major(
    source_db: str, target_db: str, source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path
) -> None:
    """The drill restores a fenced database's dump elsewhere, compares every table and cleans up."""
    make_roles(source_cluster)
    make_roles(target_cluster)
    run_script(source_db, EVERYTHING)
    with connect(source_db, purpose="test") as source:
        install(source)
    report = restore_drill(take_backup(source_db, tmp_path, endpoint="old"), target_db)
    assert ((), True) == (report.problems, report.passed)
    assert (report.tables, report.rows) == (17, 2777)
    assert scratch_databases(target_db) == 0


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("major", ["lowest", "highest"])
def test_a_backup_of_a_primary_that_is_followed_restores(
    major: str, encrypted: bool, source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path
) -> None:
    """What the tool made in the database for a freeze and for its streams is no part of what is restored, neither by
    a drill nor by hand with pg_restore and the list beside the dump; a publication of the user's own is."""
    cluster = {"lowest": source_cluster, "highest": target_cluster}[major]
    secret = pyrage.x25519.Identity.generate()
    key = tmp_path / "key"
    key.write_text(f"{secret}\n")
    key.chmod(0o600)
    with database(cluster) as primary, database(cluster) as empty:
        run_script(primary, SMALL + "CREATE PUBLICATION theirs FOR TABLE public.note")
        with connect(primary, purpose="test") as source:
            install(source)
            publish(source, user_tables(source))
        recipients = (str(secret.to_public()),) if encrypted else ()
        backup = take_backup(primary, tmp_path / "backups", endpoint="old", recipients=recipients)
        report = restore_drill(backup, target_cluster.dsn(), identities=read_identities(key) if encrypted else None)
        assert ((), True) == (report.problems, report.passed)
        restored = by_hand(backup, empty, secret if encrypted else None)
        assert (0, "") == (restored.returncode, restored.stderr)
        assert 2 == value(empty, "SELECT count(*) FROM public.note")
        assert "theirs" == value(empty, "SELECT string_agg(pubname, ' ') FROM pg_publication")


def by_hand(backup: Backup, empty: str, secret: pyrage.x25519.Identity | None) -> subprocess.CompletedProcess[str]:
    """Restores a backup without this tool, by what README says."""
    dump, wanted = backup.path / "dump", backup.path / "dump" / "restore.list"
    if secret is not None:
        dump, wanted = (backup.path.parent / name for name in ("database.dump", "restore.list"))
        for path in (dump, wanted):
            path.write_bytes(pyrage.decrypt((backup.path / "dump" / f"{path.name}.age").read_bytes(), [secret]))
    command = [str(client_tool("pg_restore", backup.manifest.tool_major)), "-L", str(wanted), "-d", empty, str(dump)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_a_primary_subscribes_to_is_not_in_its_backup(source_db: str, tmp_path: Path) -> None:
    """A superuser's dump would hold the way back with the password for the other side, for whoever reads the file."""
    with psycopg.connect(source_db, autocommit=True) as source:
        source.execute(
            "CREATE SUBSCRIPTION statehub_plan_1 CONNECTION 'host=127.0.0.1 password=canary-3b1c' "
            "PUBLICATION statehub_plan WITH (connect = false, slot_name = NONE)"
        )
    backup = take_backup(source_db, tmp_path, endpoint="old")
    assert b"canary" not in b"".join(path.read_bytes() for path in (backup.path / "dump").iterdir())


def test_a_changed_byte_is_found(backup: Backup, target_db: str) -> None:
    """By the checksum, and the drill does not even begin to restore."""
    victim = next(path for path in sorted((backup.path / "dump").iterdir()) if path.suffix == ".gz")
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    (problem,) = verify_backup(backup)
    assert f"dump/{victim.name}: its content has changed" in problem
    report = restore_drill(backup, target_db)
    assert (False, f"damaged file: {problem}") == (report.passed, report.problems[0])


def test_missing_and_unknown_files_are_found(backup: Backup) -> None:
    """All problems at once."""
    files = sorted(path for path in (backup.path / "dump").iterdir())
    files[0].unlink()
    (backup.path / "dump" / "extra").write_text("?")
    problems = verify_backup(backup)
    assert [f"dump/{files[0].name}: No such file or directory", "dump/extra: not in the manifest"] == list(problems)


def test_a_backup_that_restores_to_something_else_fails(backup: Backup, target_db: str) -> None:
    """Right checksums are not enough: the rows must be those that were dumped."""
    table = backup.manifest.tables[0]
    other = table.model_copy(update={"digest": table.digest.replace(":", ":0")[:-1]})
    counted = table.model_copy(update={"rows": 3})
    gone = table.model_copy(update={"table": "public.gone"})
    for tables, expected in (
        ((other,), "table public.note: its rows differ from those that were dumped"),
        ((counted,), "table public.note: 2 rows instead of 3"),
        ((table, gone), "table public.gone is missing"),
        ((), "table public.note should not be there"),
    ):
        manifest = backup.manifest.model_copy(update={"tables": tables}).sealed()
        spoilt = backup.model_copy(update={"manifest": manifest})
        assert (expected,) == restore_drill(spoilt, target_db).problems
    assert scratch_databases(target_db) == 0


def test_an_interrupted_backup_never_counts(source_db: str, tmp_path: Path) -> None:
    """What `check` raises ends it, and nothing that looks like a backup is left."""
    run_script(source_db, SMALL)

    def lost() -> None:
        raise StatehubError(code="lease-lost", what="another run has the lease", hint="")

    with pytest.raises(StatehubError) as caught:
        take_backup(source_db, tmp_path, endpoint="old", check=lost)
    assert caught.value.code == "lease-lost"
    assert [] == list(tmp_path.iterdir())


def test_a_killed_backup_never_counts(backup: Backup, tmp_path: Path) -> None:
    """A directory without its final name, or without a readable manifest, is no backup; old ones are swept away."""
    shutil.copytree(backup.path, tmp_path / f".partial-{backup.path.name}")
    shutil.copytree(backup.path, tmp_path / "torn")
    (tmp_path / "torn" / "manifest.json").write_text('{"kind": "regular"')
    (tmp_path / "torn2").mkdir()
    assert backup == newest_backup(tmp_path)
    os.utime(tmp_path / f".partial-{backup.path.name}", (0, 0))
    assert newest_backup(tmp_path / "nowhere") is None


def test_only_what_nobody_writes_any_more_is_swept_away(backup: Backup, source_db: str, tmp_path: Path) -> None:
    """What a killed backup left goes with the next one, a day later; one that still grows stays, however old."""
    growing, left = tmp_path / ".partial-growing", tmp_path / ".partial-left"
    for partial in (growing, left):
        shutil.copytree(backup.path, partial)
        for path in (*partial.rglob("*"), partial):
            os.utime(path, (0, 0))
    os.utime(growing / "dump" / "toc.dat")
    take_backup(source_db, tmp_path, endpoint="old")
    assert (True, False) == (growing.exists(), left.exists())


def test_the_newest_content_wins(backup: Backup, source_db: str, tmp_path: Path) -> None:
    """By the moment of the content, per endpoint where asked, not by file times."""
    later = take_backup(source_db, tmp_path, endpoint="other")
    os.utime(later.path, (0, 0))
    assert later == newest_backup(tmp_path)
    assert backup == newest_backup(tmp_path, endpoint="old")
    assert newest_backup(tmp_path, endpoint="third") is None
    assert newest_backup(tmp_path, kind="safety") is None


def test_backup_while_writers_go_on(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Dump and digests are of one snapshot: a restore agrees with the manifest although rows were added."""
    run_script(source_db, "CREATE TABLE public.busy AS SELECT n FROM generate_series(1, 50000) n")
    with psycopg.connect(source_db, autocommit=True) as writer:

        def write() -> None:
            writer.execute("INSERT INTO public.busy VALUES (0)")

        backup = take_backup(source_db, tmp_path, endpoint="old", check=write)
    assert value(source_db, "SELECT count(*) FROM public.busy") > 50000  # type: ignore[operator]
    assert () == restore_drill(backup, target_db).problems


def test_a_role_without_createdb_is_told_so(backup: Backup, target_db: str, target_cluster: Cluster) -> None:
    """The refusal names the statement that allows it."""
    make_roles(target_cluster)
    limited = target_cluster.dsn(str(conninfo_to_dict(target_db)["dbname"]), "mover_tool", PASSWORD)
    with pytest.raises(Refusal) as caught:
        restore_drill(backup, limited)
    assert ("drill-not-allowed", True) == (caught.value.code, "CREATEDB" in caught.value.hint)


def test_only_what_is_surely_a_drills_is_dropped(backup: Backup, target_db: str) -> None:
    """By name, mark and owner together; a user's database with such a name, and one in use by a drill, stay."""
    theirs, in_use = f"{SCRATCH_PREFIX}of_somebody", f"{SCRATCH_PREFIX}00000000aaaa"
    unmarked, left = f"{SCRATCH_PREFIX}00000000bbbb", f"{SCRATCH_PREFIX}0000ffffffff"
    with psycopg.connect(target_db, autocommit=True) as server, connect(target_db, purpose="test") as drilling:
        for name, limit in ((theirs, MARK), (in_use, MARK), (unmarked, -1), (left, MARK)):
            server.execute(f"CREATE DATABASE {name} TEMPLATE template0 CONNECTION LIMIT {limit}".encode())
        drilling.execute("SELECT pg_advisory_lock(%s, %s)", [0x53485044, 0xAAAA])
        try:
            assert restore_drill(backup, target_db).passed
            found = server.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{SCRATCH_PREFIX}%"])
            assert sorted([theirs, in_use, unmarked]) == sorted(name for (name,) in found)
        finally:
            for name in (theirs, in_use, unmarked):
                server.execute(f"DROP DATABASE {name}".encode())


def test_too_little_room_is_a_refusal(tmp_path: Path) -> None:
    """Seen before anything is dumped: an exbibyte of tables fits nowhere."""
    with pytest.raises(Refusal) as caught:
        require_room(tmp_path, 1 << 60)
    assert caught.value.code == "backup-disk-full"


def test_no_password_on_a_command_line(backup: Backup, source_db: str, tmp_path: Path) -> None:
    """pg_dump gets it by its environment, which other users cannot read; a command line they can."""
    password = str(conninfo_to_dict(source_db)["password"])
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        take_backup(source_db, tmp_path, endpoint="old")
    finally:
        done.set()
        watcher.join()
    assert [] == [line for line in seen if password in line]
    assert any("pg_dump" in line and str(tmp_path) in line for line in seen)
