"""Whether any definition in a database has changed since: cheap enough to ask while writers wait."""

from __future__ import annotations

from statehub_plan.postgres.connect import Connection

_CATALOGS = ("pg_attribute", "pg_constraint", "pg_index", "pg_proc", "pg_type", "pg_rewrite", "pg_policy")


def catalog_watermark(connection: Connection) -> str:
    """Placeholder."""
    parts = " UNION ALL ".join(
        f"SELECT count(*), coalesce(sum(hashtextextended(xmin::text, 0)), 0) FROM {catalog}" for catalog in _CATALOGS
    )
    rows = connection.execute(parts.encode()).fetchall()
    return ";".join(f"{count}:{total}" for count, total in rows)
