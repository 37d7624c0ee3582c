"""Asking the policies, for `plan`, `apply` and `policy check` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from statehub_plan.abstraction import ground
from statehub_plan.cli.workspace import Workspace, author, utc_now
from statehub_plan.errors import StatehubError
from statehub_plan.model.facts import Evidence, Observation
from statehub_plan.model.plan import Phase, Plan, Verdict
from statehub_plan.model.record import GateState, History, RunContext
from statehub_plan.model.spec import duration_s
from statehub_plan.policy.host import PolicyHost
from statehub_plan.policy.input import build_input
from statehub_plan.world import World


@contextmanager
def policy_host(workspace: Workspace, *, needed: bool = True) -> Iterator[Callable[[], PolicyHost]]:
    """The policies of a plan, ready to be asked: a named server, or one that is started here and ends here.

    StatehubError where they can't be had: at once, or unless `needed` only when they are asked, for a run that has
    begun and, not being allowed to go on, still has to leave nobody waiting."""
    timeout_s = duration_s(workspace.document.spec.policy.timeout)
    with ExitStack() as stack:
        try:
            host = stack.enter_context(PolicyHost(workspace.bundle_dir, timeout_s=timeout_s))
        except (StatehubError, OSError) as error:
            if needed:
                raise
            absent = error  # the name of an exception ends with its clause

            def refuse() -> PolicyHost:
                raise absent

            yield refuse
        else:
            yield lambda: host


def ask(
    host: PolicyHost,
    plan: Plan,
    *,
    phase: Phase,
    run: RunContext,
    seen: tuple[Observation, World, tuple[Evidence, ...]],
    gates: tuple[GateState, ...],
    history: History,
    now: datetime,
) -> Verdict:
    """The policies' verdict on one plan in one phase."""
    observed, world, evidence = seen
    document = build_input(
        plan=plan,
        phase=phase,
        now=now,
        run=run,
        observed=observed,
        world=world,
        evidence=evidence,
        gates=gates,
        history=history,
        bundle=host.bundle,
    )
    return host.judge(document, phase=phase, now=now)


def judged(workspace: Workspace, plan: Plan) -> Plan:
    """The plan with the verdict of phase `plan`; with nothing to do there is nothing to judge."""
    if not plan.steps:
        return plan
    now = utc_now()
    world = ground(plan.spec, plan.observation, plan.evidence, now=now).world
    with policy_host(workspace) as host:
        verdict = ask(
            host(),
            plan,
            phase=Phase.PLAN,
            run=RunContext(author=author()),
            seen=(plan.observation, world, plan.evidence),
            gates=workspace.gates(plan),
            history=workspace.history(plan.observation),
            now=now,
        )
    return plan.model_copy(update={"verdict": verdict})
