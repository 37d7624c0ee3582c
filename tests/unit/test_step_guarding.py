"""What the guard never touches."""

from __future__ import annotations

from pathlib import Path

from statehub_plan.abstraction import ground
from statehub_plan.planning import turned
from statehub_plan.steps.guarding import guard_fallback
from tests.unit.facts import NOW, document, observation, plan
from tests.unit.simulated import following, staged


def test_the_slot_of_a_first_move_under_way_is_nobodys_fallback() -> None:
    """Before any decision a timer's `guard` sees a stream into a side that is to become primary: it opens no session,
    so it drops nothing, and says of no way back that it is lost."""
    doc = document(
        transfer={"method": "replication"},
        desired={"primary": "away", "fallback": {"endpoint": "home", "mode": "following"}},
    )
    seen = observation(following(doc))
    here = turned(doc, "home")
    stage = staged(plan(following(doc), here, evidence=()), Path())
    assert guard_fallback(stage, seen, ground(here, seen, (), now=NOW)) is None
