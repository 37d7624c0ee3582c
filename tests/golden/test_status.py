"""The status of the shipped plans: the document that this project began with, regenerated from facts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from pydantic import JsonValue

from statehub_plan.history import history_of, lane_states
from statehub_plan.model.facts import Evidence, EvidenceStatus, Observation
from statehub_plan.model.record import Record
from statehub_plan.model.spec import CutoverPlan, ObservedLane
from statehub_plan.planning import make_plan
from statehub_plan.registers import observed_decision
from statehub_plan.render import status_markdown, status_view
from statehub_plan.spec import load_folder
from statehub_plan.status import LaneInput, LaneStanding, Status, build_status
from tests.golden import examples
from tests.golden.golden import HERE, check, on_screen
from tests.golden.test_streams import SLOT, SUBSCRIPTION

PLANS = Path(__file__).parents[2] / "plans"
GIVEN = HERE / "status" / "given.md"

STATEMENTS = (
    "State Hub Migration Strategy Status",
    "Updated: 2026-06-27",
    "Use CUST-WP-0011 as the active State Hub stabilization path.",
    "Keep CUST-WP-0038 and RAIL-BS-WP-0007 as deferred HA/ThreePhoenix follow-up lanes.",
    "Rationale: the pragmatic railiance01 deployment has already completed image publish, cluster manifests, empty "
    "deploy, migrations, WSL2 data restore, row-count comparison, and cluster API health checks.",
    "The remaining work is cutover and stabilization, not initial buildout.",
    "CUST-WP-0011 pragmatic railiance01",
    "T01-T06 done.",
    "Cluster State Hub has verified restored WSL2 data and healthy API.",
    "T07: get explicit approval to freeze WSL2 writes, restore final dump, compare again, and redirect private "
    "access/MCP to the cluster endpoint.",
    "CUST-WP-0038 full HA State Hub",
    "Entry criteria depend on completing or superseding CUST-WP-0011 and passing stabilization.",
    "All implementation tasks are still todo.",
    "Defer until cluster-hosted State Hub proves stable and ThreePhoenix storage/database strategy is current.",
    "RAIL-BS-WP-0007 ThreePhoenix HA cluster",
    "All phases are todo.",
    "Treat as substrate work for future critical workloads and HA State Hub, not as a blocker for pragmatic cutover.",
    "CUST-WP-0011-T07: explicit approval required before freezing WSL2 writes and making the cluster State Hub "
    "primary.",
    "CUST-WP-0038-T08: explicit approval required before retiring WSL2 fallback after HA failover and restore drills.",
    "Reconfirm current WSL2 backup and take final pre-cutover dump.",
    "Restore final dump into railiance01 State Hub and compare counts again.",
    "Redirect the active private access path: either keep local 127.0.0.1:8000 and move it to an ops-bridge/SSH "
    "tunnel, or set MCP API_BASE to the private cluster endpoint.",
    "Run stabilization with WSL2 retained as fallback.",
    "Document the operating model and leave final retirement to a later explicit decision or HA workplan.",
)
SECTIONS = ("Decision", "Current State", "Human Gates", "Stable Pickup Path")


@cache
def documents() -> dict[str, CutoverPlan | ObservedLane]:
    """The shipped lanes by name."""
    return {one.document.metadata.name: one.document for one in load_folder(PLANS)}


def probed(document: CutoverPlan | ObservedLane, status: EvidenceStatus) -> tuple[Evidence, ...]:
    """Every probe of a lane with the same outcome."""
    detail = {EvidenceStatus.UNKNOWN: "timed out after 5 s"}.get(status, "as said")
    return tuple(
        Evidence(task=task.id, probe=probe.name, status=status, detail=detail, observed_at=examples.NOW)
        for task in document.spec.tasks
        for probe in task.probes
    )


def pointed(seen: Observation, endpoint: str) -> Observation:
    """The facts with the access paths of the shipped plans pointed at one endpoint."""
    value: dict[str, JsonValue] = {"value": endpoint, "endpoint": endpoint, "answers": True, "detail": None}
    paths = [examples.known(f"access.{name}", value) for name in ("local-port", "mcp")]
    return examples.observation(list(seen), paths)


def status(seen: Observation, records: tuple[Record, ...] = (), done: EvidenceStatus = EvidenceStatus.PASSED) -> Status:
    """All lanes; the probes of the active one with outcome `done`, those of the others failed."""
    lanes = []
    for name, document in documents().items():
        active = name == "cust-wp-0011"
        evidence = probed(document, done if active else EvidenceStatus.FAILED)
        plan, decision = None, None
        if isinstance(document, CutoverPlan):
            decision = observed_decision(document, seen)
            plan = make_plan(
                document,
                observation=seen,
                evidence=evidence,
                now=examples.NOW,
                author="alice@ops.example",
                tool_version="0.1.0",
                spec_digest="sha256:" + "11" * 32,
                spec_path=f"/srv/state-hub/plans/{name}.yaml",
            )
        lanes.append(
            LaneInput(
                document=document,
                history=history_of(document, documents(), records, seen=decision),
                reached=lane_states(name, document, records, decision),
                records=records,
                evidence=evidence,
                plan=plan,
                gates=(examples.gate_state(),),
            )
        )
    return build_status(lanes, examples.NOW)


def before() -> Status:
    """T01-T06 done, T07 not."""
    return status(pointed(examples.before_cutover(), examples.OLD))


def followed(seen: Observation) -> Observation:
    """The fallback follows, as the document wishes."""
    return examples.observation(
        list(seen),
        examples.known(f"{examples.NEW}.slots", [SLOT]),
        examples.known(f"{examples.OLD}.subscriptions", [SUBSCRIPTION]),
        examples.known(f"{examples.NEW}.disk_free_bytes", 80 << 30),
    )


def stabilizing() -> Status:
    """Decided and redirected; stabilization runs."""
    return status(pointed(followed(examples.after_cutover()), examples.NEW), examples.cutover())


def finished() -> Status:
    """CUST-WP-0011 is over."""
    return status(_written(), examples.cutover("finished"))


def _written() -> Observation:
    """Stabilized, and the operating model is written."""
    recorded = examples.known(
        "document.recorded", {"term": 1, "identity": examples.identity_of(examples.NEW), "passed": True}
    )
    written = examples.known("document", {"path": "../docs/operating-model.md", "exists": True})
    after = pointed(followed(examples.after_cutover("passed")), examples.NEW)
    return examples.observation(list(after), recorded, written)


def unmended() -> Status:
    """CUST-WP-0011 is over; somebody made a table since, and the newest restore drill failed."""
    records = (*examples.cutover("finished"), *_failed_drill(examples.cutover("finished")))
    late = examples.known(f"{examples.NEW}.unpublished", ["public.late"])
    return status(examples.observation(list(_written()), late), records)


def _failed_drill(before: tuple[Record, ...]) -> tuple[Record, ...]:
    chain = examples.Chain("drill", start=examples.NOW, after=examples.head_of(before))
    chain.fact("restore-drill", "failed")
    return tuple(chain.records)


def down() -> Status:
    """Nothing of railiance01 can be observed."""
    seen = pointed(examples.before_cutover(), examples.OLD)
    gone = [fact.id for fact in seen if fact.id.startswith(f"{examples.NEW}.")]
    unknown = [examples.unknown(fact, "connection refused") for fact in gone]
    return status(examples.observation(list(seen), unknown), done=EvidenceStatus.UNKNOWN)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_of_the_given_document_is_regenerated(statement: str) -> None:
    """With the shipped plans and the facts of that day, nothing that it said is missing."""
    given = " ".join(GIVEN.read_text(encoding="utf-8").split())
    told = " ".join(status_markdown(before()).replace("|", " ").split())
    assert statement.removeprefix("Rationale: ") in given
    assert statement in told


def test_the_given_document_says_nothing_else() -> None:
    """The list of statements is complete: what is left of the given document are headings and layout."""
    left = " ".join(GIVEN.read_text(encoding="utf-8").split())
    for statement in sorted(STATEMENTS, key=len, reverse=True):
        left = left.replace(statement, " ")
    for layout in ("Files the-custodian/docs/state-hub-migration-strategy-status.md 2.0 KiB", *SECTIONS):
        left = " ".join(left.split()).replace(layout, " ", 1)
    left = left.replace("Path State Next action", " ")
    assert set() == set(left.split()) - {"•", "1.", "2.", "3.", "4.", "5."}


def test_sections_stand_in_the_same_order() -> None:
    """Whoever knows the document finds everything where it was."""
    lines = status_markdown(before()).splitlines()
    assert list(SECTIONS) == [line.removeprefix("## ") for line in lines if line.startswith("## ")]


STATES = {"before": before, "stabilizing": stabilizing, "finished": finished, "unmended": unmended, "down": down}


@pytest.mark.parametrize("name", sorted(STATES))
def test_document(name: str) -> None:
    """The same document as the migration goes on: facts win over what was once written."""
    check(f"status/{name}.md", status_markdown(STATES[name]()))


@pytest.mark.parametrize("name", sorted(STATES))
def test_on_a_screen(name: str) -> None:
    """Every lane, its tasks and what shows them, its gates, its next action."""
    check(f"status/{name}.txt", on_screen(status_view(STATES[name]())))


def test_standings_as_the_migration_goes_on() -> None:
    """The active lane goes from active over waiting to done, and only then does the deferred one become active."""
    standings = [
        tuple(lane.standing for lane in STATES[name]().lanes) for name in ("before", "stabilizing", "finished")
    ]
    deferred, observed = LaneStanding.DEFERRED, LaneStanding.OBSERVED
    assert standings == [
        (LaneStanding.ACTIVE, deferred, observed),
        (LaneStanding.WAITING, deferred, observed),
        (LaneStanding.DONE, LaneStanding.ACTIVE, observed),
    ]


def test_what_cannot_be_observed_is_said() -> None:
    """An endpoint that is down makes a lane blocked and its tasks unknown, never done and never left out."""
    lane = down().lanes[0]
    assert LaneStanding.BLOCKED is lane.standing
    assert {"unknown", "todo"} == {task.standing.value for task in lane.tasks}
    assert "connection refused" in status_markdown(down())
