"""Whatever a restore lacks, or has in another way, makes the drill fail and is named; a good one passes anywhere."""

from __future__ import annotations

import gzip
import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import psycopg
import pyrage
import pytest

from statehub_plan.demo.cluster import Cluster
from statehub_plan.errors import StatehubError
from statehub_plan.postgres.age import Identities, read_identities
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.drill import DrillReport, restore_drill
from statehub_plan.postgres.inventory import digest_tables, read_all_relations
from statehub_plan.postgres.manifest import MANIFEST, PARTIAL, Backup, BackupFile, hashed, read_backup, verify_backup
from statehub_plan.postgres.seeds import Seeds
from statehub_plan.postgres.snapshot import Snapshot
from tests.integration.corpus_catalog import CHANGES, ONCE, Change
from tests.integration.moving import PASSWORD, database, make_roles, run_script, value

IN_NO_DUMP = {
    *("language", "silenced constraint triggers"),  # pg_dump writes the one without its handler, the other not at all
    *("database owner", "database grant", "database comment", "connection limit"),
}
NOT_COMPARED = re.compile(
    r"(setting |role |tablespace |parameter privileges |built-in |database (access|comment):|relation \S+: its silenced"
    r"|security label \S+ on database|extension \S+: its (comment|version)|(?!changed privileges)[\w ]+ pg_catalog\.)"
)
"""What no dump of one database holds, and so no drill can miss."""

MOOD = """
CREATE TYPE public.mood AS ENUM ('sad', 'ok');
CREATE TABLE public.mood_of (id integer PRIMARY KEY, mood public.mood);
INSERT INTO public.mood_of VALUES (1, 'sad');
"""
REDEFINED = " was truncated, rewritten or redefined"
RENAMED = "ALTER TYPE public.mood RENAME VALUE '{}' TO '{}'; "
ANSWER = "CREATE OR REPLACE FUNCTION public.answer() RETURNS integer LANGUAGE sql AS 'SELECT {}'"
THINGS = """
CREATE TABLE public.note (id serial PRIMARY KEY, text text, n integer GENERATED ALWAYS AS IDENTITY);
INSERT INTO public.note (text) SELECT n::text FROM generate_series(1, 20) n;
CREATE SEQUENCE public.counter INCREMENT -3 MINVALUE -1000 CACHE 5;
CREATE SEQUENCE public.largest;
SELECT setval('public.largest', 9223372036854775806), setval('public.counter', -7, false), lo_create(4711),
       lo_from_bytea(99999, 'abc'), lo_from_bytea(88888, decode(repeat('00ff', 3000), 'hex'));
SELECT lo_put(4711, 1000000, 'behind a hole of many pages');
CREATE VIEW public.between AS SELECT * FROM public.note WHERE id BETWEEN 1 AND 3 AND n > 0 AND (id > 0 OR n > 1);
CREATE TABLE public.made (a integer, b boolean GENERATED ALWAYS AS (a BETWEEN 1 AND 3 AND a > 0) STORED);
CREATE TABLE public.parent (p integer);
CREATE TABLE public.child (c integer, p integer);
ALTER TABLE public.child INHERIT public.parent;
CREATE FUNCTION public.answer() RETURNS integer LANGUAGE sql AS 'SELECT 42';
CREATE INDEX note_text ON public.note (text);
CREATE MATERIALIZED VIEW public.seen AS SELECT count(*) FROM public.note;
"""


def corpus() -> list[Change]:
    """Every single change of a catalog that a dump could have."""
    chance = random.Random(20261126)
    every = [*((one, 1) for one in CHANGES), *((one, 0) for one in ONCE)]
    return [one.replica(number, chance) for one, number in every if one.name not in IN_NO_DUMP]


def run_each(dsn: str, *statements: str) -> None:
    """Each in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def grafted(before: Backup, after: Backup) -> Backup:
    """The dump of `after` under the manifest and with the catalog of `before`, all checksums right: what a restore that
    lost or changed what was done in between would come to."""
    path = before.path.with_name(f"{before.path.name}-grafted")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(after.path, path)
    catalog = before.manifest.catalog_file
    assert catalog is not None
    shutil.copy(before.path / catalog.path, path / catalog.path)
    return sealed(path, before, (*(file for file in after.manifest.files if file.path != catalog.path), catalog))


def sealed(path: Path, backup: Backup, files: tuple[BackupFile, ...]) -> Backup:
    """The backup with other files, under a manifest that fits them."""
    update = {"files": files, "size_bytes": sum(one.size_bytes for one in files)}
    (path / MANIFEST).write_text(backup.manifest.model_copy(update=update).sealed().model_dump_json())
    return read_backup(path)


def rewritten(backup: Backup, name: str, content: bytes) -> Backup:
    """The backup with another content of one file, checksums and all."""
    (backup.path / name).write_bytes(content)
    size, sha256 = hashed(backup.path / name)
    files = tuple(
        one.model_copy(update={"size_bytes": size, "sha256": sha256}) if one.path == name else one
        for one in backup.manifest.files
    )
    return sealed(backup.path, backup, files)


def told(lines: Iterable[str]) -> set[str]:
    """`kind object: aspect` as a drill says it."""
    words = {"missing": "{} is missing", "extra": "{} should not be there"}
    split = (line.rpartition(": ") for line in lines)
    return {
        words.get(aspect, f"{{}}: its {aspect} differs from what was dumped").format(what) for what, _, aspect in split
    }


def excused(report: DrillReport) -> str:
    """All reasons with what they excuse."""
    return "\n".join(f"{one.reason} ({one.count}): {', '.join(one.objects)}" for one in report.excused)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[tuple[str, ...], Identities]:
    """A recipient and its identity."""
    secret = pyrage.x25519.Identity.generate()
    path = tmp_path / "key"
    path.write_text(f"{secret}\n")
    path.chmod(0o600)
    return (str(secret.to_public()),), read_identities(path)


@pytest.mark.parametrize(
    ("majors", "encrypted"),
    [("lowest-lowest", False), ("lowest-highest", True), ("highest-highest", False)],
    ids=["same", "newer-encrypted", "newest"],
)
def test_every_single_change_of_the_catalog_is_named(
    majors: str,
    encrypted: bool,
    source_cluster: Cluster,
    target_cluster: Cluster,
    tmp_path: Path,
    keys: tuple[tuple[str, ...], Identities],
) -> None:
    """Eighty changes of more than twenty kinds of object: a backup from before them and one from after them restore;
    the later dump is not taken for the earlier backup, and each change is named, but for what no dump holds."""
    taken_on, restored_on = ({"lowest": source_cluster, "highest": target_cluster}[one] for one in majors.split("-"))
    recipients, identities = keys if encrypted else ((), None)
    for cluster in (taken_on, restored_on):
        make_roles(cluster)
    changes = corpus()
    with database(taken_on) as source:
        run_script(source, "CREATE SCHEMA s0; CREATE SCHEMA s1;" + ";\n".join(one.made for one in changes))
        before = take_backup(source, tmp_path, endpoint="old", recipients=recipients)
        run_each(source, *(one.done for one in changes))
        after = take_backup(source, tmp_path, endpoint="old", recipients=recipients)
    for backup in (before, after):
        report = restore_drill(backup, restored_on.dsn(), identities=identities)
        assert ((), True, True) == (report.problems, report.passed, report.owners_and_privileges)
        counted = (report.sequences, report.content_digest)
        assert (len(backup.manifest.sequences), backup.manifest.content_digest) == counted
    spoilt = restore_drill(grafted(before, after), restored_on.dsn(), identities=identities)
    expected = {
        one for one in told(line for change in changes for line in change.expected) if not NOT_COMPARED.match(one)
    }
    expected -= {one for one in expected if one.endswith(": its valid differs from what was dumped")}
    missed = {one for one in expected - set(spoilt.problems) if "q_value" not in one}
    assert (set(), False) == (missed, spoilt.passed)
    more = sorted(one for one in set(spoilt.problems) - expected if ": its not null constraint differs" not in one)
    assert ["index", "sequence", "table", "table"] == [one.partition(" ")[0] for one in more], more
    assert before.manifest.content_digest != after.manifest.content_digest


ROWS = "table public.note: its rows differ from those that were dumped"


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_what_is_no_table_is_proved_too(
    encrypted: bool, source_db: str, target_db: str, tmp_path: Path, keys: tuple[tuple[str, ...], Identities]
) -> None:
    """Rows, large objects, values of sequences, functions, indexes: each changes the content digest, and a restore that
    has the other one fails for it."""
    recipients, identities = keys if encrypted else ((), None)
    run_script(source_db, THINGS)
    before = take_backup(source_db, tmp_path, endpoint="old", recipients=recipients)
    report = restore_drill(before, target_db, identities=identities)
    assert ((), True) == (report.problems, report.passed)
    assert ("pg_catalog.pg_largeobject", 3) in [(one.table, one.rows) for one in report.contents]
    assert "made anew (1): relation public.seen" in excused(report)
    seen = {before.manifest.content_digest}
    steps = (
        ("SELECT lo_put(99999, 0, 'zzz')", {"the table of large objects: its rows differ from those that were dumped"}),
        ("SELECT lo_put(99999, 0, 'abc'), lo_unlink(88888)", {
            "the table of large objects: 2 rows instead of 3",
            "large object 88888 is missing",
        }),
        ("SELECT lo_from_bytea(88888, decode(repeat('00ff', 3000), 'hex')), setval('public.note_id_seq', 1000)", {
            "sequence public.note_id_seq: its value is 1000 instead of 20",
        }),
        ("SELECT setval('public.note_id_seq', 20), setval('public.counter', -7)", {
            "sequence public.counter: its value is -7 instead of -7 (not called)",
        }),
        ("SELECT setval('public.counter', -7, false); DROP FUNCTION public.answer()", {
            "routine public.answer() is missing",
        }),
        ("CREATE FUNCTION public.answer() RETURNS integer LANGUAGE sql AS 'SELECT 43'", {
            "routine public.answer(): its definition differs from what was dumped",
        }),
        ("CREATE OR REPLACE FUNCTION public.answer() RETURNS integer LANGUAGE sql AS 'SELECT 42'; "
         "DROP INDEX public.note_text; UPDATE public.note SET text = 'x' WHERE id = 7", {
            "index public.note_text is missing", ROWS,
        }),
    )  # fmt: skip
    for done, expected in steps:
        run_each(source_db, *done.split("; "))
        after = take_backup(source_db, tmp_path, endpoint="old", recipients=recipients)
        spoilt = restore_drill(grafted(before, after), target_db, identities=identities)
        assert (expected, False) == (set(spoilt.problems), spoilt.passed)
        assert spoilt.content_digest != before.manifest.content_digest
        seen.add(after.manifest.content_digest)
    assert len(steps) + 1 == len(seen)


def test_what_the_list_leaves_out_is_missed(source_db: str, target_db: str, tmp_path: Path) -> None:
    """A restore without large objects, indexes, functions and values of sequences is none, whatever its rows say."""
    run_script(source_db, THINGS)
    backup = take_backup(source_db, tmp_path, endpoint="old")
    listed = (backup.path / "dump" / "restore.list").read_text()
    left_out = re.compile(
        r"^\d+; .* (BLOB.*|SEQUENCE SET .*|INDEX .*|FUNCTION .*|DEFAULT .*|CONSTRAINT .*) ", re.MULTILINE
    )
    kept = "".join(line for line in listed.splitlines(keepends=True) if not left_out.match(line))
    report = restore_drill(rewritten(backup, "dump/restore.list", kept.encode()), target_db)
    expected = {
        "the table of large objects is missing",
        *(f"large object {oid} is missing" for oid in (4711, 88888, 99999)),
        "sequence public.note_id_seq: its value is 1 (not called) instead of 20",
        "sequence public.note_n_seq: its value is 1 (not called) instead of 20",
        "sequence public.largest: its value is 1 (not called) instead of 9223372036854775806",
        "sequence public.counter: its value is -1 (not called) instead of -7 (not called)",
        "routine public.answer() is missing",
        "column public.note.id: its default differs from what was dumped",
        *(f"index public.{name} is missing" for name in ("note_text", "note_pkey")),
        "constraint public.note.note_pkey is missing",
    }
    assert (expected, False) == (set(report.problems), report.passed)


NOT_OF_THE_SERVERS = """
CREATE TYPE public.c AS (a integer); CREATE FUNCTION public.cf(public.c) RETURNS text LANGUAGE sql AS 'SELECT 1::text';
CREATE CAST (public.c AS text) WITH FUNCTION public.cf(public.c) AS ASSIGNMENT;
COMMENT ON CAST (public.c AS text) IS 'told';
CREATE FUNCTION public."a pg_catalog.f"() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE VIEW public."my pg_catalog.view" AS SELECT 1 AS a;
CREATE FUNCTION public.named("a pg_catalog.b" integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.input(internal) RETURNS integer LANGUAGE internal IMMUTABLE AS 'int4recv';
CREATE FUNCTION pg_catalog.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1';
COMMENT ON FUNCTION pg_catalog.mine() IS 'ours';
CREATE OPERATOR pg_catalog.=== (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = pg_catalog.xid8eq);
CREATE TABLE public.t (id integer); COMMENT ON TYPE public.t IS 'a row'; COMMENT ON TYPE public.t[] IS 'rows';
COMMENT ON TYPE public.c IS 'dumped';
"""


def test_only_what_is_in_the_servers_schema_is_in_no_dump(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Casts to types of the server's, and names that only hold its schema's, are the user's."""
    run_script(source_db, NOT_OF_THE_SERVERS)
    backup = take_backup(source_db, tmp_path, endpoint="old")
    report = restore_drill(backup, target_db)
    assert ((), True) == (report.problems, report.passed)
    told = excused(report)
    assert "no dump has comments of row types, arrays and multiranges (2): comment type public.t, missing" in told
    assert "no dump has what a user has put into pg_catalog (3): comment function pg_catalog.mine(), missing" in told
    listed = (backup.path / "dump" / "restore.list").read_text()
    left_out = re.compile(r"^\d+; .* (CAST|COMMENT|VIEW|FUNCTION) (?!public cf)")
    kept = "".join(line for line in listed.splitlines(keepends=True) if not left_out.match(line))
    spoilt = restore_drill(rewritten(backup, "dump/restore.list", kept.encode()), target_db)
    expected = {
        "object cast (public.c AS pg_catalog.text) is missing",
        "comment cast (public.c AS pg_catalog.text) is missing",
        "comment type public.c is missing",
        'routine public."a pg_catalog.f"() is missing',
        'relation public."my pg_catalog.view" is missing',
        'routine public.named("a pg_catalog.b" integer) is missing',
        "routine public.input(internal) is missing",
    }
    assert (expected, False) == (set(spoilt.problems), spoilt.passed)


def test_a_sequence_that_moves_meanwhile_is_held_to_its_two_looks(
    source_db: str, target_db: str, tmp_path: Path
) -> None:
    """Sequences have no snapshots: the dump's value lies between what was read before and after it, and the drill asks
    for no more and for no less."""
    run_script(source_db, THINGS)
    handing_out = "SELECT nextval('public.counter'), nextval('public.note_id_seq') FROM generate_series(1, 7)"
    backup = take_backup(source_db, Meddled.made(tmp_path, source_db, handing_out), endpoint="old")
    spans = {one.sequence: one for one in backup.manifest.sequences}
    moved = spans["public.note_id_seq"]
    assert moved.until is not None
    assert (20, 27) == (moved.last_value, moved.until.last_value)
    assert spans["public.largest"].until is None
    assert () == restore_drill(backup, target_db).problems
    early = moved.model_copy(update={"last_value": moved.until.last_value + 1, "until": None})
    others = tuple(one for one in backup.manifest.sequences if one != moved)
    manifest = backup.manifest.model_copy(update={"sequences": (*others, early)}).sealed()
    (problem,) = restore_drill(backup.model_copy(update={"manifest": manifest}), target_db).problems
    assert "sequence public.note_id_seq: its value is " in problem


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("TRUNCATE public.note", "table public.note" + REDEFINED),
        (
            RENAMED.format("sad", "so") + RENAMED.format("so", "sad"),
            "table public.mood_of" + REDEFINED,
        ),
        (ANSWER.format(43), "routine public.answer() was altered"),
        ("DROP INDEX public.note_text", "index public.note_text was dropped"),
    ],
    ids=["truncated", "swapped and back", "altered", "dropped"],
)
def test_a_backup_of_two_moments_is_none(statement: str, expected: str, source_db: str, tmp_path: Path) -> None:
    """A table that is truncated before it could be locked looks empty to dump and digest alike, and a function that is
    replaced meanwhile is dumped as it is and not as it was: nothing is left that could pass for a backup."""
    run_script(source_db, THINGS + MOOD)
    with pytest.raises(StatehubError) as caught:
        take_backup(source_db, Meddled.made(tmp_path, source_db, statement), endpoint="old")
    assert ("backup-disturbed", True) == (caught.value.code, expected in caught.value.details), caught.value.details
    assert [] == list(tmp_path.iterdir())


class Meddled(type(Path())):  # type: ignore[misc]
    """A directory of backups: as soon as one is begun in it, and before anything is dumped, somebody does something."""

    meddle: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def made(cls, path: Path, dsn: str, *statements: str) -> Meddled:
        """For one backup."""
        cls.meddle[:] = [(dsn, one) for one in statements]
        return cls(path)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes it, and lets that somebody in."""
        super().mkdir(mode, parents, exist_ok)
        while self.name.startswith(PARTIAL) and self.meddle:
            run_each(*self.meddle.pop(0))


def test_what_is_new_or_temporary_disturbs_no_backup(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Neither was there when the snapshot was taken."""
    run_script(source_db, THINGS)
    statements = "CREATE TABLE public.later (a integer)", "CREATE TEMPORARY TABLE a (b integer)"
    backup = take_backup(source_db, Meddled.made(tmp_path, source_db, *statements), endpoint="old")
    assert 1 == value(source_db, "SELECT count(*) FROM pg_class WHERE relname = 'later'")
    assert () == restore_drill(read_backup(tmp_path / backup.path.name), target_db).problems


def test_without_the_roles_owners_and_privileges_are_told_to_be_unproved(
    source_db: str, source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path
) -> None:
    """A server that lacks a role, or a drill that is no superuser, proves all but those, and says why."""
    make_roles(target_cluster)
    run_each(
        source_db,
        "CREATE ROLE only_here",
        "CREATE TABLE public.note (a integer)",
        "GRANT SELECT ON public.note TO only_here",
    )
    try:
        backup = take_backup(source_db, tmp_path, endpoint="old")
    finally:
        run_each(source_db, "DROP OWNED BY only_here", "DROP ROLE only_here")
    report = restore_drill(backup, target_cluster.dsn())
    assert (True, False) == (report.passed, report.owners_and_privileges)
    assert "owners and privileges were not compared: roles that they name are missing there: only_here" in excused(
        report
    )
    assert "owners and privileges were not restored (1): relation public.note, privileges" in excused(report)
    run_each(
        target_cluster.dsn(),
        "ALTER ROLE mover_tool CREATEDB",
        "GRANT EXECUTE ON FUNCTION pg_control_system() TO mover_tool",
    )
    try:
        report = restore_drill(backup, target_cluster.dsn("postgres", "mover_tool", PASSWORD))
    finally:
        run_each(
            target_cluster.dsn(),
            "ALTER ROLE mover_tool NOCREATEDB",
            "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM mover_tool",
        )
    assert "the role mover_tool is no superuser there" in excused(report)
    assert "relation public.note, owner" in excused(report)


def test_values_of_settings_and_bodies_of_functions_stay_inside(
    source_db: str, tmp_path: Path, keys: tuple[tuple[str, ...], Identities]
) -> None:
    """Nothing of an encrypted backup's schema can be read from its directory but the names of tables and sequences; a
    setting's value, which no dump holds, is in none at all."""
    name = str(value(source_db, "SELECT current_database()"))
    run_each(
        source_db,
        f"ALTER DATABASE {name} SET app.secret = 'canary-77e0'",
        "CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $$SELECT 'canary-5a5a'$$",
    )
    encrypted = take_backup(source_db, tmp_path / "encrypted", endpoint="old", recipients=keys[0])
    assert b"canary" not in b"".join(path.read_bytes() for path in encrypted.path.rglob("*") if path.is_file())
    plain = take_backup(source_db, tmp_path / "plain", endpoint="old")
    catalog = gzip.decompress((plain.path / "dump" / "catalog.json.gz").read_bytes())
    assert (True, False) == (b"canary-5a5a" in catalog, b"canary-77e0" in catalog)


def test_another_catalog_under_the_right_checksum_is_seen(source_db: str, target_db: str, tmp_path: Path) -> None:
    """The manifest's own digest covers what the catalog's file holds; one that can't be read is no catalog."""
    run_script(source_db, THINGS)
    backup = take_backup(source_db, tmp_path, endpoint="old")
    name = "dump/catalog.json.gz"
    text = gzip.decompress((backup.path / name).read_bytes())
    for content, expected in (
        (gzip.compress(text.replace(b"note_text", b"note_texx")), "it is not the one that the manifest speaks of"),
        (b"nothing", "it can't be read"),
        (gzip.compress(b"{}"), "it can't be read"),
    ):
        (problem,) = restore_drill(rewritten(backup, name, content), target_db).problems
        assert expected in problem
    without = sealed(backup.path, backup, tuple(one for one in backup.manifest.files if one.path != name))
    assert "manifest.json: it lists no dump/catalog.json.gz" in verify_backup(without)
    assert not restore_drill(without, target_db).passed


def test_rows_are_hashed_with_the_manifests_seeds(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Whatever release has taken a backup: its digests are made again with what it says that they were made with."""
    run_each(source_db, "CREATE TABLE public.t AS SELECT 1 AS id")
    backup = take_backup(source_db, tmp_path, endpoint="old")
    with Snapshot(source_db, purpose="test") as snapshot:
        tables = digest_tables(read_all_relations(snapshot.leader, Seeds(1, 2)), snapshot.join, 1)
    assert tables != backup.manifest.tables
    for seeds, passed in ((Seeds(1, 2), True), (Seeds(1, 3), False)):
        manifest = backup.manifest.model_copy(update={"seeds": seeds, "tables": tables}).sealed()
        assert restore_drill(backup.model_copy(update={"manifest": manifest}), target_db).passed is passed


def test_what_was_hidden_from_the_backup_is_unknown(
    source_cluster: Cluster, target_cluster: Cluster, tmp_path: Path
) -> None:
    """A role that is no superuser dumps a user mapping without its password: the restore is no proof of it. Nor are
    subscriptions, which no backup holds, and which are told."""
    for cluster in (source_cluster, target_cluster):
        make_roles(cluster)
    with database(source_cluster) as source:
        run_each(
            source,
            "CREATE FOREIGN DATA WRAPPER nowhere",
            "CREATE SERVER there FOREIGN DATA WRAPPER nowhere",
            "CREATE USER MAPPING FOR mover_app SERVER there OPTIONS (password 'canary-1d1d')",
            "CREATE SUBSCRIPTION theirs CONNECTION 'host=127.0.0.1' PUBLICATION p "
            "WITH (connect = false, slot_name = NONE)",
            "GRANT pg_read_all_data TO mover_tool",
            "GRANT EXECUTE ON FUNCTION pg_control_system() TO mover_tool",
        )
        with_password = take_backup(source, tmp_path, endpoint="old")
        name = str(value(source, "SELECT current_database()"))
        try:
            backup = take_backup(source_cluster.dsn(name, "mover_tool", PASSWORD), tmp_path, endpoint="old")
        finally:
            run_each(source, "REVOKE pg_read_all_data FROM mover_tool", "DROP SUBSCRIPTION theirs")
    report = restore_drill(with_password, target_cluster.dsn())
    assert () == report.problems
    assert "subscriptions are not backed up: a dump of them would hold passwords (1): subscription theirs" in excused(
        report
    )
    report = restore_drill(backup, target_cluster.dsn())
    expected = "user mapping mover_app on there: its options were hidden from the role that took the backup: unknown"
    assert ((expected,), False) == (report.problems, report.passed)
    assert "canary" not in report.model_dump_json()


def test_rows_and_sequences_of_extensions_are_proved(target_cluster: Cluster, scratch: Path, tmp_path: Path) -> None:
    """What an extension has dumped for its user: a changed row or value of it is missed by name."""
    if target_cluster.installation.major < 18:
        pytest.skip("before 18 the files of an extension can only be put where the server was installed")
    folder = scratch / "extensions" / "extension"
    folder.mkdir(parents=True)
    (folder / "places.control").write_text("default_version = '1'\nrelocatable = true\n")
    (folder / "places--1.sql").write_text(
        "CREATE TABLE place (id integer); INSERT INTO place VALUES (1); CREATE SEQUENCE ticket;"
        "SELECT pg_extension_config_dump('place', 'WHERE id > 1'); SELECT pg_extension_config_dump('ticket', '');"
    )
    for path in (folder.parent, folder, *folder.iterdir()):
        path.chmod(0o755)
    run_each(
        target_cluster.dsn(), f"ALTER SYSTEM SET extension_control_path = '{folder.parent}'", "SELECT pg_reload_conf()"
    )
    try:
        with database(target_cluster) as source:
            run_each(
                source, "CREATE EXTENSION places", "INSERT INTO place VALUES (2), (3)", "SELECT setval('ticket', 9)"
            )
            before = take_backup(source, tmp_path, endpoint="old")
            run_each(source, "UPDATE place SET id = 4 WHERE id = 3", "SELECT setval('ticket', 10)")
            after = take_backup(source, tmp_path, endpoint="old")
        report = restore_drill(before, target_cluster.dsn())
        assert ((), [("public.place", 2)]) == (report.problems, [(one.table, one.rows) for one in report.contents])
        assert (
            "table public.place: its rows differ from those that were dumped",
            "sequence public.ticket: its value is 10 instead of 9",
        ) == restore_drill(grafted(before, after), target_cluster.dsn()).problems
    finally:
        run_each(target_cluster.dsn(), "ALTER SYSTEM RESET extension_control_path", "SELECT pg_reload_conf()")
