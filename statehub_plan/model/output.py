"""What `--json` prints where it is not an artefact by itself. Published in schemas/, so a contract."""

from __future__ import annotations

from typing import Literal

from statehub_plan.model.base import Frozen, JsonValue
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Verdict
from statehub_plan.model.preflight import Found, Severity
from statehub_plan.model.record import GateState, Record
from statehub_plan.model.spec import TransferMethod
from statehub_plan.model.stream import Orphan, Stream


class ErrorOutput(Frozen):
    """What went wrong, to what, and what to do about it. `exit_status` is what the process ends with."""

    code: str
    what: str
    details: tuple[str, ...]
    remedy: str
    exit_status: int


class FailureOutput(Frozen):
    """What any command prints when it could not do what it was asked."""

    error: ErrorOutput


class ValidDocument(Frozen):
    """A document without problems, and the lane that it describes."""

    path: str
    name: str


class ValidateOutput(Frozen):
    """`validate`: every problem as `file:line:column: what; remedy`."""

    valid: bool
    documents: tuple[ValidDocument, ...]
    problems: tuple[str, ...]


class ObserveOutput(Frozen):
    """`observe`: every fact, the evidence of every task, and where the stream into each endpoint stands."""

    observation: Observation
    evidence: tuple[Evidence, ...]
    streams: dict[str, Stream]


class FailoverDrillOutput(Frozen):
    """`drill failover`: `probes` says of each probe how it ended; `duration_s` from the command to the last of them."""

    endpoint: str
    passed: bool
    duration_s: float
    probes: dict[str, str]
    error: ErrorOutput | None


class GuardOutput(Frozen):
    """`guard`: the stream into the fallback after the look, and its slot where that had to be dropped. `orphans`: slots
    of the tool's that are left and that nobody is going to read; `orphans_dropped`: those that had to be dropped."""

    fallback: str
    stream: Stream
    dropped: dict[str, JsonValue] | None
    orphans: tuple[Orphan, ...] = ()
    orphans_dropped: tuple[dict[str, JsonValue], ...] = ()


class RefreshOutput(Frozen):
    """`refresh`: tables of the fallback that got a fence, tables that the primary now publishes, and those whose rows
    were copied, each as `schema.table`; `sequences` of the latter have their values at a switch only. `stream`: the one
    into the fallback, afterwards."""

    fallback: str
    stream: Stream
    fenced: tuple[str, ...]
    published: tuple[str, ...]
    copied: tuple[str, ...]
    sequences: tuple[str, ...]


class ApprovalsOutput(Frozen):
    """`approvals`: each gate of a plan with the approvals that were found for it."""

    gates: tuple[GateState, ...]


class SignOutput(Frozen):
    """`approve` and `revoke`: where the statement was stored and what the gate is now."""

    act: Literal["approve", "revoke"]
    stored: str
    gate: GateState


class RunOutput(Frozen):
    """`apply`, `watch` and `abort`: how the run ended. `waiting`: go on later with the same command."""

    run: str
    outcome: Literal["done", "waiting", "stopped"]
    primary_wished: str
    error: ErrorOutput | None


class RehearseOutput(Frozen):
    """`rehearse`: the receipt. `gap_ms`: how long writers waited; `predicted_hold_ms`: from the locks of a move to its
    opening; `predicted_gap_ms`: the same until the first client that keeps trying has written to the new primary, apart
    from access paths; `drain_ms` until the barrier had arrived; `compared_ms`: comparing contents afterwards."""

    run: str
    term: int
    stream: str
    gap_ms: float
    drain_ms: float
    proof_ms: float
    predicted_hold_ms: float
    predicted_gap_ms: float
    compared_ms: int
    effects_digest: str
    digest: str


class HistoryOutput(Frozen):
    """`history`: `checked` records of the hash chain were verified; `records` are those asked for."""

    checked: int
    records: tuple[Record, ...]


class DoctorCheck(Frozen):
    """One thing that was looked at. `remedy` is empty where nothing is wrong."""

    id: str
    ok: bool
    what: str
    remedy: str


class PreflightOutput(Frozen):
    """The pre-flight checks of moving `source` to `target`: how many were made, and what they found, errors first."""

    source: str
    target: str
    checks: int
    found: tuple[Found, ...]


class DoctorOutput(Frozen):
    """`doctor`: `ok` when nothing is missing and no pre-flight check stands in the way. `preflight` is null where there
    is no document, or not both of its databases answered."""

    ok: bool
    checks: tuple[DoctorCheck, ...]
    preflight: PreflightOutput | None


class CheckOutput(Frozen):
    """One pre-flight check as it is declared. `where` it looks: on the source, the target, each side; the publisher or
    the subscriber, which are source and target, and exchanged besides where the fallback is to follow."""

    id: str
    theme: str
    severity: Severity
    where: str
    methods: tuple[TransferMethod, ...]
    title: str
    reason: str


class ChecksOutput(Frozen):
    """`doctor --list`: every pre-flight check."""

    checks: tuple[CheckOutput, ...]


class PolicyCheckOutput(Frozen):
    """`policy check`: what the policies said; null where nobody was asked."""

    verdict: Verdict | None


class PolicyBundle(Frozen):
    """Which policies: a digest over every policy and data file, and their packages."""

    digest: str
    packages: tuple[str, ...]


class PolicyTestOutput(Frozen):
    """`policy test`: `coverage` is in per cent, unrounded; `problems` are what makes it fail, if anything."""

    bundle: PolicyBundle
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    covered_lines: int
    not_covered: tuple[str, ...]
    complaints: tuple[str, ...]
    coverage: float
    problems: tuple[str, ...]


class DemoFigures(Frozen):
    """One move of the demo's primary; null where it did not come to it. `errors`: writes that failed for good, as their
    caller sees it; `longest_write_ms`: what the slowest of them took, retries included."""

    acknowledged: int | None
    lost: int | None
    duplicated: int | None
    errors: int | None
    longest_write_ms: float | None
    write_gap_ms: float | None
    content_equal: bool | None
    primary: str | None


class DemoCommand(Frozen):
    """One command of the demo."""

    command: str
    exit_status: int
    elapsed_s: float


class DemoOutput(DemoFigures):
    """`demo`: the cutover's figures, the switchback's inside, and every command."""

    switchback: DemoFigures
    steps: tuple[DemoCommand, ...]
    rows: int
    good: bool
    failure: str | None
