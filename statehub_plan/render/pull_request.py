"""A plan as Markdown for a pull request: the decisive part first, the rest folded."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.plan import Plan
from statehub_plan.render.diff import changes
from statehub_plan.render.markdown import code, document, folded, md, table
from statehub_plan.render.plan_words import (
    at_rest,
    expected_gap,
    gate_text,
    next_commands,
    not_ready,
    sorted_findings,
    summary,
    why,
    wish_text,
)
from statehub_plan.render.preflight_words import remarks_of
from statehub_plan.render.stream_words import told_streams
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.words import identity_text, mark, moment, named


def plan_markdown(plan: Plan) -> str:
    """The plan as one document; every text from the plan or the world is escaped."""
    meta = plan.spec.metadata
    head = [f"## Plan {code(meta.name)}: {md(meta.title)}", "", md(wish_text(plan))]
    for told in told_streams(plan.spec, plan.observation):
        head += ["", f"**{md(told)}**" if told.startswith("WAY BACK") else md(told)]
    if (said := not_ready(plan)) is not None:
        head += ["", f"**{md(said)}**"]
    if not plan.changes:
        return document([head, [f"**No changes.** {md(at_rest(plan))}"], _unknown(plan), _basis(plan)])
    return document(
        [
            head,
            _refused(plan),
            _changes(plan),
            _steps(plan),
            _gates(plan),
            _verdict(plan),
            _preflight(plan),
            _unknown(plan),
            _basis(plan),
        ]
    )


def _refused(plan: Plan) -> list[str]:
    if plan.refused is None:
        return []
    where = f"after step {len(plan.steps)}" if plan.steps else "before anything is touched"
    what, remedy = (named(text, plan.old, plan.new) for text in (plan.refused.what, plan.refused.remedy))
    return [f"> **Refused {where}**: {md(what)} ({code(plan.refused.code)})", f"> Remedy: {md(remedy)}"]


def _changes(plan: Plan) -> list[str]:
    rows = [(code(one.mark), code(one.fact), md(one.now), md(one.after)) for one in changes(plan)]
    return ["### Changes", "", *table(("", "Fact", "Now", "After"), rows)] if rows else []


def _steps(plan: Plan) -> list[str]:
    if not plan.steps:
        return []
    rows = [
        (str(number), _cost(mark(step)), md(step.title), md(why(plan, step)), code(step.gate or ""))
        for number, step in enumerate(plan.steps, start=1)
    ]
    gap = expected_gap(plan)
    told = [md(summary(plan)), *(["", md(gap)] if gap else [])]
    return ["### Steps", "", *told, "", *table(("#", "Cost", "Step", "Why", "Gate"), rows)]


def _cost(said: str) -> str:
    return f"**{said}**" if said.isupper() else said


def _gates(plan: Plan) -> list[str]:
    guarding = {step.gate for step in plan.steps}
    lines = [f"- {md(gate_text(plan, gate))}" for gate in plan.spec.spec.gates if gate.name in guarding]
    return ["### Gates", "", *lines] if lines else []


def _verdict(plan: Plan) -> list[str]:
    if plan.verdict is None:
        return []
    said = "Policies allow this" if plan.verdict.allowed else "Policies veto this"
    rows = [
        (one.level.value, code(one.code), md(one.step or ""), md(one.message), md(one.remedy))
        for one in sorted_findings(plan.verdict.findings)
    ]
    found = ["", *table(("Level", "Code", "Step", "Message", "Remedy"), rows)] if rows else []
    return [f"### {said}", "", f"{len(plan.verdict.evaluated)} policies were evaluated.", *found]


def _preflight(plan: Plan) -> list[str]:
    rows = [
        (one.severity.value, code(one.id), code(one.where), md(one.what), md(one.remedy)) for one in remarks_of(plan)
    ]
    return ["### Pre-flight", "", *table(("Severity", "Check", "Where", "What", "Remedy"), rows)] if rows else []


def _unknown(plan: Plan) -> list[str]:
    lines = [f"- {md(group.text(most=8))}" for group in gather_unknown(plan.observation)]
    lines += [
        f"- evidence {md(one.task)}/{md(one.probe)} {one.status.value}: {md(one.detail)}"
        for one in plan.evidence
        if one.status != "passed"
    ]
    return ["### Not known or not shown", "", *lines] if lines else []


def _basis(plan: Plan) -> list[str]:
    return folded("Identities, digests and what to run", _basis_lines(plan))


def _basis_lines(plan: Plan) -> Iterator[str]:
    for role, name in (("old", plan.old), ("new", plan.new)):
        yield f"- {role} {code(name)}: {md(identity_text(plan.identities.get(name)))}"
    yield f"- made {moment(plan.created_at)} by {md(plan.author)} with statehub-plan {md(plan.tool_version)}"
    if plan.steps:
        yield f"- effects {code(plan.effects_digest)}, to which approvals are bound"
    yield f"- evidence {code(plan.evidence_digest)}"
    yield f"- document {code(plan.spec_digest)}"
    for command in next_commands(plan, "PLANFILE") if plan.changes else ():
        yield f"- next: {code(command)}"
