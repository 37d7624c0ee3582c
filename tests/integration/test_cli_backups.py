"""`backup`, `backup verify`, `drill restore`, `drill verify` on two real databases: what they say and how they end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyrage
import pytest

from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.errors import Exit, Refusal
from statehub_plan.history import journal_facts
from statehub_plan.model.base import digest
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.evidence import DrillEvidence, sign_manifest
from statehub_plan.postgres.manifest import read_backup
from statehub_plan.postgres.scratch import SCRATCH_PREFIX
from statehub_plan.schemas import problems
from statehub_plan.spec import starter
from statehub_plan.steps.restore_drill import Drilled, drill_fact, drill_newest
from tests.integration.applying import ran
from tests.integration.drilling import BUILDING, SLOW, as_an_earlier_release_left_it
from tests.integration.moving import run_script
from tests.integration.served_database import demand_standby

ENCRYPTION = "\n    encryption: {recipientsFile: ./backup.pub, identityFile: ./backup.key}\n"
OPERATOR = "operator@state-hub.example"


@pytest.fixture
def document(source_db: str, target_db: str, tmp_path: Path, ssh_keygen: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The starter plan with encrypted backups, whose endpoints are two real databases; keys beside it."""
    for name in [name for name in os.environ if name.startswith("STATEHUB_PLAN_") and not name.endswith("_BIN")]:
        monkeypatch.delenv(name)
    run_script(source_db, "CREATE TABLE public.note AS SELECT n FROM generate_series(1, 100) n")
    text = starter("hub").replace("\n    maxAge: 24h  # a cutover", ENCRYPTION + "    maxAge: 24h  # a cutover")
    text = text.replace("\n  transfer:\n", "\n  drills:\n    restore: {maxAge: 7d}\n\n  transfer:\n")
    for name, dsn in (("old-home", source_db), ("new-home", target_db)):
        (tmp_path / f"{name}.dsn").write_text(dsn)
        (tmp_path / f"{name}.dsn").chmod(0o600)
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "backup.pub").write_text(f"{identity.to_public()}\n")
    (tmp_path / "backup.key").write_text(f"{identity}\n")
    (tmp_path / "backup.key").chmod(0o600)
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "operator"], check=True)
    kind, blob, *_ = (tmp_path / "operator.pub").read_text().split()
    (tmp_path / "allowed_signers").write_text(f"{OPERATOR} {kind} {blob}\n")
    path = tmp_path / "plan.yaml"
    path.write_text(with_dsn_files(text))
    return path


def with_dsn_files(text: str) -> str:
    """The starter with its connection strings in files beside it."""
    names = iter(("old-home", "new-home"))
    return re.sub(r"dsn: \{env: [A-Z0-9_]+\}", lambda _: f"dsn: {{file: ./{next(names)}.dsn}}", text)


def test_from_a_backup_to_a_proof_that_anybody_can_check(document: Path) -> None:
    """Taken, verified, drilled, verified again, each with its schema; the journal names evidence and signer."""
    folder = document.parent
    signing = ("--key", folder / "operator")
    listed = ("--allowed-signers", folder / "allowed_signers")
    taken = ran("backup", document, "--endpoint", "old-home", *signing, "--json")
    assert (Exit.DONE, ()) == (taken.status, problems("output-backup", taken.json)), taken.told
    fingerprint = taken.json["signed_by"]
    assert fingerprint.startswith("SHA256:")
    assert "age" == taken.json["manifest"]["encryption"]["method"]
    for what in (document, taken.json["path"]):
        checked = ran("backup", "verify", what, *listed, "--json")
        assert (Exit.DONE, ()) == (checked.status, problems("output-backup-verify", checked.json)), checked.told
        assert (fingerprint, OPERATOR) == (checked.json["signed_by"], checked.json["principal"])
        assert (what == document) == checked.json["decrypted"]
    drilled = ran("drill", "restore", document, "--endpoint", "new-home", *signing, "--json")
    assert (Exit.DONE, ()) == (drilled.status, problems("output-drill", drilled.json)), drilled.told
    evidence = Path(drilled.json["evidence"]["file"])
    verified = ran("drill", "verify", evidence, *listed, "--json")
    assert (Exit.DONE, ()) == (verified.status, problems("output-drill-verify", verified.json)), verified.told
    assert (fingerprint, OPERATOR, "same") == tuple(verified.json[key] for key in ("signed_by", "principal", "backup"))
    fact = recorded(document)
    assert (True, fingerprint) == (fact["passed"], fact["signed_by"])
    assert fact["evidence"]["digest"] == digest(DrillEvidence.model_validate_json(evidence.read_bytes()))
    assert "contents" not in fact["report"]


def recorded(document: Path) -> Any:
    """The fact `drill.restore` as policies see it."""
    with Workspace.load(document) as workspace:
        (fact,) = journal_facts(workspace.records(), utc_now())
    return fact.value


def test_what_people_read(document: Path) -> None:
    """Sizes, durations and rates; that it is encrypted; and that it is unsigned where no key was given."""
    taken = ran("backup", document, "--endpoint", "old-home")
    assert "encrypted with age for 1 recipient" in taken.out
    assert "unsigned" in taken.out
    assert "MB/s" in taken.out
    checked = ran("backup", "verify", document)
    assert ": sound" in checked.out
    assert "encrypted, decrypted and compared" in checked.out
    drilled = ran("drill", "restore", document, "--endpoint", "new-home")
    for expected in ("restores: 1 table, 100 rows", "PostgreSQL ", "MB encrypted", "MB/s", "s in all", "unsigned"):
        assert expected in drilled.out, drilled.told
    assert recorded(document)["signed_by"] is None
    (evidence,) = document.parent.glob("backups/*/drills/*.json")
    refused = ran("drill", "verify", evidence)
    assert (Exit.ERROR, True) == (refused.status, "evidence-unsigned" in refused.err)


def test_a_drill_whose_record_no_standby_confirms_is_told_with_its_evidence(
    document: Path, target_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passed and is on record: that the journal's standby is silent is a note, as it is for runs."""
    monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", target_db)
    monkeypatch.setattr("statehub_plan.journal.postgres._STANDBY_WAIT_S", 0.5)
    assert Exit.DONE == ran("backup", document, "--endpoint", "old-home").status
    assert Exit.DONE == ran("drill", "restore", document, "--endpoint", "new-home").status
    demand_standby(target_db, "nobody")
    try:
        drilled = ran("drill", "restore", document, "--endpoint", "old-home")
    finally:
        demand_standby(target_db, "")
    assert Exit.DONE == drilled.status, drilled.told
    assert " restores: 1 table, 100 rows" in drilled.out
    assert "  evidence " in drilled.out
    assert "no synchronous standby has confirmed" in drilled.err
    assert "old-home" == recorded(document)["restored_on"]


def drilled_of(document: Path, of: Identity, told: list[str]) -> Drilled:
    """A drill of the newest backup of one database, on the new home's server."""
    with Workspace.load(document) as workspace:
        dsn = (workspace.base_dir / "new-home.dsn").read_text()
        return drill_newest(
            workspace.document.spec,
            workspace.base_dir,
            "new-home",
            dsn,
            of=of,
            now=utc_now(),
            key=None,
            note=told.append,
            on_progress=lambda _: None,
            check=lambda: None,
        )


def test_a_drill_takes_the_newest_backup_of_the_primary(document: Path, source_db: str, target_db: str) -> None:
    """Not a later one of another database under the same name; where the primary is not known, it says so."""
    taken = [take_backup(dsn, document.parent / "backups", endpoint="old-home") for dsn in (source_db, target_db)]
    own, other = (one.manifest.identity for one in taken)
    told: list[str] = []
    drilled = drilled_of(document, own, told)
    assert ("new-home", own) == (drilled.restored_on, drilled.report.identity)
    assert "new-home" == drill_fact(drilled)[1]["restored_on"]
    assert not any("which database is primary" in one for one in told)
    assert other == drilled_of(document, Identity(), told).report.identity
    assert any("which database is primary is not known" in one for one in told)
    with pytest.raises(Refusal) as caught:
        drilled_of(document, own.model_copy(update={"database": "wiki"}), told)
    assert ("backup-missing", True) == (caught.value.code, "database wiki" in caught.value.what)


def test_a_backup_of_the_future_is_neither_drilled_nor_verified(document: Path) -> None:
    """The newest that counts is, and a note names the one that was passed over; alone, it is no backup."""
    folder = document.parent / "backups"
    early, late = (
        take_backup((document.parent / "old-home.dsn").read_text(), folder, endpoint="old-home") for _ in "12"
    )
    ahead = late.manifest.model_copy(update={"taken_at": utc_now() + timedelta(days=365)}).sealed()
    (late.path / "manifest.json").write_text(ahead.model_dump_json())
    for command in (("drill", "restore", document, "--endpoint", "new-home"), ("backup", "verify", document)):
        done = ran(*command)
        assert (Exit.DONE, True) == (done.status, early.path.name in done.out), done.told
        assert f"dated in the future and passed over: {late.path}" in done.err
    shutil.rmtree(early.path)
    for command in (("drill", "restore", document, "--endpoint", "new-home"), ("backup", "verify", document)):
        done = ran(*command)
        assert (Exit.ERROR, True, True) == (done.status, "no backup" in done.err, str(late.path) in done.err)


def test_a_backup_of_an_earlier_release_is_told_wherever_one_is_looked_for(document: Path) -> None:
    """Drill, verification, `doctor` and the observation that plans are made of say why it does not count."""
    folder = document.parent / "backups"
    taken = take_backup((document.parent / "old-home.dsn").read_text(), folder, endpoint="old-home")
    earlier = as_an_earlier_release_left_it(taken, folder / "earlier")
    shutil.rmtree(taken.path)
    for command in (
        ("drill", "restore", document, "--endpoint", "new-home"),
        ("backup", "verify", document),
        ("backup", "verify", earlier),
    ):
        refused = ran(*command)
        said = " ".join(refused.err.split())
        assert (Exit.ERROR, True, True) == (refused.status, "by an earlier release" in said, str(earlier) in said)
    (check,) = (one for one in ran("doctor", document, "--json").json["checks"] if one["id"] == "backup.outdated")
    assert (False, True) == (check["ok"], "there is no backup that counts; taken by an earlier" in check["what"])
    observed = ran("observe", document, "--json").json["observation"]["facts"]
    (fact,) = (one for one in observed if one["id"] == "backup")
    assert {"passed_over": [], "outdated": [str(earlier)]} == fact["value"]


def test_what_could_not_be_signed_is_told_and_does_not_count(
    document: Path, ssh_keygen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private half is gone: backup and drill are kept, and neither is taken for done. Who signs drills no backup
    that nobody vouches for; a colleague whom a gate lists may have signed it."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (document.parent / "operator").unlink()
    signing = ("--key", document.parent / "operator.pub")
    taken = ran("backup", document, "--endpoint", "old-home", *signing)
    assert (Exit.ERROR, True) == (taken.status, "it does not count, and the next `apply` takes another" in taken.err)
    refused = ran("drill", "restore", document, "--endpoint", "new-home", *signing, "--json")
    assert (Exit.ERROR, "backup-not-vouched-for") == (refused.status, refused.json["error"]["code"])
    (folder,) = (document.parent / "backups").iterdir()
    colleague = document.parent / "colleague"
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", colleague], check=True)
    sign_manifest(read_backup(folder), colleague)
    refused = ran("drill", "restore", document, "--endpoint", "new-home", *signing)
    assert (Exit.ERROR, True) == (refused.status, "is on no line of allowed_signers" in refused.err)
    with (document.parent / "allowed_signers").open("a") as listed:
        listed.write(f"ann@ops.example {colleague.with_suffix('.pub').read_text()}")
    drilled = ran("drill", "restore", document, "--endpoint", "new-home", *signing)
    assert (Exit.ERROR, True) == (drilled.status, "recorded as unsigned and does not count" in drilled.err)
    fact = recorded(document)
    assert ("unsigned", False, True) == (fact["state"], fact["passed"], fact["report"]["passed"])
    assert fact["signed_by"] is None


def test_a_drill_asks_the_disk_that_the_plan_names(document: Path) -> None:
    """Refused, without evidence, where it tells too little; noted where it tells nothing."""
    assert Exit.DONE == ran("backup", document, "--endpoint", "old-home").status
    drilled = ran("drill", "restore", document, "--endpoint", "new-home")
    assert Exit.DONE == drilled.status
    assert "whether new-home has room for a restore drill is not known" in drilled.err
    assert "database.diskFree" in drilled.err
    text = document.read_text().replace(
        "{file: ./new-home.dsn}", '{file: ./new-home.dsn}\n        diskFree: [echo, "7"]'
    )
    document.write_text(text)
    drilled = ran("drill", "restore", document, "--endpoint", "new-home", "--json")
    assert (Exit.ERROR, "drill-disk-full") == (drilled.status, drilled.json["error"]["code"])
    assert 1 == len(list(document.parent.glob("backups/*/drills/*.json")))


def test_a_drill_that_fails_is_kept_as_such(document: Path) -> None:
    """Exit 1, one JSON document, the failure on record, and evidence that says so whoever checks it."""
    signing = ("--key", document.parent / "operator")
    assert Exit.DONE == ran("backup", document, "--endpoint", "old-home", *signing).status
    (victim,) = document.parent.glob("backups/*/dump/database.*")
    victim.write_bytes(victim.read_bytes()[:-1])
    checked = ran("backup", "verify", document, "--json")
    assert (Exit.ERROR, False) == (checked.status, checked.json["sound"])
    assert "backup-damaged" in checked.err
    drilled = ran("drill", "restore", document, "--endpoint", "new-home", *signing, "--json")
    assert (Exit.ERROR, False) == (drilled.status, drilled.json["passed"])
    assert "drill-failed" in drilled.err
    fact = recorded(document)
    assert (False, drilled.json["evidence"]["signed_by"]) == (fact["passed"], fact["signed_by"])
    verified = ran("drill", "verify", drilled.json["evidence"]["file"])
    assert (Exit.ERROR, True) == (verified.status, "DOES NOT RESTORE" in verified.out)


def test_nothing_begins_without_what_it_will_need(document: Path) -> None:
    """No backup, no key to sign with, no identity, no recipients: told first, recorded nowhere."""
    folder = document.parent
    endpoint = ("--endpoint", "new-home")
    cases = [
        ("backup-missing", ("drill", "restore", document, *endpoint)),
        ("backup-missing", ("backup", "verify", document)),
        ("manifest-key-missing", ("backup", document, *endpoint, "--key", folder / "gone")),
    ]
    for code, arguments in cases:
        assert (Exit.ERROR, code) == ((found := ran(*arguments, "--json")).status, found.json["error"]["code"])
    assert Exit.DONE == ran("backup", document, "--endpoint", "old-home").status
    (folder / "backup.key").rename(folder / "backup.key.away")
    found = ran("drill", "restore", document, *endpoint, "--json")
    assert (Exit.ERROR, "backup-identity-missing") == (found.status, found.json["error"]["code"])
    (folder / "backup.pub").unlink()
    found = ran("backup", document, "--endpoint", "old-home", "--json")
    assert (Exit.ERROR, "backup-recipients") == (found.status, found.json["error"]["code"])
    assert 1 == len(list((folder / "backups").iterdir()))
    with Workspace.load(document) as workspace:
        assert () == workspace.records()


def test_a_drill_that_is_told_to_end_cleans_up(document: Path, source_db: str, target_db: str) -> None:
    """SIGTERM in the middle of the restore: no scratch database, no evidence, nothing on record."""
    run_script(source_db, SLOW)
    assert Exit.DONE == ran("backup", document, "--endpoint", "old-home").status
    command = [sys.executable, "-m", "statehub_plan", "drill", "restore", str(document), "--endpoint", "new-home"]
    building = f"SELECT count(*) FROM pg_stat_activity WHERE {BUILDING}".encode()
    with (
        psycopg.connect(target_db, autocommit=True) as looking,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
    ):
        while looking.execute(building, [SCRATCH_PREFIX]).fetchone() == (0,):
            assert process.poll() is None
        process.terminate()
        assert process.stderr is not None
        assert "interrupted" in process.stderr.read()
        assert Exit.ERROR == process.wait()
        left = looking.execute("SELECT count(*) FROM pg_database WHERE starts_with(datname, %s)", [SCRATCH_PREFIX])
        assert (0,) == left.fetchone()
    assert [] == list(document.parent.glob("backups/*/drills"))
    with Workspace.load(document) as workspace:
        assert () == workspace.records()


def test_doctor_tries_the_keys_out(document: Path) -> None:
    """An identity that opens nothing of what is encrypted from now on is found on a good day."""
    assert "1 recipient, and " in ran("doctor", document).out
    stranger = pyrage.x25519.Identity.generate()
    (document.parent / "backup.key").write_text(f"{stranger}\n")
    assert "no identity in " in ran("doctor", document).out
