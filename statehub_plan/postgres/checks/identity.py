"""Checks of what replication identifies rows by. A published table without a replica identity refuses UPDATE and DELETE
on the *publisher*, so all of this is to be known before a publication is made."""

from __future__ import annotations

from collections.abc import Iterator

from statehub_plan.model.preflight import Severity
from statehub_plan.postgres.checks.declare import Look, Place, Query, Seen, check, ident
from statehub_plan.postgres.checks.questions import TABLES, USER_SCHEMA, TableRow, tables

__all__: list[str] = []

_GENERATED_CHECKED_SINCE = 18
# A type can be compared when it or one that it is binary-coercible to has a default btree or hash operator class;
# arrays, composites and domains when what they are made of can. Enums and ranges always can.
_UNCOMPARABLE = Query(
    f"""
    WITH RECURSIVE part(relation, attname, type) AS (
        SELECT c.oid, a.attname, a.atttypid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        WHERE c.relreplident = 'f' AND c.relkind = 'r' AND c.relpersistence = 'p' AND {USER_SCHEMA}
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
        UNION
        SELECT p.relation, p.attname, inner_type.oid FROM part p JOIN pg_type t ON t.oid = p.type
        CROSS JOIN LATERAL (
            SELECT t.typbasetype WHERE t.typtype = 'd'
            UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
            UNION ALL SELECT m.atttypid FROM pg_attribute m
            WHERE t.typtype = 'c' AND m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped) inner_type(oid))
    SELECT p.relation::regclass::text, p.attname, format_type(p.type, NULL)
    FROM part p JOIN pg_type t ON t.oid = p.type
    WHERE t.typtype = 'b' AND t.typcategory <> 'A' AND NOT EXISTS (
        SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
        WHERE o.opcdefault AND (o.opcintype = t.oid OR o.opcintype IN (
            SELECT k.casttarget FROM pg_cast k
            WHERE k.castsource = t.oid AND k.castmethod = 'b' AND k.castcontext = 'i')))
    ORDER BY 1, 2
    """
)


def _identified(table: TableRow) -> str:
    """The statement that gives a table an identity: by an index that serves, else by the whole row."""
    if table.candidate is not None:
        return f"ALTER TABLE {table.name} REPLICA IDENTITY USING INDEX {ident(table.candidate)}"
    return f"ALTER TABLE {table.name} REPLICA IDENTITY FULL (or give it a primary key)"


@check(
    "no-replica-identity",
    Severity.ERROR,
    Place.SOURCE,
    title="every table has a replica identity",
    reason="once it is published, UPDATE and DELETE on it fail on the source, in the service's face",
    here=(TABLES,),
    replication_only=True,
)
def _none(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.sends_rows and each.identity == "d" and not each.key and not each.deferrable_key:
            yield Seen(f"{each.name} has no primary key and so no replica identity", _identified(each), each.plain)


@check(
    "replica-identity-deferrable",
    Severity.ERROR,
    Place.SOURCE,
    title="no primary key is deferrable where it is the replica identity",
    reason="a deferrable key does not identify rows for replication: UPDATE and DELETE fail once it is published",
    here=(TABLES,),
    replication_only=True,
)
def _deferrable(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.sends_rows and each.identity == "d" and each.deferrable_key:
            yield Seen(f"the primary key of {each.name} is deferrable", _identified(each), each.plain)


@check(
    "replica-identity-nothing",
    Severity.ERROR,
    Place.SOURCE,
    title="no table has REPLICA IDENTITY NOTHING",
    reason="once it is published, UPDATE and DELETE on it fail on the source",
    here=(TABLES,),
    replication_only=True,
)
def _nothing(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.sends_rows and each.identity == "n":
            remedy = f"ALTER TABLE {each.name} REPLICA IDENTITY DEFAULT" if each.key else _identified(each)
            yield Seen(f"{each.name} has REPLICA IDENTITY NOTHING", remedy, each.plain)


@check(
    "replica-identity-index-gone",
    Severity.ERROR,
    Place.SOURCE,
    title="the index that a replica identity names exists and is valid",
    reason="without its index the identity is the same as NOTHING: UPDATE and DELETE fail once it is published",
    here=(TABLES,),
    replication_only=True,
)
def _index_gone(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.sends_rows and each.identity == "i" and not each.identity_index:
            remedy = f"ALTER TABLE {each.name} REPLICA IDENTITY DEFAULT" if each.key else _identified(each)
            yield Seen(f"the index that is the replica identity of {each.name} is gone or invalid", remedy, each.plain)


@check(
    "replica-identity-uncomparable",
    Severity.ERROR,
    Place.SOURCE,
    title="REPLICA IDENTITY FULL only where every column's type has an equality operator",
    reason="the receiver stops at the first UPDATE or DELETE: `could not identify an equality operator`",
    here=(_UNCOMPARABLE, TABLES),
    replication_only=True,
)
def _uncomparable(look: Look) -> Iterator[Seen]:
    known = {each.name: each for each in tables(look.here)}
    for name, column, kind in look.here.rows(_UNCOMPARABLE):
        if name in known:
            index = known[name].candidate
            remedy = f"ALTER TABLE {name} ADD PRIMARY KEY (…)"
            if index is not None:
                remedy = f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {ident(index)}"
            what = f"{name} has REPLICA IDENTITY FULL and no primary key, and {kind} in column {column} has no equality"
            yield Seen(what, remedy, f"{known[name].plain}.{column}")


@check(
    "replica-identity-full",
    Severity.WARNING,
    Place.SOURCE,
    title="no table without a primary key has REPLICA IDENTITY FULL",
    reason="the receiver reads the whole table for each row that is updated or deleted, and falls behind",
    here=(TABLES,),
    replication_only=True,
)
def _full(look: Look) -> Iterator[Seen]:
    for each in tables(look.here):
        if each.sends_rows and each.identity == "f" and not each.key:
            remedy = f"ALTER TABLE {each.name} ADD PRIMARY KEY (…)"
            yield Seen(
                f"{each.name} is identified by whole rows",
                _identified(each) if each.candidate is not None else remedy,
                each.plain,
            )


@check(
    "replica-identity-generated",
    Severity.ERROR,
    Place.SOURCE,
    title="no replica identity contains a generated column",
    reason="generated columns are not sent: UPDATE and DELETE fail on a publisher of PostgreSQL 18, and find no row on "
    "the receiver of an older one",
    here=(TABLES,),
    replication_only=True,
)
def _generated(look: Look) -> Iterator[Seen]:
    senders = (look.here.info.major, look.there.info.major) if look.move.following else (look.here.info.major,)
    for each in tables(look.here):
        by_row = each.identity == "f" and each.generated and max(senders) >= _GENERATED_CHECKED_SINCE
        by_index = each.identity in "di" and each.generated_in_index
        if each.sends_rows and (by_row or by_index):
            remedy = f"ALTER TABLE {each.name} ADD PRIMARY KEY (…) of columns that are not generated"
            if each.candidate is not None:
                remedy = f"ALTER TABLE {each.name} REPLICA IDENTITY USING INDEX {ident(each.candidate)}"
            elif by_row and each.key:
                remedy = f"ALTER TABLE {each.name} REPLICA IDENTITY DEFAULT"
            yield Seen(f"the replica identity of {each.name} contains a generated column", remedy, each.plain)
