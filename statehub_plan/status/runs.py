"""A run that is not over: where it was left, what the world says of its decision, and how it goes on. Pure."""

from __future__ import annotations

from statehub_plan.history import FORWARD, Unfinished
from statehub_plan.model.plan import Direction, Plan
from statehub_plan.model.record import Lease
from statehub_plan.planning import make_plan, turned
from statehub_plan.registers import Register
from statehub_plan.status.facts import decider
from statehub_plan.status.model import LaneStanding

Standing = tuple[LaneStanding, str]


def run_standing(begun: Unfinished, plan: Plan | None, register: Register | None, lease: Lease | None) -> Standing:
    """A switch has one intent for all of its steps: how far it came is for the register to say, not for the journal."""
    switched = f"in its switch ({begun.section[0]} to {begun.section[-1]})" if begun.section else None
    where = switched or f"at {begun.step or 'its beginning'}"
    if lease is not None:
        who = f"{lease.holder} (process {lease.pid} on {lease.host})" if lease.pid is not None else lease.holder
        return LaneStanding.RUNNING, f"run {begun.run} {where} is under way, carried out by {who}"
    why = f": {begun.failed}" if begun.failed else "; it ended without a word"
    return LaneStanding.INTERRUPTED, f"run {begun.run} {where} was interrupted{_decision(begun, plan, register)}{why}"


def _decision(begun: Unfinished, plan: Plan | None, register: Register | None) -> str:
    if plan is None or register is None or register.primary is None:
        return ", and whether it has decided could not be observed" if begun.section else ""
    if decider(plan, register) == begun.run:
        return f", after its decision: {register.primary} is primary by term {register.decided}"
    return ", before its decision" if begun.section else ""


def go_on(begun: Unfinished, register: Register | None) -> str:
    """What comes next; keeping the present primary is offered for as long as it is not the one that the run wished."""
    again = f"run `apply` again with the plan of {_the_run(begun)}"
    action = (
        f"Mend what stopped it first: {begun.failed.rstrip('.')}. Then {again}" if begun.failed else f"Go on: {again}"
    )
    primary = register.primary if register is not None else None
    if primary is None:
        return f"{action}; who is primary could not be observed, so make both databases reachable before anything else."
    if begun.wished == primary:
        return f"{action}; {primary} is primary already."
    return f"{action}; or keep the present primary: `abort`."


def _the_run(begun: Unfinished) -> str:
    return "the interrupted run" if begun.direction == FORWARD else f"the interrupted {begun.direction}"


def way_back(waiting: Unfinished, plan: Plan, register: Register) -> tuple[str, ...] | None:
    """What is left of a run that stabilizes the primary which it decided on, where that is not the one that the
    document wishes: titles of its steps. None for any other."""
    if waiting.direction == FORWARD or register.primary in (None, plan.new) or decider(plan, register) != waiting.run:
        return None
    back = make_plan(
        turned(plan.spec, str(register.primary)),
        observation=plan.observation,
        evidence=(),
        now=plan.created_at,
        author=plan.author,
        tool_version=plan.tool_version,
        spec_digest=plan.spec_digest,
        spec_path=plan.spec_path,
        direction=Direction.SWITCHBACK,
    )
    return tuple(step.title for step in back.steps)
