"""The restore drill: a backup that was not restored is a hope. Restored into a scratch database, compared, dropped."""

from __future__ import annotations

import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.postgres.backup import DUMP, Backup, Manifest, verify_backup
from statehub_plan.postgres.connect import SCHEMA, Connection, connect
from statehub_plan.postgres.content import ContentDigest, digest_rows
from statehub_plan.postgres.relations import PageRange, read_relations
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.tools import major_of, run_tool
from statehub_plan.postgres.workers import nothing_to_lose

__all__ = ["DrillReport", "restore_drill"]

SCRATCH_PREFIX = "statehub_plan_drill_"
_WHOLE = PageRange(0, None, 1.0)


class DrillReport(Frozen):
    """What restoring one backup came to. `problems` is empty exactly when it passed."""

    schema_version: str = "statehub-plan/restore-drill/v1"
    passed: bool
    backup: str
    endpoint: str
    taken_at: Instant
    drilled_at: Instant
    server_version: int
    tables: int
    rows: int
    size_bytes: int
    restore_ms: int
    elapsed_ms: int
    problems: tuple[str, ...]


def restore_drill(
    backup: Backup, server_dsn: str, *, jobs: int = 2, check: Callable[[], None] = nothing_to_lose
) -> DrillReport:
    """Verifies the checksums, restores into a scratch database on the server of `server_dsn`, compares every table with
    the manifest, drops the database again, whatever happens; blocks for as long as that takes.

    Needs CREATEDB (Refusal `drill-not-allowed`) and disk space for a second copy there. Owners and grants are not
    restored. A backup that fails is a report, not an exception.
    """
    began = time.monotonic()
    problems = [f"damaged file: {problem}" for problem in verify_backup(backup, check=check)]
    restore_ms, version, tables, rows = 0, 0, 0, 0
    with connect(server_dsn, purpose="restore drill") as server:
        version = server.info.server_version
        if not problems:
            with _scratch_database(server, backup.manifest) as name:
                started = time.monotonic()
                problems += _restore(backup, server, name, jobs, check)
                restore_ms = round((time.monotonic() - started) * 1000)
                tables, rows, found = _compared(server_dsn, name, backup.manifest, check)
                problems += found
    return DrillReport(
        passed=not problems,
        backup=str(backup.path),
        endpoint=backup.manifest.endpoint,
        taken_at=backup.manifest.taken_at,
        drilled_at=datetime.now(UTC),
        server_version=version,
        tables=tables,
        rows=rows,
        size_bytes=backup.manifest.size_bytes,
        restore_ms=restore_ms,
        elapsed_ms=round((time.monotonic() - began) * 1000),
        problems=tuple(problems),
    )


@contextmanager
def _scratch_database(server: Connection, manifest: Manifest) -> Iterator[str]:
    name = SCRATCH_PREFIX + secrets.token_hex(6)
    _drop_abandoned(server)
    try:
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
                sql.Identifier(name), sql.Literal(manifest.encoding)
            )
        )
    except psycopg.errors.InsufficientPrivilege as error:
        role = sql.Identifier(server.info.user).as_string(server)
        raise Refusal(
            code="drill-not-allowed",
            what=f"the role {server.info.user} may not create the scratch database of a restore drill",
            hint=f"as superuser there: ALTER ROLE {role} CREATEDB",
        ) from error
    try:
        yield name
    finally:
        _drop(server, name)


def _drop_abandoned(server: Connection) -> None:
    """What a killed drill left: ours, and without a session."""
    rows = server.execute(
        "SELECT datname FROM pg_database d WHERE starts_with(datname, %s) AND pg_has_role(datdba, 'USAGE') "
        "AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)",
        [SCRATCH_PREFIX],
    ).fetchall()
    for (name,) in rows:
        _drop(server, name)


def _drop(server: Connection, name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))


def _restore(backup: Backup, server: Connection, name: str, jobs: int, check: Callable[[], None]) -> list[str]:
    major = max(major_of(server), backup.manifest.tool_major)
    dump = backup.path / DUMP
    contents = run_tool("pg_restore", ["--list", str(dump)], server, min_major=major)
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as wanted:
        wanted.write(_restorable(contents))
        wanted.flush()
        arguments = [
            "--format=directory",
            f"--jobs={jobs}",
            f"--use-list={wanted.name}",
            "--no-owner",
            "--no-privileges",
            "--no-subscriptions",
            "--no-tablespaces",
            "--exit-on-error",
            f"--dbname={name}",
            str(dump),
        ]
        try:
            run_tool("pg_restore", arguments, server, min_major=major, database=name, check=check)
        except StatehubError as error:
            if error.code != "client-tool-failed":
                raise
            return [f"pg_restore: {line}" for line in error.details]
    return []


def _restorable(contents: str) -> str:
    """The list of contents without the tool's triggers, whose function is not in the dump, and without the comments
    of extensions, which only a superuser may set."""
    unwanted = re.compile(rf"^\d+; \d+ \d+ (TRIGGER .* {SCHEMA}_fence |COMMENT - EXTENSION )")
    return "".join(line for line in contents.splitlines(keepends=True) if not unwanted.match(line))


def _compared(server_dsn: str, name: str, manifest: Manifest, check: Callable[[], None]) -> tuple[int, int, list[str]]:
    """Tables, rows, and what is not as the manifest says."""
    wanted = {table.table: table for table in manifest.tables}
    found: dict[str, ContentDigest] = {}
    with connect(make_conninfo(server_dsn, dbname=name), purpose="restore drill") as scratch:
        pin_rendering(scratch)
        for relation in read_relations(scratch):
            check()
            found[relation.qualified] = digest_rows(scratch, relation, _WHOLE)
    problems = [f"table {table} is missing" for table in sorted(wanted.keys() - found.keys())]
    problems += [f"table {table} should not be there" for table in sorted(found.keys() - wanted.keys())]
    for table in sorted(wanted.keys() & found.keys()):
        if found[table].rows != wanted[table].rows:
            problems.append(f"table {table}: {found[table].rows} rows instead of {wanted[table].rows}")
        elif str(found[table]) != wanted[table].digest:
            problems.append(f"table {table}: its rows differ from those that were dumped")
    return len(found), sum(digest.rows for digest in found.values()), problems
