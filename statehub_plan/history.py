"""What the journal remembers, as facts and as the history that policies see. Pure.

Nothing here is asked of a database: stabilization, drills, written documents and finished lanes are events, and an
event is only as good as the record of it. Each fact names the record that it rests on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from pydantic import JsonValue

from statehub_plan.abstraction import of_database
from statehub_plan.model.base import digest, epoch_s
from statehub_plan.model.facts import Evidence, EvidenceStatus, Fact, FactStatus
from statehub_plan.model.record import (
    CriterionState,
    CriterionStatus,
    DrillRecord,
    History,
    Record,
    RecordKind,
    drill_outdated,
)
from statehub_plan.model.spec import CutoverPlan, EntryCriterion, LaneState, ObservedLane
from statehub_plan.model.steps import StepKind
from statehub_plan.registers import Decision
from statehub_plan.streams import SLOT_DROPPED, SLOT_DROPPED_KIND

FORWARD = "forward"
DECIDED = "decided"
"""The fact about the newest decision on record: its term, and the primary that it named."""
REDIRECT = "redirect"
"""The fact about the newest redirect on record: whether it is known to have come to a good end."""
OUTCOMES = (RecordKind.STEP_DONE, RecordKind.STEP_WAITING, RecordKind.STEP_FAILED, RecordKind.STEP_ABORTED)


class Lane(NamedTuple):
    """What another lane has reached, and which record says so; `doubt` is why its records may not tell all of it."""

    states: tuple[str, ...]
    how: str
    doubt: str | None = None


def _facts(records: Iterable[Record], kind: StepKind) -> list[Record]:
    """The fact records that steps of one kind left, oldest first. A payload has `kind` and `state`."""
    return [record for record in records if record.kind is RecordKind.FACT and record.payload.get("kind") == kind.value]


def decided_term(records: Iterable[Record]) -> int:
    """The highest decided term that this journal knows of, 0 before any. A run that died between the decision and its
    record left none; what it recorded once it went on says it too."""
    records = tuple(records)
    said = [*_facts(records, StepKind.DECIDE), *_facts(records, StepKind.STABILIZE)]
    said += [record for record in records if record.kind is RecordKind.RUN_FINISHED]
    terms = [record.payload.get("term") for record in said]
    return max((term for term in terms if isinstance(term, int)), default=0)


def _decided(records: tuple[Record, ...], now: datetime) -> Fact | None:
    """The decision of the highest term that this journal knows of, with the primary that it named, or that is watched
    under it: the record of the decision itself may have been lost with the run that took it."""
    said = [*_facts(records, StepKind.DECIDE), *(one for one in records if one.kind is RecordKind.RUN_FINISHED)]
    named = [(one.payload.get("term"), one.payload.get("primary"), one) for one in said]
    watched = _facts(records, StepKind.STABILIZE)
    named += [(one.payload.get("term"), one.payload.get("endpoint"), one) for one in watched]
    known = [
        (term, primary, one)
        for term, primary, one in named
        if isinstance(term, int) and isinstance(primary, str) and term
    ]
    if not known:
        return None
    term, primary, record = max(known, key=lambda one: one[0])
    return _fact_of(record, DECIDED, now).model_copy(update={"value": {"term": term, "primary": primary}})


def _newest(records: tuple[Record, ...], kind: StepKind, fact_id: str, now: datetime) -> Fact | None:
    found = _facts(records, kind)
    return _fact_of(found[-1], fact_id, now) if found else None


def _fact_of(record: Record, fact_id: str, now: datetime) -> Fact:
    value: dict[str, JsonValue] = {
        **record.payload,
        "at": epoch_s(record.at),
        "passed": record.payload.get("state") == "passed",
    }
    how = f"journal record {record.seq} of run {record.run}"
    return Fact(id=fact_id, status=FactStatus.KNOWN, value=value, how=how, observed_at=now)


def journal_facts(records: tuple[Record, ...], now: datetime) -> tuple[Fact, ...]:
    """Facts that only the journal knows: the newest decision (`decided`), stabilization, drills, the written document,
    rehearsals, whether the newest redirect came to a good end (`redirect`), slots that the guard dropped
    (`ENDPOINT.slot_dropped`, the newest of each).

    `records` are all of one service, of every plan, oldest first."""
    found = (
        _decided(records, now),
        _stabilization(records, now),
        _newest(records, StepKind.RESTORE_DRILL, "drill.restore", now),
        _newest(records, StepKind.FAILOVER_DRILL, "drill.failover", now),
        _newest(records, StepKind.DOCUMENT, "document.recorded", now),
        _newest(records, StepKind.REHEARSE, "rehearsal", now),
        _redirected(records, now),
    )
    return tuple(fact for fact in (*found, *_slots_dropped(records, now)) if fact is not None)


def _stabilization(records: tuple[Record, ...], now: datetime) -> Fact | None:
    """The newest look, with earlier ones, newest first: those at the same database under the same decision that passed
    and that no failure came after, as each of them may have been enough for one lane and not for another; and, where
    the journal has seen other databases, the same and the newest look of each of them."""
    newest = _newest(records, StepKind.STABILIZE, "stabilization", now)
    if newest is None or not isinstance(newest.value, dict):
        return newest
    terms: dict[str, JsonValue] = {}
    over: set[str] = set()
    kept: list[JsonValue] = []
    for one in reversed(_facts(records, StepKind.STABILIZE)):
        state, term, about = one.payload.get("state"), one.payload.get("term"), digest(one.payload.get("identity"))
        if about not in terms or (state == "passed" and term == terms[about] and about not in over):
            kept.append(one.payload)
        if term != terms.setdefault(about, term) or state == "failed":
            over.add(about)
    earlier = kept[1:]
    return newest.model_copy(update={"value": {**newest.value, "earlier": earlier}}) if earlier else newest


def stabilizing(records: tuple[Record, ...], run: str) -> bool:
    """Whether `run` watches the primary of the newest decision and is not through: it has looked itself, and the newest
    look on record was neither the last one nor one bad look too many."""
    decided = decided_term(records)
    looks = [one for one in _facts(records, StepKind.STABILIZE) if one.payload.get("term") == decided]
    return any(one.run == run for one in looks) and looks[-1].payload.get("state") == "running"


def _slots_dropped(records: tuple[Record, ...], now: datetime) -> tuple[Fact, ...]:
    """Also where the record says that it was about to be: whether the slot is there is for the sender to tell."""
    newest = {
        str(record.payload.get("endpoint")): record
        for record in records
        if record.kind is RecordKind.FACT
        and record.payload.get("kind") == SLOT_DROPPED_KIND
        and record.payload.get("state") != "failed"
    }
    return tuple(_fact_of(record, f"{name}.{SLOT_DROPPED}", now) for name, record in sorted(newest.items()))


class Rehearsed(NamedTuple):
    """The receipt of the newest rehearsal: which decision and stream it was for, the definitions that both sides had,
    the digest that stands for all of it."""

    passed: bool
    at: datetime
    term: int
    stream: str
    compared_as: str
    watermarks: Mapping[str, str]
    stream_marks: Mapping[str, str]
    digest: str


def _texts(value: JsonValue) -> dict[str, str]:
    return {key: str(inner) for key, inner in value.items()} if isinstance(value, dict) else {}


def newest_rehearsal(records: Iterable[Record]) -> Rehearsed | None:
    """None before the first one."""
    found = _facts(records, StepKind.REHEARSE)
    if not found:
        return None
    last = found[-1]
    term = last.payload.get("term")
    return Rehearsed(
        passed=last.payload.get("state") == "passed",
        at=last.at,
        term=term if isinstance(term, int) else 0,
        stream=str(last.payload.get("stream")),
        compared_as=str(last.payload.get("compared_as")),
        watermarks=_texts(last.payload.get("watermarks")),
        stream_marks=_texts(last.payload.get("stream_marks")),
        digest=str(last.payload.get("digest")),
    )


EVIDENCE_KEPT_S = 24 * 3600


def evidence_recorded(records: tuple[Record, ...], run: str, evidence_digest: str, now: datetime) -> bool:
    """True when this run's journal holds exactly this evidence, and not since more than a day."""
    return any(
        record.run == run
        and record.payload.get("evidence_digest") == evidence_digest
        and epoch_s(now) - epoch_s(record.at) <= EVIDENCE_KEPT_S
        for record in _facts(records, StepKind.CHECK_EVIDENCE)
    )


def with_record(
    evidence: tuple[Evidence, ...],
    replaceable: Mapping[str, JsonValue],
    records: tuple[Record, ...],
    now: datetime,
) -> tuple[Evidence, ...]:
    """Evidence while this tool refills the target: a probe of the target that passed when it was last put on record
    and does not pass now, because the tool itself emptied what it looks at, keeps its recorded outcome for a day.

    `replaceable`: `task/probe` → digest of the definition, for the probes that look at the target; every other probe,
    and one that was defined differently then, is taken as it is now."""
    recorded: dict[str, int] = {}
    for record in _facts(records, StepKind.CHECK_EVIDENCE):
        if epoch_s(now) - epoch_s(record.at) <= EVIDENCE_KEPT_S:
            recorded |= dict.fromkeys(_passed_then(record, replaceable), record.seq)
    kept = []
    for one in evidence:
        seq = recorded.get(f"{one.task}/{one.probe}")
        if one.status is not EvidenceStatus.PASSED and seq is not None:
            detail = f"on record since journal record {seq}; the target is being refilled ({one.detail})"
            kept.append(one.model_copy(update={"status": EvidenceStatus.PASSED, "detail": detail}))
        else:
            kept.append(one)
    return tuple(kept)


def _passed_then(record: Record, definitions: Mapping[str, JsonValue]) -> tuple[str, ...]:
    shown, probes = record.payload.get("evidence"), record.payload.get("probes")
    if not isinstance(shown, list) or not isinstance(probes, dict):
        return ()
    passed = (
        f"{entry.get('task')}/{entry.get('probe')}"
        for entry in shown
        if isinstance(entry, dict) and entry.get("status") == EvidenceStatus.PASSED.value
    )
    return tuple(key for key in passed if key in definitions and probes.get(key) == definitions[key])


def lane_states(
    name: str,
    document: CutoverPlan | ObservedLane | None,
    records: tuple[Record, ...],
    seen: Decision | None = None,
) -> Lane:
    """What lane `name` has reached: superseded by its document, complete and stabilized by the journal. A later
    decision by anybody (a switchback) takes both back.

    `seen` is the decision that the registers show: what is on record of another one, or of another database, counts for
    nothing. Where it is not known the journal is all there is."""
    states: list[str] = []
    how = "no record of it in the journal"
    doubt = None
    if document is not None and document.metadata.superseded_by is not None:
        states.append(LaneState.SUPERSEDED.value)
        how = f"superseded by {document.metadata.superseded_by}"
    newest = decided_term(records)
    term = newest if seen is None else seen.term
    if term > newest:
        how = doubt = f"decision term {term} was not made by a run in this journal"
    for state, told, record in _reached(name, records):
        if _term_of(record) < term or not _term_of(record):
            continue
        why = None if seen is None else _of_another(record, state, seen)
        if why is None:
            states.append(state.value)
            how = told
        else:
            doubt = f"{told}, {why}"
    return Lane(tuple(sorted(set(states))), how if states or doubt is None else doubt, doubt)


def _reached(name: str, records: tuple[Record, ...]) -> Iterator[tuple[LaneState, str, Record]]:
    """What forward runs of lane `name` have on record, oldest first."""
    for record in records:
        if record.plan_name != name or record.payload.get("direction") != FORWARD:
            continue
        if record.kind is RecordKind.RUN_FINISHED:
            yield LaneState.COMPLETE, f"run {record.run} finished", record
        elif _facts([record], StepKind.STABILIZE) and record.payload.get("state") == "passed":
            yield LaneState.STABILIZED, f"run {record.run} passed stabilization", record


def _term_of(record: Record) -> int:
    term = record.payload.get("term")
    return term if isinstance(term, int) else 0


def _of_another(record: Record, state: LaneState, seen: Decision) -> str | None:
    """Why a record is not about the decision and the database that are seen; None where it is. The end of a run that an
    earlier release put on record says for which database only if that one's register names the run."""
    if _term_of(record) != seen.term:
        return f"under decision term {_term_of(record)}, which the present registers do not know"
    if of_database(record.payload, seen.identity):
        return None
    if "identity" in record.payload:
        return "for another database than the present primary"
    if state is LaneState.COMPLETE and record.run == seen.run:
        return None
    return "by an earlier release, which did not record for which database; carry the lane's plan out again"


def _criterion(criterion: EntryCriterion, lane: Lane, known: bool) -> CriterionState:
    wanted = ", ".join(state.value for state in criterion.any_of)
    if not known:
        status, detail = CriterionStatus.UNKNOWN, f"no document of lane {criterion.lane} in this folder"
    elif set(lane.states) & {state.value for state in criterion.any_of}:
        status, detail = CriterionStatus.MET, lane.how
    elif lane.doubt is not None:
        status, detail = (
            CriterionStatus.UNKNOWN,
            f"whether lane {criterion.lane} is {wanted} is not known: {lane.doubt}",
        )
    else:
        status, detail = CriterionStatus.UNMET, f"lane {criterion.lane} is not yet {wanted}: {lane.how}"
    return CriterionState(name=criterion.name, lane=criterion.lane, status=status, detail=detail)


def _unseen(lane: Lane) -> Lane:
    """The lane as far as its document tells: what the journal says is not held against any database."""
    states = tuple(state for state in lane.states if state == LaneState.SUPERSEDED.value)
    return Lane(states, lane.how, f"which database is primary by which decision could not be observed ({lane.how})")


def history_of(
    document: CutoverPlan | ObservedLane,
    lanes: Mapping[str, CutoverPlan | ObservedLane],
    records: tuple[Record, ...],
    run: str = "",
    *,
    seen: Decision | None = None,
    believed: bool = True,
) -> History:
    """What policies may know of the past: steps without an outcome, finished runs, drills, entry criteria.

    `lanes` are the documents of the folder by name, `records` all of the service, `run` the run that is asking, `seen`
    the decision that the registers show. Where that, or the primary's identity, is not known, the journal is `believed`
    by who only shows it; whoever carries something out knows nothing then."""
    drills = []
    for kind, name in ((StepKind.RESTORE_DRILL, "restore"), (StepKind.FAILOVER_DRILL, "failover")):
        for last in _facts(records, kind)[-1:]:
            passed = last.payload.get("state") == "passed" and not drill_outdated(last.payload)
            drills.append(DrillRecord(kind=name, passed=passed, at=last.at, detail=last.payload))
    reached = {
        one.lane: lane_states(one.lane, lanes.get(one.lane), records, seen) for one in document.spec.entry_criteria
    }
    if not believed and (seen is None or (seen.term and not seen.identity.known)):
        reached = {name: _unseen(lane) for name, lane in reached.items()}
    criteria = tuple(_criterion(one, reached[one.lane], one.lane in lanes) for one in document.spec.entry_criteria)
    return History(
        unknown_steps=unknown_steps(records),
        finished_runs=tuple(sorted({record.run for record in records if record.kind is RecordKind.RUN_FINISHED})),
        drills=tuple(drills),
        criteria=criteria,
        gates_passed=gates_passed(records, run),
    )


def gates_passed(records: tuple[Record, ...], run: str) -> tuple[str, ...]:
    """The gates that `run` has passed."""
    mine = (one for one in records if one.kind is RecordKind.GATE_PASSED and one.run == run)
    return tuple(sorted({str(one.payload.get("gate")) for one in mine}))


_LOOKED = (RecordKind.RUN_STARTED, RecordKind.RUN_RESUMED, RecordKind.RUN_FINISHED, RecordKind.RUN_ABORTED)


def unknown_steps(records: tuple[Record, ...]) -> tuple[str, ...]:
    """`run/step` of every intent that was never followed by an outcome, nor by a run of the service that looked at the
    world afterwards: whoever holds the lease begins with observing what an earlier holder left."""
    open_steps: dict[str, str] = {}
    for record in records:
        if record.kind is RecordKind.STEP_INTENT:
            open_steps[record.run] = f"{record.run}/{record.step}"
        elif record.kind in _LOOKED:
            open_steps.clear()
        elif record.kind in OUTCOMES:
            open_steps.pop(record.run, None)
    return tuple(sorted(open_steps.values()))


def redirect_interrupted(records: tuple[Record, ...]) -> bool:
    """Whether the newest redirect of the service, of whichever run, direction and term, is not known to have come to a
    good end: a path's file may say one thing then and whoever should have reloaded it another, which no look shows."""
    newest = _newest_redirect(records)
    return newest is not None and newest.kind is not RecordKind.STEP_DONE


def _newest_redirect(records: tuple[Record, ...]) -> Record | None:
    """The last word on a redirect: its own record, or that of a switch which would come to it: where the journal went
    away meanwhile, it is the only one."""
    steps = (one for one in reversed(records) if one.kind in (RecordKind.STEP_INTENT, *OUTCOMES))
    return next((one for one in steps if _is_redirect(one.step) or _leads_to_redirect(one)), None)


def _is_redirect(step: JsonValue) -> bool:
    return isinstance(step, str) and step.endswith(StepKind.REDIRECT.value)


def _leads_to_redirect(record: Record) -> bool:
    section = record.payload.get("section")
    return record.kind is RecordKind.STEP_INTENT and isinstance(section, list) and any(map(_is_redirect, section))


def _redirected(records: tuple[Record, ...], now: datetime) -> Fact | None:
    """`if_decided`: the switch that would have come to it counts only if the decision that stands is that run's own."""
    newest = _newest_redirect(records)
    if newest is None:
        return None
    value: dict[str, JsonValue] = {
        "interrupted": redirect_interrupted(records),
        "run": newest.run,
        "if_decided": not _is_redirect(newest.step),
    }
    return _fact_of(newest, REDIRECT, now).model_copy(update={"value": value})


class Unfinished(NamedTuple):
    """A run that began and neither finished nor was aborted, nor was followed by another: where it stands, why it
    failed where it said so, which way it went (`wished` is to be primary), and the gates that it has passed. `section`
    are the steps of the switch that it was in; the register alone tells how far that came."""

    run: str
    step: str | None
    since: datetime
    failed: str | None
    direction: str = FORWARD
    wished: str | None = None
    gates: tuple[str, ...] = ()
    section: tuple[str, ...] = ()


def unfinished_run(plan_name: str, records: tuple[Record, ...]) -> Unfinished | None:
    """The newest run of the service, if it is this plan's, is not over, and does not wait for stabilization."""
    told = [record for record in records if record.kind is not RecordKind.FACT]
    mine = [record for record in told if record.kind is not RecordKind.VERDICT]
    if not mine or mine[-1].plan_name != plan_name:
        return None
    last = mine[-1]
    if last.kind in (RecordKind.RUN_FINISHED, RecordKind.RUN_ABORTED, RecordKind.STEP_WAITING):
        return None
    return _left(last, told[-1], records)


def stabilizing_run(plan_name: str, records: tuple[Record, ...]) -> Unfinished | None:
    """The newest run of the service, if it is this plan's and waits for its stabilization."""
    mine = [record for record in records if record.kind not in (RecordKind.FACT, RecordKind.VERDICT)]
    waits = bool(mine) and mine[-1].kind is RecordKind.STEP_WAITING and mine[-1].plan_name == plan_name
    return _left(mine[-1], mine[-1], records) if waits and stabilizing(records, mine[-1].run) else None


def _left(last: Record, said: Record, records: tuple[Record, ...]) -> Unfinished:
    run = [record for record in records if record.run == last.run]
    steps = [one for one in run if one.step is not None and one.kind not in (RecordKind.FACT, RecordKind.VERDICT)]
    begun = next((one.payload for one in run if one.kind is RecordKind.RUN_STARTED), {})
    wished = begun.get("new")
    return Unfinished(
        run=last.run,
        step=steps[-1].step if steps else None,
        since=last.at,
        failed=_why_ended(last, said),
        direction=str(begun.get("direction", FORWARD)),
        wished=wished if isinstance(wished, str) else None,
        gates=gates_passed(records, last.run),
        section=_open_section(run),
    )


def _why_ended(last: Record, said: Record) -> str | None:
    if last.kind is RecordKind.STEP_FAILED:
        return str(last.payload.get("what"))
    if said.kind is RecordKind.VERDICT and said.payload.get("allowed") is False:
        codes = said.payload.get("findings")
        named = f": {', '.join(map(str, codes))}" if isinstance(codes, list) and codes else ""
        return f"policies vetoed it at phase {said.payload.get('phase')}{named}"
    return None


def _open_section(run: list[Record]) -> tuple[str, ...]:
    """The steps of a switch of which no outcome is on record; its redirect may have an intent of its own."""
    steps = [one for one in run if one.kind in (RecordKind.STEP_INTENT, *OUTCOMES)]
    if len(steps) > 1 and steps[-1].kind is RecordKind.STEP_INTENT and _is_redirect(steps[-1].step):
        steps.pop()
    section = steps[-1].payload.get("section") if steps and steps[-1].kind is RecordKind.STEP_INTENT else None
    return tuple(map(str, section)) if isinstance(section, list) else ()
