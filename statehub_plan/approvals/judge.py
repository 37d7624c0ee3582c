"""Which approvals count for a gate, and why the others don't. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from statehub_plan.approvals.statements import guarded_steps, identities_of, principal_of, without_positions
from statehub_plan.model.base import SKEW, Frozen
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, GateState, JudgedApproval, SignedStatement, Statement
from statehub_plan.model.spec import Gate, duration_s

_LAST = datetime(9000, 1, 1, tzinfo=UTC)

Objection = tuple[ApprovalStatus, str] | None
"""Why an approval does not count, as status and detail."""


class Candidate(Frozen):
    """A file of the approvals folder after its signature was looked at.

    `signed` is None when the file can't be read. `fingerprint` is that of the key that really signed, None when no key
    was shown to have; then `problem` and `detail` say why. With a fingerprint, UNKNOWN_SIGNER means that this key did
    sign exactly this, and that allowed_signers does not let it speak for the principal.
    """

    source: str
    signed: SignedStatement | None = None
    fingerprint: str | None = None
    problem: ApprovalStatus | None = None
    detail: str = ""


Revocation = tuple[Candidate, Statement]
"""A candidate that takes back, with what it says."""


def judge(
    plan: Plan,
    gate: Gate,
    candidates: Iterable[Candidate],
    *,
    now: datetime,
    authors: Iterable[str] = (),
    author_keys: frozenset[str] = frozenset(),
    passed: bool = False,
) -> GateState:
    """The gate as it stands at `now`: every candidate for it with its status, and whether the valid ones suffice.

    The plan's author, `authors` (who runs it) and whoever owns one of `author_keys` count as authors. Once the gate
    has `passed` (its first guarded step began in time) only the execute-by clock still runs. A quorum is that many
    distinct keys of that many distinct people. Approving anew after a revocation takes waiting until SKEW has passed:
    see `_taken_back`.
    """
    ours = [each for each in candidates if each.signed is None or each.signed.statement.gate == gate.name]
    revocations = _revocations(plan, ours)
    known_authors = {principal_of(each).casefold() for each in (plan.author, *authors)}
    judged = []
    for candidate in sorted(ours, key=lambda each: each.source):
        if candidate.signed is None:
            judged.append(_unreadable(gate, candidate))
        elif candidate.signed.statement.act == "revoke":
            judged += _useless_revocation(plan, gate, candidate)
        else:
            judged.append(_judged(plan, gate, candidate, revocations, known_authors, author_keys, now, passed))
    by_person = {
        each.principal: each.fingerprint
        for each in reversed(judged)
        if each.status is ApprovalStatus.VALID and each.fingerprint is not None
    }
    fingerprints = tuple(sorted(set(by_person.values())))
    return GateState(
        gate=gate.name,
        quorum=gate.quorum,
        satisfied=len(fingerprints) >= gate.quorum,
        fingerprints=fingerprints,
        approvals=tuple(judged),
    )


def _judged(
    plan: Plan,
    gate: Gate,
    candidate: Candidate,
    revocations: tuple[Revocation, ...],
    authors: set[str],
    author_keys: frozenset[str],
    now: datetime,
    passed: bool,
) -> JudgedApproval:
    assert candidate.signed is not None
    statement = candidate.signed.statement
    by_author = statement.principal.casefold() in authors | {principal_of(statement.author).casefold()}
    by_author = by_author or candidate.fingerprint in author_keys
    status, detail = (
        _unproved(plan, candidate, statement)
        or _about_something_else(plan, gate, statement)
        or _by_the_wrong_person(gate, statement, by_author, authors)
        or _out_of_time(gate, statement, now, passed)
        or _taken_back(gate, candidate, revocations)
        or (ApprovalStatus.VALID, "by the plan's author, which the gate allows" if by_author else "")
    )
    decide_by, execute_by = _clocks(gate, statement)
    return JudgedApproval(
        gate=gate.name,
        principal=statement.principal,
        fingerprint=candidate.fingerprint,
        status=status,
        detail=detail,
        reason=statement.reason,
        signed_at=statement.signed_at,
        decide_by=decide_by,
        execute_by=execute_by,
        by_author=by_author,
        source=candidate.source,
    )


def _unproved(plan: Plan, candidate: Candidate, statement: Statement) -> Objection:
    if statement.plan_name != plan.spec.metadata.name:
        return ApprovalStatus.OTHER_EFFECTS, f"it is about plan {statement.plan_name}"
    if candidate.problem is not None:
        return candidate.problem, candidate.detail
    if candidate.fingerprint is None:
        return ApprovalStatus.BAD_SIGNATURE, "its signature was not checked"
    return None


def _about_something_else(plan: Plan, gate: Gate, statement: Statement) -> Objection:
    directions = ((statement.old, statement.new, statement.term), (plan.old, plan.new, plan.term))
    if directions[0] != directions[1]:
        old, new, term = statement.old, statement.new, statement.term
        return ApprovalStatus.OTHER_EFFECTS, f"it is about moving from {old} to {new} in term {term}"
    # Ids hold positions, which move with every step that has no effect; what the steps do is in the effects' digest.
    guarded, said = without_positions(guarded_steps(plan, gate)), without_positions(statement.guarded_steps)
    if statement.effects_digest != plan.effects_digest or said != guarded:
        return ApprovalStatus.OTHER_EFFECTS, f"the plan has changed: it is about {statement.effects_digest}"
    if statement.evidence_digest != plan.evidence_digest:
        return ApprovalStatus.OTHER_EVIDENCE, f"the evidence has changed: it is about {statement.evidence_digest}"
    wanted = identities_of(plan)
    if not all(identity.known for identity in wanted.values()):
        return ApprovalStatus.OTHER_IDENTITY, "the plan does not know which databases it is about"
    if statement.identities != wanted:
        changed = sorted(name for name in wanted if statement.identities.get(name) != wanted[name])
        return ApprovalStatus.OTHER_IDENTITY, f"another database answers now as {' and '.join(changed)}"
    return None


def _by_the_wrong_person(gate: Gate, statement: Statement, by_author: bool, authors: set[str]) -> Objection:
    if statement.principal not in gate.approvers:
        return ApprovalStatus.NOT_AN_APPROVER, f"approvers are {', '.join(sorted(gate.approvers))}"
    if gate.author_may_approve:
        return None
    if by_author:
        return ApprovalStatus.AUTHOR, "whoever plans or runs may not approve"
    if "" in authors or not principal_of(statement.author):
        return ApprovalStatus.AUTHOR, "nobody is named as author, so nobody can be told from the author"
    return None


def _out_of_time(gate: Gate, statement: Statement, now: datetime, passed: bool) -> Objection:
    if statement.signed_at > now + SKEW:
        return ApprovalStatus.NOT_YET_VALID, f"signed in the future, at {statement.signed_at.isoformat()}"
    decide_by, execute_by = _clocks(gate, statement)
    if not passed and now > decide_by:
        return ApprovalStatus.EXPIRED, f"the decision was to fall by {decide_by.isoformat()}"
    if now > execute_by:
        return ApprovalStatus.EXPIRED, f"the last guarded step was to begin by {execute_by.isoformat()}"
    return None


def _clocks(gate: Gate, statement: Statement) -> tuple[datetime, datetime]:
    """Decide-by and execute-by as signed, but never later than the gate of this plan allows."""
    decide_within = timedelta(seconds=duration_s(gate.decide_within))
    execute_within = timedelta(seconds=duration_s(gate.execute_within))
    signed_at = min(statement.signed_at, _LAST)  # whoever signs later than that signs in the future, and is told so
    return (
        min(statement.decide_by, signed_at + decide_within),
        min(statement.execute_by, signed_at + execute_within),
    )


def _taken_back(gate: Gate, candidate: Candidate, revocations: tuple[Revocation, ...]) -> Objection:
    """By the newest revocation that does: an approver's, or one by the key that approved.

    What was signed until SKEW after it is taken back as well: by a clock that is ahead, an approval given before may
    say that it came later, and where order can't be told it is taken back. Whoever approves anew waits that long.
    """
    assert candidate.signed is not None
    signed_at = candidate.signed.statement.signed_at
    for revocation, said in revocations:
        entitled = revocation.fingerprint == candidate.fingerprint or said.principal in gate.approvers
        if entitled and signed_at - said.signed_at <= SKEW:
            by = said.principal if revocation.problem is None else f"{said.principal}, with a key not listed for them,"
            anew = f"an approval signed more than {SKEW.seconds} s after that counts"
            return ApprovalStatus.REVOKED, f"by {by} at {said.signed_at.isoformat()} ({said.reason!r}); {anew}"
    return None


def _revocations(plan: Plan, candidates: list[Candidate]) -> tuple[Revocation, ...]:
    """The intact revocations of exactly these effects of this gate, by whomever and whenever, newest first."""
    found = [
        (each, each.signed.statement)
        for each in candidates
        if each.signed is not None
        and each.signed.statement.act == "revoke"
        and _intact(each)
        and _same_effects(plan, each.signed.statement)
    ]
    return tuple(sorted(found, key=lambda one: (one[1].signed_at, one[0].source), reverse=True))


def _intact(candidate: Candidate) -> bool:
    """Whether some key signed exactly this, which is all that a revocation needs: when its signer's line is removed
    from allowed_signers, what they took back must not count again. So whoever may write to the folder can take back in
    an approver's name with any key; that denies, as deleting the approval would, and can never approve."""
    return candidate.fingerprint is not None and candidate.problem in (None, ApprovalStatus.UNKNOWN_SIGNER)


def _useless_revocation(plan: Plan, gate: Gate, candidate: Candidate) -> list[JudgedApproval]:
    """A revocation of these effects that takes nothing back, and why; empty for one that does or is about others."""
    assert candidate.signed is not None
    statement = candidate.signed.statement
    if not _same_effects(plan, statement) or (_intact(candidate) and statement.principal in gate.approvers):
        return []
    only_own = ApprovalStatus.NOT_AN_APPROVER, "it takes back nothing but approvals by the same key"
    objection = _unproved(plan, candidate, statement) or only_own
    return [
        JudgedApproval(
            gate=gate.name,
            principal=statement.principal,
            fingerprint=candidate.fingerprint,
            status=objection[0],
            detail=f"revocation: {objection[1]}",
            reason=statement.reason,
            signed_at=statement.signed_at,
            source=candidate.source,
        )
    ]


def _same_effects(plan: Plan, statement: Statement) -> bool:
    return (statement.plan_name, statement.effects_digest) == (plan.spec.metadata.name, plan.effects_digest)


def _unreadable(gate: Gate, candidate: Candidate) -> JudgedApproval:
    return JudgedApproval(
        gate=gate.name,
        principal="",
        fingerprint=None,
        status=ApprovalStatus.MALFORMED,
        detail=candidate.detail,
        source=candidate.source,
    )
