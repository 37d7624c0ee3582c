"""Journal, gates, facts, comparisons, the report of a run and the operating model."""

from __future__ import annotations

from datetime import timedelta

import pytest

from statehub_plan.model.facts import EvidenceStatus
from statehub_plan.model.plan import Identity
from statehub_plan.model.record import ApprovalStatus, RecordKind
from statehub_plan.model.spec import FallbackMode
from statehub_plan.postgres.comparison import (
    Answer,
    Comparison,
    Difference,
    RowDifference,
    TableProof,
    ValueDifference,
    Waived,
)
from statehub_plan.redact import redact
from statehub_plan.render import (
    comparison_view,
    gates_text,
    history_text,
    observation_view,
    operating_model_markdown,
    run_report_html,
)
from tests.golden import examples
from tests.golden.golden import check, on_screen


def test_journal() -> None:
    """One line a record, to the millisecond, with what matters of each kind."""
    records = examples.cutover("finished")
    check("render/history.txt", history_text(records, len(records)))


def test_gates() -> None:
    """Which approvals count, which don't and why, until when."""
    refused = examples.approval(ApprovalStatus.AUTHOR, detail="whoever plans or runs may not approve")
    check("render/gates.txt", gates_text((examples.gate_state(examples.approval(), refused, quorum=2),)))


def test_facts() -> None:
    """Each fact with its value and how it was seen; an unknown one with its reason, in plain sight."""
    down = examples.unknown("wsl2.sessions", "permission denied for pg_stat_activity")
    older = examples.known("wsl2.size_bytes", 73400320, at=examples.NOW - timedelta(seconds=95))
    seen = examples.observation(list(examples.before_cutover()), older, down)
    check("render/observation.txt", on_screen(observation_view(seen, examples.evidence())))


def test_unknown_facts_only() -> None:
    """`--unknown` leaves what stands in the way: facts without a value, probes that did not pass."""
    down = examples.unknown("wsl2.sessions", "permission denied for pg_stat_activity")
    seen = examples.observation(list(examples.before_cutover()), down)
    proofs = examples.evidence(EvidenceStatus.FAILED)[:1]
    check("render/observation-unknown.txt", on_screen(observation_view(seen, proofs, only_unknown=True)))


def comparison(answer: Answer) -> Comparison:
    """Two tables, one of which may differ."""
    different = answer is Answer.DIFFERENT
    tables = (
        TableProof(table="public.task", answer=answer, rows_source=8211, rows_target=8210 if different else 8211),
        TableProof(table="public.work_plan", answer=Answer.EQUAL, rows_source=1204, rows_target=1204),
    )
    row = RowDifference(
        key="(17)",
        what="missing",
        digest_source="77" * 16,
        values=(
            ValueDifference(column="id", source="17", target=None),
            ValueDifference(column="token", source="***", target=None),
        ),
    )
    found = Difference(
        kind="table",
        object="public.task",
        aspect="rows",
        source="8211",
        target="8210",
        keys=("(17) only on the source",),
        rows=(row,),
    )
    return Comparison(
        answer=answer,
        content=True,
        source=Identity(),
        target=Identity(),
        tables=tables,
        differences=(found,) if different else (),
        unknown=("table public.task: permission denied",) if answer is Answer.UNKNOWN else (),
        waived=(Waived(name="public.cache", table="public.cache", reason="rebuilt at start", differences=1),)
        if different
        else (),
        notes=("index names of partitions are not compared",) if different else (),
        digest="sha256:" + "77" * 32,
        compared_at=examples.NOW,
        elapsed_ms=652,
    )


def test_comparison_equal() -> None:
    """Short when there is nothing to say."""
    told = on_screen(comparison_view(comparison(Answer.EQUAL), source=examples.OLD, target=examples.NEW))
    check("render/comparison-equal.txt", told)


def test_comparison_different() -> None:
    """Where it differs, down to the keys, and what the plan left out."""
    told = on_screen(comparison_view(comparison(Answer.DIFFERENT), source=examples.OLD, target=examples.NEW))
    check("render/comparison-different.txt", told)


@pytest.mark.parametrize("column", ["password", "token", "authorization", "pass word: x", 'api"key'])
def test_what_is_redacted_stays_readable(column: str) -> None:
    """Whatever is printed is redacted once more; both sides of a column that holds secrets can be told apart then."""
    values = (
        ValueDifference(column=column, source="***", target="***"),
        ValueDifference(column=column, source=None, target="***"),
        ValueDifference(column=column, source="***", target=None),
    )
    row = RowDifference(key="(17)", what="changed", values=values)
    found = Difference(kind="table", object="public.client", aspect="content", rows=(row,))
    seen = comparison(Answer.DIFFERENT).model_copy(update={"differences": (found,)})
    told = on_screen(comparison_view(seen, source=examples.OLD, target=examples.NEW))
    assert told == redact(told)
    assert ['"***" → "***"', 'NULL → "***"', '"***" → NULL'] == [
        line.rpartition(": ")[2] for line in told.splitlines() if " → " in line and "***" in line
    ]


def test_comparison_unknown() -> None:
    """What could not be looked at is never taken for equal."""
    told = on_screen(comparison_view(comparison(Answer.UNKNOWN), source=examples.OLD, target=examples.NEW))
    check("render/comparison-unknown.txt", told)


def test_report() -> None:
    """One page about a finished run: timeline, write gap, proof, approvals, verdicts, final state, digests."""
    gates = (examples.gate_state(examples.approval()),)
    page = run_report_html(examples.judged(examples.plan()), examples.cutover("finished"), gates, examples.NOW)
    check("render/report.html", page)


def test_report_of_a_run_that_never_began() -> None:
    """What is not on record is said to be so, section by section."""
    page = run_report_html(examples.plan(), (), (), examples.NOW)
    for told in ("not begun", "This run never held writes.", "No step was begun.", "No comparison is on record"):
        assert told in page


def test_report_of_a_run_that_failed_under_the_hold() -> None:
    """The attempt, why it ended, and that writers went on at the old primary."""
    chain = examples.Chain()
    chain.begin()
    chain.step("04-hold", "7 tables held", 0.1)
    chain.add(RecordKind.STEP_INTENT, "05-copy", 0.1, kind="copy", subject=None)
    chain.add(RecordKind.STEP_FAILED, "05-copy", 2.0, code="disk-full", what="no space left on railiance01")
    page = run_report_html(examples.plan(), tuple(chain.records), (examples.gate_state(),), examples.NOW)
    for told in ("stopped by a failure", "no space left on railiance01", "writers went on at the old primary"):
        assert told in page
    assert "not approved" in page


def test_operating_model() -> None:
    """How the service is run from now on, with the facts that this was written from."""
    text = operating_model_markdown(examples.plan(), examples.after_cutover(), examples.cutover(), examples.NOW)
    check("render/operating-model.md", text)


def test_operating_model_of_a_fallback_that_follows() -> None:
    """It is no copy of the day of the move, and somebody has to look after what the primary keeps for it."""
    plan = examples.plan()
    spec = plan.spec.spec
    fallback = spec.desired.fallback.model_copy(update={"mode": FallbackMode.FOLLOWING})
    desired = spec.desired.model_copy(update={"fallback": fallback})
    document = plan.spec.model_copy(update={"spec": spec.model_copy(update={"desired": desired})})
    seen = examples.after_cutover()
    told = operating_model_markdown(plan.model_copy(update={"spec": document}), seen, (), examples.NOW)
    assert "- It follows railiance01: what is written there arrives here" in told
    assert "`statehub-plan guard " in told
    assert "what is on its way arrives, both are proved equal" in told


def test_operating_model_after_a_drill_that_was_interrupted() -> None:
    """Nothing passed and nothing failed that anybody saw."""
    begun = examples.known("drill.failover", {"state": "begun", "passed": False, "at": int(examples.NOW.timestamp())})
    seen = examples.observation([*examples.after_cutover(), begun])
    told = operating_model_markdown(examples.plan(), seen, examples.cutover(), examples.NOW)
    assert "- failover drill: begun, and no outcome is on record, 20" in told


def test_operating_model_of_an_unobservable_world() -> None:
    """What was not observed is said to be unknown, in the very place where people look for it."""
    seen = examples.observation(
        examples.unknown("wsl2.reach", "timed out"), examples.unknown("backup", "no such folder")
    )
    check("render/operating-model-unknown.md", operating_model_markdown(examples.plan(), seen, (), examples.NOW))
