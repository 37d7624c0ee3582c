"""A process that decides or burns terms as it is told, one line of `verb term` each; a run of its own."""

from __future__ import annotations

import sys
from contextlib import closing

from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.register import burn
from tests.integration.deciding import decide_proved


def main() -> None:
    """Reads commands from stdin, answers each with the outcome."""
    dsn, run = sys.argv[1:]
    with closing(connect(dsn, purpose=run)) as connection:
        print("ready", flush=True)
        for line in sys.stdin:
            verb, term = line.split()
            if verb == "decide":
                outcome = decide_proved(connection, term=int(term), primary="there", run=run, epoch=1)
            else:
                outcome = burn(connection, term=int(term), run=run, epoch=1)
            print(outcome.value, flush=True)


main()
