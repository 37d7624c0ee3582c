"""How a check is declared: what it asks of which side, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from psycopg import sql

from statehub_plan.model.preflight import Severity, Side
from statehub_plan.model.spec import TransferMethod, Waiver
from statehub_plan.postgres.connect import Connection

__all__ = [
    "Answers",
    "Ask",
    "Check",
    "FirstWord",
    "FollowUp",
    "Look",
    "Move",
    "Place",
    "Probe",
    "Query",
    "Seen",
    "SessionInfo",
    "Unanswered",
    "check",
    "declared",
    "ident",
    "literal",
    "read_write",
]

Row = tuple[Any, ...]


class Place(StrEnum):
    """Where a check looks. A *publisher* sends changes and a *subscriber* applies them: source and target on the way
    there, and exchanged where the fallback is to follow."""

    EACH = "each side"
    SOURCE = "source"
    TARGET = "target"
    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"
    REVERSE_SUBSCRIBER = "reverse subscriber"


@dataclass(frozen=True, slots=True)
class Move:
    """What is intended, as far as checks depend on it. `following`: the fallback is to follow, so that the reverse
    direction must be possible too. `replace`: what the target holds is; `replaces_kept`: a fallback that was kept as it
    was frozen is in any case. `waive`: what the plan leaves out of the comparison.
    `reads_changes`: the proof under the hold reads a temporary slot on each side.
    Transactions younger than `patience_s` are nobody's problem."""

    method: TransferMethod
    following: bool = False
    replace: bool = False
    replaces_kept: bool = False
    waive: tuple[Waiver, ...] = ()
    patience_s: float = 10.0
    reads_changes: bool = False

    @property
    def waived_tables(self) -> frozenset[str]:
        """As `schema.table`."""
        return frozenset(one.table for one in self.waive if one.table is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One statement that reads catalogs. `parameters` are names in braces that stand for values
    of the session's side."""

    text: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """What no single statement can tell: a function that reads through a session of its own accord."""

    look: Callable[[Connection, Move], Any]


@dataclass(frozen=True, slots=True)
class FirstWord:
    """What both sides have answered before one of them is asked more: the one that is asked and the other one, with
    the roles that the tool uses on each."""

    side: Side
    mine: Mapping[str, Any]
    other: Mapping[str, Any]
    roles: frozenset[str]
    other_roles: frozenset[str]
    version_num: int
    other_version_num: int


@dataclass(frozen=True, slots=True, eq=False)
class FollowUp:
    """What is asked of a side once both have answered `first`, with one value, an object. `ask`: the statements by
    name, one round trip for all; the answer is a dict of rows by these names, in words that depend on no setting of the
    session's."""

    first: Query
    ask: Callable[[FirstWord], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Whose session answered, where, and between which two readings of this host's clock."""

    role: str
    database: str
    version_num: int
    replication_user: str | None = None
    replication_password: str | None = None
    app_roles: tuple[str, ...] = ()
    disk_free_bytes: int | None = None
    disk_unknown_because: str = ""
    asked_between: tuple[datetime, datetime] | None = None

    @property
    def major(self) -> int:
        """15 for 15.18."""
        return self.version_num // 10000


Ask = Query | Probe | FollowUp


class Unanswered(Exception):
    """A question that the server did not answer; the check that needs it is not made and says so."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one session answered."""

    info: SessionInfo
    given: Mapping[Ask, Any] = field(default_factory=dict)

    def rows(self, query: Query) -> list[Row]:
        """All rows of an answer."""
        found: list[Row] = self.probed(query)
        return found

    def row(self, query: Query) -> Row:
        """The only row."""
        rows = self.rows(query)
        if not rows:
            raise Unanswered("the server's answer was empty")
        return rows[0]

    def value(self, query: Query) -> Any:
        """The only value."""
        return self.row(query)[0]

    def probed(self, ask: Ask) -> Any:
        """What a probe or a follow-up brought back."""
        found = self.given[ask]
        if isinstance(found, Unanswered):
            raise found
        return found


@dataclass(frozen=True, slots=True)
class Look:
    """What a check sees: the side that it looks at, the other one, and the session whose role would subscribe."""

    side: Side
    move: Move
    here: Answers
    there: Answers
    actor: Answers

    @property
    def is_reverse(self) -> bool:
        """Whether this is about the way back, on which the source subscribes."""
        return self.side is Side.SOURCE


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that a check has to say, before its declaration is added."""

    what: str
    remedy: str = ""
    subject: str = ""


Judge = Callable[[Look], Iterable[Seen]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `here`, `there`, `actor`: what it asks of the side that it looks at, of the other side, and of the
    session that would subscribe. `title` says what is demanded, `reason` which incident that prevents."""

    id: str
    theme: str
    severity: Severity
    place: Place
    title: str
    reason: str
    judge: Judge
    methods: Collection[TransferMethod]
    here: tuple[Ask, ...]
    there: tuple[Ask, ...]
    actor: tuple[Ask, ...]

    @property
    def replication_only(self) -> bool:
        """Whether a dump does not care."""
        return TransferMethod.DUMP not in self.methods

    def sides(self, move: Move) -> tuple[Side, ...]:
        """Where it has to look for this move; nowhere when it does not concern it."""
        if move.method not in self.methods:
            return ()
        back = move.following
        return {
            Place.EACH: (Side.SOURCE, Side.TARGET),
            Place.SOURCE: (Side.SOURCE,),
            Place.TARGET: (Side.TARGET,),
            Place.PUBLISHER: (Side.SOURCE, Side.TARGET) if back else (Side.SOURCE,),
            Place.SUBSCRIBER: (Side.SOURCE, Side.TARGET) if back else (Side.TARGET,),
            Place.REVERSE_SUBSCRIBER: (Side.SOURCE,) if back else (),
        }[self.place]


_BOTH = frozenset(TransferMethod)
_REPLICATION = frozenset({TransferMethod.REPLICATION})
_REPLICATION_PLACES = frozenset({Place.PUBLISHER, Place.SUBSCRIBER, Place.REVERSE_SUBSCRIBER})
_declared: dict[str, Check] = {}


def check(
    check_id: str,
    severity: Severity,
    place: Place,
    *,
    title: str,
    reason: str,
    here: tuple[Ask, ...] = (),
    there: tuple[Ask, ...] = (),
    actor: tuple[Ask, ...] = (),
    replication_only: bool = False,
) -> Callable[[Judge], Judge]:
    """Declares the function below it as a check; its module is its theme."""

    def declare(judge: Judge) -> Judge:
        if check_id in _declared:
            raise ValueError(f"two checks are called {check_id}")
        _declared[check_id] = Check(
            id=check_id,
            theme=judge.__module__.rpartition(".")[2].replace("_", " "),
            severity=severity,
            place=place,
            title=title,
            reason=reason,
            judge=judge,
            methods=_REPLICATION if replication_only or place in _REPLICATION_PLACES else _BOTH,
            here=here,
            there=there,
            actor=actor,
        )
        return judge

    return declare


def declared() -> tuple[Check, ...]:
    """Every check of the modules imported so far, in the order of their declaration."""
    return tuple(_declared.values())


def ident(*names: str) -> str:
    """A quoted, dotted name for a statement that a person will run."""
    return sql.Identifier(*names).as_string(None)


def read_write(*statements: str) -> str:
    """Statements that a person will run in a database that a fence may have made read-only."""
    return "; ".join(("BEGIN READ WRITE", *statements, "COMMIT"))


def literal(text: str) -> str:
    """A quoted string for a statement that a person will run."""
    return sql.Literal(text).as_string(None)
