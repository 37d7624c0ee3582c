"""How long the dump path's copy phase takes beside pg_dump | pg_restore and pgcopydb, in one run.

    python -m benchmarks.copy [--megabytes 1000] [--jobs 2] [--rounds 3]

What is timed is what happens under the hold: rows, indexes, keys, statistics, durable. Preparing, which happens before
it, is shown beside. The contenders take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.two_clusters import Pair, size_of, timed, two_clusters
from statehub_plan.components import client_tool
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.copy import copy_data
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.sequences import sync_sequences

Laps = dict[str, float]


def ours(pair: Pair, target: str, jobs: int) -> Laps:
    """Seconds of each part; the target is proved equal afterwards, which is not timed."""
    with connect(target, purpose="benchmark") as connection:
        fence(connection, term=1, run="benchmark", epoch=1)

    def prepare() -> None:
        prepare_schema(
            pair.source, target, run="benchmark", epoch=1, term=1, replace=False, safety_dir=Path(), endpoint="target"
        )

    def sequences() -> None:
        with connect(pair.source, purpose="benchmark") as old, connect(target, purpose="benchmark") as new:
            sync_sequences(old, new, epoch=1)

    laps = {
        "prepare (before the hold)": timed(prepare),
        "rows": timed(lambda: copy_data(pair.source, target, epoch=1, jobs=jobs)),
        "indexes, keys, statistics": timed(lambda: finish_schema(pair.source, target, epoch=1, jobs=jobs)),
        "sequences": timed(sequences),
    }
    laps["total"] = sum(seconds for part, seconds in laps.items() if not part.startswith("prepare"))
    assert compare(pair.source, target, jobs=jobs).answer is Answer.EQUAL
    return laps


def dump_and_restore(pair: Pair, target: str, jobs: int) -> Laps:
    """The target's own tools through a directory, as their manual says for parallel work."""
    major = pair.target_cluster.installation.major
    with tempfile.TemporaryDirectory(prefix="statehub-plan-bench-") as scratch:
        directory = f"{scratch}/dump"
        dump = [str(client_tool("pg_dump", major)), "-Fd", f"-j{jobs}", "-f", directory, pair.source]
        restore = [str(client_tool("pg_restore", major)), f"-j{jobs}", "-d", target, directory]
        laps = {
            "pg_dump": timed(lambda: subprocess.run(dump, check=True)),
            "pg_restore": timed(lambda: subprocess.run(restore, check=True)),
        }
    return laps | {"total": sum(laps.values())}


def pgcopydb(pair: Pair, target: str, jobs: int) -> Laps:
    """`pgcopydb clone`, which uses the client tools that PG_CONFIG leads to: the target's."""
    tools = pair.target_cluster.installation.bin_dir
    with tempfile.TemporaryDirectory(prefix="statehub-plan-bench-") as scratch:
        environment = os.environ | {"PG_CONFIG": str(tools / "pg_config"), "PATH": f"{tools}:{os.environ['PATH']}"}
        command = ["pgcopydb", "clone", "--source", pair.source, "--target", target]
        command += ["--table-jobs", str(jobs), "--index-jobs", str(jobs), "--dir", f"{scratch}/work"]

        def run() -> None:
            found = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", check=False
            )
            if found.returncode != 0:
                raise SystemExit(f"pgcopydb failed:\n{found.stderr[-2000:]}")

        return {"total": timed(run)}


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    contenders = {"statehub-plan": ours, "pg_dump -Fd, pg_restore": dump_and_restore}
    if shutil.which("pgcopydb"):
        contenders["pgcopydb clone"] = pgcopydb
    measured: dict[str, list[Laps]] = {name: [] for name in contenders}
    with two_clusters(options.megabytes) as pair:
        versions = [cluster.installation.version for cluster in (pair.source_cluster, pair.target_cluster)]
        print(f"PostgreSQL {versions[0]} to {versions[1]}, {size_of(pair.source)}, {options.jobs} jobs, ", end="")
        print(f"median of {options.rounds}\n", flush=True)
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                with pair.target() as target:
                    measured[name].append(contender(pair, target, options.jobs))
    own = statistics.median(laps["total"] for laps in measured["statehub-plan"])
    print("| | total s | parts | statehub-plan takes |\n|---|---|---|---|")
    for name, laps in measured.items():
        medians = {part: statistics.median(each[part] for each in laps) for part in laps[0]}
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in medians.items() if part != "total")
        print(f"| {name} | {medians['total']:.1f} | {parts or '—'} | {own / medians['total']:.2f}× |")


if __name__ == "__main__":
    main()
