"""What a person declares: endpoints, wishes, access paths, gates, evidence. Plain data, no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from statehub_plan.model.base import SpecModel, digest
from statehub_plan.model.steps import StepKind
from statehub_plan.model.written import (
    AgeRecipient,
    Argv,
    Day,
    Duration,
    Expected,
    FilePath,
    Line,
    Name,
    Pointer,
    Principal,
    Size,
    TaskId,
    Text,
    Url,
    Variable,
)
from statehub_plan.model.written import duration_s as duration_s
from statehub_plan.model.written import size_bytes as size_bytes


class SecretRef(SpecModel):
    """Where a DSN comes from; the secret itself is never in a plan. Exactly one key."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["env"]}, {"required": ["file"]}, {"required": ["service"]}]}
    )

    env: Variable | None = None
    file: FilePath | None = None
    service: Line | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SecretRef:
        if sum(value is not None for value in (self.env, self.file, self.service)) != 1:
            raise ValueError("give exactly one of env, file, service")
        return self


class Database(SpecModel):
    """How the tool reaches a database: `dsn` owns the objects, `appDsn` is what the service itself uses (for canary
    writes). For replication: `replicationDsn` is how the *other server* reaches this one (default: `dsn`),
    `subscriberDsn` a role that may subscribe here (default: `dsn`; PostgreSQL 14 and 15 demand a superuser), and
    `diskFree` a command that prints how many bytes are left where this server keeps its WAL."""

    dsn: SecretRef
    app_dsn: SecretRef | None = None
    replication_dsn: SecretRef | None = None
    subscriber_dsn: SecretRef | None = None
    disk_free: Argv | None = None


class Api(SpecModel):
    """The service's HTTP side; healthy = `healthPath` answers 2xx, and `healthPointer` (if given) equals `healthy`."""

    base_url: Url
    health_path: Annotated[str, Field(pattern=r"^/", description="a path that begins with /")] = "/health"
    health_pointer: Pointer | None = None
    healthy: Expected = "ok"
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
    app_roles: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = ()
    platform: Platform | None = None


class FallbackMode(StrEnum):
    """What the other endpoint is once the primary has moved."""

    FROZEN = "frozen"
    FOLLOWING = "following"
    RETIRED = "retired"


class FollowLimits(SpecModel):
    """How far behind a stream may be and how much its slot may keep on the sender. Beyond `advise…` it is told, beyond
    `maxLag` no cutover begins, and at `dropSlotAt…` a slot that only serves the fallback is dropped before the disk
    fills: the primary goes on, and the way back is no longer lossless."""

    advise_lag: Size = "64MB"
    max_lag: Size = "1GB"
    advise_retained: Size = "2GB"
    drop_slot_at_retained: Size = "8GB"
    advise_disk_free: Size = "10GB"
    drop_slot_at_disk_free: Size = "4GB"


class Fallback(SpecModel):
    """The retained other side; it is never omitted: retiring it is said, not left out. `limits` are for streams."""

    endpoint: Name
    mode: FallbackMode
    limits: FollowLimits = FollowLimits()


class Desired(SpecModel):
    """The wish: who is primary, and what the other endpoint is."""

    primary: Name
    fallback: Fallback


class AccessBase(SpecModel):
    """One way in which clients reach the service; `values` says what it holds when pointed at each endpoint."""

    name: Name
    title: str | None = None
    values: dict[Name, Line]
    probe_url: Url | None = None


class JsonPointerAccess(AccessBase):
    """A value inside a JSON file (RFC 6901 pointer), for example an MCP client's `API_BASE`."""

    kind: Literal["json-pointer"]
    file: FilePath
    pointer: Annotated[Pointer, Field(min_length=1)]


class EnvFileAccess(AccessBase):
    """A `NAME=value` line of an environment file."""

    kind: Literal["env-file"]
    file: FilePath
    variable: Variable


class BridgeAccess(AccessBase):
    """A field of one tunnel in an ops-bridge `tunnels.yaml`; local port stays, the remote end moves. `reload` is run
    after the file was changed."""

    kind: Literal["bridge"]
    file: FilePath
    tunnel: Line
    field: Line = "target"
    reload: tuple[str, ...] = ()


class CommandAccess(AccessBase):
    """Any pair of commands: `get` prints the current value, `set` receives it as `{value}`."""

    kind: Literal["command"]
    get: Argv
    set: Argv
    timeout: Duration = "30s"


AccessPath = Annotated[
    JsonPointerAccess | EnvFileAccess | BridgeAccess | CommandAccess,
    Field(discriminator="kind"),
]


class TransferMethod(StrEnum):
    """How rows travel."""

    AUTO = "auto"
    REPLICATION = "replication"
    DUMP = "dump"


class TargetContent(StrEnum):
    """What the target may hold beforehand: nothing, or an earlier restore that is backed up and replaced. A fallback
    that was kept frozen is backed up and replaced with `empty` too: the primary after it began with all of it."""

    EMPTY = "empty"
    REPLACE = "replace"


class Rehearsal(SpecModel):
    """How old the rehearsal of a cutover by replication may be: hold, drain and release on the live system, and the
    content of both sides compared as of that moment."""

    max_age: Duration = "24h"


class Transfer(SpecModel):
    """How rows travel. `auto`: by replication where nothing stands in its way, else by a dump."""

    method: TransferMethod = TransferMethod.AUTO
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    target_content: TargetContent = TargetContent.EMPTY
    rehearsal: Rehearsal = Rehearsal()


class Freeze(SpecModel):
    """Limits of the write pause. `lockTimeout`: longest wait for the locks; `writerWait`: how long a writer may wait
    before it gets an error; `maxDuration`: longest hold before everything is released; `switchTimeout`: in a cutover by
    replication the longest time from the first lock to the decision."""

    lock_timeout: Duration = "5s"
    session_grace: Duration = "500ms"
    writer_wait: Duration = "5s"
    max_duration: Duration = "30m"
    switch_timeout: Duration = "5s"


_TABLE_PART = r'(?:[^."]+|"(?:[^"]|"")*(?:\.|"")(?:[^"]|"")*")'
"""As `statehub_plan.postgres.names.qualified` writes it: there is one way to name a table, and none that names two."""


class Waiver(SpecModel):
    """What the comparison leaves out, and why: a `table` with all that belongs to it, or what differs of one `object`
    of the catalog, named as `compare` names it (`aspect` narrows it down). It is reported as waived."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["table"]}, {"required": ["kind", "object"]}],
            "dependentRequired": {"aspect": ["object"]},
        }
    )

    table: (
        Annotated[
            str,
            Field(
                pattern=rf"^{_TABLE_PART}\.{_TABLE_PART}$",
                description='schema.table; a part with a dot or a double quote in it is quoted: public."a.b"',
            ),
        ]
        | None
    ) = None
    kind: Line | None = None
    object: Line | None = None
    aspect: Line | None = None
    reason: Text

    @model_validator(mode="after")
    def _one_thing(self) -> Waiver:
        if (self.table is None) == (self.kind is None) or (self.kind is None) != (self.object is None):
            raise ValueError("give either table, or kind and object")
        if self.aspect is not None and self.object is None:
            raise ValueError("aspect says what of an object is waived: give kind and object too")
        return self

    @property
    def name(self) -> str:
        """What is waived, in one line."""
        return self.table or f"{self.kind} {self.object}" + (f": {self.aspect}" if self.aspect else "")


class UnderHold(StrEnum):
    """What a cutover by replication proves while writers wait. `stream`: everything sent has arrived and no definition
    changed since the content was proved equal online. `changes`: also every row whose key was written on either side
    since then, read from slots that live as long as the run; it needs a fallback that follows.
    `content`: the whole content once more."""

    STREAM = "stream"
    CHANGES = "changes"
    CONTENT = "content"


class Compare(SpecModel):
    """What must be equal before the decision: exact row counts always, content hashes unless switched to counts."""

    content: bool = True
    under_hold: UnderHold = UnderHold.STREAM
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    waive: tuple[Waiver, ...] = ()


class Encryption(SpecModel):
    """For whom dumps are encrypted with age: public keys, written here or one a line in a file (exactly one of both).
    `identityFile` holds the secret key that restore drills decrypt with."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["recipients"]}, {"required": ["recipientsFile"]}]}
    )

    recipients: Annotated[tuple[AgeRecipient, ...], Field(min_length=1)] | None = None
    recipients_file: FilePath | None = None
    identity_file: FilePath | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Encryption:
        if (self.recipients is None) == (self.recipients_file is None):
            raise ValueError("give exactly one of recipients, recipientsFile")
        return self


class Backup(SpecModel):
    """Where dumps with a checksummed manifest are kept, how old the newest may be before a cutover, and whether they
    are encrypted."""

    directory: FilePath
    max_age: Duration = "24h"
    encryption: Encryption | None = None


class ProbeBase(SpecModel):
    """One observable fact that shows a task to be done."""

    name: Name
    title: str | None = None


class HttpProbe(ProbeBase):
    """GET answers `status`; where `pointer` is given, the JSON value there equals `equals` (both or neither)."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"pointer": ["equals"], "equals": ["pointer"]}})

    kind: Literal["http"]
    url: Url
    status: Annotated[int, Field(ge=100, le=599)] = 200
    pointer: Pointer | None = None
    equals: Expected = None
    timeout: Duration = "5s"

    @model_validator(mode="after")
    def _both_or_neither(self) -> HttpProbe:
        if (self.pointer is None) != (self.equals is None):
            raise ValueError("give pointer and equals together, or neither")
        return self


class SqlProbe(ProbeBase):
    """A read-only query of one value on one endpoint: it equals `equals` or is at least `atLeast` (exactly one)."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["equals"]}, {"required": ["atLeast"]}]})

    kind: Literal["sql"]
    endpoint: Name
    query: Text
    equals: Expected = None
    at_least: int | None = None
    timeout: Duration = "5s"

    @model_validator(mode="after")
    def _one_expectation(self) -> SqlProbe:
        if (self.equals is None) == (self.at_least is None):
            raise ValueError("give exactly one of equals, atLeast")
        return self


class CommandProbe(ProbeBase):
    """A command (argv, no shell) ends with `exitStatus`; where given, stdout contains `stdoutContains`."""

    kind: Literal["command"]
    argv: Argv
    exit_status: Annotated[int, Field(ge=0, le=255)] = 0
    stdout_contains: Text | None = None
    timeout: Duration = "30s"


class FileProbe(ProbeBase):
    """A file exists; where given, its SHA-256 or a contained text is as said."""

    kind: Literal["file"]
    path: FilePath
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hexadecimal digits")] | None = (
        None
    )
    contains: Text | None = None


class KubernetesProbe(ProbeBase):
    """`kubectl get RESOURCE -o json`: the value at `pointer` equals `equals`. Context and namespace are those of the
    endpoint's platform unless said here."""

    kind: Literal["kubernetes"]
    endpoint: Name | None = None
    context: Line | None = None
    namespace: Name | None = None
    resource: Annotated[
        str,
        Field(
            pattern=r"^[a-zA-Z][-a-zA-Z0-9._]*(/[-a-zA-Z0-9._:]+)?$",
            description="a kind, or kind/name, such as deployment/state-hub",
        ),
    ]
    pointer: Pointer
    equals: Expected
    timeout: Duration = "30s"


Probe = Annotated[
    HttpProbe | SqlProbe | CommandProbe | FileProbe | KubernetesProbe,
    Field(discriminator="kind"),
]


class Task(SpecModel):
    """One task of the work plan. `probes` show it to be done; `doneBy` names the step kinds whose completion does.
    The status document says `nextAction` while the task is next and `whenDone` once it is shown to be done."""

    id: TaskId
    title: Text
    probes: tuple[Probe, ...] = ()
    done_by: tuple[StepKind, ...] = ()
    next_action: Text | None = None
    when_done: Text | None = None


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
    approvers: Annotated[tuple[Principal, ...], Field(min_length=1)]
    quorum: Annotated[int, Field(ge=1)] = 1
    allowed_signers: FilePath
    decide_within: Duration = "24h"
    execute_within: Duration = "48h"
    author_may_approve: bool = False


class LaneState(StrEnum):
    """What another lane must have reached."""

    COMPLETE = "complete"
    SUPERSEDED = "superseded"
    STABILIZED = "stabilized"


class EntryCriterion(SpecModel):
    """A fact of another lane (`lane` has reached one of `anyOf`) that must hold before a deferred lane may run. `title`
    completes the sentence "entry criteria depend on …"."""

    name: Name
    title: Text | None = None
    lane: Name
    any_of: Annotated[tuple[LaneState, ...], Field(min_length=1)]


class RestoreDrill(SpecModel):
    """The newest backup restored into a scratch database and compared; how old the proof may be."""

    max_age: Duration = "7d"


class FailoverDrill(SpecModel):
    """A command that makes the platform fail over; afterwards `verify` must pass within `timeout`."""

    max_age: Duration = "30d"
    argv: Argv
    verify: Annotated[tuple[Probe, ...], Field(min_length=1)]
    timeout: Duration = "5m"

    @property
    def definition(self) -> str:
        """Digest of what is done and looked at: a recorded drill speaks for that alone."""
        return digest(self.model_dump(mode="json", by_alias=True, exclude={"max_age", "timeout"}))


class Drills(SpecModel):
    """Dated evidence that must exist before a fallback is retired (and, if `beforeCutover`, before a cutover)."""

    restore: RestoreDrill | None = None
    failover: FailoverDrill | None = None
    before_cutover: bool = False


class PolicySettings(SpecModel):
    """The Rego bundle that judges this plan. A missing or empty bundle denies."""

    bundle: FilePath = "../policies"
    timeout: Duration = "10s"


class OperatingModel(SpecModel):
    """The document that is written from observed facts once the primary has moved."""

    path: FilePath


class Lane(StrEnum):
    """`active` lanes run; `deferred` lanes are planned and shown, and refused until their entry criteria hold."""

    ACTIVE = "active"
    DEFERRED = "deferred"


class Metadata(SpecModel):
    """Who this plan is. `service` ties the lanes of one service together (one lease, one status document);
    `serviceTitle` is what people call it. A lane with `supersededBy` will not be finished: that one has taken over."""

    name: Name
    title: Text
    service: Name
    service_title: Text | None = None
    lane: Lane = Lane.ACTIVE
    superseded_by: Name | None = None
    updated: Day | None = None


class Narrative(SpecModel):
    """Sentences that only a person can write, for the status document. `tasksCalled` is this lane's word for its tasks,
    `nextAction` stands for the whole lane where no single task is next, `pickup` are steps for whoever takes over."""

    decision: Text | None = None
    rationale: Text | None = None
    next_action: Text | None = None
    tasks_called: Line = "tasks"
    pickup: tuple[Text, ...] = ()


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

    @property
    def allowed_signers(self) -> tuple[str, ...]:
        """Every file that says whose signatures count, as the gates name it; sorted."""
        return tuple(sorted({gate.allowed_signers for gate in self.gates}))


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
