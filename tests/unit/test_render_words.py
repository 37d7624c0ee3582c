"""Values in words."""

from __future__ import annotations

import sys
from subprocess import run

import pytest
from pydantic import JsonValue

import statehub_plan.render as render
from statehub_plan.render.unknowns import gather_unknown
from statehub_plan.render.words import brief, counted, exact_moment, moment_of, named, span
from tests.golden import examples


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0 ms"),
        (0.0324, "32 ms"),
        (2.5, "2.5 s"),
        (59.99, "59.99 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
        (-5, "-5 s"),
    ],
)
def test_spans_have_two_units_at_most(seconds: float, told: str) -> None:
    """Milliseconds for a write gap, days for a stabilization."""
    assert told == span(seconds)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "none"),
        ([], "none"),
        (True, "true"),
        ({"b": 1, "a": "x"}, "a: x, b: 1"),
        ([{"a": 1}, {"a": 2}], "a: 1; a: 2"),
        ({"a": [1, 2], "b": {}}, "a: (1; 2), b: none"),
        ("", '""'),
    ],
)
def test_values_are_told_without_quotes_and_braces(value: JsonValue, told: str) -> None:
    """Sorted, so that two looks at the same world read the same."""
    assert told == brief(value)


def test_an_instant_that_is_none_is_unknown() -> None:
    """A missing or malformed instant is never shown as 1970."""
    assert "unknown" == moment_of(None)
    assert "unknown" == moment_of(True)
    assert "2026-06-27 12:00:00 UTC" == moment_of(1782561600)
    assert "2026-06-27 12:00:00.000 UTC" == exact_moment(examples.NOW)


def test_sides_get_their_names() -> None:
    """People think in endpoints, the planner in roles."""
    assert "wsl2 accepts writes and r1 is prepared" == named(
        "the old side accepts writes and the new side is prepared", "wsl2", "r1"
    )
    assert "clients are pointed at: wsl2" == named("clients are pointed at: old", "wsl2", "r1")
    assert "clients are pointed at: split" == named("clients are pointed at: split", "wsl2", "r1")


def test_counts_agree_with_their_noun() -> None:
    """One policy, two policies."""
    assert "1 policy" == counted(1, "policy", "policies")
    assert "2 policies" == counted(2, "policy", "policies")
    assert "0 steps" == counted(0, "step")


def test_one_dead_endpoint_is_one_line() -> None:
    """Thirty facts with one reason are told once; another reason stays a line of its own."""
    names = ("reach", "identity", "writes", "fence", "register")
    down = [examples.unknown(f"wsl2.{name}", "refused") for name in names]
    groups = gather_unknown([*down, examples.unknown("backup", "no such folder")])
    assert ["wsl2: reach, identity, writes and 2 more: refused", "backup: no such folder"] == [
        group.text(most=3) for group in groups
    ]


def test_rendering_is_imported_on_demand() -> None:
    """`--json` and Markdown never pay for rich, and no import here touches the world."""
    code = (
        "import sys; from statehub_plan.render import plan_markdown, run_report_html, status_markdown;"
        "print([name for name in ('rich', 'psycopg', 'click') if name in sys.modules])"
    )
    asked = run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == asked.stdout.strip()


@pytest.mark.parametrize("name", sorted(render.__all__))
def test_every_promised_name_is_a_function_each_time(name: str) -> None:
    """A module of the same name would take the function's place at the second import."""
    assert callable(getattr(render, name))
    assert callable(getattr(render, name))
