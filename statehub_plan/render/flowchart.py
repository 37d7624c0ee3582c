"""A plan as a Mermaid flowchart: steps, gates, the point of no return, and what a crash in each step leaves."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.plan import Plan, Step
from statehub_plan.model.steps import StepClass
from statehub_plan.render.diff import value_text
from statehub_plan.render.plan_words import at_rest, wish_text
from statehub_plan.render.words import approvals_needed, mark, named, plain
from statehub_plan.transitions import crashes
from statehub_plan.world import Role, World, difference

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:/-_+→§…")
_BREAK = "<br/>"
_CLASSES = (
    "classDef online fill:#eef6ee,stroke:#4a7a4a,color:#102010",
    "classDef hold fill:#fff3d6,stroke:#a87900,color:#2b2000",
    "classDef decision fill:#fde2e0,stroke:#b3261e,color:#410e0b",
    "classDef after fill:#e3ecfb,stroke:#31599b,color:#0b1d3a",
    "classDef gate fill:#f0e6fb,stroke:#6a3fa0,color:#22063f,stroke-width:2px",
    "classDef crash fill:#ffffff,stroke:#777777,color:#333333,stroke-dasharray:4 3",
)
_STYLE = {
    StepClass.READ: "online",
    StepClass.ONLINE: "online",
    StepClass.HOLD: "hold",
    StepClass.DECISION: "decision",
    StepClass.AFTER: "after",
}


def plan_mermaid(plan: Plan) -> str:
    """The flowchart. Labels are quoted and every unusual character is an entity code, so that no text of the plan can
    end a label (Mermaid, flowchart syntax, entity codes to escape characters)."""
    return "\n".join(("flowchart TD", *(f"  {line}" for line in (*_lines(plan), *_CLASSES)))) + "\n"


def label(*lines: str) -> str:
    """Lines as one quoted label."""
    return '"' + _BREAK.join("".join(_escaped(sign) for sign in plain(line)) for line in lines) + '"'


def _escaped(sign: str) -> str:
    return sign if sign in _SAFE else f"#{ord(sign)};"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"now([{label('now', wish_text(plan) if plan.changes else at_rest(plan))}])"
    before = "now"
    gates = {gate.name: gate for gate in plan.spec.spec.gates}
    shown: set[str] = set()
    for number, step in enumerate(plan.steps, start=1):
        if step.gate is not None and step.gate not in shown:
            shown.add(step.gate)
            gate = gates[step.gate]
            name = f"g{len(shown)}"
            yield f"{name}{{{{{label('gate ' + gate.name, gate.title, approvals_needed(gate))}}}}}:::gate"
            yield f"{before} --> {name}"
            before = name
        yield _node(number, step)
        yield f"{before} --> s{number}"
        yield from _crash(plan, number, step)
        before = f"s{number}"
    yield from _end(plan, before)


def _node(number: int, step: Step) -> str:
    text = label(f"{number} {mark(step)}", step.title)
    final = mark(step) == "NO RETURN"
    return f"s{number}{'[[' if final else '['}{text}{']]' if final else ']'}:::{_STYLE[step.step_class]}"


def _crash(plan: Plan, number: int, step: Step) -> Iterator[str]:
    role = Role.OLD if step.subject == plan.old else Role.NEW
    before, after = plan.trajectory[number - 1], plan.trajectory[number]
    left = dict.fromkeys(_left(plan, before, after, world) for world in crashes(step.kind, before, role))
    yield f"s{number} -. crash .-> c{number}({label('a crash here leaves', *_joined(tuple(left)))}):::crash"


def _left(plan: Plan, before: World, after: World, world: World) -> str:
    """One world that a crash leaves, told as the difference from the world before the step."""
    if world == before:
        return "the world as before the step"
    if world == after:
        return "the world as after the step"
    return ", ".join(_renamed(plan, before, world))


def _renamed(plan: Plan, before: World, world: World) -> Iterator[str]:
    for line in difference(before, world):
        fact, _, values = line.partition(": ")
        for role, name in (("old.", plan.old), ("new.", plan.new)):
            fact = fact.replace(role, f"{name}.", 1) if fact.startswith(role) else fact
        if fact in ("access", "primary"):
            then = getattr(world, fact)
            yield f"{fact}: {value_text(plan, then)}"
        else:
            yield f"{fact}: {values}"


def _joined(left: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text if index == 0 else f"or {text}" for index, text in enumerate(left))


def _end(plan: Plan, before: str) -> Iterator[str]:
    if plan.refused is not None:
        what = named(plan.refused.what, plan.old, plan.new)
        yield f"refused{{{label('REFUSED', what, plan.refused.remedy)}}}:::decision"
        yield f"{before} --> refused"
    elif plan.steps:
        yield f"wish([{label('the wish holds', at_rest(plan).removesuffix(': nothing to do.'))}])"
        yield f"{before} --> wish"
