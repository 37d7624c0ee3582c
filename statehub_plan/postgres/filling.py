"""What is durably recorded of a fill in the database that is being filled, so that any run can carry on with it."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.state import TIMELINE, is_installed, require_transaction

__all__ = [
    "FillMark",
    "FillStage",
    "begin_fill",
    "built_statements",
    "filled_tables",
    "forget_fill",
    "mark_following",
    "read_fill",
    "record_built",
    "record_filled",
    "record_timeline",
    "statement_digest",
]

TableName = tuple[str, str]


class FillStage(StrEnum):
    """`filling`: rows or indexes are still missing; `following`: everything is there, and changes arrive."""

    FILLING = "filling"
    FOLLOWING = "following"


class FillMark(Frozen):
    """The fill of this database: its stage, the slot on the source that keeps what the copy doesn't have, and the
    position at which the slot begins and the copy ends."""

    stage: FillStage
    slot: str
    point: str


def read_fill(connection: Connection) -> FillMark | None:
    """The mark; None where nothing fills this database, or never did."""
    if not is_installed(connection):
        return None
    row = connection.execute(
        "SELECT to_jsonb(s)->>'fill_stage', to_jsonb(s)->>'fill_slot', to_jsonb(s)->>'fill_point' "
        "FROM statehub_plan.state s"
    ).fetchone()
    if row is None or None in row:
        return None
    return FillMark(stage=FillStage(row[0]), slot=row[1], point=row[2])


def begin_fill(connection: Connection, *, slot: str, point: str) -> None:
    """A new fill, of which nothing is done yet, with the server's present timeline; after `claim_epoch`, in the same
    transaction of the caller."""
    forget_fill(connection)
    connection.execute(
        f"UPDATE statehub_plan.state SET fill_stage = %s, fill_slot = %s, fill_point = %s, "
        f"fill_timeline = {TIMELINE}".encode(),
        [FillStage.FILLING.value, slot, point],
    )


def mark_following(connection: Connection) -> None:
    """The fill is complete; after `claim_epoch`, in the same transaction of the caller."""
    require_transaction(connection)
    connection.execute("UPDATE statehub_plan.state SET fill_stage = %s", [FillStage.FOLLOWING.value])


def record_timeline(connection: Connection, timeline: int) -> None:
    """Nothing of the stream into this database was skipped as of this timeline of its server; after `claim_epoch`, in
    the same transaction of the caller."""
    require_transaction(connection)
    connection.execute("UPDATE statehub_plan.state SET fill_timeline = %s WHERE fill_stage IS NOT NULL", [timeline])


def forget_fill(connection: Connection) -> None:
    """Nothing fills this database; after `claim_epoch`, in the same transaction of the caller."""
    require_transaction(connection)
    connection.execute(
        "UPDATE statehub_plan.state SET fill_stage = NULL, fill_slot = NULL, fill_point = NULL, fill_timeline = NULL"
    )
    connection.execute("DELETE FROM statehub_plan.filled")
    connection.execute("DELETE FROM statehub_plan.built")


def record_filled(connection: Connection, table: TableName, rows: int, size: int) -> None:
    """The table is complete; in the transaction that holds its last rows, or in one after all of them are committed."""
    connection.execute("INSERT INTO statehub_plan.filled VALUES (%s, %s, %s, %s)", [*table, rows, size])


def filled_tables(connection: Connection) -> frozenset[TableName]:
    """The tables that are complete as of the mark's point, and must never be emptied again."""
    rows = connection.execute("SELECT schema_name, table_name FROM statehub_plan.filled")
    return frozenset((schema, name) for schema, name in rows)


def statement_digest(statement: str) -> str:
    """What a statement is recorded by."""
    return hashlib.sha256(statement.encode(errors="surrogateescape")).hexdigest()


def record_built(connection: Connection, statement: str) -> None:
    """The statement has been run; in the transaction that runs it."""
    connection.execute("INSERT INTO statehub_plan.built VALUES (%s)", [statement_digest(statement)])


def built_statements(connection: Connection) -> frozenset[str]:
    """Digests of the statements that have been run."""
    return frozenset(digest for (digest,) in connection.execute("SELECT statement FROM statehub_plan.built"))
