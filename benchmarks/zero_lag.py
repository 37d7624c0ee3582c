"""What a byte lag of zero is worth, beside a barrier: a large transaction commits shortly before a switch.

    python -m benchmarks.zero_lag [--rows 1000000] [--theirs 3] [--ours 3] [--ours-rows 1000000]

The lag's way: writers are stopped by a read-only default and by ending their sessions, the subscription is dropped as
soon as the publisher says that nothing is left to be sent, written, flushed or replayed, and the target is written to.
Ours: the switch that `apply` makes. Both begin right after the commit, on the same clusters. Counted is what the new
primary does not have of what was acknowledged.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.two_clusters import Pair, two_clusters
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence, install
from statehub_plan.postgres.fill import fill_and_follow
from statehub_plan.postgres.hold import HoldLimits
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.stopping import stop_following
from statehub_plan.postgres.switch import Switch, SwitchEnds, SwitchLimits

_LIMITS = SwitchLimits(hold=HoldLimits(session_grace_s=0.05), switch_s=300, near_s=300)
_TABLE = "CREATE TABLE hub.ledger (id bigint PRIMARY KEY, body text)"
_WRITE = "INSERT INTO hub.ledger SELECT n, repeat('x', 40) FROM generate_series(1, %s) n"
_CALM_S = 0.2


@contextmanager
def fresh(pair: Pair) -> Iterator[tuple[str, str]]:
    """DSNs of a source with an empty table, and of an empty target."""
    name = f"lag_{secrets.token_hex(4)}"
    with psycopg.connect(pair.source_cluster.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        source = pair.source_cluster.dsn(name)
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA hub")
            connection.execute(_TABLE)
        with pair.target() as target:
            yield source, target
    finally:
        with psycopg.connect(pair.source_cluster.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


def by_lag(source: str, target: str, rows: int) -> float:
    """Seconds of the switch that believes in a lag of zero."""
    with psycopg.connect(source, autocommit=True) as old, psycopg.connect(target, autocommit=True) as new:
        new.execute("CREATE SCHEMA hub")
        new.execute(_TABLE)
        old.execute("CREATE PUBLICATION by_lag FOR TABLE hub.ledger")
        new.execute(sql.SQL("CREATE SUBSCRIPTION by_lag CONNECTION {} PUBLICATION by_lag").format(sql.Literal(source)))
        _until(lambda: _one(new, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel") is True)
        _until(lambda: _lag(old) == 0)
        _commit(source, rows)
        began = time.monotonic()
        database = sql.Identifier(old.info.dbname)
        old.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
        old.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        time.sleep(_CALM_S)
        _until(lambda: _lag(old) == 0)
        new.execute("DROP SUBSCRIPTION by_lag")
        return time.monotonic() - began


def by_barrier(source: str, target: str, rows: int, *, late: bool = False) -> float:
    """Seconds of our switch, everything before the hold included; without a way back, as the other one has none."""
    with connect(source, purpose="bench") as old, connect(target, purpose="bench") as new:
        install(old)
        fence(new, term=1, run="bench", epoch=1)
    prepare_schema(source, target, run="bench", epoch=1, term=1, replace=False, safety_dir=Path(), endpoint="new")
    fill_and_follow(source, target, epoch=1, publisher=source)
    try:
        if not late:
            _commit(source, rows)
        began = time.monotonic()
        with _switch(source, target) as switch:
            switch.prepare()
            if late:
                _commit(source, rows)
                began = time.monotonic()
            switch.take_hold()
            switch.drain()
            switch.sync_sequences()
            switch.prove("bench", lambda *_: None)
            switch.freeze("new")
            if not switch.decide().stands:
                raise RuntimeError("nothing was decided")
        elapsed_s = time.monotonic() - began
    finally:
        stop_following(target, source, epoch=1)
    return elapsed_s


def by_barrier_late(source: str, target: str, rows: int) -> float:
    """The same, but the transaction commits right before the locks, so that writers wait until it has arrived."""
    return by_barrier(source, target, rows, late=True)


def _switch(source: str, target: str) -> Switch:
    return Switch(
        SwitchEnds(source, target, None),
        run="bench",
        epoch=1,
        term=1,
        hold_id=secrets.token_hex(6),
        limits=_LIMITS,
        on_event=lambda _: None,
    )


def measure(name: str, switch: Callable[[str, str, int], float], pair: Pair, rows: int, runs: int) -> None:
    """Prints one line of the table."""
    lost, seconds = [], []
    for _ in range(runs):
        with fresh(pair) as (source, target):
            seconds.append(switch(source, target, rows))
            with psycopg.connect(target, autocommit=True) as connection:
                lost.append(rows - int(str(_one(connection, "SELECT count(*) FROM hub.ledger"))))
    runs_with_loss = sum(count > 0 for count in lost)
    print(
        f"| {name} | {rows:,} | {runs} | {runs_with_loss} | {max(lost):,} | {statistics.median(seconds):.2f} |",
        flush=True,
    )


def _commit(source: str, rows: int) -> None:
    with psycopg.connect(source) as writer:
        writer.execute(_WRITE, [rows])


def _lag(publisher: psycopg.Connection) -> int | None:
    """Bytes that were sent and that the receiver has not said to have replayed; None while there is no receiver."""
    row = publisher.execute(
        "SELECT greatest(pg_wal_lsn_diff(sent_lsn, write_lsn), pg_wal_lsn_diff(sent_lsn, flush_lsn), "
        "pg_wal_lsn_diff(sent_lsn, replay_lsn))::int8 FROM pg_stat_replication WHERE application_name = 'by_lag'"
    ).fetchone()
    return None if row is None else row[0]


def _one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def _until(happened: Callable[[], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError("this comparison's own wait has no end")
        time.sleep(_CALM_S)


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--theirs", type=int, default=3)
    parser.add_argument("--ours", type=int, default=3)
    parser.add_argument("--ours-rows", type=int, default=None, help="default: as --rows")
    options = parser.parse_args()
    with two_clusters(1) as pair:
        print("| switch | rows just committed | runs | runs with loss | most rows lost | median s |")
        print("|---|---|---|---|---|---|", flush=True)
        if options.theirs:
            measure("byte lag zero, drop the subscription", by_lag, pair, options.rows, options.theirs)
        if options.ours:
            rows = options.ours_rows or options.rows
            measure("barrier, committed before the switch", by_barrier, pair, rows, options.ours)
            measure("barrier, committed before the locks", by_barrier_late, pair, rows, options.ours)


if __name__ == "__main__":
    main()
