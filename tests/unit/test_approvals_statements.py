"""What is signed, and how it is shown before it is signed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from statehub_plan.approvals.statements import approval_text, principal_of, printable, statement_for
from statehub_plan.errors import Exit, Refusal
from statehub_plan.model.base import digest
from statehub_plan.model.plan import Identity, Plan, Refused
from statehub_plan.model.record import Statement
from tests.unit.approval_examples import ALICE, EVE, IDENTITIES, NOW, gate_document, gate_of, plan

DOWN = Refused(code="target-down", what="the target is down", remedy="start it")


def said(
    planned: Plan, *, gate: str = "T07", principal: str = ALICE, reason: str = "go", act: str = "approve"
) -> Statement:
    """The statement of `principal` about a gate of the plan."""
    assert act in ("approve", "revoke")
    return statement_for(
        planned,
        gate_of(planned, gate),
        act="approve" if act == "approve" else "revoke",
        principal=principal,
        reason=reason,
        now=NOW,
        nonce="n0",
    )


def test_a_statement_binds_everything_that_must_not_change() -> None:
    """Effects, evidence, direction, both databases, term and the guarded steps are all in what is signed."""
    planned = plan()
    statement = said(planned)
    assert planned.effects_digest == statement.effects_digest
    assert planned.evidence_digest == statement.evidence_digest
    assert ("wsl2", "railiance01", 1) == (statement.old, statement.new, statement.term)
    assert IDENTITIES == statement.identities
    assert ("freeze", "decide") == statement.guarded_steps
    assert "Robot <ci@ops>" == statement.author


def test_the_clocks_count_from_signing() -> None:
    """Decide-by and execute-by follow the gate's own durations."""
    statement = said(plan(gate_document(decideWithin="2h", executeWithin="90m")))
    assert NOW + timedelta(hours=2) == statement.decide_by
    assert NOW + timedelta(minutes=90) == statement.execute_by


@pytest.mark.parametrize(
    ("planned", "principal", "reason", "code"),
    [
        (plan(), EVE, "go", "not-an-approver"),
        (plan(author="Alice <alice@ops>"), ALICE, "go", "author-approves"),
        (plan(author="ALICE@ops"), ALICE, "go", "author-approves"),
        (plan(), ALICE, " \n ", "approval-reason"),
        (plan(), ALICE, "x" * 2001, "approval-reason"),
        (plan(steps=()), ALICE, "go", "nothing-to-approve"),
        (
            plan(refused=Refused(code="x", what="the target is down", remedy="start it")),
            ALICE,
            "go",
            "nothing-to-approve",
        ),
        (plan(identities={"wsl2": IDENTITIES["wsl2"]}), ALICE, "go", "identity-unknown"),
        (plan(identities={**IDENTITIES, "wsl2": Identity(database="statehub")}), ALICE, "go", "identity-unknown"),
    ],
)
def test_what_could_not_count_is_not_even_signed(planned: Plan, principal: str, reason: str, code: str) -> None:
    """The refusal comes before the passphrase, with exit status 4."""
    with pytest.raises(Refusal) as refused:
        said(planned, principal=principal, reason=reason)
    assert code == refused.value.code
    assert Exit.APPROVAL_MISSING == refused.value.exit_status


def test_an_author_may_approve_where_the_plan_says_so() -> None:
    """`authorMayApprove` is a decision of the plan, visible in it."""
    assert ALICE == said(plan(gate_document(authorMayApprove=True), author=ALICE)).principal


def test_taking_back_is_always_possible() -> None:
    """A revocation needs no known identity, no step left and no seat among the approvers."""
    planned = plan(steps=(), identities={}, author=EVE)
    statement = said(planned, principal=EVE, act="revoke")
    assert "revoke" == statement.act
    assert {"wsl2", "railiance01"} == set(statement.identities)


def test_the_text_shows_all_that_is_signed() -> None:
    """Every value of the statement that a person could object to is in the words shown."""
    planned = plan()
    text = approval_text(said(planned, reason="window agreed with the team"), planned)
    for expected in (
        "APPROVE gate T07: Freeze writes and make the cluster primary",
        "move the primary from wsl2 to railiance01, term 1",
        "    1. Do copy",
        "  *  2. Do freeze",
        "  *  3. Do decide",
        "    4. Do retire",
        "old wsl2: system 7300000000000000001, database statehub (OID 16384)",
        "new railiance01: system 7300000000000000002, database statehub (OID 16385)",
        "2026-06-28 10:00:00 UTC  (the first guarded step begins)",
        "2026-06-29 10:00:00 UTC  (the last guarded step begins)",
        "by alice@ops",
        "Robot <ci@ops>",
        "window agreed with the team",
        planned.effects_digest,
        planned.evidence_digest,
    ):
        assert expected in text


def test_a_revocation_reads_as_one() -> None:
    """Nobody takes a revocation for an approval, and it shows no clocks."""
    planned = plan()
    text = approval_text(said(planned, act="revoke", reason="disk is failing"), planned)
    assert text.startswith("REVOKE the approvals of gate T07")
    assert "Decide by" not in text


def test_the_text_of_another_plan_is_never_shown() -> None:
    """What is shown is what is signed, or nothing is shown."""
    statement = said(plan())
    with pytest.raises(ValueError):
        approval_text(statement, plan(effects_digest=digest("other")))
    with pytest.raises(ValueError):
        approval_text(statement, plan(evidence_digest=digest("other")))


def test_text_can_not_move_the_cursor_or_turn_around() -> None:
    """Escape sequences and bidirectional marks in titles and reasons are shown, not obeyed."""
    planned = plan(gate_document(title="Nothing\x1b[2K\r happens \u202edesrever"))
    text = approval_text(said(planned, reason="fine\nGate T08: APPROVED"), planned)
    assert "Nothing\\u{1b}[2K\\u{d} happens \\u{202e}desrever" in text
    assert "fine\\u{a}Gate T08" in text
    assert "Grüße, 世界" == printable("Grüße, 世界")


@pytest.mark.parametrize(
    ("author", "principal"),
    [("alice@ops", ALICE), ("Alice <alice@ops>", ALICE), ("A <b> <alice@ops> ", ALICE), ("<>", ""), ("  ", "")],
)
def test_an_author_is_known_by_the_principal(author: str, principal: str) -> None:
    """A display name is decoration; what counts stands between the angle brackets, if there are any."""
    assert principal == principal_of(author)
