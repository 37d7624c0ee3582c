"""What each policy is for, from the METADATA above its rules: `policy explain` and the list of policies."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

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
    inspected = opa(bundle_dir, "inspect", "--annotations", "--format", "json", ".").answer()
    assert isinstance(inspected, dict)
    annotations = inspected.get("annotations")
    entries = [each for each in annotations if isinstance(each, dict)] if isinstance(annotations, list) else []
    return tuple(_summary(name, entries) for name in names)


def _summary(name: str, entries: list[dict[str, JsonValue]]) -> PolicySummary:
    package = ["data", *HAZARDS.strip(".").split("."), name]
    title, description, rules = "", "", []
    for entry in entries:
        path, notes = _path(entry), entry["annotations"]
        assert isinstance(notes, dict)
        if path == package and notes.get("scope") == "package":
            title, description = _text(notes, "title"), _text(notes, "description")
        elif path[:-1] == package and path[-1] in _LEVEL_OF_SET:
            rules.append(_explanation(path[-1], entry, notes))
    return PolicySummary(
        name=name, title=title, description=description, rules=tuple(sorted(rules, key=lambda rule: rule.code))
    )


def _explanation(rule_set: str, entry: dict[str, JsonValue], notes: dict[str, JsonValue]) -> PolicyExplanation:
    custom, location = notes.get("custom"), entry["location"]
    assert isinstance(location, dict)
    position = f"{location['file']}:{location['row']}"
    if not isinstance(custom, dict) or not _text(custom, "code"):
        raise StatehubError(
            code="policy-undocumented",
            what=f"{position}: the rule has no METADATA with `custom.code`",
            hint="write title, description and custom code and remedy above every rule that objects",
        )
    level = custom.get("level")
    return PolicyExplanation(
        code=_text(custom, "code"),
        level=Level(level) if isinstance(level, str) else _LEVEL_OF_SET[rule_set],
        title=_text(notes, "title"),
        description=_text(notes, "description"),
        remedy=_text(custom, "remedy"),
        position=position,
    )


def _path(entry: dict[str, JsonValue]) -> list[str]:
    path = entry.get("path")
    return [str(part["value"]) for part in path if isinstance(part, dict)] if isinstance(path, list) else []


def _text(notes: dict[str, JsonValue], key: str) -> str:
    value = notes.get(key)
    return value if isinstance(value, str) else ""
