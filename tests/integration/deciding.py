"""A target as copy, comparison and freeze leave it, in one statement; and a decision about it."""

from __future__ import annotations

from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.register import Outcome, decide

HOLD, PROOF = "hold-of-the-test", "sha256:equal"


def prove(target: Connection, *, term: int) -> None:
    """The state row says: fenced for `term`, and proved equal under HOLD with PROOF."""
    target.execute(
        "UPDATE statehub_plan.state SET fence_term = %(term)s, fence_run = coalesce(fence_run, 'run-of-the-test'), "
        "frozen_at = coalesce(frozen_at, clock_timestamp()), transfer_stage = 'proved', transfer_term = %(term)s, "
        "transfer_hold = %(hold)s, transfer_proof = %(proof)s",
        {"term": term, "hold": HOLD, "proof": PROOF},
    )


def decide_proved(target: Connection, *, term: int, primary: str, run: str, epoch: int) -> Outcome:
    """`decide` for a target that is proved."""
    prove(target, term=term)
    return decide(target, term=term, primary=primary, run=run, epoch=epoch, hold=HOLD, proof=PROOF)
