"""Small bundles for tests: the real entry point and canary beside one policy written for the test."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.unit.policy_story import BUNDLE_DIR

DENY_NOTHING = """package statehub.policies.probe

deny contains "never" if false
"""
NO_POLICY = "package statehub.policies.probe\n"


def finding(level: str = "hard", code: str = "probe.objects") -> str:
    """The text of a finding in Rego."""
    return (
        f'{{"code": "{code}", "level": "{level}", "message": "objects", "step": null, "path": null, '
        '"evidence": {}, "remedy": "none"}'
    )


def objecting(what: str, when: str = 'input.schema == "statehub-plan/input/v1"') -> str:
    """A policy that denies with `what`, only about real documents unless told otherwise."""
    return f"package statehub.policies.probe\n\ndeny contains {what} if {when}\n"


def bundle_of(
    directory: Path, probe: str = DENY_NOTHING, *, canary: str | None = None, main: str | None = None
) -> Path:
    """A bundle folder with main, canary and one policy `probe`."""
    real = BUNDLE_DIR / "statehub"
    bundle = directory / "bundle"
    for name, text in (
        ("main/main.rego", main),
        ("policies/canary/canary.rego", canary),
        ("policies/probe/probe.rego", probe),
    ):
        path = bundle / "statehub" / name
        path.parent.mkdir(parents=True)
        if text is None:
            shutil.copyfile(real / name, path)
        else:
            path.write_text(text)
    return bundle
