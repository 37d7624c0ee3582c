"""The journal as text: one line a record, grouped by run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statehub_plan.model.record import Record, RecordKind
from statehub_plan.render.words import counted, exact_moment, moment_of, plain, shown, span

_TOLD = {
    RecordKind.RUN_STARTED: ("direction", "old", "new", "term", "author"),
    RecordKind.RUN_FINISHED: ("primary", "term"),
    RecordKind.RUN_ABORTED: ("because", "term"),
    RecordKind.VERDICT: ("phase", "allowed", "findings"),
    RecordKind.GATE_PASSED: ("gate", "fingerprints"),
    RecordKind.STEP_FAILED: ("code", "what"),
    RecordKind.STEP_ABORTED: ("kind", "because"),
}


def history_text(records: Sequence[Record], checked: int) -> str:
    """Every record in order; `checked` is how many links of the hash chain were verified."""
    if not records:
        return f"nothing is on record ({counted(checked, 'record')} checked)\n"
    lines = [f"{counted(checked, 'record')} checked, the hash chain is whole"]
    run = None
    for record in records:
        if record.run != run:
            run = record.run
            lines.append(f"\nrun {plain(run) or '(none)'}, plan {plain(record.plan_name)}, epoch {record.epoch}")
        lines.append(_line(record))
    return "\n".join(lines) + "\n"


def _line(record: Record) -> str:
    step = f" {plain(record.step)}" if record.step else ""
    told = "; ".join(_told(record))
    return f"  {record.seq:>4} {exact_moment(record.at)} {record.kind.value}{step}{': ' + told if told else ''}"


def _told(record: Record) -> Iterator[str]:
    payload = record.payload
    if record.kind is RecordKind.STEP_DONE:
        yield shown(payload.get("summary", "done"))
        elapsed = payload.get("elapsed_ms")
        if isinstance(elapsed, int | float):
            yield span(elapsed / 1000)
    elif record.kind is RecordKind.FACT:
        yield f"{shown(payload.get('kind'))} {shown(payload.get('state'))}"
    elif record.kind is RecordKind.STEP_WAITING:
        yield f"{shown(payload.get('last'))}, looks: {shown(payload.get('looks'))}"
        yield f"until {moment_of(payload.get('until'))}"
    else:
        for key in _TOLD.get(record.kind, ()):
            if key in payload:
                yield f"{key} {shown(payload[key])}"
