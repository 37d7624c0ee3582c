"""Commands that only look, as processes: what is told and how they end, also when nothing answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from statehub_plan.cli.checkup import _journal
from statehub_plan.cli.workspace import Workspace, save_plan
from statehub_plan.errors import Exit
from statehub_plan.journal.sqlite import SqliteJournal
from statehub_plan.model.output import DoctorCheck
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import connect
from statehub_plan.schemas import problems
from statehub_plan.spec import starter
from tests.golden import examples
from tests.integration.forking import forked
from tests.integration.served_database import serve

ROOT = Path(__file__).parents[2]
SECRET = "correct-horse-battery"
NOWHERE = f"postgresql://hub:{SECRET}@127.0.0.1:1/statehub"
DSNS = ("STATEHUB_WSL2_DSN", "STATEHUB_RAILIANCE01_DSN", "STATEHUB_WSL2_APP_DSN", "STATEHUB_RAILIANCE01_APP_DSN")


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """One invocation as a process, with a home of its own and nothing else that points anywhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STATEHUB_") or key.endswith("_BIN")}
    environment = kept | {"HOME": str(cwd), "STATEHUB_PLAN_AUTHOR": "alice@ops.example", **variables}
    return subprocess.run(
        [sys.executable, "-m", "statehub_plan", *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path, opa_path: Path) -> Path:
    """The shipped policies and the example document, whose databases and access paths lead nowhere."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    (tmp_path / "plans").mkdir()
    text = (examples.HERE / "render" / "cust-wp-0011.yaml").read_text(encoding="utf-8")
    for url, nobody in (
        ("http://127.0.0.1:8000", "http://127.0.0.1:1"),
        ("http://10.20.0.11:8000", "http://127.0.0.1:2"),
    ):
        text = text.replace(url, nobody)
    (tmp_path / "plans" / "cust-wp-0011.yaml").write_text(text)
    return tmp_path


def nowhere() -> dict[str, str]:
    """Connection strings with a password, to a port where nothing listens."""
    return dict.fromkeys(DSNS, NOWHERE)


def test_observe_when_nothing_answers(folder: Path) -> None:
    """Looking never fails: every fact is there, unknown with its reason; the password is nowhere."""
    seen = run("observe", "plans/cust-wp-0011.yaml", cwd=folder, **nowhere())
    assert Exit.DONE == seen.returncode, seen.stderr
    assert "UNKNOWN" in seen.stdout
    assert "writes" in seen.stdout
    assert SECRET not in seen.stdout + seen.stderr


def test_observe_as_json(folder: Path) -> None:
    """The published schema, with and without `--unknown`."""
    everything = json.loads(run("observe", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere()).stdout)
    unknown = json.loads(
        run("observe", "plans/cust-wp-0011.yaml", "--json", "--unknown", cwd=folder, **nowhere()).stdout
    )
    assert () == problems("output-observe", everything)
    assert () == problems("output-observe", unknown)
    assert {"unknown"} == {fact["status"] for fact in unknown["observation"]["facts"]}
    assert len(unknown["observation"]["facts"]) < len(everything["observation"]["facts"])


@pytest.mark.parametrize("password", ["hun/ter2-canary", "hun@ter2-canary", "7/canary@ter2"])
def test_a_password_that_is_not_percent_encoded_is_told_nowhere(folder: Path, password: str) -> None:
    """Every command says what is wrong with the connection string, and none which part of the password libpq takes for
    a host or a database; nor does what it writes."""
    dsns = dict.fromkeys(DSNS, f"postgresql://shop_owner:{password}@127.0.0.1:1/shop")
    for command in (
        ("doctor", "plans/cust-wp-0011.yaml"),
        ("observe", "plans/cust-wp-0011.yaml", "--json"),
        ("plan", "plans/cust-wp-0011.yaml", "--json", "-out", "saved.plan"),
        ("status", "plans", "-out", "status.md"),
    ):
        told = run(*command, cwd=folder, **dsns)
        written = "".join(path.read_text() for path in (folder / "saved.plan", folder / "status.md") if path.exists())
        assert [] == [piece for piece in ("canary", "ter2") if piece in told.stdout + told.stderr + written], command
        assert "percent-encoded" in told.stdout + told.stderr + written, command


def test_doctor_names_every_problem(folder: Path) -> None:
    """One check each, a remedy with every problem, exit 1; nothing hides anything else."""
    sick = run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere())
    assert Exit.ERROR == sick.returncode
    told = json.loads(sick.stdout)
    assert () == problems("output-doctor", told)
    wrong = {check["id"]: check for check in told["checks"] if not check["ok"]}
    assert {"wsl2.connection", "railiance01.connection", "access.bridge", "access.mcp"} <= wrong.keys()
    assert "gate.CUST-WP-0011-T07" in wrong
    assert all(check["remedy"] for check in wrong.values())
    assert SECRET not in sick.stdout + sick.stderr


def test_doctor_tries_whether_clients_could_be_redirected(folder: Path) -> None:
    """A file that can't be replaced, a program that is missing: found long before a move; and nothing is changed."""
    bridge, mcp = folder / "bridge" / "tunnels.yaml", folder / "mcp" / "config.json"
    programs = folder / "bin" / "ops-bridge"
    for file in (bridge, mcp, programs):
        file.parent.mkdir()
    bridge.write_text("tunnels: {state-hub: {target: '127.0.0.1:8001'}}\n")
    mcp.write_text(json.dumps({"mcpServers": {"state-hub": {"env": {"API_BASE": "http://127.0.0.1:1"}}}}))
    before = bridge.read_bytes(), mcp.read_bytes()
    os.link(mcp, folder / "mcp" / "other.json")

    def access(**variables: str) -> dict[str, dict[str, object]]:
        sick = run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere() | variables)
        return {one["id"]: one for one in json.loads(sick.stdout)["checks"] if one["id"].startswith("access.")}

    wrong = access()
    assert [False, False] == [wrong[f"access.{name}"]["ok"] for name in ("bridge", "mcp")]
    assert "ops-bridge could not be started" in str(wrong["access.bridge"]["what"])
    assert "hard links" in str(wrong["access.mcp"]["what"])
    assert all(one["remedy"] for one in wrong.values())
    (folder / "mcp" / "other.json").unlink()
    programs.write_text("#!/bin/sh\nexit 1\n")
    programs.chmod(0o755)
    well = access(PATH=f"{programs.parent}:{os.environ['PATH']}")
    assert {"access.bridge": True, "access.mcp": True} == {name: one["ok"] for name, one in well.items()}
    assert before == (bridge.read_bytes(), mcp.read_bytes())
    assert [mcp] == list(mcp.parent.iterdir())


def test_doctor_checks_both_databases(folder: Path, source_db: str, target_db: str) -> None:
    """Where both answer, everything that the checks found is told by side, and what stands in the way is exit 1."""
    reached = {"STATEHUB_WSL2_DSN": source_db, "STATEHUB_RAILIANCE01_DSN": target_db}
    with psycopg.connect(source_db) as connection:
        connection.execute("SELECT lo_create(0)")
    sick = run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere() | reached)
    assert Exit.ERROR == sick.returncode
    told = json.loads(sick.stdout)
    assert () == problems("output-doctor", told)
    found = {(one["id"], one["severity"], one["side"]) for one in told["preflight"]["found"]}
    assert {("large-objects", "error", "source"), ("fsync-off", "warning", "target")} <= found
    assert ("wsl2", "railiance01") == (told["preflight"]["source"], told["preflight"]["target"])
    text = run("doctor", "plans/cust-wp-0011.yaml", cwd=folder, **nowhere() | reached).stdout
    assert "ERROR   the source holds 1 large objects" in text


def test_doctor_asks_nothing_about_filling_a_side_that_is_primary(folder: Path, source_db: str, target_db: str) -> None:
    """The move is over: the live primary is no target that would have to be empty. What the tool's role may do is asked
    of both all the same; after a switchback the other side is a target again."""
    reached = {"STATEHUB_WSL2_DSN": source_db, "STATEHUB_RAILIANCE01_DSN": target_db}

    def doctor() -> tuple[dict[str, bool], bool]:
        told = json.loads(run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere() | reached).stdout)
        assert () == problems("output-doctor", told)
        return {one["id"]: one["ok"] for one in told["checks"]}, told["preflight"] is None

    def decide(dsn: str, name: str, term: int) -> None:
        with closing(connect(dsn, purpose="test")) as session:
            state.install(session)
            session.execute(
                "INSERT INTO statehub_plan.decision (term, primary_endpoint, identity, run) VALUES (%s, %s, '{}', 'r')",
                [term, name],
            )

    decide(target_db, "railiance01", 1)
    checks, not_asked = doctor()
    assert (True, True) == (checks["preflight"], not_asked)
    assert {"wsl2.privileges", "railiance01.privileges"} <= set(checks)
    decide(source_db, "wsl2", 2)
    assert not doctor()[1]


def test_doctor_looks_where_the_service_itself_writes(folder: Path, source_db: str) -> None:
    """Into another database than the tool: a problem. With a role that may write nothing: told, as that may be meant.
    Where the tool's own connection does not answer there is nothing to compare with."""
    served = serve(source_db)
    elsewhere = psycopg.conninfo.make_conninfo(served.app_dsn, dbname="postgres")

    def app_connection(dsn: str, app_dsn: str) -> dict[str, object]:
        variables = nowhere() | {"STATEHUB_WSL2_DSN": dsn, "STATEHUB_WSL2_APP_DSN": app_dsn}
        told = json.loads(run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **variables).stdout)
        (found,) = (one for one in told["checks"] if one["id"] == "wsl2.app-connection")
        return dict(found)

    wrong = app_connection(served.tool_dsn, elsewhere)
    assert (False, True) == (wrong["ok"], "correct one of them" in str(wrong["remedy"]))
    assert "appDsn leads to database postgres (OID " in str(wrong["what"])
    well = app_connection(served.tool_dsn, served.app_dsn)
    assert (True, f"the service's role {served.app_role} can connect, for canary writes") == (well["ok"], well["what"])
    assert app_connection(NOWHERE, served.app_dsn)["ok"]
    served.admin(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {served.app_role}")
    reading = app_connection(served.tool_dsn, served.app_dsn)
    assert (True, True) == (reading["ok"], "may write in none of the 5 tables" in str(reading["what"]))


@pytest.mark.parametrize("variable", ["STATEHUB_PLAN_HOME", "STATEHUB_PLAN_JOURNAL"])
@pytest.mark.parametrize("read_only", ["folder", "file", "lock"])
def test_doctor_names_a_journal_that_could_not_be_written(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, variable: str, read_only: str
) -> None:
    """A read-only folder, journal or lock file stops `apply` at its first record; it is known before, with a remedy."""
    home = scratch / f"home-{variable}-{read_only}"
    home.mkdir()
    journal, lock = home / "journal.db", home / "journal.db.hub.lock"
    (home / "plan.yaml").write_text(starter("my-move"))
    monkeypatch.setenv(variable, str(home if variable == "STATEHUB_PLAN_HOME" else journal))
    with closing(SqliteJournal(journal)) as made:
        made.release(made.acquire("hub", "alice@ops", ttl_s=60, now=datetime.now(UTC)))
    modes = {home: 0o777, journal: 0o666, lock: 0o666}
    wrong = dict(zip(("folder", "file", "lock"), modes, strict=True))[read_only]

    def looked() -> DoctorCheck:
        with Workspace.load(home / "plan.yaml") as workspace:
            return _journal(workspace)

    def as_somebody() -> int:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        found = looked()
        told = found.what.startswith(f"{wrong} cannot be written to") and "STATEHUB_PLAN_JOURNAL" in found.remedy
        return 1 if told and not found.ok else 0

    for path, mode in modes.items():
        path.chmod(mode if path != wrong else mode & 0o555)
    assert 1 == forked(as_somebody)
    wrong.chmod(modes[wrong])
    assert looked().ok


def test_doctor_names_a_folder_for_the_journal_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else is in its place, or the folder above is not there; nothing is made by looking."""
    (tmp_path / "plan.yaml").write_text(starter("my-move"))
    (tmp_path / "file").write_text("")
    for home, expected in (("file", "file cannot be written to"), ("no/such", f"there is no folder {tmp_path / 'no'}")):
        monkeypatch.setenv("STATEHUB_PLAN_HOME", str(tmp_path / home))
        with Workspace.load(tmp_path / "plan.yaml") as workspace:
            found = _journal(workspace)
        assert (False, True) == (found.ok, expected in found.what)
        assert found.remedy
    assert {"plan.yaml", "file"} == {path.name for path in tmp_path.iterdir()}


def test_doctor_names_the_file_of_signers_and_whom_it_lacks(folder: Path, ssh_keygen: Path) -> None:
    """Missing, empty, or of other people: which file, and which line to write into it."""
    signers = folder / "keys" / "allowed_signers"
    signers.parent.mkdir()
    text = (folder / "plans" / "cust-wp-0011.yaml").read_text()
    assert "allowedSigners: ../keys/allowed_signers" in text
    subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / "other"], check=True)
    other = f"bob@elsewhere.example {(folder / 'other.pub').read_text()}"
    for content, expected in (
        (None, "keys/allowed_signers: it can't be read: No such file"),
        ("# nobody\n", "keys/allowed_signers lists nobody, 1 key needed"),
        (other, "keys/allowed_signers lists 0 of 1 approvers, 1 key needed"),
    ):
        if content is not None:
            signers.write_text(content)
        sick = run("doctor", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere())
        (gate,) = [one for one in json.loads(sick.stdout)["checks"] if one["id"] == "gate.CUST-WP-0011-T07"]
        assert (False, True) == (gate["ok"], expected in gate["what"]), gate
        assert "ssh-ed25519" in gate["remedy"]


def test_doctor_lists_every_check(folder: Path) -> None:
    """Without looking at anything: what would be asked, and why."""
    told = json.loads(run("doctor", "--list", "--json", cwd=folder).stdout)
    assert () == problems("output-checks", told)
    assert len(told["checks"]) >= 60
    assert "no-replica-identity" in run("doctor", "--list", cwd=folder).stdout


def test_doctor_without_a_document(folder: Path) -> None:
    """The installed components alone."""
    well = run("doctor", cwd=folder)
    assert Exit.DONE == well.returncode, well.stdout
    assert "ok      component.opa" in well.stdout


def test_doctor_without_opa(folder: Path) -> None:
    """A component that is named and not there is a problem with a remedy."""
    sick = run("doctor", cwd=folder, STATEHUB_PLAN_OPA_BIN="/nonexistent/opa")
    assert Exit.ERROR == sick.returncode
    assert "PROBLEM component.opa" in sick.stdout
    assert "remedy:" in sick.stdout


def test_compare_of_what_cannot_be_read(folder: Path) -> None:
    """Not equal, not different: 7."""
    unknown = run("compare", "plans/cust-wp-0011.yaml", cwd=folder, **nowhere())
    assert Exit.OUTCOME_UNKNOWN == unknown.returncode, unknown.stderr
    assert "UNKNOWN" in unknown.stdout
    assert SECRET not in unknown.stdout + unknown.stderr


def test_compare_of_any_two_databases(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Without a plan; the exit status says which answer, JSON lists each row with its key, digests and values."""
    for dsn, name in ((source_db, "x"), (target_db, "X")):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE public.t (id integer PRIMARY KEY, name text, token text)")
            connection.execute("INSERT INTO public.t VALUES (1, 'same', 'a'), (2, %s, %s)", [name, name])
    (tmp_path / "new.dsn").write_text(target_db)
    both = ("compare", "--source", "env:OLD", "--target", "file:new.dsn")
    different = run(*both, "--json", "--values", cwd=tmp_path, OLD=source_db)
    assert Exit.ERROR == different.returncode, different.stderr
    told = json.loads(different.stdout)
    assert () == problems("output-compare", told)
    (row,) = told["differences"][0]["rows"]
    assert ("(2)", "changed") == (row["key"], row["what"])
    assert row["digest_source"] != row["digest_target"]
    assert [
        {"column": "name", "source": "x", "target": "X"},
        {"column": "token", "source": "***", "target": "***"},
    ] == row["values"]
    again = json.loads(run(*both, "--json", "--seeds", told["seeds"], cwd=tmp_path, OLD=source_db).stdout)
    assert (told["tables"], told["digest"]) == (again["tables"], again["digest"])
    assert told["tables"] != json.loads(run(*both, "--json", cwd=tmp_path, OLD=source_db).stdout)["tables"]
    words = run(*both, "--values", "--expect-equal", cwd=tmp_path, OLD=source_db)
    assert '"name": "x" → "X"' in words.stdout
    with psycopg.connect(target_db, autocommit=True) as connection:
        connection.execute("UPDATE public.t SET name = 'x', token = 'x' WHERE id = 2")
    equal = run(*both, cwd=tmp_path, OLD=source_db)
    assert Exit.DONE == equal.returncode, equal.stderr
    assert "equal" in equal.stdout
    wrong = run(*both, "--seeds", "12", cwd=tmp_path, OLD=source_db)
    assert (Exit.USAGE, True) == (wrong.returncode, "32 hexadecimal digits" in wrong.stderr)
    unknown = run(*both, cwd=tmp_path, OLD=source_db + "_absent")
    assert Exit.OUTCOME_UNKNOWN == unknown.returncode, unknown.stderr
    itself = run("compare", "--source", "env:OLD", "--target", "env:OLD", cwd=tmp_path, OLD=source_db)
    assert Exit.OUTCOME_UNKNOWN == itself.returncode, itself.stdout
    assert "one and the same database" in itself.stdout


def test_compare_leaves_sequences_out_where_it_is_told_to(source_db: str, target_db: str, tmp_path: Path) -> None:
    """For a timer that watches a fallback that follows: its sequences are behind until it becomes primary."""
    for dsn, last in ((source_db, 7), (target_db, 1)):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE SEQUENCE public.ticket")
            connection.execute("SELECT setval('public.ticket', %s)", [last])
    both = ("compare", "--source", "env:OLD", "--target", "env:NEW")
    assert Exit.ERROR == run(*both, cwd=tmp_path, OLD=source_db, NEW=target_db).returncode
    equal = run(*both, "--without-sequences", cwd=tmp_path, OLD=source_db, NEW=target_db)
    assert (Exit.DONE, True) == (equal.returncode, "sequence values were not compared" in equal.stdout), equal.stderr


def test_compare_takes_no_connection_string_from_the_command_line(tmp_path: Path) -> None:
    """It would stand in the shell's history and in the list of processes."""
    for arguments in (
        ("--source", "postgresql://u:p@h/d", "--target", "env:NEW"),
        ("--source", "env:OLD"),
        (),
        ("plan.yaml", "--source", "env:OLD", "--target", "env:NEW"),
    ):
        told = run("compare", *arguments, cwd=tmp_path)
        assert (Exit.USAGE, "") == (told.returncode, told.stdout)


def test_status_when_nothing_answers(folder: Path) -> None:
    """An outage is told and never hides the rest; every format ends with 0."""
    shutil.copy(ROOT / "plans" / "rail-bs-wp-0007.yaml", folder / "plans")
    text = run("status", "plans", cwd=folder, **nowhere())
    assert Exit.DONE == text.returncode, text.stderr
    assert "CUST-WP-0011 Pragmatic railiance01 State Hub: BLOCKED" in text.stdout
    assert "RAIL-BS-WP-0007 ThreePhoenix HA cluster: OBSERVED" in text.stdout
    told = json.loads(run("status", "plans", "--json", cwd=folder, **nowhere()).stdout)
    assert () == problems("output-status", told)
    written = run("status", "plans", "--format", "markdown", "--out", "status.md", cwd=folder, **nowhere())
    assert Exit.DONE == written.returncode, written.stderr
    assert "## Stable Pickup Path" in (folder / "status.md").read_text()
    assert SECRET not in text.stdout + (folder / "status.md").read_text()


def test_status_without_connection_strings(folder: Path) -> None:
    """A variable that is not set is a reason like any other."""
    told = run("status", "plans", cwd=folder)
    assert Exit.DONE == told.returncode, told.stderr
    assert "BLOCKED" in told.stdout


def test_status_of_invalid_documents(folder: Path) -> None:
    """Nothing is shown of a folder that says something else than meant: 1, with every problem."""
    (folder / "plans" / "bad.yaml").write_text("kind: CutoverPlan\n")
    told = run("status", "plans", cwd=folder, **nowhere())
    assert Exit.ERROR == told.returncode
    assert "bad.yaml:1" in told.stderr


def test_status_of_an_empty_folder(folder: Path) -> None:
    """No document is not "everything is fine"."""
    (folder / "none").mkdir()
    told = run("status", "none", cwd=folder)
    assert Exit.ERROR == told.returncode
    assert "folder-empty" in told.stderr


def test_plan_when_nothing_answers(folder: Path) -> None:
    """A plan that says what it can't know, and refuses to cut over."""
    told = run("plan", "plans/cust-wp-0011.yaml", cwd=folder, **nowhere())
    assert "REFUSED before anything is touched" in told.stdout, told.stderr
    assert "Not known or not shown" in told.stdout


def test_policy_check_without_steps(folder: Path) -> None:
    """With nothing to do there is nothing to judge, and no permission either."""
    told = run("policy", "check", "plans/cust-wp-0011.yaml", "--json", cwd=folder, **nowhere())
    assert () == problems("output-policy-check", json.loads(told.stdout))


def test_policy_check_of_a_saved_plan(folder: Path) -> None:
    """Judged as it was saved: allowed with its gate; without one before the point of no return 3, with remedies."""
    document = str(folder / "plans" / "cust-wp-0011.yaml")
    plan = examples.plan().model_copy(update={"spec_path": document})
    save_plan(plan, folder / "guarded.plan")
    well = run("policy", "check", "guarded.plan", cwd=folder)
    assert Exit.DONE == well.returncode, well.stdout + well.stderr
    save_plan(examples.plan(gates=()).model_copy(update={"spec_path": document}), folder / "unguarded.plan")
    vetoed = run("policy", "check", "unguarded.plan", cwd=folder)
    assert Exit.VETOED == vetoed.returncode, vetoed.stdout + vetoed.stderr
    assert "Policies VETO this" in vetoed.stdout
    assert "remedy:" in vetoed.stdout


def test_policy_test(folder: Path) -> None:
    """Unrounded coverage of the shipped policies; a bundle without tests fails."""
    well = run("policy", "test", cwd=folder)
    assert Exit.DONE == well.returncode, well.stdout
    assert "coverage 100.0 %" in well.stdout
    for path in (folder / "policies").rglob("*_test.rego"):
        path.unlink()
    sick = run("policy", "test", cwd=folder)
    assert Exit.ERROR == sick.returncode
    assert "no test was run" in sick.stdout


@pytest.mark.parametrize(
    ("arguments", "how"),
    [(("list",), "list BUNDLE"), (("test",), "test BUNDLE"), (("explain", "clock.skew"), "--bundle BUNDLE")],
)
def test_a_policy_command_outside_of_the_checkout_says_how_to_name_the_bundle(
    tmp_path: Path, arguments: tuple[str, ...], how: str
) -> None:
    """No document is in play there, so none is named as the remedy."""
    refused = run("policy", *arguments, cwd=tmp_path)
    assert (Exit.ERROR, True) == (refused.returncode, how in refused.stderr), refused.stderr
    assert "spec.policy" not in refused.stderr


def test_policy_explain_and_list(folder: Path) -> None:
    """Each code leads to the incident that it prevents; an unknown one to those there are."""
    listed = run("policy", "list", "--json", cwd=folder)
    codes = [rule["code"] for policy in json.loads(listed.stdout)["policies"] for rule in policy["rules"]]
    assert "backup_fresh.unknown" in codes
    told = run("policy", "explain", "backup_fresh.unknown", cwd=folder)
    assert Exit.DONE == told.returncode, told.stderr
    assert "remedy:" in told.stdout
    assert Exit.ERROR == run("policy", "explain", "backup_fresh.nonsense", cwd=folder).returncode


def test_init_writes_a_plan_that_validates(tmp_path: Path) -> None:
    """The starter is a valid plan, and never replaces one that is there."""
    assert Exit.DONE == run("init", "my-service", cwd=tmp_path).returncode
    well = run("validate", "my-service.yaml", cwd=tmp_path)
    assert Exit.DONE == well.returncode, well.stdout
    again = run("init", "my-service", cwd=tmp_path)
    assert Exit.ERROR == again.returncode
    assert "never overwritten" in again.stderr


def test_validate_tells_every_problem_at_once(tmp_path: Path) -> None:
    """Of all the files, with positions; exit 1, as JSON too."""
    (tmp_path / "a.yaml").write_text("kind: CutoverPlan\nkind: CutoverPlan\n")
    (tmp_path / "b.yaml").write_text("apiVersion: [\n")
    told = run("validate", "a.yaml", "b.yaml", "missing.yaml", "--json", cwd=tmp_path)
    assert Exit.ERROR == told.returncode
    printed = json.loads(told.stdout)
    assert () == problems("output-validate", printed)
    assert all(any(line.startswith(name) for line in printed["problems"]) for name in ("a.yaml:2", "b.yaml", "missing"))


def test_validate_the_shipped_plans() -> None:
    """What the README tells people to begin with."""
    well = run("validate", "plans", cwd=ROOT)
    assert Exit.DONE == well.returncode, well.stdout
    assert "cust-wp-0038" in well.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    """A script that asks this very command what completes."""
    told = run("completion", shell, cwd=tmp_path)
    assert Exit.DONE == told.returncode, told.stderr
    assert "_STATEHUB_PLAN_COMPLETE" in told.stdout
    assert Exit.USAGE == run("completion", "tcsh", cwd=tmp_path).returncode


def test_completion_answers(tmp_path: Path) -> None:
    """What a shell asks when somebody types `statehub-plan ap` and presses the tabulator key."""
    asked = {"_STATEHUB_PLAN_COMPLETE": "bash_complete", "COMP_WORDS": "statehub-plan ap", "COMP_CWORD": "1"}
    told = run(cwd=tmp_path, **asked)
    assert {"plain,approve", "plain,approvals", "plain,apply"} == set(told.stdout.split()), told.stderr
