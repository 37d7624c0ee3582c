"""A saved plan in another checkout than the one it was made in: an approver's, an operator's, a runner's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePath

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Plan


def document_of(plan: Plan, named: Path | None, here: Path) -> Path:
    """The file of the plan's document, whose folder has the policies, the signers and the approvals that count.

    As `named`; else where the plan was made, if that folder is there; else below `here` by the end of the path that the
    plan knows. Only the very document will do that the plan was made from, byte for byte, but where it was made: there
    it may have been edited since, and the plan has its own copy. StatehubError `workspace-missing` or
    `document-differs`."""
    if named is not None:
        return _the_very(plan, named)
    recorded = Path(plan.spec_path)
    if recorded.parent.is_dir():
        return recorded
    for candidate in _alike(recorded, here):
        if _digest(candidate) == plan.spec_digest:
            return candidate
    raise StatehubError(
        code="workspace-missing",
        what=f"the folder {recorded.parent} of this plan does not exist here, and its document is not below {here}",
        hint=f"name it: `--document {recorded.name}`, from a checkout of the revision that the plan was made from",
        details=tuple(f"{other} is another version" for other in _alike(recorded, here) if other.is_file()),
    )


def _alike(recorded: PurePath, here: Path) -> Iterator[Path]:
    """`here` with ever less of the recorded path, never out of `here`."""
    parts = recorded.parts[1:] if recorded.is_absolute() else recorded.parts
    for begin in range(len(parts)):
        if ".." not in parts[begin:]:
            yield here.joinpath(*parts[begin:])


def _the_very(plan: Plan, named: Path) -> Path:
    found = _digest(named)
    if found == plan.spec_digest:
        return named
    seen = "cannot be read" if found is None else "is not the document that this plan was made from"
    raise StatehubError(
        code="document-differs",
        what=f"{named} {seen}",
        hint=f"check out the revision of {PurePath(plan.spec_path).name} that the plan was made from, or plan again",
        details=() if found is None else (f"its digest is {found}, the plan's document has {plan.spec_digest}",),
    )


def _digest(path: Path) -> str | None:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return None
