"""One module per kind of step: `execute(stage, step)`. What a step requires and effects is in `transitions`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from statehub_plan.errors import Refusal
from statehub_plan.model.steps import StepKind
from statehub_plan.steps.stage import Execute

_MODULES = {
    StepKind.CHECK_EVIDENCE: "check_evidence",
    StepKind.BACKUP: "backup",
    StepKind.RESTORE_DRILL: "restore_drill",
    StepKind.PREPARE_TARGET: "prepare_target",
    StepKind.FOLLOW: "follow",
    StepKind.PREPARE_REVERSE: "prepare_reverse",
    StepKind.REHEARSE: "rehearse",
    StepKind.UNFOLLOW: "unfollow",
    StepKind.REVERSE_FOLLOW: "reverse_follow",
    StepKind.HOLD: "hold",
    StepKind.COPY: "copy",
    StepKind.SYNC_SEQUENCES: "sync_sequences",
    StepKind.COMPARE: "compare",
    StepKind.FREEZE: "freeze",
    StepKind.DECIDE: "decide",
    StepKind.BURN: "burn",
    StepKind.OPEN: "open",
    StepKind.REDIRECT: "redirect",
    StepKind.STABILIZE: "stabilize",
    StepKind.DOCUMENT: "document",
    StepKind.FAILOVER_DRILL: "failover_drill",
    StepKind.RETIRE: "retire",
}


def executor(kind: StepKind) -> Execute:
    """The function that carries out steps of this kind; a refusal for kinds that this version only plans."""
    module = _MODULES.get(kind)
    if module is None:
        raise Refusal(
            code="step-not-available",
            what=f"`{kind.value}` is never carried out by itself",
            hint="it is part of the switch of a cutover by replication; make a new plan",
        )
    return cast(Execute, import_module(f"statehub_plan.steps.{module}").execute)
