"""Names that lead nowhere, names that are there twice, access paths that do not know both endpoints."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Position, Problem, shown
from statehub_plan.spec.shape import one_of

_TARGETS = {
    "json-pointer": ("file", "pointer"),
    "env-file": ("file", "variable"),
    "bridge": ("file", "tunnel", "field"),
}


def dangling_endpoints(root: Node) -> Iterator[Problem]:
    """Every name of an endpoint is one that is declared."""
    declared = sorted(root.child("spec", "endpoints").members)
    for at, path, name in _endpoint_names(root):
        if declared and name not in declared:
            yield Problem(at, f"{path} names `{shown(name)}`, and there is no such endpoint", one_of(name, declared))


def lane_without_endpoints(root: Node) -> Iterator[Problem]:
    """A lane that is only observed declares no endpoints, so its probes cannot name one."""
    for at, path, _ in _endpoint_names(root):
        remedy = "use a command or http probe, or give a kubernetes probe context and namespace"
        yield Problem(at, f"{path} names an endpoint, and an ObservedLane has none", remedy)


def duplicates(root: Node) -> Iterator[Problem]:
    """Nothing is named twice where names tell things apart."""
    spec = root.child("spec")
    lists = [
        ("spec.access", "name", spec.child("access")),
        ("spec.gates", "name", spec.child("gates")),
        ("spec.tasks", "id", spec.child("tasks")),
        ("spec.entryCriteria", "name", spec.child("entryCriteria")),
        ("spec.compare.waive", "table", spec.child("compare", "waive")),
        *((path, "name", probes) for path, probes in _probe_lists(root)),
    ]
    for path, key, node in lists:
        yield from _repeated(path, [item.child(key) for item in node.items])
    for path, node in _word_lists(spec):
        yield from _repeated(path, node.items)


def access_paths(root: Node) -> Iterator[Problem]:
    """Each access path has a different value for each endpoint, and is an access path of its own."""
    declared = sorted(root.child("spec", "endpoints").members)
    targets: dict[tuple[str | None, ...], Position] = {}
    for index, path in enumerate(root.child("spec", "access").items):
        name = f"spec.access[{index}]"
        values = path.child("values")
        written = [node.text for node in values.members.values() if node.text is not None]
        missing = [one for one in declared if one not in values.members]
        if missing and isinstance(values.value, dict):
            what = f"{name}.values does not say what it holds for {', '.join(missing)}"
            yield Problem(path.key_at("values"), what, "give a value for each endpoint")
        elif len(written) > len(set(written)):
            what = f"{name}.values are the same for both endpoints"
            yield Problem(path.key_at("values"), what, "say what differs when clients are redirected")
        yield from _commands(name, path)
        kind = path.child("kind").text or ""
        target = (kind, *(path.child(key).text for key in _TARGETS.get(kind, ())))
        if len(target) > 1 and target in targets:
            what = f"{name} changes the same place as the access path in line {targets[target].line}"
            yield Problem(path.at, what, "keep one of the two")
        targets.setdefault(target, path.at)


def _commands(name: str, path: Node) -> Iterator[Problem]:
    """`set` can only redirect to a value that it is given."""
    if path.child("kind").text != "command" or not path.child("set").items:
        return
    if not any("{value}" in (argument.text or "") for argument in path.child("set").items):
        yield Problem(path.key_at("set"), f"{name}.set does not say where the new value goes", "write {value} there")
    for argument in path.child("get").items:
        if "{value}" in (argument.text or ""):
            yield Problem(argument.at, f"{name}.get only reads, so it has no {{value}}", "take {value} out")


def _endpoint_names(root: Node) -> Iterator[tuple[Position, str, str]]:
    """Every place that names an endpoint: position, path, name."""
    desired = root.child("spec", "desired")
    for path, node in (
        ("spec.desired.primary", desired.child("primary")),
        ("spec.desired.fallback.endpoint", desired.child("fallback", "endpoint")),
        *((f"{path}[{index}].endpoint", probe.child("endpoint")) for path, index, probe in probes(root)),
    ):
        if node.text is not None:
            yield node.at, path, node.text
    for index, access in enumerate(root.child("spec", "access").items):
        values = access.child("values")
        for name, at in values.keys.items():
            yield at, f"spec.access[{index}].values", name


def probes(root: Node) -> Iterator[tuple[str, int, Node]]:
    """Every probe, with the path of its list and its index."""
    for path, node in _probe_lists(root):
        for index, probe in enumerate(node.items):
            yield path, index, probe


def _probe_lists(root: Node) -> Iterator[tuple[str, Node]]:
    for index, task in enumerate(root.child("spec", "tasks").items):
        yield f"spec.tasks[{index}].probes", task.child("probes")
    yield "spec.drills.failover.verify", root.child("spec", "drills", "failover", "verify")


def _word_lists(spec: Node) -> Iterator[tuple[str, Node]]:
    yield "spec.backup.encryption.recipients", spec.child("backup", "encryption", "recipients")
    for index, gate in enumerate(spec.child("gates").items):
        yield f"spec.gates[{index}].approvers", gate.child("approvers")
        yield f"spec.gates[{index}].guards", gate.child("guards")
    for index, task in enumerate(spec.child("tasks").items):
        yield f"spec.tasks[{index}].doneBy", task.child("doneBy")
    for index, criterion in enumerate(spec.child("entryCriteria").items):
        yield f"spec.entryCriteria[{index}].anyOf", criterion.child("anyOf")
    for name, endpoint in spec.child("endpoints").members.items():
        yield f"spec.endpoints.{shown(name)}.appRoles", endpoint.child("appRoles")


def _repeated(path: str, names: list[Node]) -> Iterator[Problem]:
    seen: dict[str, Position] = {}
    for node in names:
        name = node.text
        if name is None:
            continue
        if name in seen:
            what = f"{path} has `{shown(name)}` a second time; it is already in line {seen[name].line}"
            yield Problem(node.at, what, "rename or delete one of the two")
        seen.setdefault(name, node.at)
