"""Changing one value of an environment file without touching a character around it."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from statehub_plan.access import env_file
from statehub_plan.access.place import Place, PlaceError, position, substitute

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "API_BASE")
VALUES = st.from_regex(r"[a-z0-9_./:@%+,=?-]{0,20}", fullmatch=True)
# One that ends with a backslash is continued to some readers, and refused.
COMMENT = st.from_regex(r"#[ -~é]{0,20}", fullmatch=True).map(lambda text: text.rstrip("\\"))


def _found(text: str) -> Place:
    return env_file.find(text, "API_BASE")


def _changed(text: str, value: str) -> str:
    return substitute(text, _found, value)


@st.composite
def _assignment(draw: st.DrawFn, name: str, value: str) -> str:
    indent, export = draw(st.sampled_from(["", "  ", "\t"])), draw(st.sampled_from(["", "export ", "export\t"]))
    quote = draw(st.sampled_from(["", '"', "'"]))
    comment = draw(st.just("") | COMMENT.map(lambda text: f"  {text}") | st.sampled_from([" ", "\t"]))
    return f"{indent}{export}{name}={quote}{value}{quote}{comment}"


@st.composite
def _other_line(draw: st.DrawFn) -> str:
    plain = st.just("") | COMMENT | COMMENT.map(lambda text: f"#API_BASE=x{text}") | st.just("garbage without a sign")
    return draw(plain | st.tuples(NAMES, VALUES).flatmap(lambda pair: _assignment(*pair)))


@given(
    st.data(),
    st.lists(_other_line(), max_size=5),
    st.lists(_other_line(), max_size=5),
    VALUES,
    VALUES,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
)
def test_only_the_value_changes(
    data: st.DataObject, before: list[str], after: list[str], old: str, new: str, end: str, mark: str, last: bool
) -> None:
    """Prefixes, quotes, comments, other lines, line ends, a byte order mark and a missing last line end stay."""
    lines = [*before, data.draw(_assignment("API_BASE", old)), *after]
    text = mark + end.join(lines) + (end if last else "")

    place = _found(text)
    changed = _changed(text, new)

    assert old == place.value == text[place.start : place.end]
    assert text[: place.start] + new + text[place.end :] == changed
    assert new == _found(changed).value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("API_BASE=old\n", "API_BASE=new\n"),
        ("API_BASE=\n", "API_BASE=new\n"),
        ('export API_BASE="old" # why\r\nB=1', 'export API_BASE="new" # why\r\nB=1'),
        ("# API_BASE=x\nXAPI_BASE=y\nAPI_BASE='old'", "# API_BASE=x\nXAPI_BASE=y\nAPI_BASE='new'"),
        ('KEY="one\ntwo"\nAPI_BASE=old\n', 'KEY="one\ntwo"\nAPI_BASE=new\n'),
        ("DON=t'\nAPI_BASE=old\n", "DON=t'\nAPI_BASE=new\n"),
        ("B=\udcff\nAPI_BASE=old\n", "B=\udcff\nAPI_BASE=new\n"),
    ],
)
def test_the_ways_in_which_people_write_them(text: str, expected: str) -> None:
    """Each form that all readers agree on is changed in its own style."""
    assert expected == _changed(text, "new")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("B=1\n", []),
        ("API_BASE=a\nB=1\nexport API_BASE=b\n", ["1:1", "3:1"]),
        ("API_BASE=a\n API_BASE = b\n", ["1:1", "2:1"]),
        ("API_BASE = a\n", ["1:11"]),
        ("API_BASE=a b\n", ["1:10"]),
        ('API_BASE="a"b\n', ["1:10"]),
        ("API_BASE=#a\n", ["1:10"]),
        ("API_BASE=a\\\nB=1\n", ["1:10"]),
        ("B=a\\\nAPI_BASE=b\n", ["2:1"]),
        ('KEY="one\nAPI_BASE=a\ntwo"\n', ["1:5", "2:1"]),
        ("KEY='one\nAPI_BASE=a\n", ["1:5", "2:1"]),
    ],
)
def test_what_readers_disagree_about_is_refused(text: str, where: list[str]) -> None:
    """Missing, twice, continued, inside another's quotes, oddly quoted: refused, naming every line concerned."""
    with pytest.raises(PlaceError) as refused:
        _found(text)
    assert where == [position(text, offset) for offset in refused.value.offsets]
    assert refused.value.remedy


@given(st.text(min_size=1), st.sampled_from(["", '"', "'"]))
def test_a_value_that_cannot_be_spelled_is_refused(value: str, quote: str) -> None:
    """A value that some reader would expand, split or end early is never written."""
    assume(not re.fullmatch(r"[A-Za-z0-9_./:@%+,=?-]*", value))
    text = f"API_BASE={quote}old{quote}\n"
    try:
        changed = _changed(text, value)
    except PlaceError:
        return
    assert quote
    assert f"API_BASE={quote}{value}{quote}\n" == changed
    assert not re.search(r"""["'\\$`\n\r]""", value)
