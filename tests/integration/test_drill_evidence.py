"""Evidence of drills and signatures under manifests: what anybody can check later, and what is not let through."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import canonical, digest
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.backup_check import check_backup
from statehub_plan.postgres.drill import DrillReport, restore_drill
from statehub_plan.postgres.evidence import (
    BACKUP,
    DRILL,
    DrillEvidence,
    check_key,
    keep_evidence,
    sign_manifest,
    verify_evidence,
)
from statehub_plan.postgres.manifest import Backup, read_backup, verify_backup
from statehub_plan.schemas import problems
from statehub_plan.signatures.keygen import load_signers, sign_bytes
from statehub_plan.signatures.signers import Signer
from tests.integration.moving import run_script

Drilled = tuple[Backup, DrillReport]

OPERATOR = "operator@state-hub.example"


@dataclass(frozen=True)
class Keys:
    """A folder with keys and a list of those that count."""

    folder: Path
    keygen: Path

    def key(self, name: str, passphrase: str = "") -> Path:
        """A new ed25519 key."""
        path = self.folder / name
        subprocess.run([self.keygen, "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
        return path

    def signers(self, key: Path, options: str = "") -> tuple[Signer, ...]:
        """A list with this one key."""
        kind, blob, *_ = key.with_suffix(".pub").read_text().split()
        (self.folder / "allowed").write_text(" ".join(filter(None, (OPERATOR, options, kind, blob))) + "\n")
        return load_signers(self.folder / "allowed", DRILL)


@pytest.fixture
def keys(tmp_path: Path, ssh_keygen: Path) -> Keys:
    """No keys yet."""
    (tmp_path / "keys").mkdir()
    return Keys(tmp_path / "keys", ssh_keygen)


@pytest.fixture(scope="module")
def drilled(source_cluster: Cluster, target_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Drilled:
    """One backup of a small database and one drill of it, for all tests here."""
    with psycopg.connect(source_cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE evidence TEMPLATE template0")
        run_script(source_cluster.dsn("evidence"), "CREATE TABLE public.note AS SELECT n FROM generate_series(1, 10) n")
        taken = take_backup(source_cluster.dsn("evidence"), tmp_path_factory.mktemp("backups"), endpoint="old")
        admin.execute("DROP DATABASE evidence (FORCE)")
    return taken, restore_drill(taken, target_cluster.dsn())


@pytest.fixture
def backup(drilled: Drilled, tmp_path: Path) -> Backup:
    """The backup, for a test of its own to spoil."""
    return read_backup(Path(shutil.copytree(drilled[0].path, tmp_path / drilled[0].path.name)))


@pytest.fixture
def report(drilled: Drilled) -> DrillReport:
    """What its drill came to."""
    return drilled[1]


def test_signed_evidence_can_be_checked_by_anybody(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """From the file alone: who signed what; with a list of signers also who that is; beside the backup, of which."""
    key = keys.key("operator")
    kept, trouble = keep_evidence(backup, report, key)
    file = Path(kept.file)
    assert (None, backup.path / "drills") == (trouble, file.parent)
    written = json.loads(file.read_text())
    assert () == problems("drill-evidence", written)
    assert kept.digest == digest(DrillEvidence.model_validate(written))
    found = verify_evidence(file)
    assert (kept.signed_by, None, "same", report) == (found.signed_by, found.principal, found.backup, found.statement)
    assert OPERATOR == verify_evidence(file, keys.signers(key)).principal
    assert OPERATOR == verify_evidence(file, keys.signers(key, f'namespaces="{DRILL.namespace}"')).principal
    alone = Path(shutil.copy(file, keys.folder / "evidence.json"))
    assert "absent" == verify_evidence(alone).backup
    assert () == verify_backup(backup)


def test_ssh_keygen_alone_can_check_it(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """Without this tool: canonical JSON of the statement, the signature beside it, the documented namespace."""
    key = keys.key("operator")
    written = json.loads(Path(keep_evidence(backup, report, key)[0].file).read_text())
    (keys.folder / "sig").write_text(written["signature"])
    keys.signers(key)
    done = subprocess.run(
        [
            *(keys.keygen, "-Y", "verify", "-n", "statehub-plan-drill@v1", "-I", OPERATOR),
            *("-f", keys.folder / "allowed", "-s", keys.folder / "sig"),
        ],
        input=canonical(written["statement"]),
        capture_output=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


def _passed(document: dict[str, Any]) -> None:
    document["statement"]["passed"] = False


def _rows(document: dict[str, Any]) -> None:
    document["statement"]["rows"] += 1


def _respelled(document: dict[str, Any]) -> None:
    document["statement"]["drilled_at"] = document["statement"]["drilled_at"].replace("Z", "+00:00")


def _unknown(document: dict[str, Any]) -> None:
    document["statement"]["more"] = 1


def _garbled(document: dict[str, Any]) -> None:
    document["signature"] = document["signature"].replace("A", "B")


def _unsigned(document: dict[str, Any]) -> None:
    document["signature"] = None


CHANGES: tuple[tuple[Callable[[dict[str, Any]], None], str], ...] = (
    (_passed, "evidence-refused"),
    (_rows, "evidence-refused"),
    (_respelled, "evidence-malformed"),
    (_unknown, "evidence-malformed"),
    (_garbled, "evidence-refused"),
    (_unsigned, "evidence-unsigned"),
)


def test_whatever_was_changed_it_no_longer_counts(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """The verdict, a number, a spelling, a new member, the signature, its absence."""
    file = Path(keep_evidence(backup, report, keys.key("operator"))[0].file)
    text = file.read_text()
    for change, code in CHANGES:
        document = json.loads(text)
        change(document)
        file.write_text(json.dumps(document))
        with pytest.raises(StatehubError) as caught:
            verify_evidence(file)
        assert (change, code) == (change, caught.value.code)


def test_two_readings_are_none(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """A key that stands there twice, and a link to another file."""
    file = Path(keep_evidence(backup, report, keys.key("operator"))[0].file)
    text = file.read_text()
    file.write_text(text.replace('"rows": 10', '"rows": 11, "rows": 10'))
    with pytest.raises(StatehubError, match="twice"):
        verify_evidence(file)
    file.with_suffix(".real").write_text(text)
    file.unlink()
    file.symlink_to(file.with_suffix(".real"))
    with pytest.raises(StatehubError, match="symbolic link"):
        verify_evidence(file)


def test_only_listed_keys_count_and_only_for_drills(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """A stranger's key, a key that had run out, and a signature that the right key made for something else."""
    stranger, operator = keys.key("stranger"), keys.key("operator")
    file = Path(keep_evidence(backup, report, stranger)[0].file)
    with pytest.raises(StatehubError, match="on no line of allowed_signers"):
        verify_evidence(file, keys.signers(operator))
    with pytest.raises(StatehubError, match="does not let it"):
        verify_evidence(file, keys.signers(stranger, 'valid-before="20200101"'))
    elsewhere = DrillEvidence(statement=report, signature=sign_bytes(canonical(report), operator, BACKUP))
    file.write_text(elsewhere.model_dump_json())
    with pytest.raises(StatehubError, match="was made for 'statehub-plan-backup@v1'"):
        verify_evidence(file, keys.signers(operator))


def test_without_a_key_it_says_that_it_is_unsigned(backup: Backup, report: DrillReport) -> None:
    """Kept and readable, and never taken for signed."""
    kept, trouble = keep_evidence(backup, report, None)
    assert (None, None) == (kept.signed_by, trouble)
    with pytest.raises(StatehubError, match="was never signed"):
        verify_evidence(Path(kept.file))


def test_a_key_that_cannot_sign_loses_no_evidence(
    backup: Backup, report: DrillReport, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such key is told before the drill; a passphrase that nobody typed after it, and the evidence is kept."""
    with pytest.raises(StatehubError) as missing:
        check_key(keys.folder / "gone", DRILL)
    assert "evidence-key-missing" == missing.value.code
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    locked = keys.key("locked", passphrase="secret words")
    check_key(locked, DRILL)
    kept, trouble = keep_evidence(backup, report, locked)
    assert trouble is not None
    assert ("evidence-key-unusable", None) == (trouble.code, kept.signed_by)
    with pytest.raises(StatehubError, match="was never signed"):
        verify_evidence(Path(kept.file))


def test_evidence_that_cannot_be_kept_is_an_error(backup: Backup, report: DrillReport) -> None:
    """Something is in the way where it belongs: nothing may be recorded that nobody could show."""
    (backup.path / "drills").write_text("")
    with pytest.raises(StatehubError) as caught:
        keep_evidence(backup, report, None)
    assert "evidence-not-saved" == caught.value.code


def test_evidence_of_another_backup_is_told_from_this_ones(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """The manifest beside it is no longer the one that was drilled."""
    file = Path(keep_evidence(backup, report, keys.key("operator"))[0].file)
    manifest = backup.manifest.model_copy(update={"endpoint": "new"}).sealed()
    (backup.path / "manifest.json").write_text(manifest.model_dump_json())
    assert "changed" == verify_evidence(file).backup
    (backup.path / "manifest.json").write_text("{")
    assert "changed" == verify_evidence(file).backup


def test_a_signed_manifest_cannot_be_made_to_fit(backup: Backup, keys: Keys) -> None:
    """Whoever changes a file and computes every digest anew still lacks the key."""
    operator = keys.key("operator")
    signed_by = sign_manifest(backup, operator)
    signers = keys.signers(operator)
    found = check_backup(backup, signers=signers)
    assert (True, signed_by, OPERATOR) == (found.sound, found.signed_by, found.principal)
    manifest = backup.manifest.model_copy(update={"endpoint": "new"}).sealed()
    (backup.path / "manifest.json").write_text(manifest.model_dump_json())
    (problem,) = check_backup(read_backup(backup.path)).problems
    assert "the manifest's signature does not count: the statement or its signature was changed" in problem
    (backup.path / "manifest.json.sig").unlink()
    assert check_backup(read_backup(backup.path)).sound
    assert ("the manifest is not signed",) == check_backup(read_backup(backup.path), signers=signers).problems


def test_evidence_of_an_earlier_release_says_so(backup: Backup, report: DrillReport, keys: Keys) -> None:
    """It has not been changed after it was signed: its drill compared less, and that is what is said."""
    kept, _ = keep_evidence(backup, report, keys.key("operator"))
    file = Path(kept.file)
    file.write_text(file.read_text().replace("statehub-plan/restore-drill/v2", "statehub-plan/restore-drill/v1"))
    with pytest.raises(StatehubError) as caught:
        verify_evidence(file)
    assert ("evidence-outdated", True) == (caught.value.code, "rows of tables and nothing else" in caught.value.what)


def test_evidence_of_a_later_release_is_not_called_an_earlier_one(
    backup: Backup, report: DrillReport, keys: Keys
) -> None:
    """What it is written as is said, and that this release cannot judge it."""
    kept, _ = keep_evidence(backup, report, keys.key("operator"))
    file = Path(kept.file)
    file.write_text(file.read_text().replace("statehub-plan/restore-drill/v2", "statehub-plan/restore-drill/v3"))
    with pytest.raises(StatehubError) as caught:
        verify_evidence(file)
    assert ("evidence-malformed", True) == (caught.value.code, "restore-drill/v3" in caught.value.what)
