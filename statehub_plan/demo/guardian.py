"""Ends a throw-away cluster whose owner is gone, and leaves nothing of it behind.

Run as a program (`python -I -S guardian.py DATA_DIR CLUSTER_DIR`) it waits for the owner's end of its standard input to
close. That happens however the owner ends, SIGKILL included. A parent-death signal would do the same with one process
less, but it fires when the *thread* that started the server ends, and clusters are started from worker threads.

Linux only: /proc and pidfds. Imports nothing outside the standard library, so that it starts in about 15 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
from pathlib import Path

RELEASE = b"released"
_FAST_SHUTDOWN_S = 10.0
_KILLED_S = 10.0
_IPC_RMID = 0
# Lines of postmaster.pid, counted from 0 (PostgreSQL src/include/utils/pidfile.h; the same from 10 to 18).
_SHARED_MEMORY_LINE = 6  # System V key and id
_STATUS_LINE = 7


def members(data_dir: Path) -> list[int]:
    """Process ids of everything that runs on `data_dir`, postmaster first.

    Every PostgreSQL process keeps the data directory as its working directory, whatever session or group it is in.
    """
    mine = str(data_dir.resolve())
    found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _working_directory(entry) == mine]
    return sorted(found, key=lambda pid: (pid != _postmaster_id(data_dir), pid))


def is_ready(data_dir: Path, postmaster: int) -> bool:
    """Whether this postmaster takes connections, as it says in its pid file (where pg_ctl looks, too)."""
    lines = _pid_file(data_dir)
    return len(lines) > _STATUS_LINE and lines[0] == str(postmaster) and lines[_STATUS_LINE].strip() == "ready"


def power_cut(data_dir: Path) -> None:
    """SIGKILL every process of the cluster at once and remove its shared memory, as a power cut would.

    Blocks until all of them are gone, at most ten seconds each. Nothing is flushed; the next start recovers from WAL.
    """
    shared = _shared_memory_id(data_dir)
    doomed = members(data_dir)
    segments = {segment for pid in doomed for segment in posix_segments(pid)}
    while doomed:
        handles = [handle for pid in doomed if (handle := _open(pid)) is not None]
        for handle in handles:
            _send(handle, signal.SIGKILL)
        for handle in handles:
            _wait(handle, _KILLED_S)
            os.close(handle)
        doomed = members(data_dir)
    for segment in segments:
        segment.unlink(missing_ok=True)
    if shared is not None:
        ctypes.CDLL(None).shmctl(shared, _IPC_RMID, None)


def shut_down(data_dir: Path) -> None:
    """Fast shutdown (SIGINT to the postmaster); a power cut if that takes longer than ten seconds."""
    pid = _postmaster_id(data_dir)
    handle = _open(pid) if pid in members(data_dir) else None
    if handle is not None:
        _send(handle, signal.SIGINT)
        _wait(handle, _FAST_SHUTDOWN_S)
        os.close(handle)
    power_cut(data_dir)


def _postmaster_id(data_dir: Path) -> int:
    lines = _pid_file(data_dir)
    return int(lines[0]) if lines and lines[0].isdigit() else 0


def _shared_memory_id(data_dir: Path) -> int | None:
    lines = _pid_file(data_dir)
    fields = lines[_SHARED_MEMORY_LINE].split() if len(lines) > _SHARED_MEMORY_LINE else []
    return int(fields[1]) if len(fields) == 2 else None


def _pid_file(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _working_directory(pid: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None  # gone, or another user's


def posix_segments(pid: int) -> list[Path]:
    """The POSIX shared memory that this PostgreSQL process maps: files which outlive a killed server."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return []
    names = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/dev/shm/PostgreSQL." in line}
    return [Path(name) for name in sorted(names) if not name.endswith(" (deleted)")]


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _wait(handle: int, timeout_s: float) -> None:
    select.select([handle], [], [], timeout_s)


def main(data_dir: Path, cluster_dir: Path) -> None:
    """Wait for the owner; unless it released the cluster, end it and remove its directory."""
    if sys.stdin.buffer.read() != RELEASE:
        shut_down(data_dir)
        shutil.rmtree(cluster_dir, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
