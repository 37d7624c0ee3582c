"""Whether a database accepts writes: asked of its catalogs, and proved by writes that touch no row."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import psycopg
from psycopg import sql

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.model.plan import Identity
from statehub_plan.postgres import state
from statehub_plan.postgres.connect import Connection, Table, connect, user_tables
from statehub_plan.postgres.privileges import Problem
from statehub_plan.postgres.sessions import held_by, prepared_transactions
from statehub_plan.postgres.transaction import roll_back
from statehub_plan.world import Writes

CANARY_WAIT_MS = 150
_SETTLE_S = 2.0
_POLL_S = 0.02
_FENCE_MESSAGE = "frozen by statehub-plan"


class FenceStatus(Frozen):
    """What the catalogs say. `triggers_total` counts sound fence triggers, `unfenced` the tables without an enabled
    one; `copied` = the tool's schema came here from another database and says nothing about this one; `gate_open` =
    enabled triggers let everybody pass."""

    tables: int
    triggers_enabled: int
    triggers_total: int
    unfenced: tuple[str, ...]
    default_read_only: bool
    term: int | None
    run: str | None
    hold: str | None
    primary: str | None
    retired: bool
    copied: bool
    gate_open: bool

    @property
    def complete(self) -> bool:
        """Whether everything that freezes is in place; the proof still has to follow."""
        frozen = self.term is not None and self.default_read_only and not self.unfenced
        return frozen and not self.copied and not self.gate_open


CanaryResult = Literal["open", "held", "blocked", "frozen", "no-privilege", "unknown"]


class Canary(Frozen):
    """One write that touched no row. `held`: it waited while a hold was alive; `blocked`: it waited for something else;
    `no-privilege`: that role may not write this table anyway."""

    role: str
    table: str
    result: CanaryResult
    detail: str | None = None


def fence_status(connection: Connection) -> FenceStatus:
    """What the catalogs say about this database's freeze; also where the tool was never installed."""
    tables = user_tables(connection)
    current = state.read_state(connection)
    mark = current.fence if current else None
    modes = _trigger_modes(connection) if current else {}
    enabled = {oid for oid, mode in modes.items() if mode in ("O", "A")}
    return FenceStatus(
        tables=len(tables),
        triggers_enabled=len(enabled),
        triggers_total=len(modes),
        unfenced=tuple(table.qualified for table in tables if table.oid not in enabled),
        default_read_only=read_only_default(connection),
        term=mark.term if mark else None,
        run=mark.run if mark else None,
        hold=mark.hold if mark else None,
        primary=mark.primary if mark else None,
        retired=current is not None and current.retired_run is not None,
        copied=current is not None and current.copied,
        gate_open=current is not None and _gate_open(connection),
    )


# NOT IN is hashed; NOT EXISTS would be joined in a loop, for a catalog's columns look more selective than they are.
DOUBTFUL_SQL = (
    "SELECT count(*) FROM statehub_plan.user_table u WHERE u.oid <> ALL (%s::int8[]) OR u.oid::oid NOT IN ("
    "SELECT t.tgrelid FROM pg_trigger t WHERE t.tgname = 'statehub_plan_fence' AND t.tgenabled IN ('O', 'A') "
    "AND t.tgtype = 62 AND t.tgqual IS NULL AND t.tgattr = ''::int2vector "
    "AND t.tgfoid = 'statehub_plan.fence()'::regprocedure)"
)


def doubtful_tables(connection: Connection, known: Sequence[int]) -> int:
    """How many user tables are not among `known` or have no sound fence trigger that is enabled; one short query."""
    row = connection.execute(DOUBTFUL_SQL, [list(known)]).fetchone()
    return int(row[0]) if row is not None else 0


def unknown_tables(connection: Connection, known: Sequence[int]) -> int:
    """How many user tables are not among `known` or have no sound fence trigger, enabled or not; one short query."""
    row = connection.execute(
        "SELECT count(*) FROM statehub_plan.user_table u WHERE u.oid <> ALL (%s::int8[]) OR NOT EXISTS ("
        "SELECT FROM pg_trigger t WHERE t.tgrelid = u.oid::oid AND t.tgname = 'statehub_plan_fence' "
        "AND NOT t.tgisinternal AND t.tgtype = 62 AND t.tgqual IS NULL AND t.tgattr = ''::int2vector "
        "AND t.tgfoid = 'statehub_plan.fence()'::regprocedure)",
        [list(known)],
    ).fetchone()
    return int(row[0]) if row is not None else 0


def unsound_tables(connection: Connection) -> list[tuple[int, str]]:
    """OID and name of each user table without a sound fence trigger, enabled or not."""
    modes = _trigger_modes(connection)
    return [(table.oid, table.qualified) for table in user_tables(connection) if table.oid not in modes]


def unfenced_tables(connection: Connection) -> list[Table]:
    """The user tables without a sound fence trigger that is enabled."""
    modes = _trigger_modes(connection)
    return [table for table in user_tables(connection) if modes.get(table.oid) not in ("O", "A")]


def read_only_default(connection: Connection) -> bool:
    """Whether new sessions of this database begin read-only (a role's own setting for it may say otherwise)."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, "
        "unnest(s.setconfig) AS entry WHERE d.datname = current_database() AND s.setrole = 0 "
        "AND entry IN ('default_transaction_read_only=on', 'default_transaction_read_only=true'))"
    ).fetchone()
    return row is not None and bool(row[0])


def canary(
    connection: Connection,
    *,
    tables: Sequence[Table] | None = None,
    role: str | None = None,
    wait_ms: int = CANARY_WAIT_MS,
    probes: Probes | None = None,
) -> tuple[Canary, ...]:
    """One write per table (default: every user table) in a READ WRITE transaction, rolled back; no row is touched.

    As this session's user, or as `role` where it is a member. Waits `wait_ms` for the first lock that it doesn't get
    and 1 ms for each one after. One round trip, with `probes` that `find_probes` has found before. Statement triggers
    fire also for no rows (manual, 39.1).
    """
    name = role or connection.info.user
    if tables is None:
        tables = user_tables(connection)
    if probes is None:
        probes = find_probes(connection, name)
    asked = {table.oid: probe for table in tables if (probe := probes.get(table.oid)) is not None}
    ask = _ask_one if len(asked) == 1 and role is None else _ask
    answers = ask(connection, role, asked, wait_ms) if asked else {}
    held = any(state_code == "55P03" for state_code, _ in answers.values()) and _held(connection)
    return tuple(_judged(name, table, answers.get(table.oid), held) for table in tables)


def writes(connection: Connection, *, canaries: Sequence[Canary] | None = None) -> Writes:
    """Whether this database accepts writes, by canaries (default: the owner's, now); unknown whenever they disagree.

    Without any table: frozen where the mark and the read-only default say so, held by a hold that is alive, else open.
    """
    if canaries is None:
        canaries = canary(connection)
    results = {each.result for each in canaries} - {"no-privilege"}
    if not results:
        if fence_status(connection).complete:
            return Writes.FROZEN
        return Writes.HELD if _held(connection) else Writes.OPEN
    by_result = {"open": Writes.OPEN, "held": Writes.HELD, "frozen": Writes.FROZEN, "blocked": Writes.OPEN}
    if results <= {"open", "blocked"}:
        return Writes.OPEN if "open" in results else Writes.UNKNOWN
    return by_result.get(results.pop(), Writes.UNKNOWN) if len(results) == 1 else Writes.UNKNOWN


def prove_frozen(
    connection: Connection,
    *,
    app_roles: Sequence[str] = (),
    app_dsn: str | None = None,
    settle_s: float = _SETTLE_S,
) -> tuple[Problem, ...]:
    """Everything that speaks against this database being frozen; nothing = proved.

    Catalogs; a refused canary on every table as this role, as each of `app_roles` that it is a member of, and through
    `app_dsn`, which has to lead to this very database; no prepared transaction; no other session with a transaction id
    (waits up to `settle_s` for the last ones to go).
    """
    return (
        *_catalog_problems(fence_status(connection)),
        *_canary_problems(connection, app_roles, app_dsn),
        *_transaction_problems(connection, settle_s),
    )


def _gate_open(connection: Connection) -> bool:
    """False also for an older layout, whose fence has no gate."""
    if connection.execute("SELECT to_regprocedure('statehub_plan.gate()')").fetchone() == (None,):
        return False
    return connection.execute("SELECT statehub_plan.gate()").fetchone() == (True,)


def _trigger_modes(connection: Connection) -> dict[int, str]:
    """OID of each user table with a sound fence trigger → pg_trigger.tgenabled. 62: BEFORE each of the four
    statements, FOR EACH STATEMENT (catalog/pg_trigger.h); no WHEN, no column list."""
    if connection.execute("SELECT to_regprocedure('statehub_plan.fence()')").fetchone() == (None,):
        return {}
    rows = connection.execute(
        "SELECT u.oid, t.tgenabled::text FROM statehub_plan.user_table u JOIN pg_trigger t ON t.tgrelid = u.oid::oid "
        "WHERE t.tgname = 'statehub_plan_fence' AND NOT t.tgisinternal AND t.tgtype = 62 AND t.tgqual IS NULL "
        "AND t.tgattr = ''::int2vector AND t.tgfoid = 'statehub_plan.fence()'::regprocedure"
    )
    return {int(oid): str(mode) for oid, mode in rows}


def _held(connection: Connection) -> bool:
    """False also where this role may not look, as an application's may not: its canaries stay `blocked`."""
    try:
        return state.is_installed(connection) and held_by(connection) is not None
    except psycopg.errors.InsufficientPrivilege:
        return False


Probes = dict[int, sql.Composed | None]
"""OID of a table → the statement that tries to write there; None where the role may not write at all."""


def find_probes(connection: Connection, role: str) -> Probes:
    """A statement per table that `role` is allowed and that fires the fence; None where it may not write at all.

    An INSTEAD rule replaces its statement, and the triggers with it, so such an event is left out.
    """
    rows = connection.execute(
        """
        SELECT c.oid::int8, n.nspname, c.relname, column_to_update.attname, column_to_insert.attname,
               column_to_insert.type,
               has_table_privilege(r.oid, c.oid, 'DELETE') AND NOT EXISTS (
                   SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '4' AND w.is_instead)
        FROM pg_roles r, pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL (
            SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND has_column_privilege(r.oid, c.oid, a.attnum, 'UPDATE') AND NOT EXISTS (
                  SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '2' AND w.is_instead)
            ORDER BY a.attnum LIMIT 1) AS column_to_update ON true
        LEFT JOIN LATERAL (
            SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              AND a.attidentity <> 'a' AND has_column_privilege(r.oid, c.oid, a.attnum, 'INSERT') AND NOT EXISTS (
                  SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '3' AND w.is_instead)
            ORDER BY a.attnum LIMIT 1) AS column_to_insert ON true
        WHERE r.rolname = %s AND c.relkind IN ('r', 'p') AND has_schema_privilege(r.oid, n.oid, 'USAGE')
        """,
        [role],
    )
    probes: Probes = {}
    for oid, schema, name, to_update, to_insert, insert_type, may_delete in rows:
        table = sql.Identifier(schema, name)
        if may_delete:
            probes[oid] = sql.SQL("DELETE FROM {} WHERE false").format(table)
        elif to_update is not None:
            column = sql.Identifier(to_update)
            probes[oid] = sql.SQL("UPDATE {} SET {} = DEFAULT WHERE false").format(table, column)
        elif to_insert is not None:
            probes[oid] = sql.SQL("INSERT INTO {} ({}) SELECT NULL::{} WHERE false").format(
                table, sql.Identifier(to_insert), sql.SQL(insert_type)
            )
        else:
            probes[oid] = None
    return probes


# Each probe is rolled back by itself, also where it was let through, so that no lock outlives it.
_CANARIES = """
DO $canary$
DECLARE
    probe jsonb;
    answers jsonb := '[]';
    code text;
    message text;
BEGIN
    FOR probe IN SELECT jsonb_array_elements(current_setting('statehub_plan.probes')::jsonb) LOOP
        BEGIN
            EXECUTE probe ->> 1;
            RAISE SQLSTATE 'SP000';
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        END;
        IF code = '55P03' THEN
            PERFORM set_config('lock_timeout', '1ms', true);
        END IF;
        answers := answers || jsonb_build_array(jsonb_build_array(probe -> 0, code, message));
    END LOOP;
    PERFORM set_config('statehub_plan.answers', answers::text, true);
END
$canary$
"""

Answer = tuple[str, str]
"""SQLSTATE and message; `SP000` = the probe was let through."""


def _ask(connection: Connection, role: str | None, probes: dict[int, sql.Composed], wait_ms: int) -> dict[int, Answer]:
    """What became of each probe, in one round trip and one transaction that is rolled back."""
    asked = json.dumps([[oid, probe.as_string(connection)] for oid, probe in probes.items()])
    script = sql.SQL(
        "BEGIN READ WRITE; {} SET LOCAL lock_timeout = {}; SELECT set_config('statehub_plan.probes', {}, true); "
        "{}; SELECT current_setting('statehub_plan.answers'); ROLLBACK"
    ).format(
        sql.SQL("SET LOCAL ROLE {};").format(sql.Identifier(role)) if role else sql.SQL(""),
        sql.Literal(wait_ms),
        sql.Literal(asked),
        sql.SQL(_CANARIES),
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(script)
            rows = [row for each in cursor.results() if each.description for row in each.fetchall()]
    except psycopg.Error as error:
        if connection.closed:
            raise
        return dict.fromkeys(probes, (error.sqlstate or "?", error.diag.message_primary or ""))
    finally:
        roll_back(connection)
    return {int(oid): (str(code), str(message)) for oid, code, message in json.loads(rows[-1][0])}


def _ask_one(
    connection: Connection, _role: str | None, probes: dict[int, sql.Composed], wait_ms: int
) -> dict[int, Answer]:
    """The same for a single probe as this session's user, with nothing to compile."""
    ((oid, probe),) = probes.items()
    try:
        with connection.pipeline():
            connection.execute("BEGIN READ WRITE")
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{wait_ms}ms"])
            connection.execute(probe)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return {oid: (error.sqlstate or "?", error.diag.message_primary or "")}
    finally:
        roll_back(connection)
    return {oid: ("SP000", "")}


def _judged(role: str, table: Table, answer: Answer | None, held: bool) -> Canary:
    result: CanaryResult = "unknown"
    detail: str | None = None
    match answer:
        case None:
            result = "no-privilege"
        case ("SP000", _):
            result = "open"
        case ("55P03", _):
            result = "held" if held else "blocked"
        case ("42P01", _):
            result, detail = "no-privilege", "the table was dropped meanwhile"
        case ("25006", message) if _FENCE_MESSAGE in message:
            result = "frozen"
        case (code, message):
            detail = f"{code}: {message}"
    return Canary(role=role, table=table.qualified, result=result, detail=detail)


def _catalog_problems(status: FenceStatus) -> Iterator[Problem]:
    if status.copied:
        yield Problem(
            code="state-copied",
            what="the tool's schema was written in another database and came here with a copy",
            remedy="DROP SCHEMA statehub_plan CASCADE, then freeze again",
        )
    if status.term is None:
        yield Problem(code="not-marked", what="no freeze is recorded here", remedy="freeze first")
    if status.gate_open:
        yield Problem(
            code="gate-open",
            what="the fence lets everybody pass",
            remedy="freeze again; nothing may be opened elsewhere meanwhile",
        )
    if not status.default_read_only:
        yield Problem(
            code="default-not-read-only",
            what="new sessions of this database do not begin read-only",
            remedy="freeze again; check that nobody resets default_transaction_read_only",
        )
    for table in status.unfenced:
        yield Problem(
            code="table-unfenced",
            what=f"table {table} has no enabled fence trigger",
            remedy="freeze again; check who creates tables or drops triggers during a cutover",
        )


def _canary_problems(connection: Connection, app_roles: Sequence[str], app_dsn: str | None) -> Iterator[Problem]:
    canaries = list(canary(connection))
    for role in app_roles:
        if _is_member(connection, role):
            canaries += canary(connection, role=role)
    if app_dsn is not None:
        try:
            with connect(app_dsn, purpose="canary") as session:
                if (problem := elsewhere(session, database_of(connection))) is not None:
                    yield problem
                else:
                    canaries += canary(session, tables=user_tables(connection))
        except StatehubError as error:
            yield Problem(code="canary-impossible", what=f"as the application: {error.what}", remedy=error.hint)
    for each in canaries:
        if each.result not in ("frozen", "no-privilege"):
            detail = f" ({each.detail})" if each.detail else ""
            yield Problem(
                code="canary-not-refused",
                what=f"a write on {each.table} as {each.role} was not refused by the fence: {each.result}{detail}",
                remedy="freeze again; nothing may be opened elsewhere meanwhile",
            )


def database_of(connection: Connection) -> Identity:
    """Which database this session is connected to; nothing is known where its role may not ask. For sessions without
    an open transaction."""
    try:
        return state.identity(connection)
    except psycopg.errors.InsufficientPrivilege:
        return Identity()


def elsewhere(session: Connection, here: Identity) -> Problem | None:
    """What is wrong where the application's `session` is not known to be one of the database `here`: canaries are
    asked by the OIDs of its tables, and another database knows none of them, which looks like a missing privilege."""
    there = database_of(session)
    if not (here.known and there.known):
        return Problem(
            code="app-dsn-unidentified",
            what="whether appDsn leads to the same database as dsn is not known: a role may not ask for the cluster",
            remedy="as superuser: GRANT EXECUTE ON FUNCTION pg_control_system() TO the roles of both",
        )
    if there != here:
        return Problem(
            code="app-dsn-elsewhere",
            what=f"appDsn leads to {_named(there)}, and dsn to {_named(here)}",
            remedy="correct one of them: the service's own role is to be seen writing, or not, where the tool works",
        )
    return None


def _named(one: Identity) -> str:
    return f"database {one.database} (OID {one.database_oid}) of cluster {one.system_identifier}"


def _is_member(connection: Connection, role: str) -> bool:
    """Whether SET ROLE is possible; from PostgreSQL 16 a membership may come without it."""
    privilege = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    row = connection.execute(
        "SELECT pg_has_role(oid, %s) FROM pg_roles WHERE rolname = %s", [privilege, role]
    ).fetchone()
    return row is not None and bool(row[0])


def _transaction_problems(connection: Connection, settle_s: float) -> Iterator[Problem]:
    for gid in prepared_transactions(connection):
        yield prepared_problem(gid)
    deadline = time.monotonic() + settle_s
    while writers := _writers(connection):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    for who in writers:
        yield Problem(
            code="transaction-open",
            what=f"{who} still has a transaction that may have written",
            remedy="end it with pg_terminate_backend, then prove again",
        )


def prepared_problem(gid: str) -> Problem:
    """A prepared transaction can neither be waited for nor ended with its session."""
    quoted = gid.replace("'", "''")
    return Problem(
        code="transaction-prepared",
        what=f"the prepared transaction '{gid}' keeps its locks and can still commit",
        remedy=f"ask whoever coordinates it, then COMMIT PREPARED '{quoted}' or ROLLBACK PREPARED '{quoted}'",
    )


def _writers(connection: Connection) -> list[str]:
    """Whoever has a transaction id in this database; autovacuum takes one for the catalogs only."""
    rows = connection.execute(
        "SELECT format('process %s (user %s, application %s)', pid, coalesce(usename, '?'), application_name) "
        "FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL "
        "AND pid <> pg_backend_pid() AND usename IS NOT NULL ORDER BY pid"
    )
    return [str(who) for (who,) in rows]
