"""Runs checks: all questions of a side in one round trip, both sides at once, in another what depends on both sides'
answers, then the judgements. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from statehub_plan.errors import StatehubError
from statehub_plan.model.preflight import Found, Severity, Side
from statehub_plan.postgres.checks.declare import (
    Answers,
    Ask,
    Check,
    FirstWord,
    FollowUp,
    Look,
    Move,
    Probe,
    Query,
    Seen,
    SessionInfo,
    Unanswered,
)
from statehub_plan.postgres.checks.registry import CHECKS
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.snapshot import RENDERING
from statehub_plan.redact import redact

__all__ = ["MOST", "End", "run_checks", "run_on_one_side"]

MOST = 50
"""So many objects are named per check and side; the rest is counted."""

_STATEMENT_TIMEOUT_MS = 5000
_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class End:
    """One side as checks reach it: an idle session in autocommit mode of the tool's role; where another role is to
    create subscriptions there, a session of that one; how the *other* server would come here (default: as the tool
    does); the service's roles; the bytes left on its disk, if known."""

    connection: Connection
    subscriber: Connection | None = None
    replication_dsn: str | None = None
    app_roles: Sequence[str] = ()
    disk_free_bytes: int | None = None
    disk_unknown_because: str = ""


def run_checks(
    source: End,
    target: End,
    move: Move,
    *,
    checks: Collection[Check] | None = None,
    now: Clock = lambda: datetime.now(UTC),
    statement_timeout_ms: int = _STATEMENT_TIMEOUT_MS,
) -> tuple[Found, ...]:
    """Everything that `checks` (default: all) have to say about moving `source` to `target`: errors first, then by
    side, in the order of their declaration; at most MOST objects per check and side, and a count of the others.

    Reads catalogs only, within read-only transactions, in two round trips per session, both sides in parallel; blocks
    for at most `statement_timeout_ms` per question. A question that the server refuses makes the checks that need it
    say so with their own severity: unknown is not fine. StatehubError `preflight-unanswered` when a session is lost.
    """
    chosen = CHECKS if checks is None else tuple(checks)
    placed = [(one, side) for one in chosen for side in one.sides(move)]
    questions = {side: _questions(placed, side) for side in Side}
    ends = {Side.SOURCE: source, Side.TARGET: target}

    def ask(side: Side) -> tuple[Answers, Answers]:
        here, actor = questions[side]
        return _ask_end(ends[side], here, actor, move, now, statement_timeout_ms)

    def follow_up(side: Side) -> tuple[Answers, Answers]:
        return _follow_up(ends[side], side, answers, questions[side][0], statement_timeout_ms)

    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = dict(zip(Side, pool.map(ask, Side), strict=True))
        answers = dict(zip(Side, pool.map(follow_up, Side), strict=True))
    found = [one for check, side in placed for one in _judged(check, side, move, answers)]
    return _sorted(found)


def run_on_one_side(
    end: End, side: Side, move: Move, checks: Collection[Check], *, statement_timeout_ms: int = _STATEMENT_TIMEOUT_MS
) -> tuple[Found, ...]:
    """The same for checks that ask nothing of the other side."""
    placed = [(one, side) for one in checks if side in one.sides(move) and not one.there]
    here, actor = _questions(placed, side)
    answers = _ask_end(end, here, actor, move, lambda: datetime.now(UTC), statement_timeout_ms)
    return _sorted([one for check, _ in placed for one in _judged(check, side, move, dict.fromkeys(Side, answers))])


def _other(side: Side) -> Side:
    return Side.TARGET if side is Side.SOURCE else Side.SOURCE


def _questions(placed: Sequence[tuple[Check, Side]], side: Side) -> tuple[tuple[Ask, ...], tuple[Ask, ...]]:
    here = [ask for check, at in placed for ask in (check.here if at is side else check.there)]
    actor = [ask for check, at in placed if at is side for ask in check.actor]
    return tuple(dict.fromkeys(here)), tuple(dict.fromkeys(actor))


def _ask_end(
    end: End,
    here: Sequence[Ask],
    actor: Sequence[Ask],
    move: Move,
    now: Clock,
    timeout_ms: int,
) -> tuple[Answers, Answers]:
    """The answers of the tool's session and of the one that would subscribe; one session asks only once."""
    if end.subscriber is None:
        answers = _ask(end, end.connection, tuple(dict.fromkeys((*here, *actor))), move, now, timeout_ms)
        return answers, answers
    return (
        _ask(end, end.connection, here, move, now, timeout_ms),
        _ask(end, end.subscriber, actor, move, now, timeout_ms),
    )


def _ask(end: End, connection: Connection, asks: Sequence[Ask], move: Move, now: Clock, timeout_ms: int) -> Answers:
    info = _session_info(end, connection)
    values: dict[str, object] = {"app_roles": list(end.app_roles)}
    first = (ask.first if isinstance(ask, FollowUp) else ask for ask in asks)
    queries = [ask for ask in dict.fromkeys(first) if isinstance(ask, Query)]
    began = now()
    try:
        given: dict[Ask, Any] = _query(connection, queries, values, timeout_ms)
        info = replace(info, asked_between=(began, now()))
        for ask in asks:
            if isinstance(ask, Probe):
                given[ask] = _probe(connection, ask, move)
    except psycopg.Error as error:
        raise _lost(info, error) from error
    return Answers(info, given)


def _lost(info: SessionInfo, error: psycopg.Error) -> StatehubError:
    return StatehubError(
        code="preflight-unanswered",
        what=f"the session to {info.database} was lost while it was being checked: {_text(error)}",
        hint="look at the server's log and the network, then run this again",
    )


def _follow_up(
    end: End, side: Side, answers: Mapping[Side, tuple[Answers, Answers]], asks: Sequence[Ask], timeout_ms: int
) -> tuple[Answers, Answers]:
    """A side's answers with those to what was asked again, now that the other side's are known."""
    (here, actor), (there, other_actor) = answers[side], answers[_other(side)]
    given = dict(here.given)
    for ask in asks:
        if isinstance(ask, FollowUp):
            try:
                word = FirstWord(
                    side=side,
                    mine=here.value(ask.first),
                    other=there.value(ask.first),
                    roles=frozenset({here.info.role, actor.info.role}),
                    other_roles=frozenset({there.info.role, other_actor.info.role}),
                    version_num=here.info.version_num,
                    other_version_num=there.info.version_num,
                )
                given[ask] = _asked_again(end.connection, ask.ask(word), timeout_ms)
            except Unanswered as reason:
                given[ask] = reason
            except psycopg.Error as error:
                raise _lost(here.info, error) from error
    return replace(here, given=given), actor


def _asked_again(connection: Connection, texts: Mapping[str, str], timeout_ms: int) -> dict[str, Any]:
    queries = [Query(text) for text in texts.values()]
    pinned = [f"SET LOCAL {name} = '{value}'" for name, value in RENDERING.items()]
    found = dict(zip(texts, _query(connection, queries, {}, timeout_ms, pinned).values(), strict=True))
    for name, rows in found.items():
        if isinstance(rows, Unanswered):
            raise Unanswered(f"{name}: {rows}")
    return found


def _session_info(end: End, connection: Connection) -> SessionInfo:
    way_in: dict[str, Any] = {"password": end.connection.info.password or None}
    if end.replication_dsn is not None:
        way_in = conninfo_to_dict(end.replication_dsn)
    return SessionInfo(
        role=connection.info.user,
        database=connection.info.dbname,
        version_num=connection.info.server_version,
        replication_user=_text_of(way_in, "user"),
        replication_password=_text_of(way_in, "password"),
        app_roles=tuple(end.app_roles),
        disk_free_bytes=end.disk_free_bytes,
        disk_unknown_because=end.disk_unknown_because,
    )


def _text_of(parameters: Mapping[str, object], name: str) -> str | None:
    value = parameters.get(name)
    return None if value is None else str(value)


def _query(
    connection: Connection,
    queries: Sequence[Query],
    values: Mapping[str, object],
    timeout_ms: int,
    pinned: Sequence[str] = (),
) -> dict[Ask, Any]:
    """All of them in one round trip; one that fails takes the others with it, so then each is asked by itself."""
    if not queries:
        return {}
    try:
        return dict(zip(queries, _together(connection, queries, values, timeout_ms, pinned), strict=True))
    except psycopg.Error as error:
        if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            raise
        if len(queries) == 1:
            return {queries[0]: Unanswered(_text(error))}
    alone: dict[Ask, Any] = {}
    for query in queries:
        alone |= _query(connection, [query], values, timeout_ms, pinned)
    return alone


def _together(
    connection: Connection,
    queries: Sequence[Query],
    values: Mapping[str, object],
    timeout_ms: int,
    pinned: Sequence[str],
) -> list[list[tuple[Any, ...]]]:
    """The rows of each, asked in one message of many statements (manual, 55.2.2.1): a pipeline would do as well, but
    there a failure has to be cleared away. A caller's own transaction is used as it is."""
    idle = connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE
    statements = [_statement(query, values) for query in queries]
    if idle:
        statements = [_BEGIN, f"SET LOCAL statement_timeout = {timeout_ms}", *pinned, *statements, "COMMIT"]
    try:
        cursor = connection.execute(";\n".join(statements).encode())
    except psycopg.Error:
        if idle and not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.execute("ROLLBACK")
        raise
    answers = []
    while True:
        if cursor.description is not None:
            answers.append(cursor.fetchall())
        if not cursor.nextset():
            return answers


def _statement(query: Query, values: Mapping[str, object]) -> str:
    given = {name: sql.Literal(values[name]) for name in query.parameters}
    return sql.SQL(query.text).format(**given).as_string(None) if given else query.text


def _probe(connection: Connection, probe: Probe, move: Move) -> Any:
    try:
        return probe.look(connection, move)
    except (psycopg.Error, StatehubError) as error:
        if connection.closed or connection.info.transaction_status is TransactionStatus.INERROR:
            raise
        return Unanswered(error.what if isinstance(error, StatehubError) else _text(error))


def _text(error: psycopg.Error) -> str:
    return redact(" ".join((error.diag.message_primary or str(error)).split()))


def _judged(check: Check, side: Side, move: Move, answers: dict[Side, tuple[Answers, Answers]]) -> Iterable[Found]:
    here, actor = answers[side]
    look = Look(side=side, move=move, here=here, there=answers[_other(side)][0], actor=actor)
    try:
        seen = iter(check.judge(look))
        named = list(islice(seen, MOST))
        beyond = sum(1 for _ in seen)
    except Unanswered as reason:
        named, beyond = [_not_looked_at(check, reason)], 0
    if beyond:
        named.append(Seen(f"and {beyond} more", "remedy these first, then check again"))
    for one in named:
        yield Found(
            id=check.id,
            severity=check.severity,
            side=side,
            subject=one.subject,
            what=one.what,
            reason=check.reason,
            remedy=one.remedy,
        )


def _not_looked_at(check: Check, reason: Unanswered) -> Seen:
    return Seen(
        f"could not be looked at ({check.title}): {reason}",
        "give the tool's role the privilege that is named, or look why the server did not answer, then check again",
    )


def _sorted(found: Sequence[Found]) -> tuple[Found, ...]:
    alone = [one for one in found if one.id == "same-database"]
    sides = list(Side)
    return tuple(sorted(alone or found, key=lambda one: (_ORDER.index(one.severity), sides.index(one.side))))
