"""One self-contained HTML page about a run: what was done when, how long nobody could write, what was proved and by
whom it was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import JsonValue

from statehub_plan.model.plan import Plan, PlanFile, Verdict
from statehub_plan.model.record import ApprovalStatus, GateState, JudgedApproval, Record, RecordKind
from statehub_plan.model.steps import StepKind
from statehub_plan.render.html import Html, el, page, section, table, terms, when
from statehub_plan.render.plan_words import sorted_findings, wish_text
from statehub_plan.render.timeline import Attempt, Pause, attempts, last_payload, pauses
from statehub_plan.render.words import counted, identity_text, moment, shown, span

_NOT_ON_RECORD = "not on record"


def run_report_html(plan: Plan, records: tuple[Record, ...], gates: tuple[GateState, ...], now: datetime) -> str:
    """The page. `records` are those of this run, oldest first; what they don't say is told as not on record."""
    tried = attempts(records)
    title = f"{plan.spec.metadata.title}: {plan.direction.value}, {_outcome(records)}"
    return page(
        title,
        el("h1", plan.spec.metadata.title),
        el("p", wish_text(plan)),
        _summary(plan, records),
        _pauses(records),
        _timeline(plan, tried),
        _proof(tried),
        _approvals(gates),
        _verdicts(plan, records),
        _final(plan, records, tried),
        _digests(plan, records),
        el("p", f"Written {moment(now)} from {counted(len(records), 'journal record')}.", class_="soft"),
    )


def _outcome(records: tuple[Record, ...]) -> str:
    """How the run stands, by its newest telling record."""
    words = {
        RecordKind.RUN_FINISHED: "finished",
        RecordKind.RUN_ABORTED: "aborted before the decision",
        RecordKind.STEP_WAITING: "waiting",
        RecordKind.STEP_FAILED: "stopped by a failure",
        RecordKind.STEP_INTENT: "outcome unknown",
        RecordKind.STEP_DONE: "under way",
        RecordKind.RUN_RESUMED: "resumed",
        RecordKind.RUN_STARTED: "begun",
    }
    return next((words[record.kind] for record in reversed(records) if record.kind in words), "not begun")


def _judged(good: bool, text: str) -> Html:
    return el("span", text, class_="good" if good else "bad")


def _first(records: tuple[Record, ...], kind: RecordKind) -> Record | None:
    return next((record for record in records if record.kind is kind), None)


def _summary(plan: Plan, records: tuple[Record, ...]) -> Html:
    started, outcome = _first(records, RecordKind.RUN_STARTED), _outcome(records)
    last = records[-1].at if records else None
    lasted = span((last - started.at).total_seconds()) if started is not None and last is not None else _NOT_ON_RECORD
    opened = [pause for pause in pauses(records) if pause.opened and pause.write_gap_s is not None]
    gap = span(opened[-1].write_gap_s or 0.0) if opened else _NOT_ON_RECORD
    carried = started.payload.get("author") if started is not None else _NOT_ON_RECORD
    return section(
        "Summary",
        terms(
            (
                ("Outcome", _judged(outcome == "finished", outcome)),
                ("Moved", f"{plan.old} → {plan.new}, decision term {plan.term}"),
                ("Write gap", gap),
                ("Run", records[0].run if records else "not begun"),
                ("Planned by", f"{plan.author}, {moment(plan.created_at)}"),
                ("Carried out by", str(carried)),
                ("Began", when(started.at if started is not None else None)),
                ("Last record", when(last)),
                ("Lasted", lasted),
            )
        ),
    )


def _pauses(records: tuple[Record, ...]) -> Html:
    rows = [
        (
            str(number),
            when(pause.began_at),
            when(pause.ended_at),
            _span(pause.write_gap_s),
            _span(pause.until_clients_s),
            _how_it_ended(pause),
        )
        for number, pause in enumerate(pauses(records), start=1)
    ]
    if not rows:
        return section("Write gap", el("p", "This run never held writes."))
    caption = "From when the locks were first asked for until writes were open again, by the journal's clock"
    titles = ("#", "Writers held", "Writes open again", "Write gap", "Until clients were redirected", "How it ended")
    return section("Write gap", table(caption, titles, rows))


def _how_it_ended(pause: Pause) -> str:
    if pause.opened:
        return "the new primary opened"
    if pause.ended_at is None:
        return "the tool died: its locks went with it; a freeze that it had committed stays until a run ends it"
    return "writers went on at the old primary"


def _span(seconds: float | None) -> str:
    return _NOT_ON_RECORD if seconds is None else span(seconds)


def _timeline(plan: Plan, tried: tuple[Attempt, ...]) -> Html:
    titles = {step.id: step.title for step in plan.steps}
    longest = max((one.duration_s or 0.0 for one in tried), default=0.0) or 1.0
    rows = [
        (
            one.step,
            titles.get(one.step, f"{one.kind} (not in the plan; it ends an interruption)"),
            when(one.began_at),
            _bar(one.duration_s, longest),
            _judged(one.outcome in ("done", "waiting"), one.outcome),
            shown(one.told, 300) if one.told else "",
        )
        for one in tried
    ]
    names = ("Step", "What", "Began", "Took", "Outcome", "Told")
    caption = "Every attempt at every step, in order"
    return section("Timeline", table(caption, names, rows) if rows else el("p", "No step was begun."))


def _bar(seconds: float | None, longest: float) -> Html:
    if seconds is None:
        return Html("–")
    width = f"width:{max(1, round(100 * seconds / longest))}%"
    return el(
        "span", span(seconds), el("span", el("span", class_="bar", style=width), class_="track", aria_hidden="true")
    )


def _proof(tried: tuple[Attempt, ...]) -> Html:
    proof, frozen = last_payload(tried, StepKind.COMPARE), last_payload(tried, StepKind.FREEZE)
    if not proof:
        return section("Proof", el("p", "No comparison is on record for this run."))
    what = (
        "catalog, row counts, sequences, every value"
        if proof.get("content")
        else "catalog, row counts, sequences; no value"
    )
    waived = proof.get("waived")
    pairs = [
        ("Answer", _judged(proof.get("answer") == "equal", shown(proof.get("answer")))),
        ("Compared", what),
        ("Digest", el("code", shown(proof.get("digest")))),
        ("Seeds of the content digests", el("code", shown(proof.get("seeds") or _NOT_ON_RECORD))),
        ("Left out by the plan", ", ".join(map(str, waived)) if isinstance(waived, list) and waived else "nothing"),
        ("Frozen under this proof", el("code", shown(frozen.get("proof") or _NOT_ON_RECORD))),
    ]
    tables = proof.get("tables")
    rows = [_proved(name, one) for name, one in sorted(tables.items())] if isinstance(tables, dict) else []
    return section("Proof", terms(pairs), table("Tables proved equal", ("Table", "Rows", "Content digest"), rows))


def _proved(name: str, one: JsonValue) -> tuple[str, str, str]:
    found = one if isinstance(one, dict) else {}
    return name, shown(found.get("rows")), el("code", shown(found.get("digest") or "rows only"))


def _approvals(gates: tuple[GateState, ...]) -> Html:
    rows = [_approval(gate, one) for gate in gates for one in gate.approvals]
    told = [
        el(
            "p",
            f"Gate {gate.gate}: {len(gate.fingerprints)} of {gate.quorum} keys, as the approvals stand now: ",
            _judged(gate.satisfied, "approved" if gate.satisfied else "not approved"),
        )
        for gate in gates
    ]
    titles = ("Gate", "Who", "Key", "Status", "Signed", "Decide by", "Execute by", "Reason")
    found = table("Every statement found for these gates", titles, rows) if rows else el("p", "No approval was found.")
    return section("Approvals", *(told or [el("p", "This plan has no gates.")]), *([found] if gates else []))


def _approval(gate: GateState, one: JudgedApproval) -> tuple[str, ...]:
    status = f"{one.status.value}: {one.detail}" if one.detail else one.status.value
    return (
        gate.gate,
        one.principal or one.source,
        el("code", one.fingerprint or "no key"),
        _judged(one.status is ApprovalStatus.VALID, status),
        when(one.signed_at),
        when(one.decide_by),
        when(one.execute_by),
        one.reason,
    )


def _verdicts(plan: Plan, records: tuple[Record, ...]) -> Html:
    rows = [
        (
            when(record.at),
            shown(record.payload.get("phase")),
            record.step or "–",
            _judged(record.payload.get("allowed") is True, "allowed" if record.payload.get("allowed") else "vetoed"),
            _codes(record.payload.get("findings")),
            el("code", shown(record.payload.get("input_digest"))),
        )
        for record in records
        if record.kind is RecordKind.VERDICT
    ]
    titles = ("When", "Phase", "Step", "Verdict", "Findings", "Input")
    judged = table("Each time policies were asked in this run", titles, rows) if rows else el("p", "None on record.")
    return section("Verdicts", *_planned_verdict(plan.verdict), judged)


def _planned_verdict(verdict: Verdict | None) -> Iterator[Html]:
    if verdict is None:
        return
    said = _judged(verdict.allowed, "allowed" if verdict.allowed else "vetoed")
    yield el("p", f"At planning, {counted(len(verdict.evaluated), 'policy', 'policies')}: ", said)
    rows = [
        (one.code, one.level.value, one.step or "–", one.message, one.remedy)
        for one in sorted_findings(verdict.findings)
    ]
    if rows:
        yield table("Findings at planning", ("Code", "Level", "Step", "Message", "Remedy"), rows)


def _codes(value: JsonValue) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else "none"


def _final(plan: Plan, records: tuple[Record, ...], tried: tuple[Attempt, ...]) -> Html:
    finished = _first(records, RecordKind.RUN_FINISHED)
    decided = last_payload(tried, StepKind.DECIDE)
    stable = last_payload(tried, StepKind.STABILIZE)
    primary = finished.payload.get("primary") if finished is not None else _NOT_ON_RECORD
    pairs: list[tuple[str, str]] = [
        ("Primary at the end", shown(primary)),
        ("Decision", shown(decided.get("summary") or _NOT_ON_RECORD)),
        ("Stabilization", shown(stable.get("summary") or _NOT_ON_RECORD)),
        ("Fallback", f"{plan.old}, {plan.spec.spec.desired.fallback.mode.value}"),
    ]
    changes = last_payload(tried, StepKind.REDIRECT).get("changes")
    rows = [
        (shown(one.get("path")), shown(one.get("before")), shown(one.get("after")))
        for one in (changes if isinstance(changes, list) else ())
        if isinstance(one, dict)
    ]
    moved = [table("Access paths", ("Path", "Before", "After"), rows)] if rows else []
    return section("Final state", terms(pairs), *moved)


def _digests(plan: Plan, records: tuple[Record, ...]) -> Html:
    pairs = [
        ("Plan", PlanFile.seal(plan).digest),
        ("Effects (what approvals are bound to)", plan.effects_digest),
        ("Evidence", plan.evidence_digest),
        ("Document", plan.spec_digest),
        ("First record", f"{records[0].seq}: {records[0].hash}" if records else _NOT_ON_RECORD),
        ("Last record", f"{records[-1].seq}: {records[-1].hash}" if records else _NOT_ON_RECORD),
    ]
    pairs += [(f"Endpoint {name}", identity_text(plan.identities.get(name))) for name in (plan.old, plan.new)]
    return section("Digests and identities", terms((name, el("code", value)) for name, value in pairs))
