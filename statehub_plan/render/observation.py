"""An observation on a screen: every fact with its value, how it was seen, and what could not be seen and why."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

from statehub_plan.model.facts import Evidence, EvidenceStatus, Fact, Observation
from statehub_plan.render.text import RenderableType, columns, heading, line, stack
from statehub_plan.render.words import brief, counted, moment, shown, span


def observation_view(
    observation: Observation,
    evidence: tuple[Evidence, ...] = (),
    *,
    only_unknown: bool = False,
    streams: tuple[str, ...] = (),
) -> RenderableType:
    """Facts grouped by what they are about, sentences about streams, then probes; with `only_unknown` what could not be
    observed or shown."""
    unknown = observation.unknown()
    facts = unknown if only_unknown else observation.facts
    told = tuple(one for one in evidence if not only_unknown or one.status is not EvidenceStatus.PASSED)
    said = f"{counted(len(observation.facts), 'fact')} observed at {moment(observation.observed_at)}"
    parts = [line(f"{said}, {len(unknown) or 'none'} unknown", style="bold")]
    for subject, group in groupby(facts, key=lambda fact: fact.id.partition(".")[0]):
        parts += [heading(subject), _group(tuple(group), observation.observed_at)]
    if streams and not only_unknown:
        parts += [heading("streams"), *(line(one, indent=2) for one in streams)]
    if told:
        parts += [heading("evidence of tasks"), _probes(told)]
    return stack(parts)


def _group(facts: tuple[Fact, ...], now: datetime) -> RenderableType:
    rows = [_row(fact, now) for fact in facts]
    return columns(rows, indent=2, styles=["magenta" if fact.reason is not None else "" for fact in facts])


def _row(fact: Fact, now: datetime) -> tuple[str, str, str]:
    name = fact.id.partition(".")[2] or fact.id
    age_s = (now - fact.observed_at).total_seconds()
    age = f", {span(age_s)} old" if age_s >= 1 else ""
    seen = f"{shown(fact.how, 40)}, {span(fact.elapsed_ms / 1000)}{age}"
    if fact.reason is not None:
        return name, f"UNKNOWN: {shown(fact.reason)}", seen
    return name, brief(fact.value, 120), seen


def _probes(evidence: tuple[Evidence, ...]) -> RenderableType:
    rows = [(f"{one.task}/{one.probe}", one.status.value, shown(one.detail)) for one in evidence]
    return columns(
        rows, indent=2, styles=["" if one.status is EvidenceStatus.PASSED else "magenta" for one in evidence]
    )
