"""Moving the primary by replication between two majors, there and back again, with writers that keep a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ledgered import Moved, ledger, moved


@pytest.fixture
def pair(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Moved]:
    """A primary on the lower major, and a target on the higher one that follows."""
    with moved(source_db, target_db, tmp_path) as found:
        yield found


def test_cutover_switchback_and_cutover_again_lose_nothing(pair: Moved) -> None:
    """The whole journey: three moves under writes, then every acknowledged row is there and both sides are equal."""
    first = pair.old
    with ledger(pair) as written:
        for _ in range(3):
            pair.move()
            assert written.goes_on()
        written.stop()
        assert first is pair.new
        written.assert_nothing_lost(pair.old)
        pair.assert_equal()
        assert {"25006", "57P01"} & written.seen, "nobody was told that the primary has moved"
