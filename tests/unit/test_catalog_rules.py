"""What may differ between two catalogs that mean the same, where no server is needed to know."""

from __future__ import annotations

from typing import Any

import pytest

from statehub_plan.postgres.catalog_rules import Case, CatalogObject, Judge, excuse


class Mute(Judge):
    """Accepts no definition."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("nobody was to be connected to"))

    def view(self, definition: str) -> str | None:
        """Never."""
        return None

    def routine(self, definition: str) -> str | None:
        """Never."""
        return None


def excused(kind: str, aspect: str, ours: Any, theirs: Any, **more: Any) -> bool:
    """Whether some rule calls them the same."""
    source, target = (CatalogObject(kind, "x", None, {aspect: each, **more}) for each in (ours, theirs))
    return excuse(Case(source, target, aspect, 170000, 180000, Mute())) is not None


NESTED, FLAT, OTHER = "((a AND b) AND c)", "(a AND b AND c)", "((a AND b) OR c)"
EXPRESSIONS = [
    ("column", "default"),
    ("type", "default"),
    ("relation", "partition key"),
    ("statistics", "definition"),
    ("rule", "definition"),
    ("policy", "using"),
]


@pytest.mark.parametrize(("kind", "aspect"), EXPRESSIONS)
def test_a_flat_chain_is_the_same(kind: str, aspect: str) -> None:
    """The parser makes one of a nested chain; nothing else is the same."""
    assert excused(kind, aspect, NESTED, FLAT)
    assert not excused(kind, aspect, NESTED, OTHER)
    assert not excused(kind, aspect, NESTED, None)


def test_text_that_is_kept_as_it_was_written_differs() -> None:
    """Comments, options, bodies of functions: whoever wrote them may have meant the parentheses."""
    assert not excused("comment", "text", NESTED, FLAT)
    head = "CREATE FUNCTION x(c boolean DEFAULT {}) RETURNS boolean\n LANGUAGE sql\nAS $function$SELECT {}$function$"
    for first, second, same in ((NESTED, FLAT, True), (OTHER, FLAT, False)):
        ours, theirs = head.format(first, NESTED), head.format(second, NESTED)
        assert same is excused("routine", "definition", ours, theirs, **{"sql body": False})
    ours, theirs = head.format(FLAT, NESTED), head.format(FLAT, FLAT)
    assert not excused("routine", "definition", ours, theirs, **{"sql body": False})


def test_filters_of_publications() -> None:
    """Table by table, with the same columns."""
    assert excused("publication", "tables", [["t", None, NESTED]], [["t", None, FLAT]])
    assert not excused("publication", "tables", [["t", None, NESTED]], [["t", ["a"], FLAT]])
    assert not excused("publication", "tables", [["t", None, NESTED]], [["t", None, OTHER]])
    assert not excused("publication", "tables", [["t", None, NESTED]], None)


def test_what_is_bound_to_something_else_differs() -> None:
    """However it is spelled, whoever is asked."""

    class Agreeing(Mute):
        def view(self, definition: str) -> str | None:
            return "all the same"

    for bound in (["operator public.=(public.citext,public.citext)"], None):
        source = CatalogObject("relation", "x", None, {"view": NESTED, "binding": bound})
        for theirs, same in ((bound, True), (["CASE by operator public.=(a,a)"], False)):
            target = CatalogObject("relation", "x", None, {"view": FLAT, "binding": theirs})
            for versions in ((150000, 180000), (180000, 180000)):
                assert same is (excuse(Case(source, target, "view", *versions, Agreeing())) is not None)
        constraint = CatalogObject("constraint", "x", None, {"definition": NESTED, "binding": bound})
        other = CatalogObject("constraint", "x", None, {"definition": FLAT, "binding": ["operator public.=(a,a)"]})
        assert excuse(Case(constraint, other, "definition", 180000, 180000, Mute())) is None


def test_what_no_server_accepts_differs() -> None:
    """Two views that nobody could judge are not the same for it."""
    assert not excused("relation", "view", "SELECT 1", "SELECT 2")
    body = "CREATE FUNCTION x() RETURNS integer\n LANGUAGE sql\nRETURN {}\n"
    assert not excused("routine", "definition", body.format(1), body.format(2), **{"sql body": True})
