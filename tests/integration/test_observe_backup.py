"""The newest backup as a fact: real dumps, damaged ones, none at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Fact, FactStatus
from statehub_plan.model.spec import Backup as BackupSettings
from statehub_plan.observe.backup import backup_source, verify_once
from statehub_plan.observe.gather import gather
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.evidence import KEY_VARIABLE, sign_manifest
from statehub_plan.postgres.manifest import Backup
from tests.integration.drilling import as_an_earlier_release_left_it
from tests.integration.observing import now


@pytest.fixture
def backup(source_db: str, tmp_path: Path) -> Backup:
    """A real backup of a small database, in the plan's backup directory."""
    with psycopg.connect(source_db) as admin:
        admin.execute("CREATE TABLE public.t AS SELECT generate_series(1, 1000) AS i")
    return take_backup(source_db, tmp_path / "backups", endpoint="old")


def _fact(directory: Path, name: str = "backups") -> Fact:
    source = backup_source(BackupSettings(directory=name), directory, now=now)
    (fact,) = gather([source], now=now, timeout_s=5.0)
    return fact


def _value(directory: Path) -> Any:
    return _fact(directory).value


def test_a_sound_backup(backup: Backup, tmp_path: Path) -> None:
    """Age, endpoint, cluster and size from the manifest; the checksum from the files."""
    before = now()
    value = _value(tmp_path)
    taken_at = epoch_s(backup.manifest.taken_at)
    expected = {"path": str(backup.path), "endpoint": "old", "taken_at": taken_at, "checksum_ok": True, "problems": []}
    expected |= {"size_bytes": backup.manifest.size_bytes, "manifest_digest": backup.manifest.digest}
    expected |= {"encrypted": False}
    expected |= backup.manifest.identity.model_dump()
    expected |= {"passed_over": [], "outdated": [], "signature_missing": False}
    age_s = value.pop("age_s")
    assert expected == value
    assert epoch_s(before) - taken_at <= age_s <= epoch_s(now()) - taken_at


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "restored-time"])
def test_damage_is_found_also_after_a_good_look(damage: str, backup: Backup, tmp_path: Path) -> None:
    """A file changed, lost or slipped in after the first look is found by the next, even with its old time put back."""
    assert _value(tmp_path)["checksum_ok"] is True
    victim = max((backup.path / "dump").iterdir(), key=lambda path: path.stat().st_size)
    times = (victim.stat().st_atime_ns, victim.stat().st_mtime_ns)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage in ("changed", "restored-time"):
        victim.write_bytes(content)
    elif damage == "missing":
        victim.unlink()
    else:
        (victim.parent / "extra").write_text("x")
    if damage == "restored-time":
        os.utime(victim, ns=times)
    value = _value(tmp_path)
    assert value["checksum_ok"] is False
    assert 1 == len(value["problems"])


def test_an_older_copy_does_not_count(backup: Backup, tmp_path: Path) -> None:
    """The newest by content is looked at, whatever its directory's name or time."""
    older = backup.manifest.model_copy(update={"taken_at": backup.manifest.taken_at.replace(year=2020)})
    copy = tmp_path / "backups" / "zzz"
    shutil.copytree(backup.path, copy)
    (copy / "manifest.json").write_text(older.model_dump_json())
    assert str(backup.path) == _value(tmp_path)["path"]


def test_a_signature_is_missed_where_there_is_a_key_to_sign_with(
    backup: Backup, tmp_path: Path, ssh_keygen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, one of something else, and one that counts; nothing is missed where nobody signs."""
    key = tmp_path / "key"
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert _value(tmp_path)["signature_missing"] is False
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    assert _value(tmp_path)["signature_missing"] is True
    sign_manifest(backup.model_copy(update={"manifest": backup.manifest.model_copy(update={"digest": "other"})}), key)
    assert _value(tmp_path)["signature_missing"] is True
    sign_manifest(backup, key)
    assert _value(tmp_path)["signature_missing"] is False


def test_a_signature_counts_if_it_is_this_runs_own_or_a_listed_ones(
    backup: Backup, tmp_path: Path, ssh_keygen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger may sign what he likes, under anybody's identity; a colleague whom a gate lists vouches for it."""
    for name in ("own", "colleague", "stranger"):
        subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    line = (tmp_path / "colleague.pub").read_text()
    (tmp_path / "signers").write_text(f'ann@ops.example namespaces="statehub-plan-backup@v1" {line}')
    (tmp_path / "approvers").write_text(f'ann@ops.example namespaces="statehub-plan-approval@v1" {line}')
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "own"))

    def missing(*files: str) -> Any:
        settings = BackupSettings(directory="backups")
        (fact,) = gather([backup_source(settings, tmp_path, now=now, allowed_signers=files)], now=now, timeout_s=5.0)
        value: Any = fact.value
        return value["signature_missing"]

    sign_manifest(backup, tmp_path / "own")
    assert [False, False] == [missing(), missing("signers")]
    sign_manifest(backup, tmp_path / "stranger")
    assert [True, True] == [missing(), missing("signers")]
    sign_manifest(backup, tmp_path / "colleague")
    assert [True, False, True, True] == [missing(), missing("signers"), missing("approvers"), missing("nowhere")]
    monkeypatch.delenv(KEY_VARIABLE)
    assert [False, False] == [missing(), missing("signers")]


def test_a_backup_of_the_future_is_passed_over(backup: Backup, tmp_path: Path) -> None:
    """It would be the newest, and fresh, until then: what it is worth is told beside what counts."""
    ahead = backup.manifest.model_copy(update={"taken_at": backup.manifest.taken_at + timedelta(days=365)})
    copy = tmp_path / "backups" / "ahead"
    shutil.copytree(backup.path, copy)
    (copy / "manifest.json").write_text(ahead.sealed().model_dump_json())
    value = _value(tmp_path)
    assert (str(backup.path), [str(copy)]) == (value["path"], value["passed_over"])
    shutil.rmtree(backup.path)
    assert {"passed_over": [str(copy)], "outdated": []} == _value(tmp_path)


def test_a_backup_of_an_earlier_release_is_named_and_not_counted(backup: Backup, tmp_path: Path) -> None:
    """What it holds can't be proved any more: it is told where nothing later counts, and is no news where something
    does."""
    folder = as_an_earlier_release_left_it(backup, tmp_path / "backups" / "earlier")
    value = _value(tmp_path)
    assert (str(backup.path), []) == (value["path"], value["outdated"])
    shutil.rmtree(backup.path)
    assert {"passed_over": [], "outdated": [str(folder)]} == _value(tmp_path)


def test_no_backup_is_known_to_be_none(tmp_path: Path) -> None:
    """An empty or absent directory is an answer; one that can't be looked into is not."""
    (tmp_path / "backups").mkdir()
    for name in ("backups", "nowhere"):
        fact = _fact(tmp_path, name)
        assert (FactStatus.KNOWN, None) == (fact.status, fact.value)
    (tmp_path / "file").write_text("")
    fact = _fact(tmp_path, "file")
    assert "file can't be read: Not a directory" in str(fact.reason)


def test_giving_up_remembers_nothing(backup: Backup) -> None:
    """A verification that was given up is not taken for one that found nothing."""

    def give_up() -> None:
        raise StatehubError(code="enough", what="enough", hint="")

    with pytest.raises(StatehubError):
        verify_once(backup, check=give_up)
    (backup.path / "dump" / "toc.dat").unlink()
    assert ("dump/toc.dat: No such file or directory",) == verify_once(backup, check=lambda: None)


def test_a_large_backup_gets_the_time_that_it_needs(backup: Backup, tmp_path: Path) -> None:
    """A quick time-out is for what does not answer; a backup of known size is read to its end."""
    file = backup.path / "dump" / "large"
    with file.open("wb") as stream:
        stream.truncate(512 << 20)
    manifest = backup.manifest.model_copy(update={"size_bytes": 512 << 20}).sealed()
    (backup.path / "manifest.json").write_text(manifest.model_dump_json())
    source = backup_source(BackupSettings(directory="backups"), tmp_path, now=now)
    (fact,) = gather([source], now=now, timeout_s=0.5)
    value: Any = fact.value
    assert ["dump/large: not in the manifest"] == value["problems"]
