"""A database whose restore can be caught in its middle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from statehub_plan.postgres.manifest import Backup
from statehub_plan.postgres.scratch import SCRATCH_PREFIX

SLOW = f"""
CREATE FUNCTION public.slow(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF pg_catalog.current_database() OPERATOR(pg_catalog.~) '^{SCRATCH_PREFIX}' THEN
        PERFORM pg_catalog.pg_sleep(600);
    END IF;
    RETURN n;
END $$;
CREATE TABLE public.waits (n integer);
INSERT INTO public.waits VALUES (1);
CREATE INDEX ON public.waits (public.slow(n));
"""
"""Its index takes ten minutes to build, in scratch databases only."""
BUILDING = "starts_with(datname, %s) AND query LIKE 'CREATE INDEX waits%%'"


def as_an_earlier_release_left_it(backup: Backup, folder: Path) -> Path:
    """A copy of a backup, with the manifest that an earlier release would have written."""
    shutil.copytree(backup.path, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for unknown in ("seeds", "sequences", "catalog"):
        del manifest[unknown]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": "statehub-plan/backup/v1"}))
    return folder
