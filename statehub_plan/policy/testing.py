"""`policy test`: style, strictness, tests and coverage of a bundle, with OPA's own tools."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, JsonValue

from statehub_plan.model.base import Frozen
from statehub_plan.policy.bundle import is_test, read_bundle
from statehub_plan.policy.document import BundleInfo, PolicyInput
from statehub_plan.policy.engine import opa

_TIMEOUT = "60s"  # for one test; OPA's own five seconds are a failed test on a machine that is busy


class PolicyTestReport(Frozen):
    """What a bundle's tests showed. `coverage` is per cent of the lines outside tests, as computed: 99.96 is printed as
    99.96 and is not 100. `not_covered` and the names are sorted."""

    bundle: BundleInfo
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    covered_lines: int
    not_covered: tuple[str, ...]
    complaints: tuple[str, ...]

    @property
    def coverage(self) -> float:
        """Unrounded; 0 when nothing was covered or could have been."""
        lines = self.covered_lines + len(self.not_covered)
        return 100 * self.covered_lines / lines if lines else 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that makes the bundle unfit, one line each; empty when it is fit."""
        return (
            *self.complaints,
            *(() if self.passed or self.failed else ("no test was run",)),
            *(f"test failed: {name}" for name in self.failed),
            *(f"test was skipped: {name}" for name in self.skipped),
            *(f"line not covered: {place}" for place in self.not_covered),
        )

    @property
    def ok(self) -> bool:
        """Tests ran, none failed or was skipped, every line is covered, and OPA has no complaint."""
        return not self.problems


def run_tests(bundle_dir: Path) -> PolicyTestReport:
    """Check, format check, tests and coverage of the bundle in `bundle_dir`. Ten seconds or so; changes nothing.

    StatehubError when the bundle or OPA can't be used at all; everything else is in the report.
    """
    bundle = read_bundle(bundle_dir).info
    complaints = (*_strictness(bundle_dir), *_formatting(bundle_dir))
    results = opa(bundle_dir, "test", "--timeout", _TIMEOUT, "--format", "json", ".")
    passed, failed, skipped = _outcomes(results.answer(list[_Result]) if results.stdout.strip() else [])
    covered, not_covered = _coverage(bundle_dir) if passed and not failed else (0, ())
    return PolicyTestReport(
        bundle=bundle,
        passed=passed,
        failed=failed,
        skipped=skipped,
        covered_lines=covered,
        not_covered=not_covered,
        complaints=(*complaints, *(results.stderr.strip().splitlines() if not passed else ())),
    )


class _Capabilities(BaseModel):
    """What `opa capabilities` prints; all of it is passed on."""

    model_config = ConfigDict(extra="allow")
    builtins: list[dict[str, JsonValue]]


class _Result(BaseModel):
    """One test, as `opa test --format json` prints it."""

    package: str
    name: str
    fail: bool = False
    skip: bool = False
    error: JsonValue = None


class _Position(BaseModel):
    row: int


class _Range(BaseModel):
    start: _Position
    end: _Position

    @property
    def rows(self) -> range:
        return range(self.start.row, self.end.row + 1)


class _FileCoverage(BaseModel):
    covered: list[_Range] = []
    not_covered: list[_Range] = []


class _Coverage(BaseModel):
    """What `opa test --coverage --format json` prints."""

    files: dict[str, _FileCoverage]


def _strictness(bundle_dir: Path) -> tuple[str, ...]:
    """What `opa check --strict` objects to, with every built-in taken away that looks at a clock, at the network or at
    chance (all that a policy may know is in its input), and with the input's schema: a misspelt field would otherwise
    be undefined, and the rule silent."""
    capabilities = opa(bundle_dir, "capabilities", "--current").answer(_Capabilities)
    allowed = [each for each in capabilities.builtins if not each.get("nondeterministic")]
    with tempfile.TemporaryDirectory(prefix="statehub-plan-opa-") as directory:
        known, schema = Path(directory) / "capabilities.json", Path(directory) / "input.json"
        known.write_text(json.dumps(capabilities.model_copy(update={"builtins": allowed}).model_dump()))
        schema.write_text(json.dumps(PolicyInput.model_json_schema()))
        checked = opa(bundle_dir, "check", "--strict", "--capabilities", str(known), "--schema", str(schema), ".")
    return tuple(line for line in (checked.stdout + checked.stderr).splitlines() if line) if checked.exit_status else ()


def _formatting(bundle_dir: Path) -> tuple[str, ...]:
    listed = opa(bundle_dir, "fmt", "--list", ".")
    return tuple(f"not formatted by `opa fmt`: {name}" for name in (listed.stdout + listed.stderr).splitlines() if name)


def _outcomes(results: list[_Result]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    passed: list[str] = []
    failed: list[str] = []
    skipped: list[str] = []
    for result in results:
        is_bad = result.fail or result.error is not None
        (skipped if result.skip else failed if is_bad else passed).append(
            f"{result.package.removeprefix('data.')}.{result.name}"
        )
    return tuple(sorted(passed)), tuple(sorted(failed)), tuple(sorted(skipped))


def _coverage(bundle_dir: Path) -> tuple[int, tuple[str, ...]]:
    """(lines covered, `file:line` of the others). Lines, not OPA's expression ranges, of which one line may have many:
    a line counts as covered only when everything on it is."""
    report = opa(bundle_dir, "test", "--timeout", _TIMEOUT, "--coverage", "--format", "json", ".").answer(_Coverage)
    covered: set[tuple[str, int]] = set()
    missed: set[tuple[str, int]] = set()
    for name, found in report.files.items():
        if not is_test(PurePosixPath(name)):
            covered |= {(name, row) for each in found.covered for row in each.rows}
            missed |= {(name, row) for each in found.not_covered for row in each.rows}
    return len(covered - missed), tuple(f"{name}:{row}" for name, row in sorted(missed))
