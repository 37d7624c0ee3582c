"""What the tool's role must be allowed to do, checked before anything is frozen; no superuser is assumed."""

from __future__ import annotations

from collections.abc import Sequence

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.preflight import Side
from statehub_plan.model.spec import TransferMethod
from statehub_plan.postgres.connect import Connection


class Problem(Frozen):
    """Something that stands in the way, and what to do about it."""

    code: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.what}; {self.remedy}"


def check_privileges(connection: Connection, *, app_roles: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Everything that holding, freezing and opening this database needs and this role lacks, each with the GRANT.

    Needed: ownership (or inherited membership in the owner) of the database, every user table and every sequence on
    its own; CREATE on the database or ownership of the schema statehub_plan; for each role that has a session now and
    each of `app_roles`, membership in it or both pg_signal_backend and pg_read_all_stats. Reads catalogs only.
    """
    # Imported late: some checks stand on modules that stand on this one.
    from statehub_plan.postgres.checks.declare import Move, Place
    from statehub_plan.postgres.checks.registry import CHECKS
    from statehub_plan.postgres.checks.run import End, run_on_one_side

    chosen = [one for one in CHECKS if one.theme == "privileges" and one.place is Place.EACH]
    end = End(connection, app_roles=app_roles)
    found = run_on_one_side(end, Side.TARGET, Move(method=TransferMethod.DUMP), chosen)
    return tuple(Problem(code=one.id, what=one.what, remedy=one.remedy) for one in found)


def require_privileges(connection: Connection, *, app_roles: Sequence[str] = ()) -> None:
    """StatehubError `privilege-missing` that lists every problem of `check_privileges`."""
    problems = check_privileges(connection, app_roles=app_roles)
    if problems:
        raise StatehubError(
            code="privilege-missing",
            what=f"the tool's role lacks {len(problems)} privilege(s); nothing was touched",
            hint="run the statements above as a superuser (or as the role that may grant them), then run again",
            details=tuple(str(problem) for problem in problems),
        )


LOCKABLE_SEQUENCES = """
SELECT n.nspname, c.relname, c.oid, d.refobjid AS owner_table, t.relname AS owner_name, tn.nspname AS owner_schema,
       a.attname AS owner_column
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
     AND d.refclassid = d.classid AND d.deptype = 'a' AND d.refobjsubid > 0
LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname <> 'statehub_plan' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend i
      WHERE i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objid = c.oid AND i.deptype IN ('i', 'e'))
"""
"""Sequences that can be locked against nextval: all but those of identity columns and of extensions."""
