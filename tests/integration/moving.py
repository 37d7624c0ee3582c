"""Two databases to move between: a schema with everything in it, and the steps of a move without the applier."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from statehub_plan.demo.cluster import Cluster
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.copy import CopyReport, copy_data
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.finish import finish_schema
from statehub_plan.postgres.schema import Prepared, prepare_schema
from statehub_plan.postgres.sequences import sync_sequences

RUN, TERM, EPOCH = "run-of-the-test", 1, 7
EVERYTHING = Path(__file__).with_name("moved_schema.sql").read_text(encoding="utf-8")
ROLES = ("mover_app", "mover_owner", "mover_tool")
PASSWORD = "only-for-these-tests"


def make_roles(cluster: Cluster) -> None:
    """The roles that the schema names; `mover_tool` may log in and is no superuser."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        present = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in set(ROLES) - present:
            login = sql.SQL("LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)) if role == "mover_tool" else sql.SQL("")
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(role), login))


@contextmanager
def database(cluster: Cluster, *, template: str = "template0", owner: str = "postgres") -> Iterator[str]:
    """The superuser's DSN of a new database, dropped in the end."""
    name = f"moved_{secrets.token_hex(6)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*map(sql.Identifier, (name, template, owner)))
        )
    try:
        yield cluster.dsn(name)
    finally:
        with psycopg.connect(
            cluster.dsn(), autocommit=True
        ) as connection:  # a server may have been restarted meanwhile
            connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


def run_script(dsn: str, script: str) -> None:
    """Runs statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute(script.encode())


def run_past_fence(dsn: str, *statements: str) -> None:
    """What only a superuser can do to a frozen database; ordinary triggers, the fence among them, do not fire."""
    options = "-c session_replication_role=replica -c default_transaction_read_only=off"
    with psycopg.connect(dsn, autocommit=True, options=options) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def prepare(source: str, target: str, directory: Path, *, replace: bool = False, term: int = TERM) -> Prepared:
    """The target fenced and with the source's bare schema."""
    with connect(target, purpose="test") as connection:
        fence(connection, term=term, run=RUN, epoch=EPOCH)
    return prepare_schema(
        source, target, run=RUN, epoch=EPOCH, term=term, replace=replace, safety_dir=directory, endpoint="new"
    )


def fill(source: str, target: str) -> CopyReport:
    """Rows, indexes and the rest, sequences."""
    copied = copy_data(source, target, epoch=EPOCH)
    finish_schema(source, target, epoch=EPOCH)
    with connect(source, purpose="test") as old, connect(target, purpose="test") as new:
        sync_sequences(old, new, epoch=EPOCH)
    return copied


def value(dsn: str, query: str) -> object:
    """The first column of the first row."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
