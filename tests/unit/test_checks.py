"""The checks' declarations, and judgements that no server at hand can bring about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from statehub_plan.model.preflight import Severity, Side
from statehub_plan.model.spec import TransferMethod
from statehub_plan.postgres.checks import collation, document
from statehub_plan.postgres.checks.declare import (
    Answers,
    Check,
    Look,
    Move,
    Place,
    SessionInfo,
    Unanswered,
    check,
)
from statehub_plan.postgres.checks.registry import CHECKS

DOCUMENT = Path(__file__).parents[2] / "docs" / "checks.md"
DUMP = Move(method=TransferMethod.DUMP)


def named(check_id: str) -> Check:
    """The check with that id."""
    return next(one for one in CHECKS if one.id == check_id)


def looked(here: Answers, there: Answers) -> Look:
    """A look at the target."""
    return Look(side=Side.TARGET, move=DUMP, here=here, there=there, actor=here)


def test_the_document_is_what_the_registry_says() -> None:
    """docs/checks.md is generated: `python -m statehub_plan.postgres.checks.document > docs/checks.md`."""
    assert document.text() == DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.id)
def test_a_check_says_what_it_demands_and_why(one: Check) -> None:
    """Ids are stable words, titles are demands and reasons are incidents, each one sentence without a full stop."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.id)
    for text in (one.title, one.reason):
        assert text
        assert text[-1] != "."
    assert one.here or one.there or one.actor or one.id in ("client-tool-missing", "target-older", "disk-unknown")


def test_an_id_is_given_once() -> None:
    """A second check of the same name would hide the first."""
    with pytest.raises(ValueError, match="two checks are called wal-level"):
        check("wal-level", Severity.ERROR, Place.EACH, title="x", reason="y")(lambda look: ())


def test_a_version_that_no_tool_here_knows() -> None:
    """Found out before pg_dump refuses in the middle of a move."""
    server = Answers(SessionInfo(role="tool", database="hub", version_num=990001))
    seen = list(named("client-tool-missing").judge(looked(server, server)))
    assert ["pg_dump", "pg_restore"] == [one.subject for one in seen]
    assert all("99" in one.what and one.remedy for one in seen)


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [("2.36", "2.41", True), ("2.36", "2.36", False), (None, "2.36", False)],
)
def test_two_versions_of_the_library_that_sorts(ours: str | None, theirs: str | None, told: bool) -> None:
    """The same locale from two libraries is told; a version that is not known is nothing to tell."""

    def side(version: str | None) -> Answers:
        info = SessionInfo(role="tool", database="hub", version_num=150001)
        database = ("UTF8", "c", "de_DE.utf8", "de_DE.utf8", version, 5)
        return Answers(info, {collation._DATABASE: [database], collation._VERSION: [(version,)]})

    seen = list(named("collation-version-differs").judge(looked(side(ours), side(theirs))))
    assert told is bool(seen)


def test_what_was_not_answered_is_not_fine() -> None:
    """An answer that is missing stops a judgement; it never reads as nothing found."""
    server = Answers(
        SessionInfo(role="tool", database="hub", version_num=150001),
        {one: Unanswered("permission denied") for one in (*named("in-recovery").here, *named("clock-skew").here)},
    )
    for check_id in ("in-recovery", "clock-skew"):
        with pytest.raises(Unanswered):
            list(named(check_id).judge(looked(server, server)))


def test_which_checks_concern_which_move() -> None:
    """A dump asks nothing of replication; a fallback that follows asks the same of both sides, exchanged."""
    replication = Move(method=TransferMethod.REPLICATION)
    following = Move(method=TransferMethod.REPLICATION, following=True)
    sides = {move: {one: named(one).sides(move) for one in ("wal-level", "origins-full", "origin-not-advanceable")}
             for move in (DUMP, replication, following)}  # fmt: skip
    assert {"wal-level": (), "origins-full": (), "origin-not-advanceable": ()} == sides[DUMP]
    assert {"wal-level": (Side.SOURCE,), "origins-full": (Side.TARGET,), "origin-not-advanceable": ()} == sides[
        replication
    ]
    both = (Side.SOURCE, Side.TARGET)
    assert {"wal-level": both, "origins-full": both, "origin-not-advanceable": (Side.SOURCE,)} == sides[following]
