"""The step `document`: what it records about a term must be what somebody has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.steps import StepKind
from statehub_plan.steps import executor
from tests.unit.facts import PASSED, observation, plan, switched
from tests.unit.simulated import staged

AFTER = switched(
    stabilization=PASSED,
    access__mcp={"value": "http://127.0.0.1:2", "endpoint": "away", "answers": True, "detail": ""},
)


@pytest.mark.parametrize("slow", [0, 2, 9])
def test_nothing_is_written_about_a_term_that_could_not_be_read(tmp_path: Path, slow: int) -> None:
    """The primary's register does not answer in time: an earlier term on record would make it due again. Nobody waits
    for this step, so it looks again before it gives up."""
    looks = iter(range(99))
    recorded: list[dict[str, Any]] = []
    made = plan(AFTER)
    (step,) = (one for one in made.steps if one.kind is StepKind.DOCUMENT)
    stage = staged(
        made,
        tmp_path,
        record_fact=lambda _kind, _state, payload: recorded.append(payload),
        look=lambda: (observation(AFTER, *(["away.register"] if next(looks) < slow else [])), ()),
    )
    given_up = slow > 2
    if given_up:
        with pytest.raises(StatehubError) as raised:
            executor(StepKind.DOCUMENT)(stage, step)
        assert "primary-unknown" == raised.value.code
        assert ["away.register"] == [line.split(":")[0] for line in raised.value.details]
    else:
        executor(StepKind.DOCUMENT)(stage, step)
    written = tmp_path / "operating-model.md"
    assert (not given_up, [] if given_up else [1]) == (written.exists(), [one["term"] for one in recorded])
