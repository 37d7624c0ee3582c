"""A value of a document that knows where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from statehub_plan.spec.problem import Position
from statehub_plan.spec.scalars import Scalar


@dataclass(slots=True, eq=False)
class Node:
    """A value and where it begins. `keys` holds the position of each key of a mapping. A `refused` node has had its
    problem reported: whatever else is wrong with it follows from that."""

    value: Scalar | dict[str, Node] | list[Node]
    at: Position
    keys: dict[str, Position] = field(default_factory=dict)
    refused: bool = False

    def plain(self) -> JsonValue:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    # The rules judge documents whose shape may be wrong elsewhere, so these answer with nothing instead of failing.

    @property
    def members(self) -> dict[str, Node]:
        """The members of a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list."""
        return self.value if isinstance(self.value, list) else []

    @property
    def text(self) -> str | None:
        """The text of a scalar that is one and was not refused."""
        return self.value if isinstance(self.value, str) and not self.refused else None

    def child(self, *keys: str) -> Node:
        """The member that `keys` lead to; a node of nothing, at the last position on the way, where there is none."""
        node = self
        for key in keys:
            node = node.members.get(key) or Node(None, node.keys.get(key, node.at), refused=True)
        return node

    def key_at(self, key: str) -> Position:
        """Where `key` stands, or where the mapping begins that lacks it."""
        return self.keys.get(key, self.at)
