"""What a step may use while it is carried out, and how it says that it has to wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.journal import LeaseLost
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Plan, Step
from statehub_plan.model.record import Record
from statehub_plan.model.steps import StepKind
from statehub_plan.moments import Moment, passed_by
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.connect import owned_by, resolve_dsn
from statehub_plan.postgres.hold import Hold
from statehub_plan.postgres.register import Outcome
from statehub_plan.postgres.transaction import StandbySilent
from statehub_plan.reporter import Reporter


class Waiting(StatehubError):
    """The step is fine and not over; running `apply` or `watch` again continues it (exit status 8)."""

    def __init__(self, *, what: str, hint: str, payload: dict[str, JsonValue]) -> None:
        super().__init__(code="waiting", what=what, hint=hint, exit_status=Exit.WAITING)
        self.payload = payload


FactWriter = Callable[[str, str, dict[str, JsonValue]], None]
"""(kind, state, payload) → a FACT record in the journal, before the step's outcome is recorded."""

Look = Callable[[], tuple[Observation, tuple[Evidence, ...]]]
"""A quick fresh look at the world."""


@dataclass
class Stage:
    """One run's means. Mutable in two respects only: the hold and the baseline, which live in this process or nowhere.

    `owner` names this process's lease among those of all journals: two of them may issue the same `epoch`."""

    plan: Plan
    base_dir: Path
    home: Path
    run: str
    epoch: int
    owner: str
    now: Callable[[], datetime]
    record_fact: FactWriter
    check_lease: Callable[[], None]
    look: Look
    records: Callable[[], tuple[Record, ...]]
    reporter: Reporter
    moment: Moment = passed_by
    hold: Hold | None = None
    hold_id: str | None = None
    baseline: Baseline | None = None
    _told_later: list[str] = field(default_factory=list)
    _dsns: dict[str, str] = field(default_factory=dict)

    def dsn(self, endpoint: str) -> str:
        """The conninfo of an endpoint's database, for sessions of this stage's owner; resolved once, StatehubError when
        its reference leads nowhere."""
        if endpoint not in self._dsns:
            database = self.plan.spec.spec.endpoints[endpoint].database
            self._dsns[endpoint] = owned_by(resolve_dsn(database.dsn, self.base_dir), self.owner)
        return self._dsns[endpoint]

    def subscriber_dsn(self, endpoint: str) -> str:
        """The conninfo of an endpoint's database for a role that may subscribe there."""
        ref = self.plan.spec.spec.endpoints[endpoint].database.subscriber_dsn
        return self.dsn(endpoint) if ref is None else owned_by(resolve_dsn(ref, self.base_dir), self.owner)

    def publisher(self, endpoint: str) -> str:
        """The conninfo by which the other endpoint's *server* reaches this endpoint's database."""
        database = self.plan.spec.spec.endpoints[endpoint].database
        return resolve_dsn(database.replication_dsn or database.dsn, self.base_dir)

    def app_dsn(self, endpoint: str) -> str | None:
        """The conninfo that the service itself uses, where the plan names one."""
        ref = self.plan.spec.spec.endpoints[endpoint].database.app_dsn
        return None if ref is None else resolve_dsn(ref, self.base_dir)

    def away(self, endpoint: str) -> str:
        """The other endpoint."""
        return self.plan.old if endpoint == self.plan.new else self.plan.new

    def subject(self, step: Step) -> str:
        """The endpoint that a step acts on."""
        if step.subject is None:
            raise ValueError(f"step {step.id} has no subject")
        return step.subject

    def checkpoint(self) -> None:
        """Raises when this run lost its lease or its hold; long steps call it between pieces of work."""
        self.check_lease()
        if self.hold is not None:
            self.hold.check()

    def require_not_taken(self) -> None:
        """LeaseLost where another run is known, or may be known, to have the lease. That the journal cannot be asked
        leaves nobody waiting who could be served: a later run that has acted on the databases is known to them by its
        epoch."""
        try:
            self.check_lease()
        except StatehubError as lost:
            if isinstance(lost, LeaseLost) and not lost.unanswered:
                raise

    def record_decision(self) -> None:
        """Puts on record that the decision of this plan stands, for the database that was decided for."""
        about = self.plan.identities[self.plan.new].model_dump(mode="json")
        decided: dict[str, JsonValue] = {"term": self.plan.term, "primary": self.plan.new, "identity": about}
        self.record_fact(StepKind.DECIDE.value, "passed", decided)

    def later(self, text: str) -> None:
        """A note that waits until nobody waits for this process any more; see `tell_later`. Any thread may call it."""
        self._told_later.append(text)

    def standing(self, write: Callable[[], Outcome]) -> Outcome:
        """What a write into a register came to. That no standby has confirmed it in time is a note for later: it
        stands, and clients wait for what comes after it."""
        try:
            return write()
        except StandbySilent as silent:
            self.later(silent.what)
            return Outcome(str(silent.value))

    def tell_later(self) -> None:
        """Says what has been kept back."""
        told, self._told_later = self._told_later, []
        for text in told:
            self.reporter.note(text)

    def release(self) -> None:
        """Lets writers go on if this run still holds them. Idempotent."""
        hold, self.hold, self.hold_id = self.hold, None, None
        if hold is not None:
            hold.release()

    def keep_baseline(self, baseline: Baseline | None) -> None:
        """What the next hold may stand on, instead of what was there before."""
        before, self.baseline = self.baseline, baseline
        if before is not None:
            before.close()

    def close(self) -> None:
        """Releases writers and leaves no session. Idempotent."""
        try:
            self.release()
        finally:
            self.keep_baseline(None)


Execute = Callable[[Stage, Step], dict[str, JsonValue]]
"""Carries a step out and returns what is worth recording; raises StatehubError, or Waiting."""
