"""The source's schema on the target: tried out as a whole, then loaded bare and fenced in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from statehub_plan.errors import Refusal, StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import state
from statehub_plan.postgres.backup import take_backup
from statehub_plan.postgres.connect import USER_TABLES, Connection, connect, user_tables
from statehub_plan.postgres.contents import UserObject, described, drop_all, user_objects
from statehub_plan.postgres.dump import Entry, SchemaDump, dump_schema
from statehub_plan.postgres.fence import FENCE_ALL_SQL
from statehub_plan.postgres.preflight import left_by_undecided_transfer, preflight_schema
from statehub_plan.postgres.proof import unsound_tables
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.transaction import begin, commit_once, roll_back
from statehub_plan.postgres.workers import OnProgress, nobody_looks, nothing_to_lose
from statehub_plan.redact import redact
from statehub_plan.world import TransferStage

__all__ = ["Prepared", "explained", "prepare_schema", "refresh_schema"]

_LOCK_WAIT = "SET LOCAL lock_timeout = '10s'"
_LISTS = {"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

_Setting = tuple[str | None, str, str]
"""Role (None: every role), name, value."""


class Prepared(Frozen):
    """What `prepare_schema` came to: tables created (empty, fenced), objects dropped before, and the dump of them."""

    tables: int
    dropped: tuple[str, ...]
    safety_dump: str | None
    schema_digest: str


@dataclass(frozen=True)
class _Load:
    """One loading of the source's schema: what to load, where from, and for whom."""

    bare: SchemaDump
    source_identity: Identity
    settings: tuple[_Setting, ...]
    term: int
    epoch: int

    @property
    def digest(self) -> str:
        """Changes when anything changes that would be loaded."""
        text = self.bare.script() + repr(self.settings)
        return "schema:" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def prepare_schema(
    source_dsn: str,
    target_dsn: str,
    *,
    run: str,
    epoch: int,
    term: int,
    replace: bool,
    safety_dir: Path,
    endpoint: str,
    jobs: int = 2,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Prepared:
    """The source's tables on the target, empty, bare (no indexes, foreign keys, triggers) and fenced; nothing is held.

    The target must be frozen already (`fence.fence`). Content of its own is refused, or with `replace` dumped into
    `safety_dir` under the name of `endpoint` and then dropped; what an earlier, undecided transfer left is dropped as
    it is. The whole schema, indexes and all, is tried out first in a transaction that is rolled back. One
    transaction then drops, loads, fences and records stage `prepared`. Idempotent; Refusal `preflight-failed` lists
    everything that stands in the way.
    """
    with connect(source_dsn, purpose="prepare") as source, connect(target_dsn, purpose="prepare") as target:
        _require_frozen(target)
        ours = left_by_undecided_transfer(target)
        problems = preflight_schema(source, target, replace=replace)
        if problems:
            raise Refusal(
                code="preflight-failed",
                what=f"{len(problems)} things stand in the way of copying into {endpoint}; nothing was touched",
                hint="do what each line says, then run again",
                details=tuple(str(problem) for problem in problems),
            )
        load, post = _read_source(source, target, term, epoch, check)
        content = user_objects(target)
        _try_out(target, load, post)
        safety = None
        if content and not ours:
            backup = take_backup(
                target_dsn,
                safety_dir,
                endpoint=endpoint,
                kind="safety",
                jobs=jobs,
                on_progress=on_progress,
                check=check,
            )
            safety = str(backup.path)
        _load(target, load, run, content if safety else None)
        return Prepared(
            tables=len(user_tables(target)),
            dropped=() if ours else described(content),
            safety_dump=safety,
            schema_digest=load.digest,
        )


def refresh_schema(
    source_dsn: str, target_dsn: str, *, run: str, epoch: int, check: Callable[[], None] = nothing_to_lose
) -> bool:
    """Makes the target's schema bare and current again where it is not; True when it had to be loaded anew.

    For a copy that is begun again after indexes were built, or after the source's schema has changed. StatehubError
    `target-not-prepared` unless the target holds what a transfer of this tool has left, undecided and still frozen.
    """
    with connect(source_dsn, purpose="prepare") as source, connect(target_dsn, purpose="prepare") as target:
        current = state.read_state(target)
        mark = current.transfer if current else None
        if mark is None or mark.term is None or not left_by_undecided_transfer(target):
            raise StatehubError(
                code="target-not-prepared",
                what="the target was not prepared for this transfer, or its content was decided for meanwhile",
                hint="make a new plan; it begins with preparing the target",
            )
        _require_frozen(target)
        load, _ = _read_source(source, target, mark.term, epoch, check)
        if mark.stage is TransferStage.PREPARED and mark.proof == load.digest and _is_bare(target):
            return False
        _load(target, load, run, None)
        return True


def _read_source(
    source: Connection, target: Connection, term: int, epoch: int, check: Callable[[], None]
) -> tuple[_Load, SchemaDump]:
    pre, post = (
        dump_schema(source, section, target_major=major_of(target), check=check)
        for section in ("pre-data", "post-data")
    )
    return _Load(pre, state.identity(source), _settings(source), term, epoch), post


def _require_frozen(target: Connection) -> None:
    current = state.read_state(target)
    if current is None or current.fence is None or current.copied:
        raise StatehubError(
            code="target-not-fenced",
            what="the target is not frozen; nothing is loaded into a database that others may write to",
            hint="make a new plan; preparing the target begins with freezing it",
        )


def _try_out(target: Connection, load: _Load, post: SchemaDump) -> None:
    """Loads everything, bare schema and the rest, into the empty database, and takes it back."""
    begin(target)
    try:
        target.execute(_LOCK_WAIT)
        drop_all(target)
        for part in (load.bare, post):
            _run(target, part)
        _apply_settings(target, load.settings)
    finally:
        roll_back(target)


def _load(target: Connection, load: _Load, run: str, expected: tuple[UserObject, ...] | None) -> None:
    def work(conn: Connection) -> None:
        state.claim_epoch(conn, load.epoch)
        conn.execute(_LOCK_WAIT)
        if expected is not None and user_objects(conn) != expected:
            raise StatehubError(
                code="target-changed",
                what="the target's objects changed while they were being dumped; nothing was dropped",
                hint="end whatever changes them, then run again",
            )
        drop_all(conn)
        _run(conn, load.bare)
        conn.execute("SET LOCAL search_path = pg_catalog")
        _fence_all(conn)
        _apply_settings(conn, load.settings)
        state.set_transfer(
            conn,
            stage=TransferStage.PREPARED,
            term=load.term,
            source_identity=load.source_identity,
            proof=load.digest,
        )

    def landed(conn: Connection, _: None) -> bool:
        current = state.read_state(conn)
        return current is not None and current.transfer is not None and current.transfer.proof == load.digest

    commit_once(target, work, landed, what=f"the preparation of the target (run {run})")


def _fence_all(target: Connection) -> None:
    target.execute(FENCE_ALL_SQL)
    unfenced = unsound_tables(target)
    if unfenced:
        raise StatehubError(
            code="fence-incomplete",
            what=f"{len(unfenced)} new tables could not be fenced; the target is as it was",
            hint="something on the target's server changes triggers as they are made; look for event triggers",
            details=tuple(name for _, name in unfenced),
        )


def _run(target: Connection, dump: SchemaDump) -> None:
    """Runs the script entry by entry in the caller's transaction, so that an error can name what it was about."""
    preamble = re.sub(r"^SET ", "SET LOCAL ", dump.preamble, flags=re.MULTILINE).replace("'', false)", "'', true)")
    target.execute(preamble.encode(errors="surrogateescape"))
    for entry in dump.entries:
        if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "):
            continue  # an extension's comment comes with it, and only its owner may set it
        try:
            target.execute(_statements(entry).encode(errors="surrogateescape"))
        except psycopg.Error as error:
            if target.closed:
                raise
            raise explained(error, entry) from error


def _statements(entry: Entry) -> str:
    if entry.kind == "SCHEMA":
        # A schema in which an extension lives was not dropped.
        return entry.sql.replace("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ", 1)
    return entry.sql


def explained(error: psycopg.Error, entry: Entry) -> StatehubError:
    """The server's refusal of one entry, with what to do about the usual ones."""
    hint = "change it on the source so that the target's server accepts it, or choose another target"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = "grant the tool's role on the target what the message names, then run again"
    elif isinstance(error, psycopg.errors.OutOfMemory):
        hint = "raise max_locks_per_transaction on the target's server and restart it, then run again"
    elif isinstance(error, psycopg.errors.DiskFull):
        hint = "free disk space on the target's server, then run again"
    elif isinstance(error, psycopg.errors.LockNotAvailable):
        hint = "end the sessions that use the target's objects, then run again"
    where = f"{entry.kind.lower()} {entry.name}" + (f" in schema {entry.schema}" if entry.schema != "-" else "")
    return StatehubError(
        code="schema-refused",
        what=redact(f"the target's server refuses {where}: {' '.join(str(error).split())}"),
        hint=hint,
    )


def _settings(source: Connection) -> tuple[_Setting, ...]:
    """What ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET say, except for the tool's own freeze."""
    return tuple(
        source.execute(
            "SELECT r.rolname, split_part(s, '=', 1), substr(s, strpos(s, '=') + 1) "
            "FROM pg_db_role_setting x JOIN pg_database d ON d.oid = x.setdatabase "
            "LEFT JOIN pg_roles r ON r.oid = x.setrole, unnest(x.setconfig) s "
            "WHERE d.datname = current_database() AND split_part(s, '=', 1) <> 'default_transaction_read_only' "
            "ORDER BY 1 NULLS FIRST, 2"
        ).fetchall()
    )


def _apply_settings(target: Connection, settings: tuple[_Setting, ...]) -> None:
    database = sql.Identifier(target.info.dbname)
    for role, name, value in settings:
        subject = sql.SQL("DATABASE {}").format(database)
        if role is not None:
            subject = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        # Lists of names are kept the way they must be written; as one string they would be one name.
        written = sql.SQL(value) if name in _LISTS and value else sql.Literal(value)
        # A setting's own name may have a dot in it, and each part of it is a name.
        named = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
        try:
            target.execute(sql.SQL("ALTER {} SET {} TO {}").format(subject, named, written))
        except psycopg.Error as error:
            if target.closed:
                raise
            raise explained(error, Entry(f"{role or 'database'}: {name}", "SETTING", "-", "")) from error


def _is_bare(target: Connection) -> bool:
    """Whether no index, foreign key or trigger but the fence has been built yet."""
    row = target.execute(
        f"""
        SELECT NOT EXISTS (SELECT FROM pg_index i JOIN ({USER_TABLES}) t ON t.oid = i.indrelid)
           AND NOT EXISTS (SELECT FROM pg_constraint k JOIN ({USER_TABLES}) t ON t.oid = k.conrelid
                           WHERE k.contype = 'f')
           AND NOT EXISTS (SELECT FROM pg_trigger g JOIN ({USER_TABLES}) t ON t.oid = g.tgrelid
                           WHERE NOT g.tgisinternal AND g.tgname <> 'statehub_plan_fence')
        """.encode()
    ).fetchone()
    return row == (True,)
