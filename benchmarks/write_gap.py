"""The write gap of a cutover by replication, there and back again, with writers that keep a ledger.

    python -m benchmarks.write_gap [--megabytes 100] [--rate 2000] [--moves 20] [--prove-changes] [--rehearse]

With `--rehearse` each move is rehearsed right before, and what it forecast is set beside what the move took. With
`--prove-changes` the contents are compared online before each move, and every row written since inside its hold.
What is measured is what the writers saw: from the last commit acknowledged by the old side to the first one
acknowledged by the new. In the end every acknowledged row is looked for on the side that is primary then.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.two_clusters import Pair, size_of, two_clusters
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.compare import Answer, compare
from statehub_plan.postgres.connect import connect, user_tables
from statehub_plan.postgres.copy import copy_data
from statehub_plan.postgres.fence import fence, install, settle_fence
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.forecast import Forecast
from statehub_plan.postgres.hold import HoldLimits
from statehub_plan.postgres.replication import (
    create_subscription,
    drop_subscription,
    enable_subscription,
    publish,
    stream_name,
    wait_until_streaming,
)
from statehub_plan.postgres.reverse import ReverseEnds, prepare_reverse
from statehub_plan.postgres.schema import prepare_schema
from statehub_plan.postgres.slots import create_slot, drop_slot
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import identity
from statehub_plan.postgres.switch import Switch, SwitchEnds, SwitchLimits, Timings
from statehub_plan.steps.rehearse import exported

_LIMITS = SwitchLimits(hold=HoldLimits(session_grace_s=0.05))


@dataclass
class Mover:
    """Both databases; `old` is primary now."""

    old: str
    new: str
    term: int = 1
    prove_changes: bool = False

    def fill(self, jobs: int) -> None:
        """`new` filled and following, while nobody writes."""
        with connect(self.old, purpose="bench") as source:
            install(source)
        with connect(self.new, purpose="bench") as target:
            fence(target, term=1, run="bench", epoch=1)
        prepare_schema(
            self.old, self.new, run="bench", epoch=1, term=1, replace=False, safety_dir=Path(), endpoint="target"
        )
        with connect(self.old, purpose="bench") as source, connect(self.new, purpose="bench") as target:
            publish(source, user_tables(source))
            name = stream_name(identity(target))
            create_slot(self.old, name).close()
            copy_data(self.old, self.new, epoch=1, jobs=jobs)
            finish_schema(self.old, self.new, epoch=1, jobs=jobs)
            create_subscription(target, name=name, publisher=self.old, slot=name, enabled=True)
            wait_until_streaming(target, name, timeout_s=30)

    def prepare(self) -> None:
        """The way back, made before the move."""
        prepare_reverse(self._reverse(), epoch=1)

    def move(self) -> Timings:
        """The primary moves; afterwards the other side follows it."""
        with ExitStack() as stack:
            baseline = stack.enter_context(self._baseline()) if self.prove_changes else None
            switch = stack.enter_context(self._switch(self._reverse()))
            switch.prepare()
            if baseline is not None:
                baseline.settle(2, lambda: None)
            switch.take_hold()
            switch.drain()
            switch.sync_sequences()
            switch.prove("bench", lambda *_: self._require_equal(baseline))
            switch.freeze("new")
            assert switch.decide().stands
            switch.end_read_only_sessions(timeout_s=5.0)
            timings = switch.timings
        with connect(self.new, purpose="bench") as new, connect(self.old, purpose="bench") as old:
            forward, back = stream_name(identity(new)), stream_name(identity(old))
            drop_subscription(new, forward)
            drop_slot(old, forward)
            settle_fence(new, epoch=1)
            enable_subscription(old, back)
            wait_until_streaming(old, back, timeout_s=30)
        self.old, self.new, self.term = self.new, self.old, self.term + 1
        return timings

    def rehearse(self) -> Forecast:
        """What the move will take, by a rehearsal."""
        with self._switch(self._reverse()) as switch:
            switch.prepare()
            switch.measure()
            switch.take_hold()
            switch.drain()
            switch.sync_sequences()
            switch.rehearse_rest(lambda *_: None)
            switch.release()
            assert switch.forecast is not None
            return switch.forecast

    def _switch(self, reverse: ReverseEnds | None) -> Switch:
        ends, hold_id = SwitchEnds(self.old, self.new, reverse), secrets.token_hex(6)
        return Switch(
            ends, run="bench", epoch=1, term=self.term, hold_id=hold_id, limits=_LIMITS, on_event=lambda _: None
        )

    def _baseline(self) -> Baseline:
        """Both contents compared while writing goes on, as of one moment."""
        baseline = Baseline(self.old, self.new)
        with ExitStack() as stack:
            seen = [stack.enter_context(connect(dsn, purpose="bench")) for dsn in (self.old, self.new)]
            with self._switch(None) as switch:
                switch.prepare()
                switch.take_hold()
                switch.drain()
                ids = [exported(session) for session in seen]
                switch.release()
            old, new = (
                stack.enter_context(Snapshot.of(dsn, one, purpose="bench"))
                for dsn, one in zip((self.old, self.new), ids, strict=True)
            )
            found = compare(self.old, self.new, snapshots=(old, new), sequences=False)
        assert found.answer is Answer.EQUAL, found
        baseline.proved_by(found)
        return baseline

    def _require_equal(self, baseline: Baseline | None) -> None:
        if baseline is not None:
            found = compare(self.old, self.new, changes=baseline.changes, sequences=False)
            assert found.answer is Answer.EQUAL, found
            assert not any("was read whole" in note for note in found.notes), found.notes

    def end(self) -> None:
        """No stream is left, so that both databases can be dropped."""
        with connect(self.new, purpose="bench") as follower, connect(self.old, purpose="bench") as primary:
            name = stream_name(identity(follower))
            drop_subscription(follower, name)
            drop_slot(primary, name)

    def _reverse(self) -> ReverseEnds:
        return ReverseEnds(receiver_dsn=self.old, subscriber_dsn=self.old, sender_dsn=self.new, publisher=self.new)


@contextmanager
def writing(dsns: tuple[str, str], rate: float, writers: int) -> Iterator[Path]:
    """Writers in a process of their own; their ledger's path."""
    with tempfile.TemporaryDirectory(prefix="statehub-plan-bench-") as scratch:
        path = Path(scratch) / "ledger"
        command = [sys.executable, "-m", "benchmarks.ledger_writers", str(path), str(rate), str(writers)]
        process = subprocess.Popen(command, env=os.environ | {"LEDGER_DSNS": "\n".join(dsns)})
        try:
            yield path
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def gaps(ledger: Path) -> tuple[list[float], int]:
    """Milliseconds of each change of side, oldest first, and how many writes were acknowledged."""
    acks = sorted((int(ns), int(side)) for _, _, side, ns in (line.split() for line in ledger.read_text().splitlines()))
    found = [(later[0] - earlier[0]) / 1e6 for earlier, later in itertools.pairwise(acks) if earlier[1] != later[1]]
    return found, len(acks)


def own_gaps(ledger: Path) -> list[float]:
    """Milliseconds of each change of side as each writer had it for itself."""
    by_writer: dict[str, list[tuple[int, str]]] = {}
    for writer, _, side, ns in (line.split() for line in ledger.read_text().splitlines()):
        by_writer.setdefault(writer, []).append((int(ns), side))
    return [
        (later[0] - earlier[0]) / 1e6
        for acks in by_writer.values()
        for earlier, later in itertools.pairwise(sorted(acks))
        if earlier[1] != later[1]
    ]


def lost(ledger: Path, primary: str) -> int:
    """How many acknowledged rows the primary does not have."""
    with psycopg.connect(primary) as connection:
        rows = set(connection.execute("SELECT writer, seq FROM hub.ledger").fetchall())
    acknowledged = {tuple(map(int, line.split()[:2])) for line in ledger.read_text().splitlines()}
    return len(acknowledged - rows)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share lies, the next one up."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(pair: Pair, rate: float, writers: int, moves: int, prove_changes: bool, rehearse: bool) -> None:
    """Prints one line of the table."""
    forecasts = []
    with psycopg.connect(pair.source, autocommit=True) as connection:
        connection.execute("CREATE TABLE hub.ledger (writer int, seq int, PRIMARY KEY (writer, seq))")
    with pair.target() as target:
        mover = Mover(pair.source, target, prove_changes=prove_changes)
        mover.fill(2)
        timings = []
        with writing((pair.source, target), rate, writers) as ledger:
            time.sleep(1.0)
            for _ in range(moves):
                mover.prepare()
                if rehearse:
                    forecasts.append(mover.rehearse())
                    time.sleep(0.3)
                timings.append(mover.move())
                time.sleep(0.3)
            time.sleep(0.5)
            copy = Path(tempfile.mkstemp()[1])
            time.sleep(0.3)
            copy.write_bytes(ledger.read_bytes())
        found, acknowledged = gaps(copy)
        own = own_gaps(copy)
        missing = lost(copy, mover.old)
        copy.unlink()
        mover.end()
    p50, p99, most = statistics.median(found), percentile(found, 0.99), max(found)
    print(f"| {rate:.0f} | {acknowledged} | {len(found)} | {p50:.1f} | {p99:.1f} | {most:.1f} | {missing} |")
    print(f"\neach writer's own: median {statistics.median(own):.1f}, 99th percentile {percentile(own, 0.99):.1f}")
    if forecasts:
        _tell_forecast("gap", [one.gap_ms for one in forecasts], found)
        _tell_forecast("tool's part", [one.hold_ms for one in forecasts], [each.gap_ms for each in timings])
    for part in Timings.model_fields:
        values = [getattr(each, part) for each in timings]
        print(f"  {part}: median {statistics.median(values):.1f}, max {max(values):.1f}", file=sys.stderr)


def _tell_forecast(what: str, forecasts: list[float], measured: list[float]) -> None:
    errors = [forecast / real - 1 for forecast, real in zip(forecasts, measured, strict=True)]
    near = sum(abs(error) <= 0.25 for error in errors)
    expected, took = statistics.median(forecasts), statistics.median(measured)
    print(f"\n{what}: median forecast {expected:.1f}, measured {took:.1f}, ratio {expected / took:.2f}; ", end="")
    told = ", ".join(f"{error:+.0%}" for error in sorted(errors))
    print(f"single moves within 25 %: {near} of {len(errors)}: {told}")


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--prove-changes", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    with two_clusters(options.megabytes) as pair:
        print(f"{size_of(pair.source)}\n\n| writes/s wished | acknowledged | moves | p50 ms | p99 ms | max ms | lost |")
        print("|---|---|---|---|---|---|---|", flush=True)
        measure(pair, options.rate, options.writers, options.moves, options.prove_changes, options.rehearse)


if __name__ == "__main__":
    main()
