"""What each policy is for, from the METADATA above its rules: `policy explain` and the list of policies."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.plan import Level
from statehub_plan.policy.bundle import HAZARDS, read_bundle
from statehub_plan.policy.engine import opa

_LEVEL_OF_SET = {"deny": Level.HARD, "warn": Level.ADVISORY}


class PolicyExplanation(Frozen):
    """One rule that can object. `description` names the incident that it prevents; `position` is `file:line` below the
    bundle's folder."""

    code: str
    level: Level
    title: str
    description: str
    remedy: str
    position: str


class PolicySummary(Frozen):
    """One hazard and the rules that watch for it, sorted by code."""

    name: str
    title: str
    description: str
    rules: tuple[PolicyExplanation, ...]


class _Custom(BaseModel):
    """`level` only where it is not what the rule's set stands for: soft in `deny`."""

    code: str = ""
    remedy: str = ""
    level: Level | None = None


class _Notes(BaseModel):
    scope: str
    title: str = ""
    description: str = ""
    custom: _Custom = _Custom()


class _Place(BaseModel):
    file: str
    row: int


class _Part(BaseModel):
    value: JsonValue


class _Annotated(BaseModel):
    """One METADATA block, as `opa inspect --annotations` prints it."""

    annotations: _Notes
    location: _Place
    path: list[_Part] = []

    @property
    def names(self) -> list[str]:
        return [str(part.value) for part in self.path]


class _Inspected(BaseModel):
    annotations: list[_Annotated] = []


def explain(bundle_dir: Path, code: str) -> PolicyExplanation:
    """The rule with this code; StatehubError `policy-code-unknown`, with the codes of its policy, if there is none."""
    rules = [rule for policy in list_policies(bundle_dir) for rule in policy.rules]
    for rule in rules:
        if rule.code == code:
            return rule
    near = [rule.code for rule in rules if rule.code.partition(".")[0] == code.partition(".")[0]]
    raise StatehubError(
        code="policy-code-unknown",
        what=f"no policy of {bundle_dir} has the code {code!r}",
        hint="codes are <policy>.<rule>; those beginning with `host.` are the host's own and say all there is to say",
        details=tuple(near),
    )


def list_policies(bundle_dir: Path) -> tuple[PolicySummary, ...]:
    """Every hazard of the bundle, sorted by name. StatehubError when the bundle can't be read or parsed by OPA, or a
    rule that objects has no METADATA to say why."""
    names = read_bundle(bundle_dir).info.packages
    inspected = opa(bundle_dir, "inspect", "--annotations", "--format", "json", ".").answer(_Inspected)
    return tuple(_summary(name, inspected.annotations) for name in names)


def _summary(name: str, annotated: list[_Annotated]) -> PolicySummary:
    package = ["data", *HAZARDS.strip(".").split("."), name]
    heads = [each.annotations for each in annotated if each.names == package and each.annotations.scope == "package"]
    rules = [each for each in annotated if each.names[:-1] == package and each.names[-1] in _LEVEL_OF_SET]
    return PolicySummary(
        name=name,
        title=heads[0].title if heads else "",
        description=heads[0].description if heads else "",
        rules=tuple(sorted((_explanation(each) for each in rules), key=lambda rule: rule.code)),
    )


def _explanation(annotated: _Annotated) -> PolicyExplanation:
    notes, place = annotated.annotations, annotated.location
    position = f"{place.file}:{place.row}"
    if not notes.custom.code:
        raise StatehubError(
            code="policy-undocumented",
            what=f"{position}: the rule has no METADATA with `custom.code`",
            hint="write title, description and custom code and remedy above every rule that objects",
        )
    return PolicyExplanation(
        code=notes.custom.code,
        level=notes.custom.level or _LEVEL_OF_SET[annotated.names[-1]],
        title=notes.title,
        description=notes.description,
        remedy=notes.custom.remedy,
        position=position,
    )
