"""What it costs to find 1, 10, 1,000 differing rows in a large table, beside comparing it when it is equal.

    python -m benchmarks.locate [--rows 10000000] [--jobs 2] [--rounds 5]

Both ways of reading: `at once`, as the command line does, sorts rows into buckets while it reads, `afterwards`
(`compare --expect-equal`) reads a differing table again. Also the peak memory of this process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from functools import partial

import psycopg

from benchmarks.two_clusters import timed, two_clusters
from statehub_plan.postgres.compare import Comparison, compare

DIFFERENCES = (0, 1, 10, 1000)

_TABLE = """
CREATE SCHEMA found;
CREATE TABLE found.row (id bigint PRIMARY KEY, kind text NOT NULL, amount numeric(14, 4), tag uuid NOT NULL,
                        seen_at timestamptz NOT NULL);
INSERT INTO found.row SELECT n, 'kind ' || n % 17, (n * 7919 % 1000003) / 10000.0, md5(n::text)::uuid,
       timestamptz '2024-01-01 00:00Z' + n * interval '1 second' FROM generate_series(1, {rows}::bigint) n;
"""


def create(source: str, target: str, rows: int) -> None:
    """The same table on both sides, and nothing else."""
    for dsn in (source, target):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS hub CASCADE")
            connection.execute(_TABLE.format(rows=rows).encode())
            connection.execute("VACUUM (ANALYZE)")


def changed_keys(rows: int, count: int) -> list[int]:
    """`count` keys all over the table."""
    return [1 + (index * 2 + 1) * rows // (2 * count) for index in range(count)]


def add(dsn: str, keys: list[int], amount: int) -> None:
    """Changes these rows; the same with the amount negated changes them back."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE found.row SET amount = amount + %s WHERE id = ANY (%s)", [amount, keys])


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with two_clusters(1) as pair, pair.target() as target:
        create(pair.source, target, options.rows)
        measured: dict[tuple[bool, int], list[float]] = {}
        for count in DIFFERENCES:
            keys = changed_keys(options.rows, count)
            add(target, keys, 1)
            for _ in range(options.rounds):
                for at_once in (False, True):
                    seconds = timed(partial(check, pair.source, target, options.jobs, at_once, count))
                    measured.setdefault((at_once, count), []).append(seconds)
            add(target, keys, -1)
    print(f"{options.rows:,} rows, {options.jobs} jobs a side, median of {options.rounds}\n")
    print("| differing rows | afterwards: s | to equal | at once: s | to equal |\n|---|---|---|---|---|")
    medians = {key: statistics.median(seconds) for key, seconds in measured.items()}
    for count in DIFFERENCES:
        cells = [f"{medians[way, count]:.2f} | {medians[way, count] / medians[way, 0]:.2f}×" for way in (False, True)]
        print(f"| {count:,} | {' | '.join(cells)} |")
    print(f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def check(source: str, target: str, jobs: int, at_once: bool, count: int) -> Comparison:
    """One comparison, which must find as many rows as there are."""
    found = compare(source, target, jobs=jobs, expect_differences=at_once, rows_listed=10_000)
    assert count == sum(len(each.rows) for each in found.differences), (count, found.differences[:3])
    return found


if __name__ == "__main__":
    main()
