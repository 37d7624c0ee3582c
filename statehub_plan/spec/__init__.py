"""Plan documents: YAML text → frozen models, or every problem at once as `file:line:column: what; remedy`.

bytes → tree (positions, no YAML surprises) → model (shape) → rules (what names and wishes mean together). The rules
look at the tree, not at the model, so that a misspelled key does not hide a dangling reference.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.spec import contradictions, folder, references
from statehub_plan.spec.node import Node
from statehub_plan.spec.problem import Problem, report
from statehub_plan.spec.shape import shape
from statehub_plan.spec.starter import starter
from statehub_plan.spec.tree import MAX_BYTES, read

__all__ = ["LoadedDocument", "load", "load_folder", "parse", "starter"]

Rule = Callable[[Node], Iterable[Problem]]
_CUTOVER_RULES: tuple[Rule, ...] = (
    references.dangling_endpoints,
    references.duplicates,
    references.access_paths,
    contradictions.endpoints,
    contradictions.transfer,
    contradictions.limits,
    contradictions.stream_limits,
    contradictions.gates,
    contradictions.retirement,
    contradictions.encryption,
    contradictions.tasks,
    contradictions.lanes,
    contradictions.kubernetes_probes,
)
_OBSERVED_RULES: tuple[Rule, ...] = (
    references.lane_without_endpoints,
    references.duplicates,
    contradictions.observed_tasks,
    contradictions.lanes,
)
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """A valid plan document, where it came from, and `sha256:` of its bytes. Paths that it names are relative to
    `base_dir`; they are kept as written, so that the document means the same on every machine."""

    path: Path
    text_digest: str
    document: CutoverPlan | ObservedLane

    @property
    def base_dir(self) -> Path:
        """The folder that relative paths in the document start from."""
        return self.path.parent


@dataclass(frozen=True, slots=True)
class _Judged:
    """A file as far as it could be read: what a folder's rules need besides the documents themselves."""

    path: Path
    loaded: LoadedDocument | None
    root: Node | None
    problems: tuple[Problem, ...]
    secrets: frozenset[str]

    def lines(self, more: tuple[Problem, ...] = ()) -> tuple[str, ...]:
        return report(str(self.path), (*self.problems, *more), self.secrets)


def load(path: Path) -> LoadedDocument:
    """The document in `path`. Reads at most a megabyte of a regular file and nothing else.

    StatehubError `spec-unreadable` where the file cannot be read, `spec-invalid` with every problem in `details`."""
    return parse(_read_file(path), path)


def parse(data: bytes, path: Path) -> LoadedDocument:
    """The document in `data`; `path` names it in problems and gives its base folder. Errors as `load`."""
    judged = _judge(data, path)
    if judged.loaded is None:
        raise _invalid(str(path), judged.lines())
    return judged.loaded


def load_folder(path: Path) -> tuple[LoadedDocument, ...]:
    """Every document (`*.yaml`, `*.yml`) directly in the folder, sorted by file name; none in an empty folder.

    Besides each document the lanes are judged together: names, references, circles. Errors as `load`, over all files.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and not file.name.startswith("."))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    judged = [_judge(_read_file(file), file) for file in files]
    across = folder.problems([one.root for one in judged])
    lines = tuple(line for one, more in zip(judged, across, strict=True) for line in one.lines(more))
    if lines:
        raise _invalid(str(path), lines)
    return tuple(one.loaded for one in judged if one.loaded is not None)


def _judge(data: bytes, path: Path) -> _Judged:
    seen = read(data)
    problems = list(seen.problems)
    document = None
    if seen.root is not None:
        document, wrong_shape = shape(seen.root)
        problems += wrong_shape
        for rule in _rules(seen.root):
            problems += rule(seen.root)
    loaded = None
    if document is not None and not problems:
        loaded = LoadedDocument(path, f"sha256:{hashlib.sha256(data).hexdigest()}", document)
    return _Judged(path, loaded, seen.root, tuple(problems), seen.secrets)


def _rules(root: Node) -> tuple[Rule, ...]:
    """The rules for this kind of document; where the kind is not known, those that hold for each."""
    if root.child("kind").text == "ObservedLane":
        return _OBSERVED_RULES
    if root.child("kind").text == "CutoverPlan" or "endpoints" in root.child("spec").members:
        return _CUTOVER_RULES
    return (references.duplicates, contradictions.lanes)


def _read_file(path: Path) -> bytes:
    """At most one byte more than is allowed; never waits for a pipe or a device."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "it is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None


def _unreadable(path: Path, reason: str) -> StatehubError:
    return StatehubError(
        code="spec-unreadable",
        what=f"{path} cannot be read: {reason}",
        hint="name a plan document, or write one with `statehub-plan init`",
    )


def _invalid(name: str, lines: tuple[str, ...]) -> StatehubError:
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return StatehubError(
        code="spec-invalid",
        what=f"{name} is not a valid plan: {count}",
        hint="correct them all; nothing was touched",
        details=lines,
    )
