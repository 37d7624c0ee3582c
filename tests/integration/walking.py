"""Real worlds to walk through: one step of the tool at a time in a process of its own, and what people do meanwhile."""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import JsonValue

from statehub_plan.abstraction import ground
from statehub_plan.apply.loop import SECTION_KINDS
from statehub_plan.cli.leased import appending, leased
from statehub_plan.cli.workspace import Workspace, utc_now
from statehub_plan.demo.cluster import SUPERUSER
from statehub_plan.demo.ledger import API_BASE_POINTER
from statehub_plan.demo.world import TARGET, DemoWorld
from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Direction, Plan, Step
from statehub_plan.model.record import Lease, RecordKind
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.model.steps import StepKind
from statehub_plan.planner import Wish
from statehub_plan.planning import turned, wish_of
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.replication import enable_subscription
from statehub_plan.registers import read_register
from statehub_plan.steps import executor
from statehub_plan.steps.stage import Stage
from statehub_plan.steps.switching import begin_switch, carry_out_part
from statehub_plan.streams import fill_under_way
from statehub_plan.world import Role, World
from tests.integration.forking import forked
from tests.integration.killed_apply import Killer
from tests.integration.replicating import away_from, stream_into


@dataclass(frozen=True)
class Wished:
    """What the person who walks wants at the moment."""

    document: CutoverPlan
    direction: Direction

    @property
    def new(self) -> str:
        """The site that is to be primary."""
        return self.document.spec.desired.primary

    @property
    def wish(self) -> Wish:
        """As the planner takes it."""
        return wish_of(self.document, self.direction)


class Ground:
    """Two real sites under one wish. Every look is a fresh one, every step runs in a forked process."""

    def __init__(self, world: DemoWorld, run: str) -> None:
        self.sites = world
        self._run = run
        with Workspace.load(world.plan_file) as workspace:
            document = workspace.document
            self._digest = workspace.digest
        # Evidence of earlier tasks is another test's subject.
        spec = document.spec.model_copy(update={"tasks": (), "entry_criteria": ()})
        self._document = document.model_copy(update={"spec": spec})
        self.wished = self.wish_for(TARGET)

    def workspace(self) -> Workspace:
        """For what is wished now; a context manager."""
        return Workspace(self.wished.document, self.sites.plan_file, self._digest)

    def wish_for(self, primary: str | None) -> Wished:
        """Cutover or switchback to a site; None: an abort, which keeps whoever is primary."""
        if primary is None:
            with self.workspace_of(self._document) as workspace:
                observation, _ = workspace.observe(deep=False)
                register = read_register(self._document, observation)
            assert register.primary is not None
            alone = register.decided == 0 or fill_under_way(observation, away_from(register.primary))
            return Wished(turned(self._document, register.primary, alone=alone), Direction.ABORT)
        direction = Direction.FORWARD if primary == TARGET else Direction.SWITCHBACK
        return Wished(turned(self._document, primary), direction)

    def workspace_of(self, document: CutoverPlan) -> Workspace:
        """The workspace of a document."""
        return Workspace(document, self.sites.plan_file, self._digest)

    def look(self) -> tuple[World, Plan]:
        """The world as it is seen from the wish, and the plan from there."""
        with self.workspace() as workspace:
            observation, evidence = workspace.observe(deep=True)
            plan = workspace.plan(self.wished.document, observation, evidence, self.wished.direction)
            world = ground(self.wished.document, observation, evidence, now=utc_now()).world
        return world, plan

    def site(self, role: Role) -> str:
        """The name of the site that plays a role under the present wish."""
        return self.wished.new if role is Role.NEW else away_from(self.wished.new)

    # What the tool does

    def do(self, plan: Plan, moment: str) -> int:
        """The plan's next step, or the whole switch, in a process that ends itself at `moment`; its status."""
        return forked(lambda: self._next(plan, moment))

    def _next(self, plan: Plan, moment: str) -> int:
        try:
            with self.workspace() as workspace:
                _carry_out_next(workspace, plan, self._run, Killer(moment))
        except StatehubError as error:
            print(error, file=sys.stderr, flush=True)
            return int(error.exit_status)
        return 0

    # What people and the world do

    def switch_off(self, receiver: str) -> None:
        """The subscription of a site is disabled by hand."""
        with connect(self._superuser(receiver), purpose="test") as session:
            enable_subscription(session, stream_into(self.sites, receiver), enabled=False)

    def end_walsender(self, receiver: str) -> None:
        """The server process that sends to a site is ended."""
        with psycopg.connect(self._superuser(away_from(receiver)), autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
                [stream_into(self.sites, receiver)],
            )

    def open_by_hand(self, site: str) -> None:
        """A superuser lets everybody write there again."""
        with psycopg.connect(self._superuser(site), autocommit=True) as session:
            session.execute("SET default_transaction_read_only = off")
            for schema, table in session.execute(
                "SELECT n.nspname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
                "JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE t.tgname = 'statehub_plan_fence' AND t.tgenabled <> 'D'"
            ).fetchall():
                disable = sql.SQL("ALTER TABLE {} DISABLE TRIGGER statehub_plan_fence")
                session.execute(disable.format(sql.Identifier(schema, table)))
            session.execute("ALTER DATABASE statehub RESET default_transaction_read_only")

    def repoint(self, site: str) -> None:
        """One access path, the MCP clients' configuration, is pointed at a site by hand."""
        file = self.sites.directory / "mcp" / "config.json"
        value = json.loads(file.read_text(encoding="utf-8"))
        place = value
        *way, last = API_BASE_POINTER.removeprefix("/").split("/")
        for part in way:
            place = place[part]
        place[last] = self.sites.sites[site].api
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    def write(self, site: str) -> None:
        """The service writes a row."""
        with psycopg.connect(self.sites.sites[site].dsn("statehub_app"), autocommit=True) as session:
            session.execute(
                "INSERT INTO public.idempotency_key (key, request_sha256) VALUES (%s, 'x')", [secrets.token_hex(8)]
            )

    def _superuser(self, site: str) -> str:
        return self.sites.sites[site].dsn(SUPERUSER)


def _carry_out_next(workspace: Workspace, plan: Plan, run: str, killer: Killer) -> None:
    """What `apply` does in one turn, without gates and policies."""
    with leased(workspace, plan, killer) as lease:
        _under_lease(workspace, plan, run, killer, lease)


def _under_lease(workspace: Workspace, plan: Plan, run: str, killer: Killer, lease: Lease) -> None:
    append = appending(workspace, run, lease, killer)

    def record_fact(kind: str, state: str, payload: dict[str, JsonValue]) -> None:
        append(RecordKind.FACT, None, {"direction": plan.direction.value, **payload, "kind": kind, "state": state})

    stage = Stage(
        plan=plan,
        base_dir=workspace.base_dir,
        home=workspace.home,
        run=run,
        epoch=lease.epoch,
        owner=f"{run}.{secrets.token_hex(4)}",
        now=utc_now,
        record_fact=record_fact,
        check_lease=lambda: None,
        look=lambda: _seen(workspace, plan),
        records=workspace.records,
        reporter=killer,
        moment=killer.moment,
    )
    try:
        first = plan.steps[0]
        if first.kind is StepKind.HOLD:
            _switch(stage, section(plan))
        else:
            _single(stage, first)
    finally:
        stage.release()


def _seen(workspace: Workspace, plan: Plan) -> tuple[Observation, tuple[Evidence, ...]]:
    """On a machine that is busy with other tests a look may time out; a step that needs it would refuse then."""
    for _ in range(3):
        observation, evidence = workspace.observe(plan.spec, deep=True)
        if read_register(plan.spec, observation).primary is not None:
            break
    return observation, evidence


def section(plan: Plan) -> list[Step]:
    """The steps that are one switch."""
    count = next((i for i, step in enumerate(plan.steps) if step.kind not in SECTION_KINDS), len(plan.steps))
    return list(plan.steps[:count])


def _single(stage: Stage, step: Step) -> None:
    stage.reporter.step_started(step, 1, 1)
    executor(step.kind)(stage, step)
    stage.reporter.step_ended(step, "done", 0.0)


def _switch(stage: Stage, steps: list[Step]) -> None:
    reverse = wish_of(stage.plan.spec, stage.plan.direction).fallback.value == "following"
    with begin_switch(stage, reverse=reverse) as switch:
        for step in steps:
            stage.reporter.switching(step)
            if step.kind is StepKind.REDIRECT:
                executor(step.kind)(stage, step)
            else:
                carry_out_part(stage, switch, step)
    stage.record_fact(StepKind.DECIDE.value, "passed", {"term": stage.plan.term, "primary": stage.plan.new})
