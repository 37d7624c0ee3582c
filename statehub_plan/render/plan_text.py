"""A plan on a screen: what changes, every step with its why, what is not known, what policies say, what to run next."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.plan import Plan
from statehub_plan.render.diff import changes
from statehub_plan.render.plan_words import (
    at_rest,
    expected_gap,
    gate_text,
    next_commands,
    not_ready,
    summary,
    why,
    wish_text,
)
from statehub_plan.render.preflight import remark_lines
from statehub_plan.render.preflight_words import in_the_way, remarks_of
from statehub_plan.render.stream_words import told_streams
from statehub_plan.render.text import RenderableType, columns, hanging, heading, line, stack
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.verdict import verdict_view
from statehub_plan.render.words import counted, identity_text, mark, moment, named

_STYLES = {"+": "green", "-": "red", "~": "yellow", "?": "magenta"}
_MARK_STYLES = {"HOLD": "yellow", "FREEZE": "red", "NO RETURN": "bold red"}
_MOST_UNKNOWN = 6


def plan_view(plan: Plan, *, saved_as: str | None) -> RenderableType:
    """The whole plan; `saved_as` is the file that holds it, if it was saved. Readable without colour."""
    parts = [*_head(plan)]
    if not plan.changes:
        parts += [heading("No changes."), line(at_rest(plan), indent=2), *_unknown(plan)]
        return stack(parts)
    parts += [
        *_changes(plan),
        *_steps(plan),
        *_refused(plan),
        *_preflight(plan),
        *_unknown(plan),
        line(""),
        verdict_view(plan.verdict, refusal_told=plan.refused is not None),
        *_next(plan, saved_as),
    ]
    return stack(parts)


def _head(plan: Plan) -> Iterator[RenderableType]:
    meta = plan.spec.metadata
    yield line(f"Plan {meta.name}: {meta.title} (made {moment(plan.created_at)} by {plan.author})", style="bold")
    yield line(wish_text(plan), indent=2)
    rows = [(role, name, identity_text(plan.identities.get(name))) for role, name in _roles(plan)]
    yield columns(rows, indent=2)
    for told in told_streams(plan.spec, plan.observation):
        yield line(told, indent=2, style="bold red" if told.startswith("WAY BACK") else "")
    if (said := not_ready(plan)) is not None:
        yield line(said, indent=2, style="bold red")


def _roles(plan: Plan) -> tuple[tuple[str, str], ...]:
    return ("old", plan.old), ("new", plan.new)


def _changes(plan: Plan) -> Iterator[RenderableType]:
    found = changes(plan)
    if not found:
        return
    rows = [(change.mark, change.fact, change.now, "→", change.after) for change in found]
    yield heading("Changes (fact: now → after)")
    yield columns(rows, indent=2, styles=[_STYLES[change.mark] for change in found])


def _steps(plan: Plan) -> Iterator[RenderableType]:
    if not plan.steps:
        return
    yield heading(f"Plan: {summary(plan)}")
    gap = expected_gap(plan)
    if gap is not None:
        yield line(gap, indent=2)
    gates = {gate.name: gate for gate in plan.spec.spec.gates}
    shown: set[str] = set()
    for number, step in enumerate(plan.steps, start=1):
        if step.gate is not None and step.gate not in shown:
            shown.add(step.gate)
            yield line(f"══ gate {gate_text(plan, gates[step.gate])}", indent=2, style="bold")
        style = _MARK_STYLES.get(mark(step), "")
        yield hanging((str(number), mark(step)), step.title, widths=(2, 9), indent=2, style=style)
        yield hanging(("", ""), why(plan, step), widths=(2, 9), indent=2, style="dim")


def _refused(plan: Plan) -> Iterator[RenderableType]:
    if plan.refused is None:
        return
    where = f"after step {len(plan.steps)}" if plan.steps else "before anything is touched"
    yield heading(f"REFUSED {where}: {named(plan.refused.what, plan.old, plan.new)} [{plan.refused.code}]")
    yield line(f"remedy: {named(plan.refused.remedy, plan.old, plan.new)}", indent=2)


def _preflight(plan: Plan) -> Iterator[RenderableType]:
    """What the checks object to, while the target is still to be made ready."""
    remarks = remarks_of(plan)
    if remarks:
        errors = in_the_way(plan)
        said = f"{counted(errors, 'thing')} in the way" if errors else f"{counted(len(remarks), 'remark')}"
        yield heading(f"Pre-flight: {said} (`doctor` says more)")
        yield from remark_lines(remarks, sided=True)


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


def _next(plan: Plan, saved_as: str | None) -> Iterator[RenderableType]:
    yield heading("Next")
    for text in next_commands(plan, saved_as):
        yield line(text, indent=2)
    if plan.steps:
        yield line(f"approvals are bound to effects {plan.effects_digest}", indent=2, style="dim")
