"""How long it takes until a target follows, rows and indexes and all, beside the peers, in one run.

    python -m benchmarks.fill [--megabytes 1000] [--jobs 2] [--rounds 3] [--writes 200] [--newest 15]

Somebody writes to the source all the time. Timed is what begins after an empty schema (of which contenders that make it
themselves make their own) and ends when the target holds and indexes everything, for those that follow: follows.
Statistics stand beside ours, which gathers them while it follows; native synchronization leaves them to autovacuum,
pgcopydb has them in its total, pg_restore before 18 has none. Ours is proved equal by `compare` each time, which is not
timed. pgcopydb 0.10 refuses servers newer than 16: `--newest 15`.
The contenders take turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.copy import Laps, dump_and_restore, pgcopydb
from benchmarks.two_clusters import Pair, size_of, timed, two_clusters
from statehub_plan.components import client_tool
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.postgres.following import Stream, await_barrier
from statehub_plan.postgres.relations import read_relations
from statehub_plan.postgres.replication import stream_name
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.sequences import sync_sequences
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.postgres.workers import Progress


class Writer:
    """Small transactions on the source, about so many a second; can be held still."""

    def __init__(self, dsn: str, per_second: int) -> None:
        self._dsn, self._pause = dsn, 1 / per_second if per_second else None
        self._stop, self._still = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while self._pause and not self._stop.wait(self._pause):
                with self._still:
                    connection.execute(
                        # A subquery: random() itself would be called for every row of the table.
                        "WITH found AS (UPDATE hub.event SET amount = amount + 1 "
                        "WHERE id = (SELECT 1 + (random() * 1000)::int) RETURNING actor_id) "
                        "INSERT INTO hub.event (actor_id, kind, payload, seen_at) "
                        "SELECT actor_id, 'new', '{}', now() FROM found"
                    )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Writes meanwhile."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Writes nothing meanwhile."""
        with self._still:
            yield


def ours(pair: Pair, target: str, jobs: int, writer: Writer) -> Laps:
    """Seconds of each phase."""
    with connect(target, purpose="benchmark") as connection:
        fence(connection, term=1, run="benchmark", epoch=1)
    phases: dict[str, float] = {}

    def note(progress: Progress) -> None:
        phases[progress.phase] = progress.elapsed_s

    prepared = timed(
        lambda: prepare_schema(
            pair.source, target, run="benchmark", epoch=1, term=1, replace=False, safety_dir=Path(), endpoint="target"
        )
    )
    followed = fill_and_follow(pair.source, target, epoch=1, publisher=pair.source, jobs=jobs, on_progress=note)
    phases.pop("statistics", None)
    after = (followed.elapsed_ms - followed.followed_ms) / 1000
    with writer.still():
        prove(pair.source, target, jobs)
    stop_following(target, pair.source, epoch=1, keep_publication=False)
    parts = {"preparing, before": prepared, **phases, "statistics, after": after}
    return {**parts, "total": followed.followed_ms / 1000}


def prove(source: str, target: str, jobs: int) -> None:
    """Equal in every row, or an end."""
    with connect(source, purpose="benchmark") as old, connect(target, purpose="benchmark") as new:
        await_barrier(Stream(stream_name(identity(new)), old, new, 60.0))
        sync_sequences(old, new, epoch=1)
    assert compare(source, target, jobs=jobs).answer is Answer.EQUAL


def native(pair: Pair, target: str, jobs: int, writer: Writer) -> Laps:
    """PostgreSQL's own table synchronization into the complete schema, indexes and all."""
    load_schema(pair, target)
    began = time.monotonic()
    with psycopg.connect(pair.source, autocommit=True) as source, psycopg.connect(target, autocommit=True) as new:
        source.execute("CREATE PUBLICATION native FOR TABLES IN SCHEMA hub")
        new.execute(
            sql.SQL("CREATE SUBSCRIPTION native CONNECTION {} PUBLICATION native").format(sql.Literal(pair.source))
        )
        while new.execute("SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r'").fetchone() is not None:
            time.sleep(0.05)
        took = time.monotonic() - began
        new.execute("DROP SUBSCRIPTION native")
        source.execute("DROP PUBLICATION native")
    return {"total": took}


def bare_copy(pair: Pair, target: str, jobs: int, writer: Writer) -> Laps:
    """The rows alone, by psql and COPY in its binary form, largest table first, no index."""
    load_schema(pair, target, "--section=pre-data")
    psql = str(pair.target_cluster.installation.bin_dir / "psql")
    with connect(pair.source, purpose="benchmark") as source:
        relations = sorted(read_relations(source), key=lambda relation: -relation.bytes)

    def move(table: str) -> None:
        out = [psql, "-qXc", f"COPY {table} TO STDOUT (FORMAT binary)", pair.source]
        into = [psql, "-qXc", f"COPY {table} FROM STDIN (FORMAT binary)", target]
        with subprocess.Popen(out, stdout=subprocess.PIPE) as sending:
            subprocess.run(into, stdin=sending.stdout, check=True)
        assert sending.returncode == 0

    def run() -> None:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(move, (relation.qualified for relation in relations)))

    return {"total": timed(run)}


def load_schema(pair: Pair, target: str, section: str = "--schema-only") -> None:
    """The source's schema, or one section of it."""
    dump = client_tool("pg_dump", pair.target_cluster.installation.major)
    script = subprocess.run(
        [str(dump), section, "--schema-only", "--schema=hub", pair.source], check=True, capture_output=True
    ).stdout
    psql = str(pair.target_cluster.installation.bin_dir / "psql")
    subprocess.run([psql, "-qX", "-v", "ON_ERROR_STOP=1", target], input=script, check=True, capture_output=True)


Contender = Callable[[Pair, str, int, Writer], Laps]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writes", type=int, default=200, help="transactions a second on the source")
    parser.add_argument("--newest", type=int, default=None, help="highest major of the target")
    parser.add_argument("--only", nargs="*", default=None, help="words of the contenders' names")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {
        "statehub-plan": ours,
        "pg_dump -Fd, pg_restore": lambda pair, target, jobs, _: dump_and_restore(pair, target, jobs),
        "native table sync, indexes in place": native,
        "bare COPY, no index": bare_copy,
    }
    if shutil.which("pgcopydb") and options.newest is not None and options.newest <= 16:
        contenders["pgcopydb clone"] = lambda pair, target, jobs, _: pgcopydb(pair, target, jobs)
    if options.only:
        contenders = {name: each for name, each in contenders.items() if any(word in name for word in options.only)}
    measured: dict[str, list[Laps]] = {name: [] for name in contenders}
    with two_clusters(options.megabytes, newest=options.newest) as pair:
        versions = [cluster.installation.version for cluster in (pair.source_cluster, pair.target_cluster)]
        print(f"PostgreSQL {versions[0]} to {versions[1]}, {size_of(pair.source)}, {options.jobs} jobs, ", end="")
        print(f"{options.writes} writes/s, median of {options.rounds}\n", flush=True)
        writer = Writer(pair.source, options.writes)
        with writer.writing():
            for _ in range(options.rounds):
                for name, contender in contenders.items():
                    with pair.target() as target:
                        measured[name].append(contender(pair, target, options.jobs, writer))
    own = statistics.median(laps["total"] for laps in measured["statehub-plan"])
    print("| | total s | parts | statehub-plan takes |\n|---|---|---|---|")
    for name, laps in measured.items():
        medians = {part: statistics.median(each.get(part, 0.0) for each in laps) for part in laps[0]}
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in medians.items() if part != "total")
        print(f"| {name} | {medians['total']:.1f} | {parts or '—'} | {own / medians['total']:.2f}× |")


if __name__ == "__main__":
    main()
