"""What is kept: approvals, journal records, leases, runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from statehub_plan.model.base import Frozen, Instant
from statehub_plan.model.plan import Identity


class Statement(Frozen):
    """Exactly what an approver signs (canonical JSON, namespace `statehub-plan-approval@v1`). `act` is `approve` or
    `revoke`; a revocation names the same gate and effects. `author` is the plan's author as shown to the signer: an
    own plan stays an own plan when somebody else plans the same effects again."""

    schema_version: Literal["statehub-plan/approval/v1"] = "statehub-plan/approval/v1"
    act: Literal["approve", "revoke"]
    plan_name: str
    gate: str
    effects_digest: str
    evidence_digest: str
    old: str
    new: str
    identities: dict[str, Identity]
    term: int
    guarded_steps: tuple[str, ...]
    principal: str
    author: str
    signed_at: Instant
    decide_by: Instant
    execute_by: Instant
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    nonce: str


class SignedStatement(Frozen):
    """A statement and its armored SSH signature, one file each in the approvals folder."""

    statement: Statement
    signature: str


class ApprovalStatus(StrEnum):
    """Why an approval counts, or why it does not."""

    VALID = "valid"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    OTHER_EFFECTS = "other-effects"
    OTHER_EVIDENCE = "other-evidence"
    OTHER_IDENTITY = "other-identity"
    BAD_SIGNATURE = "bad-signature"
    UNKNOWN_SIGNER = "unknown-signer"
    NOT_AN_APPROVER = "not-an-approver"
    AUTHOR = "author"
    MALFORMED = "malformed"


class JudgedApproval(Frozen):
    """One approval after judgement. `fingerprint` is `SHA256:…` of the key that really signed. A file that cannot be
    read has an empty `principal`; a revocation appears here only where it does not count, and then says so."""

    gate: str
    principal: str
    fingerprint: str | None
    status: ApprovalStatus
    detail: str
    reason: str = ""
    signed_at: Instant | None = None
    decide_by: Instant | None = None
    execute_by: Instant | None = None
    by_author: bool = False
    source: str


class GateState(Frozen):
    """A gate with the approvals that count for it: satisfied when at least `quorum` distinct keys of as many people
    are valid. `fingerprints` holds one valid key per person."""

    gate: str
    quorum: int
    satisfied: bool
    fingerprints: tuple[str, ...]
    approvals: tuple[JudgedApproval, ...]


class RecordKind(StrEnum):
    """What a journal record says."""

    RUN_STARTED = "run-started"
    RUN_RESUMED = "run-resumed"
    RUN_FINISHED = "run-finished"
    RUN_ABORTED = "run-aborted"
    VERDICT = "verdict"
    GATE_PASSED = "gate-passed"
    STEP_INTENT = "step-intent"
    STEP_DONE = "step-done"
    STEP_FAILED = "step-failed"
    STEP_WAITING = "step-waiting"
    STEP_ABORTED = "step-aborted"
    FACT = "fact"


class Record(Frozen):
    """One link of the journal's hash chain: `hash` covers every other field, `prev` is the hash before it
    (64 zeros for the first)."""

    seq: int
    service: str
    plan_name: str
    run: str
    epoch: int
    at: Instant
    kind: RecordKind
    step: str | None
    payload: dict[str, JsonValue]
    prev: str
    hash: str


class Lease(Frozen):
    """The right to change one service's world. A higher epoch fences every lower one, also inside the databases.
    Who may hold it is decided by a lock of the operating system or server; the instants only inform people."""

    service: str
    holder: str
    host: str | None = None
    pid: int | None = None
    epoch: int
    acquired_at: Instant
    heartbeat_at: Instant
    expires_at: Instant


class CriterionStatus(StrEnum):
    """Whether an entry criterion holds."""

    MET = "met"
    UNMET = "unmet"
    UNKNOWN = "unknown"


class CriterionState(Frozen):
    """An entry criterion after a look at the journal and the other lanes' documents."""

    name: str
    lane: str
    status: CriterionStatus
    detail: str


RESTORE_DRILL = "statehub-plan/restore-drill/v2"
"""What the report of a restore drill is called. Those of an earlier release compared rows and nothing else."""


def drill_outdated(detail: Mapping[str, JsonValue]) -> bool:
    """Whether a restore drill on record is of an earlier release, whose drills count no longer."""
    report = detail.get("report")
    return isinstance(report, Mapping) and report.get("schema_version") != RESTORE_DRILL


class DrillRecord(Frozen):
    """The newest drill of one kind (`restore` or `failover`) as recorded in the journal."""

    kind: str
    passed: bool
    at: Instant
    detail: dict[str, JsonValue] = Field(default_factory=dict)


class History(Frozen):
    """What the journal says about one plan: everything a verdict may depend on besides the observed world."""

    unknown_steps: tuple[str, ...] = ()
    finished_runs: tuple[str, ...] = ()
    drills: tuple[DrillRecord, ...] = ()
    criteria: tuple[CriterionState, ...] = ()
    gates_passed: tuple[str, ...] = ()


class RunContext(Frozen):
    """Who is asking, for which step; before a run exists `id` is empty and `epoch` is 0."""

    id: str = ""
    author: str
    epoch: int = 0
    step: str | None = None
