"""Sentences about a plan that every form of it says alike. Pure."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from statehub_plan.model.plan import Direction, Finding, Level, Plan, Step
from statehub_plan.model.spec import FallbackMode, Gate, TransferMethod
from statehub_plan.model.steps import StepClass, StepKind
from statehub_plan.render.preflight_words import in_the_way
from statehub_plan.render.words import approvals_needed, counted, moment, named
from statehub_plan.world import Role

_DEFERRED = "deferred_lanes.waiting"
GRAVITY = (Level.HARD, Level.SOFT, Level.ADVISORY)


def wish_text(plan: Plan) -> str:
    """`forward: railiance01 becomes primary instead of wsl2, wsl2 is the frozen fallback; decision term 1`."""
    mode = plan.spec.spec.desired.fallback.mode
    keeps = plan.trajectory[0].primary is Role.NEW
    moves = f"{plan.new} stays primary" if keeps else f"{plan.new} becomes primary instead of {plan.old}"
    retired = mode is FallbackMode.RETIRED
    fallback = f"{plan.old} is retired" if retired else f"{plan.old} is the {mode.value} fallback"
    term = "" if keeps else f"; decision term {plan.term}"
    return f"{plan.direction.value}: {moves}, {fallback}{term}"


def at_rest(plan: Plan) -> str:
    """What holds when there is nothing to do."""
    mode = plan.spec.spec.desired.fallback.mode.value
    return f"{plan.new} is primary, clients are pointed at it, and {plan.old} is its {mode} fallback: nothing to do."


def not_ready(plan: Plan) -> str | None:
    """What is in the way although policies, which judge other things, may allow it; None where nothing is."""
    count = in_the_way(plan)
    if not count:
        return None
    return f"IN THE WAY: {counted(count, 'error')} of the pre-flight checks; `apply` refuses before it touches anything"


def summary(plan: Plan) -> str:
    """How many steps of which kind, in one line."""
    counts = {one: sum(step.step_class is one for step in plan.steps) for one in StepClass}
    parts = (
        (counts[StepClass.READ] + counts[StepClass.ONLINE], "with writers going on"),
        (counts[StepClass.HOLD], "while writers wait"),
        (counts[StepClass.DECISION], "that freeze or decide"),
        (counts[StepClass.AFTER], "after"),
    )
    return f"{counted(len(plan.steps), 'step')}: " + ", ".join(f"{count} {what}" for count, what in parts if count)


def expected_gap(plan: Plan) -> str | None:
    """How long writers will wait, where that is rehearsed; None for a plan that holds nothing, or for as long as a copy
    takes."""
    kinds = {step.kind for step in plan.steps}
    if StepKind.HOLD not in kinds or plan.spec.spec.transfer.method is TransferMethod.DUMP:
        return None
    receipt = plan.observation.value("rehearsal")
    if StepKind.REHEARSE in kinds or not isinstance(receipt, dict):
        return "Expected write gap: not known before the rehearsal"
    predicted, at = receipt.get("predicted_gap_ms"), receipt.get("at")
    if not isinstance(predicted, int | float) or not isinstance(at, int):
        return "Expected write gap: not in the rehearsal's receipt"
    limit, when = plan.spec.spec.freeze.switch_timeout, moment(datetime.fromtimestamp(at, UTC))
    held = receipt.get("predicted_hold_ms")
    back = f", of which clients take {predicted - held:.0f} to come back" if isinstance(held, int | float) else ""
    return f"Expected write gap: {predicted:.0f} ms{back}, as rehearsed {when}; everything is released after {limit}"


def why(plan: Plan, step: Step) -> str:
    """`serves …, because …`, with the endpoints' names."""
    return f"serves {step.serves}, because {named(step.because, plan.old, plan.new)}"


def gate_text(plan: Plan, gate: Gate) -> str:
    """The gate, what it guards in this plan and what opens it, in one line."""
    guarded = [str(number) for number, step in enumerate(plan.steps, start=1) if step.gate == gate.name]
    clocks = f"decide within {gate.decide_within}, execute within {gate.execute_within}"
    steps = f"step{'s' if len(guarded) > 1 else ''} {', '.join(guarded)}"
    return f"{gate.name}, {steps}: {approvals_needed(gate)}; {clocks}"


def sorted_findings(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Hard before soft before advisory, then by code."""
    return tuple(sorted(findings, key=lambda one: (GRAVITY.index(one.level), one.code, one.step or "")))


def next_commands(plan: Plan, saved_as: str | None) -> tuple[str, ...]:
    """What a person runs now, or why nothing can be run."""
    if plan.refused is not None and not plan.steps:
        return ("mend what the refusal names, then plan again",)
    if plan.verdict is not None and not plan.verdict.allowed:
        return ("mend what the policies object to, then plan again; `statehub-plan policy explain CODE` says more",)
    waiting = [one for one in plan.verdict.findings if one.code == _DEFERRED] if plan.verdict is not None else []
    if waiting:
        return (f"wait: {waiting[0].message}; `apply` is vetoed before that, and `status` shows each criterion",)
    if in_the_way(plan):
        mend = f"mend what pre-flight objects to; `statehub-plan doctor {shlex.quote(plan.spec_path)}` looks again"
        if saved_as is None:
            return mend, "then plan again"
        return mend, "then approve and apply this plan, or plan again if the document had to be changed for it"
    if saved_as is None:
        verb = "plan" if plan.direction is Direction.FORWARD else plan.direction.value
        return (f"save it first: statehub-plan {verb} {shlex.quote(plan.spec_path)} -out FILE",)
    file = shlex.quote(saved_as)
    used = dict.fromkeys(step.gate for step in plan.steps if step.gate is not None)
    approve = [f'statehub-plan approve {file} --gate {gate} --key YOUR_SSH_KEY --reason "…"' for gate in used]
    return (*approve, f"statehub-plan apply {file}")
