"""A plan, in every form in which people meet it."""

from __future__ import annotations

import pytest

from statehub_plan.model.plan import Direction, Finding, Level, Plan, Refused
from statehub_plan.render import plan_markdown, plan_mermaid, plan_view
from statehub_plan.render.verdict import verdict_view
from tests.golden import examples
from tests.golden.golden import check, on_screen

DOWN = ("reach", "identity", "writes", "fence", "register", "tables", "version_num", "api.health", "size_bytes")


def cutover() -> Plan:
    """The move of the status document, nothing objected to."""
    return examples.judged(examples.plan())


def unreachable() -> Plan:
    """The new side's database does not answer."""
    reason = "connection refused: nothing listens on 10.20.0.11:5432"
    down = [examples.unknown(f"{examples.NEW}.{fact}", reason) for fact in DOWN]
    return examples.plan(examples.observation(list(examples.before_cutover()), down))


def vetoed() -> Plan:
    """Policies object, some with more weight than others."""
    remedy = "Save the plan, and let the gate's approvers run `approve` on it."
    return examples.judged(
        examples.plan(),
        Finding(code="gate_approved.needed", level=Level.ADVISORY, message="hold", step="04-hold", remedy=remedy),
        Finding(code="gate_approved.needed", level=Level.ADVISORY, message="decide", step="09-decide", remedy=remedy),
        Finding(code="clock.skew", level=Level.SOFT, message="the clocks differ by 3 s", remedy="Set them."),
        Finding(code="backup_fresh.stale", level=Level.HARD, message="the backup is 3 days old", remedy="Take one."),
    )


def switchback() -> Plan:
    """The way back while stabilization runs."""
    turned = examples.plan(examples.after_cutover(), (), direction=Direction.SWITCHBACK, primary=examples.OLD)
    return examples.judged(turned)


def nothing() -> Plan:
    """The wish holds already."""
    recorded = examples.known(
        "document.recorded", {"term": 1, "identity": examples.identity_of(examples.NEW), "passed": True}
    )
    written = examples.known("document", {"path": "../docs/operating-model.md", "exists": True})
    return examples.plan(examples.observation(list(examples.after_cutover("passed")), recorded, written))


def deferred() -> Plan:
    """A lane that waits for its entry criteria."""
    waiting = Finding(
        code="deferred_lanes.waiting",
        level=Level.ADVISORY,
        message="this lane is deferred until: first",
        remedy="Wait for the entry criteria of the lane; `status` shows each one.",
    )
    return examples.judged(examples.plan(), waiting)


def test_a_deferred_plan_is_not_offered_to_be_applied() -> None:
    """Policies allow it to be planned; carried out it would be vetoed, which is said before anybody approves it."""
    text = on_screen(plan_view(deferred(), saved_as="move.plan"))
    following = text[text.index("Next\n") :]
    assert "wait: this lane is deferred until: first; `apply` is vetoed before that" in following
    assert "statehub-plan apply" not in following


def test_a_refusal_is_printed_once() -> None:
    """The policy that keeps such a plan from being applied repeats the planner's words; alone it says them."""
    refused = Refused(code="fallback-retired", what="the fallback is retired", remedy="say `mode: retired`")
    plan = examples.plan().model_copy(update={"refused": refused})
    objection = Finding(
        code="refused_plans.refusal",
        level=Level.HARD,
        message=f"the planner refused: {refused.what}",
        remedy=refused.remedy,
    )
    judged = examples.judged(plan, objection)
    told = on_screen(plan_view(judged, saved_as=None), 140)
    assert (1, 1) == (told.count(refused.what), told.count(refused.remedy))
    assert "hard     refused_plans.refusal: see above" in told
    assert refused.what in on_screen(verdict_view(judged.verdict), 140)


def test_no_digest_where_there_is_nothing_to_approve() -> None:
    """A plan without steps has no effects that anybody could sign."""
    for made in (nothing(), unreachable()):
        assert "approvals are bound" not in on_screen(plan_view(made, saved_as="move.plan"))
        assert "approvals are bound" not in plan_markdown(made)


PLANS = {
    "cutover": cutover,
    "unreachable": unreachable,
    "vetoed": vetoed,
    "switchback": switchback,
    "nothing": nothing,
}


@pytest.mark.parametrize("name", sorted(PLANS))
def test_on_a_wide_screen(name: str) -> None:
    """What changes, every step with its reason, what is not known, what policies say, what to run next."""
    check(f"render/plan-{name}.txt", on_screen(plan_view(PLANS[name](), saved_as=f"{name}.plan")))


def test_on_a_narrow_screen() -> None:
    """80 columns cost line breaks inside cells, never alignment or words."""
    check("render/plan-cutover-80.txt", on_screen(plan_view(cutover(), saved_as="cutover.plan"), width=80))


def test_a_cutover_fits_a_screen_of_50_lines() -> None:
    """Whoever approves sees the whole of it at once."""
    lines = on_screen(plan_view(cutover(), saved_as="cutover.plan")).splitlines()
    assert 50 >= len(lines)
    assert 120 >= max(len(line) for line in lines)


def test_what_changes_fits_the_smallest_screen() -> None:
    """At 80×40 the diff, the gate and the way into the write pause are there without scrolling."""
    lines = on_screen(plan_view(cutover(), saved_as="cutover.plan"), width=80).splitlines()
    assert "Changes (fact: now → after)" in lines[:40]
    assert any("gate CUST-WP-0011-T07" in line for line in lines[:40])
    assert any("7 HOLD" in line for line in lines[:40])
    assert 80 >= max(len(line) for line in lines)


def test_unsaved() -> None:
    """Nothing can be approved or applied before it was saved; the plan says how."""
    told = on_screen(plan_view(cutover(), saved_as=None))
    assert "statehub-plan plan /srv/state-hub/plans/cust-wp-0011.yaml -out FILE" in told
    assert "statehub-plan apply" not in told


@pytest.mark.parametrize("name", ["cutover", "unreachable", "vetoed", "nothing"])
def test_for_a_pull_request(name: str) -> None:
    """Markdown with the decisive part first and digests folded."""
    check(f"render/plan-{name}.md", plan_markdown(PLANS[name]()))


@pytest.mark.parametrize("name", ["cutover", "unreachable"])
def test_as_a_flowchart(name: str) -> None:
    """Steps, gates, the point of no return, and what a crash in each step leaves."""
    check(f"render/plan-{name}.mmd", plan_mermaid(PLANS[name]()))
