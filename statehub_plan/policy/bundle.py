"""The Rego bundle on disk: read once, digested, and staged for OPA exactly as it was read."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import digest
from statehub_plan.policy.document import BundleInfo

ROOT = "statehub"
HAZARDS = "statehub.policies."
"""Packages below this one are policies, one hazard each; everything else in the bundle serves them."""

_DATA_NAMES = ("data.json", "data.yaml")  # the only data files that OPA loads from a bundle
_PACKAGE = re.compile(r"^package\s+([A-Za-z_][\w.]*)\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The bytes of every policy (tests left out) and data file by path, and what they amount to."""

    directory: Path
    files: tuple[tuple[str, bytes], ...]
    info: BundleInfo

    def stage(self, directory: Path) -> None:
        """Write the files below `directory` as an OPA bundle whose revision is the digest, so that every answer says
        which bundle gave it. What OPA loads is what was digested, whatever happens to the original meanwhile."""
        for name, content in self.files:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        manifest = {"revision": self.info.digest, "roots": [ROOT]}
        (directory / ".manifest").write_text(json.dumps(manifest))


def bundle_info(directory: Path) -> BundleInfo:
    """Digest and hazards of the bundle in `directory`. StatehubError as for `read_bundle`."""
    return read_bundle(directory).info


def read_bundle(directory: Path) -> Bundle:
    """Everything in `directory` that OPA would load.

    StatehubError `policy-bundle-invalid` with every problem: directory missing or unreadable, no hazard in it, a file
    outside `statehub/` or outside the folder that its package names.
    """
    try:
        files = tuple(_files(directory))
    except OSError as error:
        raise _invalid(directory, (f"{error.filename or directory}: {error.strerror}",)) from error
    packages: set[str] = set()
    problems = [problem for name, content in files if (problem := _place(name, content, packages))]
    hazards = sorted({package.removeprefix(HAZARDS) for package in packages if package.startswith(HAZARDS)})
    if not hazards:
        problems.append(f"no policy below {directory / HAZARDS.replace('.', '/')}: nothing would be judged")
    if problems:
        raise _invalid(directory, tuple(problems))
    return Bundle(directory, files, BundleInfo(digest=_digest(files), packages=tuple(hazards)))


def is_test(path: PurePosixPath) -> bool:
    """Whether a Rego file holds tests: never loaded for judging, not part of the digest."""
    return path.name.endswith("_test.rego")


def _files(directory: Path) -> list[tuple[str, bytes]]:
    if not directory.is_dir():
        raise FileNotFoundError(2, "no such directory", str(directory))
    found = []
    for path in sorted(directory.rglob("*")):
        name = PurePosixPath(path.relative_to(directory).as_posix())
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or is_test(name) or not (name.suffix == ".rego" or name.name in _DATA_NAMES):
            continue
        found.append((str(name), path.read_bytes()))
    return found


def _place(name: str, content: bytes, packages: set[str]) -> str | None:
    """The problem with where a file lies, if there is one; its package is added to `packages`."""
    folder = PurePosixPath(name).parent.as_posix().replace("/", ".")
    if folder.split(".")[0] != ROOT:
        return f"{name}: lies outside {ROOT}/, which is all that the bundle may define"
    if not name.endswith(".rego"):
        return None
    match = _PACKAGE.search(content.decode(errors="replace"))
    if match is None:
        return f"{name}: has no package line"
    if match[1] != folder:
        return f"{name}: is package {match[1]}; its folder says {folder}"
    packages.add(match[1])
    return None


def _digest(files: tuple[tuple[str, bytes], ...]) -> str:
    return digest({name: hashlib.sha256(content).hexdigest() for name, content in files})


def _invalid(directory: Path, problems: tuple[str, ...]) -> StatehubError:
    return StatehubError(
        code="policy-bundle-invalid",
        what=f"the policies in {directory} cannot judge anything",
        hint="name the folder that holds statehub/ in `spec.policy.bundle`, or restore it; `policy test` checks it",
        details=problems,
    )
