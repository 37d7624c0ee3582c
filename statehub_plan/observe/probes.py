"""Evidence: each probe of each task, carried out now. One that could not look is unknown, neither failed nor passed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import psycopg
from psycopg.pq.abc import PGresult
from pydantic import JsonValue

from statehub_plan import processes
from statehub_plan.access import resolve_path
from statehub_plan.errors import StatehubError
from statehub_plan.jsonpointer import PointerError, resolve, same_json
from statehub_plan.model.facts import Evidence, EvidenceStatus
from statehub_plan.model.spec import (
    CommandProbe,
    CutoverPlan,
    FileProbe,
    HttpProbe,
    KubernetesProbe,
    Probe,
    SqlProbe,
    Task,
    duration_s,
)
from statehub_plan.observe import http
from statehub_plan.observe.api import mismatch, shown
from statehub_plan.observe.gather import Clock, reason
from statehub_plan.observe.parallel import Attempt, in_parallel
from statehub_plan.observe.platform import Target, get_resource
from statehub_plan.observe.session import session
from statehub_plan.postgres.connect import Connection, resolve_dsn
from statehub_plan.redact import redact

FILE_TIMEOUT_S = 10.0
FILE_CAP = 64 << 20
_GRACE_S = 1.0  # beyond a probe's own time-out: so that it, and not we, says why there was no answer
_READ_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Finding:
    status: EvidenceStatus
    detail: str


@dataclass(frozen=True, slots=True)
class _Place:
    """What a probe may refer to."""

    plan: CutoverPlan | None
    base_dir: Path


def observe_evidence(
    tasks: Sequence[Task], plan: CutoverPlan | None, base_dir: Path, now: Clock
) -> tuple[Evidence, ...]:
    """One Evidence per probe of `tasks`, sorted by task and probe; all probes at once, each within its own time-out.

    `plan` gives the endpoints that sql and kubernetes probes name; without it those are unknown. Blocks for at most the
    longest time-out and a second. Changes nothing by itself; what a command does is the plan author's.
    """
    probes = [(task.id, probe) for task in tasks for probe in task.probes]
    findings: list[_Finding | None] = [None] * len(probes)
    place = _Place(plan, base_dir)
    looks = [_look(probe, place, findings, index) for index, (_, probe) in enumerate(probes)]
    limits = [_timeout_s(probe) + _GRACE_S for _, probe in probes]
    late_after_s = in_parallel(looks, limits)
    evidence = []
    for (task, probe), found, late_s in zip(probes, findings, late_after_s, strict=True):
        if found is None or late_s is not None:
            found = _Finding(EvidenceStatus.UNKNOWN, f"the probe did not end within {late_s:g} s")
        evidence.append(
            Evidence(task=task, probe=probe.name, status=found.status, detail=redact(found.detail), observed_at=now())
        )
    return tuple(sorted(evidence, key=lambda one: (one.task, one.probe)))


def _look(probe: Probe, place: _Place, findings: list[_Finding | None], index: int) -> Callable[[Attempt], None]:
    def look(attempt: Attempt) -> None:
        try:
            findings[index] = _carry_out(probe, place, attempt)
        except StatehubError as error:
            findings[index] = _Finding(EvidenceStatus.UNKNOWN, reason(error))

    return look


def _timeout_s(probe: Probe) -> float:
    return FILE_TIMEOUT_S if isinstance(probe, FileProbe) else duration_s(probe.timeout)


def _carry_out(probe: Probe, place: _Place, attempt: Attempt) -> _Finding:
    if isinstance(probe, HttpProbe):
        return _http(probe, attempt)
    if isinstance(probe, SqlProbe):
        return _sql(probe, place, attempt)
    if isinstance(probe, CommandProbe):
        return _command(probe, place, attempt)
    if isinstance(probe, FileProbe):
        return _file(probe, place)
    return _kubernetes(probe, place, attempt)


def _http(probe: HttpProbe, attempt: Attempt) -> _Finding:
    answer = http.get(probe.url, timeout_s=duration_s(probe.timeout), attempt=attempt)
    if answer.status != probe.status:
        return _failed(f"GET {probe.url}: HTTP {answer.status} instead of {probe.status}")
    problem = None if probe.pointer is None else mismatch(answer, probe.pointer, probe.equals)
    if problem is not None:
        return _failed(f"GET {probe.url}: {problem}")
    said = "" if probe.pointer is None else f", {probe.pointer} is {shown(probe.equals)}"
    return _passed(f"GET {probe.url}: HTTP {answer.status} in {answer.latency_ms} ms{said}")


def _sql(probe: SqlProbe, place: _Place, attempt: Attempt) -> _Finding:
    endpoint = place.plan.spec.endpoints.get(probe.endpoint) if place.plan else None
    if endpoint is None:
        return _unknown(f"there is no endpoint {probe.endpoint} to ask")
    dsn = resolve_dsn(endpoint.database.dsn, place.base_dir)
    timeout_s = duration_s(probe.timeout)
    with session(
        dsn, attempt, purpose="probe", connect_timeout_s=timeout_s, statement_timeout_s=timeout_s
    ) as connection:
        connection.execute("BEGIN READ ONLY")
        connection.execute('SET LOCAL search_path = "$user", public')
        try:
            columns, rows = _first_rows(connection, probe.query)
        except psycopg.Error as error:
            if connection.closed:
                raise
            text = error.diag.message_primary or " ".join(str(error).split())
            return _unknown(f"{probe.endpoint}: the query fails: {text}")
    if columns != 1 or len(rows) != 1:
        found = "no row" if not rows else "several rows" if len(rows) > 1 else f"{columns} columns"
        return _failed(f"{probe.endpoint}: the query must answer one row of one column, not {found}")
    return _compared(f"{probe.endpoint}: the query answers", rows[0], probe.equals, probe.at_least)


def _first_rows(connection: Connection, query: str) -> tuple[int, list[JsonValue]]:
    """How many columns a query answers, and the first column of its first two rows, however many there are.

    Sent by the extended protocol, which refuses more than one statement: none can end the read-only transaction.
    """
    with connection.cursor() as cursor:
        rows: list[JsonValue] = []
        for row in cursor.stream(query.encode()):
            rows.append(_json(row[0], cursor.pgresult) if row else None)
            if len(rows) == 2:
                break
        return len(cursor.description or ()), rows


def _json(value: object, result: PGresult | None) -> JsonValue:
    """A database value as JSON; what JSON has no form for (dates, intervals, UUIDs) as PostgreSQL's text."""
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, bool | int | float | str | list | dict):
        return value
    text = result.get_value(0, 0) if result is not None else None
    return text.decode() if text is not None else str(value)


def _command(probe: CommandProbe, place: _Place, attempt: Attempt) -> _Finding:
    ended = processes.run(probe.argv, timeout_s=duration_s(probe.timeout), cwd=place.base_dir, stop=attempt.stop)
    name = probe.argv[0]
    if ended.exit_status != probe.exit_status:
        return _failed(f"{name}: {ended.complaint()} (expected exit status {probe.exit_status})")
    wanted = probe.stdout_contains
    if wanted is not None and wanted not in ended.stdout:
        cut = f" in the first {processes.OUTPUT_CAP >> 20} MiB" if ended.truncated else ""
        return _failed(f"{name}: stdout does not contain {shown(wanted)}{cut}")
    return _passed(f"{name}: exit status {ended.exit_status} in {ended.elapsed_ms} ms")


def _file(probe: FileProbe, place: _Place) -> _Finding:
    path = resolve_path(probe.path, place.base_dir)
    try:
        if not path.exists():
            return _failed(f"{probe.path} does not exist")
        if not path.is_file():
            return _failed(f"{probe.path} is not a file")
        digest, content = _read(path, keep=probe.contains is not None)
    except OSError as error:
        return _unknown(f"{probe.path} can't be read: {error.strerror or error}")
    if probe.sha256 is not None and digest != probe.sha256:
        return _failed(f"{probe.path}: SHA-256 is {digest}, not {probe.sha256}")
    if probe.contains is not None and probe.contains.encode() not in content:
        return _failed(f"{probe.path} does not contain {shown(probe.contains)}")
    return _passed(f"{probe.path} is there" + (", as it must be" if probe.sha256 or probe.contains else ""))


def _read(path: Path, *, keep: bool) -> tuple[str, bytes]:
    """SHA-256 of a file of any size, and, if asked for, its first 64 MiB."""
    digest, content = hashlib.sha256(), bytearray()
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_CHUNK):
            digest.update(chunk)
            if keep:
                content += chunk[: FILE_CAP - len(content)]
    return digest.hexdigest(), bytes(content)


def _kubernetes(probe: KubernetesProbe, place: _Place, attempt: Attempt) -> _Finding:
    endpoint = place.plan.spec.endpoints.get(probe.endpoint) if place.plan and probe.endpoint else None
    if probe.endpoint is not None and (endpoint is None or endpoint.platform is None):
        return _unknown(f"there is no endpoint {probe.endpoint} with a platform to ask")
    platform = endpoint.platform if endpoint else None
    target = Target(
        context=probe.context or (platform.context if platform else None),
        namespace=probe.namespace or (platform.namespace if platform else None),
    )
    timeout_s = duration_s(probe.timeout)
    document = get_resource(probe.resource, target, place.base_dir, timeout_s=timeout_s, attempt=attempt)
    try:
        found = resolve(document, probe.pointer)
    except PointerError as error:
        return _failed(f"{probe.resource}: {error}")
    return _compared(f"{probe.resource}: {probe.pointer} is", found, probe.equals, None)


def _compared(what: str, found: JsonValue, equals: JsonValue, at_least: int | None) -> _Finding:
    if at_least is not None:
        number = isinstance(found, int | float) and not isinstance(found, bool)
        enough = number and found >= at_least  # type: ignore[operator]
        return (_passed if enough else _failed)(f"{what} {shown(found)}, at least {at_least} is wanted")
    if same_json(found, equals):
        return _passed(f"{what} {shown(found)}")
    return _failed(f"{what} {shown(found)} instead of {shown(equals)}")


def _passed(detail: str) -> _Finding:
    return _Finding(EvidenceStatus.PASSED, detail)


def _failed(detail: str) -> _Finding:
    return _Finding(EvidenceStatus.FAILED, detail)


def _unknown(detail: str) -> _Finding:
    return _Finding(EvidenceStatus.UNKNOWN, detail)
