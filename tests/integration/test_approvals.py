"""Approvals from key to gate, with the real ssh-keygen: what counts, what does not, and every attack we know."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from statehub_plan.approvals.collect import collect
from statehub_plan.approvals.ssh import (
    NAMESPACE,
    SignatureRefused,
    load_signers,
    principal_of_key,
    sign,
    verify,
)
from statehub_plan.approvals.statements import statement_for
from statehub_plan.approvals.store import load, save
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import canonical, digest
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, GateState, SignedStatement, Statement
from tests.integration import security_key
from tests.unit.approval_examples import ALICE, BOB, EVE, IDENTITIES, NOW, gate_document, gate_of, plan

SIGN_ON_TERMINAL = """
import sys
from pathlib import Path
from statehub_plan.approvals.ssh import sign
from statehub_plan.model.record import Statement
statement = Statement.model_validate_json(sys.argv[1])
print("SIGNED", len(sign(statement, Path(sys.argv[2])).signature))
"""


class Room:
    """A plan's folder: allowed_signers, keys, approvals."""

    def __init__(self, path: Path, keygen: Path) -> None:
        self.path = path
        self.keygen = keygen
        self.approvals = path / "approvals"
        self.allowed = path / "allowed_signers"
        self.lines: list[str] = []

    def key(self, name: str, *options: str, passphrase: str = "") -> Path:
        """A new key pair."""
        key = self.path / f"key-{name}"
        command = [str(self.keygen), "-q", "-t", "ed25519", "-N", passphrase, "-C", name, *options, "-f", str(key)]
        subprocess.run(command, check=True)
        return key

    def allow(self, principal: str, key: Path | str, options: str = "") -> None:
        """One more line of allowed_signers."""
        public = key if isinstance(key, str) else " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])
        self.lines.append(" ".join(filter(None, (principal, options, public))))
        self.allowed.write_text("".join(f"{line}\n" for line in self.lines))

    def person(self, principal: str, *options: str) -> Path:
        """The key of a new, allowed person."""
        key = self.key(principal.partition("@")[0] + str(len(self.lines)), *options)
        self.allow(principal, key)
        return key

    def approve(self, key: Path, principal: str, about: Plan | None = None, **other: Any) -> Path:
        """The file of a signed approval of T07."""
        return save(self.approvals, sign(stated(principal, about=about, **other), key))

    def state(self, about: Plan | None = None, *, now: datetime = NOW, **other: Any) -> GateState:
        """Gate T07 as the folder leaves it."""
        about = about or plan()
        return collect(about, self.path, self.approvals, now, **other)[0]

    def problem_of_signers(self) -> str:
        """What the gate says about its allowed_signers file."""
        return next(each.detail for each in self.state().approvals if each.source == str(self.allowed))

    def statuses(self, about: Plan | None = None, **other: Any) -> list[ApprovalStatus]:
        """The statuses alone."""
        return [each.status for each in self.state(about, **other).approvals]


@pytest.fixture
def room(tmp_path: Path, ssh_keygen: Path) -> Room:
    """An empty folder with nobody allowed."""
    made = Room(tmp_path, ssh_keygen)
    made.allowed.touch()
    return made


def stated(
    principal: str,
    *,
    about: Plan | None = None,
    act: Literal["approve", "revoke"] = "approve",
    now: datetime = NOW,
    nonce: str = "abcdef0123456789",
    **other: Any,
) -> Statement:
    """A statement about T07, as anybody could write one: without the checks that come before signing."""
    about = about or plan()
    lenient = gate_of(about).model_copy(update={"approvers": (principal,), "author_may_approve": True})
    made = statement_for(about, lenient, act=act, principal=principal, reason="agreed", now=now, nonce=nonce)
    return made.model_copy(update=other)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The file with a change in its statement, its signature kept."""
    document = json.loads(path.read_text())
    change(document["statement"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "options", [[], ["-t", "ecdsa", "-b", "384"], ["-t", "rsa", "-b", "2048"]], ids=["ed25519", "ecdsa", "rsa"]
)
def test_an_approval_signed_with_a_listed_key_opens_the_gate(room: Room, options: list[str]) -> None:
    """Sign, save, load, verify, judge: the whole way, for every kind of software key."""
    key = room.person(ALICE, *options)
    path = room.approve(key, ALICE)
    state = room.state()
    assert state.satisfied
    assert [ApprovalStatus.VALID] == room.statuses()
    fingerprint = subprocess.run([room.keygen, "-lf", key], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    assert (fingerprint,) == state.fingerprints
    assert str(path) == state.approvals[0].source


def test_nobody_has_approved_anything_yet(room: Room) -> None:
    """No folder, an empty folder: closed, and nothing to complain about."""
    room.person(ALICE)
    assert [] == room.statuses()
    room.approvals.mkdir()
    assert not room.state().satisfied


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.update(reason="agreeD"),
        lambda said: said.update(effects_digest=digest("other")),
        lambda said: said.update(term=2),
        lambda said: said.update(principal=BOB),
        lambda said: said.update(author="ci2@ops"),
        lambda said: said.update(execute_by="2026-06-30T10:00:00Z"),
        lambda said: said["identities"]["wsl2"].update(database_oid=1),
        lambda said: said.update(act="revoke"),
    ],
    ids=["reason", "effects", "term", "principal", "author", "clock", "identity", "act"],
)
def test_one_changed_byte_after_signing_is_seen(room: Room, change: Callable[[dict[str, Any]], None]) -> None:
    """Whatever was changed, and whatever else that would mean: the signature is bad."""
    path = room.approve(room.person(ALICE), ALICE)
    rewrite(path, change)
    state = room.state(plan(effects_digest=json.loads(path.read_text())["statement"]["effects_digest"]))
    assert [ApprovalStatus.BAD_SIGNATURE] == [each.status for each in state.approvals]
    assert "changed after signing" in state.approvals[0].detail
    assert state.approvals[0].fingerprint is None


def test_a_signature_moved_from_another_statement_does_not_fit(room: Room) -> None:
    """The signature of an approval that exists is no signature of one that does not."""
    key = room.person(ALICE)
    other = sign(stated(ALICE, nonce="ffff"), key)
    save(room.approvals, SignedStatement(statement=stated(ALICE), signature=other.signature))
    assert [ApprovalStatus.BAD_SIGNATURE] == room.statuses()


def test_a_signature_for_another_purpose_is_not_an_approval(room: Room) -> None:
    """What the same key signed for git, or for anything else, cannot be passed off as a decision."""
    key = room.person(ALICE)
    message = room.path / "message"
    message.write_bytes(canonical(stated(ALICE)))
    subprocess.run([room.keygen, "-q", "-Y", "sign", "-n", "git", "-f", key, message], check=True)
    signature = message.with_name("message.sig").read_text()
    save(room.approvals, SignedStatement(statement=stated(ALICE), signature=signature))
    assert [ApprovalStatus.BAD_SIGNATURE] == room.statuses()
    assert "'git'" in room.state().approvals[0].detail


def test_a_key_that_nobody_listed_is_foreign(room: Room) -> None:
    """A perfect signature by an unknown key, under a known name, counts for nothing; the key is shown."""
    room.person(ALICE)
    room.approve(room.key("stranger"), ALICE)
    state = room.state()
    assert [ApprovalStatus.UNKNOWN_SIGNER] == [each.status for each in state.approvals]
    assert str(state.approvals[0].fingerprint).startswith("SHA256:")


def test_a_listed_key_cannot_speak_in_another_name(room: Room) -> None:
    """Bob's key says it is Alice: it is not."""
    room.person(ALICE)
    bobs = room.person(BOB)
    room.approve(bobs, ALICE)
    assert [ApprovalStatus.UNKNOWN_SIGNER] == room.statuses()
    assert f"{BOB}'s, not {ALICE}'s" in room.state().approvals[0].detail


@pytest.mark.parametrize(
    ("pattern", "fools_ssh_keygen"),
    [("*@ops", True), ("*", True), ("b?b@ops", True), ("eve@ops,bob@ops", True), ("!bob@ops,*@ops", False)],
)
def test_a_pattern_never_lends_a_name_to_a_key(room: Room, pattern: str, fools_ssh_keygen: bool) -> None:
    """ssh-keygen would accept one key as anybody at ops; here the whole file is refused, and says which line."""
    alices = room.person(ALICE)
    eves = room.key("eve")
    room.allow(pattern, eves)
    said = sign(stated(BOB), eves)
    (room.path / "sig").write_text(said.signature)
    wanted = ("-Y", "verify", "-n", NAMESPACE, "-f", room.allowed, "-I", BOB, "-s", room.path / "sig")
    run = subprocess.run([room.keygen, *wanted], input=canonical(stated(BOB)), capture_output=True, check=False)
    assert fools_ssh_keygen == (run.returncode == 0), "the attack is real"
    save(room.approvals, said)
    room.approve(alices, ALICE, nonce="0123")
    state = room.state()
    assert not state.satisfied
    assert {ApprovalStatus.UNKNOWN_SIGNER, ApprovalStatus.MALFORMED} == {each.status for each in state.approvals}
    assert f"{room.allowed}:2: " in room.problem_of_signers()


@pytest.mark.parametrize(
    ("options", "expected", "why"),
    [
        ("", ApprovalStatus.VALID, ""),
        (f'namespaces="{NAMESPACE}"', ApprovalStatus.VALID, ""),
        (f'namespaces="git,{NAMESPACE}",valid-after="20260101"', ApprovalStatus.VALID, ""),
        ('valid-before="20260628"', ApprovalStatus.VALID, ""),
        ('namespaces="git"', ApprovalStatus.UNKNOWN_SIGNER, "not permitted"),
        ('valid-before="20260627"', ApprovalStatus.UNKNOWN_SIGNER, "expired"),
        ('valid-after="20260627120000"', ApprovalStatus.UNKNOWN_SIGNER, "not yet valid"),
    ],
)
def test_the_limits_of_a_key_are_honoured(room: Room, options: str, expected: ApprovalStatus, why: str) -> None:
    """namespaces, valid-after and valid-before mean what ssh-keygen says, in UTC on every machine."""
    key = room.key("alice")
    room.allow(ALICE, key, options)
    room.approve(key, ALICE)
    state = room.state()
    assert [expected] == [each.status for each in state.approvals]
    assert why in state.approvals[0].detail


def test_a_key_that_ran_out_since_takes_its_approval_with_it_but_not_its_revocation(room: Room) -> None:
    """Approving needs a key that is valid then and now; having taken back stays taken back."""
    key, bobs = room.key("alice"), room.key("bob")
    room.allow(ALICE, key, 'valid-before="20260627110000"')
    room.allow(BOB, bobs)
    room.approve(key, ALICE)
    assert [ApprovalStatus.VALID] == room.statuses()
    assert [ApprovalStatus.UNKNOWN_SIGNER] == room.statuses(now=NOW + timedelta(hours=2))
    room.approve(bobs, BOB, nonce="b")
    save(room.approvals, sign(stated(ALICE, act="revoke"), key))
    two_hours_later = room.state(now=NOW + timedelta(hours=2))
    assert ApprovalStatus.REVOKED in [each.status for each in two_hours_later.approvals]
    assert not two_hours_later.satisfied


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{principal} cert-authority {key}", "cert-authority is refused"),
        ("{principal} CERT-Authority {key}", "cert-authority is refused"),
        ("{principal} no-touch-required {key}", "no-touch-required are refused"),
        ("{principal} namespaces=git {key}", "are refused"),
        ("{principal}", "a line is"),
        ("{principal} ssh-ed25519 not-base64!", "not Base64"),
        ("{principal} ecdsa-sha2-nistp256 {blob}", "of another type"),
        ("bob@ops {key}\ncarol@ops {key}", "line 1 already"),
        ("bob@ops {key}\nbob@ops {key}", "line 1 already"),
    ],
)
def test_a_dubious_line_refuses_the_whole_file(room: Room, line: str, problem: str) -> None:
    """Who may sign is not guessed from what is left of a broken file."""
    key = room.key("alice").with_name("key-alice.pub").read_text().split()
    room.allowed.write_text(line.format(principal=ALICE, key=" ".join(key[:2]), blob=key[1]) + "\n")
    with pytest.raises(StatehubError) as refused:
        load_signers(room.allowed)
    assert "allowed-signers" == refused.value.code
    assert Exit.APPROVAL_MISSING == refused.value.exit_status
    assert any(problem in detail for detail in refused.value.details)


def test_an_allowed_signers_file_must_be_there_readable_and_not_everybodys(room: Room) -> None:
    """Missing, not text, a folder, or writable for all: nobody is known to sign, and the state says why."""
    room.approve(room.person(ALICE), ALICE)
    text = room.allowed.read_bytes()
    room.allowed.chmod(0o666)
    assert "chmod o-w" in room.problem_of_signers()
    room.allowed.chmod(0o644)
    assert room.state().satisfied
    room.allowed.write_bytes(text + b"\xff\n")
    assert "not UTF-8" in room.problem_of_signers()
    room.allowed.unlink()
    assert {ApprovalStatus.UNKNOWN_SIGNER, ApprovalStatus.MALFORMED} == set(room.statuses())
    assert "No such file" in room.problem_of_signers()
    room.allowed.mkdir()
    assert not room.state().satisfied


def test_short_and_outdated_keys_are_refused(room: Room) -> None:
    """An RSA key of 1024 bits is neither listed nor signed with."""
    key = room.key("weak", "-t", "rsa", "-b", "1024")
    with pytest.raises(StatehubError) as refused:
        sign(stated(ALICE), key)
    assert "approval-key-unusable" == refused.value.code
    room.allow(ALICE, key)
    with pytest.raises(StatehubError) as listed:
        load_signers(room.allowed)
    assert "1024 bits" in str(listed.value)


def test_a_security_key_must_have_been_touched(room: Room) -> None:
    """ssh-keygen itself accepts a signature that nobody was present for; we look at the flag."""
    seed, said = b"s" * 32, stated(ALICE)
    room.allow(ALICE, security_key.public_key(seed))
    for flags, expected in ((0x01, ApprovalStatus.VALID), (0x05, ApprovalStatus.VALID), (0x00, None), (0x04, None)):
        armored = security_key.signature(seed, canonical(said), NAMESPACE, flags=flags)
        (room.path / "sig").write_text(armored)
        wanted = ("-Y", "verify", "-n", NAMESPACE, "-f", room.allowed, "-I", ALICE, "-s", room.path / "sig")
        subprocess.run([room.keygen, *wanted], input=canonical(said), capture_output=True, check=True)
        path = save(room.approvals, SignedStatement(statement=said, signature=armored))
        state = room.state()
        assert [expected or ApprovalStatus.BAD_SIGNATURE] == [each.status for each in state.approvals]
        if expected is None:
            assert "touched" in state.approvals[0].detail
        path.unlink()


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (plan(effects_digest=digest("other")), ApprovalStatus.OTHER_EFFECTS),
        (plan(evidence_digest=digest("other")), ApprovalStatus.OTHER_EVIDENCE),
        (plan(term=2), ApprovalStatus.OTHER_EFFECTS),
        (plan(old="railiance01", new="wsl2"), ApprovalStatus.OTHER_EFFECTS),
        (
            plan(identities={**IDENTITIES, "wsl2": IDENTITIES["wsl2"].model_copy(update={"database_oid": 9})}),
            ApprovalStatus.OTHER_IDENTITY,
        ),
        (plan(created_at=NOW + timedelta(hours=1), tool_version="1"), ApprovalStatus.VALID),
    ],
    ids=["effects", "evidence", "term", "direction", "identity", "same-effects-planned-again"],
)
def test_an_approval_does_not_travel_to_another_plan(room: Room, about: Plan, expected: ApprovalStatus) -> None:
    """Replayed to anything but the same effects on the same databases in the same term it is void."""
    room.approve(room.person(ALICE), ALICE)
    assert [expected] == room.statuses(about)


def test_an_approval_does_not_travel_to_another_gate_or_plan_document(room: Room) -> None:
    """Renaming what it is about breaks the signature; leaving it is about something else."""
    key = room.person(ALICE)
    both = plan(gate_document(), gate_document("T08"))
    path = room.approve(key, ALICE)
    seventh, eighth = collect(both, room.path, room.approvals, NOW)
    assert (True, False) == (seventh.satisfied, eighth.satisfied)
    assert () == eighth.approvals
    rewrite(path, lambda said: said.update(gate="T08"))
    seventh, eighth = collect(both, room.path, room.approvals, NOW)
    assert [ApprovalStatus.BAD_SIGNATURE] == [each.status for each in eighth.approvals]
    path.unlink()
    room.approve(key, ALICE, plan_name="cust-wp-0038")
    assert [ApprovalStatus.OTHER_EFFECTS] == room.statuses()
    assert "cust-wp-0038" in room.state().approvals[0].detail


def test_an_approval_made_by_the_author_does_not_count(room: Room) -> None:
    """By name, by whoever runs it, and by the author's key under another name in another gate's file."""
    key = room.person(ALICE)
    room.approve(key, ALICE)
    assert [ApprovalStatus.AUTHOR] == room.statuses(plan(author="Alice <alice@ops>"))
    assert [ApprovalStatus.AUTHOR] == room.statuses(authors=["alice@ops"])
    (room.path / "other_signers").write_text(room.allowed.read_text().replace(ALICE, "al@home"))
    author_elsewhere = plan(gate_document(), gate_document("T08", allowedSigners="other_signers"), author="al@home")
    assert [ApprovalStatus.AUTHOR] == room.statuses(author_elsewhere)
    state = room.state(plan(gate_document(authorMayApprove=True), author=ALICE))
    assert state.satisfied
    assert state.approvals[0].by_author


def test_an_approval_runs_out(room: Room) -> None:
    """After decide-by, and for a gate that was passed in time after execute-by."""
    room.approve(room.person(ALICE), ALICE)
    assert [ApprovalStatus.EXPIRED] == room.statuses(now=NOW + timedelta(hours=25))
    assert room.state(now=NOW + timedelta(hours=25), gates_passed=["T07"]).satisfied
    assert not room.state(now=NOW + timedelta(hours=49), gates_passed=["T07"]).satisfied
    assert [ApprovalStatus.NOT_YET_VALID] == room.statuses(now=NOW - timedelta(minutes=2))


def test_two_signatures_by_one_key_are_one(room: Room) -> None:
    """A quorum of two wants two people, each with a key of their own."""
    two = plan(gate_document(quorum=2))
    key = room.person(ALICE)
    room.approve(key, ALICE)
    room.approve(key, ALICE, nonce="1123456789", now=NOW + timedelta(seconds=1))
    room.approve(room.person(ALICE), ALICE, nonce="2123456789")
    state = room.state(two)
    assert [ApprovalStatus.VALID] * 3 == [each.status for each in state.approvals]
    assert not state.satisfied
    room.approve(room.person(BOB), BOB)
    assert room.state(two).satisfied
    assert 2 == len(room.state(two).fingerprints)


def test_an_approval_can_be_taken_back_by_an_approver_only(room: Room) -> None:
    """Eve is listed as a signer, not as an approver: her revocation is shown and does nothing."""
    room.approve(room.person(ALICE), ALICE)
    save(room.approvals, sign(stated(EVE, act="revoke"), room.person(EVE)))
    assert room.state().satisfied
    assert ApprovalStatus.NOT_AN_APPROVER in room.statuses()
    save(room.approvals, sign(stated(BOB, act="revoke", now=NOW + timedelta(hours=1)), room.person(BOB)))
    state = room.state()
    assert not state.satisfied
    assert any("by bob@ops at 2026-06-27T11:00:00" in each.detail for each in state.approvals)


def test_a_revocation_outlives_the_line_of_whoever_signed_it(room: Room) -> None:
    """Bob leaves, and with him his line; what he took back stays taken back. A stranger who writes into the folder in
    his name takes back as well, which denies and never approves; one who changes a word of it does nothing."""
    alices, bobs = room.person(ALICE), room.person(BOB)
    room.approve(alices, ALICE)
    path = save(room.approvals, sign(stated(BOB, act="revoke", now=NOW - timedelta(seconds=20)), bobs))
    for lines in (room.lines, room.lines[:1]):
        room.allowed.write_text("".join(f"{line}\n" for line in lines))
        assert [ApprovalStatus.REVOKED] == room.statuses()
    assert "with a key not listed for them" in room.state().approvals[0].detail
    rewrite(path, lambda said: said.update(reason="agreeD"))
    assert [ApprovalStatus.VALID, ApprovalStatus.BAD_SIGNATURE] == room.statuses()
    save(room.approvals, sign(stated(BOB, act="revoke"), room.key("stranger")))
    assert not room.state().satisfied


def test_without_a_key_there_is_no_approval(room: Room) -> None:
    """An agent or CI can plan; asked to approve it ends with exit status 4 and what is missing."""
    with pytest.raises(StatehubError) as refused:
        sign(stated(ALICE), room.path / "id_ed25519")
    assert "approval-key-missing" == refused.value.code
    assert Exit.APPROVAL_MISSING == refused.value.exit_status
    assert "never approve" in refused.value.hint


def test_a_key_that_others_can_read_is_not_used(room: Room) -> None:
    """ssh-keygen's own refusal reaches the person, with the remedy."""
    key = room.key("open")
    key.chmod(0o644)
    with pytest.raises(StatehubError) as refused:
        sign(stated(ALICE), key)
    assert "too open" in refused.value.what
    assert "chmod 600" in refused.value.hint


def test_a_locked_key_without_a_terminal_fails_at_once(room: Room) -> None:
    """Nothing waits for a passphrase that nobody can type."""
    key = room.key("locked", passphrase="correct horse")
    run = subprocess.run(
        [sys.executable, "-c", SIGN_ON_TERMINAL, stated(ALICE).model_dump_json(), str(key)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert "approval-key-unusable" in run.stderr or "nothing was signed" in run.stderr


def test_a_passphrase_is_asked_for_on_the_terminal(room: Room) -> None:
    """The prompt and the answer go between the person and ssh-keygen; the tool never sees the passphrase."""
    key = room.key("locked", passphrase="correct horse")
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", SIGN_ON_TERMINAL, stated(ALICE).model_dump_json(), str(key)])
    seen = b""
    try:
        while b"assphrase" not in seen:
            seen += os.read(terminal, 4096)
        os.write(terminal, b"correct horse\n")
        while b"SIGNED" not in seen:
            seen += os.read(terminal, 4096)
        assert b"correct horse" not in seen
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(terminal)


def test_an_agent_can_hold_the_key(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by its public file, the private key may live in an agent only."""
    key = room.person(ALICE)
    address = room.path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)
    try:
        while not address.exists():
            assert agent.poll() is None
            time.sleep(0.005)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        key.unlink()
        room.approve(key.with_name(f"{key.name}.pub"), ALICE)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait()
    assert room.state().satisfied


def test_an_agent_that_never_answers_is_not_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time given nothing is signed, ssh-keygen is gone, and the refusal says that nobody answered."""
    key = room.person(ALICE)
    public = key.with_name(f"{key.name}.pub")
    key.unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(room.path / "agent"))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(room.path / "agent"))
        with pytest.raises(StatehubError) as refused:
            sign(stated(ALICE), public, timeout_s=0.2)
    assert "no answer within 0.2 s" in refused.value.what
    assert Exit.APPROVAL_MISSING == refused.value.exit_status


def test_a_key_knows_whose_it_is(room: Room) -> None:
    """`approve` need not ask for a name: the file says whose key this is, locked or not."""
    room.allow(ALICE, room.key("locked", passphrase="x"))
    signers = load_signers(room.allowed)
    assert ALICE == principal_of_key(room.path / "key-locked", signers)
    assert ALICE == principal_of_key(room.path / "key-locked.pub", signers)
    assert principal_of_key(room.key("stranger"), signers) is None
    (room.path / "junk").write_text("junk")
    with pytest.raises(StatehubError) as refused:
        principal_of_key(room.path / "junk", signers)
    assert "approval-key-unusable" == refused.value.code


def test_verify_says_who_signed(room: Room) -> None:
    """The principal and the fingerprint of the key, or a refusal with its status."""
    key = room.person(ALICE)
    signed = sign(stated(ALICE), key)
    assert ALICE == verify(signed, room.allowed, now=NOW).principal
    garbled = signed.model_copy(update={"signature": signed.signature.replace("SIGNATURE", "SIGN", 1)})
    with pytest.raises(SignatureRefused) as refused:
        verify(garbled, room.allowed, now=NOW)
    assert ApprovalStatus.BAD_SIGNATURE is refused.value.status
    assert Exit.APPROVAL_MISSING == refused.value.exit_status


def test_saved_files_are_named_for_people_and_never_half_written(room: Room) -> None:
    """Gate, act, time, key and nonce; nothing else is left in the folder; what is loaded is what was saved."""
    signed = sign(stated(ALICE), room.person(ALICE))
    path = save(room.approvals, signed)
    assert path.name.startswith("T07-approve-20260627T100000Z-")
    assert path.name.endswith("-abcdef01.json")
    assert [path] == list(room.approvals.iterdir())
    assert signed == load(room.approvals)[0].signed


def test_an_unwritable_folder_is_said_to_be(room: Room) -> None:
    """A file where the folder should be: nothing was approved, and the refusal says so."""
    room.approvals.write_text("not a folder")
    with pytest.raises(StatehubError) as refused:
        room.approve(room.person(ALICE), ALICE)
    assert "approval-not-saved" == refused.value.code
    with pytest.raises(StatehubError) as unreadable:
        load(room.approvals)
    assert "approvals-unreadable" == unreadable.value.code


def test_bad_files_are_named_and_hide_no_good_one(room: Room) -> None:
    """Each kind of bad file has its own reason; the approval among them still opens the gate."""
    good = room.approve(room.person(ALICE), ALICE)
    text = good.read_text()
    document = json.loads(text)
    bad = {
        "array.json": "[]",
        "broken.json": "{\n  x",
        "deep.json": "[" * 30_000,
        "empty.json": "",
        "extra.json": json.dumps({**document, "approved": True}),
        "huge.json": text + " " * 70_000,
        "nan.json": text.replace('"term": 1', '"term": NaN'),
        "text-term.json": text.replace('"term": 1', '"term": "1"'),
        "twice.json": text.replace('"term": 1', '"term": 2, "term": 1'),
    }
    for name, content in bad.items():
        (room.approvals / name).write_text(content)
    (room.approvals / "bytes.json").write_bytes(b"\xff\xfe")
    (room.approvals / "folder.json").mkdir()
    (room.approvals / "link.json").symlink_to(good)
    (room.approvals / "loop.json").symlink_to(room.approvals / "loop.json")
    os.mkfifo(room.approvals / "pipe.json")
    (room.approvals / "README.md").write_text("not looked at")
    state = room.state()
    reasons = {Path(each.source).name: each.detail for each in state.approvals}
    assert state.satisfied
    assert 15 == len(reasons)
    assert {"": [good.name]} == {"": [name for name, reason in reasons.items() if not reason]}
    assert "line 2, column 3" in reasons["broken.json"]
    assert "nested too deeply" in reasons["deep.json"] or "line 1" in reasons["deep.json"]
    assert "at most 65536" in reasons["huge.json"]
    assert "'term' stands there twice" in reasons["twice.json"]
    assert "the way the tool writes" in reasons["text-term.json"]
    assert "NaN" in reasons["nan.json"]
    assert "symbolic link" in reasons["link.json"]
    assert "not a regular file" in reasons["pipe.json"]
    assert "UTF-8" in reasons["bytes.json"]


def test_a_certificate_is_not_a_key(room: Room) -> None:
    """Whoever holds a certifying key could make approvers; certificates sign nothing here."""
    key = room.key("alice")
    authority = room.key("ca")
    subprocess.run([room.keygen, "-q", "-s", authority, "-I", "x", "-n", ALICE, f"{key}.pub"], check=True)
    certificate = key.with_name(f"{key.name}-cert.pub")
    with pytest.raises(StatehubError, match="certificate"):
        sign(stated(ALICE), certificate)
    blob = base64.b64decode(certificate.read_text().split()[1])
    room.allowed.write_text(f"{ALICE} ssh-ed25519-cert-v01@openssh.com {base64.b64encode(blob).decode()}\n")
    with pytest.raises(StatehubError) as refused:
        load_signers(room.allowed)
    assert "certificate" in str(refused.value)
