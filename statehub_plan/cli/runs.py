"""`apply`, `watch`, `history`, `report`: running a plan, and what its runs left on record."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Literal

import click
from pydantic import JsonValue

from statehub_plan.cli.leased import appending, leased
from statehub_plan.cli.options import document_argument, json_option, plan_argument, plan_document_option
from statehub_plan.cli.output import TerminalReporter, error_output, print_error, print_json, print_text
from statehub_plan.cli.workspace import Workspace, author, opened, utc_now
from statehub_plan.errors import Exit, LeaveNow, Refusal, StatehubError
from statehub_plan.history import stabilizing
from statehub_plan.journal import Journal
from statehub_plan.model.facts import Evidence, Fact, Observation
from statehub_plan.model.output import HistoryOutput, RehearseOutput, RunOutput
from statehub_plan.model.plan import Phase, Plan, PlanFile, Verdict
from statehub_plan.model.record import GateState, RecordKind, RunContext
from statehub_plan.model.spec import duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.moments import Moment, passed_by
from statehub_plan.render.words import plain
from statehub_plan.reporter import Reporter

LEASE_TTL_S = 30.0

LEASE_AWAITED_S = 3600.0
"""So long a watching run waits for somebody who has the lease and keeps it: then nothing comes of it by itself."""


class _Eyes:
    """Looks at the world; a quick look keeps the slow facts of the last deep one, with the time they were seen."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._deep: tuple[Observation, tuple[Evidence, ...]] | None = None

    def __call__(self, deep: bool, *, unrecorded: bool = False) -> tuple[Observation, tuple[Evidence, ...]]:
        if deep or self._deep is None:
            self._deep = self._workspace.observe(deep=True, unrecorded=unrecorded)
            return self._deep
        fresh, _ = self._workspace.observe(deep=False, unrecorded=unrecorded)
        kept: dict[str, Fact] = {fact.id: fact for fact in self._deep[0]}
        merged = kept | {fact.id: fact for fact in fresh}
        return fresh.model_copy(update={"facts": tuple(merged[key] for key in sorted(merged))}), self._deep[1]


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal all end a run in order: writers are released, the record says why. A second
    signal while that is under way is only answered, a third is obeyed at once, wherever that has come to."""
    received = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received == 2:
            with suppress(OSError):
                os.write(
                    2, b"\nstatehub-plan: ending in order, so that nobody is left waiting; once more to leave now\n"
                )
            return
        raise KeyboardInterrupt if received == 1 else LeaveNow

    ending = [one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, interrupt) for one in ending}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def run_id(plan: Plan) -> str:
    """The run that belongs to a plan: the same for every process that carries it out."""
    return f"{plan.spec.metadata.name}-{PlanFile.seal(plan).digest.removeprefix('sha256:')[:12]}"


def carry_out(
    workspace: Workspace, plan: Plan, reporter: Reporter, moment: Moment = passed_by, *, rehearsing: bool = False
) -> None:
    """One turn at applying a plan under the service's lease; returns when the wish holds (or, `rehearsing`, after one
    rehearsal), raises otherwise."""
    from statehub_plan.apply.around import Glance, Surroundings
    from statehub_plan.apply.loop import Applying
    from statehub_plan.cli.judging import ask, policy_host
    from statehub_plan.journal import Heartbeat
    from statehub_plan.steps import executor
    from statehub_plan.steps.stage import Stage
    from statehub_plan.steps.switching import begin_proved_switch, carry_out_part

    journal, run, who = workspace.journal, run_id(plan), author()
    _require_outside(journal, plan)
    eyes = _Eyes(workspace)
    with leased(workspace, plan, reporter) as lease:
        journal.verify()
        begun = any(one.run == run and one.kind is RecordKind.STEP_INTENT for one in workspace.records())
        with Heartbeat(journal, lease) as heartbeat, policy_host(workspace, needed=not begun) as host:
            append = appending(workspace, run, lease, reporter)

            def record_fact(kind: str, state: str, payload: dict[str, JsonValue]) -> None:
                direction = plan.direction.value
                append(RecordKind.FACT, None, {"direction": direction, **payload, "kind": kind, "state": state})

            def judge(
                judged: Plan, phase: Phase, context: RunContext, glance: Glance, gates: tuple[GateState, ...]
            ) -> Verdict:
                return ask(
                    host(),
                    judged,
                    phase=phase,
                    run=context,
                    seen=(glance.observation, glance.world, glance.evidence),
                    gates=gates,
                    history=workspace.history(glance.observation, run),
                    now=utc_now(),
                )

            stage = Stage(
                plan=plan,
                base_dir=workspace.base_dir,
                home=workspace.home,
                run=run,
                epoch=lease.epoch,
                owner=f"{run}.{secrets.token_hex(4)}",
                now=utc_now,
                record_fact=record_fact,
                check_lease=heartbeat.check,
                look=lambda: eyes(False),
                records=workspace.records,
                reporter=reporter,
                moment=moment,
            )
            around = Surroundings(
                observe=eyes,
                observe_unrecorded=lambda: eyes(False, unrecorded=True),
                judge=judge,
                gates=lambda wanted: workspace.gates(wanted, run),
                records=workspace.records,
                append=append,
                executor=executor,
                begin_switch=lambda stage, reverse: begin_proved_switch(stage, reverse=reverse),
                switch_part=carry_out_part,
                now=utc_now,
            )
            Applying(plan, stage, around, who, rehearsing=rehearsing).run()


def _require_outside(journal: Journal, plan: Plan) -> None:
    """The record of a move must survive whatever happens to the databases that move."""
    kept_in = journal.identity()
    for name, moving in plan.identities.items():
        if kept_in is not None and kept_in == moving:
            raise Refusal(
                code="journal-inside",
                what=f"the journal {journal.location} is kept in the database of {name}, which this plan moves",
                hint="keep it elsewhere: a file (the default), or a database that no plan moves",
            )


def _with_outcome(as_json: bool, plan: Plan, work: Callable[[], None]) -> int:
    """Runs `work` and tells how it ended, in words or as one JSON object."""
    try:
        with ended_in_order():
            work()
    except StatehubError as error:
        if as_json:
            waiting = error.exit_status is Exit.WAITING
            print_json(_result(plan, "waiting" if waiting else "stopped", error))
        else:
            print_error(error, as_json=False)
        return error.exit_status
    if as_json:
        print_json(_result(plan, "done", None))
    else:
        print_text(f"done: {plan.new} is primary; run {run_id(plan)} is on record")
    return Exit.DONE


def _result(plan: Plan, outcome: Literal["done", "waiting", "stopped"], error: StatehubError | None) -> RunOutput:
    told = None if error is None else error_output(error)
    return RunOutput(run=run_id(plan), outcome=outcome, primary_wished=plan.new, error=told)


@click.command()
@plan_argument
@plan_document_option
@json_option
def apply(planfile: Path, named: Path | None, as_json: bool) -> int:
    """Carry out a saved plan, exactly the one that was shown. Run it again to go on after an interruption or a wait.

    Gates must be approved (exit 4), policies must not object (3), the world must be the one planned for (5).
    """
    plan, workspace = opened(planfile, named)
    with workspace:
        return _with_outcome(as_json, plan, lambda: carry_out(workspace, plan, TerminalReporter(quiet=as_json)))


@click.command()
@plan_argument
@plan_document_option
@json_option
def rehearse(planfile: Path, named: Path | None, as_json: bool) -> int:
    """Rehearse the switch of a saved plan on the live system, with writers running; nothing is decided.

    What comes before it in the plan (filling, following) is carried out first. Writers wait for a blink: hold, drain,
    prove, release; then the content of both sides, as of that moment, is compared online. No gate stands before it, but
    where content of the target is to be replaced. The receipt is what policies ask for, and `plan` shows its expected
    write gap. `apply` of the same plan goes on from there.
    """
    plan, workspace = opened(planfile, named)
    with workspace:
        reporter = TerminalReporter(quiet=as_json)
        try:
            with ended_in_order():
                carry_out(workspace, plan, reporter, rehearsing=True)
        except StatehubError as error:
            print_error(error, as_json=as_json)
            return error.exit_status
        receipt = [
            record.payload
            for record in workspace.records()
            if record.kind is RecordKind.FACT and record.payload.get("kind") == StepKind.REHEARSE.value
        ][-1]
    names = RehearseOutput.model_fields.keys() - {"run"}
    output = RehearseOutput.model_validate({"run": run_id(plan)} | {name: receipt.get(name) for name in names})
    if as_json:
        print_json(output)
    else:
        print_text(
            f"rehearsed: writers waited {output.gap_ms:.0f} ms, expected write gap {output.predicted_gap_ms:.0f} ms, "
            f"of which clients take {output.predicted_gap_ms - output.predicted_hold_ms:.0f} to come back; "
            f"contents equal, compared online in {output.compared_ms / 1000:.1f} s"
        )
    return Exit.DONE


def _stay(workspace: Workspace, plan: Plan, reporter: Reporter) -> None:
    """Carries a plan out, look by look while it stabilizes; raises whatever ends that before it is done."""
    interval_s = duration_s(plan.spec.spec.stabilization.interval)
    locked_since: float | None = None
    while True:
        try:
            return carry_out(workspace, plan, reporter)
        except StatehubError as error:
            locked = _missed_for_the_lease(error, workspace, plan)
            if not (locked or error.exit_status is Exit.WAITING or _is_unseen(error)):
                raise
            if not locked:
                locked_since = None
            elif locked_since is None:
                locked_since = time.monotonic()
            elif time.monotonic() - locked_since > LEASE_AWAITED_S:
                raise
            reporter.note(error.what)
        time.sleep(interval_s)


def _is_unseen(error: StatehubError) -> bool:
    from statehub_plan.apply.unseen import Unseen

    return isinstance(error, Unseen)


def _missed_for_the_lease(error: StatehubError, workspace: Workspace, plan: Plan) -> bool:
    """Whether somebody else, as `guard` does for a moment, has the lease that the next look needs."""
    from statehub_plan.journal.protocol import LEASE_HELD

    return error.code == LEASE_HELD and stabilizing(workspace.records(), run_id(plan))


@click.command()
@plan_argument
@plan_document_option
@json_option
def watch(planfile: Path, named: Path | None, as_json: bool) -> int:
    """Like `apply`, but stays while the run waits (stabilization) and looks again at the plan's interval.

    A primary that cannot be seen meanwhile is a bad look. A lease that somebody else has is waited for, up to an hour.
    """
    plan, workspace = opened(planfile, named)
    with workspace:
        return _with_outcome(as_json, plan, lambda: _stay(workspace, plan, TerminalReporter(quiet=as_json)))


@click.command()
@document_argument
@click.option("--run", "run", help="only this run")
@json_option
def history(document: Path, run: str | None, as_json: bool) -> int:
    """Print the journal of DOCUMENT's service, after checking its hash chain."""
    with Workspace.load(document) as workspace:
        checked = workspace.verify_journal()
        shown = [record for record in workspace.records() if run in (None, record.run)]
        if as_json:
            print_json(HistoryOutput(checked=checked, records=tuple(shown)))
        else:
            from statehub_plan.render import history_text

            print_text(history_text(tuple(shown), checked))
    return Exit.DONE


@click.command()
@plan_argument
@click.option("-out", "--out", "out", type=click.Path(path_type=Path), required=True, help="the HTML file to write")
@plan_document_option
def report(planfile: Path, out: Path, named: Path | None) -> int:
    """Write one self-contained HTML page about the run of a saved plan: timeline, gap, proofs, approvals, verdicts."""
    from statehub_plan.render import run_report_html

    plan, workspace = opened(planfile, named)
    with workspace:
        records = tuple(record for record in workspace.records() if record.run == run_id(plan))
        page = run_report_html(plan, records, workspace.gates(plan), utc_now())
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StatehubError(
            code="report-unwritable",
            what=f"the report could not be written to {out}: {error.strerror or error}",
            hint="choose a path in a writable folder with free space",
        ) from None
    print_text(f"wrote {plain(str(out))}")
    return Exit.DONE
