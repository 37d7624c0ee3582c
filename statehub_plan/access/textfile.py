"""Small text files that belong to somebody else: read them whole, replace them atomically, leave no trace of either."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from statehub_plan.errors import OutcomeUnknown, Refusal

SIZE_CAP = 4 << 20  # bytes; configuration files are thousands of times smaller

_PATIENCE_S = 1.0  # replacing takes milliseconds; a mere try must not make a replacement that is due fail

_DROPPED_ATTRIBUTES = ("security.", "trusted.")  # the kernel's to set; only a privileged process could copy them


def resolve_path(path: str, base_dir: Path) -> Path:
    """A path as a plan names it: `~` expanded, relative to the folder of the plan document."""
    return base_dir / Path(path).expanduser()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file as it was read: `path` as named, `real` with symbolic links followed, its bytes, and which file it was."""

    path: Path
    real: Path
    data: bytes
    inode: tuple[int, int]

    @property
    def text(self) -> str:
        """UTF-8, a byte order mark kept, anything else kept as surrogates: encoding it again gives the same bytes."""
        return self.data.decode("utf-8", "surrogateescape")


def read(path: Path) -> Snapshot:
    """The regular file at `path`, symbolic links followed. Refusal where there is none, or it can't be read."""
    try:
        real = path.resolve(strict=True)
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make us wait
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "it is not a regular file")
            data = stream.read(SIZE_CAP + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error
    if len(data) > SIZE_CAP:
        raise _unreadable(path, f"it is larger than {SIZE_CAP >> 20} MiB")
    return Snapshot(path=path, real=real, data=data, inode=(status.st_dev, status.st_ino))


def replace(snapshot: Snapshot, text: str) -> None:
    """Put `text` in the place of the file that was read, atomically: whoever opens it gets all of the old content or
    all of the new, also after a power cut. Mode, owner and extended attributes stay.

    Written to a temporary file beside it and renamed. That file has one fixed name, is locked while in use, and one
    that a killed process left is taken over: at most one can ever be left, and nothing reads it. Refusal, with nothing
    changed, where the directory can't be written, the disk is full, the file has other hard links (they would keep the
    old content), somebody else goes on replacing it for a second, or it is no longer what was read (looked at right
    before the rename; POSIX has no compare-and-rename, a writer in those microseconds is overwritten).
    """
    with _replacement(snapshot, text) as temporary:
        temporary.rename(snapshot.real)
    _sync_directory(snapshot)


def try_replace(snapshot: Snapshot, text: str) -> None:
    """Everything that `replace` does and refuses, up to the rename: the file itself is left alone, and nothing stays
    beside it."""
    with _replacement(snapshot, text):
        pass


@contextmanager
def _replacement(snapshot: Snapshot, text: str) -> Iterator[Path]:
    """The temporary file, ready to be renamed; removed at the end unless it was."""
    try:
        with _temporary(snapshot.real) as (temporary, descriptor):
            _copy_identity(snapshot, descriptor)
            _write(descriptor, text.encode("utf-8", "surrogateescape"))
            now = read(snapshot.path)
            if (now.real, now.inode, now.data) != (snapshot.real, snapshot.inode, snapshot.data):
                raise Refusal(
                    code="access-file-changed",
                    what=f"{snapshot.path} was changed by somebody else between reading and replacing it",
                    hint="nothing was written; end the other writer and run it again",
                )
            yield temporary
    except OSError as error:
        in_the_way = f"remove {_temporary_of(snapshot.real)}"
        remedies = {
            errno.EEXIST: in_the_way,
            errno.ELOOP: in_the_way,
            errno.ENOSPC: f"free space in {snapshot.real.parent}",
            errno.EMLINK: f"remove the other links: find DIR -samefile {snapshot.real}",
            errno.EPERM: f"run this as the owner of {snapshot.real}, or give it to this user (chown)",
        }
        remedy = remedies.get(error.errno or 0, f"let this user write in {snapshot.real.parent}")
        raise Refusal(
            code="access-file-unwritable",
            what=f"{snapshot.path} can't be replaced: {error.strerror or error}",
            hint=f"nothing was changed; {remedy}",
        ) from error


def sweep(snapshot: Snapshot) -> None:
    """Remove the temporary file that a killed replacement left beside the file, unless it is in use now."""
    with suppress(OSError, Refusal):
        if _temporary_of(snapshot.real).exists():
            with _temporary(snapshot.real):
                pass


def _temporary_of(real: Path) -> Path:
    # Hidden and with an ending of its own: no `*.json`, `*.yaml` or `.env*` pattern picks it up.
    return real.with_name(f".{real.name}.statehub-plan~")


@contextmanager
def _temporary(real: Path) -> Iterator[tuple[Path, int]]:
    """The locked, empty temporary file of `real`; removed at the end unless it was renamed away."""
    path = _temporary_of(real)
    descriptor = _locked(path, real)
    try:
        mine = os.fstat(descriptor)
        owners = {os.geteuid(), real.stat().st_uid}  # a killed replacement may have handed it over already
        if not stat.S_ISREG(mine.st_mode) or mine.st_uid not in owners or mine.st_nlink != 1:
            raise OSError(errno.EEXIST, f"{path} is in the way and belongs to somebody else")
        try:
            os.ftruncate(descriptor, 0)
            yield path, descriptor
        finally:
            if _same_file(path, mine):
                path.unlink()
    finally:
        os.close(descriptor)


def _locked(path: Path, real: Path) -> int:
    """The descriptor of the file at `path`, made if it was not there, once its lock is free."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    until = time.monotonic() + _PATIENCE_S
    while True:
        with ExitStack() as closing:
            descriptor = os.open(path, flags, 0o600)
            closing.callback(os.close, descriptor)
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(path, os.fstat(descriptor)):  # else whoever held the lock has renamed or removed it
                    closing.pop_all()
                    return descriptor
        if time.monotonic() > until:
            raise _busy(real)
        time.sleep(0.01)


def _same_file(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except FileNotFoundError:
        return False


def _copy_identity(snapshot: Snapshot, descriptor: int) -> None:
    """Give the temporary file the owner, mode and extended attributes (access lists are some) of the real one."""
    old, new = snapshot.real.stat(), os.fstat(descriptor)
    if old.st_nlink > 1:
        raise OSError(errno.EMLINK, f"it has {old.st_nlink} hard links, and the others would keep the old content")
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    for name in _attributes(snapshot.real):
        os.setxattr(descriptor, name, os.getxattr(snapshot.real, name))


def _attributes(path: Path) -> list[str]:
    try:
        return [name for name in os.listxattr(path) if not name.startswith(_DROPPED_ATTRIBUTES)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system without them has none to lose
            return []
        raise


def _write(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    os.fsync(descriptor)


def _sync_directory(snapshot: Snapshot) -> None:
    try:
        descriptor = os.open(snapshot.real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:  # some network and WSL file systems can't; the rename itself stands
            return
        raise OutcomeUnknown(
            code="access-not-durable",
            what=f"{snapshot.path} was replaced, but its directory could not be flushed: {error.strerror or error}",
            hint="look at the disk's health; run it again, it finds out what stands there",
        ) from error


def _busy(real: Path) -> Refusal:
    return Refusal(
        code="access-file-busy",
        what=f"another process is replacing {real} right now",
        hint="nothing was written; run it again when the other one has ended",
    )


def _unreadable(path: Path, why: str) -> Refusal:
    return Refusal(
        code="access-file-unreadable",
        what=f"{path} can't be read: {why}",
        hint="correct the path in the plan (relative to the plan's folder), or let this user read the file",
    )
