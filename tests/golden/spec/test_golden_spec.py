"""Exact output of the loader: a document with every kind of mistake, and the strategy's own words in the plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.spec import load, parse

HERE = Path(__file__).parent
PLANS = HERE.parents[2] / "plans"


def test_everything_wrong_is_told_at_once_and_in_order() -> None:
    """One run is enough to correct a document in which nearly everything is wrong; no secret of it is repeated."""
    with pytest.raises(StatehubError) as caught:
        parse((HERE / "everything-wrong.yaml").read_bytes(), Path("everything-wrong.yaml"))
    expected = (HERE / "everything-wrong.txt").read_text(encoding="utf-8")
    assert expected == "\n".join(caught.value.details) + "\n"
    assert "hunter22" not in str(caught.value)


def test_the_plans_carry_the_words_of_the_migration_strategy() -> None:
    """Every sentence of the status document that no observation can give comes out of the plans' texts."""
    written = "\n".join(load(path).document.model_dump_json() for path in sorted(PLANS.glob("*.yaml")))
    sentences = (HERE / "strategy.txt").read_text(encoding="utf-8").splitlines()
    assert [] == [sentence for sentence in sentences if sentence not in written]
