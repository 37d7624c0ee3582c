"""JSON pointers (RFC 6901): parse, resolve in a document, find in a text. Pure; no library, because none says where."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from pydantic import JsonValue

_WHITESPACE = re.compile(r"[ \t\n\r]*")  # RFC 8259 section 2: only these four
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")  # RFC 6901 section 4: no sign, no leading zero
_DECODER = json.JSONDecoder()


class PointerError(ValueError):
    """The pointer leads nowhere, or not to one place; `offset` is the character of the text that it is about."""

    def __init__(self, problem: str, offset: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Found:
    """A value and the half-open range of characters that it occupies."""

    value: JsonValue
    start: int
    end: int


def tokens(pointer: str) -> tuple[str, ...]:
    """The reference tokens of `pointer`, unescaped; the empty pointer (the whole document) has none."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise PointerError(f"pointer {pointer!r} does not begin with '/'")
    parts = pointer[1:].split("/")
    for part in parts:
        if re.search(r"~(?![01])", part):
            raise PointerError(f"pointer {pointer!r}: '~' is written ~0 and '/' is written ~1")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def resolve(document: JsonValue, pointer: str) -> JsonValue:
    """The value at `pointer`; PointerError when there is none."""
    value = document
    for token in tokens(pointer):
        if isinstance(value, dict):
            if token not in value:
                raise PointerError(f"{pointer}: there is no member {token!r}")
            value = value[token]
        elif isinstance(value, list):
            value = value[_index(token, len(value), pointer)]
        else:
            raise PointerError(f"{pointer}: {token!r} is looked for inside a {kind_of(value)}")
    return value


def find(text: str, pointer: str) -> Found:
    """Where in `text` (one JSON document) the value at `pointer` stands.

    Descends with the standard decoder's own primitives, so that nothing is serialised again. A member on the way that
    occurs twice is an error: readers disagree about which one counts (RFC 8259 section 4). ValueError
    (json.JSONDecodeError) where the text is not JSON, RecursionError where it is nested too deeply for the decoder.
    """
    start = _skip(text, 1 if text.startswith("\ufeff") else 0)
    value, end = _DECODER.raw_decode(text, start)
    if _skip(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, _skip(text, end))
    for token in tokens(pointer):
        if isinstance(value, dict):
            start = _member(text, start, token, pointer)
        elif isinstance(value, list):
            start = _element(text, start, _index(token, len(value), pointer, start))
        else:
            raise PointerError(f"{pointer}: {token!r} is looked for inside a {kind_of(value)}", start)
        value, end = _DECODER.raw_decode(text, start)
    return Found(value=value, start=start, end=end)


def same_json(one: JsonValue, other: JsonValue) -> bool:
    """JSON equality: 1 is 1.0, but true is not 1 (as it is in Python); order of members does not matter."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other


def kind_of(value: JsonValue) -> str:
    """What JSON calls a value of this type."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    for python_type, name in ((str, "string"), (dict, "object"), (list, "array")):
        if isinstance(value, python_type):
            return name
    return "number"


def _skip(text: str, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position


def _index(token: str, length: int, pointer: str, offset: int | None = None) -> int:
    if not _INDEX.fullmatch(token):
        raise PointerError(f"{pointer}: {token!r} is not an index of an array", offset)
    if int(token) >= length:
        raise PointerError(f"{pointer}: the array has {length} elements, there is no index {token}", offset)
    return int(token)


def _member(text: str, start: int, token: str, pointer: str) -> int:
    """Where the value of member `token` begins, in the object (known to be well-formed) that begins at `start`."""
    found: int | None = None
    position = _skip(text, start + 1)
    while text[position] != "}":
        key_at = position
        key, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # the colon
        if key == token:
            if found is not None:
                raise PointerError(f"{pointer}: member {token!r} occurs more than once", key_at)
            found = position
        position = _next(text, position)
    if found is None:
        raise PointerError(f"{pointer}: there is no member {token!r}", start)
    return found


def _element(text: str, start: int, index: int) -> int:
    position = _skip(text, start + 1)
    for _ in range(index):
        position = _next(text, position)
    return position


def _next(text: str, position: int) -> int:
    """Past the value at `position` and the comma behind it, or at the closing bracket."""
    position = _skip(text, _DECODER.raw_decode(text, position)[1])
    return _skip(text, position + 1) if text[position] == "," else position
