"""`rehearse`: the switch up to the decision on the live system, then released; and the content of both sides proved.

Under the hold both sides show the same rows: their snapshots are exported there, and compared after writers went on,
for as long as that takes. The receipt in the journal says how long the gap was, what it will be, and what was equal.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext

from pydantic import JsonValue

from statehub_plan.abstraction import compared_as
from statehub_plan.model.base import digest, epoch_s
from statehub_plan.model.plan import Step
from statehub_plan.model.spec import FallbackMode, UnderHold
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.compare import Answer, Comparison, compare
from statehub_plan.postgres.connect import Connection, connect
from statehub_plan.postgres.filling import read_fill, record_timeline
from statehub_plan.postgres.replication import stream_marks
from statehub_plan.postgres.snapshot import Snapshot
from statehub_plan.postgres.state import claim_epoch
from statehub_plan.postgres.switch import Switch
from statehub_plan.postgres.watermark import catalog_watermark
from statehub_plan.steps.compare import proof_payload, require_equal, tell
from statehub_plan.steps.stage import Stage
from statehub_plan.steps.switching import begin_switch


def execute(stage: Stage, step: Step) -> dict[str, JsonValue]:
    """Recorded whether it passes or fails; StatehubError when it fails, or when something stood in its way."""
    following = stage.plan.spec.spec.desired.fallback.mode is FallbackMode.FOLLOWING
    stage.keep_baseline(_baseline(stage))
    with ExitStack() as stack:
        switch = stack.enter_context(begin_switch(stage, reverse=following))
        watermarks, marks, snapshots = _held_for_a_moment(stage, switch, stack)
        if stage.baseline is not None:
            stage.baseline.taken_from(*(one.leader for one in snapshots))
        with stage.baseline.kept_up() if stage.baseline else nullcontext():
            found = _compare(stage, snapshots)
    passed = found.answer is Answer.EQUAL
    proof_ms = 0.0
    if stage.baseline is not None and passed:
        stage.baseline.proved_by(found)
        proof_ms = _time_of_a_proof(stage, stage.baseline)
    if passed:
        _record_timelines(stage, marks, found)
    payload = _receipt(stage, switch, watermarks, marks, found, proof_ms)
    stage.record_fact(StepKind.REHEARSE.value, "passed" if passed else "failed", payload)
    require_equal(stage, found)
    gap, predicted = payload["gap_ms"], payload["predicted_gap_ms"]
    rows = sum(table.rows_source or 0 for table in found.tables)
    proved = f"{rows} rows proved equal" if found.content else f"{rows} rows counted, no value compared"
    return {
        "summary": f"writers waited {gap} ms, expected write gap {predicted} ms; {proved}",
        **payload,
    }


def _record_timelines(stage: Stage, marks: dict[str, str], found: Comparison) -> None:
    """On the timelines that were seen under the hold no stream had skipped anything: what the target got was compared,
    unless some of it was left out; the way back was made and has not begun."""
    endpoints = {}
    if found.content and not any(one.table or one.differences for one in found.waived):
        endpoints[stage.plan.new] = marks["receiver_timeline"]
    if stage.plan.spec.spec.desired.fallback.mode is FallbackMode.FOLLOWING:
        endpoints[stage.plan.old] = marks["sender_timeline"]
    for endpoint, timeline in endpoints.items():
        with connect(stage.dsn(endpoint), purpose="rehearse") as session, session.transaction():
            claim_epoch(session, stage.epoch)
            record_timeline(session, int(timeline))


def _baseline(stage: Stage) -> Baseline | None:
    """Opened before the snapshots are taken, so that no change is in neither of them."""
    if stage.plan.spec.spec.compare.under_hold is not UnderHold.CHANGES:
        return None
    return Baseline(stage.dsn(stage.plan.old), stage.dsn(stage.plan.new))


def _time_of_a_proof(stage: Stage, baseline: Baseline) -> float:
    """Milliseconds that comparing a few changed keys takes here, which no rehearsal's hold has to wait for."""
    jobs = stage.plan.spec.spec.compare.jobs
    baseline.settle(jobs, stage.check_lease)  # what was written during the whole comparison
    began = time.monotonic()
    baseline.settle(jobs, stage.check_lease, rounds=1)
    return (time.monotonic() - began) * 1000


def _held_for_a_moment(
    stage: Stage, switch: Switch, stack: ExitStack
) -> tuple[dict[str, str], dict[str, str], tuple[Snapshot, Snapshot]]:
    """Both sides' definitions, the stream's own, and snapshots as of one moment at which both had the same rows."""
    dsns = [stage.dsn(endpoint) for endpoint in (stage.plan.old, stage.plan.new)]
    seen = [stack.enter_context(connect(dsn, purpose="rehearse")) for dsn in dsns]
    stage.check_lease()
    switch.measure()
    switch.take_hold()
    switch.drain()
    switch.sync_sequences()
    watermarks = {stage.plan.old: "", stage.plan.new: ""}
    marks: dict[str, str] = {}

    def look(source: Connection, target: Connection) -> None:
        watermarks[stage.plan.old] = catalog_watermark(source)
        watermarks[stage.plan.new] = catalog_watermark(target)
        marks.update(stream_marks(source, target))

    switch.rehearse_rest(look)
    ids = [exported(session) for session in seen]
    switch.release()
    stage.tell_later()
    old, new = (
        stack.enter_context(Snapshot.of(dsn, one, purpose="compare")) for dsn, one in zip(dsns, ids, strict=True)
    )
    return watermarks, marks, (old, new)


def exported(session: Connection) -> str:
    """The id of a snapshot that this session keeps open from now on."""
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = session.execute("SELECT pg_export_snapshot()").fetchone()
    if row is None:
        raise RuntimeError("pg_export_snapshot returned no row")
    return str(row[0])


def _compare(stage: Stage, snapshots: tuple[Snapshot, Snapshot]) -> Comparison:
    wanted = stage.plan.spec.spec.compare
    return compare(
        stage.dsn(stage.plan.old),
        stage.dsn(stage.plan.new),
        jobs=wanted.jobs,
        content=wanted.content,
        waive=wanted.waive,
        snapshots=snapshots,
        sequences=False,  # they move on while this reads; under the hold they were set to the same values
        on_progress=lambda one: tell(stage, one),
        check=stage.check_lease,
    )


def _receipt(
    stage: Stage,
    switch: Switch,
    watermarks: dict[str, str],
    marks: dict[str, str],
    found: Comparison,
    proof_ms: float,
) -> dict[str, JsonValue]:
    timings, expected = switch.timings, switch.forecast
    if expected is None:
        raise RuntimeError("a rehearsal has measured nothing")
    with connect(stage.dsn(stage.plan.new), purpose="read stream", read_only=True) as target:
        mark = read_fill(target)
    rehearsed: dict[str, JsonValue] = {
        "term": stage.plan.term,
        "stream": None if mark is None else mark.slot,
        "stream_point": None if mark is None else mark.point,
        "old": stage.plan.old,
        "new": stage.plan.new,
        "effects_digest": stage.plan.effects_digest,
        "watermarks": dict(watermarks),
        "stream_marks": dict(marks),
        "compared_as": compared_as(stage.plan.spec),
        "gap_ms": timings.gap_ms,
        "drain_ms": timings.drain_ms,
        "proof_ms": timings.proof_ms,
        "predicted_hold_ms": round(expected.hold_ms + proof_ms, 1),
        "predicted_gap_ms": round(expected.gap_ms + proof_ms, 1),
        "compared_ms": found.elapsed_ms,
        "rehearsed_at": epoch_s(stage.now()),
        "proof": proof_payload(found),
    }
    return {**rehearsed, "digest": digest(rehearsed)}
