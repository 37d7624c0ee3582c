"""What a plan may leave out of the comparison, and how it has to say so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from statehub_plan.model.spec import CutoverPlan, Waiver
from statehub_plan.postgres.names import qualified
from statehub_plan.schemas import problems
from tests.golden import examples

GOOD: tuple[dict[str, str], ...] = (
    {"table": "public.cache", "reason": "rebuilt at start"},
    {"table": 'public."a.b"', "reason": "a dot of its own"},
    {"table": '"a ""b""".Mixed Case', "reason": "quotes of its own"},
    {"kind": "database", "object": "collation", "reason": "indexes are built anew"},
    {"kind": "database", "object": "collation", "aspect": "version", "reason": "indexes are built anew"},
)
BAD: tuple[dict[str, str], ...] = (
    {"reason": "nothing named"},
    {"table": "public.cache"},
    {"table": "cache", "reason": "no schema"},
    {"table": "a.b.c", "reason": "which of two"},
    {"table": 'public."cache"', "reason": "no way in which `compare` names it"},
    {"table": 'public.a"b', "reason": "not quoted"},
    {"table": 'public."a"b.c"', "reason": "half quoted"},
    {"table": "public.cache", "kind": "index", "object": "public.i", "reason": "both"},
    {"kind": "index", "reason": "which one"},
    {"object": "public.i", "reason": "what is it"},
    {"table": "public.cache", "aspect": "options", "reason": "of a table all or nothing"},
)


def document(*waivers: dict[str, str]) -> dict[str, Any]:
    """The example's plan document with these waivers."""
    made: dict[str, Any] = yaml.safe_load((examples.HERE / "render" / "cust-wp-0011.yaml").read_text(encoding="utf-8"))
    made["spec"].setdefault("compare", {})["waive"] = list(waivers)
    return made


@pytest.mark.parametrize("waiver", GOOD, ids=str)
def test_tables_and_single_objects_can_be_waived(waiver: dict[str, str]) -> None:
    """By the models and by the published schema alike; what is waived stands in the step that compares."""
    assert () == problems("cutover-plan", document(waiver))
    spec = CutoverPlan.model_validate(document(waiver)).spec
    assert waiver["reason"] == spec.compare.waive[0].reason


@pytest.mark.parametrize("waiver", BAD, ids=str)
def test_a_waiver_names_one_thing_and_a_reason(waiver: dict[str, str]) -> None:
    """Models and schema refuse the same."""
    with pytest.raises(ValidationError):
        CutoverPlan.model_validate(document(waiver))
    assert () != problems("cutover-plan", document(waiver))


def test_a_waiver_is_named_as_compare_names_things() -> None:
    """So that one can be copied from its output."""
    named = [
        "public.cache",
        'public."a.b"',
        '"a ""b""".Mixed Case',
        "database collation",
        "database collation: version",
    ]
    assert named == [Waiver.model_validate(each).name for each in GOOD]


@pytest.mark.parametrize("parts", [("public", "a.b"), ('a "b"', "Mixed Case"), ('"', "."), ("a\nb", "ü％ {}\\")])
def test_any_table_can_be_waived(parts: tuple[str, str]) -> None:
    """Whatever it is called."""
    name = qualified(*parts)
    assert () == problems("cutover-plan", document({"table": name, "reason": "any"}))
    assert name == Waiver(table=name, reason="any").table
