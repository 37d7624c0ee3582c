"""Whose fault it is that a restore ended, and whether there is room for one: pure."""

from __future__ import annotations

import pytest

from statehub_plan.errors import Refusal
from statehub_plan.model.record import RESTORE_DRILL
from statehub_plan.postgres.drill import Disk, DrillReport, no_fault_of_the_backup
from statehub_plan.postgres.manifest import BackupSequence, Moved


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


def test_planners_know_the_report_by_its_name() -> None:
    """What counts is what this release writes; nobody who plans loads what restores."""
    assert RESTORE_DRILL == DrillReport.model_fields["schema_version"].default


@pytest.mark.parametrize(
    ("increment", "first", "last", "admitted", "refused"),
    [
        (1, (5, True), None, [(5, True)], [(5, False), (4, True), (6, True)]),
        (1, (5, False), (5, True), [(5, False), (5, True)], [(4, True), (6, False)]),
        (1, (5, True), (9, True), [(5, True), (7, True), (9, True)], [(5, False), (4, True), (10, True)]),
        (-3, (5, True), (-1, True), [(5, True), (2, True), (-1, True)], [(8, True), (-4, True), (5, False)]),
        (
            1,
            (98, True),
            (3, True),
            [(98, True), (100, True), (1, True), (3, True)],
            [(4, True), (97, True), (50, True)],
        ),
    ],
    ids=["still", "first call", "forward", "backward", "cycled"],
)
def test_a_dumped_sequence_lies_between_its_two_looks(
    increment: int,
    first: tuple[int, bool],
    last: tuple[int, bool] | None,
    admitted: list[tuple[int, bool]],
    refused: list[tuple[int, bool]],
) -> None:
    """In its own direction; and exactly what it was where it stood still."""
    until = Moved(last_value=last[0], is_called=last[1]) if last else None
    one = BackupSequence(sequence="s.q", last_value=first[0], is_called=first[1], increment=increment, until=until)
    assert [True] * len(admitted) == [one.admits(*value) for value in admitted]
    assert [False] * len(refused) == [one.admits(*value) for value in refused]
