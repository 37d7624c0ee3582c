"""Where a validation error leads: the way through tree and JSON Schema at once."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.model.written import Name
from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Position, shown

Schema = dict[str, Any]
Location = tuple[int | str, ...]

KINDS: dict[str, type[CutoverPlan] | type[ObservedLane]] = {"CutoverPlan": CutoverPlan, "ObservedLane": ObservedLane}


class Place(NamedTuple):
    """The deepest node on the way, the position and the path that name it, and the part of the schema that describes
    it. `step` is what could not be followed: a missing key."""

    node: Node
    at: Position
    path: str
    schema: Schema
    step: str | None = None


@cache
def schema_of(kind: str) -> Schema:
    """The JSON Schema of a kind of document, as its model gives it; made only where something is wrong."""
    return KINDS[kind].model_json_schema()


def locate(root: Node, kind: str, location: Location) -> Place:
    """Follow the location of an error. Discriminator tags are in the location but not in the document."""
    node, at, path, schema = root, root.at, "", schema_of(kind)
    for index, step in enumerate(location):
        schema = narrow(schema, node, kind)
        if step == "[key]":
            return Place(Node(str(location[index - 1]), at), at, path, _key_schema())
        if _is_tag(location, index, node):
            continue
        if isinstance(node.value, list) and isinstance(step, int):
            node = node.value[step]
            schema, at, path = schema.get("items", {}), node.at, f"{path}[{step}]"
        elif isinstance(node.value, dict) and step in node.value:
            at, path = node.keys[str(step)], f"{path}.{shown(str(step))}".removeprefix(".")
            schema, node = _member(schema, str(step)), node.value[str(step)]
        else:
            return Place(node, at, path, schema, str(step))
    return Place(node, at, path, narrow(schema, node, kind))


def narrow(schema: Schema, node: Node, kind: str) -> Schema:
    """The part of a schema that applies to this node: references followed, null left aside, the kind's branch taken."""
    while True:
        if "$ref" in schema:
            schema = schema_of(kind)["$defs"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        elif "discriminator" in schema and isinstance(node.value, dict):
            tag = node.value.get("kind")
            branch = schema["discriminator"]["mapping"].get(str(tag.value) if tag else None)
            if branch is None:
                return schema
            schema = {"$ref": branch}
        else:
            return schema


@cache
def homes(kind: str) -> dict[str, tuple[str, ...]]:
    """Where each key may stand, as paths: for keys that were written one level too high or too low."""
    found: dict[str, set[str]] = {}
    _walk(schema_of(kind), "", frozenset(), schema_of(kind)["$defs"], found)
    return {key: tuple(sorted(paths)) for key, paths in found.items()}


def _walk(schema: Any, path: str, seen: frozenset[str], definitions: Schema, found: dict[str, set[str]]) -> None:
    if isinstance(schema, list):
        for one in schema:
            _walk(one, path, seen, definitions, found)
    if not isinstance(schema, dict):
        return
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference and reference not in seen:
        _walk(definitions[reference], path, seen | {reference}, definitions, found)
    for key, member in schema.get("properties", {}).items():
        found.setdefault(key, set()).add(path or "the top level")
        _walk(member, f"{path}.{key}".removeprefix("."), seen, definitions, found)
    for member in (*schema.get("patternProperties", {}).values(), *map(schema.get, ("anyOf", "oneOf", "items"))):
        _walk(member, path, seen, definitions, found)


def _is_tag(location: Location, index: int, node: Node) -> bool:
    """An item of a list of kinds is followed by its kind in the location."""
    if index == 0 or not isinstance(location[index - 1], int) or not isinstance(node.value, dict):
        return False
    tag = node.value.get("kind")
    return tag is not None and tag.value == location[index]


def _member(schema: Schema, key: str) -> Schema:
    found: Schema = schema.get("properties", {}).get(key) or next(
        iter(schema.get("patternProperties", {}).values()), {}
    )
    return found


@cache
def _key_schema() -> Schema:
    return TypeAdapter(Name).json_schema()
