"""The step `redirect` with real files and commands: no path waits for another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statehub_plan.errors import OutcomeUnknown, StatehubError
from statehub_plan.journal import LeaseLost
from statehub_plan.model.steps import StepKind
from statehub_plan.steps import redirect
from tests.unit.facts import LEASE, document, plan, switched
from tests.unit.simulated import staged

VALUES = {"home": "http://127.0.0.1:1", "away": "http://127.0.0.1:2"}


def _file(directory: Path, name: str) -> dict[str, Any]:
    """A path whose file is there and points at the old side."""
    (directory / name).write_text(f"API_BASE={VALUES['home']}\n")
    return {"name": name, "kind": "env-file", "file": name, "variable": "API_BASE", "values": VALUES}


def _bridge(directory: Path, name: str, *reload: str) -> dict[str, Any]:
    (directory / name).write_text(f"tunnels: {{hub: {{target: '{VALUES['home']}'}}}}\n")
    return {"name": name, "kind": "bridge", "file": name, "tunnel": "hub", "reload": reload, "values": VALUES}


def _command(name: str, get: list[str], set_: list[str]) -> dict[str, Any]:
    found = {"name": name, "kind": "command", "get": get, "set": set_, "timeout": "300ms"}
    return found | {"values": VALUES}


def _redirected(directory: Path, *paths: dict[str, Any], check_lease: Any = lambda: None) -> dict[str, Any]:
    """What the step says of a plan with these paths, after the decision."""
    known = {f"access.{one['name']}": {"endpoint": "home"} for one in paths}
    made = plan({**switched(), "access.mcp": None, **known}, document(access=list(paths)))
    (step,) = (one for one in made.steps if one.kind is StepKind.REDIRECT)
    stage = staged(made, directory, check_lease=check_lease)
    return redirect.execute(stage, step)


def test_a_path_that_fails_keeps_no_other_one_in_the_outage(tmp_path: Path) -> None:
    """A missing file and a reload that fails, one before and one after a path that is fine: that one is redirected,
    the file behind the reload too, and the error names both with why and what to do."""
    paths = [
        _bridge(tmp_path, "bridge", "sh", "-c", "echo no bridge here >&2; exit 3"),
        _file(tmp_path, "well"),
        _file(tmp_path, "gone"),
    ]
    (tmp_path / "gone").unlink()
    with pytest.raises(StatehubError) as failed:
        _redirected(tmp_path, *paths)
    assert f"API_BASE={VALUES['away']}\n" == (tmp_path / "well").read_text()
    assert VALUES["away"] in (tmp_path / "bridge").read_text()
    assert not isinstance(failed.value, OutcomeUnknown)
    assert "redirect-incomplete" == failed.value.code
    assert "2 of 3 access paths are not proved to point at away: bridge: the file is changed" in failed.value.what
    assert "; gone: " in failed.value.what
    assert ["bridge", "gone"] == [line.split(":")[0] for line in failed.value.details]
    mended = [_bridge(tmp_path, "bridge", "true"), *paths[1:]]
    _file(tmp_path, "gone")
    assert "3 access paths point at away" == _redirected(tmp_path, *mended)["summary"]


def test_an_outcome_that_nobody_knows_wins_over_a_plain_error(tmp_path: Path) -> None:
    """A `set` that hangs may have changed something, wherever in the list it stands."""
    hanging = _command("hanging", ["echo", VALUES["home"]], ["sh", "-c", "sleep 60", "{value}"])
    failing = _command("failing", ["echo", VALUES["home"]], ["false", "{value}"])
    for index, paths in enumerate(([hanging, failing], [failing, hanging])):
        well = _file(tmp_path, f"well-{index}")
        with pytest.raises(OutcomeUnknown) as failed:
            _redirected(tmp_path, *paths, well)
        assert all(name in failed.value.what for name in ("hanging: ", "failing: "))
        assert VALUES["away"] in (tmp_path / f"well-{index}").read_text()


def test_a_run_that_lost_its_lease_touches_no_further_path(tmp_path: Path) -> None:
    """That ends the step at once: it is no failure of a path."""
    lost = LeaseLost(LEASE, "epoch 2 has it")
    paths = _file(tmp_path, "first"), _file(tmp_path, "second")
    with pytest.raises(StatehubError) as failed:
        _redirected(tmp_path, *paths, check_lease=_once_asked(lost))
    assert lost is failed.value
    assert [VALUES["away"] in (tmp_path / name).read_text() for name in ("first", "second")] == [True, False]


def test_a_journal_that_is_away_keeps_no_path_in_the_outage(tmp_path: Path) -> None:
    """Nobody is known to have taken over, and clients of the other paths would stay on the frozen side."""
    unanswered = LeaseLost(LEASE, "the connection that held it is gone", unanswered=True)
    away = StatehubError(code="journal-unreachable", what="the journal's server is away", hint="wait for it")
    for index, silence in enumerate((unanswered, away)):
        paths = [_file(tmp_path, f"{name}-{index}") for name in ("first", "second", "third")]
        found = _redirected(tmp_path, *paths, check_lease=_once_asked(silence))
        assert "3 access paths point at away" == found["summary"]


def _once_asked(lost: StatehubError) -> Callable[[], None]:
    """Fine when it is asked the first time, lost from then on."""
    asked: list[int] = []

    def check_lease() -> None:
        asked.append(1)
        if len(asked) > 1:
            raise lost

    return check_lease
