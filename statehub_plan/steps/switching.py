"""The steps between hold and opening as one switch: in a cutover by replication nobody has time for anything between.

Each kind of step is a function of its own here; what it needs is warm in the switch. Observing, judging and recording
are done before the first and after the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
from pydantic import JsonValue

from statehub_plan.abstraction import compared_as
from statehub_plan.errors import Exit, StatehubError
from statehub_plan.history import Rehearsed, newest_rehearsal
from statehub_plan.model.plan import Step
from statehub_plan.model.spec import UnderHold, duration_s
from statehub_plan.model.steps import StepKind
from statehub_plan.postgres.baseline import Baseline
from statehub_plan.postgres.compare import Comparison, compare
from statehub_plan.postgres.connect import Connection
from statehub_plan.postgres.hold import HoldEvent, limits_of
from statehub_plan.postgres.replication import stream_marks
from statehub_plan.postgres.switch import Switch, SwitchEnds, SwitchLimits
from statehub_plan.postgres.watermark import catalog_watermark
from statehub_plan.steps.compare import require_equal
from statehub_plan.steps.prepare_reverse import reverse_ends
from statehub_plan.steps.redirect import require_redirectable
from statehub_plan.steps.stage import Stage

__all__ = ["OUTDATED", "PARTS", "SWITCH_KINDS", "begin_proved_switch", "begin_switch", "carry_out_part"]

OUTDATED = "rehearsal-outdated"
"""The code of the error after which another rehearsal proves everything anew; nothing is held any more then."""

_MOST_KEYS = 20_000
"""Comparing more of them would take about half a second of the hold."""

_WHAT_WAS_PROVED = {
    UnderHold.STREAM: "nothing but the stream has changed anything",
    UnderHold.CHANGES: "every row that was written since was compared",
    UnderHold.CONTENT: "content compared again",
}

Part = Callable[[Stage, Switch, Step], dict[str, JsonValue]]


def begin_switch(stage: Stage, *, reverse: bool) -> Switch:
    """A switch that has everything warm and holds nothing yet; the caller closes it. `reverse`: with the way back.
    StatehubError where clients could not be pointed at the new primary afterwards."""
    require_redirectable(stage)
    hold_id = f"{stage.run[-12:]}-{stage.epoch}"
    old, new = stage.plan.old, stage.plan.new
    freeze = stage.plan.spec.spec.freeze
    switch = Switch(
        SwitchEnds(stage.dsn(old), stage.dsn(new), reverse_ends(stage, old) if reverse else None),
        run=stage.run,
        epoch=stage.epoch,
        term=stage.plan.term,
        hold_id=hold_id,
        limits=SwitchLimits(hold=limits_of(freeze), switch_s=duration_s(freeze.switch_timeout)),
        on_event=lambda event: stage.later(f"while writers waited: {event.what}") if _worth_telling(event) else None,
        moment=stage.moment,
    )
    try:
        switch.prepare()
    except BaseException:
        switch.close()
        raise
    return switch


def begin_proved_switch(stage: Stage, *, reverse: bool) -> Switch:
    """The same, once what the rehearsal proved still holds: StatehubError `OUTDATED` before any writer waits."""
    by_changes = stage.plan.spec.spec.compare.under_hold is UnderHold.CHANGES
    if by_changes:
        _come_near(stage)  # may take a while, after which the stream has to be near
    switch = begin_switch(stage, reverse=reverse)
    try:
        receipt = _receipt(stage)
        switch.look(lambda source, target: _require_still_proved(stage, receipt, source, target))
        if by_changes:
            for one in _come_near(stage).read_whole():
                stage.later(f"read whole while writers waited: {one}")
    except BaseException:
        switch.close()
        raise
    return switch


def carry_out_part(stage: Stage, switch: Switch, step: Step) -> dict[str, JsonValue]:
    """One part of the switch. Whatever it raises before the freeze leaves writers free, once the switch is closed; what
    comes after the decision waits for no journal that is away."""
    stage.require_not_taken() if step.kind is StepKind.OPEN else stage.check_lease()
    return PARTS[step.kind](stage, switch, step)


def _worth_telling(event: HoldEvent) -> bool:
    return event.kind in ("session-ended", "yielded", "writer-canceled", "lost", "expired")


def _hold(stage: Stage, switch: Switch, _step: Step) -> dict[str, JsonValue]:
    hold = switch.take_hold()
    stage.hold, stage.hold_id = hold, switch.hold_id
    waited: list[JsonValue] = [f"{one.who} on {one.table} for {one.waited_s:.2f} s" for one in hold.waited_on]
    return {
        "summary": f"{len(hold.tables)} tables held after {hold.lock_s * 1000:.0f} ms",
        "hold": switch.hold_id,
        "waited_on": waited,
    }


def _drain(_stage: Stage, switch: Switch, _step: Step) -> dict[str, JsonValue]:
    barrier = switch.drain()
    ms = switch.timings.drain_ms
    return {"summary": f"barrier {barrier.lsn} has arrived after {ms:.1f} ms", "lsn": barrier.lsn, "drain_ms": ms}


def _sequences(_stage: Stage, switch: Switch, _step: Step) -> dict[str, JsonValue]:
    values = switch.sync_sequences()
    return {"summary": f"{len(values)} sequences have their values", "sequences": len(values)}


def _prove(stage: Stage, switch: Switch, _step: Step) -> dict[str, JsonValue]:
    receipt = _receipt(stage)
    how = stage.plan.spec.spec.compare.under_hold
    compared: list[Comparison] = []

    def check(source: Connection, target: Connection) -> None:
        _require_still_proved(stage, receipt, source, target)
        if how is not UnderHold.STREAM:
            compared.append(_compare_again(stage, stage.baseline if how is UnderHold.CHANGES else None))

    proof = switch.prove(receipt.digest, check)
    payload: dict[str, JsonValue] = {
        "summary": f"equal since {receipt.at:%Y-%m-%d %H:%M:%S} UTC: {_what_was_proved(stage)}",
        "digest": proof,
        "rehearsal": receipt.digest,
        "under_hold": how.value,
        "proof_ms": switch.timings.proof_ms,
    }
    for one in compared:
        whole: list[JsonValue] = [note for note in one.notes if "was read whole" in note]
        payload |= {"compared": one.digest, "compared_ms": one.elapsed_ms, "read_whole": whole}
    return payload


def _what_was_proved(stage: Stage) -> str:
    """Where the plan wants rows counted only, nothing of this says that values were compared."""
    wanted = stage.plan.spec.spec.compare
    if wanted.content or wanted.under_hold is UnderHold.STREAM:
        return _WHAT_WAS_PROVED[wanted.under_hold]
    return "rows were counted again, no value was compared"


def _receipt(stage: Stage) -> Rehearsed:
    receipt = newest_rehearsal(stage.records())
    if receipt is None or not receipt.passed or receipt.term != stage.plan.term:
        raise _no_longer_proved("no rehearsal of this move has passed")
    if receipt.compared_as != compared_as(stage.plan.spec):
        raise _no_longer_proved("it compared other things than this plan wants compared")
    return receipt


def _require_still_proved(stage: Stage, receipt: Rehearsed, source: Connection, target: Connection) -> None:
    """Since the rehearsal nothing has changed the two sides but the stream: five queries, the long ones at once."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="statehub-plan") as pool:
        watermarks = list(pool.map(catalog_watermark, (source, target)))
    for endpoint, found in zip((stage.plan.old, stage.plan.new), watermarks, strict=True):
        if found != receipt.watermarks.get(endpoint):
            raise _no_longer_proved(f"a definition in {endpoint} has changed since")
    marks = stream_marks(source, target)
    if marks != receipt.stream_marks or not (marks["sending"] and marks["applying"]):
        raise _no_longer_proved("the stream was changed or interrupted since, or has failed to apply something")


def _come_near(stage: Stage) -> Baseline:
    """What was written since the baseline is compared before anybody has to wait for it; StatehubError `OUTDATED` where
    this run has no baseline, or another one would know more, `changes-behind` where too much is left for the hold."""
    baseline = stage.baseline
    if baseline is None:
        raise _no_longer_proved("which rows were written since is known to the run alone that rehearsed")
    left = baseline.settle(stage.plan.spec.spec.compare.jobs, stage.check_lease)
    if left > _MOST_KEYS:
        raise StatehubError(
            code="changes-behind",
            what=f"{left} rows that were written lately could not be compared before the hold; nothing was held",
            hint="wait until the burst of writes is over and has arrived, then run again",
        )
    if curable := baseline.curable():
        raise _no_longer_proved("; ".join(curable))
    return baseline


def _compare_again(stage: Stage, baseline: Baseline | None) -> Comparison:
    """Everything, or what `baseline` does not vouch for. Sequences were set under this hold, from what is there now."""
    wanted = stage.plan.spec.spec.compare
    found = compare(
        stage.dsn(stage.plan.old),
        stage.dsn(stage.plan.new),
        jobs=wanted.jobs,
        content=wanted.content,
        waive=wanted.waive,
        count_waived=False,  # nobody waits under a hold for what decides nothing
        changes=None if baseline is None else baseline.changes,
        sequences=baseline is None,
        timeout_s=duration_s(stage.plan.spec.spec.freeze.switch_timeout),
        check=stage.check_lease,
    )
    require_equal(stage, found)
    return found


def _freeze(stage: Stage, switch: Switch, _step: Step) -> dict[str, JsonValue]:
    switch.freeze(stage.plan.new)
    stage.hold = None  # it is frozen, not held
    return {"summary": f"frozen for term {stage.plan.term}", "term": stage.plan.term, "proof": switch.proof}


def _decide(stage: Stage, switch: Switch, step: Step) -> dict[str, JsonValue]:
    endpoint, term = stage.subject(step), stage.plan.term
    outcome = switch.decide()
    if not outcome.stands:
        raise StatehubError(
            code="decision-lost",
            what=f"term {term} could not be decided for {endpoint}: {outcome.value}",
            hint="`observe` shows both registers; make a new plan from there",
            exit_status=Exit.STALE_PLAN,
        )
    if not switch.confirmed:
        stage.later(
            f"no synchronous standby of {endpoint} has confirmed the decision of term {term} yet: it stands, and a "
            "failover to such a standby would forget it"
        )
    return {"summary": f"term {term}: {endpoint} is primary and open", "outcome": outcome.value, "term": term}


def _open(stage: Stage, switch: Switch, step: Step) -> dict[str, JsonValue]:
    """It accepts writes since the decision; sessions that began while it was frozen would stay read-only."""
    endpoint = stage.subject(step)
    timings = switch.timings
    count = 0
    try:  # clients are to be told of the new primary whatever becomes of sessions that were there before
        count = switch.end_read_only_sessions(timeout_s=1.0)
    except (StatehubError, psycopg.Error) as error:
        stage.later(f"sessions that began while {endpoint} was frozen were not ended: {' '.join(str(error).split())}")
    return {
        "summary": f"{endpoint} accepts writes after {timings.gap_ms:.0f} ms; {count} read-only sessions ended",
        "term": stage.plan.term,
        "timings": timings.model_dump(mode="json"),
    }


PARTS: dict[StepKind, Part] = {
    StepKind.HOLD: _hold,
    StepKind.DRAIN: _drain,
    StepKind.SYNC_SEQUENCES: _sequences,
    StepKind.COMPARE: _prove,
    StepKind.FREEZE: _freeze,
    StepKind.DECIDE: _decide,
    StepKind.OPEN: _open,
}
SWITCH_KINDS = tuple(PARTS)


def _no_longer_proved(why: str) -> StatehubError:
    return StatehubError(
        code=OUTDATED,
        what=f"what the rehearsal proved does not hold any more: {why}; nothing is held",
        hint="run apply again: it rehearses again, which compares the content of both sides online; let migrations end "
        "first, and the stream run without errors",
        exit_status=Exit.STALE_PLAN,
    )
