"""Where tests keep their clusters: prints a folder in memory where there is plenty of it, else the usual one.

Thousands of databases are made and dropped, each some three hundred files; file systems that journal names take longer
for that than PostgreSQL does. Nothing that a test shows depends on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 8 * 1024**3


def available_bytes() -> int:
    """Memory that could be used without swapping; 0 where the system does not say. A container may have less than that
    (cgroups, version 2): what is in such a folder counts for it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    system = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    try:
        allowed, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(system, int(allowed) - int(used))
    except (OSError, ValueError):  # no such limit, or "max"
        return system


def runs_programs(folder: Path) -> bool:
    """Whether a script that stands there may be executed; containers often forbid it."""
    script = folder / "script"
    script.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    script.chmod(0o755)
    try:
        return subprocess.run([script], check=False).returncode == 0
    except OSError:
        return False


def is_fit(folder: Path) -> bool:
    """Large, writable, and as good as a disk in all that tests need."""
    try:
        if min(available_bytes(), shutil.disk_usage(folder).free) < ENOUGH_BYTES:
            return False
        with tempfile.TemporaryDirectory(dir=folder) as made:
            return runs_programs(Path(made))
    except OSError:
        return False


if __name__ == "__main__":
    print(os.environ.get("TMPDIR") or (SHARED_MEMORY if is_fit(SHARED_MEMORY) else tempfile.gettempdir()))
