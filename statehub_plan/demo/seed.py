"""Fills a State Hub database with any number of rows, the same ones each time; the server does the work."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import psycopg
from psycopg import sql

REVISION = "7c1f0a9d4e2b"
MINIMUM_ROWS = 1_000

_PEOPLE = 40
_ROWS_PER_WORK_PLAN = 400
_FIRST_TICKET = 1000
# Their triggers would write audit entries at the time of seeding, different ones each time.
_WITH_TRIGGERS = ("work_plan", "task", "decision")


@dataclass(frozen=True)
class Shares:
    """How many rows each table gets; together at least the number asked for."""

    people: int
    work_plans: int
    tasks: int
    dependencies: int
    decisions: int
    attachments: int
    audit_entries: int
    progress_events: int

    @classmethod
    def of(cls, rows: int) -> Shares:
        """`rows` (at least 1,000) spread over the tables as in a hub that has been used for a while."""
        if rows < MINIMUM_ROWS:
            raise ValueError(f"at least {MINIMUM_ROWS} rows, not {rows}")
        work_plans, tasks, dependencies = rows // _ROWS_PER_WORK_PLAN, rows // 5, rows // 10
        decisions, attachments, audit_entries = rows // 20, rows // 50, rows // 10
        rest = rows - _PEOPLE - work_plans - tasks - dependencies - decisions - attachments - audit_entries
        return cls(_PEOPLE, work_plans, tasks, dependencies, decisions, attachments, audit_entries, max(rest, 0))


def create_schema(conn: psycopg.Connection) -> None:
    """Run schema.sql in one transaction, as the role that is to own everything."""
    statements = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    with conn.transaction():
        conn.execute(statements.encode())


def seed(conn: psycopg.Connection, rows: int) -> int:
    """Fill the empty tables with at least `rows` rows and analyze them; how many there are afterwards.

    Deterministic: no clock, no random number, sequences included. About 15 µs a row, indexes included.
    """
    shares = Shares.of(rows)
    with conn.transaction():
        for table in _WITH_TRIGGERS:
            conn.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(table)))
        inserted = sum(conn.execute(statement, count).rowcount for statement, count in _inserts(shares))
        conn.execute("SELECT setval('ticket_number', %s)", [_FIRST_TICKET + shares.tasks - 1])
        for table in _WITH_TRIGGERS:
            conn.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(table)))
    conn.execute("ANALYZE")
    return inserted


def _inserts(shares: Shares) -> list[tuple[sql.SQL, dict[str, int]]]:
    plans, tasks, decisions = shares.work_plans, shares.tasks, shares.decisions
    return [
        (_PERSON, {"n": shares.people}),
        (_WORK_PLAN, {"n": plans, "people": shares.people}),
        (_TASK, {"n": tasks, "plans": plans, "first": _FIRST_TICKET}),
        (_DEPENDENCY, {"n": shares.dependencies, "tasks": tasks}),
        (_DECISION, {"n": decisions, "plans": plans, "people": shares.people}),
        (_ATTACHMENT, {"n": shares.attachments, "decisions": decisions}),
        (_AUDIT, {"n": shares.audit_entries, "tasks": tasks}),
        (_EVENT, {"n": shares.progress_events, "plans": plans, "tasks": tasks}),
    ]


_PERSON = sql.SQL("""
    INSERT INTO person (handle, display_name, joined_at)
    SELECT 'person-' || i, 'Person № ' || i, timestamptz '2025-01-06 08:00+00' + i * interval '1 day'
    FROM generate_series(1, %(n)s) AS i
""")
_WORK_PLAN = sql.SQL("""
    INSERT INTO work_plan (code, title, state, owner_id, labels, budget, metadata, created_at, updated_at)
    SELECT 'CUST-WP-' || lpad(i::text, 4, '0'), 'Work plan ' || i || ' – “' || left(md5(i::text), 12) || '”',
        (enum_range(NULL::work_plan_state))[1 + i %% 4], 1 + i %% %(people)s,
        CASE i %% 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['infra'] ELSE ARRAY['infra', 'say "hi", {now}'] END,
        CASE WHEN i %% 5 > 0 THEN i * 12.5 END,
        jsonb_build_object('priority', i %% 5, 'tags', jsonb_build_array('t' || i %% 7, NULL, i * 0.1)),
        timestamptz '2025-03-01 09:00+00' + i * interval '7 minutes',
        timestamptz '2025-03-01 09:00+00' + i * interval '9 minutes'
    FROM generate_series(1, %(n)s) AS i
""")
_TASK = sql.SQL("""
    INSERT INTO task (work_plan_id, parent_id, ticket, title, state, estimate_hours, labels, due_on, created_at,
        updated_at)
    SELECT 1 + i %% %(plans)s, CASE WHEN i %% 6 = 0 THEN i / 2 END, 'SH-' || %(first)s + i - 1,
        'Task ' || i || ' of ' || left(md5('task' || i), 8), (enum_range(NULL::task_state))[1 + i %% 4],
        CASE WHEN i %% 4 > 0 THEN (i %% 4000) / 100.0 END, CASE WHEN i %% 2 = 0 THEN ARRAY['a', 'b'] ELSE '{}' END,
        CASE WHEN i %% 3 > 0 THEN date '2026-01-01' + i %% 365 END,
        timestamptz '2025-03-02 00:00+00' + i * interval '11 seconds',
        timestamptz '2025-03-02 00:00+00' + i * interval '13 seconds'
    FROM generate_series(1, %(n)s) AS i
""")
_DEPENDENCY = sql.SQL("""
    INSERT INTO task_dependency (task_id, depends_on_id)
    SELECT i + 1, i FROM generate_series(1, least(%(n)s, %(tasks)s - 1)) AS i
""")
_DECISION = sql.SQL("""
    INSERT INTO decision (work_plan_id, supersedes_id, title, rationale, confidence, decided_by_id, decided_at,
        updated_at)
    SELECT 1 + i %% %(plans)s, CASE WHEN i %% 9 = 0 THEN i - 1 END, 'Decision ' || i,
        CASE WHEN i %% 7 > 0 THEN repeat('because ' || md5('why' || i) || E'\\n', 1 + i %% 4) END,
        (i %% 101) / 100.0, 1 + i %% %(people)s, timestamptz '2025-04-01 00:00+00' + i * interval '83 seconds',
        timestamptz '2025-04-01 00:00+00' + i * interval '83 seconds'
    FROM generate_series(1, %(n)s) AS i
""")
_ATTACHMENT = sql.SQL("""
    INSERT INTO attachment (id, decision_id, file_name, content, added_at)
    SELECT md5('attachment' || i)::uuid, 1 + i %% %(decisions)s, 'evidence-' || i || '.bin',
        decode(repeat(md5('content' || i), 1 + i %% 24), 'hex'),
        timestamptz '2025-05-01 00:00+00' + i * interval '3 minutes'
    FROM generate_series(1, %(n)s) AS i
""")
_AUDIT = sql.SQL("""
    INSERT INTO audit.entry (relation, row_id, action, actor, before_row, after_row, at)
    SELECT 'public.task', 1 + i %% %(tasks)s, 'U', 'statehub_app', jsonb_build_object('state', 'todo'),
        jsonb_build_object('state', 'doing'), timestamptz '2025-06-01 00:00+00' + i * interval '17 seconds'
    FROM generate_series(1, %(n)s) AS i
""")
_EVENT = sql.SQL("""
    INSERT INTO progress_event (work_plan_id, task_id, source, kind, summary, detail, recorded_at)
    SELECT 1 + i %% %(plans)s, CASE WHEN i %% 3 > 0 THEN 1 + i %% %(tasks)s END, 'import',
        (ARRAY['note', 'progress', 'blocked', 'done'])[1 + i %% 4], 'Progress ' || i || ': ' || md5('event' || i),
        jsonb_build_object('percent', i %% 101, 'host', 'node-' || i %% 9),
        timestamptz '2025-06-01 00:00+00' + i * interval '5 seconds'
    FROM generate_series(1, %(n)s) AS i
""")
