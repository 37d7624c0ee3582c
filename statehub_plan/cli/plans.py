"""`plan`, `switchback`, `abort`, `show`, `graph`."""

from __future__ import annotations

from pathlib import Path

import click

from statehub_plan.cli.judging import judged
from statehub_plan.cli.options import document_argument, json_option, plan_argument
from statehub_plan.cli.output import print_json, print_rich, print_text
from statehub_plan.cli.workspace import Workspace, load_plan, save_plan
from statehub_plan.errors import Exit, Refusal, StatehubError
from statehub_plan.model.plan import Direction, Plan, PlanFile
from statehub_plan.model.spec import CutoverPlan, TransferMethod
from statehub_plan.planning import turned
from statehub_plan.world import Role, Term, Writes

_out = click.option("-out", "--out", "out", type=click.Path(path_type=Path), help="save the plan for approve and apply")
_detailed = click.option(
    "-detailed-exitcode", "--detailed-exitcode", "detailed", is_flag=True, help="exit 2 when changes are pending"
)


def _planned(path: Path, direction: Direction) -> Plan:
    with Workspace.load(path) as workspace:
        observation, evidence = workspace.observe()
        forward = workspace.plan(workspace.document, observation, evidence, direction)
        document = _document(workspace, direction, forward)
        plan = workspace.plan(document, observation, evidence if document is workspace.document else (), direction)
        if direction is Direction.SWITCHBACK and _asks_preflight(document, plan):
            observation, _ = workspace.observe(document)  # what was asked so far is about the other direction
            plan = workspace.plan(document, observation, (), direction)
        if direction is Direction.ABORT:
            _require_begun(forward, plan)
        return judged(workspace, plan)


def _asks_preflight(document: CutoverPlan, plan: Plan) -> bool:
    """Whether what the pre-flight checks say decides how rows travel, or matters because a target is to be filled."""
    from statehub_plan.render.preflight_words import preparing

    return document.spec.transfer.method is TransferMethod.AUTO or preparing(plan)


def _require_begun(forward: Plan, plan: Plan) -> None:
    """Seen by somebody who wishes it to be primary, a side that clients are pointed at before any decision could have
    been redirected to too early; seen from the document it is primary, and there was never anything to abort."""
    world = forward.trajectory[0]
    untouched = (world.primary, world.term, world.old.writes) == (Role.OLD, Term.SETTLED, Writes.OPEN)
    if untouched and plan.refused is not None:
        raise Refusal(
            code="nothing-to-abort",
            what=f"{forward.old} is primary and accepts writes, and no decision is pending",
            hint="nothing has to be done",
        )


def _document(workspace: Workspace, direction: Direction, forward: Plan) -> CutoverPlan:
    """The document itself, or turned towards the other endpoint (switchback) or the present primary (abort)."""
    from statehub_plan.registers import read_register
    from statehub_plan.streams import fill_under_way

    if direction is Direction.FORWARD:
        return workspace.document
    register = read_register(forward.spec, forward.observation)
    if register.primary is None:
        raise StatehubError(
            code="primary-unknown",
            what=f"which endpoint is primary could not be observed: {register.basis}",
            hint="make both databases reachable; `observe` names what could not be seen. Where the primary is lost for "
            "good: README, When the primary is lost",
        )
    wished = workspace.document.spec.desired.primary
    if direction is Direction.SWITCHBACK and register.primary != wished:
        raise Refusal(
            code="not-switched",
            what=f"{register.primary} is primary and the document wishes {wished}: there is no move to go back on",
            hint="`plan` shows the way to what the document wishes",
        )
    away = next(name for name in workspace.document.spec.endpoints if name != register.primary)
    if direction is Direction.SWITCHBACK:
        return turned(workspace.document, away)
    # A fill under way is given up with the move that it belongs to; a stream that has been there is kept.
    alone = register.decided == 0 or fill_under_way(forward.observation, away)
    return turned(workspace.document, register.primary, alone=alone)


def _present(plan: Plan, out: Path | None, as_json: bool, detailed: bool) -> int:
    if out is not None:
        save_plan(plan, out)
    if as_json:
        print_json(PlanFile.seal(plan))
    else:
        from statehub_plan.render import plan_view

        print_rich(plan_view(plan, saved_as=str(out) if out else None))
    if plan.verdict is not None and not plan.verdict.allowed:
        return Exit.VETOED
    if plan.refused is not None:
        return Exit.ERROR
    if detailed and plan.changes:
        return Exit.CHANGES_PENDING
    return Exit.DONE


@click.command()
@document_argument
@_out
@json_option
@_detailed
def plan(document: Path, out: Path | None, as_json: bool, detailed: bool) -> int:
    """Show the steps from what is to what DOCUMENT says should be, why each is needed, and what policies say."""
    return _present(_planned(document, Direction.FORWARD), out, as_json, detailed)


@click.command()
@document_argument
@_out
@json_option
@_detailed
def switchback(document: Path, out: Path | None, as_json: bool, detailed: bool) -> int:
    """Plan the way back: the endpoint of DOCUMENT that is not primary now becomes primary; gates and policies stay."""
    return _present(_planned(document, Direction.SWITCHBACK), out, as_json, detailed)


@click.command()
@document_argument
@_out
@json_option
@_detailed
def abort(document: Path, out: Path | None, as_json: bool, detailed: bool) -> int:
    """Plan to keep the present primary: burn a pending decision, open it for writes, point clients at it."""
    return _present(_planned(document, Direction.ABORT), out, as_json, detailed)


@click.command()
@plan_argument
@json_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="markdown is made for a pull request",
)
def show(planfile: Path, as_json: bool, form: str) -> int:
    """Show a saved plan again, after making its steps anew from the document and the facts in it.

    The verdict is as its author recorded it; `apply` asks the policies again.
    """
    found = load_plan(planfile)
    if as_json or form == "json":
        print_json(PlanFile.seal(found))
    elif form == "markdown":
        from statehub_plan.render import plan_markdown

        print_text(plan_markdown(found))
    else:
        from statehub_plan.render import plan_view

        print_rich(plan_view(found, saved_as=str(planfile)))
    return Exit.DONE


@click.command()
@plan_argument
def graph(planfile: Path) -> int:
    """Draw a saved plan as a Mermaid diagram: steps, gates, the point of no return, what a crash leaves."""
    from statehub_plan.render import plan_mermaid

    print_text(plan_mermaid(load_plan(planfile)))
    return Exit.DONE
