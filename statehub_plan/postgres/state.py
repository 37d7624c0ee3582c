"""The tool's state in a database: one row that fences by epoch and says what was done here."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.resources import files

import psycopg
from psycopg import sql
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity
from statehub_plan.postgres.connect import APPLICATION_PREFIX, USER_TABLES, Connection, connect, connect_again
from statehub_plan.postgres.transaction import commit_once
from statehub_plan.world import TransferStage

_TEMPLATE = files("statehub_plan.postgres").joinpath("install.sql").read_text(encoding="utf-8")
_LAYOUT = hashlib.sha256((_TEMPLATE + USER_TABLES).encode()).hexdigest()[:16]
_INSTALL_LOCK = 0x5348504C  # "SHPL": two installations at once would trip over the same catalog rows
_EPOCH_WAIT = "5s"
_CLAIMED = "s.epoch, s.owner, statehub_plan.session_owner()"

TIMELINE = (
    "CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 END"
)
"""SQL: the timeline that the server writes, null on a standby. Another one right after a promotion, where
pg_control_checkpoint() shows the old one until its next checkpoint is done; everybody may ask."""


class FenceMark(Frozen):
    """Who froze this database, for which decision, and where the primary will be (`primary`, an endpoint's name)."""

    term: int
    run: str
    hold: str | None
    primary: str | None
    proof: str | None
    frozen_at: Instant


class TransferMark(Frozen):
    """How far a transfer into this database has come; beyond `prepared` it only counts while `hold` is alive or the
    source is frozen for `term`."""

    stage: TransferStage
    hold: str | None
    term: int | None
    source: Identity | None
    proof: str | None


class FillMark(Frozen):
    """How far the fill of this database for a stream has come, the slot that the stream begins with, the LSN on the
    sender up to which the fill's snapshot reaches, and this server's timeline on which the stream began, or was proved
    last; None where an earlier release made the stream."""

    stage: str
    slot: str | None
    point: str | None
    timeline: int | None = None


class EndpointState(Frozen):
    """The state row. `opened_term` = the term for which writes were last opened here. `copied` = the row was written in
    another database and came here with a dump or a template."""

    identity: Identity
    copied: bool
    epoch: int
    fence: FenceMark | None
    opened_term: int | None
    retired_run: str | None
    transfer: TransferMark | None
    fill: FillMark | None = None


def install(connection: Connection) -> None:
    """The tool's schema, tables and functions, present and current; in a transaction of its own unless one is open.

    Idempotent and cheap when nothing is to be done. Contacts only the catalog; waits for no writer.
    """
    if _layout(connection) == _LAYOUT:
        return
    text = _TEMPLATE.replace("{{user_tables}}", USER_TABLES).replace("{{layout}}", f"'{_LAYOUT}'")
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_INSTALL_LOCK])
            if _layout(connection) != _LAYOUT:  # another run may just have done it
                connection.execute(text.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise StatehubError(
            code="privilege-missing",
            what=f"the schema statehub_plan cannot be installed: {error.diag.message_primary}",
            hint=_install_hint(connection),
        ) from error


def read_state(connection: Connection, *, current: bool = False) -> EndpointState | None:
    """The state row; None where the tool was never installed. `current`: the layout is known to be."""
    if not current and _layout(connection) is None:
        return None
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM statehub_plan.state").fetchone()
    if row is None:
        return None
    here = identity(connection)
    written_in = (row["system_identifier"], row["database_oid"])
    fence = transfer = None
    if row["fence_term"] is not None:
        fence = FenceMark(
            term=row["fence_term"],
            run=row["fence_run"],
            hold=row["fence_hold"],
            primary=row["fence_primary"],
            proof=row["fence_proof"],
            frozen_at=row["frozen_at"],
        )
    if row["transfer_stage"] is not None:
        source = row["transfer_source"]
        transfer = TransferMark(
            stage=TransferStage(row["transfer_stage"]),
            hold=row["transfer_hold"],
            term=row["transfer_term"],
            source=None if source is None else Identity.model_validate(source),
            proof=row["transfer_proof"],
        )
    fill = None
    if row.get("fill_stage") is not None:  # layouts of earlier releases have no such columns
        fill = FillMark(
            stage=row["fill_stage"],
            slot=row["fill_slot"],
            point=row["fill_point"],
            timeline=row.get("fill_timeline"),
        )
    return EndpointState(
        identity=here,
        copied=written_in != (here.system_identifier, here.database_oid),
        epoch=row["epoch"],
        fence=fence,
        opened_term=row["opened_term"],
        retired_run=row["retired_run"],
        transfer=transfer,
        fill=fill,
    )


def claim_epoch(connection: Connection, epoch: int, *, current: bool = False) -> None:
    """Locks the state row until the caller's transaction ends, and shuts lower epochs and other owners of this one out.

    Every mutating transaction begins with it, so that a run that lost its lease cannot act. Two journals may issue the
    same epoch: it belongs to whoever's session (`connect.owned_by`) claims it first. Brings an older layout of the
    tool's schema up to date. StatehubError `fenced-out` (exit 6) when a higher epoch was here or this one is another
    owner's, `state-busy` when another run's transaction holds the row for 5 s. `current`: the layout is known to be.
    """
    require_transaction(connection)
    if not current and is_installed(connection):
        install(connection)
    connection.execute(
        "SELECT set_config('statehub_plan.previous_wait', current_setting('lock_timeout'), true), "
        "set_config('lock_timeout', %s, true)",
        [_EPOCH_WAIT],
    )
    try:
        row = connection.execute(
            f"SELECT s.system_identifier = c.system_identifier::text AND s.database_oid = d.oid, {_CLAIMED} "
            "FROM statehub_plan.state s, pg_control_system() c, pg_database d "
            "WHERE d.datname = current_database() FOR UPDATE OF s"
        ).fetchone()
    except psycopg.errors.LockNotAvailable as error:
        raise StatehubError(
            code="state-busy",
            what="another transaction of the tool has held this database's state row for more than 5 s",
            hint="wait for the other run to end; pg_stat_activity shows it as application_name 'statehub-plan …'",
            exit_status=Exit.LOCKED,
            details=_at_work(connection),
        ) from error
    connection.execute("SELECT set_config('lock_timeout', current_setting('statehub_plan.previous_wait'), true)")
    if row is None or not row[0]:
        raise _copied()
    _, claimed, owner, ours = row
    _require_claimable(epoch, ours, claimed, owner)
    if claimed < epoch:
        connection.execute("UPDATE statehub_plan.state SET epoch = %s, owner = %s", [epoch, ours])


def require_epoch(connection: Connection, epoch: int) -> None:
    """StatehubError `fenced-out` when another run has claimed this database meanwhile.

    Looked at without a lock, for work during which nobody else should have to wait.
    """
    row = connection.execute(f"SELECT {_CLAIMED} FROM statehub_plan.state s".encode()).fetchone()
    if row is None:
        raise _copied()
    claimed, owner, ours = row
    _require_claimable(epoch, ours, claimed, owner)


def claimed_epoch(dsn: str, *, timeout_s: float = 2.0) -> int:
    """The highest epoch that has acted on a database; 0 where that is none, or cannot be learned within about
    `timeout_s` for each of connecting and asking."""
    try:
        with connect(
            dsn,
            purpose="read epoch",
            connect_timeout_s=timeout_s,
            statement_timeout_ms=round(timeout_s * 1000),
            read_only=True,
        ) as connection:
            current = read_state(connection)
    except (StatehubError, psycopg.Error):
        return 0
    return 0 if current is None else current.epoch


def set_transfer(
    connection: Connection,
    *,
    stage: TransferStage,
    hold: str | None = None,
    term: int | None = None,
    source_identity: Identity | None = None,
    proof: str | None = None,
) -> None:
    """Records how far the transfer into this database has come; `NONE` clears it. After `claim_epoch`, in the same
    transaction of the caller."""
    require_transaction(connection)
    cleared = stage is TransferStage.NONE
    source = None if source_identity is None or cleared else Jsonb(source_identity.model_dump(mode="json"))
    connection.execute(
        "UPDATE statehub_plan.state SET transfer_stage = %s, transfer_hold = %s, transfer_term = %s, "
        "transfer_source = %s, transfer_proof = %s",
        [None if cleared else stage.value, hold, term, source, proof],
    )


def spoil_transfer(connection: Connection) -> None:
    """What was transferred counts for nothing any more; that it came from a transfer, and of which term, stays known.
    After `claim_epoch`, in the same transaction of the caller."""
    require_transaction(connection)
    connection.execute(
        "UPDATE statehub_plan.state SET transfer_stage = %s, transfer_hold = NULL, transfer_proof = NULL "
        "WHERE transfer_stage IS NOT NULL",
        [TransferStage.NONE.value],
    )


def retire(connection: Connection, *, run: str, epoch: int) -> None:
    """Marks this database as retired: its fence stays and can no longer be opened by the tool. Idempotent."""

    def mark(conn: Connection) -> None:
        claim_epoch(conn, epoch)
        conn.execute(
            "UPDATE statehub_plan.state SET retired_run = %s, retired_at = clock_timestamp() WHERE retired_run IS NULL",
            [run],
        )

    def is_retired(conn: Connection, _: None) -> bool:
        current = read_state(conn)
        return current is not None and current.retired_run is not None

    commit_once(connection, mark, is_retired, what="the retirement")


def identity(connection: Connection) -> Identity:
    """Which database of which cluster this session is really connected to."""
    row = connection.execute(
        "SELECT c.system_identifier::text, d.datname, d.oid::int8 FROM pg_control_system() c, pg_database d "
        "WHERE d.datname = current_database()"
    ).fetchone()
    if row is None:
        return Identity()
    return Identity(system_identifier=row[0], database=row[1], database_oid=row[2])


class Server(Frozen):
    """Which server a session is really on. A standby that took over has the identity of the one before it, and another
    timeline; one that was copied, or started again, began at another moment (`started_at`, seconds since 1970)."""

    identity: Identity
    started_at: str
    timeline: int | None


def server_of(connection: Connection) -> Server:
    """The server and database of this session. One query."""
    row = connection.execute(
        "SELECT c.system_identifier::text, d.datname, d.oid::int8, "
        f"extract(epoch FROM pg_postmaster_start_time())::text, {TIMELINE} "
        "FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()".encode()
    ).fetchone()
    if row is None:
        raise RuntimeError("the database that a session is connected to is not in pg_database")
    system, database, oid, started_at, writes = row
    here = Identity(system_identifier=system, database=database, database_oid=oid)
    return Server(identity=here, started_at=started_at, timeline=writes)


def timeline(connection: Connection) -> int | None:
    """The timeline that this server writes: another one after each promotion. None on a standby."""
    row = connection.execute(f"SELECT {TIMELINE}".encode()).fetchone()
    return None if row is None else row[0]


def is_installed(connection: Connection) -> bool:
    """Whether the tool's schema is here, in whatever version."""
    return _layout(connection) is not None


def require_transaction(connection: Connection) -> None:
    """ValueError unless the caller has a transaction open: a lock taken outside one is gone at once. In a pipeline the
    state of the session is told at its end only."""
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        return
    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise ValueError("this needs the caller's own open transaction")


def _require_claimable(epoch: int, ours: str | None, claimed: int, owner: str | None) -> None:
    if claimed > epoch:
        raise StatehubError(
            code="fenced-out",
            what=f"this run holds epoch {epoch}, but a newer run with epoch {claimed} has acted on this database",
            hint="let the newer run finish, or run the command again to take the lease with a new epoch",
            exit_status=Exit.LOCKED,
        )
    if claimed == epoch and owner != ours:
        raise StatehubError(
            code="fenced-out",
            what=f"epoch {epoch} on this database belongs to {owner or 'nobody by name'}, who keeps another journal "
            f"than this run ({ours or 'of no name'})",
            hint="let the other run finish; then run the command again to take a higher epoch",
            exit_status=Exit.LOCKED,
        )


def _at_work(connection: Connection) -> tuple[str, ...]:
    """For people: the tool's other sessions here that are in a transaction, and what each waits for. A killed run's may
    still be there: a commit that waits for a standby notices nothing."""
    with suppress(StatehubError, psycopg.Error), connect_again(connection, purpose="look") as session:
        rows = session.execute(
            "SELECT pid, application_name, state, wait_event_type, wait_event, "
            "extract(epoch FROM clock_timestamp() - state_change)::int FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s) AND state <> 'idle' "
            "AND starts_with(application_name, %s) ORDER BY pid",
            [connection.info.backend_pid, APPLICATION_PREFIX],
        ).fetchall()
        return tuple(
            f"session {pid} ({application}) has been {state} for {seconds} s"
            + (f", waiting for {kind}/{event}" if kind is not None else "")
            + (": bring a standby of synchronous_standby_names back, or take it out" if event == "SyncRep" else "")
            for pid, application, state, kind, event, seconds in rows
        )
    return ()


def _layout(connection: Connection) -> str | None:
    present = connection.execute("SELECT to_regclass('statehub_plan.state') IS NOT NULL").fetchone()
    if present is None or not present[0]:
        return None
    row = connection.execute("SELECT layout FROM statehub_plan.state").fetchone()
    return None if row is None else str(row[0])


def _install_hint(connection: Connection) -> str:
    row = connection.execute("SELECT current_user, current_database()").fetchone()
    role, database = row if row is not None else ("…", "…")
    grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(database), sql.Identifier(role))
    return (
        f"as owner of the database: {grant.as_string(connection)}; a schema statehub_plan that another role owns: "
        f"as superuser, ALTER SCHEMA statehub_plan OWNER TO that role, or use the role that owns it"
    )


def _copied() -> StatehubError:
    return StatehubError(
        code="state-copied",
        what="the schema statehub_plan in this database was written elsewhere and came with a dump or a copy",
        hint="DROP SCHEMA statehub_plan CASCADE (it takes the fence triggers that came along with it), then run again",
    )
