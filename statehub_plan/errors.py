"""The one error family: what happened, to what, what to do next, and the exit status it ends with."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of every command; documented in the README and tested one by one."""

    DONE = 0
    ERROR = 1
    CHANGES_PENDING = 2
    VETOED = 3
    APPROVAL_MISSING = 4
    STALE_PLAN = 5
    LOCKED = 6
    OUTCOME_UNKNOWN = 7
    WAITING = 8
    USAGE = 64


class StatehubError(Exception):
    """A refusal or failure that a person can act on.

    `code` is a stable kebab-case identifier, `what` says what happened and to what, `hint` says what to do next,
    `exit_status` is what the process ends with, `details` are further lines (one problem or changed fact each).
    """

    def __init__(
        self,
        *,
        code: str,
        what: str,
        hint: str,
        exit_status: int = Exit.ERROR,
        details: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.hint = hint
        self.exit_status = Exit(exit_status)
        self.details = details

    def __str__(self) -> str:
        """The diagnosis as plain text: what, every detail, and the remedy."""
        lines = [self.what, *(f"  - {detail}" for detail in self.details)]
        if self.hint:
            lines.append(f"  remedy: {self.hint}")
        return "\n".join(lines)


class Refusal(StatehubError):
    """An expected refusal before anything was changed; a value to report, not a defect."""


class OutcomeUnknown(StatehubError):
    """A write whose outcome could not be observed; nothing may be retried before the world is observed again."""

    def __init__(self, *, code: str, what: str, hint: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(code=code, what=what, hint=hint, exit_status=Exit.OUTCOME_UNKNOWN, details=details)


def refused_by_system(error: OSError, doing: str) -> StatehubError:
    """What the operating system said about what was being done: disk full, not permitted, a file in the way."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return StatehubError(
        code="system-refused",
        what=f"{doing}: {where}{error.strerror or error}",
        hint="free space, or correct what stands in the way, then run the command again",
    )


class LeaveNow(KeyboardInterrupt):
    """Somebody insists on leaving while a run is being ended in order: nothing of that is begun anew, and writers that
    still wait go on when this process is gone."""
