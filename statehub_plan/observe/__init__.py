"""Read-only facts about the world: databases, APIs, access paths, backups, platforms, and probes as evidence."""

from __future__ import annotations

from statehub_plan.observe.observation import observe
from statehub_plan.observe.probes import observe_evidence

__all__ = ["observe", "observe_evidence"]
