"""From a plan and a folder to the state of every gate: reads, verifies, judges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from statehub_plan.approvals.judge import Candidate, judge
from statehub_plan.approvals.ssh import SignatureRefused, load_signers, verify_against
from statehub_plan.approvals.statements import principal_of
from statehub_plan.approvals.store import StoredApproval, load
from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import ApprovalStatus, GateState
from statehub_plan.model.spec import Gate
from statehub_plan.signatures.signers import Signer


def collect(
    plan: Plan,
    base_dir: Path,
    folder: Path,
    now: datetime,
    *,
    authors: Iterable[str] = (),
    gates_passed: Collection[str] = (),
) -> tuple[GateState, ...]:
    """Every gate of the plan, in the plan's order, as the approvals in `folder` leave it.

    allowed_signers files are found from `base_dir`, the folder of the plan document. `authors` are authors besides the
    plan's own: who runs it. An allowed_signers file that is refused leaves its gates unsatisfied and says why in an
    entry of its own. Runs ssh-keygen once or twice per approval of this plan, about 7 ms each; others cost nothing.
    """
    everyone = tuple(authors)
    stored = load(folder)
    gates = plan.spec.spec.gates
    files = {gate.allowed_signers: _signers(base_dir / Path(gate.allowed_signers).expanduser()) for gate in gates}
    author_keys = _keys_of((plan.author, *everyone), [signers for signers, _ in files.values()])
    states = []
    for gate in gates:
        signers, refused = files[gate.allowed_signers]
        candidates = [_candidate(plan, each, signers, refused, now) for each in stored if _concerns(each, gate)]
        if refused is not None:
            candidates.append(refused)
        states.append(
            judge(
                plan,
                gate,
                candidates,
                now=now,
                authors=everyone,
                author_keys=author_keys,
                passed=gate.name in gates_passed,
            )
        )
    return tuple(states)


def _signers(path: Path) -> tuple[tuple[Signer, ...], Candidate | None]:
    """The signers, or none and an entry that says why."""
    try:
        return load_signers(path), None
    except StatehubError as error:
        return (), Candidate(source=str(path), problem=ApprovalStatus.MALFORMED, detail="; ".join(_words(error)))


def _words(error: StatehubError) -> tuple[str, ...]:
    return error.what, *error.details, error.hint


def _concerns(stored: StoredApproval, gate: Gate) -> bool:
    return stored.signed is None or stored.signed.statement.gate == gate.name


def _candidate(
    plan: Plan, stored: StoredApproval, signers: Sequence[Signer], refused: Candidate | None, now: datetime
) -> Candidate:
    if stored.signed is None:
        return Candidate(source=stored.source, problem=ApprovalStatus.MALFORMED, detail=stored.problem)
    unverified = Candidate(source=stored.source, signed=stored.signed)
    if stored.signed.statement.plan_name != plan.spec.metadata.name:
        return unverified
    if refused is not None:
        detail = f"nobody is known to sign: see {refused.source}"
        return unverified.model_copy(update={"problem": ApprovalStatus.UNKNOWN_SIGNER, "detail": detail})
    try:
        verified = verify_against(stored.signed, signers, now=now)
    except SignatureRefused as error:
        return unverified.model_copy(
            update={"problem": error.status, "detail": error.what, "fingerprint": error.fingerprint}
        )
    return unverified.model_copy(update={"fingerprint": verified.fingerprint})


def _keys_of(authors: Iterable[str], files: Iterable[Sequence[Signer]]) -> frozenset[str]:
    """The keys that any of the files lists for an author, under whatever name a gate's own file lists them."""
    names = {principal_of(author).casefold() for author in authors}
    return frozenset(each.fingerprint for signers in files for each in signers if each.principal.casefold() in names)
