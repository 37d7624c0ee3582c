"""Backups that only the holder of a key can read, and every way in which such a one can be spoilt or left unopened."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import psycopg
import pyrage
import pytest

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.spec import Encryption
from statehub_plan.postgres import age
from statehub_plan.postgres.age import Identities, load_identities, load_recipients, read_identities
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.backup_check import check_backup
from statehub_plan.postgres.drill import restore_drill
from statehub_plan.postgres.manifest import Backup, newest_backup, verify_backup
from statehub_plan.postgres.scratch import SCRATCH_PREFIX
from tests.integration.moving import run_script, value

CANARY = "canary-5f1d0c2e"
TABLES = f"""
CREATE TABLE public.note (id integer PRIMARY KEY, text text);
INSERT INTO public.note SELECT n, '{CANARY} ' || md5(n::text) FROM generate_series(1, 3000) n;
CREATE TABLE public.other AS SELECT n, repeat('x', 50) AS padding FROM generate_series(1, 500) n;
CREATE INDEX ON public.note (text);
"""


def key_file(path: Path) -> str:
    """Writes a new identity as age-keygen does; its public key."""
    identity = pyrage.x25519.Identity.generate()
    path.write_text(f"# created: today\n# public key: {identity.to_public()}\n{identity}\n")
    path.chmod(0o600)
    return str(identity.to_public())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The identity file whose key the backup is encrypted for."""
    path = tmp_path / "key.txt"
    (tmp_path / "key.pub").write_text("# ours\n\n" + key_file(path) + "\n")
    return path


@pytest.fixture
def backup(source_db: str, tmp_path: Path, key: Path) -> Backup:
    """An encrypted backup of a small database."""
    run_script(source_db, TABLES)
    recipients = load_recipients(Encryption(recipientsFile="key.pub"), tmp_path)
    return take_backup(source_db, tmp_path / "backups", endpoint="old", recipients=recipients)


def spoil(backup: Backup, change: str) -> None:
    """Damages the encrypted file and then makes the checksums right again, as somebody with write access would."""
    (file,) = backup.manifest.archives
    path = backup.path / file.path
    content = bytearray(path.read_bytes())
    if change == "cut":
        del content[-1000:]
    elif change == "cut between chunks":
        del content[len(content) - len(content) % 65552 :]
    elif change == "byte":
        content[len(content) // 2] ^= 1
    elif change == "head":
        content[10] ^= 1
    elif change == "exchanged":
        recipient = pyrage.x25519.Recipient.from_str(backup.manifest.encryption.recipients[0])  # type: ignore[union-attr]
        content = bytearray(pyrage.encrypt(b"something else", [recipient]))
    path.write_bytes(content)


def forged(backup: Backup) -> Backup:
    """The backup with a manifest whose checksums fit what the files hold now."""
    from statehub_plan.postgres.manifest import hashed

    (file,) = backup.manifest.archives
    size, sha256 = hashed(backup.path / file.path)
    (_, *others) = backup.manifest.files
    files = (file.model_copy(update={"size_bytes": size, "sha256": sha256}), *others)
    size_bytes = sum(one.size_bytes for one in files)
    manifest = backup.manifest.model_copy(update={"files": files, "size_bytes": size_bytes}).sealed()
    return backup.model_copy(update={"manifest": manifest})


def test_only_the_holder_of_the_key_reads_it(backup: Backup, target_db: str, key: Path, tmp_path: Path) -> None:
    """Nothing of the rows is in the directory; the drill restores, compares and leaves no plain text anywhere."""
    assert backup == newest_backup(tmp_path / "backups")
    assert () == verify_backup(backup)
    (file,) = backup.manifest.archives
    assert file.plain is not None
    assert backup.manifest.encryption is not None
    assert (backup.path / file.path).read_bytes().startswith(b"age-encryption.org/v1\n")
    for path in backup.path.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()
        assert (0o700 if path.is_dir() else 0o600) == path.stat().st_mode & 0o777
    report = restore_drill(backup, target_db, identities=read_identities(key))
    assert ((), True, 2, 3500) == (report.problems, report.encrypted, report.tables, report.rows)
    assert report.content_digest == backup.manifest.content_digest
    assert 0 == value(target_db, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{SCRATCH_PREFIX}%'")


def test_plain_text_never_has_a_name(
    backup: Backup, target_db: str, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is restored the decrypted dump is an open file without a name: whatever kills the drill, it is gone."""
    with tempfile.TemporaryDirectory() as private:
        monkeypatch.setattr(tempfile, "tempdir", private)
        seen: set[str] = set()

        def look() -> None:
            for folder, _, names in os.walk(private):
                seen.update(os.path.join(folder, name) for name in names)
            seen.update(path for path in descriptors() if path.startswith(private))

        assert restore_drill(backup, target_db, identities=read_identities(key), check=look).passed
    assert seen
    assert {True} == {path.endswith("(deleted)") for path in seen}


def descriptors() -> list[str]:
    """What this process's open files are called."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(path))
        except OSError:
            continue
    return found


def test_nothing_unencrypted_touches_the_directory_while_it_is_taken(source_db: str, tmp_path: Path, key: Path) -> None:
    """Looked at again and again while the dump is written: three files, of age's, and the dump is only half there."""
    run_script(source_db, TABLES)
    run_script(source_db, f"INSERT INTO public.note SELECT n, '{CANARY}' FROM generate_series(3001, 60000) n")
    recipients = load_recipients(Encryption(recipientsFile="key.pub"), tmp_path)
    seen: dict[str, bytes] = {}

    def look() -> None:
        for path in (tmp_path / "backups").rglob("*"):
            if path.is_file():
                seen[path.name] = path.read_bytes()
                assert CANARY.encode() not in seen[path.name]

    take_backup(source_db, tmp_path / "backups", endpoint="old", recipients=recipients, check=look)
    assert ["catalog.json.gz.age", "database.dump.age", "restore.list.age"] == sorted(seen)
    assert all(content.startswith(b"age-encryption.org/v1\n") for content in seen.values())


def test_without_the_right_identity_nothing_is_restored(backup: Backup, target_db: str, tmp_path: Path) -> None:
    """No identity and another's identity are refusals that say so; neither says anything about the backup."""
    with pytest.raises(Refusal) as none:
        restore_drill(backup, target_db)
    assert ("backup-identity-missing", backup.manifest.encryption.recipients) == (  # type: ignore[union-attr]
        none.value.code,
        none.value.details,
    )
    key_file(tmp_path / "foreign.txt")
    with pytest.raises(StatehubError) as wrong:
        restore_drill(backup, target_db, identities=read_identities(tmp_path / "foreign.txt"))
    assert "backup-identity-wrong" == wrong.value.code
    assert str(tmp_path / "foreign.txt") in wrong.value.what
    assert 0 == value(target_db, f"SELECT count(*) FROM pg_database WHERE datname LIKE '{SCRATCH_PREFIX}%'")


def test_damage_is_found_by_the_checksum(backup: Backup, target_db: str, key: Path) -> None:
    """Without any key, and the drill does not decrypt it first."""
    spoil(backup, "byte")
    (problem,) = verify_backup(backup)
    assert "its content has changed" in problem
    report = restore_drill(backup, target_db, identities=read_identities(key))
    assert ((f"damaged file: {problem}",), 0) == (report.problems, report.decrypt_ms)
    spoil(backup, "cut")
    (problem,) = verify_backup(backup)
    assert "bytes instead of" in problem


def test_damage_is_found_also_under_a_forged_manifest(backup: Backup, target_db: str, key: Path) -> None:
    """Whoever rewrites the checksums cannot rewrite what age authenticates, nor what the plain text must be."""
    path = backup.path / backup.manifest.files[0].path
    sound = path.read_bytes()
    for change, expected in (
        ("cut", "cut off, or was changed"),
        ("cut between chunks", "cut off, or was changed"),
        ("byte", "cut off, or was changed"),
        ("head", "head is cut off or changed"),
        ("exchanged", "not what was dumped"),
    ):
        path.write_bytes(sound)
        spoil(backup, change)
        spoilt = forged(backup)
        assert () == verify_backup(spoilt)
        (problem,) = restore_drill(spoilt, target_db, identities=read_identities(key)).problems
        assert expected in problem
        checked = check_backup(spoilt, identities=read_identities(key))
        assert (False, True) == (checked.sound, checked.decrypted)
        assert expected in checked.problems[0]


def test_verifying_needs_no_server(backup: Backup, key: Path, source_db: str) -> None:
    """With the key the plain content is compared too, and it says which of both it was."""
    assert (True, False) == ((found := check_backup(backup)).sound, found.decrypted)
    assert (True, True) == ((found := check_backup(backup, identities=read_identities(key))).sound, found.decrypted)


def test_an_ssh_key_will_do(source_db: str, target_db: str, tmp_path: Path, ssh_keygen: Path) -> None:
    """Backups for somebody's ed25519 key, restored with its private part."""
    run_script(source_db, TABLES)
    private = tmp_path / "id_ed25519"
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", private], check=True)
    public = private.with_suffix(".pub").read_text().strip()
    settings = Encryption(recipients=(public,), identityFile="id_ed25519")
    taken = take_backup(source_db, tmp_path, endpoint="old", recipients=load_recipients(settings, tmp_path))
    assert restore_drill(taken, target_db, identities=load_identities(settings, tmp_path)).passed


def test_a_key_file_that_cannot_be_used_says_why(tmp_path: Path, ssh_keygen: Path) -> None:
    """Missing, open to everybody, empty, garbled, protected by a passphrase: each by name, and no secret is told."""
    secret = str(pyrage.x25519.Identity.generate())
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "typed", "-f", tmp_path / "locked"], check=True)
    for name, text, mode, expected in (
        ("gone", None, 0, "No such file"),
        ("open", secret, 0o644, "everybody on this machine may read it"),
        ("empty", "# nothing\n", 0o600, "there is no identity in it"),
        ("garbled", secret[:-1] + "\n", 0o600, "is no identity"),
        ("armored", "age-encryption.org/v1\n-> scrypt", 0o600, "encrypted with a passphrase itself"),
        ("locked", None, 0, "is no identity"),
    ):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
            path.chmod(mode)
        with pytest.raises(StatehubError) as caught:
            read_identities(path)
        assert expected in str(caught.value)
        assert secret[:30] not in str(caught.value)


def test_recipients_that_nobody_could_be_are_refused(tmp_path: Path) -> None:
    """All lines at once, before anything is dumped; a secret key that went astray is not repeated."""
    secret = str(pyrage.x25519.Identity.generate())
    good = str(pyrage.x25519.Identity.generate().to_public())
    damaged = good[:-1] + ("q" if good[-1] != "q" else "p")
    (tmp_path / "keys").write_text(f"# x\n{good}\n{damaged}\nssh-rsa AAAA\n{secret}\nssh-ed25519 AAAA\n")
    with pytest.raises(StatehubError) as caught:
        load_recipients(Encryption(recipientsFile="keys"), tmp_path)
    assert "backup-recipients" == caught.value.code
    assert ["2:", "3:", "4:", "5:"] == [line.split(" ")[0] for line in caught.value.details]
    assert secret[:30] not in str(caught.value)
    (tmp_path / "none").write_text("# nobody\n")
    for name in ("none", "gone"):
        with pytest.raises(StatehubError, match="recipients"):
            load_recipients(Encryption(recipientsFile=name), tmp_path)


def test_a_dump_that_breaks_off_is_no_backup(source_db: str, tmp_path: Path, key: Path) -> None:
    """pg_dump's session is ended in the middle: its end of output is not taken for the end of the dump."""
    run_script(
        source_db,
        TABLES + "CREATE TABLE public.big AS SELECT repeat(md5(n::text), 90) FROM generate_series(1, 20000) n",
    )
    recipients = load_recipients(Encryption(recipientsFile="key.pub"), tmp_path)

    def end_it() -> None:
        with psycopg.connect(source_db, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'statehub-plan pg_dump' AND query LIKE 'COPY%'"
            )

    with pytest.raises(StatehubError) as caught:
        take_backup(source_db, tmp_path / "backups", endpoint="old", recipients=recipients, check=end_it)
    assert "client-tool-failed" == caught.value.code
    assert [] == list((tmp_path / "backups").iterdir())


def test_a_full_disk_ends_it(key: Path) -> None:
    """What the sink raises comes out as it was raised, not as a word of the library's."""
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        age.encrypt(io.BytesIO(b"x" * 1_000_000), full, (str(pyrage.x25519.Identity.generate().to_public()),))
    identity = pyrage.x25519.Identity.generate()
    sealed = pyrage.encrypt(b"x" * 1_000_000, [identity.to_public()])
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        age.decrypt(io.BytesIO(sealed), full, Identities(key, [identity]))


def test_a_stream_needs_little_memory(key: Path) -> None:
    """A hundred megabytes pass through a few pieces at a time: what is read is written before more is read."""
    ahead, most, lock = 0, 0, threading.Lock()

    class Source:
        left = 100 << 20

        def read(self, size: int = -1, /) -> bytes:
            nonlocal ahead, most
            piece = bytes(min(self.left, size if size >= 0 else 1 << 16))
            self.left -= len(piece)
            with lock:
                ahead += len(piece)
                most = max(most, ahead)
            return piece

    class Sink:
        def write(self, piece: bytes, /) -> None:
            nonlocal ahead
            with lock:
                ahead -= len(piece)

        def flush(self) -> None:
            pass

    plain, _ = age.encrypt(Source(), Sink(), (str(pyrage.x25519.Identity.generate().to_public()),))
    assert plain.size_bytes == 100 << 20
    assert most < 1 << 20
