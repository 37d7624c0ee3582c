"""Every way in which a run says no, as errors with their exit status. Pure."""

from __future__ import annotations

import psycopg

from statehub_plan.errors import Exit, OutcomeUnknown, Refusal, StatehubError
from statehub_plan.model.plan import Plan, Refused, Step, Verdict
from statehub_plan.model.record import GateState


def nothing_planned(found: Refused) -> Refusal:
    """A plan that is nothing but a refusal: there is no step to carry out, whatever has changed since."""
    hint = f"{found.remedy}; then make the plan again"
    return Refusal(code=found.code, what=f"this plan has no steps, it was refused: {found.what}", hint=hint)


def refused(found: Refused) -> Refusal:
    """The planner's refusal."""
    return Refusal(code=found.code, what=found.what, hint=found.remedy)


def nothing_to_rehearse(plan: Plan) -> Refusal:
    """Somebody asked for a rehearsal of a move that has none."""
    return Refusal(
        code="nothing-to-rehearse",
        what=f"this plan holds no writes on {plan.old} to move them to {plan.new} by replication",
        hint="only a cutover by replication is rehearsed, and only before it; `show` says what the plan does",
    )


def vetoed(verdict: Verdict) -> Refusal:
    """The policies' refusal with every finding and its remedy."""
    details = tuple(
        f"{finding.level.value} {finding.code}: {finding.message} (remedy: {finding.remedy})"
        for finding in verdict.findings
    )
    return Refusal(
        code="vetoed",
        what=f"policies veto this at phase {verdict.phase.value}",
        hint="`policy explain CODE` says which incident each rule prevents",
        exit_status=Exit.VETOED,
        details=details,
    )


def not_approved(state: GateState, step: Step) -> Refusal:
    """The gate's refusal with what became of every approval that was found for it."""
    details = tuple(f"{one.principal or one.source}: {one.status.value}: {one.detail}" for one in state.approvals) or (
        "no approval found for this gate",
    )
    return Refusal(
        code="approval-missing",
        what=f"gate {state.gate} in front of {step.title!r} has {len(state.fingerprints)} of {state.quorum} approvals",
        hint=f"an approver runs `statehub-plan approve PLANFILE --gate {state.gate} --key KEY --reason WHY`, with "
        "their own SSH key",
        exit_status=Exit.APPROVAL_MISSING,
        details=details,
    )


def world_differs(step: Step, surprises: tuple[str, ...]) -> OutcomeUnknown:
    """A step ran and the world afterwards is not the one that it leads to."""
    return OutcomeUnknown(
        code="world-differs",
        what=f"after {step.id} the world is not what the model says",
        hint="`observe` shows what is there now; run `apply` again once the difference is understood",
        details=surprises,
    )


def database_failed(step: Step | None, error: psycopg.Error) -> StatehubError:
    """What a server said, or that it went away."""
    return StatehubError(
        code="database-error",
        what=f"the database refused or went away during {named(step)}: {str(error).strip() or type(error).__name__}",
        hint="look at the server's log, then run `apply` again; it observes first and repeats nothing blindly",
    )


def interrupted(step: Step | None) -> StatehubError:
    """Somebody pressed Ctrl-C, ended this process or closed its terminal."""
    return StatehubError(
        code="interrupted",
        what=f"interrupted during {named(step)}",
        hint="run `apply` again to go on; before the decision, `abort` keeps the present primary",
    )


def named(step: Step | None) -> str:
    """The step for a sentence with `during`."""
    return step.id if step is not None else "the look at the world"
