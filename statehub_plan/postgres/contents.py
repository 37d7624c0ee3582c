"""What a database holds of its user's, by name, and how all of it is removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from statehub_plan.postgres.catalog_sql import OWN_PUBLICATIONS
from statehub_plan.postgres.connect import Connection

__all__ = ["UserObject", "described", "drop_some", "user_objects"]

_USER_NAMESPACE = "(n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'statehub_plan'))"

_IN_SCHEMAS = (
    # catalog, namespace column, condition; relations first, because most other things hang on them
    ("pg_class", "relnamespace", "x.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND x.relpersistence <> 't'"),
    ("pg_proc", "pronamespace", "true"),
    (
        "pg_type",
        "typnamespace",
        "x.typrelid = 0 AND x.typtype <> 'm' AND NOT EXISTS (SELECT FROM pg_type a WHERE a.typarray = x.oid)",
    ),
    ("pg_opclass", "opcnamespace", "true"),
    ("pg_opfamily", "opfnamespace", "true"),
    ("pg_operator", "oprnamespace", "true"),
    ("pg_collation", "collnamespace", "true"),
    ("pg_conversion", "connamespace", "true"),
    ("pg_ts_config", "cfgnamespace", "true"),
    ("pg_ts_dict", "dictnamespace", "true"),
    ("pg_ts_template", "tmplnamespace", "true"),
    ("pg_ts_parser", "prsnamespace", "true"),
    ("pg_statistic_ext", "stxnamespace", "true"),
)
_OUTSIDE = ("pg_foreign_server", "pg_foreign_data_wrapper", "pg_cast", "pg_transform", "pg_language", "pg_am")
_FIRST = ("pg_event_trigger", "pg_publication")  # would fire, or hold on to tables, while the rest goes

_DROP_WORDS = {
    "composite type": "TYPE",
    "server": "SERVER",
    "statistics object": "STATISTICS",
}
_FIRST_USER_OID = 16384
_EXAMPLES = 12


@dataclass(frozen=True, slots=True)
class UserObject:
    """One object: PostgreSQL's word for its kind, and its full, quoted name as SQL takes it."""

    kind: str
    identity: str

    @property
    def drop(self) -> sql.SQL:
        """The statement that removes it with all that hangs on it; nothing happens when it is gone already."""
        if self.kind == "large object":
            return sql.SQL(f"SELECT lo_unlink({self.identity})")
        word = _DROP_WORDS.get(self.kind, self.kind.upper())
        return sql.SQL(f"DROP {word} IF EXISTS {self.identity} CASCADE")


def user_objects(connection: Connection) -> tuple[UserObject, ...]:
    """Everything outside the system's and the tool's schemas that is no member of an extension, in an order in which
    it can be dropped. Owned sequences, indexes, triggers, constraints go with their tables and are not named."""
    parts = [
        *(_global(catalog, rank) for rank, catalog in enumerate(_FIRST)),
        *(_in_schemas(*each, rank + len(_FIRST)) for rank, each in enumerate(_IN_SCHEMAS)),
        *(_global(catalog, rank + 100) for rank, catalog in enumerate(_OUTSIDE)),
        _LARGE_OBJECTS,
    ]
    query = f"SELECT kind, identity FROM ({' UNION ALL '.join(parts)}) AS found ORDER BY rank, identity"
    return tuple(UserObject(kind, identity) for kind, identity in connection.execute(query.encode()))


def described(objects: Iterable[UserObject]) -> tuple[str, ...]:
    """Counts per kind, then the first few by name; for people."""
    listed = list(objects)
    counts = Counter(each.kind for each in listed)
    lines = [f"{count} × {kind}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    names = [f"{each.kind} {each.identity}" for each in listed[:_EXAMPLES]]
    more = [f"… and {len(listed) - _EXAMPLES} more"] if len(listed) > _EXAMPLES else []
    return (*lines, *names, *more)


def drop_some(connection: Connection, limit: int | None = None) -> int:
    """Drops the first `limit` user objects (default: all) in the caller's transaction; how many it took.

    With the last ones go the schemas in which no extension lives. `public`, schemas of extensions and the tool's own
    stay, with what extensions have in them.
    """
    objects = user_objects(connection)[:limit]
    for each in objects:
        connection.execute(each.drop)
    if limit is None or len(objects) < limit:
        for (schema,) in connection.execute(_DROPPABLE_SCHEMAS).fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    return len(objects)


def _own(catalog: str) -> str:
    # What a type brings along (a range's constructors) goes with it and with nothing else.
    kinds = "('e', 'i')" if catalog == "pg_proc" else "('e')"
    return (
        f"NOT EXISTS (SELECT FROM pg_depend member WHERE member.classid = '{catalog}'::regclass "
        f"AND member.objid = x.oid AND member.deptype IN {kinds})"
    )


def _in_schemas(catalog: str, namespace: str, condition: str, rank: int) -> str:
    owned = ""
    if catalog == "pg_class":
        owned = (
            " AND NOT (x.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass "
            "AND d.objid = x.oid AND d.deptype IN ('a', 'i')))"
        )
    return (
        f"SELECT {rank} AS rank, i.type AS kind, i.identity "
        f"FROM {catalog} x JOIN pg_namespace n ON n.oid = x.{namespace}, "
        f"pg_identify_object('{catalog}'::regclass, x.oid, 0) i "
        f"WHERE {condition} AND {_USER_NAMESPACE} AND {_own(catalog)}{owned}"
    )


def _global(catalog: str, rank: int) -> str:
    return (
        f"SELECT {rank} AS rank, i.type AS kind, i.identity FROM {catalog} x, "
        f"pg_identify_object('{catalog}'::regclass, x.oid, 0) i "
        f"WHERE x.oid >= {_FIRST_USER_OID} AND {_own(catalog)} AND i.identity !~ '{OWN_PUBLICATIONS}'"
    )


_LARGE_OBJECTS = "SELECT 200, 'large object', oid::text FROM pg_largeobject_metadata"
_DROPPABLE_SCHEMAS = f"""
SELECT n.nspname FROM pg_namespace n
WHERE {_USER_NAMESPACE} AND n.nspname <> 'public'
  AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extnamespace = n.oid)
  AND NOT EXISTS (SELECT FROM pg_depend m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
                  AND m.deptype = 'e')
ORDER BY n.nspname
"""
