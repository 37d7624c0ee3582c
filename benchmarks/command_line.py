"""How long a person waits for the tool itself: `--help`, the plan of the shipped example, planning for a folder.

    python -m benchmarks.command_line [--rounds 11]

Ratios are to `python -c pass` of the same interpreter in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from statehub_plan.demo.world import DemoWorld
from statehub_plan.model.facts import Fact, FactStatus, Observation
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.planning import make_plan
from statehub_plan.spec import load_folder

_EXAMPLE = Path(__file__).parents[1] / "plans" / "cust-wp-0011.yaml"
_NOW = datetime(2026, 6, 27, tzinfo=UTC)


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """The median of `rounds` calls, after one that warms caches."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def process(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Callable[[], object]:
    """A command as something to call."""
    return lambda: subprocess.run(command, check=True, env=env, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL)


def plan_folder(count: int, rounds: int) -> tuple[float, float]:
    """(load_ms, plan_ms) for a folder of `count` copies of the shipped example under names of their own; planning is
    over canned facts of both endpoints, so that only the tool is measured."""
    text = _EXAMPLE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(count):
            copy = text.replace("name: cust-wp-0011\n", f"name: copy-{index}\n", 1)
            (folder / f"copy-{index}.yaml").write_text(copy, encoding="utf-8")
        load_ms = median_ms(lambda: load_folder(folder), rounds)
        documents = [one.document for one in load_folder(folder)]
    plans = [document for document in documents if isinstance(document, CutoverPlan)]
    observation = _observed(plans[0])
    return load_ms, median_ms(lambda: [_planned(document, observation) for document in plans], rounds)


def _planned(document: CutoverPlan, observation: Observation) -> object:
    return make_plan(
        document,
        observation=observation,
        evidence=(),
        now=_NOW,
        author="bench",
        tool_version="0",
        spec_digest="sha256:0",
        spec_path="plans/x.yaml",
    )


def _observed(document: CutoverPlan) -> Observation:
    values: dict[str, object] = {"backup": None}
    old = next(name for name in document.spec.endpoints if name != document.spec.desired.primary)
    for index, name in enumerate(document.spec.endpoints):
        values |= {
            f"{name}.reach": "reachable",
            f"{name}.identity": {"system_identifier": str(index), "database": "hub", "database_oid": 1},
            f"{name}.writes": "open",
            f"{name}.fence": {"term": None, "hold": None, "retired": False},
            f"{name}.transfer": None,
            f"{name}.register": [],
            f"{name}.tables": 12,
        }
    values |= {f"access.{path.name}": {"endpoint": old} for path in document.spec.access}
    facts = (
        Fact.model_validate(
            {"id": key, "status": FactStatus.KNOWN, "value": value, "how": "bench", "observed_at": _NOW}
        )
        for key, value in sorted(values.items())
    )
    return Observation(observed_at=_NOW, facts=tuple(facts))


def main() -> None:
    """Prints one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds: int = parser.parse_args().rounds
    python = sys.executable
    bare = median_ms(process(python, "-c", "pass"), rounds)
    help_ms = median_ms(process(python, "-m", "statehub_plan", "--help"), rounds)
    print("| what | median | to `python -c pass` |\n|---|---|---|")
    print(f"| `python -c pass` | {bare:.0f} ms | 1.0 |")
    print(f"| `statehub-plan --help` | {help_ms:.0f} ms | {help_ms / bare:.1f} |")
    with DemoWorld(rows=200_000) as world:
        os.environ.update(world.env)
        command = world.command("plan", str(world.plan_file))
        plan_ms = median_ms(process(*command, env=world.command_env, cwd=world.directory), rounds)
    print(f"| `plan` of the demo's example, both endpoints and OPA real | {plan_ms:.0f} ms | {plan_ms / bare:.1f} |")
    for count in (10, 100, 1000):
        load_ms, planned_ms = plan_folder(count, max(3, rounds // 4))
        print(f"| {count} plans in a folder: load and validate | {load_ms:.0f} ms | {load_ms / bare:.1f} |")
        print(f"| {count} plans: plan, over canned facts | {planned_ms:.0f} ms | {planned_ms / bare:.1f} |")


if __name__ == "__main__":
    main()
