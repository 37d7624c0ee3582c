"""The forecast of a write gap, from measures that are given."""

from __future__ import annotations

import pytest

from statehub_plan.postgres.forecast import Forecast, Measures, forecast

_MEASURED = Measures(look_ms=1.5, flush_source_ms=0.5, flush_target_ms=0.5, opening_ms=1.0, session_ms=8.0, sessions=0)


def _of(**changed: float) -> Forecast:
    return forecast(_MEASURED.model_copy(update=changed), 9.0)


def test_without_clients_there_is_one_that_comes() -> None:
    """Nobody is connected now; whoever writes first has tried once too early."""
    found = _of()
    assert (9.0, 11.0, 16.0) == (found.rehearsed_ms, found.switch_ms, found.clients_ms)
    assert (20.0, 36.0) == (found.hold_ms, found.gap_ms)


def test_clients_take_processor_time_from_each_other_and_from_the_switch() -> None:
    """Both parts grow with their number."""
    few, many = _of(sessions=1), _of(sessions=8)
    assert few.switch_ms < many.switch_ms
    assert few.clients_ms < many.clients_ms


@pytest.mark.parametrize("sessions", [17, 3000])
def test_more_clients_than_were_measured_are_not_extrapolated(sessions: int) -> None:
    """A pool of thousands must not be forecast beyond every time-out."""
    assert _of(sessions=16) == _of(sessions=sessions)


@pytest.mark.parametrize("part", ["look_ms", "flush_source_ms", "flush_target_ms", "opening_ms"])
def test_what_is_slow_in_the_switch_makes_the_hold_longer(part: str) -> None:
    """Each measure counts where it belongs."""
    slow = _of(**{part: 50.0})
    assert slow.hold_ms > _of().hold_ms + 40
    assert slow.clients_ms == _of().clients_ms


def test_slow_sessions_make_the_gap_longer_and_the_hold_without_clients_not() -> None:
    """Nobody waits for them while the decision is outstanding."""
    slow = _of(session_ms=100.0)
    assert slow.hold_ms == _of().hold_ms
    assert 200.0 == slow.clients_ms
