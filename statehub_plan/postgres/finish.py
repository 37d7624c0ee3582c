"""What comes after the rows: indexes, keys, triggers, views' content, statistics; in parallel where it takes long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import psycopg

from statehub_plan.errors import StatehubError
from statehub_plan.model.base import Frozen
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.copy import flush_copies, open_copy_session
from statehub_plan.postgres.dump import Entry, SchemaDump, dump_schema, dump_statistics
from statehub_plan.postgres.filling import built_statements, record_built, statement_digest
from statehub_plan.postgres.loading import explained
from statehub_plan.postgres.proof import fence_status
from statehub_plan.postgres.relations import Relation, read_relations
from statehub_plan.postgres.state import require_epoch
from statehub_plan.postgres.tools import major_of
from statehub_plan.postgres.workers import Crew, OnProgress, Progress, nobody_looks, nothing_to_lose, run_crews

__all__ = ["Effort", "Finished", "build_keys", "finish_schema", "gather_statistics"]

_MAINTENANCE_MEMORY_KB = 256 * 1024
_STATISTICS_TRAVEL_SINCE = 18
_VIEW_DATA = "MATERIALIZED VIEW DATA"
_LAST = (_VIEW_DATA, "EVENT TRIGGER")  # pg_dump puts them last; an event trigger must not fire for ours
_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_ON_TABLE = re.compile(rf"(?:^ALTER TABLE (?:ONLY )?|\sON (?:ONLY )?)(?P<table>{_NAME}\.{_NAME})\s", re.MULTILINE)
_FOREIGN_KEY = re.compile(
    rf"\A\s*ALTER TABLE (?:ONLY )?(?P<table>{_NAME}\.{_NAME})\n\s+ADD CONSTRAINT (?P<name>{_NAME}) "
    r"FOREIGN KEY .*?(?P<unchecked> NOT VALID)?;\s*\Z",
    re.DOTALL,
)


_TABLES_WITH_STATISTICS = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.reltuples >= 0
  AND EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
  AND NOT EXISTS (SELECT FROM pg_statistic_ext e WHERE e.stxrelid = c.oid)
"""


_ROOTS = """
SELECT n.nspname, c.relname, format('%I.%I', o.nspname, r.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace o ON o.oid = r.relnamespace
WHERE c.relispartition AND c.relkind = 'r'
"""


@dataclass(frozen=True)
class Effort:
    """Under which epoch something long is done, by how many sessions at once, and whom it tells and asks meanwhile."""

    epoch: int
    jobs: int = 2
    on_progress: OnProgress = nobody_looks
    check: Callable[[], None] = nothing_to_lose


class Finished(Frozen):
    """What `finish_schema` built; the foreign keys counted are those whose rows were checked."""

    indexes: int
    foreign_keys: int
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class _Job:
    """Statements that one session runs one after the other, each on its own; `weight` for the order and progress."""

    entry: Entry
    statements: tuple[str, ...]
    weight: int


@dataclass(frozen=True)
class _Builder:
    """Runs jobs on the target in sessions of its own, largest first. `built`: what an earlier run has done, if that is
    recorded."""

    target_dsn: str
    preamble: str
    effort: Effort
    built: frozenset[str] | None

    def run(self, phase: str, work: Iterable[_Job], *, in_order: bool = False) -> None:
        left = [job for job in map(self._left, work) if job.statements]
        tasks = left if in_order else sorted(left, key=lambda job: -job.weight)
        total, began, done, subject = sum(job.weight for job in tasks), time.monotonic(), [0], [""]

        def build(job: _Job, sessions: tuple[Connection, ...]) -> None:
            subject[0] = job.entry.name
            _run(job, sessions[0], self.effort.epoch, recorded=self.built is not None)
            done.append(job.weight)

        def tick() -> None:
            self.effort.check()
            self.effort.on_progress(
                Progress(phase, sum(tuple(done)), total, "bytes", time.monotonic() - began, subject[0])
            )

        run_crews([Crew(tasks, build, self._sessions, 1 if in_order else self.effort.jobs)], tick=tick)

    def _left(self, job: _Job) -> _Job:
        if not self.built:
            return job
        return replace(
            job, statements=tuple(each for each in job.statements if statement_digest(each) not in self.built)
        )

    def _sessions(self) -> tuple[Connection, ...]:
        session = open_copy_session(self.target_dsn, purpose="finish", epoch=self.effort.epoch)
        session.execute(
            "SELECT set_config('maintenance_work_mem', greatest(setting::int8, %s)::text || 'kB', false) "
            "FROM pg_settings WHERE name = 'maintenance_work_mem'",
            [_MAINTENANCE_MEMORY_KB],
        )
        session.execute(self.preamble.encode(errors="surrogateescape"))
        return (session,)


def finish_schema(
    source_dsn: str,
    target_dsn: str,
    *,
    epoch: int,
    jobs: int = 2,
    resumable: bool = False,
    statistics: bool = True,
    post: SchemaDump | None = None,
    on_progress: OnProgress = nobody_looks,
    check: Callable[[], None] = nothing_to_lose,
) -> Finished:
    """Everything of the source's schema that `prepare_schema` left out, on tables that `copy_data` has filled.

    Keys, then indexes, in parallel; then the rest in pg_dump's order, foreign keys unchecked at first; then they are
    checked, and statistics gathered, in parallel. Blocks until all of it is durable and every table is still fenced.
    Not to be repeated: after a failure, `refresh_schema` and the copy come first. Unless `resumable`: then each
    statement is recorded in its own transaction, and what is recorded is skipped. `statistics` False: the caller
    gathers them (`gather_statistics`); they are here all the same where views are filled, which need good plans.
    `post`: that part of the schema, if it was dumped already.
    """
    began = time.monotonic()
    with connect(source_dsn, purpose="finish") as source, connect(target_dsn, purpose="finish") as target:
        post = post or dump_schema(source, "post-data", target_major=major_of(target), check=check)
        relations = read_relations(target)
        sizes = {relation.qualified: relation.bytes for relation in relations}
        built = built_statements(target) if resumable else None
        build = _Builder(target_dsn, post.preamble, Effort(epoch, jobs, on_progress, check), built)
        # Keys first: one of them locks its table against everything, while indexes of one table can be built together.
        keys = _keys(post, sizes)
        indexes = [_single(entry, sizes) for entry in post.entries if entry.kind == "INDEX"]
        build.run("keys", keys)
        build.run("indexes", indexes)
        rest = [entry for entry in post.entries if entry.kind not in ("CONSTRAINT", "INDEX")]
        last = next((index for index, entry in enumerate(rest) if entry.kind in _LAST), len(rest))
        unchecked, checks = _foreign_keys(rest[:last], sizes, _partitioned(target))
        build.run("schema", _in_order(unchecked), in_order=True)
        build.run("foreign keys", checks)
        if statistics or any(entry.kind == _VIEW_DATA for entry in rest[last:]):
            _gather_statistics(build, source, target, relations)
        build.run("views", map(_with_statistics, _in_order(rest[last:])), in_order=True)
        flush_copies(target)
        _require_fenced(target)
    return Finished(
        indexes=sum(len(job.statements) for job in (*keys, *indexes)),
        foreign_keys=sum(len(job.statements) for job in checks),
        elapsed_ms=round((time.monotonic() - began) * 1000),
    )


def gather_statistics(source_dsn: str, target_dsn: str, effort: Effort) -> None:
    """What `finish_schema(resumable=True, statistics=False)` left out; a stream may be applied to the tables meanwhile.

    Taken over from the source where the target can, else gathered from the rows, in parallel."""
    with connect(source_dsn, purpose="finish") as source, connect(target_dsn, purpose="finish") as target:
        build = _Builder(target_dsn, "", effort, built_statements(target))
        _gather_statistics(build, source, target, read_relations(target))


def build_keys(source_dsn: str, target_dsn: str, effort: Effort) -> None:
    """Of what `finish_schema` builds only that by which a stream finds the rows to change: keys, replica identities.

    Recorded as by `finish_schema(resumable=True)`, which builds the rest.
    """
    with connect(source_dsn, purpose="finish") as source, connect(target_dsn, purpose="finish") as target:
        post = dump_schema(source, "post-data", target_major=major_of(target), check=effort.check)
        sizes = {relation.qualified: relation.bytes for relation in read_relations(target)}
        build = _Builder(target_dsn, post.preamble, effort, built_statements(target))
        build.run("keys", _keys(post, sizes))
        identities = [
            entry for entry in post.entries if entry.kind == "INDEX" and "REPLICA IDENTITY USING" in entry.sql
        ]
        build.run("indexes", [_single(entry, sizes) for entry in identities])
        flush_copies(target)


def _run(job: _Job, session: Connection, epoch: int, *, recorded: bool) -> None:
    # Without a lock: an index takes minutes, and a newer run begins with dropping what an older one still builds.
    require_epoch(session, epoch)
    for statement in job.statements:
        try:
            with session.transaction():
                session.execute(statement.encode(errors="surrogateescape"))
                if recorded:
                    record_built(session, statement)
        except psycopg.Error as error:
            raise explained(error, job.entry) from error


def _table(entry: Entry) -> str:
    """The table that an entry works on, without quotes; only ever used to group and to weigh."""
    match = _ON_TABLE.search(entry.sql)
    return match["table"].replace('"', "") if match else ""


def _weight(entry: Entry, sizes: dict[str, int]) -> int:
    return sizes.get(_table(entry), 0) + 1


def _single(entry: Entry, sizes: dict[str, int]) -> _Job:
    return _Job(entry, (entry.sql,), _weight(entry, sizes))


def _by_table(entries: Iterable[Entry], sizes: dict[str, int]) -> list[_Job]:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(_table(entry), []).append(entry)
    return [
        _Job(group[0], tuple(entry.sql for entry in group), _weight(group[0], sizes) * len(group))
        for group in grouped.values()
    ]


def _keys(post: SchemaDump, sizes: dict[str, int]) -> list[_Job]:
    return _by_table((entry for entry in post.entries if entry.kind == "CONSTRAINT"), sizes)


def _in_order(entries: Iterable[Entry]) -> list[_Job]:
    return [_Job(entry, (entry.sql,), 1) for entry in entries]


def _with_statistics(job: _Job) -> _Job:
    if job.entry.kind != _VIEW_DATA:
        return job
    refresh = job.statements[0].strip()
    return replace(job, statements=(*job.statements, refresh.replace("REFRESH MATERIALIZED VIEW", "ANALYZE", 1)))


def _foreign_keys(
    entries: Iterable[Entry], sizes: dict[str, int], partitioned: set[str]
) -> tuple[list[Entry], list[_Job]]:
    """The entries with foreign keys left unchecked, and the jobs that check them: checking needs weaker locks than
    adding, so tables that refer to the same one can be checked side by side."""
    unchecked: list[Entry] = []
    checks: dict[str, list[tuple[Entry, str]]] = {}
    for entry in entries:
        match = _FOREIGN_KEY.match(entry.sql) if entry.kind == "FK CONSTRAINT" else None
        left_alone = match is None or match["unchecked"] or " NOT ENFORCED" in entry.sql
        # NOT VALID foreign keys of partitioned tables came with 18 only.
        if match is None or left_alone or match["table"].replace('"', "") in partitioned:
            unchecked.append(entry)
            continue
        body = entry.sql.rstrip().removesuffix(";")
        unchecked.append(Entry(entry.name, entry.kind, entry.schema, f"{body} NOT VALID;"))
        check = f"ALTER TABLE {match['table']} VALIDATE CONSTRAINT {match['name']}"
        checks.setdefault(match["table"], []).append((entry, check))
    jobs = [
        _Job(group[0][0], tuple(check for _, check in group), _weight(group[0][0], sizes) * len(group))
        for group in checks.values()
    ]
    return unchecked, jobs


def _partitioned(target: Connection) -> set[str]:
    rows = target.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'p'")
    return {name.replace('"', "") for (name,) in rows}


def _gather_statistics(build: _Builder, source: Connection, target: Connection, relations: Iterable[Relation]) -> None:
    known = _carry_statistics(source, target, build.effort.check)
    unknown = [relation for relation in relations if (relation.schema, relation.name) not in known]
    build.run("statistics", _analyses(target, unknown))


def _carry_statistics(source: Connection, target: Connection, check: Callable[[], None]) -> set[tuple[str, str]]:
    """The tables whose statistics have been taken over, which takes no reading of rows; none for an older target.

    Autovacuum still gathers its own later: to the server these tables are as changed as before.
    """
    if major_of(target) < _STATISTICS_TRAVEL_SINCE:
        return set()
    try:
        script = dump_statistics(source, target_major=major_of(target), check=check)
        with target.transaction():
            target.execute(script.encode(errors="surrogateescape"))
    except (psycopg.Error, StatehubError):
        check()  # whatever it has to say is not about statistics
        if target.closed:
            raise
        return set()  # nothing is lost: they are gathered from the rows instead
    return set(source.execute(_TABLES_WITH_STATISTICS.encode()).fetchall())


def _analyses(target: Connection, relations: Iterable[Relation]) -> list[_Job]:
    """Of a partition its outermost table instead: that takes the partitions along, and autovacuum never does it."""
    roots = _roots(target)
    weights: dict[str, int] = {}
    for relation in relations:
        name = roots.get((relation.schema, relation.name)) or relation.identifier.as_string(target)
        weights[name] = weights.get(name, 0) + relation.bytes + 1
    return [
        _Job(Entry(name, "STATISTICS OF TABLE", "-", ""), (f"ANALYZE {name}",), weight)
        for name, weight in weights.items()
    ]


def _roots(target: Connection) -> dict[tuple[str, str], str]:
    return {(schema, name): root for schema, name, root in target.execute(_ROOTS)}


def _require_fenced(target: Connection) -> None:
    unfenced = fence_status(target).unfenced
    if unfenced:
        raise StatehubError(
            code="fence-incomplete",
            what=f"{len(unfenced)} tables of the target are no longer fenced",
            hint="find out who changed their triggers; the source was not touched and stays primary",
            details=unfenced,
        )
