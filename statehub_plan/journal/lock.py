"""A lock file that the kernel releases with the process, however that ends (flock(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import Self

from statehub_plan.errors import StatehubError

_PATIENCE_S = 0.25  # a killed holder's lock falls a moment after the kill; a look from `is_held` lasts microseconds
_RETRY_S = 0.01

_held: weakref.WeakSet[LeaseLock] = weakref.WeakSet()


class LeaseLock:
    """An exclusive flock on a file, held until released or the process is gone.

    Children never hold it: the descriptor is close-on-exec, and a plain fork closes it at once.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Internal; use `take`."""
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """The lock, or None while another process (or another take of this one) has it; waits a quarter of a second.

        The file is made if missing and never removed: removing is what would let two processes lock two files.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            lock = cls(path, _open(path, os.O_RDWR | os.O_CREAT))
            if lock._locked():
                return lock
            if time.monotonic() > deadline:
                return None
            time.sleep(_RETRY_S)

    def _locked(self) -> bool:
        """Whether this descriptor got the lock on the file that the path names; closed if not."""
        assert self._descriptor is not None
        try:
            got = _flock(self._descriptor, fcntl.LOCK_EX, self.path) and self.intact()
        except StatehubError:
            self.abandon()
            raise
        if not got:
            self.abandon()
        return got

    def intact(self) -> bool:
        """Whether the path still names the file that is locked; false when somebody removed or replaced it."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Unlock; a second call does nothing."""
        if self._descriptor is not None:
            # Unlocking, not merely closing, frees it even where a fork is just about to close its copy.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.abandon()

    def abandon(self) -> None:
        """Close this process's descriptor without unlocking: for a forked child, whose parent still holds the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`. Looking takes a shared lock for microseconds."""
    if not path.exists():
        return False
    descriptor = _open(path, os.O_RDONLY)
    try:
        return not _flock(descriptor, fcntl.LOCK_SH, path)
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror).lower()
        raise StatehubError(
            code="lock-file-unusable",
            what=f"the lease's lock file {path} can't be opened: {reason}",
            hint="make the journal's directory writable for everyone who applies; no lock file may be a link",
        ) from error


def _flock(descriptor: int, operation: int, path: Path) -> bool:
    """Whether the lock was had at once."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StatehubError(
            code="lock-file-unusable",
            what=f"the file system of {path} can't lock files: {error.strerror}",
            hint="keep the journal on a local Linux file system, or in PostgreSQL by its URL",
        ) from error
    return True


def _abandon_all() -> None:
    for lock in list(_held):
        lock.abandon()


os.register_at_fork(after_in_child=_abandon_all)
