"""The applier during a switch by replication, call by call, and what follows a decision however the run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from statehub_plan.errors import Exit, OutcomeUnknown, StatehubError
from statehub_plan.model.record import RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.render.diff import changes
from tests.unit.facts import fenced, identity, record
from tests.unit.simulated import PLAN, WHATEVER, Simulated, Switching, assert_nobody_waits, ended, raising

MOVES: dict[str, Callable[[], Simulated]] = {"dump": lambda: Simulated(PLAN), "replication": Switching}
by_each_method = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)


def undisturbed(move: Callable[[], Simulated]) -> Simulated:
    """A whole run in which nothing goes wrong; it says what is called when."""
    world = move()
    world.run()
    assert ({"away"}, True) == (world.open, world.decided)
    return world


LEFT_OUT: dict[str, dict[str, object]] = {
    "operatingModel": {"operatingModel": None},
    "access": {"access": []},
    "gates": {"gates": []},
    "tasks": {"tasks": []},
    "all of it": {"operatingModel": None, "access": [], "gates": [], "tasks": []},
}


@pytest.mark.parametrize("left_out", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_plan_without_what_is_optional_is_carried_out_without_a_surprise(left_out: dict[str, object]) -> None:
    """What a document does not have is no difference between the model and what is observed, there and back."""
    world = Switching(**left_out)
    assert ended(world) is None
    assert {"away"} == world.open
    assert "document" not in {change.fact for change in changes(world.plan)} or world.plan.spec.spec.operating_model


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_fails_at_whatever_call_of_a_switch_nobody_is_left_waiting(after: bool) -> None:
    """As in a move by dump: running again ends with the new primary, or says that the plan is spent."""
    spent = finished = 0
    for at in range(1, undisturbed(Switching).calls + 1):
        world = Switching()
        world.after, world.mishaps = after, {at: raising(at)}
        ended(world)
        assert_nobody_waits(world)
        again = ended(world)
        assert_nobody_waits(world)
        finished += world.decided
        spent += not world.decided
        assert {"away" if world.decided else "home"} == world.open, (at, again)
    assert finished > spent > 0


@by_each_method
def test_a_decision_whose_database_is_out_of_sight_is_never_taken_back(move: Callable[[], Simulated]) -> None:
    """From any call after the decision on, the new side's connection string leads to somebody else's empty database,
    and the run ends: there is nothing to burn there, and the old primary stays shut beside the decided one."""
    whole = undisturbed(move)
    told = set()
    for at in range(whole.executed[StepKind.DECIDE], whole.calls + 1):
        for what in WHATEVER:
            world = move()

            def bound_anew(world: Simulated = world, what: Callable[[], BaseException] = what) -> NoReturn:
                world.values |= {
                    "away.identity": identity("somebody else's"),
                    "away.register": [],
                    "away.transfer": None,
                    "away.fence": fenced(None),
                    "away.writes": "open",
                }
                raise what()

            world.after, world.mishaps = True, {at: bound_anew}
            ended(world)
            assert "home" not in world.open, (at, what)
            again = ended(world)
            assert "home" not in world.open, (at, what)
            told |= set(again.details) if isinstance(again, StatehubError) else set()
    assert any("away.identity" in line for line in told)


def test_a_target_that_was_exchanged_before_the_decision_is_left_alone_and_that_is_told() -> None:
    """The freeze stands, the database that answers is not the plan's: whether a decision fell in the real one this run
    cannot see, so it says why the old primary stays shut and what to mend."""
    world = Switching()

    def bound_anew() -> NoReturn:
        world.values |= {"away.identity": identity("somebody else's"), "away.register": []}
        raise KeyboardInterrupt

    world.after, world.mishaps = True, {undisturbed(Switching).executed[StepKind.FREEZE]: bound_anew}
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert set() == world.open - {"away"}
    assert any("another database answers than the plan's" in line for line in error.details)
    assert any("mend the connection string" in line for line in error.details)


def away(world: Simulated, what: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    """From now on the journal takes nothing more, and this happens."""

    def go_wrong() -> NoReturn:
        world.journal_gone_at = world.calls
        raise what()

    return go_wrong


@pytest.mark.parametrize("fallen", [False, True])
def test_an_unknown_decision_stays_unknown_where_the_journal_is_away_too(fallen: bool) -> None:
    """One cut at the operator's side takes both: status 7, neither burned nor opened; running again settles it."""
    world = Switching()
    unknown = away(world, lambda: OutcomeUnknown(code="decision-unknown", what="nobody can tell", hint="look"))
    world.after, world.mishaps = fallen, {undisturbed(Switching).executed[StepKind.DECIDE]: unknown}
    error = ended(world)
    assert isinstance(error, OutcomeUnknown)
    assert ("decision-unknown", set()) == (error.code, world.open)
    assert any(line.startswith("not on record: ") for line in error.details)
    world.journal_gone_at = None
    assert ended(world) is None
    assert {"away"} == world.open


@by_each_method
@pytest.mark.parametrize("unreadable", [False, True])
def test_a_journal_that_goes_away_behind_the_decision_keeps_nobody_from_the_new_primary(
    move: Callable[[], Simulated], unreadable: bool
) -> None:
    """From any call on between decision and redirect nothing can be put on record, or even read: it is opened, clients
    are pointed at it, and only then the run ends."""
    whole = undisturbed(move)
    for at in range(whole.executed[StepKind.DECIDE] + 1, whole.executed[StepKind.REDIRECT] + 1):
        world = move()
        world.journal_gone_at, world.unreadable = at, unreadable
        world.lost = StatehubError(code="journal-unreachable", what="the journal's server is away", hint="wait for it")
        error = ended(world)
        assert isinstance(error, StatehubError), at
        assert ({"away"}, "away") == (world.open, world.values["access.mcp"]["endpoint"]), (at, error)


def test_a_run_that_fails_while_its_primary_serves_tells_of_no_outage() -> None:
    """Neither where the other side was exchanged before the decision, nor where the fallback was rebuilt after it."""
    for at, exchanged, serving in ((StepKind.CHECK_EVIDENCE, "away", "home"), (StepKind.REDIRECT, "home", "away")):
        world = Switching()

        def rebuilt(world: Simulated = world, name: str = exchanged) -> NoReturn:
            world.values[f"{name}.identity"] = identity("somebody else's")
            raise StatehubError(code="x", what="something else", hint="mend it")

        world.after, world.mishaps = True, {undisturbed(Switching).executed[at]: rebuilt}
        error = ended(world)
        assert isinstance(error, StatehubError)
        assert ({serving}, ()) == (world.open, error.details)


def test_a_redirect_that_fails_is_told_where_the_journal_is_away_too() -> None:
    """Whoever reads it has to know which path still leads to the frozen side."""
    world = Switching()
    failed = away(world, lambda: StatehubError(code="redirect-incomplete", what="cli: still at home", hint="mend it"))
    world.after, world.mishaps = True, {undisturbed(Switching).executed[StepKind.REDIRECT]: failed}
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert ("cli: still at home", {"away"}) == (error.what, world.open)
    assert any(line.startswith("not on record: ") for line in error.details)


@by_each_method
def test_a_decision_that_was_not_put_on_record_is_when_its_run_goes_on(move: Callable[[], Simulated]) -> None:
    """Killed right after the commit, or without a journal then: what protects a decision later is its record."""
    world = move()
    world.after = True
    world.mishaps = {undisturbed(move).executed[StepKind.DECIDE]: away(world, KeyboardInterrupt)}
    assert ended(world) is not None
    assert StepKind.DECIDE.value not in facts_on_record(world)
    world.journal_gone_at = None
    assert ended(world) is None
    assert StepKind.DECIDE.value in facts_on_record(world)


def facts_on_record(world: Simulated) -> list[object]:
    """Kinds of the facts in the journal."""
    return [record.payload.get("kind") for record in world.journal if record.kind is RecordKind.FACT]


def test_what_was_done_is_told_in_order_where_the_journal_takes_nothing() -> None:
    """The operator sees every part of the switch, and then that none of it is on record."""
    world = Switching()
    ends = undisturbed(Switching).executed
    world.mishaps = {ends[StepKind.OPEN]: lambda: setattr(world, "journal_gone_at", world.calls)}
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert (Exit.ERROR, {"away"}) == (error.exit_status, world.open)
    assert ["hold", "drain", "sync-sequences", "compare", "freeze", "decide", "open", "redirect"] == world.told[-8:]


def test_a_redirect_that_is_done_again_without_a_journal_is_no_surprise() -> None:
    """What was last read of the journal says that it was interrupted; whoever has just done it knows better."""
    world = Simulated(PLAN)
    world.journal = [record(1, RecordKind.STEP_INTENT, {"kind": "redirect"}, run="killed", step="08-redirect")]
    world.after = True
    world.mishaps = {undisturbed(MOVES["dump"]).executed[StepKind.OPEN]: lambda: away_for_good(world)}
    error = ended(world)
    assert isinstance(error, StatehubError)
    assert ("journal-unreachable", {"away"}) == (error.code, world.open)
    assert "away" == world.values["access.mcp"]["endpoint"]


def away_for_good(world: Simulated) -> None:
    """The journal neither takes nor tells anything any more."""
    world.journal_gone_at, world.unreadable = world.calls, True
    world.lost = StatehubError(code="journal-unreachable", what="the journal's server is away", hint="wait for it")
