"""Tree → frozen model, or every place where the tree is not what the models say.

The models decide. The published JSON Schemas are made from them and are held to the same verdicts by a test, document
by document; running both on each load would say nothing new and cost more than all the rest of loading.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.spec.node import Node
from statehub_plan.spec.place import KINDS, Place, Schema, homes, locate
from statehub_plan.spec.problem import Problem, shown

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_LIMITS = {
    "string_too_short": ("is empty", "write at least {min_length}"),
    "string_too_long": ("is too long", "write at most {max_length} characters"),
    "too_short": ("has too few items", "write at least {min_length}"),
    "too_long": ("has too many items", "write at most {max_length}"),
    "greater_than_equal": ("is too small", "write at least {ge}"),
    "less_than_equal": ("is too large", "write at most {le}"),
}


def shape(root: Node) -> tuple[CutoverPlan | ObservedLane | None, list[Problem]]:
    """The document as a model, or None and what is wrong with its shape."""
    kind, problems = _kind(root)
    if kind is None:
        return None, problems
    data = {**{key: node.plain() for key, node in root.members.items()}, "kind": kind}
    try:
        document = KINDS[kind].model_validate_json(json.dumps(data), strict=True)
    except ValidationError as errors:
        found = errors.errors(include_url=False, include_input=False)
        return None, problems + [one for error in found if (one := _problem(root, kind, error)) is not None]
    return (None if problems else document), problems


def closest(written: str, choices: list[str]) -> str | None:
    """The choice that was probably meant; case, dashes and underscores do not count."""
    plain = {re.sub(r"[^a-z0-9]", "", choice.lower()): choice for choice in choices}
    near = get_close_matches(re.sub(r"[^a-z0-9]", "", written.lower()[:64]), plain, n=1, cutoff=0.65)
    return plain[near[0]] if near else None


def one_of(written: str, choices: list[str]) -> str:
    """The remedy for a word that is none of `choices`."""
    near = closest(written, choices)
    return f"did you mean `{near}`?" if near else f"write one of {', '.join(sorted(choices))}"


def _kind(root: Node) -> tuple[str | None, list[Problem]]:
    """The kind to judge the document as: a misspelled one is reported and guessed, so that the rest is judged too."""
    node = root.members.get("kind")
    looks_like = "CutoverPlan" if "endpoints" in root.child("spec").members else None
    if node is None:
        return looks_like, [Problem(root.at, "`kind` is missing", f"write kind: {' or '.join(KINDS)}")]
    written = str(node.value)
    if written in KINDS:
        return written, []
    problem = Problem(node.at, f"there is no kind `{shown(written)}`", one_of(written, list(KINDS)))
    return closest(written, list(KINDS)) or looks_like, [] if node.refused else [problem]


def _problem(root: Node, kind: str, error: Any) -> Problem | None:
    """One error of the model as a problem; None where it only follows from one that is reported already."""
    if error["type"] == "extra_forbidden":
        return _unknown_key(locate(root, kind, error["loc"][:-1]), str(error["loc"][-1]), kind)
    place = locate(root, kind, error["loc"])
    if place.node.refused or _cut_short(place.node, error):
        return None
    if error["type"] == "missing":
        return _missing_key(place)
    if error["type"].startswith("union_tag"):
        return _wrong_kind(place)
    return _wrong_value(place, error["type"], error.get("ctx") or {}, error["msg"])


def _cut_short(node: Node, error: Any) -> bool:
    """A collection that is only too short because some of its items are wrong: those are reported."""
    length = len(node.members) + len(node.items)
    return error["type"] == "too_short" and length >= int(error["ctx"]["min_length"])


def _unknown_key(place: Place, key: str, kind: str) -> Problem:
    at = place.node.keys.get(key, place.at)
    what = f"unknown key `{shown(key)}`" + (f" in {place.path}" if place.path else "")
    allowed = sorted(place.schema.get("properties", {}))
    near = closest(key, [one for one in allowed if one not in place.node.keys])
    elsewhere = homes(kind).get(key, ())
    if near is not None:
        return Problem(at, what, f"did you mean `{near}`?")
    if len(elsewhere) == 1:
        return Problem(at, what, f"`{key}` belongs to {elsewhere[0]}")
    return Problem(at, what, f"known here: {', '.join(allowed)}")


def _missing_key(place: Place) -> Problem:
    what = f"`{place.step}` is missing" + (f" in {place.path}" if place.path else "")
    return Problem(place.at, what, _write(place.schema.get("properties", {}).get(place.step, {}), "add it"))


def _wrong_kind(place: Place) -> Problem:
    kinds = sorted(place.schema.get("discriminator", {}).get("mapping", {}))
    node = place.node.members.get("kind")
    if node is None:
        return Problem(place.at, f"`kind` is missing in {place.path}", f"write one of {', '.join(kinds)}")
    return Problem(node.at, f"{place.path} cannot have kind `{shown(str(node.value))}`", one_of(str(node.value), kinds))


def _wrong_value(place: Place, kind: str, context: dict[str, Any], message: str) -> Problem:
    node, path = place.node, place.path
    if kind in _TYPES:
        return Problem(node.at, f"{path} must be {_TYPES[kind]}, not {_described(node)}", _retyped(place, kind))
    if kind in _LIMITS:
        what, remedy = _LIMITS[kind]
        return Problem(node.at, f"{path} {what}", _write(place.schema, remedy.format(**context)))
    if kind == "value_error":
        return Problem(place.at, f"{path} is incomplete or contradictory", str(context.get("error", message)))
    written = str(node.value)
    what = f"{path} cannot be `{shown(written)}`"
    if kind in ("enum", "literal_error"):
        choices = place.schema.get("enum") or [place.schema.get("const")]
        return Problem(node.at, what, one_of(written, [str(one) for one in choices]))
    return Problem(node.at, what, _write(place.schema, f"correct it ({message})"))


def _retyped(place: Place, kind: str) -> str:
    """Quotes, where they are all that is missing."""
    written = place.node.value
    if kind == "string_type" and not isinstance(written, dict | list):
        pattern = place.schema.get("pattern", "")
        return "put it in quotes" if re.search(pattern, json.dumps(written)) else _write(place.schema, "write text")
    return _write(place.schema, f"write {_TYPES[kind]}")


def _described(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if isinstance(node.value, bool | int | float):
        return f"the {'boolean' if isinstance(node.value, bool) else 'number'} {json.dumps(node.value)}"
    return f"the text `{shown(str(node.value))}`"


def _write(schema: Schema, otherwise: str) -> str:
    """The remedy that the schema's description gives; a mapping's description says too much for one line."""
    for one in (schema, *schema.get("anyOf", ())):
        if "description" in one and "properties" not in one:
            return f"write {one['description']}"
    return otherwise
