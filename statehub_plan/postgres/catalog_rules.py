"""What may differ between two catalogs that mean the same: a closed list of rules, each with its reason.

Whatever no rule here names is a difference. A rule sees one aspect of one object on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from statehub_plan.postgres.catalog_binding import BINDING
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.snapshot import pin_rendering
from statehub_plan.postgres.spelling import same_expression

__all__ = [
    "RULES",
    "Case",
    "CatalogObject",
    "Judge",
    "Rule",
    "excuse",
    "excuse_one_sided",
    "unknown_privileges",
]

_MAINTAIN_SINCE = 170000
_DROPPED_QUALIFIERS_SINCE = 160000
_DATABASE_COLLATIONS_SINCE = 150000
_WITH_CONDITIONS = frozenset({"trigger", "constraint", "index", "policy"})
_EXPRESSIONS = frozenset(
    {
        ("column", "default"),
        ("type", "default"),
        ("relation", "partition key"),
        ("rule", "definition"),
        ("statistics", "definition"),
    }
)
_BODY = "\nAS "
_ROUTINE = re.compile(r"""(CREATE OR REPLACE (?:FUNCTION|PROCEDURE) )(?:"(?:[^"]|"")+"|[^".]+)\.""")

_NAMED_NOT_NULL_SINCE = {"column": 180000, "type": 170000}
_DEFAULT_VERSION = " (its server's default)"


@dataclass(frozen=True, slots=True)
class CatalogObject:
    """One object and what the catalog says about it, with names instead of OIDs."""

    kind: str
    name: str
    table: str | None
    definition: dict[str, Any]

    @property
    def unseen(self) -> str | None:
        """Why this session's role may not see what it says; None where it may."""
        return self.definition.get("unseen")


class Judge:
    """Says how the newer server writes what the older one wrote, so that two spellings of one meaning can be told from
    two meanings. Works in transactions that are rolled back; needs TEMPORARY on the database."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """`connect`: a session of its own on the server with the higher version, in autocommit mode; asked for when
        the first question comes, and closed by whoever gave it."""
        self._connect = connect
        self._connection: Connection | None = None

    def view(self, definition: str) -> str | None:
        """The view's definition in this server's words; None when it doesn't accept it."""
        create = sql.SQL("CREATE TEMPORARY VIEW statehub_plan_judged AS {}").format(sql.SQL(definition.rstrip("; \n")))
        return self._say(create, "SELECT pg_get_viewdef('pg_temp.statehub_plan_judged'::regclass)")

    def routine(self, definition: str) -> str | None:
        """The routine's definition in this server's words; None when it doesn't accept it."""
        head = _ROUTINE.match(definition)
        if head is None:
            return None
        # Its body may call an argument by the routine's own name.
        create = sql.SQL(f"{head[1]}pg_temp.{definition[head.end() :]}")
        said = self._say(
            create, "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = pg_my_temp_schema()"
        )
        there = said and _ROUTINE.match(said)
        return f"{head[0]}{said[there.end() :]}" if said and there else None

    def _say(self, create: sql.SQL | sql.Composed, ask: str) -> str | None:
        if self._connection is None:
            self._connection = self._connect()
            pin_rendering(self._connection)
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(create)
                row = self._connection.execute(sql.SQL(ask)).fetchone()
        except (psycopg.errors.ProgrammingError, psycopg.errors.ReadOnlySqlTransaction):
            return None
        return str(row[0]) if row else None


@dataclass(frozen=True, slots=True)
class Case:
    """One aspect that is not the same on both sides, and who can judge whether it means the same."""

    source: CatalogObject
    target: CatalogObject
    aspect: str
    source_version: int
    target_version: int
    judge: Judge

    @property
    def values(self) -> tuple[Any, Any]:
        """What the older and what the newer server says."""
        both = self.source.definition.get(self.aspect), self.target.definition.get(self.aspect)
        return both if self.source_version <= self.target_version else both[::-1]

    def steps_over(self, version: int) -> bool:
        """Whether one of the servers is older than `version` and the other is not."""
        return min(self.source_version, self.target_version) < version <= max(self.source_version, self.target_version)


@dataclass(frozen=True, slots=True)
class Rule:
    """A difference that is none: the reason, for people, and when it applies."""

    reason: str
    applies: Callable[[Case], bool]


def _extension_follows_major(case: Case) -> bool:
    """Each is what CREATE EXTENSION makes on its own server, and no other one."""
    majors = case.source_version // 10000, case.target_version // 10000
    is_it = case.source.kind == "extension" and case.aspect == "version" and majors[0] != majors[1]
    return is_it and all(str(value).endswith(_DEFAULT_VERSION) for value in case.values)


def _same_version(case: Case) -> bool:
    is_it = case.source.kind == "extension" and case.aspect == "version"
    older, newer = (str(value).removesuffix(_DEFAULT_VERSION) for value in case.values)
    return is_it and older == newer


def _of_another_version(case: Case) -> bool:
    versions = (
        str(found.definition.get("version")).removesuffix(_DEFAULT_VERSION) for found in (case.source, case.target)
    )
    return case.source.kind == "extension" and case.aspect == "relations" and len(set(versions)) > 1


def _unnamed_not_null(case: Case) -> bool:
    unknown = case.values[0] is None if case.aspect == "not null constraint" else case.aspect == "not null is local"
    since = _NAMED_NOT_NULL_SINCE.get(case.source.kind) if unknown else None
    return since is not None and case.steps_over(since)


def _binds_alike(case: Case) -> bool:
    """Without this two spellings are two meanings, whatever a server makes of them (`catalog_binding`)."""
    return bool(case.source.definition.get(BINDING) == case.target.definition.get(BINDING))


def _read_again(case: Case) -> bool:
    if not _binds_alike(case):
        return False
    older, newer = case.values
    if (case.source.kind, case.aspect) == ("publication", "tables"):
        return _same_filters(older or (), newer or ())
    if not isinstance(older, str) or not isinstance(newer, str):
        return False
    if (case.source.kind, case.aspect) == ("routine", "definition"):
        # The rest is kept as it was written.
        (older, *body), (newer, *other_body) = (text.split(_BODY, 1) for text in (older, newer))
        return bool(body) and body == other_body and same_expression(older, newer)
    is_one = case.source.kind in _WITH_CONDITIONS or (case.source.kind, case.aspect) in _EXPRESSIONS
    return is_one and same_expression(older, newer)


def _same_filters(older: Sequence[Any], newer: Sequence[Any]) -> bool:
    """Of the same tables with the same columns."""
    return len(older) == len(newer) and all(
        one[:-1] == other[:-1] and same_expression(one[-1] or "", other[-1] or "")
        for one, other in zip(older, newer, strict=True)
    )


def _dropped_qualifiers(case: Case) -> bool:
    return case.steps_over(_DROPPED_QUALIFIERS_SINCE) and _spelled_alike(case)


def _spelled_anew(case: Case) -> bool:
    return not case.steps_over(_DROPPED_QUALIFIERS_SINCE) and _spelled_alike(case)


def _spelled_alike(case: Case) -> bool:
    if not _binds_alike(case):
        return False
    older, newer = case.values
    if not isinstance(older, str) or not isinstance(newer, str):
        return False
    if (case.source.kind, case.aspect) == ("relation", "view"):
        said = case.judge.view(older)
        return said is not None and said in (newer, case.judge.view(newer))
    if (case.source.kind, case.aspect) == ("routine", "definition") and case.source.definition["sql body"]:
        said = case.judge.routine(older)
        return said is not None and said in (newer, case.judge.routine(newer))
    return False


def _no_version_recorded(case: Case) -> bool:
    is_it = case.source.kind == "database" and case.aspect == "version"
    return is_it and case.steps_over(_DATABASE_COLLATIONS_SINCE) and case.values[0] is None


RULES: tuple[Rule, ...] = (
    Rule("each is the default version of its server's major version", _extension_follows_major),
    Rule("it is the same version, and one server's default alone", _same_version),
    Rule("another version of an extension consists of other tables and views", _of_another_version),
    Rule("NOT NULL has a name from 18 on, a domain's from 17 on", _unnamed_not_null),
    Rule(
        "once they were dumped and read again, chains of AND and OR are flat and lists are converted member by member",
        _read_again,
    ),
    Rule(
        "16 and newer name no table where only one is read; the newer server spells both the same",
        _dropped_qualifiers,
    ),
    Rule("the newer server spells it anew once it was dumped and read again", _spelled_anew),
    Rule("before 15 no server recorded the version of a database's collation", _no_version_recorded),
)


def excuse(case: Case) -> str | None:
    """The reason of the first rule that applies; None for a real difference."""
    return next((rule.reason for rule in RULES if rule.applies(case)), None)


def excuse_one_sided(found: CatalogObject, *, on_newer: bool) -> str | None:
    """Why it is no difference that only one side has this; `on_newer`: that side is of a later version."""
    if found.kind == "built-in" and on_newer:
        return "a later major version brought it along"
    if found.kind == "role" and not (found.name.startswith("pg_") and found.definition["members"]):
        return "whatever names it here is told itself"
    return None


def unknown_privileges(oldest_version: int) -> list[str]:
    """Privileges that the older server has no word for: 17 added MAINTAIN, which ALL includes there."""
    return ["MAINTAIN"] if oldest_version < _MAINTAIN_SINCE else []
