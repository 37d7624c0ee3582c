"""Whose fault it is that a restore ended, and whether there is room for one: pure."""

from __future__ import annotations

import pytest

from statehub_plan.errors import Refusal
from statehub_plan.postgres.drill import Disk, no_fault_of_the_backup


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (
            'pg_restore: error: COPY failed for table "a": ERROR:  could not extend file "base/1/2": No space',
            "disk-full",
        ),
        ("pg_restore: error: could not write to file: No space left on device", "disk-full"),
        (
            "pg_restore: error: could not execute query: FATAL:  terminating connection due to administrator",
            "interrupted",
        ),
        ("pg_restore: error: could not execute query: server closed the connection unexpectedly", "interrupted"),
        ('pg_restore: error: connection to server at "h", port 1 failed: FATAL:  sorry, too many', "interrupted"),
        ("pg_restore: error: could not execute query: ERROR:  out of shared memory", "interrupted"),
        ("pg_restore: error: could not uncompress data: incorrect data check", None),
        ('pg_restore: error: could not execute query: ERROR:  type "public.mood" does not exist', None),
    ],
)
def test_only_what_the_server_did_is_no_failure_of_the_backup(line: str, code: str | None) -> None:
    """A full disk or an ended session says nothing about a backup; a damaged archive does."""
    assert (None if code is None else f"drill-{code}") == no_fault_of_the_backup(["pg_restore: while PROCESSING", line])


def test_a_disk_keeps_what_is_to_stay_free() -> None:
    """Exactly enough is enough, a byte less is refused with all three figures; not knowing refuses nothing."""
    assert Disk(lambda: 30 << 20, 10 << 20).require(20 << 20)
    assert not Disk(lambda: None, 10 << 20).require(20 << 20)
    with pytest.raises(Refusal) as caught:
        Disk(lambda: (30 << 20) - 1, 10 << 20).require(20 << 20)
    assert "drill-disk-full" == caught.value.code
    for figure in ("29 MiB of disk left", "about 20 MiB", "10 MiB are to stay"):
        assert figure in caught.value.what
    assert "--endpoint" in caught.value.hint
