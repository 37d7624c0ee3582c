"""What an approver signs, and the words in which it is shown before signing. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal

from statehub_plan.errors import Exit, Refusal
from statehub_plan.model.plan import Identity, Plan
from statehub_plan.model.record import Statement
from statehub_plan.model.spec import Gate, duration_s

_UNKNOWN = Identity()
_MAX_REASON = 2000


def statement_for(
    plan: Plan, gate: Gate, *, act: Literal["approve", "revoke"], principal: str, reason: str, now: datetime, nonce: str
) -> Statement:
    """The statement about `gate` of `plan`, its clocks counted from `now`; `nonce` makes it unlike every other.

    Refusal when signing it could not count: the plan reaches nothing or has no step behind this gate, an endpoint's
    identity is unknown, `principal` is no approver, or is the author where the author may not approve. A revocation
    is refused only for an empty reason: taking back must always be possible.
    """
    reason = reason.strip()
    if not reason or len(reason) > _MAX_REASON:
        raise _refusal("approval-reason", f"an approval needs a reason of 1 to {_MAX_REASON} characters", "say why")
    if act == "approve":
        _require_approvable(plan, gate, principal)
    return Statement(
        act=act,
        plan_name=plan.spec.metadata.name,
        gate=gate.name,
        effects_digest=plan.effects_digest,
        evidence_digest=plan.evidence_digest,
        old=plan.old,
        new=plan.new,
        identities=identities_of(plan),
        term=plan.term,
        guarded_steps=guarded_steps(plan, gate),
        principal=principal,
        author=plan.author,
        signed_at=now,
        decide_by=now + timedelta(seconds=duration_s(gate.decide_within)),
        execute_by=now + timedelta(seconds=duration_s(gate.execute_within)),
        reason=reason,
        nonce=nonce,
    )


def approval_text(statement: Statement, plan: Plan) -> str:
    """Exactly what `statement` says, in words, with the plan's steps; plain text for a terminal.

    ValueError when the statement is not about this plan: what is shown must be what is signed. Characters that could
    move the cursor or turn the direction of text are written as escapes.
    """
    if (statement.effects_digest, statement.evidence_digest) != (plan.effects_digest, plan.evidence_digest):
        raise ValueError("the statement is about another plan")
    gate = next(gate for gate in plan.spec.spec.gates if gate.name == statement.gate)
    verb = "APPROVE" if statement.act == "approve" else "REVOKE the approvals of"
    lines = [
        f"{verb} gate {gate.name}: {gate.title}",
        f"Plan {statement.plan_name}: move the primary from {statement.old} to {statement.new}, term {statement.term}",
        "",
        "Steps (* = guarded by this gate):",
        *(
            f"  {'*' if step.id in statement.guarded_steps else ' '} {number:2}. {step.title}"
            for number, step in enumerate(plan.steps, start=1)
        ),
        "",
        "Endpoints, bound by identity:",
        *(
            f"  {role} {name}: {_identity_text(statement.identities[name])}"
            for role, name in (("old", statement.old), ("new", statement.new))
        ),
        "",
        f"Signed at        {_moment(statement.signed_at)} by {statement.principal}",
        f"Plan's author    {statement.author}",
    ]
    if statement.act == "approve":
        lines += [
            f"Decide by        {_moment(statement.decide_by)}  (the first guarded step begins)",
            f"Execute by       {_moment(statement.execute_by)}  (the last guarded step begins)",
        ]
    lines += [
        f"Reason           {statement.reason}",
        f"Effects digest   {statement.effects_digest}",
        f"Evidence digest  {statement.evidence_digest}",
    ]
    return "".join(f"{printable(line)}\n" for line in lines)


def printable(text: str) -> str:
    """The text with every control, format (bidirectional) and unusual separator character as an escape."""
    return "".join(sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}" for sign in text)


def guarded_steps(plan: Plan, gate: Gate) -> tuple[str, ...]:
    """The ids of the plan's steps that stand behind the gate, in order."""
    return tuple(step.id for step in plan.steps if step.gate == gate.name)


def without_positions(step_ids: tuple[str, ...]) -> tuple[str, ...]:
    """What the ids say but for where in the plan each stands: a backup that is due moves every step after it."""
    return tuple(re.sub(r"^\d+-", "", each) for each in step_ids)


def identities_of(plan: Plan) -> dict[str, Identity]:
    """The identity of both endpoints by name; one that the plan does not have is unknown."""
    return {name: plan.identities.get(name, _UNKNOWN) for name in (plan.old, plan.new)}


def principal_of(author: str) -> str:
    """The principal in an author such as `Alice <alice@ops>` or `alice@ops`; empty when there is none."""
    bracketed = re.search(r"<([^<>]*)>\s*$", author)
    return (bracketed[1] if bracketed else author).strip()


def _require_approvable(plan: Plan, gate: Gate, principal: str) -> None:
    if plan.refused is not None or not guarded_steps(plan, gate):
        why = plan.refused.what if plan.refused else f"no step of it stands behind gate {gate.name}"
        raise _refusal("nothing-to-approve", f"there is nothing to approve in this plan: {why}", "plan again first")
    unknown = [name for name, identity in identities_of(plan).items() if not identity.known]
    if unknown:
        raise _refusal(
            "identity-unknown",
            f"the identity of {' and '.join(unknown)} was not observed; an approval must name both databases",
            "make the endpoint reachable and plan again",
        )
    if principal not in gate.approvers:
        raise _refusal(
            "not-an-approver",
            f"{principal} is not an approver of gate {gate.name}",
            f"ask one of {', '.join(sorted(gate.approvers))}",
        )
    if not gate.author_may_approve and principal_of(plan.author).casefold() == principal.casefold():
        raise _refusal(
            "author-approves",
            f"{principal} is the author of this plan, and gate {gate.name} wants somebody else",
            "ask another approver; only `authorMayApprove: true` in the plan would change this",
        )


def _refusal(code: str, what: str, hint: str) -> Refusal:
    return Refusal(code=code, what=what, hint=hint, exit_status=Exit.APPROVAL_MISSING)


def _identity_text(identity: Identity) -> str:
    if not identity.known:
        return "unknown"
    return f"system {identity.system_identifier}, database {identity.database} (OID {identity.database_oid})"


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
