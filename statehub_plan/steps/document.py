"""`document`: the operating model, written from observed facts and the journal, whole or not at all."""

from __future__ import annotations

import os

from pydantic import JsonValue

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Step
from statehub_plan.model.steps import StepKind
from statehub_plan.registers import Register, identity_of, read_register
from statehub_plan.render import operating_model_markdown
from statehub_plan.steps.stage import Stage

_LOOKS = 3


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Writes the document and records its place; Refusal when the plan names none, StatehubError while it cannot be
    observed who is primary: nothing is written about a term that nobody can see."""
    wanted = stage.plan.spec.spec.operating_model
    if wanted is None:
        raise Refusal(
            code="document-undeclared",
            what="the plan names no operating model to write",
            hint="declare `operatingModel.path`",
        )
    observation, register = _seen(stage)
    path = stage.base_dir / wanted.path
    text = operating_model_markdown(stage.plan, observation, stage.records(), stage.now())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StatehubError(
            code="document-unwritable",
            what=f"the operating model could not be written to {path}: {error.strerror or error}",
            hint="make the folder writable and run `apply` again",
        ) from None
    about = identity_of(observation, str(register.primary)).model_dump(mode="json")
    payload: dict[str, JsonValue] = {"term": register.decided, "identity": about, "path": wanted.path}
    stage.record_fact(StepKind.DOCUMENT.value, "passed", payload)
    return {"summary": f"wrote {wanted.path}", "path": wanted.path}


def _seen(stage: Stage) -> tuple[Observation, Register]:
    """Looked at again where it is only slow to answer: nobody waits for this step."""
    for _ in range(_LOOKS):
        observation, _ = stage.look()
        register = read_register(stage.plan.spec, observation)
        if register.primary is not None:
            return observation, register
    facts = [observation.get(f"{name}.register") for name in stage.plan.spec.spec.endpoints]
    raise StatehubError(
        code="primary-unknown",
        what=f"the operating model was not written: who is primary could not be observed: {register.basis}",
        hint="make both databases reachable and run `apply` again",
        details=tuple(f"{fact.id}: {fact.reason}" for fact in facts if fact is not None and fact.reason is not None),
    )
