"""`approve`, `revoke`, `approvals`: signed human decisions about a saved plan."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import click

from statehub_plan.cli.options import json_option, plan_argument, plan_document_option
from statehub_plan.cli.output import print_error, print_json, print_note, print_text
from statehub_plan.cli.workspace import Workspace, opened, utc_now
from statehub_plan.errors import Exit, Refusal
from statehub_plan.model.output import ApprovalsOutput, SignOutput
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, GateState, SignedStatement, Statement
from statehub_plan.model.spec import Gate
from statehub_plan.render.words import plain

_gate = click.option("--gate", "gate_name", required=True, metavar="NAME", help="the gate, as the plan names it")
_key = click.option(
    "--key",
    type=click.Path(path_type=Path),
    required=True,
    help="your SSH key; a public key file signs with the agent's",
)
_as = click.option(
    "--as", "principal", metavar="PRINCIPAL", help="who you are in allowed_signers  [default: whose key this is]"
)
_reason = click.option("--reason", required=True, help="why; it is signed too")
_yes = click.option("--yes", is_flag=True, help="do not ask to type the gate's name before signing")


class _Given(TypedDict):
    """What somebody who signs says on the command line."""

    gate_name: str
    key: Path
    principal: str | None
    reason: str
    yes: bool
    as_json: bool


@click.command()
@plan_argument
@_gate
@_key
@_as
@_reason
@_yes
@plan_document_option
@json_option
def approve(planfile: Path, named: Path | None, **given: Unpack[_Given]) -> int:
    """Sign an approval of a gate of PLANFILE with your SSH key, after showing exactly what is signed.

    Any checkout of the plan's folder will do. The file that it says it has stored belongs to whoever applies: commit
    it, or copy it to the same place there.
    """
    return _sign("approve", planfile, named, **given)


@click.command()
@plan_argument
@_gate
@_key
@_as
@_reason
@_yes
@plan_document_option
@json_option
def revoke(planfile: Path, named: Path | None, **given: Unpack[_Given]) -> int:
    """Sign a revocation: approvals of this gate for these effects no longer count.

    It is kept in any case; where approvals count nevertheless it says which, and ends with 4. So it does in another
    checkout than the one where the plan was made: it has to be handed to whoever applies, as an approval. Approvals
    that are signed within a minute after it are taken back, too: clocks differ. Approve anew once that has passed.
    """
    return _sign("revoke", planfile, named, **given)


@click.command()
@plan_argument
@plan_document_option
@json_option
def approvals(planfile: Path, named: Path | None, as_json: bool) -> int:
    """Show every gate of PLANFILE with its approvals: whether each counts, why not, until when."""
    plan, workspace = opened(planfile, named)
    with workspace:
        states = workspace.gates(plan)
    if as_json:
        print_json(ApprovalsOutput(gates=states))
    else:
        from statehub_plan.render import gates_text

        print_text(gates_text(states))
    return Exit.DONE


def _sign(
    act: Literal["approve", "revoke"],
    planfile: Path,
    named: Path | None,
    *,
    gate_name: str,
    key: Path,
    principal: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> int:
    """Everything that could make the signature worthless is refused before anything is signed or written."""
    from statehub_plan.approvals.ssh import sign
    from statehub_plan.approvals.statements import approval_text, statement_for
    from statehub_plan.approvals.store import save

    plan, workspace = opened(planfile, named)
    with workspace:
        gate = _gate_named(plan, gate_name)
        signers_file = workspace.base_dir / Path(gate.allowed_signers).expanduser()
        who = _principal(principal, key, signers_file)
        nonce = secrets.token_hex(16)
        statement = statement_for(plan, gate, act=act, principal=who, reason=reason, now=utc_now(), nonce=nonce)
        print_note(approval_text(statement, plan))
        _confirm(statement, yes)
        signed = sign(statement, key)
        if act == "approve":
            _require_counting(workspace, plan, signed)
        path = save(workspace.approvals_dir, signed)
        state = next(one for one in workspace.gates(plan) if one.gate == gate.name)
    if as_json:
        print_json(SignOutput(act=act, stored=str(path), gate=state))
    else:
        done = "approved" if state.satisfied else "not approved"
        print_text(f"stored {plain(str(path))}")
        print_text(f"gate {state.gate}: {len(state.fingerprints)} of {state.quorum} keys, {done}")
    if (elsewhere := _to_be_delivered(workspace, plan, path)) is not None:
        if act == "revoke":
            print_error(elsewhere, as_json=False)
            return elsewhere.exit_status
        print_note(f"note: {elsewhere.hint}")
    if act == "revoke" and (left := _left_counting(state)) is not None:
        print_error(left, as_json=False)
        return left.exit_status
    return Exit.DONE


def _to_be_delivered(workspace: Workspace, plan: Plan, stored: Path) -> Refusal | None:
    """In another checkout than the one where the plan was made, what was stored is known to nobody else yet."""
    if workspace.path == Path(plan.spec_path):
        return None
    return Refusal(
        code="revocation-to-deliver",
        what="this revocation counts where this file lies, which is not where the plan was made",
        hint=f"hand {plain(str(stored))} to whoever applies, into the approvals folder there",
        exit_status=Exit.APPROVAL_MISSING,
    )


def _left_counting(state: GateState) -> Refusal | None:
    """What a revocation did not take back and counts now, or will once the clock has come that far."""
    left = [one for one in state.approvals if one.status in (ApprovalStatus.VALID, ApprovalStatus.NOT_YET_VALID)]
    if not left:
        return None
    return Refusal(
        code="approval-still-counts",
        what=f"this revocation was kept, and does not take back every approval of gate {state.gate}",
        hint="an approver of the gate has to revoke, with a clock that is not behind the one that approved",
        exit_status=Exit.APPROVAL_MISSING,
        details=tuple(f"{one.principal}: {one.status.value}, signed at {one.signed_at}" for one in left),
    )


def _require_counting(workspace: Workspace, plan: Plan, signed: SignedStatement) -> None:
    """What would not count, alone with the revocations that are there, is refused before anything is written where it
    could be taken for an approval."""
    from statehub_plan.approvals.collect import collect
    from statehub_plan.approvals.store import load, save

    with tempfile.TemporaryDirectory(prefix="statehub-plan-approve-") as alone:
        for stored in load(workspace.approvals_dir):
            if stored.signed is not None and stored.signed.statement.act == "revoke":
                shutil.copy(stored.source, alone)
        path = save(Path(alone), signed)
        states = collect(plan, workspace.base_dir, Path(alone), utc_now())
    judged = next(one for state in states for one in state.approvals if one.source == str(path))
    if judged.status is not ApprovalStatus.VALID:
        revoked = judged.status is ApprovalStatus.REVOKED
        other = "ask another approver, or plan again when the plan is no longer the one to approve"
        raise Refusal(
            code="approval-does-not-count",
            what=f"this approval would not count, so it was not kept: {judged.status.value}: {judged.detail}",
            hint="if you still approve, do it again once that time has passed" if revoked else other,
            exit_status=Exit.APPROVAL_MISSING,
        )


def _gate_named(plan: Plan, name: str) -> Gate:
    found = next((gate for gate in plan.spec.spec.gates if gate.name == name), None)
    if found is None:
        named = ", ".join(gate.name for gate in plan.spec.spec.gates) or "it has none"
        raise Refusal(
            code="gate-unknown",
            what=f"plan {plan.spec.metadata.name} has no gate {name}",
            hint=f"its gates: {named}",
            exit_status=Exit.APPROVAL_MISSING,
        )
    return found


def _principal(named: str | None, key: Path, signers_file: Path) -> str:
    """Whose key this is by allowed_signers; a name that is given must be that one."""
    from statehub_plan.approvals.ssh import load_signers, principal_of_key

    signers = load_signers(signers_file)
    owner = principal_of_key(key, signers)
    if owner is None:
        raise Refusal(
            code="key-unknown",
            what=f"the key {key} is not listed in {signers_file}",
            hint="have the line of your key added to allowed_signers, by review, then approve",
            exit_status=Exit.APPROVAL_MISSING,
        )
    if named is not None and named != owner:
        raise Refusal(
            code="key-of-another",
            what=f"the key {key} is listed for {owner}, not for {named}",
            hint="sign with your own key, or leave `--as` out",
            exit_status=Exit.APPROVAL_MISSING,
        )
    return owner


def _confirm(statement: Statement, yes: bool) -> None:
    if yes:
        return
    try:
        typed = click.prompt(f"\nType the gate's name to {statement.act}", default="", show_default=False, err=True)
    except click.Abort:
        typed = ""
    if str(typed).strip() != statement.gate:
        raise Refusal(
            code="not-confirmed",
            what=f"the name of gate {statement.gate} was not typed; nothing was signed",
            hint="read what is shown above and run the command again, or say --yes",
            exit_status=Exit.APPROVAL_MISSING,
        )
