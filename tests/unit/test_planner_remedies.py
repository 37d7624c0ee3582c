"""What the planner says to do about a fallback that is not as it should be depends on what is the matter with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statehub_plan.model.plan import Refused
from statehub_plan.model.spec import FallbackMode
from statehub_plan.planner import Wish, next_step
from statehub_plan.world import Access, Due, Follows, Reach, Role, Side, Stable, Term, World, Writes, with_side

SETTLED = World(
    old=Side(writes=Writes.FROZEN, follows=Follows.STREAMING),
    new=Side(writes=Writes.OPEN),
    primary=Role.NEW,
    term=Term.SETTLED,
    access=Access.NEW,
    stabilization=Stable.PASSED,
    document=Due.DONE,
)
FOLLOWING = Wish(fallback=FallbackMode.FOLLOWING)
README = 'README, "When the fallback is lost or no longer follows"'


@pytest.mark.parametrize(
    ("changed", "wish", "code", "remedy"),
    [
        ({"writes": Writes.UNKNOWN}, FOLLOWING, "fallback-unobservable", "`refresh` completes the fence"),
        ({"writes": Writes.UNKNOWN, "reach": Reach.UNREACHABLE}, FOLLOWING, "fallback-unobservable", "reachable"),
        (
            {"writes": Writes.UNKNOWN},
            Wish(fallback=FallbackMode.RETIRED),
            "fallback-unobservable",
            "`refresh` completes the fence",
        ),
        ({"follows": Follows.LOST}, FOLLOWING, "fallback-not-following", README),
        ({"follows": Follows.NOBODY}, FOLLOWING, "fallback-not-following", README),
        ({"follows": Follows.COPYING}, FOLLOWING, "fallback-not-following", "`refresh` shows how far"),
    ],
)
def test_a_remedy_fits_what_is_seen(changed: dict[str, object], wish: Wish, code: str, remedy: str) -> None:
    """Whoever answers need not be made reachable, and whose tables are being copied need not be filled anew."""
    assert next_step(SETTLED, FOLLOWING) is None
    found = next_step(with_side(SETTLED, Role.OLD, **changed), wish)
    assert isinstance(found, Refused)
    assert code == found.code
    assert remedy in found.remedy


@pytest.mark.parametrize(("role", "fallback"), [(Role.NEW, True), (Role.OLD, False)])
def test_only_of_a_fallback_the_fence_can_be_completed(role: Role, fallback: bool) -> None:
    """Whoever is primary has its fence shut by a switch alone."""
    world = replace(with_side(SETTLED, role, writes=Writes.UNKNOWN), primary=Role.OLD)
    world = world if role is Role.OLD else with_side(world, Role.OLD, writes=Writes.OPEN)
    found = next_step(world, FOLLOWING)
    assert isinstance(found, Refused)
    assert f"{role}-writability-unknown" == found.code
    assert fallback is ("`refresh`" in found.remedy)
