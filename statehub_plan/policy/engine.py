"""One run of the `opa` command over a bundle folder, bounded in time, with none of this process's environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from statehub_plan.components import find_opa
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen

T = TypeVar("T")

_TIMEOUT_S = 120


class Ended(Frozen):
    """How a run of `opa` ended. OPA's own convention: 0 is fine, anything else has its reason in the outputs."""

    exit_status: int
    stdout: str
    stderr: str

    def answer(self, kind: type[T]) -> T:
        """The JSON that it printed, as `kind`; StatehubError `policy-check-failed` with its complaint otherwise."""
        try:
            return TypeAdapter(kind).validate_json(self.stdout)
        except ValidationError as error:
            complaint = tuple((self.stderr or self.stdout).strip().splitlines()[-12:])
            raise StatehubError(
                code="policy-check-failed",
                what=f"OPA ended with status {self.exit_status} instead of an answer",
                hint="correct what OPA complains about",
                details=complaint,
            ) from error


def opa(bundle_dir: Path, *arguments: str) -> Ended:
    """`opa ARGUMENTS` in `bundle_dir`, which OPA then knows as `.`, so that positions are relative to it."""
    environment = {"PATH": os.defpath, "HOME": str(bundle_dir)}
    try:
        run = subprocess.run(
            [str(find_opa()), *arguments],
            cwd=bundle_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StatehubError(
            code="policy-check-failed",
            what=f"`opa {arguments[0]}` did not end within {_TIMEOUT_S} s",
            hint="look for a policy or test that does not end",
        ) from error
    return Ended(exit_status=run.returncode, stdout=run.stdout, stderr=run.stderr)
