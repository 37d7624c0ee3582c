"""(documents, observations, journal) → Status: where every lane of a folder stands. Pure; facts win over narrative."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from statehub_plan.model.spec import Lane
from statehub_plan.status.alarm import Alarm, AlarmKind, alarm_of
from statehub_plan.status.lane import LaneInput, lane_status
from statehub_plan.status.model import (
    GateStanding,
    GateStatus,
    LaneStanding,
    LaneStatus,
    StabilizationStatus,
    Status,
    TaskStanding,
    TaskStatus,
)

__all__ = [
    "Alarm",
    "AlarmKind",
    "GateStanding",
    "GateStatus",
    "LaneInput",
    "LaneStanding",
    "LaneStatus",
    "StabilizationStatus",
    "Status",
    "TaskStanding",
    "TaskStatus",
    "alarm_of",
    "build_status",
]


def build_status(lanes: Iterable[LaneInput], now: datetime) -> Status:
    """The status of all lanes: active ones first, then deferred ones, those only observed last."""
    ordered = sorted(lanes, key=_order)
    titles = {one.document.metadata.service: one.document.metadata.service for one in ordered}
    for one in reversed(ordered):
        if one.document.metadata.service_title is not None:
            titles[one.document.metadata.service] = one.document.metadata.service_title
    return Status(
        observed_at=now,
        services=tuple(sorted(titles)),
        titles=tuple(titles[service] for service in sorted(titles)),
        lanes=tuple(lane_status(one) for one in ordered),
    )


def _order(lane: LaneInput) -> tuple[bool, bool, str]:
    meta = lane.document.metadata
    return meta.lane is not Lane.ACTIVE, lane.document.kind == "ObservedLane", meta.name
