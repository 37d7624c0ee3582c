"""The finite transition model: what a world is, what each step does to it, which worlds a crash can leave. Pure.

Used five times: the planner unfolds it, the diff draws it, policies see every world on the way, the applier compares
it with what it observes after each step, and a test enumerates all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Reach(StrEnum):
    """Whether the endpoint's database answers."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


class Writes(StrEnum):
    """`held`: writers wait and go on when the tool dies. `frozen`: durable, survives restarts."""

    OPEN = "open"
    HELD = "held"
    FROZEN = "frozen"
    UNKNOWN = "unknown"


class Data(StrEnum):
    """Content relative to the authoritative side. `equal` only where it was proved; `diverged` has rows of its own."""

    ABSENT = "absent"
    STALE = "stale"
    EQUAL = "equal"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"


class Follows(StrEnum):
    """Whether this side receives the other side's changes."""

    NOBODY = "nobody"
    COPYING = "copying"
    STREAMING = "streaming"
    BROKEN = "broken"


class Health(StrEnum):
    """The API's own answer."""

    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """`new` is the endpoint that the wish names as primary, `old` the other one."""

    OLD = "old"
    NEW = "new"
    UNKNOWN = "unknown"


class Term(StrEnum):
    """`pending`: the primary is durably frozen for a decision that has not fallen. `burned`: that decision can no
    longer fall and the primary is still frozen."""

    SETTLED = "settled"
    PENDING = "pending"
    BURNED = "burned"
    UNKNOWN = "unknown"


class TransferStage(StrEnum):
    """How far the final copy has come under the current hold; nothing beyond `prepared` outlives a hold."""

    NONE = "none"
    PREPARED = "prepared"
    ARRIVED = "arrived"
    SEQUENCED = "sequenced"
    PROVED = "proved"


class Access(StrEnum):
    """Where clients are really pointed."""

    OLD = "old"
    NEW = "new"
    SPLIT = "split"
    UNKNOWN = "unknown"


class Due(StrEnum):
    """State of something that must have happened recently enough."""

    DONE = "done"
    DUE = "due"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Evidence(StrEnum):
    """Evidence of earlier tasks: `recorded` in this run's journal, `complete` but not recorded yet, or not there."""

    RECORDED = "recorded"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNKNOWN = "unknown"


class Stable(StrEnum):
    """Stabilization of the new primary."""

    NONE = "none"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Side:
    """One endpoint, abstracted."""

    reach: Reach = Reach.REACHABLE
    writes: Writes = Writes.UNKNOWN
    data: Data = Data.UNKNOWN
    follows: Follows = Follows.NOBODY
    health: Health = Health.UNKNOWN


@dataclass(frozen=True, slots=True)
class World:
    """One finite world. `primary` is what the decision register says (before any decision: the declared old side)."""

    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)
    primary: Role = Role.UNKNOWN
    term: Term = Term.UNKNOWN
    transfer: TransferStage = TransferStage.NONE
    access: Access = Access.UNKNOWN
    evidence: Evidence = Evidence.UNKNOWN
    backup: Due = Due.UNKNOWN
    restore_drill: Due = Due.UNKNOWN
    failover_drill: Due = Due.UNKNOWN
    rehearsal: Due = Due.UNKNOWN
    stabilization: Stable = Stable.NONE
    document: Due = Due.UNKNOWN
    retired: bool = False
