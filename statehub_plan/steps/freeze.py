"""`freeze`: the primary's hold becomes durable for the pending term, or a stray writable side is shut."""

from __future__ import annotations

from pydantic import JsonValue

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Step
from statehub_plan.postgres.connect import connect
from statehub_plan.postgres.fence import fence
from statehub_plan.postgres.privileges import Problem
from statehub_plan.postgres.proof import prove_frozen
from statehub_plan.postgres.standbys import await_standbys, close_standbys
from statehub_plan.postgres.state import claim_epoch, read_state, set_transfer
from statehub_plan.postgres.transaction import LEAST_STANDBY_WAIT_S
from statehub_plan.registers import read_register
from statehub_plan.steps.stage import Stage
from statehub_plan.world import TransferStage


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Committed and proved: canary writes as owner and as the service fail, no write transaction is left."""
    endpoint = stage.subject(step)
    told = _freeze_held(stage) if stage.hold is not None else _shut(stage, endpoint)
    problems = _prove(stage, endpoint)
    if problems:
        raise StatehubError(
            code="freeze-not-proved",
            what=f"{endpoint} is frozen and something there could still write",
            hint="remove what is listed; until then nothing opens elsewhere",
            details=tuple(str(problem) for problem in problems),
        )
    return told


def _freeze_held(stage: Stage) -> dict[str, JsonValue]:
    hold = stage.hold
    if hold is None:
        raise ValueError("there is no hold to freeze")
    with connect(stage.dsn(stage.plan.new), purpose="read proof", read_only=True) as target:
        state = read_state(target)
    proof = state.transfer.proof if state is not None and state.transfer is not None else None
    with connect(stage.dsn(stage.plan.old), purpose="read standbys", read_only=True) as source:
        standbys = close_standbys(source)
    receipt = hold.freeze(term=stage.plan.term, proof=proof, primary=stage.plan.new)
    stage.hold = None  # until here whatever goes wrong releases it
    what = f"the freeze for term {receipt.term}"
    with connect(stage.dsn(stage.plan.old), purpose="await standbys", read_only=True) as source:
        await_standbys(source, standbys, what=what, timeout_s=LEAST_STANDBY_WAIT_S)
    return {
        "summary": f"frozen for term {receipt.term}; writers had waited {receipt.held_s:.2f} s",
        "term": receipt.term,
        "proof": proof,
        "held_ms": round(receipt.held_s * 1000),
        "commit_ms": round(receipt.commit_s * 1000),
        "sessions_ended": len(receipt.sessions.ended),
    }


def _shut(stage: Stage, endpoint: str) -> dict[str, JsonValue]:
    """Without a hold's name in the mark: it is shut because it is not primary, and what it holds may be its own."""
    observation, _ = stage.look()
    decided = read_register(stage.plan.spec, observation).decided
    with connect(stage.dsn(endpoint), purpose="fence") as connection:
        mark = read_state(connection)
        marked = mark.fence.term if mark is not None and mark.fence is not None else 0
        term = max(marked, decided) or stage.plan.term
        ended = fence(connection, term=term, run=stage.run, epoch=stage.epoch, primary=stage.away(endpoint))
        with connection.transaction():  # whatever it held of a transfer may have been written to since
            claim_epoch(connection, stage.epoch)
            set_transfer(connection, stage=TransferStage.NONE)
    return {"summary": f"{endpoint} is fenced", "term": term, "sessions_ended": len(ended.ended)}


def _prove(stage: Stage, endpoint: str) -> tuple[Problem, ...]:
    roles = stage.plan.spec.spec.endpoints[endpoint].app_roles
    with connect(stage.dsn(endpoint), purpose="prove freeze") as connection:
        return tuple(prove_frozen(connection, app_roles=roles, app_dsn=stage.app_dsn(endpoint)))
