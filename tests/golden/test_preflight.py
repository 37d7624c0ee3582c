"""What the pre-flight checks found, as `doctor` and `plan` show it."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.model.facts import Fact
from statehub_plan.model.output import PreflightOutput
from statehub_plan.model.plan import Direction, Plan
from statehub_plan.model.preflight import Found, Severity, Side
from statehub_plan.render import plan_markdown, plan_view, preflight_view
from tests.golden import examples
from tests.golden.golden import check, on_screen

FOUND = (
    *(
        Found(
            id="no-replica-identity",
            severity=Severity.ERROR,
            side=Side.SOURCE,
            subject=f"public.log_{number}",
            what=f"public.log_{number} has no primary key and so no replica identity",
            reason="once it is published, UPDATE and DELETE on it fail on the source, in the service's face",
            remedy=f"ALTER TABLE public.log_{number} REPLICA IDENTITY FULL (or give it a primary key)",
        )
        for number in range(1, 6)
    ),
    Found(
        id="wal-level",
        severity=Severity.ERROR,
        side=Side.TARGET,
        subject="",
        what="wal_level is replica on the target",
        reason="without it no logical slot can be made",
        remedy="ALTER SYSTEM SET wal_level = logical, then restart the server",
    ),
    Found(
        id="long-transactions",
        severity=Severity.WARNING,
        side=Side.SOURCE,
        subject="4711",
        what="session 4711 (user eve\u202e, application \x1b[31mpsql) has been running a transaction for 3600 s",
        reason="a hold has to wait for its locks or end it",
        remedy="let it end, or: SELECT pg_terminate_backend(4711)",
    ),
    Found(
        id="sequences",
        severity=Severity.INFO,
        side=Side.SOURCE,
        subject="",
        what="5 sequences are set to their real values under the hold",
        reason="replication sends no sequence",
        remedy="",
    ),
)


def doctor(*found: Found) -> str:
    """What `doctor` prints about the checks."""
    return on_screen(preflight_view(PreflightOutput(source=examples.OLD, target=examples.NEW, checks=98, found=found)))


def planned(*found: Found, direction: Direction = Direction.FORWARD) -> Plan:
    """A cutover that was planned while the checks said this."""
    listed: list[JsonValue] = [one.model_dump(mode="json", exclude={"subject", "reason"}) for one in found]
    fact = examples.known("preflight", {"source": examples.OLD, "target": examples.NEW, "found": listed})
    back = direction is Direction.SWITCHBACK
    before = examples.after_cutover() if back else examples.before_cutover()
    seen = examples.observation(list(before), fact)
    if back:
        return examples.plan(seen, (), direction=direction, primary=examples.OLD)
    return examples.judged(examples.plan(seen))


def replanned(plan: Plan, fact: Fact) -> Plan:
    """The same plan with one fact exchanged."""
    return plan.model_copy(update={"observation": examples.observation(list(plan.observation), fact)})


def test_doctor_shows_what_was_found_by_side() -> None:
    """Errors first, each with its remedy; of many alike some are named and the rest counted; nothing escapes."""
    check("render/doctor-preflight.txt", doctor(*FOUND))


def test_doctor_is_short_when_all_is_well() -> None:
    """One line, unless there is something to tell."""
    check("render/doctor-preflight-well.txt", doctor())
    assert "98 checks, nothing stands in the way, 1 warning" in doctor(FOUND[-2])


def test_a_plan_shows_what_stands_in_its_way() -> None:
    """What prepare-target will refuse is seen before anybody is asked to approve; what is only told is left out."""
    text = on_screen(plan_view(planned(*FOUND), saved_as="cutover.plan"))
    section = text[text.index("Pre-flight") :]
    check("render/plan-preflight.txt", section[: section.index("\n\n") + 1])
    assert "5 sequences" not in text
    markdown = plan_markdown(planned(*FOUND))
    assert "### Pre-flight" in markdown
    assert "`no-replica-identity`" in markdown


def test_what_is_in_the_way_comes_before_what_policies_allow_and_before_approving() -> None:
    """They judge other things: whoever reads that they allow a plan must not take it for one that can be applied."""
    text = on_screen(plan_view(planned(*FOUND), saved_as="cutover.plan"))
    assert text.index("IN THE WAY: 6 errors") < text.index("Changes") < text.index("Policies allow this")
    following = text[text.index("Next\n") :].splitlines()
    assert following[1].startswith("  mend what pre-flight objects to")
    assert not any("statehub-plan approve" in line for line in following)
    assert "**IN THE WAY: 6 errors" in plan_markdown(planned(*FOUND))
    assert "IN THE WAY" not in on_screen(plan_view(planned(FOUND[-2]), saved_as=None))


NOT_EMPTY = Found(
    id="target-not-empty",
    severity=Severity.ERROR,
    side=Side.TARGET,
    subject="",
    what="the target is not empty: 7 tables",
    reason="what is there already may be somebody's only copy",
    remedy="take an empty database, or set transfer.targetContent: replace (it is dumped, then dropped)",
)


def test_what_a_plan_replaces_is_not_in_its_way() -> None:
    """The checks know the document, the step knows the content: a former primary's stale rows are replaced unasked,
    and `apply` asks the checks as the step says."""
    replacing = planned(NOT_EMPTY)
    assert any(step.params.get("replaces_content") for step in replacing.steps)
    assert "target-not-empty" not in on_screen(plan_view(replacing, saved_as=None))


def test_what_only_hinders_replication_is_not_in_the_way_of_a_dump() -> None:
    """`auto` took the dump because of it; it is told, and keeps nobody from applying."""
    plan = planned(*FOUND)
    fact = plan.observation.get("preflight")
    assert fact is not None
    assert isinstance(fact.value, dict)
    hindered = fact.model_copy(
        update={"value": {**fact.value, "replication_errors": ["no-replica-identity", "wal-level"]}}
    )
    text = on_screen(plan_view(replanned(plan, hindered), saved_as=None))
    assert "IN THE WAY" not in text
    assert "no-replica-identity" in text


def test_a_plan_says_nothing_about_checks_that_object_to_nothing_or_to_another_move() -> None:
    """No noise: told things are `doctor`'s, and the way back was not what the checks were about."""
    assert "Pre-flight" not in on_screen(plan_view(planned(FOUND[-1]), saved_as=None))
    assert "Pre-flight" not in on_screen(plan_view(planned(*FOUND, direction=Direction.SWITCHBACK), saved_as=None))
    assert "Pre-flight" not in plan_markdown(planned(FOUND[-1]))
