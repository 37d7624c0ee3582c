"""Every exit status from its real cause, on the demo's real world: nothing moves until everything agrees.

One world serves the whole file; the tests run in this order, and the primary moves only where a test says so.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest

from statehub_plan.approvals.ssh import sign
from statehub_plan.approvals.statements import statement_for
from statehub_plan.approvals.store import save
from statehub_plan.cli.workspace import load_plan
from statehub_plan.components import PgInstallation
from statehub_plan.demo.world import APPROVER, SOURCE, TARGET, DemoWorld
from statehub_plan.errors import Exit
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

NEVER = """# METADATA
# title: Never
# description: Prevents everything.
# custom:
#   code: never
#   remedy: Take this policy away.
package statehub.policies.never

# METADATA
# title: Never
# description: Prevents everything.
# custom:
#   code: never.ever
#   remedy: Take this policy away.
deny contains finding if {
	input.phase
	finding := {
		"code": "never.ever",
		"level": "hard",
		"message": "not in this world",
		"step": null,
		"path": "phase",
		"evidence": {},
		"remedy": "Take this policy away.",
	}
}
"""


@pytest.fixture(scope="module")
def world(pg_installations: tuple[PgInstallation, ...], opa_path: Path, ssh_keygen: Path) -> Iterator[DemoWorld]:
    """Nobody writes here: what counts is who could."""
    with demo_world(stabilization="1s") as built:
        quick = built.plan_file.read_text().replace("{bundle: ../policies}", "{bundle: ../policies, timeout: 3s}")
        built.plan_file.write_text(quick)
        yield built


@pytest.fixture(scope="module")
def file(world: DemoWorld) -> Path:
    """One saved plan of the cutover."""
    return planned(world, "cutover")


@pytest.fixture
def no_approvals(world: DemoWorld) -> Iterator[Path]:
    """The folder of approvals, empty before and after."""
    folder = world.directory / "state" / "approvals"
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def assert_nothing_moved(world: DemoWorld) -> None:
    """The old primary serves, no fence is enabled anywhere, and no step has ever begun."""
    assert accepts_writes(world, SOURCE)
    assert (0, 0) == (fences_enabled(world, SOURCE), fences_enabled(world, TARGET))
    assert "step-intent" not in ran("history", world.plan_file).out


def applied(file: Path, status: int) -> dict[str, object]:
    """The error that `apply --json` printed, after checking that process and document name the same status."""
    found = ran("apply", file, "--json")
    assert status == found.status, found.told
    error = found.json["error"]
    assert status == error["exit_status"]
    assert isinstance(error, dict)
    return error


# 0 and 2: plans


@pytest.mark.parametrize(
    ("spelling", "status"),
    [
        (("-out", "FILE", "-json", "-detailed-exitcode"), Exit.CHANGES_PENDING),
        (("--out=FILE", "--json", "--detailed-exitcode"), Exit.CHANGES_PENDING),
        (("--json", "-out=FILE"), Exit.DONE),
    ],
)
def test_pending_changes_end_with_two_where_asked(world: DemoWorld, spelling: tuple[str, ...], status: int) -> None:
    """Terraform's habits in both spellings; what is printed is what is saved."""
    saved = world.directory / "spelled.plan"
    made = ran("plan", world.plan_file, *(word.replace("FILE", str(saved)) for word in spelling))
    assert status == made.status
    assert json.loads(saved.read_text())["digest"] == made.json["digest"]
    saved.unlink()


def test_before_anything_was_begun_there_is_nothing_to_abort_or_to_go_back_on(world: DemoWorld) -> None:
    """Both say so instead of inventing steps."""
    for command, code in (("abort", "nothing-to-abort"), ("switchback", "not-switched")):
        found = ran(command, world.plan_file, "--json")
        assert (Exit.ERROR, code) == (found.status, found.json["error"]["code"])


# 4: approvals


def test_without_an_approval_nothing_begins(world: DemoWorld, file: Path, no_approvals: Path) -> None:
    """The first gate on the way is asked before anything is touched."""
    error = applied(file, Exit.APPROVAL_MISSING)
    assert ("approval-missing", ["no approval found for this gate"]) == (error["code"], error["details"])
    assert_nothing_moved(world)


@pytest.mark.parametrize("age", [timedelta(hours=1, minutes=1), timedelta(hours=3)], ids=["decide-by", "execute-by"])
def test_an_expired_approval_is_none(world: DemoWorld, file: Path, no_approvals: Path, age: timedelta) -> None:
    """Its clocks are in what was signed."""
    forged(world, file, no_approvals, world.key_file, datetime.now(UTC) - age)
    assert f"{APPROVER}: expired" in str(applied(file, Exit.APPROVAL_MISSING)["details"])
    assert_nothing_moved(world)


def test_a_foreign_key_signs_nothing_and_a_planted_file_counts_for_nothing(
    world: DemoWorld, file: Path, no_approvals: Path, tmp_path: Path
) -> None:
    """A key that allowed_signers does not list, by the front door and by the back door."""
    key = tmp_path / "foreign"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", APPROVER, "-f", str(key)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    signing = ("approve", file, "--gate", GATE, "--key", key, "--reason", "me too", "--yes")
    for claim in ((), ("--as", APPROVER)):
        assert Exit.APPROVAL_MISSING == ran(*signing, *claim).status
    assert not list(no_approvals.glob("*"))
    forged(world, file, no_approvals, key, datetime.now(UTC))
    assert f"{APPROVER}: unknown-signer" in str(applied(file, Exit.APPROVAL_MISSING)["details"])
    assert_nothing_moved(world)


def test_a_tampered_approval_is_none(world: DemoWorld, file: Path, no_approvals: Path) -> None:
    """Any changed word of what was signed."""
    assert Exit.DONE == approve(world, file).status
    (stored,) = no_approvals.glob("*.json")
    stored.write_text(stored.read_text().replace('"agreed"', '"agreed by all"'))
    assert f"{APPROVER}: bad-signature" in str(applied(file, Exit.APPROVAL_MISSING)["details"])
    assert_nothing_moved(world)


def test_nobody_approves_what_they_made_or_run(
    world: DemoWorld, file: Path, no_approvals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approver's own plan can't be approved by them, and one that they approved can't be applied by them."""
    assert Exit.DONE == approve(world, file).status
    monkeypatch.setenv("STATEHUB_PLAN_AUTHOR", f"The Operator <{APPROVER.upper()}>")
    assert f"{APPROVER}: author" in str(applied(file, Exit.APPROVAL_MISSING)["details"])
    own = planned(world, "own")
    assert Exit.APPROVAL_MISSING == approve(world, own).status
    assert_nothing_moved(world)


def test_a_revoked_approval_is_none(world: DemoWorld, file: Path, no_approvals: Path) -> None:
    """Taking back needs no reason but one's own."""
    assert Exit.DONE == approve(world, file).status
    taking_back = ("revoke", file, "--gate", GATE, "--key", world.key_file, "--reason", "not today", "--yes")
    assert Exit.DONE == ran(*taking_back).status
    assert f"{APPROVER}: revoked" in str(applied(file, Exit.APPROVAL_MISSING)["details"])
    assert_nothing_moved(world)


def test_an_agent_without_a_key_can_plan_and_never_approve(world: DemoWorld, file: Path, no_approvals: Path) -> None:
    """No key file, the public half of the approver's key without an agent that has the other, an unlisted name."""
    alone = ("approve", file, "--gate", GATE, "--reason", "it is fine", "--yes")
    for key in (world.directory / "keys" / "none", world.key_file.with_suffix(".pub")):
        hidden = world.key_file.rename(world.directory / "elsewhere")
        try:
            assert ran(*alone, "--key", key).status in (Exit.ERROR, Exit.APPROVAL_MISSING)
        finally:
            hidden.rename(world.key_file)
    assert not list(no_approvals.glob("*"))
    applied(file, Exit.APPROVAL_MISSING)


# 3: policies


@pytest.fixture
def agreed(world: DemoWorld, file: Path) -> None:
    """The human part is done; only policies stand in between."""
    assert Exit.DONE == approve(world, file).status


@pytest.mark.usefixtures("agreed")
def test_a_policy_that_objects_has_the_last_word(world: DemoWorld, file: Path) -> None:
    """At planning and again at applying, whatever was approved; the finding's code and remedy are told."""
    rule = world.directory / "policies" / "statehub" / "policies" / "never" / "never.rego"
    rule.parent.mkdir()
    rule.write_text(NEVER)
    assert Exit.VETOED == ran("plan", world.plan_file).status
    assert Exit.VETOED == ran("policy", "check", file).status
    error = applied(file, Exit.VETOED)
    shutil.rmtree(rule.parent)
    assert ["hard never.ever: not in this world (remedy: Take this policy away.)"] == error["details"]
    assert_nothing_moved(world)


@pytest.mark.usefixtures("agreed")
def test_no_opa_is_no_permission(world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy engine that is not there says nothing, and nothing said is a refusal."""
    monkeypatch.setenv("STATEHUB_PLAN_OPA_BIN", "/nowhere/opa")
    assert "/nowhere/opa" in str(applied(file, Exit.ERROR)["what"])
    assert Exit.ERROR == ran("plan", world.plan_file).status
    assert_nothing_moved(world)


@pytest.mark.usefixtures("agreed")
def test_an_emptied_bundle_is_no_permission(world: DemoWorld, file: Path) -> None:
    """Without rules there is nobody who could have objected."""
    bundle = world.directory / "policies"
    kept = bundle.rename(world.directory / "kept")
    try:
        bundle.mkdir()
        assert "policy-bundle-invalid" == applied(file, Exit.ERROR)["code"]
        shutil.copytree(kept / "statehub" / "main", bundle / "statehub" / "main")
        assert "policy-bundle-invalid" == applied(file, Exit.ERROR)["code"]
    finally:
        shutil.rmtree(bundle)
        kept.rename(bundle)
    assert_nothing_moved(world)


@pytest.mark.usefixtures("agreed")
def test_an_opa_that_lies_is_no_permission(world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waves everything through does not know what the canary sings."""
    with answering({"result": {"evaluated": [], "findings": []}}) as url:
        monkeypatch.setenv("STATEHUB_PLAN_OPA_URL", url)
        assert "host.bundle_differs" in str(applied(file, Exit.VETOED)["details"])
    assert_nothing_moved(world)


@pytest.mark.usefixtures("agreed")
def test_an_opa_that_is_silent_is_no_permission(world: DemoWorld, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and never answers; the plan's own limit ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STATEHUB_PLAN_OPA_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "host.timed_out" in str(applied(file, Exit.VETOED)["details"])
    assert_nothing_moved(world)


# 5: plans that are not what they were, in a world that is not what it was


def test_a_plan_file_with_any_byte_changed_is_refused(world: DemoWorld, file: Path, tmp_path: Path) -> None:
    """Forty places in the file, by every command that reads it."""
    text = file.read_bytes()
    for at in range(1, len(text), len(text) // 40):
        changed = tmp_path / "changed.plan"
        changed.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        assert Exit.STALE_PLAN == ran("show", changed).status, text[at - 40 : at + 40]
    for command in (("apply",), ("approvals",), ("graph",), ("policy", "check"), ("approve", "--gate", GATE)):
        more = ("--key", world.key_file, "--reason", "r") if "approve" in command else ()
        assert Exit.STALE_PLAN == ran(*command, changed, *more).status
    assert_nothing_moved(world)


@pytest.mark.usefixtures("agreed")
def test_a_stale_plan_names_every_fact_that_changed(world: DemoWorld, file: Path) -> None:
    """A schema migration, a moved access path and a broken piece of evidence since the plan was made."""
    config, counts = (world.directory / name for name in ("mcp/config.json", "evidence/counts.json"))
    kept = {path: path.read_text() for path in (config, counts)}
    config.write_text(kept[config].replace(world.sites[SOURCE].api, world.sites[TARGET].api))
    counts.write_text(kept[counts].replace('"different": 0', '"different": 3'))
    with world.sites[SOURCE].connect_as_owner() as owner:
        owner.execute("ALTER TABLE public.work_plan ADD COLUMN since_the_plan integer")
        details = applied(file, Exit.STALE_PLAN)["details"]
        owner.execute("ALTER TABLE public.work_plan DROP COLUMN since_the_plan")
    for path, text in kept.items():
        path.write_text(text)
    assert isinstance(details, list)
    changed = {line.split(":")[0] for line in details if not line.startswith("world")}
    assert {f"{SOURCE}.schema_revision", "access.mcp", "evidence T06/counts"} == changed
    assert {f'access.mcp: "{SOURCE}" → "{TARGET}"', "world access: old → split"} <= set(details)
    assert_nothing_moved(world)


# 7, 8, 0: the cutover itself


def test_a_world_that_somebody_changes_in_the_middle_stops_the_run(world: DemoWorld) -> None:
    """A superuser takes the fence off the frozen side while the other one opens: status 7 says what differs. The next
    `apply` shuts the stray side first and goes on; it ends with 8, since the new primary is being watched."""
    file = approved(world, "there")

    def take_the_fence_off() -> None:
        dsn = world.sites[SOURCE].cluster.dsn("statehub")
        with psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=off") as superuser:
            superuser.execute("SELECT statehub_plan.fence_tables(false)")
            superuser.execute("ALTER DATABASE statehub RESET default_transaction_read_only")

    error = applied_with(file, At("started:open", take_the_fence_off))
    assert error is not None
    assert ("world-differs", Exit.OUTCOME_UNKNOWN) == (error.code, error.exit_status)
    assert "old.writes: frozen → open" in error.details
    again = At("never", lambda: None)
    waiting = applied_with(file, again)
    assert waiting is not None
    assert Exit.WAITING == waiting.exit_status
    assert ["freeze", "redirect", "stabilize"] == again.steps
    assert (False, True) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_watch_stays_until_the_run_is_done_and_a_plan_is_carried_out_once(world: DemoWorld) -> None:
    """The waiting run ends with 0; its plan is spent from then on."""
    file = world.directory / "there.plan"
    watched = ran("watch", file, "--json")
    assert (Exit.DONE, "done", TARGET) == (watched.status, watched.json["outcome"], watched.json["primary_wished"])
    assert "has finished" in str(applied(file, Exit.STALE_PLAN)["what"])


def test_when_everything_holds_there_is_nothing_to_do(world: DemoWorld) -> None:
    """Status 0 even where changes would have been 2; applying such a plan does nothing."""
    saved = world.directory / "nothing.plan"
    made = ran("plan", world.plan_file, "-detailed-exitcode", "-out", saved)
    assert Exit.DONE == made.status, made.told
    assert Exit.DONE == ran("apply", saved).status


# 6: one at a time


def test_a_second_apply_is_told_who_holds_the_lease_and_the_first_goes_on(world: DemoWorld) -> None:
    """While another process is in the middle of the copy back: status 6 at once, and nothing disturbs the first."""
    file = approved(world, "back", "switchback")
    with subprocess.Popen(
        world.command("apply", str(file)), env=world.command_env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as first:
        assert first.stderr is not None
        while b"copy every row" not in (line := first.stderr.readline()):
            assert line
        first.send_signal(signal.SIGSTOP)
        try:
            error = applied(file, Exit.LOCKED)
            assert not accepts_writes(world, TARGET)
        finally:
            first.send_signal(signal.SIGCONT)
        first.stderr.read()
    assert Exit.WAITING == first.returncode
    told = f"{error['what']} {error['details']}"
    assert f"process {first.pid} " in told
    assert f"since {datetime.now(UTC):%Y-%m-%d}" in told
    assert Exit.DONE == ran("watch", file).status
    assert (True, False) == (accepts_writes(world, SOURCE), accepts_writes(world, TARGET))


def test_an_approval_of_the_first_move_is_no_approval_of_the_next(world: DemoWorld) -> None:
    """Same steps, same databases, same gate: the decision term has moved on, so nothing can be replayed."""
    file = planned(world, "again")
    details = str(applied(file, Exit.APPROVAL_MISSING)["details"])
    assert f"other-effects: it is about moving from {SOURCE} to {TARGET} in term 1" in details
    assert accepts_writes(world, SOURCE)


def forged(world: DemoWorld, file: Path, folder: Path, key: Path, at: datetime) -> None:
    """A statement about the plan, signed with any key at any time, put where approvals are looked for."""
    plan = load_plan(file)
    gate = next(gate for gate in plan.spec.spec.gates if gate.name == GATE)
    nonce = secrets.token_hex(16)
    statement = statement_for(plan, gate, act="approve", principal=APPROVER, reason="agreed", now=at, nonce=nonce)
    save(folder, sign(statement, key))


@contextmanager
def answering(document: object) -> Iterator[str]:
    """The URL of a server that answers every question with the same JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
