"""A plan on a screen: what changes, every step with its why, what is not known, what policies say, what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from statehub_plan.model.plan import Direction, Finding, Level, Plan, Step
from statehub_plan.model.spec import Gate
from statehub_plan.model.steps import StepClass
from statehub_plan.render.diff import changes
from statehub_plan.render.text import RenderableType, columns, hanging, heading, line, stack
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.words import approvals_needed, counted, identity_text, mark, moment, named

_GRAVITY = (Level.HARD, Level.SOFT, Level.ADVISORY)
_STYLES = {"+": "green", "-": "red", "~": "yellow", "?": "magenta"}
_MARK_STYLES = {"HOLD": "yellow", "FREEZE": "red", "NO RETURN": "bold red"}
_LEVEL_STYLES = {Level.HARD: "bold red", Level.SOFT: "yellow", Level.ADVISORY: "cyan"}
_MOST_UNKNOWN = 6


def plan_view(plan: Plan, *, saved_as: str | None) -> RenderableType:
    """The whole plan; `saved_as` is the file that holds it, if it was saved. Readable without colour."""
    parts = [*_head(plan)]
    if not plan.changes:
        parts += [heading("No changes."), line(_at_rest(plan), indent=2), *_unknown(plan)]
        return stack(parts)
    parts += [*_changes(plan), *_steps(plan), *_refused(plan), *_unknown(plan), *_verdict(plan), *_next(plan, saved_as)]
    return stack(parts)


def wish_text(plan: Plan) -> str:
    """`forward: railiance01 becomes primary instead of wsl2, which stays as frozen fallback; decision term 1`."""
    mode = plan.spec.spec.desired.fallback.mode.value
    keeps = plan.trajectory[0].primary.value == "new"
    moves = f"{plan.new} stays primary" if keeps else f"{plan.new} becomes primary instead of {plan.old}"
    fallback = f"{plan.old} is retired" if mode == "retired" else f"{plan.old} is the {mode} fallback"
    term = "" if keeps else f"; decision term {plan.term}"
    return f"{plan.direction.value}: {moves}, {fallback}{term}"


def _head(plan: Plan) -> Iterator[RenderableType]:
    meta = plan.spec.metadata
    yield line(f"Plan {meta.name}: {meta.title}", style="bold")
    yield line(wish_text(plan), indent=2)
    rows = [(role, name, identity_text(plan.identities.get(name))) for role, name in _roles(plan)]
    yield columns(rows, indent=2)
    yield line(f"made {moment(plan.created_at)} by {plan.author}", indent=2, style="dim")


def _roles(plan: Plan) -> tuple[tuple[str, str], ...]:
    return ("old", plan.old), ("new", plan.new)


def _at_rest(plan: Plan) -> str:
    mode = plan.spec.spec.desired.fallback.mode.value
    return f"{plan.new} is primary, clients are pointed at it, and {plan.old} is its {mode} fallback: nothing to do."


def _changes(plan: Plan) -> Iterator[RenderableType]:
    found = changes(plan)
    if not found:
        return
    rows = [(change.mark, change.fact, change.now, "→", change.after) for change in found]
    yield heading("Changes (fact: now → after)")
    yield columns(rows, indent=2, styles=[_STYLES[change.mark] for change in found])


def summary(plan: Plan) -> str:
    """How many steps of which kind, in one line."""
    counts = {one: sum(step.step_class is one for step in plan.steps) for one in StepClass}
    before = counts[StepClass.READ] + counts[StepClass.ONLINE]
    parts = (
        (before, "with writers going on"),
        (counts[StepClass.HOLD], "while writers wait"),
        (counts[StepClass.DECISION], "that freeze or decide"),
        (counts[StepClass.AFTER], "after"),
    )
    return f"{counted(len(plan.steps), 'step')}: " + ", ".join(f"{count} {what}" for count, what in parts if count)


def _steps(plan: Plan) -> Iterator[RenderableType]:
    if not plan.steps:
        return
    yield heading(f"Plan: {summary(plan)}")
    gates = {gate.name: gate for gate in plan.spec.spec.gates}
    shown: set[str] = set()
    for number, step in enumerate(plan.steps, start=1):
        if step.gate is not None and step.gate not in shown:
            shown.add(step.gate)
            yield line(f"══ gate {gate_text(plan, gates[step.gate])}", indent=2, style="bold")
        style = _MARK_STYLES.get(mark(step), "")
        yield hanging((str(number), mark(step)), step.title, widths=(2, 9), indent=2, style=style)
        yield hanging(("", ""), why(plan, step), widths=(2, 9), indent=2, style="dim")


def gate_text(plan: Plan, gate: Gate) -> str:
    """The gate, what it guards in this plan and what opens it, in one line."""
    guarded = [str(number) for number, step in enumerate(plan.steps, start=1) if step.gate == gate.name]
    clocks = f"decide within {gate.decide_within}, execute within {gate.execute_within}"
    steps = f"step{'s' if len(guarded) > 1 else ''} {', '.join(guarded)}"
    return f"{gate.name}, {steps}: {approvals_needed(gate)}; {clocks}"


def why(plan: Plan, step: Step) -> str:
    """`serves …, because …`, with the endpoints' names."""
    return f"serves {step.serves}, because {named(step.because, plan.old, plan.new)}"


def _refused(plan: Plan) -> Iterator[RenderableType]:
    if plan.refused is None:
        return
    where = f"after step {len(plan.steps)}" if plan.steps else "before anything is touched"
    yield heading(f"REFUSED {where}: {named(plan.refused.what, plan.old, plan.new)} [{plan.refused.code}]")
    yield line(f"remedy: {named(plan.refused.remedy, plan.old, plan.new)}", indent=2)


def _unknown(plan: Plan) -> Iterator[RenderableType]:
    groups = gather_unknown(plan.observation)
    evidence = [one for one in plan.evidence if one.status != "passed"]
    if not groups and not evidence:
        return
    yield heading("Not known or not shown")
    for group in groups[:_MOST_UNKNOWN]:
        yield line(f"? {group.text()}", indent=2, style="magenta")
    if len(groups) > _MOST_UNKNOWN:
        yield line(f"… and {len(groups) - _MOST_UNKNOWN} more: `observe --unknown` lists all", indent=2)
    for one in evidence:
        sign = "?" if one.status == "unknown" else "✗"
        yield line(f"{sign} evidence {one.task}/{one.probe} {one.status}: {one.detail}", indent=2, style="magenta")


def _verdict(plan: Plan) -> Iterator[RenderableType]:
    verdict = plan.verdict
    if verdict is None:
        yield heading("Policies: not asked" if plan.steps else "Policies: nothing to judge")
        return
    said = "allow" if verdict.allowed else "VETO"
    counts = ", ".join(
        f"{counted(count, level.value + ' finding')}"
        for level in _GRAVITY
        if (count := sum(finding.level is level for finding in verdict.findings))
    )
    yield heading(f"Policies {said} this ({len(verdict.evaluated)} evaluated{', ' + counts if counts else ''})")
    for finding in sorted_findings(verdict.findings):
        yield from _finding(finding)


def sorted_findings(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Hard before soft before advisory, then by code."""
    return tuple(sorted(findings, key=lambda one: (_GRAVITY.index(one.level), one.code, one.step or "")))


def _finding(finding: Finding) -> Iterator[RenderableType]:
    where = f" at {finding.step}" if finding.step else ""
    text = f"{finding.code}{where}: {finding.message}"
    yield hanging((finding.level.value,), text, widths=(8,), indent=2, style=_LEVEL_STYLES[finding.level])
    yield hanging(("",), f"remedy: {finding.remedy}", widths=(8,), indent=2)


def _next(plan: Plan, saved_as: str | None) -> Iterator[RenderableType]:
    yield heading("Next")
    for text in next_commands(plan, saved_as):
        yield line(text, indent=2)
    yield line(f"approvals are bound to effects {plan.effects_digest}", indent=2, style="dim")


def next_commands(plan: Plan, saved_as: str | None) -> tuple[str, ...]:
    """What a person runs now, or why nothing can be run."""
    if plan.refused is not None and not plan.steps:
        return ("mend what the refusal names, then plan again",)
    if plan.verdict is not None and not plan.verdict.allowed:
        return ("mend what the policies object to, then plan again; `statehub-plan policy explain CODE` says more",)
    if saved_as is None:
        verb = "plan" if plan.direction is Direction.FORWARD else plan.direction.value
        return (f"save it first: statehub-plan {verb} {shlex.quote(plan.spec_path)} -out FILE",)
    file = shlex.quote(saved_as)
    used = dict.fromkeys(step.gate for step in plan.steps if step.gate is not None)
    approve = [f'statehub-plan approve {file} --gate {gate} --key YOUR_SSH_KEY --reason "…"' for gate in used]
    return (*approve, f"statehub-plan apply {file}")
