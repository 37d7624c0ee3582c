"""What the proof costs when a baseline is known: at two sizes with the same changes, beside the full comparison.

    python -m benchmarks.changed_keys [--rows 1000000 10000000] [--changed 100000] [--rounds 5]

`in the hold` is the whole `compare(changes=…)`: sessions, catalogs, sequences, slots, keys. `settled`: the keys were
compared online before, and 200 more rows were written since.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from functools import partial

import psycopg

from benchmarks.locate import create
from benchmarks.two_clusters import timed, two_clusters
from statehub_plan.postgres.by_keys import Changes, settle
from statehub_plan.postgres.changes import ChangeLog
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.sides import CHUNK_BYTES, Labour
from statehub_plan.postgres.workers import nobody_looks, nothing_to_lose

_LAST = 200


def write(dsns: tuple[str, str], first: int, count: int, rows: int) -> None:
    """The same rows on both sides, spread over the table."""
    step = rows // count
    for dsn in dsns:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "UPDATE found.row SET amount = amount + 1 "
                "WHERE id = ANY (SELECT %s + n * %s FROM generate_series(0, %s) n)",
                [first, step, count - 1],
            )


def prove(dsns: tuple[str, str], jobs: int, changes: Changes | None) -> None:
    """One proof, which must find both sides equal."""
    assert compare(*dsns, jobs=jobs, changes=changes).answer is Answer.EQUAL


def measure(rows: int, changed: int, jobs: int, rounds: int) -> dict[str, float]:
    """Medians in seconds."""
    found: dict[str, list[float]] = {}
    with two_clusters(1) as pair, pair.target() as target:
        dsns = pair.source, target
        create(pair.source, target, rows)
        for dsn in dsns:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CREATE PUBLICATION benchmark FOR ALL TABLES")
        for number in range(rounds):
            with ExitStack() as stack:
                logs = []
                for side, dsn in enumerate(dsns):
                    log = ChangeLog(dsn, slot=f"benchmark_{side}", publications=["benchmark"])
                    stack.enter_context(log)
                    stack.callback(log.drop_slot)
                    logs.append(log)
                baseline = compare(*dsns, jobs=jobs)
                found.setdefault("full comparison", []).append(baseline.elapsed_ms / 1000)
                changes = Changes(logs[0], logs[1], baseline)
                write(dsns, 1 + number, changed, rows)
                found.setdefault("reading the slots, before the hold", []).append(timed(changes.catch_up))
                found.setdefault("in the hold", []).append(timed(partial(prove, dsns, jobs, changes)))
                labour = Labour(jobs, CHUNK_BYTES, nothing_to_lose, nobody_looks)
                found.setdefault("settling, before the hold", []).append(timed(partial(settle, *dsns, changes, labour)))
                write(dsns, 1 + number, _LAST, rows)
                found.setdefault("in the hold, settled", []).append(timed(partial(prove, dsns, jobs, changes)))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[1_000_000, 10_000_000])
    parser.add_argument("--changed", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    small, large = (measure(rows, options.changed, options.jobs, options.rounds) for rows in options.rows)
    print(f"{options.changed:,} rows changed, {options.jobs} jobs a side, median of {options.rounds}, ms\n")
    print(f"| | {options.rows[0]:,} rows | {options.rows[1]:,} rows | ratio |\n|---|---|---|---|")
    for name, seconds in small.items():
        print(f"| {name} | {seconds * 1000:.0f} | {large[name] * 1000:.0f} | {large[name] / seconds:.2f}× |")


if __name__ == "__main__":
    main()
