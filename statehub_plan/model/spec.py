"""What a person declares: endpoints, wishes, access paths, gates, evidence. Plain data, no I/O."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from statehub_plan.model.base import SpecModel
from statehub_plan.model.steps import StepKind

_DURATION = re.compile(r"^([1-9][0-9]{0,8})(ms|s|m|h|d)$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Duration = Annotated[str, Field(pattern=_DURATION.pattern, examples=["500ms", "5s", "30m", "24h", "7d"])]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
TaskId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=4000)]


def duration_s(duration: str) -> float:
    """Seconds of a duration such as `500ms`, `5s`, `30m`, `24h`, `7d`; ValueError for anything else."""
    match = _DURATION.match(duration)
    if match is None:
        raise ValueError(f"not a duration: {duration!r}; write a number and ms, s, m, h or d")
    return int(match[1]) * _UNIT_S[match[2]]


class SecretRef(SpecModel):
    """Where a DSN comes from; the secret itself is never in a plan. Exactly one key."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: str | None = None
    service: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SecretRef:
        if sum(value is not None for value in (self.env, self.file, self.service)) != 1:
            raise ValueError("give exactly one of env, file, service")
        return self


class Database(SpecModel):
    """How the tool reaches a database: `dsn` owns the objects, `appDsn` is what the service itself uses (for canary writes)."""

    dsn: SecretRef
    app_dsn: SecretRef | None = None


class Api(SpecModel):
    """The service's HTTP side; healthy = `healthPath` answers 2xx, and `healthPointer` (if given) equals `healthy`."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    health_path: Annotated[str, Field(pattern=r"^/")] = "/health"
    health_pointer: str | None = None
    healthy: JsonValue = "ok"
    timeout: Duration = "5s"


class Platform(SpecModel):
    """The Kubernetes home of an endpoint, read through `kubectl -o json`; CloudNativePG where `cluster` is given."""

    kind: Literal["kubernetes"] = "kubernetes"
    namespace: Name
    context: str | None = None
    cluster: Name | None = None
    deployment: Name | None = None


class Endpoint(SpecModel):
    """One place where the service can live."""

    title: Text
    database: Database
    api: Api | None = None
    app_roles: tuple[str, ...] = ()
    platform: Platform | None = None


class FallbackMode(StrEnum):
    """What the other endpoint is once the primary has moved."""

    FROZEN = "frozen"
    FOLLOWING = "following"
    RETIRED = "retired"


class Fallback(SpecModel):
    """The retained other side; it is never omitted: retiring it is said, not left out."""

    endpoint: Name
    mode: FallbackMode


class Desired(SpecModel):
    """The wish: who is primary, and what the other endpoint is."""

    primary: Name
    fallback: Fallback


class AccessBase(SpecModel):
    """One way in which clients reach the service; `values` says what it holds when pointed at each endpoint."""

    name: Name
    title: str | None = None
    values: dict[Name, str]
    probe_url: Annotated[str, Field(pattern=r"^https?://")] | None = None


class JsonPointerAccess(AccessBase):
    """A value inside a JSON file (RFC 6901 pointer), for example an MCP client's `API_BASE`."""

    kind: Literal["json-pointer"]
    file: str
    pointer: Annotated[str, Field(pattern=r"^/")]


class EnvFileAccess(AccessBase):
    """A `NAME=value` line of an environment file."""

    kind: Literal["env-file"]
    file: str
    variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class BridgeAccess(AccessBase):
    """A field of one tunnel in an ops-bridge `tunnels.yaml`; local port stays, the remote end moves."""

    kind: Literal["bridge"]
    file: str
    tunnel: str
    field: str = "target"
    reload: tuple[str, ...] = ()


class CommandAccess(AccessBase):
    """Any pair of commands: `get` prints the current value, `set` receives it as `{value}`."""

    kind: Literal["command"]
    get: Annotated[tuple[str, ...], Field(min_length=1)]
    set: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout: Duration = "30s"


AccessPath = Annotated[
    JsonPointerAccess | EnvFileAccess | BridgeAccess | CommandAccess,
    Field(discriminator="kind"),
]


class TransferMethod(StrEnum):
    """How rows travel."""

    REPLICATION = "replication"
    DUMP = "dump"


class TargetContent(StrEnum):
    """What the target may hold beforehand: nothing, or an earlier restore that is backed up and replaced."""

    EMPTY = "empty"
    REPLACE = "replace"


class Transfer(SpecModel):
    """How the final copy is made."""

    method: TransferMethod = TransferMethod.DUMP
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    target_content: TargetContent = TargetContent.EMPTY


class Freeze(SpecModel):
    """Limits of the write pause. `lockTimeout`: longest wait for the locks; `writerWait`: how long a writer may wait
    before it gets an error; `maxDuration`: longest hold before everything is released."""

    lock_timeout: Duration = "5s"
    session_grace: Duration = "500ms"
    writer_wait: Duration = "5s"
    max_duration: Duration = "30m"


class WaivedTable(SpecModel):
    """A table that the comparison leaves out, and why; it is reported as waived."""

    table: Annotated[str, Field(pattern=r"^[^.]+\.[^.]+$")]
    reason: Text


class Compare(SpecModel):
    """What must be equal before the decision: exact row counts always, content hashes unless switched to counts."""

    content: bool = True
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    waive: tuple[WaivedTable, ...] = ()


class Backup(SpecModel):
    """Where dumps with a checksummed manifest are kept and how old the newest may be before a cutover."""

    directory: str
    max_age: Duration = "24h"


class ProbeBase(SpecModel):
    """One observable fact that shows a task to be done."""

    name: Name
    title: str | None = None


class HttpProbe(ProbeBase):
    """GET answers `status`; where `pointer` is given, the JSON value there equals `equals`."""

    kind: Literal["http"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    status: Annotated[int, Field(ge=100, le=599)] = 200
    pointer: str | None = None
    equals: JsonValue = None
    timeout: Duration = "5s"


class SqlProbe(ProbeBase):
    """A read-only query of one value on one endpoint equals `equals`, or is at least `atLeast`."""

    kind: Literal["sql"]
    endpoint: Name
    query: Text
    equals: JsonValue = None
    at_least: int | None = None
    timeout: Duration = "5s"


class CommandProbe(ProbeBase):
    """A command (argv, no shell) ends with `exitStatus`; where given, stdout contains `stdoutContains`."""

    kind: Literal["command"]
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    exit_status: int = 0
    stdout_contains: str | None = None
    timeout: Duration = "30s"


class FileProbe(ProbeBase):
    """A file exists; where given, its SHA-256 or a contained text is as said."""

    kind: Literal["file"]
    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    contains: str | None = None


class KubernetesProbe(ProbeBase):
    """`kubectl get RESOURCE -o json` on an endpoint's platform: the value at `pointer` equals `equals`."""

    kind: Literal["kubernetes"]
    endpoint: Name | None = None
    namespace: Name | None = None
    resource: Text
    pointer: str
    equals: JsonValue
    timeout: Duration = "30s"


Probe = Annotated[
    HttpProbe | SqlProbe | CommandProbe | FileProbe | KubernetesProbe,
    Field(discriminator="kind"),
]


class Task(SpecModel):
    """One task of the work plan. `probes` show it to be done; `doneBy` names the step kinds whose completion does."""

    id: TaskId
    title: Text
    probes: tuple[Probe, ...] = ()
    done_by: tuple[StepKind, ...] = ()
    next_action: str | None = None


class Stabilization(SpecModel):
    """How long the new primary must stay healthy, how often it is looked at, how many bad looks are tolerated."""

    duration: Duration = "24h"
    interval: Duration = "1m"
    max_failures: Annotated[int, Field(ge=0)] = 0


class Gate(SpecModel):
    """A human decision in front of steps. Clocks: the decision falls within `decideWithin` of signing, every guarded
    step begins within `executeWithin`."""

    name: TaskId
    title: Text
    guards: Annotated[tuple[StepKind, ...], Field(min_length=1)]
    approvers: Annotated[tuple[str, ...], Field(min_length=1)]
    quorum: Annotated[int, Field(ge=1)] = 1
    allowed_signers: str
    decide_within: Duration = "24h"
    execute_within: Duration = "48h"
    author_may_approve: bool = False


class LaneState(StrEnum):
    """What another lane must have reached."""

    COMPLETE = "complete"
    SUPERSEDED = "superseded"
    STABILIZED = "stabilized"


class EntryCriterion(SpecModel):
    """A fact of another lane (`lane` has reached one of `anyOf`) that must hold before a deferred lane may run."""

    name: Name
    lane: Name
    any_of: Annotated[tuple[LaneState, ...], Field(min_length=1)]


class RestoreDrill(SpecModel):
    """The newest backup restored into a scratch database and compared; how old the proof may be."""

    max_age: Duration = "7d"


class FailoverDrill(SpecModel):
    """A command that makes the platform fail over; afterwards `verify` must pass within `timeout`."""

    max_age: Duration = "30d"
    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    verify: Annotated[tuple[Probe, ...], Field(min_length=1)]
    timeout: Duration = "5m"


class Drills(SpecModel):
    """Dated evidence that must exist before a fallback is retired (and, if `beforeCutover`, before a cutover)."""

    restore: RestoreDrill | None = None
    failover: FailoverDrill | None = None
    before_cutover: bool = False


class PolicySettings(SpecModel):
    """The Rego bundle that judges this plan. A missing or empty bundle denies."""

    bundle: str = "../policies"
    timeout: Duration = "10s"


class OperatingModel(SpecModel):
    """The document that is written from observed facts once the primary has moved."""

    path: str


class Lane(StrEnum):
    """`active` lanes run; `deferred` lanes are planned and shown, and refused until their entry criteria hold."""

    ACTIVE = "active"
    DEFERRED = "deferred"


class Metadata(SpecModel):
    """Who this plan is. `service` ties the lanes of one service together (one lease, one status document)."""

    name: Name
    title: Text
    service: Name
    lane: Lane = Lane.ACTIVE
    superseded_by: Name | None = None
    updated: str | None = None


class Narrative(SpecModel):
    """Sentences that only a person can write, for the status document."""

    decision: str | None = None
    rationale: str | None = None
    next_action: str | None = None
    pickup: tuple[str, ...] = ()


class CutoverSpec(SpecModel):
    """Everything about one move of a primary."""

    narrative: Narrative = Narrative()
    endpoints: Annotated[dict[Name, Endpoint], Field(min_length=2, max_length=2)]
    desired: Desired
    access: tuple[AccessPath, ...] = ()
    transfer: Transfer = Transfer()
    freeze: Freeze = Freeze()
    compare: Compare = Compare()
    backup: Backup
    tasks: tuple[Task, ...] = ()
    drills: Drills = Drills()
    stabilization: Stabilization = Stabilization()
    gates: tuple[Gate, ...] = ()
    entry_criteria: tuple[EntryCriterion, ...] = ()
    policy: PolicySettings = PolicySettings()
    operating_model: OperatingModel | None = None


class ObservedLaneSpec(SpecModel):
    """A lane that is watched and reported, never carried out and never a blocker."""

    narrative: Narrative = Narrative()
    tasks: tuple[Task, ...] = ()
    entry_criteria: tuple[EntryCriterion, ...] = ()


class CutoverPlan(SpecModel):
    """A validated plan document. `spec.desired` is the wish; everything else says how and within which limits."""

    api_version: Literal["statehub-plan/v1"]
    kind: Literal["CutoverPlan"]
    metadata: Metadata
    spec: CutoverSpec


class ObservedLane(SpecModel):
    """A validated document of a lane that is only observed."""

    api_version: Literal["statehub-plan/v1"]
    kind: Literal["ObservedLane"]
    metadata: Metadata
    spec: ObservedLaneSpec




Document = Annotated[CutoverPlan | ObservedLane, Field(discriminator="kind")]
