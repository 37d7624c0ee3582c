"""A move in memory: two endpoints as facts, steps that change them, and a mishap at any one call from the outside.

Stands for everything that the applier is given as functions, so that its own order of doing things can be looked at
call by call; the real steps on real servers are in tests/integration.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import compared_as
from statehub_plan.apply.around import Glance, Surroundings
from statehub_plan.apply.loop import Applying
from statehub_plan.errors import StatehubError
from statehub_plan.history import journal_facts
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Identity, Phase, Plan, Step, Verdict
from statehub_plan.model.record import GateState, Record, RecordKind, RunContext
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.steps import StepKind
from statehub_plan.model.stream import stream_name
from statehub_plan.planning import evidence_digest
from statehub_plan.postgres.hold import Hold
from statehub_plan.postgres.switch import Switch
from statehub_plan.steps import stabilize
from statehub_plan.steps.stage import Execute, Stage
from tests.unit.facts import NOW, document, evidence, facts, fenced, identity, observation, plan, record

HOLD = "hold-1"
CHECK = evidence_digest(evidence())


REPLACE = document(transfer={"method": "dump", "targetContent": "replace"})
PLAN = plan(doc=REPLACE)
WHATEVER: tuple[Callable[[], BaseException], ...] = (
    lambda: RuntimeError("a defect"),
    KeyboardInterrupt,
    lambda: psycopg.OperationalError("the connection was lost"),
    lambda: OSError(28, "No space left on device"),
    lambda: StatehubError(code="some-refusal", what="it said no", hint="ask again"),
)


def raising(number: int) -> Callable[[], NoReturn]:
    """One of the things that may go wrong."""

    def go_wrong() -> NoReturn:
        raise WHATEVER[number % len(WHATEVER)]()

    return go_wrong


def ended(world: Simulated) -> BaseException | None:
    """How one process that applies the plan ended."""
    try:
        world.run()
    except (StatehubError, RuntimeError, KeyboardInterrupt) as error:
        return error
    return None


def assert_nobody_waits(world: Simulated) -> None:
    """Undecided, the old primary accepts writes; decided, it does not."""
    assert not world.held
    assert world.decided != ("home" in world.open), world.values


class Simulated:
    """Both databases, the journal and the way to them.

    `mishaps` happen at the calls of these numbers, before anything or `after` all that the call does; nothing can
    be appended from call `journal_gone_at` on, nor read where it is `unreadable`, and the lease is then `lost`.
    `executed` says at which call each step was carried out, `looks` which of the looks were deep; all of them show
    the backup as it was so long ago (`kept_for`). A quick look keeps the `evidence` of the last deep one; `judged`
    is what policies were shown of it before each gated step. The facts `unknown` cannot be seen."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.values: dict[str, Any] = facts()
        self.unknown: tuple[str, ...] = ()
        self.journal: list[Record] = []
        self.calls = 0
        self.executed: dict[StepKind, int] = {}
        self.mishaps: dict[int, Callable[[], object]] = {}
        self.after = False
        self.journal_gone_at: int | None = None
        self.unreadable = False
        self.lost: StatehubError | None = None
        self.approved = self.allowed = True
        self.kept_for = timedelta(0)
        self.told: list[str] = []
        self.looks: list[bool] = []
        self.looks_before_hold: list[bool] = []
        self.real_stabilization = False
        self.now = NOW
        self.evidence = self.after_failover = evidence()
        self.judged: dict[StepKind, tuple[Evidence, ...]] = {}
        self._kept = self.evidence
        self._read_last: tuple[Record, ...] = ()

    # What a step does

    def check_evidence(self, _stage: object) -> None:
        """On record."""
        self._fact(StepKind.CHECK_EVIDENCE, {"evidence_digest": CHECK})

    def backup(self, _stage: object) -> None:
        """Fresh and whole."""
        self.values["backup"] = {"taken_at": epoch_s(NOW), "checksum_ok": True, **identity("home")}

    def prepare_target(self, _stage: object) -> None:
        """Fenced and empty."""
        self.values |= {
            "away.writes": "frozen",
            "away.fence": {"term": self.plan.term, "hold": None, "retired": False},
        }
        self._reach("prepared", None)

    def hold(self, stage: Stage) -> None:
        """In this process or nowhere."""
        self.looks_before_hold = self.looks.copy()
        self.values |= {"home.writes": "held", "home.fence": {"term": None, "hold": HOLD, "retired": False}}
        stage.hold, stage.hold_id = cast(Hold, self), HOLD

    def copy(self, _stage: object) -> None:
        """Arrived."""
        self._reach("arrived", HOLD)

    def sync_sequences(self, _stage: object) -> None:
        """Sequenced."""
        self._reach("sequenced", HOLD)

    def compare(self, _stage: object) -> None:
        """Proved."""
        self._reach("proved", HOLD)

    def freeze(self, stage: Stage) -> None:
        """Durable; the hold is over."""
        stage.hold = None
        self.values |= {
            "home.writes": "frozen",
            "home.fence": {"term": self.plan.term, "hold": HOLD, "retired": False},
        }

    def decide(self, _stage: object) -> None:
        """The point of no return; a burned term is refused by the register."""
        if not any(row["term"] == self.plan.term for row in self.values["away.register"]):
            self.values["away.register"] = [*self.values["away.register"], self._row("away")]

    def burn(self, _stage: object) -> None:
        """No late decision can fall."""
        if not any(row["term"] == self.plan.term for row in self.values["away.register"]):
            self.values["away.register"] = [*self.values["away.register"], self._row(None)]

    def open_home(self, _stage: object) -> None:
        """The old primary serves again."""
        self.values |= {"home.writes": "open", "home.fence": {"term": None, "hold": None, "retired": False}}

    def open_away(self, _stage: object) -> None:
        """The new primary serves."""
        self.values |= {"away.writes": "open", "away.fence": {"term": None, "hold": None, "retired": False}}

    def redirect(self, _stage: object) -> None:
        """Clients follow."""
        self.values["access.mcp"] = {"value": "http://127.0.0.1:2", "endpoint": "away", "answers": True, "detail": ""}

    def stabilize(self, stage: Stage) -> None:
        """Long enough at once, or as the real step goes about it."""
        if self.real_stabilization:
            step = next(step for step in self.plan.steps if step.kind is StepKind.STABILIZE)
            stabilize.execute(stage, step)
            return
        self._fact(StepKind.STABILIZE, {**self._of_away(), "observed_s": 10, "failures": 0})

    def document(self, _stage: object) -> None:
        """Written."""
        self.values["document"] = {"path": "operating-model.md", "exists": True}
        self._fact(StepKind.DOCUMENT, self._of_away())

    def failover_drill(self, _stage: object) -> None:
        """The primary fails over; what probes show afterwards is another matter."""
        drill = self.plan.spec.spec.drills.failover
        assert drill is not None
        self.real_stabilization = False
        self.now = NOW
        self.evidence = self.after_failover
        about = {**self._of_away(), "endpoint": "away", "definition": drill.definition}
        for state in ("begun", "passed"):
            self._fact(StepKind.FAILOVER_DRILL, {**about, "state": state})

    def retire(self, _stage: object) -> None:
        """No way back any more."""
        self.values["home.fence"] = {**self.values["home.fence"], "retired": True}

    # As a hold

    def check(self) -> None:
        """Never lost by itself."""

    def release(self) -> None:
        """Writers go on."""
        if self.values["home.writes"] == "held":
            self.open_home(None)

    # What can be asked afterwards

    @property
    def decided(self) -> bool:
        """Whether the point of no return is behind us."""
        return any(row["primary"] == "away" for row in self.values["away.register"])

    @property
    def open(self) -> set[str]:
        """Endpoints that accept writes."""
        return {name for name in ("home", "away") if self.values[f"{name}.writes"] == "open"}

    @property
    def held(self) -> bool:
        """Whether writers wait."""
        return bool(self.values["home.writes"] == "held")

    def left_pending(self) -> None:
        """The world of a run that was killed right after the freeze."""
        dead = cast(Stage, SimpleNamespace())
        self._append(RecordKind.RUN_STARTED, None, {})
        self.check_evidence(dead)
        self._append(RecordKind.STEP_INTENT, "07-freeze", {})
        for step in (self.prepare_target, self.hold, self.compare, self.freeze):
            step(dead)

    def run(self) -> None:
        """One process that applies the plan."""
        stage = Stage(
            plan=self.plan,
            base_dir=Path(),
            home=Path(),
            run="r",
            epoch=1,
            owner="r.1",
            now=lambda: self.now,
            record_fact=lambda kind, state, payload: self._append(
                RecordKind.FACT, None, {**payload, "kind": kind, "state": state}
            ),
            check_lease=lambda: self._outside(self._check_lease),
            look=lambda: self._seen(False),
            records=self._records,
            reporter=Silent(self.told),
        )
        Applying(self.plan, stage, self._surroundings(), "bob@ops").run()

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            observe=lambda deep: self._outside(lambda: self._seen(deep)),
            observe_unrecorded=lambda: self._outside(lambda: self._seen(False, unrecorded=True)),
            judge=lambda *asked: self._outside(lambda: self._verdict(*asked)),
            gates=lambda plan: self._outside(self._gates),
            records=lambda: self._outside(self._records),
            append=lambda kind, step, payload: self._outside(lambda: self._append(kind, step, payload)),
            executor=self._executor,
            begin_switch=lambda stage, reverse: cast(Switch, nullcontext()),
            switch_part=lambda stage, switch, step: self._executor(step.kind)(stage, step),
            now=lambda: self.now,
        )

    def _outside(self, answer: Callable[[], Any]) -> Any:
        self.calls += 1
        mishap = self.mishaps.get(self.calls, lambda: None)
        if not self.after:
            mishap()
        answered = answer()
        if self.after:
            mishap()
        return answered

    def _executor(self, kind: StepKind) -> Execute:
        def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
            name = f"open_{step.subject}" if kind is StepKind.OPEN else kind.value.replace("-", "_")
            self.executed[kind] = self.calls + 1
            self._outside(lambda: getattr(self, name)(stage))
            return {}

        return execute

    @property
    def _journal_gone(self) -> bool:
        return self.journal_gone_at is not None and self.journal_gone_at <= self.calls

    def _check_lease(self) -> None:
        if self._journal_gone and self.lost is not None:
            raise self.lost

    def _records(self) -> tuple[Record, ...]:
        if self._journal_gone and self.unreadable:
            raise StatehubError(code="journal-unreachable", what="the journal's server is away", hint="wait for it")
        self._read_last = tuple(self.journal)
        return self._read_last

    def _seen(self, deep: bool, *, unrecorded: bool = False) -> tuple[Observation, tuple[Evidence, ...]]:
        self.looks.append(deep)
        if deep:
            self._kept = self.evidence
        known = self.values | {
            fact.id: fact.value for fact in journal_facts(self._read_last if unrecorded else self._records(), NOW)
        }
        seen = observation(known, *self.unknown)
        kept = (
            fact.model_copy(update={"observed_at": NOW - self.kept_for}) if fact.id == "backup" else fact
            for fact in seen.facts
        )
        return seen.model_copy(update={"facts": tuple(kept)}), self._kept

    def _verdict(
        self, plan: Plan, phase: Phase, run: RunContext, glance: Glance, _gates: tuple[GateState, ...]
    ) -> Verdict:
        self.judged |= {step.kind: glance.evidence for step in plan.steps if step.id == run.step}
        return Verdict(
            allowed=self.allowed,
            phase=phase,
            evaluated=(),
            findings=(),
            input_digest="",
            bundle_digest="",
            judged_at=NOW,
        )

    def _gates(self) -> tuple[GateState, ...]:
        keys = ("SHA256:k",) if self.approved else ()
        return tuple(
            GateState(gate=gate.name, quorum=1, satisfied=self.approved, fingerprints=keys, approvals=())
            for gate in self.plan.spec.spec.gates
        )

    def _append(self, kind: RecordKind, step: str | None, payload: dict[str, JsonValue]) -> None:
        if self._journal_gone:
            raise StatehubError(code="journal-disk-full", what="the journal's disk is full", hint="free some space")
        self.journal.append(record(len(self.journal) + 1, kind, payload, step=step))

    def _fact(self, kind: StepKind, payload: dict[str, JsonValue]) -> None:
        self._append(RecordKind.FACT, None, {"kind": kind.value, "state": "passed", **payload})

    def _of_away(self) -> dict[str, JsonValue]:
        return {"term": self.plan.term, "identity": self.values["away.identity"]}

    def _reach(self, stage: str, hold: str | None) -> None:
        source = identity("home")["system_identifier"]
        self.values["away.transfer"] = {"stage": stage, "term": self.plan.term, "hold": hold, "source": source}

    def _row(self, primary: str | None) -> dict[str, Any]:
        return {"term": self.plan.term, "primary": primary, "run": "r", "decided_at": 0}


class Switching(Simulated):
    """The same for a move by replication whose target follows and is rehearsed: from the hold on it is one switch."""

    def __init__(self, **wish: Any) -> None:
        doc = document(**({"transfer": {"method": "replication"}} | wish))
        values = following(doc)
        super().__init__(plan(values, doc))
        self.values = values

    def drain(self, _stage: object) -> None:
        """Arrived."""
        self._reach("arrived", HOLD)

    def unfollow(self, _stage: object) -> None:
        """A primary follows nobody."""
        self.values |= {"away.subscriptions": [], "home.slots": []}

    def _reach(self, stage: str, hold: str | None) -> None:
        self.values["away.transfer"] = {**self.values["away.transfer"], "stage": stage, "hold": hold}


def following(doc: CutoverPlan) -> dict[str, Any]:
    """Facts of a primary `home` that `away` follows, of which a rehearsal has proved everything."""
    name = stream_name(Identity.model_validate(identity("away")))
    ends = {"name": name, "ours": True, "active": True, "running": True, "enabled": True, "slot": name}
    source = identity("home")["system_identifier"]
    filled = {"fill_stage": "following", "fill_slot": name, "fill_point": "0/1", "hold": None, "source": source}
    receipt = {"term": 1, "stream": name, "stream_point": "0/1", "watermarks": {"home": "a", "away": "b"}}
    shown = {"state": "passed", "passed": True, "at": epoch_s(NOW), "compared_as": compared_as(doc)}
    return facts(
        away__writes="frozen",
        away__fence=fenced(1),
        away__transfer={"stage": "prepared", "term": 1, **filled},
        away__subscriptions=[{**ends, "tables": 3, "tables_ready": 3}],
        home__slots=[{**ends, "database": "hub"}],
        home__definitions="a",
        away__definitions="b",
        rehearsal=receipt | shown,
    )


def staged(plan: Plan, directory: Path, **given: Any) -> Stage:
    """What a step is carried out with, but for what a test gives itself; whatever else it asks for is not there."""
    means: dict[str, Any] = {
        "now": lambda: NOW,
        "record_fact": None,
        "check_lease": lambda: None,
        "look": None,
        "records": tuple,
        "reporter": Silent(),
    }
    return Stage(plan=plan, base_dir=directory, home=directory, run="r", epoch=1, owner="o", **(means | given))


class Silent:
    """A reporter that only keeps the kinds of the steps that it is told."""

    def __init__(self, told: list[str] | None = None) -> None:
        self._told = [] if told is None else told

    def step_started(self, step: Step, index: int, total: int) -> None:
        """Keep its kind."""
        self._told.append(step.kind.value)

    def step_ended(self, step: Step, outcome: str, elapsed_s: float) -> None:
        """Nothing."""

    def switching(self, step: Step) -> None:
        """Nothing."""

    def progress(self, label: str, done: float, total: float | None, unit: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
