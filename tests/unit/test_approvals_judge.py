"""Which approvals count: every status by example, and what no set of approvals can do by property."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.approvals.judge import Candidate, judge
from statehub_plan.approvals.statements import statement_for
from statehub_plan.model.base import SKEW, digest
from statehub_plan.model.plan import Identity, Plan
from statehub_plan.model.record import ApprovalStatus, GateState, SignedStatement, Statement
from statehub_plan.model.steps import StepKind
from tests.unit import facts
from tests.unit.approval_examples import ALICE, BOB, CAROL, EVE, IDENTITIES, NOW, gate_document, gate_of, plan

KEYS = {ALICE: "SHA256:alice", BOB: "SHA256:bob", CAROL: "SHA256:carol", EVE: "SHA256:eve"}
PLAN = plan()
REPLACE = facts.document(transfer={"method": "dump", "targetContent": "replace"})


def statement(principal: str = ALICE, *, about: Plan = PLAN, **other: Any) -> Statement:
    """An approval of T07 as it would be signed at NOW, with `other` fields."""
    open_gate = gate_of(about).model_copy(update={"approvers": (principal,), "author_may_approve": True})
    made = statement_for(about, open_gate, act="approve", principal=principal, reason="go", now=NOW, nonce="n")
    return made.model_copy(update=other)


def candidate(said: Statement, *, key: str | None = "", source: str = "a.json", **other: Any) -> Candidate:
    """The statement after verification: signed with its principal's key unless said otherwise."""
    fingerprint = KEYS[said.principal] if key == "" else key
    return Candidate(
        source=source, signed=SignedStatement(statement=said, signature=""), fingerprint=fingerprint, **other
    )


def status(state: GateState) -> list[ApprovalStatus]:
    """The statuses in order."""
    return [each.status for each in state.approvals]


def judged(*candidates: Candidate, about: Plan = PLAN, now: datetime = NOW, **other: Any) -> GateState:
    """Gate T07 as judged."""
    return judge(about, gate_of(about), candidates, now=now, **other)


def test_one_approval_of_exactly_this_plan_opens_the_gate() -> None:
    """The ordinary case, and what is known about it afterwards."""
    state = judged(candidate(statement()))
    assert state.satisfied
    assert ("SHA256:alice",) == state.fingerprints
    assert [ApprovalStatus.VALID] == status(state)
    assert "go" == state.approvals[0].reason
    assert not state.approvals[0].by_author


def test_no_approval_leaves_the_gate_closed() -> None:
    """Nothing is not enough, whatever the quorum."""
    assert not judged().satisfied


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"plan_name": "cust-wp-0038"}, ApprovalStatus.OTHER_EFFECTS),
        ({"effects_digest": digest("other")}, ApprovalStatus.OTHER_EFFECTS),
        ({"guarded_steps": ("freeze",)}, ApprovalStatus.OTHER_EFFECTS),
        ({"term": 2}, ApprovalStatus.OTHER_EFFECTS),
        ({"old": "railiance01", "new": "wsl2"}, ApprovalStatus.OTHER_EFFECTS),
        ({"evidence_digest": digest("other")}, ApprovalStatus.OTHER_EVIDENCE),
        ({"identities": {**IDENTITIES, "wsl2": IDENTITIES["railiance01"]}}, ApprovalStatus.OTHER_IDENTITY),
        ({"identities": {"wsl2": IDENTITIES["wsl2"]}}, ApprovalStatus.OTHER_IDENTITY),
        ({"principal": EVE}, ApprovalStatus.NOT_AN_APPROVER),
        ({"author": "Alice <alice@ops>"}, ApprovalStatus.AUTHOR),
        ({"author": ""}, ApprovalStatus.AUTHOR),
        ({"signed_at": NOW + SKEW + timedelta(seconds=1)}, ApprovalStatus.NOT_YET_VALID),
        ({"signed_at": datetime.max.replace(tzinfo=UTC)}, ApprovalStatus.NOT_YET_VALID),
        ({"decide_by": NOW - timedelta(seconds=1)}, ApprovalStatus.EXPIRED),
        ({"execute_by": NOW - timedelta(seconds=1)}, ApprovalStatus.EXPIRED),
    ],
)
def test_an_approval_of_anything_else_does_not_count(changes: dict[str, Any], expected: ApprovalStatus) -> None:
    """Each binding has its own status, and a reason in words."""
    state = judged(candidate(statement(**changes)))
    assert [expected] == status(state)
    assert state.approvals[0].detail
    assert not state.satisfied


def test_an_approval_of_another_gate_is_that_gates_business() -> None:
    """It is not even listed here."""
    assert () == judged(candidate(statement(gate="T08"))).approvals


@pytest.mark.parametrize(
    "problem", [ApprovalStatus.BAD_SIGNATURE, ApprovalStatus.UNKNOWN_SIGNER, ApprovalStatus.MALFORMED]
)
def test_a_signature_that_failed_is_the_first_thing_said(problem: ApprovalStatus) -> None:
    """Whatever else is wrong with a tampered file, its signature is what matters."""
    tampered = candidate(statement(effects_digest=digest("x")), key=None, problem=problem, detail="why")
    state = judged(tampered)
    assert [problem] == status(state)
    assert "why" == state.approvals[0].detail


def test_an_unchecked_signature_never_counts() -> None:
    """No answer is a refusal."""
    assert [ApprovalStatus.BAD_SIGNATURE] == status(judged(candidate(statement(), key=None)))


def test_an_unreadable_file_is_shown_beside_the_others() -> None:
    """It closes nothing and hides nothing."""
    broken = Candidate(source="b.json", problem=ApprovalStatus.MALFORMED, detail="line 1, column 2: no")
    state = judged(candidate(statement()), broken)
    assert [ApprovalStatus.VALID, ApprovalStatus.MALFORMED] == status(state)
    assert state.satisfied


def test_a_database_that_nobody_identified_can_not_be_approved() -> None:
    """Unknown equals unknown is no match."""
    nobody = plan(identities={"wsl2": Identity(), "railiance01": Identity()})
    same = statement().model_copy(update={"identities": nobody.identities})
    assert [ApprovalStatus.OTHER_IDENTITY] == status(judged(candidate(same), about=nobody))


def test_the_author_counts_only_where_the_plan_says_so_and_then_it_is_recorded() -> None:
    """By name, by name in another spelling, as the one who runs it, or by key: an author is an author."""
    by_name = plan(author="Alice <ALICE@ops>")
    for state in (
        judged(candidate(statement(about=by_name)), about=by_name),
        judged(candidate(statement()), authors=["alice@ops"]),
        judged(candidate(statement()), author_keys=frozenset({"SHA256:alice"})),
    ):
        assert [ApprovalStatus.AUTHOR] == status(state)
        assert state.approvals[0].by_author
    allowed = plan(gate_document(authorMayApprove=True), author=ALICE)
    state = judged(candidate(statement(about=allowed)), about=allowed)
    assert [ApprovalStatus.VALID] == status(state)
    assert state.approvals[0].by_author


def test_a_plan_without_an_author_has_no_one_who_is_not_its_author() -> None:
    """Leaving the author out is no way around."""
    anonymous = plan(author="")
    assert [ApprovalStatus.AUTHOR] == status(judged(candidate(statement(about=anonymous)), about=anonymous))


def test_somebody_elses_plan_of_the_same_effects_does_not_launder_an_own_approval() -> None:
    """Alice approved her own plan; a robot that plans the same again does not make her somebody else."""
    own = statement(about=plan(author=ALICE))
    assert [ApprovalStatus.AUTHOR] == status(judged(candidate(own)))


def test_the_decision_clock_stops_when_the_gate_was_passed() -> None:
    """Decide-by is for the first guarded step; execute-by runs on for the rest."""
    said = candidate(statement())
    after_decide_by = NOW + timedelta(hours=30)
    assert not judged(said, now=after_decide_by).satisfied
    assert judged(said, now=after_decide_by, passed=True).satisfied
    assert not judged(said, now=NOW + timedelta(hours=49), passed=True).satisfied


def test_nobody_can_sign_for_longer_than_the_gate_allows() -> None:
    """A statement with far clocks is cut to those of the plan that is judged."""
    generous = statement(decide_by=NOW + timedelta(days=900), execute_by=NOW + timedelta(days=900))
    state = judged(candidate(generous), now=NOW + timedelta(hours=25))
    assert [ApprovalStatus.EXPIRED] == status(state)
    assert NOW + timedelta(hours=24) == state.approvals[0].decide_by


def test_clocks_include_their_last_instant() -> None:
    """By ten o'clock includes ten o'clock; a clock slightly ahead is forgiven."""
    assert judged(candidate(statement()), now=NOW + timedelta(hours=24)).satisfied
    assert judged(candidate(statement(signed_at=NOW + SKEW))).satisfied


def revocation(principal: str, *, at: datetime = NOW, key: str | None = "", **other: Any) -> Candidate:
    """A verified revocation."""
    return candidate(statement(principal, act="revoke", signed_at=at), key=key, source="r.json", **other)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (revocation(ALICE), [ApprovalStatus.REVOKED]),
        (revocation(BOB, at=NOW + timedelta(hours=1)), [ApprovalStatus.REVOKED]),
        (revocation(BOB, at=NOW - SKEW), [ApprovalStatus.REVOKED]),
        (revocation(BOB, at=NOW - SKEW - timedelta(microseconds=1)), [ApprovalStatus.VALID]),
        (revocation(EVE), [ApprovalStatus.VALID, ApprovalStatus.NOT_AN_APPROVER]),
        (
            revocation(BOB, key=None, problem=ApprovalStatus.BAD_SIGNATURE, detail="changed"),
            [ApprovalStatus.VALID, ApprovalStatus.BAD_SIGNATURE],
        ),
        (revocation(BOB, key=None), [ApprovalStatus.VALID, ApprovalStatus.BAD_SIGNATURE]),
        (revocation(BOB, key="SHA256:old", problem=ApprovalStatus.UNKNOWN_SIGNER), [ApprovalStatus.REVOKED]),
        (
            revocation(EVE, key="SHA256:old", problem=ApprovalStatus.UNKNOWN_SIGNER, detail="unlisted"),
            [ApprovalStatus.VALID, ApprovalStatus.UNKNOWN_SIGNER],
        ),
        (
            revocation(BOB, key=None, problem=ApprovalStatus.UNKNOWN_SIGNER, detail="nobody is known"),
            [ApprovalStatus.VALID, ApprovalStatus.UNKNOWN_SIGNER],
        ),
    ],
    ids=[
        "own",
        "another-approver",
        "by a clock that is behind",
        "before",
        "not-an-approver",
        "forged",
        "unchecked",
        "by a key that was listed",
        "by nobody's key",
        "by no key",
    ],
)
def test_an_approver_can_take_an_approval_back(given: Candidate, expected: list[ApprovalStatus]) -> None:
    """Any approver, at or after the approval, as far as clocks can tell, and whatever becomes of the key; a revocation
    that does not count is shown and takes nothing back."""
    state = judged(candidate(statement()), given)
    assert expected == status(state)
    assert (ApprovalStatus.VALID in expected) == state.satisfied


def test_a_revocation_of_other_effects_is_silent() -> None:
    """What was taken back in an earlier plan is neither counted nor listed."""
    other = candidate(statement(BOB, act="revoke", effects_digest=digest("x")), source="r.json")
    assert [ApprovalStatus.VALID] == status(judged(candidate(statement()), other))


def test_whoever_approves_again_after_a_revocation_has_approved() -> None:
    """Time goes on; what was taken back can be given again."""
    again = candidate(statement(signed_at=NOW + timedelta(hours=2)), source="c.json")
    state = judged(
        candidate(statement()), revocation(BOB, at=NOW + timedelta(hours=1)), again, now=NOW + timedelta(hours=3)
    )
    assert [ApprovalStatus.REVOKED, ApprovalStatus.VALID] == status(state)


def test_whoever_approves_again_waits_as_long_as_clocks_may_differ() -> None:
    """Within that time nobody can tell it from an approval that was given before; the detail says how long that is."""
    at = NOW + timedelta(hours=1)
    taken = revocation(BOB, at=at, key="SHA256:old", problem=ApprovalStatus.UNKNOWN_SIGNER)
    soon, later = (candidate(statement(signed_at=at + SKEW + timedelta(seconds=late))) for late in (0, 1))
    state = judged(soon, revocation(CAROL, at=NOW), taken, now=at + SKEW)
    assert [ApprovalStatus.REVOKED] == status(state)
    by = f"by bob@ops, with a key not listed for them, at {at.isoformat()} ('go')"
    assert f"{by}; an approval signed more than 60 s after that counts" == state.approvals[0].detail
    assert judged(later, taken, now=at + SKEW).satisfied


def test_a_replan_that_only_moves_the_guarded_steps_keeps_its_approvals() -> None:
    """A backup that is due meanwhile has no effect; that it moves every step behind it by one is none either."""
    before, moved = facts.plan(doc=REPLACE), facts.plan(facts.facts() | {"backup": None}, REPLACE)
    assert before.effects_digest == moved.effects_digest
    gate = gate_of(before).model_copy(update={"approvers": (ALICE,)})
    said = candidate(statement_for(before, gate, act="approve", principal=ALICE, reason="go", now=NOW, nonce="n"))
    assert judge(before, gate, [said], now=NOW).satisfied
    assert [] == [each.detail for each in judge(moved, gate, [said], now=NOW).approvals if each.detail]
    fewer = moved.model_copy(update={"steps": tuple(one for one in moved.steps if one.kind is not StepKind.HOLD)})
    assert [ApprovalStatus.OTHER_EFFECTS] == status(judge(fewer, gate, [said], now=NOW))


def test_a_quorum_is_people_with_keys_of_their_own() -> None:
    """Two files by one key, or two keys of one person, are one approval."""
    two = plan(gate_document(quorum=2))
    alice, alice_again = candidate(statement(about=two)), candidate(statement(about=two, nonce="m"), source="b.json")
    alice_other_key = candidate(statement(about=two), key="SHA256:alice-2", source="c.json")
    assert not judged(alice, alice_again, about=two).satisfied
    assert not judged(alice, alice_other_key, about=two).satisfied
    assert judged(alice, candidate(statement(BOB, about=two), source="d.json"), about=two).satisfied


candidates = st.builds(
    lambda principal, key, problem, source, changes: candidate(
        statement(principal).model_copy(update=changes), key=key, problem=problem, source=source, detail="d"
    ),
    st.sampled_from([ALICE, BOB, CAROL, EVE]),
    st.sampled_from([*KEYS.values(), "SHA256:spare", None]),
    st.sampled_from([None, None, None, ApprovalStatus.BAD_SIGNATURE, ApprovalStatus.UNKNOWN_SIGNER]),
    st.text("abc", min_size=1, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "act": st.sampled_from(["approve", "revoke"]),
            "effects_digest": st.sampled_from([PLAN.effects_digest, digest("other")]),
            "evidence_digest": st.sampled_from([PLAN.evidence_digest, digest("other")]),
            "term": st.integers(1, 2),
            "plan_name": st.sampled_from(["cust-wp-0011", "other"]),
            "gate": st.sampled_from(["T07", "T08"]),
            "author": st.sampled_from(["ci@ops", ALICE, BOB, ""]),
            "signed_at": st.integers(-200_000, 200).map(lambda s: NOW + timedelta(seconds=s)),
            "decide_by": st.integers(-100, 10**7).map(lambda s: NOW + timedelta(seconds=s)),
        },
    ),
)


@given(some=st.lists(candidates, max_size=8), quorum=st.integers(1, 3), passed=st.booleans())
def test_a_satisfied_gate_has_its_quorum_of_flawless_approvals(
    some: list[Candidate], quorum: int, passed: bool
) -> None:
    """Whatever lies in the folder, an open gate has that many keys and people, each with an approval beyond doubt."""
    about = plan(gate_document(quorum=quorum))
    state = judged(*some, about=about, passed=passed)
    valid = [each for each in state.approvals if each.status is ApprovalStatus.VALID]
    assert state.satisfied == (quorum <= len(state.fingerprints))
    assert len(state.fingerprints) <= len({each.principal for each in valid})
    assert set(state.fingerprints) <= {each.fingerprint for each in valid}
    for each in valid:
        assert any(_flawless(one, each.source, passed) for one in some), each


def _flawless(one: Candidate, source: str, passed: bool) -> bool:
    assert one.signed is not None
    said = one.signed.statement
    return (
        one.source == source
        and one.problem is None
        and one.fingerprint is not None
        and (said.act, said.plan_name, said.gate, said.term) == ("approve", "cust-wp-0011", "T07", 1)
        and (said.effects_digest, said.evidence_digest) == (PLAN.effects_digest, PLAN.evidence_digest)
        and said.principal in (ALICE, BOB, CAROL)
        and said.author not in ("", said.principal)
        and said.signed_at <= NOW + SKEW
        and (passed or min(said.decide_by, said.signed_at + timedelta(hours=24)) >= NOW)
        and said.signed_at + timedelta(hours=48) >= NOW
    )


@given(some=st.lists(candidates, max_size=6), extra=candidates, data=st.data())
def test_order_does_not_matter_and_a_bad_file_changes_nothing(
    some: list[Candidate], extra: Candidate, data: st.DataObject
) -> None:
    """Files are a set; adding one whose signature failed never opens or closes a gate."""
    shuffled = data.draw(st.permutations(some))
    assert judged(*some).satisfied == judged(*shuffled).satisfied
    failed = extra.model_copy(update={"problem": ApprovalStatus.BAD_SIGNATURE})
    assert judged(*some).fingerprints == judged(*some, failed).fingerprints


@given(some=st.lists(candidates, max_size=6), by=st.sampled_from([ALICE, BOB, CAROL]))
def test_a_later_revocation_by_an_approver_closes_every_gate(some: list[Candidate], by: str) -> None:
    """After it nothing signed before counts, whoever signed it."""
    last = revocation(by, at=NOW + timedelta(seconds=200))
    assert not judged(*some, last).satisfied
