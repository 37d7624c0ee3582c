"""What the demo's State Hub keeps and how: work plans, tasks, decisions, progress events in PostgreSQL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_jsonable_python

from statehub_plan.demo.pool import Connection, Pool, Problem, Refused

_READERS = 2
_WRITERS = 6

Text = Annotated[str, Field(min_length=1, max_length=4000)]


class New(BaseModel):
    """What a client may send: nothing that it doesn't know."""

    model_config = ConfigDict(extra="forbid")


class NewWorkPlan(New):
    """A work plan to be."""

    code: Annotated[str, Field(pattern=r"^[A-Z]+(-[A-Z]+)*-WP-[0-9]{4,}$")]
    title: Text
    state: Literal["draft", "active", "deferred", "done"] = "draft"
    labels: list[str] = []
    budget: Decimal | None = None
    metadata: dict[str, JsonValue] = {}


class NewTask(New):
    """A task to be; its ticket number is the hub's."""

    work_plan_id: int
    parent_id: int | None = None
    title: Text
    state: Literal["todo", "doing", "blocked", "done"] = "todo"
    estimate_hours: Decimal | None = None
    labels: list[str] = []
    due_on: date | None = None


class NewDecision(New):
    """A decision that has been taken."""

    work_plan_id: int
    supersedes_id: int | None = None
    title: Text
    rationale: Text | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class NewProgressEvent(New):
    """Something that happened."""

    work_plan_id: int
    task_id: int | None = None
    source: Text
    kind: Literal["note", "progress", "blocked", "done"] = "progress"
    summary: Text
    detail: dict[str, JsonValue] = {}


class TaskChange(New):
    """A task's new state."""

    state: Literal["todo", "doing", "blocked", "done"]


@dataclass(frozen=True)
class Resource:
    """One kind of thing: its table, what may be sent, and the columns that are shown beside those."""

    path: str
    table: str
    model: type[New]
    shown: tuple[str, ...]

    @property
    def columns(self) -> sql.Composed:
        """The columns that are shown, as SQL."""
        return sql.SQL(", ").join(map(sql.Identifier, ("id", *self.model.model_fields, *self.shown)))


WORK_PLANS = Resource("work-plans", "work_plan", NewWorkPlan, ("owner_id", "created_at", "updated_at"))
TASKS = Resource("tasks", "task", NewTask, ("ticket", "created_at", "updated_at"))
DECISIONS = Resource("decisions", "decision", NewDecision, ("decided_at", "updated_at"))
PROGRESS_EVENTS = Resource("progress-events", "progress_event", NewProgressEvent, ("recorded_at",))
RESOURCES = (WORK_PLANS, TASKS, DECISIONS, PROGRESS_EVENTS)


class Hub:
    """The database side. Reads and writes have pools of their own: writers that wait for a lock don't starve reads."""

    def __init__(self, dsn: str) -> None:
        self._reads = Pool(dsn, _READERS, "state-hub")
        self._writes = Pool(dsn, _WRITERS, "state-hub")

    def close(self) -> None:
        """Close the connections."""
        self._reads.close()
        self._writes.close()

    def health(self) -> dict[str, JsonValue]:
        """Which database answers, at which revision, and whether it takes writes by its own settings."""
        with self._reads.transaction() as conn:
            row = conn.execute(
                "SELECT current_database() AS name, system_identifier::text, current_setting('server_version') AS"
                " server_version, current_setting('transaction_read_only') = 'on' AS read_only FROM pg_control_system()"
            ).fetchone()
            revision = conn.execute("SELECT version_num FROM alembic_version").fetchone()
        return {"status": "ok", "revision": revision["version_num"] if revision else None, "database": row}

    def newest(self, resource: Resource, limit: int, before: int | None, work_plan_id: int | None) -> list[Any]:
        """Up to `limit` rows, newest first, older than the row `before`."""
        query = sql.SQL(
            "SELECT {} FROM {} WHERE (%(before)s::bigint IS NULL OR id < %(before)s)"
            " AND (%(plan)s::bigint IS NULL OR {} = %(plan)s) ORDER BY id DESC LIMIT %(limit)s"
        ).format(
            resource.columns,
            sql.Identifier(resource.table),
            sql.Identifier("id" if resource is WORK_PLANS else "work_plan_id"),
        )
        with self._reads.transaction() as conn:
            return conn.execute(query, {"before": before, "plan": work_plan_id, "limit": limit}).fetchall()

    def one(self, resource: Resource, row_id: int) -> dict[str, Any] | None:
        """The row with this id, if there is one."""
        query = sql.SQL("SELECT {} FROM {} WHERE id = %s").format(resource.columns, sql.Identifier(resource.table))
        with self._reads.transaction() as conn:
            return conn.execute(query, [row_id]).fetchone()

    def create(self, resource: Resource, new: New, key: str | None) -> tuple[dict[str, Any], bool]:
        """The row as inserted, and whether it is what an earlier request with the same key was answered."""
        values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in new}
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING {}").format(
            sql.Identifier(resource.table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
            resource.columns,
        )

        def insert(conn: Connection) -> dict[str, Any]:
            row = conn.execute(query, list(values.values())).fetchone()
            assert row is not None  # INSERT ... RETURNING of one row
            return row

        fingerprint = hashlib.sha256(f"{resource.path} {new.model_dump_json()}".encode()).digest()
        return self._once(key, fingerprint, insert)

    def change_task(self, row_id: int, change: TaskChange) -> dict[str, Any] | None:
        """The task in its new state, if there is such a task."""
        query = sql.SQL("UPDATE task SET state = %s WHERE id = %s RETURNING {}").format(TASKS.columns)
        with self._writes.transaction() as conn:
            return conn.execute(query, [change.state, row_id]).fetchone()

    def _once(
        self, key: str | None, fingerprint: bytes, insert: Callable[[Connection], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        # The key and the row commit together. A second request with the key waits for the first one's transaction
        # (PostgreSQL manual, INSERT, ON CONFLICT), so it finds either the answer or no key.
        with self._writes.transaction() as conn:
            if key is None:
                return insert(conn), False
            taken = conn.execute(
                "INSERT INTO idempotency_key (key, request_sha256) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"
                " RETURNING id",
                [key, fingerprint],
            ).fetchone()
            if taken is None:
                return _earlier_answer(conn, key, fingerprint), True
            row = insert(conn)
            conn.execute(
                "UPDATE idempotency_key SET response = %s WHERE id = %s", [Jsonb(to_jsonable_python(row)), taken["id"]]
            )
            return row, False


def _earlier_answer(conn: Connection, key: str, fingerprint: bytes) -> dict[str, Any]:
    row = conn.execute("SELECT request_sha256, response FROM idempotency_key WHERE key = %s", [key]).fetchone()
    if row is None:
        raise Refused(Problem(503, "retry", "the first request with this Idempotency-Key was undone", retry_after_s=1))
    if bytes(row["request_sha256"]) != fingerprint:
        raise Refused(Problem(422, "key-reused", "this Idempotency-Key came with another request before"))
    response: dict[str, Any] = row["response"]
    return response
