"""What a comparison of two catalogs leaves out, for people: always told, whatever the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statehub_plan.model.stream import OWN_STREAMS
from statehub_plan.postgres.catalog_sql import used_collations, user
from statehub_plan.postgres.comparison import Answer, TableProof
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.names import sql_qualified

__all__ = ["LeftOut", "left_out"]

_SHOWN = 10
_HIDDEN = "hidden"
_NOT_THE_TOOLS = (
    "to_regclass('statehub_plan.user_table') IS NULL "
    "OR c.relname NOT IN ('state', 'passage', 'decision', 'barrier', 'filled', 'built')"
)
_NOT_CARRIED = (
    "it has rows and is in a schema that is the server's or this tool's, which no dump, no stream and no move carries; "
    "ALTER TABLE … SET SCHEMA to one of your own, or waive it"
)

# One row for each thing: which sentence it belongs to, and its name. Their rows are derived, and a fill computes them.
_LEFT_OUT = f"""
SELECT 'views', {sql_qualified("n.nspname", "c.relname")}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND {user()}
UNION ALL SELECT 'subscriptions', s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND s.subname ~ '{OWN_STREAMS}'
UNION ALL SELECT 'standard', c.relname FROM pg_class c
WHERE c.relnamespace = to_regnamespace('information_schema') AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL SELECT 'standard', p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = to_regnamespace('information_schema') AND p.oid >= 16384
UNION ALL SELECT '{_HIDDEN}', h.name FROM (
    SELECT c.oid, {sql_qualified("n.nspname", "c.relname")}
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.oid >= 16384 AND c.relpersistence <> 't' AND NOT {user()}
      AND n.nspname !~ '^pg_(toast|temp)' AND (n.nspname <> 'statehub_plan' OR {_NOT_THE_TOOLS}) AND NOT EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    OFFSET 0) h(oid, name)
WHERE pg_relation_size(h.oid) > 0
UNION ALL SELECT 'collations', c.oid::regcollation::text || ' (' || c.collversion || ', now '
       || pg_collation_actual_version(c.oid) || ')' FROM pg_collation c
WHERE c.oid IN ({used_collations()}) AND c.collversion <> pg_collation_actual_version(c.oid)
ORDER BY 1, 2
"""
_SENTENCES = {
    "views": "rows of materialized views were not compared, only how they are defined: {}; a fill refreshes them, "
    "REFRESH MATERIALIZED VIEW does so at any time",
    "subscriptions": "the tool's own subscriptions were left out: {}",
    "standard": "what was made in information_schema was not compared: {}",
    "collations": "indexes may be out of order, because the libraries that sort by these collations are not those "
    "that the catalog names: {}; `doctor` says what to do",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a comparison does not answer for: one sentence for each thing, and of each table that should not be left out
    that it is not known."""

    notes: tuple[str, ...]
    tables: tuple[TableProof, ...]


def left_out(source: Connection, target: Connection) -> LeftOut:
    """Of these two; two short queries."""
    sides = {"source": _named(source), "target": _named(target)}
    notes = []
    hidden = sorted({name for found in sides.values() for name in found.pop(_HIDDEN, [])})
    for about, sentence in _SENTENCES.items():
        names = {side: found.get(about, []) for side, found in sides.items()}
        if names["source"] == names["target"]:
            names = {"both sides": names["source"]}
        notes += [f"{side}: {sentence.format(_listed(listed))}" for side, listed in names.items() if listed]
    tables = (TableProof(table=name, answer=Answer.UNKNOWN, reason=_NOT_CARRIED) for name in hidden)
    return LeftOut(tuple(notes), tuple(tables))


def _named(side: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for about, name in side.execute(_LEFT_OUT.encode()):
        found.setdefault(about, []).append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
