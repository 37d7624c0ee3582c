"""The ledger of acknowledged writes: reading it, judging it, and finding the gap around a move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from statehub_plan.demo.equality import Equality
from statehub_plan.demo.ledger import api_base
from statehub_plan.demo.table import CommandRun, Leg, Outcome
from statehub_plan.demo.verdict import Acknowledgement, Ledger, Unresolved, judge, moves, read_ledger


def test_an_acknowledged_token_that_is_nowhere_is_lost() -> None:
    """Lost counts what was acknowledged, not what was merely tried."""
    ledger = _ledger("old 0", "old 10", unresolved=("given-up",))
    verdict = judge(ledger, {"t0": 1})
    assert (1, ("t1",)) == (verdict.lost, verdict.lost_tokens)
    assert (2, 0, 1) == (verdict.acknowledged, verdict.duplicated, verdict.unresolved)


def test_a_token_found_twice_is_duplicated_even_if_never_acknowledged() -> None:
    """A write that was given up may be there once; twice is a defect all the same."""
    verdict = judge(_ledger("old 0", unresolved=("given-up",)), {"t0": 2, "given-up": 2})
    assert (0, 2, ("given-up", "t0")) == (verdict.lost, verdict.duplicated, verdict.duplicated_tokens)


def test_a_given_up_write_is_neither_lost_nor_duplicated_when_it_arrived() -> None:
    """An unknown outcome may turn out either way."""
    verdict = judge(_ledger("old 0", unresolved=("given-up",)), {"t0": 1, "given-up": 1})
    assert (0, 0) == (verdict.lost, verdict.duplicated)


def test_the_write_gap_is_last_old_answer_to_first_new_one() -> None:
    """Pauses elsewhere, however long, are no gap."""
    found = moves(_ledger("old 0", "old 9000", "old 9010", "new 9310", "new 9320", "new 30000").acknowledged)
    assert [("old", "new", 300.0)] == [(move.old, move.new, move.gap_ms) for move in found]


def test_a_straggling_answer_of_the_old_server_is_no_move_back() -> None:
    """An answer that was under way arrives after the first one of the new server."""
    found = moves(_ledger("old 0", "new 100", "old 105", "new 110", "old 120", "new 130").acknowledged)
    assert [("old", "new", 100.0)] == [(move.old, move.new, move.gap_ms) for move in found]


def test_a_switchback_is_a_move_of_its_own() -> None:
    """The longest gap of several moves is the one that is told."""
    ledger = _ledger("a 0", "b 200", "b 5000", "a 5700", "a 5800")
    assert [("a", "b", 200.0), ("b", "a", 700.0)] == [
        (move.old, move.new, move.gap_ms) for move in moves(ledger.acknowledged)
    ]
    assert 700.0 == judge(ledger, {}).write_gap_ms


def test_without_a_move_there_is_no_gap() -> None:
    """No gap is not a gap of zero."""
    assert judge(_ledger("a 0", "a 9000"), {}).write_gap_ms is None


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    """The ledger can be read while the client goes on."""
    whole = _acknowledged(0, "old", 0).model_dump_json() + "\n"
    (tmp_path / "ledger").write_text(json.dumps({"kind": "opening", "source": "ledger:x"}) + "\n" + whole + whole[:40])
    ledger = read_ledger(tmp_path / "ledger")
    assert (("ledger:x",), 1) == (ledger.sources, len(ledger.acknowledged))


def test_the_mcp_configuration_says_where_to_write(tmp_path: Path) -> None:
    """RFC 6901 escapes are understood; what is not text is refused."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"a/b": {"c~d": "http://127.0.0.1:1", "n": 5}}))
    assert "http://127.0.0.1:1" == api_base(config, "/a~1b/c~0d")
    with pytest.raises(ValueError):
        api_base(config, "/a~1b/n")


@pytest.mark.parametrize(
    ("tokens", "differences", "primary", "good"),
    [
        ({"t0": 1, "t1": 1}, (), "new", True),
        ({"t0": 1}, (), "new", False),
        ({"t0": 1, "t1": 2}, (), "new", False),
        ({"t0": 1, "t1": 1}, ("public.task: 1 row",), "new", False),
        ({"t0": 1, "t1": 1}, (), "old", False),
    ],
)
def test_one_lost_doubled_or_different_row_makes_the_demo_fail(
    tokens: dict[str, int], differences: tuple[str, ...], primary: str, good: bool
) -> None:
    """The demo's exit status rests on these, for each of both moves."""
    leg = _leg(tokens, differences, primary)
    fine = _leg({"t0": 1, "t1": 1}, (), "new")
    assert good == Outcome(rows=1, steps=(), cutover=leg, switchback=fine).good
    assert good == Outcome(rows=1, steps=(), cutover=fine, switchback=leg).good


def test_a_demo_that_ended_early_prints_every_key_and_fails() -> None:
    """Whoever reads the JSON finds the same keys in good times and bad."""
    outcome = Outcome(rows=1, steps=(CommandRun(command="x", exit_status=3, elapsed_s=0.1),), failure="vetoed")
    assert not outcome.good
    expected = {"acknowledged", "lost", "duplicated", "write_gap_ms", "content_equal", "primary", "switchback", "steps"}
    assert expected <= outcome.as_json().keys()
    assert {"lost": None, "duplicated": None, "content_equal": None}.items() <= outcome.as_json()["switchback"].items()


def _leg(tokens: dict[str, int], differences: tuple[str, ...], primary: str) -> Leg:
    content = Equality(rows=10, written_since=0, differences=differences)
    return Leg(old="old", new="new", primary=primary, ledger=judge(_ledger("old 0", "new 5"), tokens), content=content)


def _ledger(*answers: str, unresolved: tuple[str, ...] = ()) -> Ledger:
    """Acknowledgements `t0`, `t1`, … from "server milliseconds"."""
    entries = [_acknowledged(number, *answer.split()) for number, answer in enumerate(answers)]
    return Ledger(
        sources=("ledger:x",),
        acknowledged=tuple(entries),
        unresolved=tuple(Unresolved(token=token, problem="503") for token in unresolved),
    )


def _acknowledged(number: int, server: str, at_ms: str | int) -> Acknowledgement:
    nanoseconds = int(at_ms) * 1_000_000
    return Acknowledgement(
        token=f"t{number}",
        writer=0,
        seq=number,
        server=server,
        via="bridge",
        attempts=1,
        mono_ns=nanoseconds,
        wall_ns=nanoseconds,
    )
