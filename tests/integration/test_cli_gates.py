"""`approve`, `revoke`, `approvals` as processes, with real keys: what counts is stored, what would not is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from statehub_plan.approvals.ssh import sign
from statehub_plan.approvals.statements import statement_for
from statehub_plan.approvals.store import save
from statehub_plan.cli.workspace import load_plan, save_plan, utc_now
from statehub_plan.errors import Exit
from statehub_plan.model.steps import StepKind
from tests.golden import examples

GATE = "CUST-WP-0011-T07"
APPROVER = "operator@state-hub.example"
AUTHOR = "alice@ops.example"


@dataclass(frozen=True)
class Desk:
    """A folder with a saved plan, keys and an allowed_signers file."""

    folder: Path

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """One invocation as a process."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STATEHUB_PLAN_")}
        return subprocess.run(
            [sys.executable, "-m", "statehub_plan", *arguments],
            cwd=self.folder,
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sign(self, act: str, *more: str, key: str = "approver", typed: str = "") -> subprocess.CompletedProcess[str]:
        """`approve` or `revoke` of the example's gate."""
        given = ("cutover.plan", "--gate", GATE, "--key", f"keys/{key}", "--reason", "the window is agreed", *more)
        return self.run(act, *given, typed=typed)

    @property
    def stored(self) -> list[Path]:
        """Every signed statement that was kept."""
        return sorted((self.folder / "plans" / ".statehub-plan" / "approvals").glob("*"))


@pytest.fixture
def desk(tmp_path: Path, ssh_keygen: Path) -> Desk:
    """The approver's and the author's key are listed, the stranger's is not; only the approver may approve."""
    for name in ("plans", "keys"):
        (tmp_path / name).mkdir()
    lines = []
    for name, principal in (("approver", APPROVER), ("author", AUTHOR), ("stranger", "")):
        path = tmp_path / "keys" / name
        subprocess.run([ssh_keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        kind, key, *_ = path.with_suffix(".pub").read_text().split()
        if principal:
            lines.append(f'{principal} namespaces="statehub-plan-approval@v1" {kind} {key}\n')
    (tmp_path / "keys" / "allowed_signers").write_text("".join(lines))
    document = str(tmp_path / "plans" / "cust-wp-0011.yaml")
    save_plan(examples.plan().model_copy(update={"spec_path": document}), tmp_path / "cutover.plan")
    return Desk(tmp_path)


def test_approve_shows_what_is_signed_and_asks(desk: Desk) -> None:
    """The approver reads the steps, the identities and the clocks, and types the gate's name."""
    signed = desk.sign("approve", typed=f"{GATE}\n")
    assert Exit.DONE == signed.returncode, signed.stderr
    assert "POINT OF NO RETURN: decide that railiance01 is primary" in signed.stderr
    assert "old wsl2: system 7300000000000000001" in signed.stderr
    assert f"gate {GATE}: 1 of 1 keys, approved" in signed.stdout
    assert 1 == len(desk.stored)


@pytest.mark.parametrize("typed", ["", "yes\n", "CUST-WP-0011-T08\n"])
def test_anything_but_the_gates_name_signs_nothing(desk: Desk, typed: str) -> None:
    """No answer is a refusal."""
    refused = desk.sign("approve", typed=typed)
    assert Exit.APPROVAL_MISSING == refused.returncode
    assert "nothing was signed" in refused.stderr
    assert [] == desk.stored


@pytest.mark.parametrize(
    ("key", "more", "told"),
    [
        ("stranger", (), "is not listed in"),
        ("author", (), f"{AUTHOR} is not an approver of gate {GATE}"),
        ("approver", ("--as", AUTHOR), f"is listed for {APPROVER}, not for {AUTHOR}"),
        ("missing", (), "keys/missing"),
    ],
)
def test_what_would_not_count_is_not_kept(desk: Desk, key: str, more: tuple[str, ...], told: str) -> None:
    """A signature in the folder that counts for nothing would only be mistaken for an approval."""
    refused = desk.sign("approve", "--yes", *more, key=key)
    assert Exit.APPROVAL_MISSING == refused.returncode
    assert told in refused.stderr
    assert [] == desk.stored


def test_an_own_key_under_another_name_does_not_count(desk: Desk) -> None:
    """The author of the plan stays its author whatever name allowed_signers gives the key."""
    keys = desk.folder / "keys"
    (keys / "other_signers").write_text(
        (keys / "allowed_signers").read_text().splitlines()[0].replace(APPROVER, AUTHOR)
    )
    gate = examples.document().spec.gates[0]
    changed = {"name": "second", "guards": (StepKind.RETIRE,), "allowed_signers": "../keys/other_signers"}
    plan = examples.plan(gates=(gate, gate.model_copy(update=changed)))
    again = plan.model_copy(update={"spec_path": str(desk.folder / "plans" / "cust-wp-0011.yaml")})
    save_plan(again, desk.folder / "cutover.plan")
    refused = desk.sign("approve", "--yes")
    assert Exit.APPROVAL_MISSING == refused.returncode
    assert "would not count" in refused.stderr
    assert [] == desk.stored


def test_an_unknown_gate_names_those_there_are(desk: Desk) -> None:
    """A typing error is told with what could have been meant."""
    refused = desk.run("approve", "cutover.plan", "--gate", "T08", "--key", "keys/approver", "--reason", "x", "--yes")
    assert Exit.APPROVAL_MISSING == refused.returncode
    assert f"its gates: {GATE}" in refused.stderr


def test_revoke_takes_it_back(desk: Desk) -> None:
    """An approval that was revoked no longer counts, and `approvals` says by whom and why."""
    assert Exit.DONE == desk.sign("approve", "--yes").returncode
    revoked = desk.sign("revoke", "--yes", "--json")
    assert Exit.DONE == revoked.returncode, revoked.stderr
    told = json.loads(revoked.stdout)
    assert "revoke" == told["act"]
    assert not told["gate"]["satisfied"]
    shown = desk.run("approvals", "cutover.plan")
    assert Exit.DONE == shown.returncode
    assert f"gate {GATE}: NOT APPROVED, 0 of 1 keys" in shown.stdout
    assert "revoked: operator@state-hub.example" in shown.stdout


def test_whoever_approves_right_after_a_revocation_is_told_to_wait(desk: Desk) -> None:
    """It could not be told from an approval that was given before; nothing is kept."""
    assert Exit.DONE == desk.sign("revoke", "--yes").returncode
    refused = desk.sign("approve", "--yes")
    assert Exit.APPROVAL_MISSING == refused.returncode
    assert "an approval signed more than 60 s after that counts" in refused.stderr
    assert "do it again once that time has passed" in refused.stderr
    assert 1 == len(desk.stored)


def test_a_revocation_that_takes_nothing_back_says_so(desk: Desk) -> None:
    """Signed by somebody who approves nothing, or by a clock that is behind the approver's: kept, and status 4."""
    assert Exit.DONE == desk.sign("approve", "--yes").returncode
    useless = desk.sign("revoke", "--yes", "--json", key="author")
    assert Exit.APPROVAL_MISSING == useless.returncode
    assert json.loads(useless.stdout)["gate"]["satisfied"]
    assert "approval-still-counts" in useless.stderr
    assert f"{APPROVER}: valid, signed at" in useless.stderr
    assert 2 == len(desk.stored)


def test_an_approval_from_the_future_is_not_passed_over_by_a_revocation(desk: Desk) -> None:
    """It does not count yet, and would once this clock has come that far."""
    plan = load_plan(desk.folder / "cutover.plan")
    gate = next(one for one in plan.spec.spec.gates if one.name == GATE)
    ahead = utc_now() + timedelta(minutes=10)
    said = statement_for(plan, gate, act="approve", principal=APPROVER, reason="go", now=ahead, nonce="n" * 16)
    folder = desk.folder / "plans" / ".statehub-plan" / "approvals"
    save(folder, sign(said, desk.folder / "keys" / "approver"))
    revoked = desk.sign("revoke", "--yes")
    assert Exit.APPROVAL_MISSING == revoked.returncode
    assert f"{APPROVER}: not-yet-valid" in revoked.stderr


@pytest.fixture
def elsewhere(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Another checkout of the same folder; where the plan was made is out of reach."""
    document = desk.folder / "plans" / "cust-wp-0011.yaml"
    document.write_text("the document\n")
    made = {"spec_path": str(document), "spec_digest": f"sha256:{hashlib.sha256(document.read_bytes()).hexdigest()}"}
    save_plan(examples.plan().model_copy(update=made), desk.folder / "cutover.plan")
    folder = tmp_path_factory.mktemp("elsewhere") / "checkout"
    shutil.copytree(desk.folder, folder)
    (desk.folder / "plans").rename(desk.folder / "away")
    return Desk(folder)


def test_an_approval_given_in_another_checkout_counts_where_the_plan_was_made(desk: Desk, elsewhere: Desk) -> None:
    """Whoever approves has a clone in a place of their own; the file that is stored there is what they hand over."""
    signed = elsewhere.sign("approve", "--yes")
    assert Exit.DONE == signed.returncode, signed.stderr
    (stored,) = elsewhere.stored
    assert f"stored {stored}" in signed.stdout
    (desk.folder / "away").rename(desk.folder / "plans")
    assert Exit.DONE == desk.run("approvals", "cutover.plan").returncode
    shutil.copytree(stored.parent, desk.folder / "plans" / ".statehub-plan" / "approvals")
    assert f"gate {GATE}: approved, 1 of 1 keys" in desk.run("approvals", "cutover.plan").stdout


def test_a_revocation_given_in_another_checkout_says_that_it_has_to_be_delivered(elsewhere: Desk) -> None:
    """Where the plan is applied the approval counts until the file is there: no word of success, and status 4."""
    revoked = elsewhere.sign("revoke", "--yes")
    assert Exit.APPROVAL_MISSING == revoked.returncode
    assert f"hand {elsewhere.stored[0]} to whoever applies" in revoked.stderr


def test_the_document_of_another_checkout_can_be_named(elsewhere: Desk) -> None:
    """From a folder below which it is not; its folder's signers are asked then."""
    (elsewhere.folder / "desk").mkdir()
    away = Desk(elsewhere.folder / "desk")
    lost = away.run("approvals", "../cutover.plan")
    assert (Exit.ERROR, True) == (lost.returncode, "--document cust-wp-0011.yaml" in lost.stderr)
    named = away.run("approvals", "../cutover.plan", "--document", "../plans/cust-wp-0011.yaml")
    assert (Exit.DONE, True) == (named.returncode, f"gate {GATE}: NOT APPROVED" in named.stdout), named.stderr


def test_only_the_very_document_that_was_planned_will_do(elsewhere: Desk) -> None:
    """Another revision may have other policies and signers beside it: found or named, it is refused."""
    (elsewhere.folder / "plans" / "cust-wp-0011.yaml").write_text("another revision\n")
    found = elsewhere.run("approvals", "cutover.plan")
    assert (Exit.ERROR, True) == (found.returncode, "cust-wp-0011.yaml is another version" in found.stderr)
    named = elsewhere.run("approvals", "cutover.plan", "--document", "plans/cust-wp-0011.yaml")
    assert (Exit.ERROR, True) == (named.returncode, "is not the document that this plan was made from" in named.stderr)
    gone = elsewhere.run("approvals", "cutover.plan", "--document", "plans/cust-wp-0012.yaml")
    assert (Exit.ERROR, True) == (gone.returncode, "cannot be read" in gone.stderr)


def test_a_path_that_leads_out_of_the_checkout_is_not_followed(elsewhere: Desk) -> None:
    """The plan file is whoever's word it is; with it alone nobody else's folder decides who may approve."""
    outside = elsewhere.folder.parent / "outside"
    outside.mkdir()
    shutil.copy(elsewhere.folder / "plans" / "cust-wp-0011.yaml", outside)
    (elsewhere.folder / "plans" / "cust-wp-0011.yaml").unlink()
    plan = load_plan(elsewhere.folder / "cutover.plan")
    save_plan(
        plan.model_copy(update={"spec_path": "/nowhere/../outside/cust-wp-0011.yaml"}),
        elsewhere.folder / "cutover.plan",
    )
    assert Exit.ERROR == elsewhere.run("approvals", "cutover.plan").returncode


def test_a_plan_that_names_a_folder_nobody_would_expect_says_so(desk: Desk, elsewhere: Desk) -> None:
    """It may bring signers and policies of its own."""
    (desk.folder / "away").rename(desk.folder / "plans")
    told = elsewhere.run("approvals", "cutover.plan")
    assert f"policies, signers and approvals are those of {desk.folder / 'plans'}" in told.stderr
    assert "note:" not in elsewhere.run("approvals", "cutover.plan", "--document", "plans/cust-wp-0011.yaml").stderr


def test_a_changed_plan_file_is_refused(desk: Desk) -> None:
    """Nobody signs what is not what was planned."""
    path = desk.folder / "cutover.plan"
    path.write_bytes(path.read_bytes().replace(b"railiance01", b"railiance02", 1))
    refused = desk.sign("approve", "--yes")
    assert Exit.STALE_PLAN == refused.returncode
    assert [] == desk.stored


def test_forgotten_options_are_usage_errors(desk: Desk) -> None:
    """64, as everywhere."""
    assert Exit.USAGE == desk.run("approve", "cutover.plan", "--gate", GATE).returncode
