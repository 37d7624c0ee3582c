"""JSON pointers, and changing one string of a JSON text without touching a character around it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan import jsonpointer
from statehub_plan.access import json_file
from statehub_plan.access.place import Place, PlaceError, position, substitute
from statehub_plan.jsonpointer import PointerError

MCP = """{
\t"mcpServers" : { "other": {"env": {"API_BASE": "http://x"}},
    "state-hub": {"args": [1.0, 2e5, "\\u00e9"], "env": {"API_BASE":"http:\\/\\/127.0.0.1:8000" , "A~B/C": ""}}
  }
}
"""
POINTER = "/mcpServers/state-hub/env/API_BASE"
RFC_6901: dict[str, Any] = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8,
}  # fmt: skip

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def _found(text: str, pointer: str) -> Place:
    return json_file.find(text, pointer)


def _changed(text: str, pointer: str, value: str) -> str:
    return substitute(text, lambda text: json_file.find(text, pointer), value)


def _escaped(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _strings(value: Any, pointer: str = "") -> list[tuple[str, str]]:
    """(pointer, string) of every string below the root of `value`."""
    if isinstance(value, dict):
        return [each for key in value for each in _strings(value[key], f"{pointer}/{_escaped(key)}")]
    if isinstance(value, list):
        return [each for index, item in enumerate(value) for each in _strings(item, f"{pointer}/{index}")]
    return [(pointer, value)] if isinstance(value, str) and pointer else []


@st.composite
def _spelled(draw: st.DrawFn, value: Any) -> str:
    """`value` as JSON with the white space and escapes that another writer might have chosen."""
    blank = st.text(" \t\n\r", max_size=3)
    if isinstance(value, dict):
        members = [
            f"{draw(blank)}{draw(_spelled(key))}{draw(blank)}:{draw(blank)}{draw(_spelled(member))}{draw(blank)}"
            for key, member in value.items()
        ]
        return "{" + (",".join(members) or draw(blank)) + "}"
    if isinstance(value, list):
        items = [f"{draw(blank)}{draw(_spelled(item))}{draw(blank)}" for item in value]
        return "[" + (",".join(items) or draw(blank)) + "]"
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return text.replace("/", "\\/") if isinstance(value, str) and draw(st.booleans()) else text


@given(st.data(), JSON_VALUES, st.text(), st.sampled_from(["", "\ufeff"]), st.sampled_from(["", "\n", "\r\n"]))
def test_only_the_addressed_string_changes(data: st.DataObject, inside: Any, new: str, mark: str, end: str) -> None:
    """Whatever the document and its spelling, every character outside the addressed string stays what it was."""
    document = {"a": inside, "value": "old", "z": [inside]}
    pointer, old = data.draw(st.sampled_from(_strings(document)))
    text = mark + data.draw(_spelled(document)) + end

    place = _found(text, pointer)
    changed = _changed(text, pointer, new)

    assert place.value == old
    assert text[: place.start] == changed[: place.start]
    assert text[place.end :] == changed[len(changed) - len(text[place.end :]) :]
    assert new == jsonpointer.resolve(json.loads(changed.removeprefix("\ufeff")), pointer)
    assert new == _found(changed, pointer).value


@given(JSON_VALUES)
def test_finding_and_resolving_agree(document: Any) -> None:
    """Walking the text and walking the parsed document lead to the same value, for every string in it."""
    text = json.dumps(document)
    for pointer, value in _strings(document):
        found = jsonpointer.find(text, pointer)
        assert value == found.value == jsonpointer.resolve(document, pointer)
        assert value == json.loads(text[found.start : found.end])


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", RFC_6901), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_the_examples_of_rfc_6901(pointer: str, expected: Any) -> None:
    """The examples in section 5 of RFC 6901 resolve as it says, in a document and in its text."""
    assert expected == jsonpointer.resolve(RFC_6901, pointer)
    assert expected == jsonpointer.find(json.dumps(RFC_6901, indent=1), pointer).value


@pytest.mark.parametrize(
    "pointer",
    ["foo", "/foo/2", "/foo/-", "/foo/01", "/foo/+1", "/foo/²", "/foo/" + "9" * 5000, "/bar", "/foo/0/x", "/~2", "/~"],
)
def test_a_pointer_that_leads_nowhere_says_so(pointer: str) -> None:
    """There is no default: what is not there is an error, in a document and in its text."""
    with pytest.raises(PointerError):
        jsonpointer.resolve(RFC_6901, pointer)
    with pytest.raises(PointerError):
        jsonpointer.find(json.dumps(RFC_6901), pointer)


def test_a_real_mcp_config_keeps_its_own_style() -> None:
    """Tabs, odd spacing, number spellings, escapes and neighbours of the same name all survive."""
    expected = MCP.replace('"http:\\/\\/127.0.0.1:8000"', '"http://10.43.0.7:8000"')
    assert expected == _changed(MCP, POINTER, "http://10.43.0.7:8000")


@pytest.mark.parametrize(
    ("text", "pointer", "where"),
    [
        ('{"a": 1}', "/a", "1:7"),
        ('{"a": {"x": 1},\n "a": {"x": "y"}}', "/a/x", "2:2"),
        ('{"a": "x", }', "/a", "1:12"),
        ('{"a": "x"} // mine', "/a", "1:12"),
        ('{\n  // mine\n"a": "x"}', "/a", "2:3"),
        ("", "/a", "1:1"),
        ('{"a": "x"', "/a", "1:10"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_its_position(text: str, pointer: str, where: str) -> None:
    """Another type, a member that is there twice, comments and broken JSON are refused, pointing at the character."""
    with pytest.raises(PlaceError) as refused:
        _found(text, pointer)
    assert [where] == [position(text, offset) for offset in refused.value.offsets]
    assert refused.value.remedy


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5_000 + "}"])
def test_a_bomb_is_refused(bomb: str) -> None:
    """Nesting and numbers beyond what the decoder bears are a refusal, not a crash."""
    with pytest.raises(PlaceError):
        _found(bomb, "/a")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, True), (True, 1, False), (0, False, False), (None, False, False), ("1", 1, False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1}, True), ([1], [True], False), ({"a": 1}, {}, False),
        ([], {}, False),
    ],
)  # fmt: skip
def test_json_equality_is_not_python_equality(one: Any, other: Any, expected: bool) -> None:
    """A probe that expects `true` must not be content with 1."""
    assert expected is jsonpointer.same_json(one, other)
    assert expected is jsonpointer.same_json(other, one)
