"""The commented plan that `init` writes: valid as it is, so that a person changes one thing at a time."""

from __future__ import annotations

import re
from importlib import resources

from statehub_plan.errors import Exit, StatehubError

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def starter(name: str) -> str:
    """A plan document called `name`, as YAML text with a comment on each choice. StatehubError `name-invalid` where
    `name` cannot be a lane's name."""
    if not _NAME.fullmatch(name):
        raise StatehubError(
            code="name-invalid",
            what=f"a plan cannot be called {name[:80]!r}",
            hint="use lower-case letters, digits and inner dashes, at most 63, such as state-hub",
            exit_status=Exit.USAGE,
        )
    template = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
    return template.replace("NAME-OF-THE-PLAN", name)
