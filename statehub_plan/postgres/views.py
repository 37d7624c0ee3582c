"""Materialized views: no stream carries their content, so it is made anew from the tables that it comes from."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import qualified
from statehub_plan.postgres.workers import nothing_to_lose

__all__ = ["refresh_views"]

# One that is made from another comes after it: what a view's rule refers to was there before the view, and restoring
# keeps that order; OIDs grow with it in a database that was filled by this tool.
_POPULATED = """
SELECT n.nspname, c.relname,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
               AND i.indpred IS NULL AND i.indexprs IS NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY c.oid
"""


def refresh_views(connection: Connection, *, check: Callable[[], None] = nothing_to_lose) -> tuple[str, ...]:
    """Refreshes every materialized view that has content; those that could be, as `schema.view`.

    Readers wait for none that has a unique index (CONCURRENTLY), and for the others while each is made. Blocks for as
    long as the views' own queries take; `check` is called before each. One that fails is left as it was."""
    done = []
    for schema, name, concurrently in connection.execute(_POPULATED).fetchall():
        check()
        how = sql.SQL("CONCURRENTLY ") if concurrently else sql.SQL("")
        try:
            connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}{}").format(how, sql.Identifier(schema, name)))
        except psycopg.Error:
            if connection.closed:
                raise
            continue
        done.append(qualified(schema, name))
    return tuple(done)
