"""Every check, by theme."""

from __future__ import annotations

from statehub_plan.postgres.checks import (
    binding,
    clocks,
    collation,
    comparison,
    content,
    disk,
    extensions,
    identity,
    privileges,
    publisher,
    roles,
    schema,
    server,
    sessions,
    subscriber,
    types,
)
from statehub_plan.postgres.checks.declare import Check, declared

__all__ = ["CHECKS", "THEMES"]

THEMES = (
    server,
    privileges,
    roles,
    sessions,
    content,
    schema,
    types,
    extensions,
    collation,
    binding,
    comparison,
    publisher,
    identity,
    subscriber,
    disk,
    clocks,
)
_ORDER = [module.__name__.rpartition(".")[2] for module in THEMES]

CHECKS: tuple[Check, ...] = tuple(sorted(declared(), key=lambda one: _ORDER.index(one.theme)))
"""All of them, in the order in which they are told."""
