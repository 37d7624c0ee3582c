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
    ("stored", "read_again"),
    [
        (
            "(((s)::text = ANY ((ARRAY['new'::character varying, 'a, ]'::character varying])::text[])))",
            "(((s)::text = ANY (ARRAY[('new'::character varying)::text, ('a, ]'::character varying)::text])))",
        ),
        ("(ARRAY[f(a, b[1]), 'x)'])::public.\"a b\"[]", 'ARRAY[(f(a, b[1]))::public."a b", (\'x)\')::public."a b"]'),
        ("(ARRAY[a])::timestamp without time zone[]", "ARRAY[(a)::timestamp without time zone]"),
        (
            "(x = ANY ((ARRAY[(y = ANY ((ARRAY[a])::text[]))])::c[]))",
            "(x = ANY (ARRAY[((y = ANY (ARRAY[(a)::text])))::c]))",
        ),
    ],
)
def test_an_array_that_was_read_again_is_cast_member_by_member(stored: str, read_again: str) -> None:
    """What `IN` makes of a varchar's list, before and after a dump."""
    assert same_expression(stored, read_again)
    assert same_expression(read_again, stored)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(ARRAY[a, b])::text[]", "ARRAY[(a)::text, b]"),
        ("(ARRAY[a, b])::text[]", "ARRAY[(a)::text, (b)::name]"),
        ("(ARRAY[a, b])::text[]", "ARRAY[(b)::text, (a)::text]"),
        ("(ARRAY[a])::character varying(3)[]", "ARRAY[(a)::character varying(3)]"),
        ("'(ARRAY[a])::text[]'", "'ARRAY[(a)::text]'"),
        ('"(ARRAY[a])::text[]"', '"ARRAY[(a)::text]"'),
        ("(ARRAY[a])::text[] || 'x'", "(ARRAY[a])::text[] || 'y'"),
        ("(ARRAY[])::text[]", "ARRAY[]"),
        ("(ARRAY[a", "ARRAY[(a"),
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
