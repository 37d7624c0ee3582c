"""Spellings of one expression are one; different expressions are never taken for the same."""

from __future__ import annotations

import pytest

from statehub_plan.postgres.spelling import same_expression

NESTED = "WHEN ((((old.a IS DISTINCT FROM new.a) OR (old.b IS DISTINCT FROM new.b)) OR (old.c = new.c)))"
FLAT = "WHEN (((old.a IS DISTINCT FROM new.a) OR (old.b IS DISTINCT FROM new.b) OR (old.c = new.c)))"


def test_a_chain_that_was_read_again_is_the_same_chain() -> None:
    """A trigger's condition before and after a dump."""
    assert same_expression(NESTED, FLAT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CHECK (((a OR b) AND c))", "CHECK ((a OR (b AND c)))"),
        ("CHECK ((a OR b) AND c)", "CHECK (a OR b AND c)"),
        ("CHECK ((NOT (a OR b)) OR c)", "CHECK (NOT a OR b OR c)"),
        ("CHECK (f((a OR b)) OR c)", "CHECK (f(a) OR b OR c)"),
        ("CHECK (x = '(a OR b) OR c')", "CHECK (x = 'a OR b OR c')"),
        ('CHECK ("AND" OR a)', 'CHECK ("OR" OR a)'),
        ("CHECK ((a - (b - c)) > 0)", "CHECK (((a - b) - c) > 0)"),
        ("CHECK ((a", "CHECK (a"),
        ("CHECK (a) b)", "CHECK ((a) b)"),
    ],
)
def test_other_meanings_stay_different(one: str, other: str) -> None:
    """Only nesting of one and the same connective is ignored."""
    assert not same_expression(one, other)
