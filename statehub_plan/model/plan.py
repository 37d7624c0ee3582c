"""The plan that is shown, signed and applied: steps, trajectory, verdict, digests."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, JsonValue

from statehub_plan.model.base import Frozen, Instant, digest
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.steps import StepClass, StepKind
from statehub_plan.world import World


class Direction(StrEnum):
    """What a plan does with the document's wish: carry it out, exchange the roles, or keep the present primary."""

    FORWARD = "forward"
    SWITCHBACK = "switchback"
    ABORT = "abort"


class Level(StrEnum):
    """How binding a finding is: `soft` can be waived by a signed, reasoned, expiring waiver; `hard` by nothing."""

    ADVISORY = "advisory"
    SOFT = "soft"
    HARD = "hard"


class Finding(Frozen):
    """One objection of one policy."""

    code: str
    level: Level
    message: str
    step: str | None = None
    path: str | None = None
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    remedy: str


class Phase(StrEnum):
    """When policies are asked: at planning, again at apply on fresh facts, again before each guarded step."""

    PLAN = "plan"
    APPLY = "apply"
    STEP = "step"


class Verdict(Frozen):
    """What the policies said about exactly one input. `allowed` is false for any hard or unwaived soft finding, and
    whenever no complete answer was had."""

    allowed: bool
    phase: Phase
    evaluated: tuple[str, ...]
    findings: tuple[Finding, ...]
    input_digest: str
    bundle_digest: str
    judged_at: Instant


class Identity(Frozen):
    """Who an endpoint really is: PostgreSQL's system identifier, the database's name and OID. Unknown = all None."""

    system_identifier: str | None = None
    database: str | None = None
    database_oid: int | None = None

    @property
    def known(self) -> bool:
        """True when all three parts were observed."""
        return None not in (self.system_identifier, self.database, self.database_oid)


class Step(Frozen):
    """One thing to do. `serves` is the wish it serves, `because` the fact that made it necessary, `params` everything
    that changes its effect (and so the digest that approvals bind to)."""

    id: str
    kind: StepKind
    subject: str | None
    step_class: StepClass
    title: str
    serves: str
    because: str
    gate: str | None = None
    params: dict[str, JsonValue] = Field(default_factory=dict)


class Refused(Frozen):
    """Why the planner cannot reach the wish from here, as the fact that stands in the way and what to do about it."""

    code: str
    what: str
    remedy: str


class Plan(Frozen):
    """A whole plan. `old` and `new` name the endpoints that the roles in `World` stand for (`new` = desired primary).
    `trajectory` has one world more than there are steps. `term` is the decision term this plan would take."""

    schema_version: str = "statehub-plan/plan/v1"
    tool_version: str
    created_at: Instant
    author: str
    direction: Direction = Direction.FORWARD
    spec: CutoverPlan
    spec_digest: str
    spec_path: str
    old: str
    new: str
    term: int
    identities: dict[str, Identity]
    observation: Observation
    evidence: tuple[Evidence, ...]
    steps: tuple[Step, ...]
    trajectory: tuple[World, ...]
    refused: Refused | None = None
    effects_digest: str
    evidence_digest: str
    verdict: Verdict | None = None

    @property
    def changes(self) -> bool:
        """True when there is something to do or something that stands in the way."""
        return bool(self.steps) or self.refused is not None


class PlanFile(Frozen):
    """A plan as saved: any changed byte changes the digest."""

    digest: str
    plan: Plan

    @classmethod
    def seal(cls, plan: Plan) -> PlanFile:
        """The plan with the digest of its canonical JSON."""
        return cls(digest=digest(plan), plan=plan)
