"""A field of one tunnel in an ops-bridge `tunnels.yaml`, found by the positions that PyYAML composes. Pure.

Understood: `tunnels:` as a mapping of name to tunnel or as a list of tunnels with a `name`, and a mapping of name to
tunnel at the root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from statehub_plan.access.place import Place, PlaceError

_MAX_DEPTH = 50  # PyYAML composes recursively; a real tunnels.yaml has three levels
_CORRECT = "correct the file, or the access path in the plan"


def find(text: str, tunnel: str, field: str) -> Place:
    """The scalar in `field` of `tunnel`. PlaceError where the text is not one YAML document, or the field is not there,
    there twice, not a scalar on one line, tagged, or shared with others through an anchor."""
    root, aliased = _compose(text)
    tunnels = _tunnels(root)
    entry = _entry(tunnels, tunnel)
    node = _member(entry, field, f"tunnel {tunnel}")
    start = _at(node.start_mark)
    if not isinstance(node, yaml.ScalarNode) or node.style in {"|", ">"} or text[start : start + 1] in {"&", "!"}:
        raise PlaceError(f"{field} of tunnel {tunnel} is not a plain or quoted scalar", _CORRECT, start)
    if any(_at(way.start_mark) in aliased for way in (root, tunnels, entry)):
        raise PlaceError(
            f"{field} of tunnel {tunnel} is shared with other places through an anchor",
            "write the value in the tunnel itself",
            start,
        )
    return Place(
        value=node.value,
        start=start,
        end=_at(node.end_mark),
        spell=lambda value: _spellings(value, node.style),
        frame=(node.tag, tuple(_outline(text, start))),
    )


def _compose(text: str) -> tuple[yaml.Node, frozenset[int]]:
    """The document, and where the nodes begin that an alias stands for somewhere."""
    try:
        aliased = _aliased(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offsets = [_at(mark)] if mark else []
        raise PlaceError(f"not YAML: {error.problem or error.context}", _CORRECT, *offsets) from error
    except yaml.reader.ReaderError as error:
        raise PlaceError(f"not YAML: {error.reason}", _CORRECT, error.position) from error
    if root is None:
        raise PlaceError("the file is empty", _CORRECT)
    return root, aliased


def _aliased(text: str) -> frozenset[int]:
    depth, anchors, aliases = 0, dict[str, int](), set[str]()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise PlaceError(f"nested deeper than {_MAX_DEPTH} levels", _CORRECT, _at(event.start_mark))
        if isinstance(event, yaml.AliasEvent):
            aliases.add(str(event.anchor))
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            anchors[event.anchor] = _at(event.start_mark)
    return frozenset(anchors[name] for name in aliases if name in anchors)


def _tunnels(root: yaml.Node) -> yaml.Node:
    if isinstance(root, yaml.MappingNode) and any(key.value == "tunnels" for key, _ in root.value):
        return _member(root, "tunnels", "the file")
    return root


def _entry(tunnels: yaml.Node, name: str) -> yaml.Node:
    if not isinstance(tunnels, yaml.SequenceNode):
        return _member(tunnels, name, "tunnels")
    named: list[yaml.Node] = [
        item
        for item in tunnels.value
        if isinstance(item, yaml.MappingNode)
        and any(key.value == "name" and value.value == name for key, value in item.value)
    ]
    return _only(named, f"tunnel {name}", tunnels)


def _member(mapping: yaml.Node, key: str, where: str) -> yaml.Node:
    if not isinstance(mapping, yaml.MappingNode):
        raise PlaceError(f"{where} is not a mapping", _CORRECT, _at(mapping.start_mark))
    return _only([value for name, value in mapping.value if name.value == key], f"{key} in {where}", mapping)


def _only(found: list[yaml.Node], what: str, parent: yaml.Node) -> yaml.Node:
    if not found:
        raise PlaceError(f"there is no {what} (merge keys are not followed)", _CORRECT, _at(parent.start_mark))
    if len(found) > 1:
        raise PlaceError(f"{what} is there {len(found)} times", "leave one", *(_at(node.start_mark) for node in found))
    return found[0]


def _outline(text: str, start: int) -> Iterator[object]:
    """Everything that a reader gets from the file, except the scalar that begins at `start`."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent) and _at(event.start_mark) != start:
            yield event.value, event.implicit, event.tag, event.anchor
        else:
            yield type(event), getattr(event, "anchor", None), getattr(event, "tag", None)


def _spellings(value: str, style: str | None) -> tuple[str, ...]:
    single, double = "'" + value.replace("'", "''") + "'", json.dumps(value, ensure_ascii=False)
    if style == "'":
        return single, double
    return (double,) if style == '"' else (value, single, double)


def _at(mark: Any) -> int:
    """The character that a mark of PyYAML stands at; its stubs can't say that parsing a string always sets one."""
    return int(mark.index)
