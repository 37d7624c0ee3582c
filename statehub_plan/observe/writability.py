"""Whether a database accepts writes, and from whom: canaries of every role that could, and what the catalogs say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from pydantic import JsonValue

from statehub_plan.model.plan import Identity
from statehub_plan.postgres import proof, state
from statehub_plan.postgres.connect import Connection, Table, user_tables
from statehub_plan.postgres.proof import Canary, FenceStatus
from statehub_plan.postgres.sessions import held_by
from statehub_plan.world import Writes

WRITES_HOW = "BEGIN READ WRITE; a write that matches no row; ROLLBACK: per table, as the tool's and the app's roles"
FENCE_HOW = "pg_trigger, pg_db_role_setting, statehub_plan.state, pg_locks; canaries as for writes"

_SAMPLE = 3  # tables that a quick look tries, where the catalogs say that all are fenced alike
_LISTED = 25  # unfenced tables that are named
_TOLD = 5  # of them, in a sentence
_HELD_WAIT_MS = 5  # lock wait of a canary while a hold is known to be alive


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out about writing in the database `identity`. `hold` is the hold that is alive now; `tables` those
    that canaries tried; `not_tried` the app roles that the tool may not become."""

    identity: Identity
    status: FenceStatus
    in_recovery: bool
    hold: str | None
    tables: tuple[Table, ...]
    canaries: tuple[Canary, ...]
    not_tried: tuple[str, ...]


def look_as_owner(connection: Connection, app_roles: Sequence[str], *, thorough: bool) -> Findings:
    """What the catalogs say, and canaries as the tool's role and as each app role that it is a member of.

    Needs an idle session in autocommit mode. Tries every table, or, unless `thorough`, a sample where all are fenced or
    none is. Waits for locks for 0.15 s per role at most, less under a hold.
    """
    here, status = proof.database_of(connection), proof.fence_status(connection)
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if row is None or row[0]:
        return Findings(here, status, in_recovery=True, hold=None, tables=(), canaries=(), not_tried=())
    hold = held_by(connection) if state.is_installed(connection) else None
    members = _memberships(connection, app_roles)
    everything = user_tables(connection)
    alike = len(status.unfenced) in (0, status.tables)
    tables = everything if thorough or not alike else everything[:: -(-len(everything) // _SAMPLE) or 1]
    found = Findings(here, status, False, hold, tables, (), tuple(role for role in app_roles if role not in members))
    found = _tried(connection, found, None)
    if hold is None and any(canary.result == "blocked" for canary in found.canaries) and tables != everything:
        # The few that were tried are busy; among the others some may show what is the matter.
        found = _tried(connection, replace(found, tables=everything, canaries=()), None)
    for role in members:
        found = _tried(connection, found, role)
    return found


def look_as_app(connection: Connection, found: Findings) -> Findings:
    """With canaries in a session of the application's own, which has to be one of the same database."""
    problem = proof.elsewhere(connection, found.identity)
    if problem is not None:
        return without_app(found, str(problem))
    return _tried(connection, found, None)


def without_app(found: Findings, why: str) -> Findings:
    """The application's own session was not to be had, or leads elsewhere, so nobody knows whether it may write."""
    missing = Canary(role="the application", table="any table", result="unknown", detail=why)
    return replace(found, canaries=(*found.canaries, missing))


def judge(connection: Connection, found: Findings) -> tuple[Writes, str]:
    """Open, held or frozen where all canaries agree, else unknown with the reason.

    A standby is frozen. A database without tables has nothing to try: it is frozen where its mark and its read-only
    default say so, held under a live hold, and open otherwise (whoever may connect may create a table and fill it).
    """
    if found.in_recovery:
        return Writes.FROZEN, ""
    lines = [
        f"{role}: {result} on {canaries[0].table}"
        + (f" and {len(canaries) - 1} more" if len(canaries) > 1 else "")
        + (f" ({canaries[0].detail})" if canaries[0].detail else "")
        for (role, result), canaries in _grouped(found.canaries)
        if result != "no-privilege"
    ]
    return proof.writes(connection, canaries=found.canaries), (
        f"canaries give no clear answer: {'; '.join(lines)}{_half_fenced(found.status)}"
    )


def _half_fenced(status: FenceStatus) -> str:
    """What explains it best, where a database that is marked as frozen has tables that nobody fenced."""
    if status.term is None or status.copied or not status.unfenced:
        return ""
    more = ", …" if len(status.unfenced) > _TOLD else ""
    named = ", ".join(status.unfenced[:_TOLD])
    return f"; no enabled fence: {named}{more} (of a fallback that follows, `refresh` completes it)"


def fence_fact(found: Findings) -> JsonValue:
    """The fact ENDPOINT.fence. Canaries with the same role and result are one entry, with the first of their tables
    and how many they are."""
    status = found.status
    tried: list[JsonValue] = [
        {"role": role, "result": result, "table": canaries[0].table, "tables": len(canaries)}
        for (role, result), canaries in _grouped(found.canaries)
    ]
    tried += [{"role": role, "result": "not-a-member", "table": None, "tables": 0} for role in found.not_tried]
    return {
        "tables": status.tables,
        "triggers_enabled": status.triggers_enabled,
        "triggers_total": status.triggers_total,
        "unfenced": list(status.unfenced[:_LISTED]) if status.triggers_enabled else [],
        "default_read_only": status.default_read_only,
        "term": status.term,
        "run": status.run,
        "hold": found.hold or status.hold,
        "primary": status.primary,
        "retired": status.retired,
        "canary": tried,
    }


def _tried(connection: Connection, found: Findings, role: str | None) -> Findings:
    wait_ms = proof.CANARY_WAIT_MS if found.hold is None else _HELD_WAIT_MS
    canaries = proof.canary(connection, tables=found.tables, role=role, wait_ms=wait_ms)
    if found.hold is not None:  # the application's own session may not see who holds what it waits for
        held = {"result": "held", "detail": None}
        canaries = tuple(each.model_copy(update=held) if each.result == "blocked" else each for each in canaries)
    return replace(found, canaries=(*found.canaries, *canaries))


def _memberships(connection: Connection, roles: Sequence[str]) -> tuple[str, ...]:
    """Those roles that this session may SET ROLE to; from PostgreSQL 16 on a membership may come without that."""
    privilege = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    rows = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND pg_has_role(oid, %s) ORDER BY rolname",
        [list(roles), privilege],
    )
    return tuple(str(name) for (name,) in rows)


def _grouped(canaries: Sequence[Canary]) -> list[tuple[tuple[str, str], list[Canary]]]:
    ordered = sorted(canaries, key=lambda canary: (canary.role, canary.result, canary.table))
    return [(key, list(group)) for key, group in groupby(ordered, lambda canary: (canary.role, canary.result))]
