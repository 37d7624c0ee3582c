"""A tool that holds a database until it is killed: says `preparing`, then `held`, then obeys `freeze` or waits."""

from __future__ import annotations

import sys

from statehub_plan.postgres.hold import Hold, HoldLimits


def main() -> None:
    """Takes the hold with the limits given as JSON; then reads one word from stdin."""
    dsn, limits = sys.argv[1:]
    print("preparing", flush=True)
    hold = Hold.take(dsn, hold_id="actor", run="run-actor", epoch=1, limits=HoldLimits.model_validate_json(limits))
    print("held", flush=True)
    if sys.stdin.readline().strip() == "freeze":
        hold.freeze(term=1)
        print("frozen", flush=True)
        sys.stdin.readline()


main()
