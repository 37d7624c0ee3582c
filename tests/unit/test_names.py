"""How objects are called: every two names are two, and ordinary ones are not dressed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statehub_plan.postgres.comparison import CannotTell
from statehub_plan.postgres.names import once, qualified

PART = st.text(alphabet='ab."\\ ', min_size=1, max_size=5)
PARTS = st.lists(PART, min_size=1, max_size=3).map(tuple)


def test_ordinary_names_stand_as_they_are() -> None:
    """Blanks, capitals and percent signs too; only what would make two names one is quoted."""
    assert "public.task" == qualified("public", "task")
    assert "hub.Mixed Case.100%" == qualified("hub", "Mixed Case", "100%")
    assert ('a."b.c"', '"a.b".c') == (qualified("a", "b.c"), qualified("a.b", "c"))
    assert '"say ""x"".y".t' == qualified('say "x".y', "t")


@given(PARTS, PARTS)
def test_no_two_are_called_the_same(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Whatever dots, quotes and backslashes are in them."""
    assert (one == other) is (qualified(*one) == qualified(*other))


def test_what_comes_twice_under_one_name_is_an_error() -> None:
    """Not something that nobody looks at."""
    assert {"a": 1, "b": 2} == once([("a", 1), ("b", 2)], "tables")
    with pytest.raises(CannotTell, match="two of its tables are called a"):
        once([("a", 1), ("b", 2), ("a", 1)], "tables")
