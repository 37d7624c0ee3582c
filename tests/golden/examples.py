"""One document, the worlds around it as facts, and the plans they lead to; everything with fixed instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from statehub_plan.journal.chain import Head, link
from statehub_plan.model.base import epoch_s
from statehub_plan.model.facts import Evidence, EvidenceStatus, Fact, FactStatus, Observation
from statehub_plan.model.plan import Direction, Finding, Level, Phase, Plan, Verdict
from statehub_plan.model.record import ApprovalStatus, GateState, JudgedApproval, Record, RecordKind
from statehub_plan.model.spec import CutoverPlan, Gate
from statehub_plan.planning import make_plan, turned

NOW = datetime(2026, 6, 27, 12, 0, tzinfo=UTC)
HERE = Path(__file__).parent
OLD, NEW = "wsl2", "railiance01"
SYSTEMS = {OLD: "7300000000000000001", NEW: "7300000000000000002"}
API = {OLD: "http://127.0.0.1:8000", NEW: "http://10.20.0.11:8000"}
TUNNEL = {OLD: "127.0.0.1:8001", NEW: "10.20.0.11:8000"}
RUN = "cust-wp-0011-0123456789ab"


@cache
def document() -> CutoverPlan:
    """The plan document of the examples."""
    text = (HERE / "render" / "cust-wp-0011.yaml").read_text(encoding="utf-8")
    return CutoverPlan.model_validate(yaml.safe_load(text))


def known(fact_id: str, value: JsonValue, how: str = "query", at: datetime = NOW) -> Fact:
    """A known fact."""
    return Fact(id=fact_id, status=FactStatus.KNOWN, value=value, how=how, observed_at=at, elapsed_ms=3)


def unknown(fact_id: str, reason: str, how: str = "query") -> Fact:
    """An unknown fact."""
    return Fact(id=fact_id, status=FactStatus.UNKNOWN, reason=reason, how=how, observed_at=NOW, elapsed_ms=5000)


def identity_of(name: str) -> dict[str, JsonValue]:
    """Which database an endpoint is."""
    return {"system_identifier": SYSTEMS[name], "database": "statehub", "database_oid": 16384}


def endpoint_facts(name: str, *, writes: str, register: list[JsonValue] | None = None, term: int = 0) -> list[Fact]:
    """What is seen of an endpoint that answers."""
    hold = "run-1" if term and writes == "frozen" and register is None else None
    fence: dict[str, JsonValue] = {"term": term or None, "run": None, "hold": hold, "retired": False}
    values: dict[str, JsonValue] = {
        "reach": "reachable",
        "identity": identity_of(name),
        "version_num": 150018 if name == OLD else 180003,
        "in_recovery": False,
        "writes": writes,
        "fence": fence,
        "transfer": None,
        "subscriptions": [],
        "slots": [],
        "register": register or [],
        "tables": 7,
        "row_counts": {"public.work_plan": 1204, "public.task": 8211},
        "size_bytes": 73400320,
        "schema_revision": {"alembic": "0042_decisions", "fingerprint": "sha256:77"},
        "api.health": {"healthy": True, "status": 200, "latency_ms": 4, "detail": "ok"},
    }
    return [known(f"{name}.{fact}", value, how=f"psql {name}") for fact, value in values.items()]


def access_facts(endpoint: str) -> list[Fact]:
    """Both access paths pointed at one endpoint."""
    bridge: dict[str, JsonValue] = {"value": TUNNEL[endpoint], "endpoint": endpoint, "answers": True, "detail": "200"}
    mcp: dict[str, JsonValue] = {"value": API[endpoint], "endpoint": endpoint, "answers": True, "detail": "200"}
    return [known("access.bridge", bridge, how="../bridge/tunnels.yaml"), known("access.mcp", mcp, how="config.json")]


def backup_fact(of: str = OLD, age_s: int = 600) -> Fact:
    """A whole, checksummed backup."""
    value: dict[str, JsonValue] = {
        "path": "/srv/backups/20260627T115000Z",
        "endpoint": of,
        "taken_at": epoch_s(NOW) - age_s,
        "age_s": age_s,
        "checksum_ok": True,
        "size_bytes": 7340032,
        **identity_of(of),
    }
    return known("backup", value, how="manifest.json")


def observation(*facts: Fact | list[Fact]) -> Observation:
    """The facts of one look, later ones winning."""
    flat = [one for group in facts for one in (group if isinstance(group, list) else [group])]
    by_id = {one.id: one for one in flat}
    return Observation(observed_at=NOW, facts=tuple(by_id[key] for key in sorted(by_id)))


def before_cutover() -> Observation:
    """T01-T06 done: clients on wsl2, an earlier restore on railiance01 that still accepts writes, no backup yet."""
    return observation(
        endpoint_facts(OLD, writes="open"),
        endpoint_facts(NEW, writes="open"),
        access_facts(OLD),
        known("backup", None, how="the newest manifest in ../backups"),
        known("document", {"path": "../docs/operating-model.md", "exists": False}),
    )


def after_cutover(stabilization: str = "running") -> Observation:
    """Term 1 decided for railiance01, clients moved, wsl2 frozen."""
    decided: JsonValue = {"term": 1, "primary": NEW, "run": RUN, "decided_at": epoch_s(NOW) - 3600}
    progress: dict[str, JsonValue] = {
        "kind": "stabilize",
        "state": stabilization,
        "term": 1,
        "endpoint": NEW,
        "identity": identity_of(NEW),
        "since": epoch_s(NOW) - 3600,
        "until": epoch_s(NOW) - 3600 + 86400,
        "observed_s": 3 * 86400 if stabilization == "passed" else 3600,
        "looks": 60,
        "failures": 0,
        "last": "healthy",
        "at": epoch_s(NOW),
        "passed": stabilization == "passed",
    }
    return observation(
        endpoint_facts(OLD, writes="frozen", term=1),
        endpoint_facts(NEW, writes="open", register=[decided]),
        access_facts(NEW),
        backup_fact(),
        known("stabilization", progress, how=f"journal record 31 of run {RUN}"),
        known("document", {"path": "../docs/operating-model.md", "exists": False}),
    )


def evidence(status: EvidenceStatus = EvidenceStatus.PASSED) -> tuple[Evidence, ...]:
    """Every probe of the document with the same outcome."""
    return tuple(
        Evidence(task=task.id, probe=probe.name, status=status, detail="as said", observed_at=NOW)
        for task in document().spec.tasks
        for probe in task.probes
    )


def plan(
    seen: Observation | None = None,
    proofs: tuple[Evidence, ...] | None = None,
    *,
    direction: Direction = Direction.FORWARD,
    primary: str = NEW,
    gates: tuple[Gate, ...] | None = None,
) -> Plan:
    """A plan of alice's, not yet judged; `gates` instead of the document's."""
    wished = turned(document(), primary)
    spec = wished.spec if gates is None else wished.spec.model_copy(update={"gates": gates})
    return make_plan(
        wished.model_copy(update={"spec": spec}),
        observation=seen or before_cutover(),
        evidence=evidence() if proofs is None else proofs,
        now=NOW + timedelta(seconds=2),
        author="alice@ops.example",
        tool_version="0.1.0",
        spec_digest="sha256:" + "11" * 32,
        spec_path="/srv/state-hub/plans/cust-wp-0011.yaml",
        direction=direction,
    )


def judged(found: Plan, *findings: Finding) -> Plan:
    """The plan with a verdict; allowed unless a finding is more than advisory."""
    verdict = Verdict(
        allowed=all(one.level is Level.ADVISORY for one in findings),
        phase=Phase.PLAN,
        evaluated=("backup_fresh", "gate_approved", "one_writable"),
        findings=findings,
        input_digest="sha256:" + "22" * 32,
        bundle_digest="sha256:" + "33" * 32,
        judged_at=NOW,
    )
    return found.model_copy(update={"verdict": verdict})


class Chain:
    """Records of one run, as the applier writes them, one second apart unless told otherwise."""

    def __init__(
        self, run: str = RUN, *, start: datetime = NOW - timedelta(hours=1), after: Head | None = None
    ) -> None:
        self.run = run
        self.at = start
        self.head = after or Head()
        self.records: list[Record] = []

    def add(self, kind: RecordKind, step: str | None = None, seconds: float = 1.0, /, **payload: JsonValue) -> None:
        """One record, `seconds` after the one before."""
        self.at += timedelta(seconds=seconds)
        record = link(
            self.head,
            service="state-hub",
            plan_name="cust-wp-0011",
            run=self.run,
            epoch=1,
            at=self.at,
            kind=kind,
            step=step,
            payload=payload,
        )
        self.head = Head(record.seq, record.hash)
        self.records.append(record)

    def begin(self, direction: str = "forward", term: int = 1) -> None:
        """The run's first record and its first verdict."""
        self.add(
            RecordKind.RUN_STARTED,
            direction=direction,
            old=OLD if direction == "forward" else NEW,
            new=NEW if direction == "forward" else OLD,
            term=term,
            effects_digest="sha256:" + "44" * 32,
            author="alice@ops.example",
        )
        self.add(
            RecordKind.VERDICT, None, 0.2, phase="apply", allowed=True, findings=[], input_digest="sha256:" + "55" * 32
        )

    def step(self, step: str, summary: str, seconds: float = 1.0, /, **payload: JsonValue) -> None:
        """An intent and its outcome."""
        kind = step.partition("-")[2]
        self.add(RecordKind.STEP_INTENT, step, 0.05, kind=kind, subject=None)
        elapsed_ms = round(seconds * 1000)
        self.add(RecordKind.STEP_DONE, step, seconds, summary=summary, kind=kind, elapsed_ms=elapsed_ms, **payload)

    def fact(self, kind: str, state: str, direction: str = "forward", /, **payload: JsonValue) -> None:
        """Something that only the journal knows."""
        self.add(RecordKind.FACT, None, 0.01, direction=direction, kind=kind, state=state, **payload)


PROOF: dict[str, JsonValue] = {
    "answer": "equal",
    "digest": "sha256:" + "66" * 32,
    "content": True,
    "seeds": "5e" * 16,
    "tables": {
        "public.task": {"rows": 8211, "digest": "a1:b2"},
        "public.work_plan": {"rows": 1204, "digest": "c3:d4"},
    },
    "waived": [],
}


def cutover(until: str = "waiting") -> tuple[Record, ...]:
    """A forward run: up to a waiting stabilization, or up to its end (`finished`)."""
    chain = Chain()
    chain.begin()
    chain.step("01-check-evidence", "7 probes pass", 0.02)
    chain.step("02-backup", "7.3 MB, 7 tables", 2.4)
    chain.step("03-prepare-target", "7 tables fenced and empty", 0.8)
    chain.add(RecordKind.GATE_PASSED, "04-hold", gate="CUST-WP-0011-T07", fingerprints=["SHA256:abcdefghijklmnop"])
    chain.step("04-hold", "7 tables held after 2 ms; writers wait", 0.03, hold="0123456789ab-1", waited_on=[])
    chain.step("05-copy", "9,415 rows, 7.0 MB", 1.9)
    chain.step("06-sync-sequences", "5 sequences", 0.02)
    chain.step("07-compare", "equal: 2 tables, 9415 rows", 0.31, **PROOF)
    chain.step("08-freeze", "frozen for term 1; writers had waited 2.41 s", 0.04, term=1, proof=PROOF["digest"])
    chain.fact("decide", "passed", term=1, primary=NEW, identity=identity_of(NEW))
    chain.step("09-decide", "term 1: railiance01 is primary", 0.01, term=1, outcome="won")
    chain.step("10-open", "railiance01 accepts writes; 3 read-only sessions ended", 0.02, term=1)
    changes: JsonValue = [
        {"path": "bridge", "before": TUNNEL[OLD], "after": TUNNEL[NEW]},
        {"path": "mcp", "before": API[OLD], "after": API[NEW]},
    ]
    chain.step("11-redirect", "2 access paths point at railiance01", 0.2, changes=changes)
    chain.add(RecordKind.STEP_INTENT, "12-stabilize", 0.05, kind="stabilize", subject=NEW)
    looked: dict[str, JsonValue] = {"endpoint": NEW, "term": 1, "since": epoch_s(chain.at), "looks": 1, "failures": 0}
    looked |= {"until": epoch_s(chain.at) + 86400, "last": "healthy", "identity": identity_of(NEW)}
    if until == "waiting":
        chain.fact("stabilize", "running", **looked)
        chain.add(RecordKind.STEP_WAITING, "12-stabilize", **looked)
        return tuple(chain.records)
    chain.fact("stabilize", "passed", **looked)
    chain.add(
        RecordKind.STEP_DONE,
        "12-stabilize",
        86400,
        summary="healthy for 24h in 1440 looks",
        kind="stabilize",
        elapsed_ms=20,
    )
    about = identity_of(NEW)
    chain.fact("document", "passed", term=1, identity=about, path="../docs/operating-model.md")
    chain.step("13-document", "wrote ../docs/operating-model.md", 0.01, path="../docs/operating-model.md")
    chain.add(RecordKind.RUN_FINISHED, direction="forward", term=1, primary=NEW, identity=about)
    return tuple(chain.records)


def approval(status: ApprovalStatus = ApprovalStatus.VALID, **changes: Any) -> JudgedApproval:
    """An approval of the example's gate."""
    values: dict[str, Any] = {
        "gate": "CUST-WP-0011-T07",
        "principal": "operator@state-hub.example",
        "fingerprint": "SHA256:abcdefghijklmnop",
        "status": status,
        "detail": "",
        "reason": "the window is agreed",
        "signed_at": NOW - timedelta(hours=2),
        "decide_by": NOW - timedelta(hours=1),
        "execute_by": NOW + timedelta(hours=1),
        "source": "/srv/state-hub/plans/.statehub-plan/approvals/one.json",
    }
    return JudgedApproval(**(values | changes))


def gate_state(*approvals: JudgedApproval, quorum: int = 1) -> GateState:
    """The example's gate with these approvals."""
    keys = sorted({str(one.fingerprint) for one in approvals if one.status is ApprovalStatus.VALID})
    return GateState(
        gate="CUST-WP-0011-T07",
        quorum=quorum,
        satisfied=len(keys) >= quorum,
        fingerprints=tuple(keys),
        approvals=approvals,
    )


def head_of(records: tuple[Record, ...]) -> Head:
    """Where the next record goes."""
    return Head(records[-1].seq, records[-1].hash)
