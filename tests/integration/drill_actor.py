"""A restore drill that stops in its middle, in front of a scratch database that is being filled, until it is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psycopg

from statehub_plan.postgres.age import read_identities
from statehub_plan.postgres.drill import restore_drill
from statehub_plan.postgres.manifest import read_backup
from statehub_plan.postgres.scratch import SCRATCH_PREFIX


def main() -> None:
    """Says `filling` once pg_restore works in the scratch database, and goes no further."""
    folder, dsn, identity = sys.argv[1:]

    def stop_when_filling() -> None:
        with psycopg.connect(dsn, autocommit=True) as looking:
            count = (
                "SELECT count(*) FROM pg_stat_activity WHERE starts_with(datname, %s) AND query LIKE 'CREATE INDEX%%'"
            )
            row = looking.execute(count, [SCRATCH_PREFIX]).fetchone()
        if row and row[0]:
            print("filling", flush=True)
            while True:
                time.sleep(60)

    backup = read_backup(Path(folder))
    identities = read_identities(Path(identity)) if identity else None
    restore_drill(backup, dsn, identities=identities, check=stop_when_filling)


main()
