"""The closed vocabulary of step kinds and how dangerous each one is."""

from __future__ import annotations

from enum import StrEnum


class StepKind(StrEnum):
    """Everything the applier can do. One file in `steps/` and one effect in `world.py` each."""

    CHECK_EVIDENCE = "check-evidence"
    BACKUP = "backup"
    RESTORE_DRILL = "restore-drill"
    PREPARE_TARGET = "prepare-target"
    FOLLOW = "follow"
    PREPARE_REVERSE = "prepare-reverse"
    REHEARSE = "rehearse"
    HOLD = "hold"
    COPY = "copy"
    DRAIN = "drain"
    SYNC_SEQUENCES = "sync-sequences"
    COMPARE = "compare"
    FREEZE = "freeze"
    DECIDE = "decide"
    BURN = "burn"
    OPEN = "open"
    UNFOLLOW = "unfollow"
    REVERSE_FOLLOW = "reverse-follow"
    REDIRECT = "redirect"
    STABILIZE = "stabilize"
    DOCUMENT = "document"
    FAILOVER_DRILL = "failover-drill"
    RETIRE = "retire"


class StepClass(StrEnum):
    """What a step can cost: `read` nothing, `online` no write pause, `hold` writers wait and a death of the tool
    releases them, `decision` the point of no return and its durable freeze, `after` finishing what was decided."""

    READ = "read"
    ONLINE = "online"
    HOLD = "hold"
    DECISION = "decision"
    AFTER = "after"
