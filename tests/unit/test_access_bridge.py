"""Changing one field of one tunnel in a tunnels.yaml without touching a character around it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.access import bridge_file
from statehub_plan.access.place import Place, PlaceError, position, substitute

TUNNELS = """\
# who goes where
tunnels:
  other: {local: 127.0.0.1:5432, target: "10.0.0.1:5432"}   # flow
  state-hub:
    local:  127.0.0.1:8000
    target: 127.0.0.1:18001 # WSL2
    retry: [1, 2]
"""
ANY_TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\ufffe\uffff"), min_size=1
)


def _found(text: str) -> Place:
    return bridge_file.find(text, "state-hub", "target")


def _changed(text: str, value: str) -> str:
    return substitute(text, _found, value)


def test_a_target_moves_and_its_comment_stays() -> None:
    """The plain scalar is replaced in place; comments, order, quotes and spacing of the file stay."""
    expected = TUNNELS.replace("127.0.0.1:18001", "railiance01:8000")
    assert "127.0.0.1:18001" == _found(TUNNELS).value
    assert expected == _changed(TUNNELS, "railiance01:8000")


@given(
    ANY_TEXT,
    st.sampled_from(["  t: {}\n", "  t: {} # c\n", "  'a b': {}\n"]),
    st.sampled_from(["old", '"old"', "'old'", '"o\\x6cd"']),
)
def test_only_the_scalar_changes(value: str, other: str, old: str) -> None:
    """Whatever the new value, a YAML reader gets exactly it, and everything else as before; or it is refused."""
    text = f"tunnels:\n{other}  state-hub: {{a: 1, target: {old}, z: [x, y]}}\n"
    try:
        changed = _changed(text, value)
    except PlaceError:
        return
    expected: dict[str, Any] = yaml.safe_load(text)
    expected["tunnels"]["state-hub"]["target"] = value
    place = _found(text)
    assert expected == yaml.safe_load(changed)
    assert text[: place.start] == changed[: place.start]
    assert changed.endswith(text[place.end :])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state-hub:\n  target: old\n", "state-hub:\n  target: new\n"),
        ("tunnels:\r\n- name: a\r\n  target: x\r\n- name: state-hub\r\n  target: 'old'\r\n",
         "tunnels:\r\n- name: a\r\n  target: x\r\n- name: state-hub\r\n  target: 'new'\r\n"),
        ("\ufefftunnels: {state-hub: {target: old}}", "\ufefftunnels: {state-hub: {target: new}}"),
        ("a: &x {k: 1}\nstate-hub: {<<: *x, target: old}", "a: &x {k: 1}\nstate-hub: {<<: *x, target: new}"),
        ('é: "日本"\nstate-hub: {target: "old"}', 'é: "日本"\nstate-hub: {target: "new"}'),
    ],
)  # fmt: skip
def test_the_layouts_that_are_understood(text: str, expected: str) -> None:
    """A mapping or a list of tunnels, with or without the key `tunnels`, and unrelated anchors."""
    assert expected == _changed(text, "new")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("8000", "18000", "18000"), ("host", "8000", "'8000'"), ("host", "no", "'no'"), ("host", "a: b #c", "'a: b #c'"),
     ("'x'", "it's", "'it''s'"), ('"x"', 'a"b', '"a\\"b"'), ("x", "a\nb", '"a\\nb"')],
)  # fmt: skip
def test_a_new_value_keeps_type_and_quoting(old: str, new: str, expected: str) -> None:
    """A port stays a number, a string stays a string even when it looks like a number or a truth value."""
    assert f"state-hub: {{target: {expected}, z: 1}}\n" == _changed(f"state-hub: {{target: {old}, z: 1}}\n", new)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", []),
        ("just text", ["1:1"]),
        ("tunnels: {other: {target: x}}", ["1:10"]),
        ("tunnels: {state-hub: {local: x}}", ["1:22"]),
        ("state-hub: {target: x, target: y}", ["1:21", "1:32"]),
        ("- {name: state-hub, target: x}\n- {name: state-hub, target: x}", ["1:3", "2:3"]),
        ("state-hub: {target: [x]}", ["1:21"]),
        ("state-hub:\n  target: |\n    x\n", ["2:11"]),
        ("state-hub: {target: !!str x}", ["1:21"]),
        ("state-hub: {target: &a x}\nb: *a", ["1:21"]),
        ("state-hub: &a {target: x}\nb: {<<: *a}", ["1:24"]),
        ("defaults: &a {target: x}\nstate-hub: *a", ["1:23"]),
        ("defaults: &a {target: x}\nstate-hub: {<<: *a}", ["2:12"]),
        ("state-hub: {target: x", ["1:22"]),
        ("state-hub: {target: x}\n---\n{}", ["2:1"]),
        ("state-hub: {target: \x00}", ["1:21"]),
        ("a: " + "[" * 30_000, ["1:53"]),
    ],
)
def test_what_cannot_be_changed_is_refused_with_its_position(text: str, where: list[str]) -> None:
    """Missing, twice, shared through an anchor, tagged, a block, a bomb, not YAML: refused, pointing at the place."""
    with pytest.raises(PlaceError) as refused:
        _found(text)
    assert where == [position(text, offset) for offset in refused.value.offsets]
    assert refused.value.remedy


def test_a_number_does_not_become_text() -> None:
    """A port that would turn into a string is refused: its readers expect a number."""
    with pytest.raises(PlaceError):
        _changed("state-hub: {target: 8000}", "localhost:8000")
