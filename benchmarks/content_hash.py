"""How long the content proof takes beside counting rows and beside pgcopydb's algorithm, in one run.

    python -m benchmarks.content_hash [--megabytes 1000] [--jobs 2] [--rounds 5] [--reladiff PROGRAM]

With the program of PyPI's `reladiff` the largest table is compared by it too, all columns. Both sides at once, the
same sessions, snapshots and page ranges for all of the others; only what is asked of a row differs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from psycopg import sql

from benchmarks.two_clusters import Pair, size_of, two_clusters
from statehub_plan.postgres.compare import CHUNK_BYTES, Answer, compare
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.content import count_rows, digest_rows
from statehub_plan.postgres.copy import copy_data
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.relations import PageRange, Relation, read_relations
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.workers import Crew, run_crews

Ask = Callable[[Connection, Relation, PageRange], object]


def hashtext(connection: Connection, relation: Relation, pages: PageRange) -> object:
    """What `pgcopydb compare data` asks: a sum of 32-bit hashes of the row's text."""
    query = sql.SQL("SELECT count(*), sum(hashtext(t::text)::bigint) FROM ONLY {} AS t{}")
    return connection.execute(query.format(relation.identifier, pages.condition)).fetchone()


def reladiff(program: str, dsns: tuple[str, str], jobs: int) -> float:
    """Seconds that it takes to find the largest table equal in all of its columns."""
    columns = ["actor_id", "kind", "note", "amount", "payload", "seen_at"]
    asked = [part for name in columns for part in ("-c", name)]
    command = [program, dsns[0], "hub.event", dsns[1], "hub.event", "-k", "id", *asked, "-j", str(jobs)]
    began = time.monotonic()
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not found.stdout.strip(), found.stdout[:500]
    return time.monotonic() - began


def on_both_sides(dsns: tuple[str, str], jobs: int, ask: Ask, only: str | None = None) -> float:
    """Seconds from the first question to the last answer, of all tables or one; connecting is not counted."""
    with Snapshot(dsns[0], purpose="benchmark") as old, Snapshot(dsns[1], purpose="benchmark") as new:
        crews = []
        for snapshot in (old, new):
            found = [each for each in read_relations(snapshot.leader) if only in (None, each.qualified)]
            relations = sorted(found, key=lambda relation: -relation.bytes)
            tasks = [(relation, pages) for relation in relations for pages in relation.ranges(CHUNK_BYTES)]
            sessions = [snapshot.join() for _ in range(jobs)]
            crews.append(
                Crew(
                    tasks,
                    lambda task, session: ask(session[0], *task),
                    lambda sessions=sessions: (sessions.pop(),),  # type: ignore[misc]
                    jobs,
                )
            )
        began = time.monotonic()
        run_crews(crews)
        return time.monotonic() - began


def fill_target(pair: Pair, target: str, jobs: int) -> None:
    """The same content on the target."""
    with connect(target, purpose="benchmark") as new:
        fence(new, term=1, run="benchmark", epoch=1)
        prepare_schema(
            pair.source, target, run="benchmark", epoch=1, term=1, replace=False, safety_dir=Path(), endpoint="target"
        )
        copy_data(pair.source, target, epoch=1, jobs=jobs)
        finish_schema(pair.source, target, epoch=1, jobs=jobs)
        with connect(pair.source, purpose="benchmark") as old:
            sync_sequences(old, new, epoch=1)


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reladiff", default=None, help="that program, to compare the largest table beside")
    options = parser.parse_args()
    questions: dict[str, Ask] = {
        "count(*)": count_rows,
        "exact 128-bit digest (ours)": digest_rows,
        "sum(hashtext(t::text)) (pgcopydb)": hashtext,
    }
    measured: dict[str, list[float]] = {name: [] for name in questions}
    wholes = {"whole compare(), as in moves": False, "whole compare(), as on the command line": True}
    measured |= {name: [] for name in wholes}
    ours: list[float] = []
    theirs: list[float] = []
    with two_clusters(options.megabytes) as pair, pair.target() as target:
        fill_target(pair, target, options.jobs)
        versions = [cluster.installation.version for cluster in (pair.source_cluster, pair.target_cluster)]
        print(f"PostgreSQL {versions[0]} and {versions[1]}, {size_of(pair.source)} on each side, ", end="")
        print(f"{options.jobs} jobs a side, median of {options.rounds}\n", flush=True)
        for _ in range(options.rounds):
            for name, ask in questions.items():
                measured[name].append(on_both_sides((pair.source, target), options.jobs, ask))
            for name, by_buckets in wholes.items():
                began = time.monotonic()
                found = compare(pair.source, target, jobs=options.jobs, expect_differences=by_buckets)
                assert found.answer is Answer.EQUAL
                measured[name].append(time.monotonic() - began)
            if options.reladiff:
                sides = pair.source, target
                ours.append(on_both_sides(sides, options.jobs, digest_rows, "hub.event"))
                theirs.append(reladiff(options.reladiff, sides, options.jobs))
    medians = {name: statistics.median(seconds) for name, seconds in measured.items()}
    print("| both sides at once | s | to count(*) | to pgcopydb's |\n|---|---|---|---|")
    for name, seconds in medians.items():
        ratios = seconds / medians["count(*)"], seconds / medians["sum(hashtext(t::text)) (pgcopydb)"]
        print(f"| {name} | {seconds:.2f} | {ratios[0]:.1f}× | {ratios[1]:.2f}× |")
    if theirs:
        one, other = statistics.median(ours), statistics.median(theirs)
        print(f"\nlargest table: digest {one:.2f} s, reladiff {other:.2f} s, {one / other:.2f}×")


if __name__ == "__main__":
    main()
