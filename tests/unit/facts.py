"""Observations made by hand, for the pure rooms' tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from statehub_plan.model.base import canonical
from statehub_plan.model.facts import Evidence, EvidenceStatus, Fact, FactStatus, Observation
from statehub_plan.model.plan import Direction, Plan
from statehub_plan.model.record import RESTORE_DRILL, Lease, Record, RecordKind
from statehub_plan.model.spec import CutoverPlan
from statehub_plan.planning import make_plan

NOW = datetime(2026, 6, 27, 12, 0, tzinfo=UTC)

DOCUMENT: dict[str, Any] = {
    "apiVersion": "statehub-plan/v1",
    "kind": "CutoverPlan",
    "metadata": {"name": "move", "title": "Move the hub", "service": "hub"},
    "spec": {
        "endpoints": {
            "home": {"title": "Home", "database": {"dsn": {"env": "HOME_DSN"}}, "appRoles": ["app"]},
            "away": {"title": "Away", "database": {"dsn": {"env": "AWAY_DSN"}}, "appRoles": ["app"]},
        },
        "desired": {"primary": "away", "fallback": {"endpoint": "home", "mode": "frozen"}},
        "access": [
            {
                "name": "mcp",
                "kind": "json-pointer",
                "file": "mcp.json",
                "pointer": "/api",
                "values": {"home": "http://127.0.0.1:1", "away": "http://127.0.0.1:2"},
            }
        ],
        "transfer": {"method": "dump"},
        "backup": {"directory": "backups"},
        "tasks": [{"id": "T01", "title": "Image", "probes": [{"kind": "file", "name": "image", "path": "image"}]}],
        "stabilization": {"duration": "10s", "interval": "1s"},
        "gates": [
            {
                "name": "T07",
                "title": "Cut over",
                "guards": ["hold", "freeze", "decide"],
                "approvers": ["ann@ops"],
                "allowedSigners": "allowed_signers",
            }
        ],
        "operatingModel": {"path": "operating-model.md"},
    },
}


def document(**spec: Any) -> CutoverPlan:
    """The plan document with some keys of its spec replaced."""
    return CutoverPlan.model_validate({**DOCUMENT, "spec": {**DOCUMENT["spec"], **spec}})


LEASE = Lease(
    service="hub", holder="bob@ops", epoch=1, acquired_at=NOW, heartbeat_at=NOW, expires_at=NOW + timedelta(seconds=30)
)


def identity(name: str) -> dict[str, Any]:
    """Who an endpoint is, different for each name."""
    return {"system_identifier": f"72{len(name)}{ord(name[0])}", "database": "hub", "database_oid": 16384}


PASSED: dict[str, Any] = {
    "term": 1,
    "identity": identity("away"),
    "state": "passed",
    "observed_s": 10,
    "failures": 0,
}
"""The stabilization of `away` after the decision of `switched`, as the document demands it."""


def facts(**changes: Any) -> dict[str, Any]:
    """Facts of the world before any run: home serves, away holds an earlier restore and is writable."""
    found: dict[str, Any] = {}
    for name in ("home", "away"):
        found |= {
            f"{name}.reach": "reachable",
            f"{name}.identity": identity(name),
            f"{name}.version_num": 150000,
            f"{name}.writes": "open",
            f"{name}.fence": {"term": None, "hold": None, "retired": False},
            f"{name}.transfer": None,
            f"{name}.register": [],
            f"{name}.subscriptions": [],
            f"{name}.slots": [],
            f"{name}.tables": 12,
        }
    found["access.mcp"] = {"value": "http://127.0.0.1:1", "endpoint": "home", "answers": True, "detail": ""}
    found["backup"] = {"taken_at": int(NOW.timestamp()) - 60, "checksum_ok": True, **identity("home")}
    found["document"] = {"path": "operating-model.md", "exists": False}
    return found | {key.replace("__", "."): value for key, value in changes.items()}


def fenced(term: int | None, **more: Any) -> dict[str, Any]:
    """A fence fact."""
    return {"term": term, "hold": None, "retired": False, **more}


def decided(term: int, name: str) -> list[dict[str, Any]]:
    """A register with one decision."""
    return [{"term": term, "primary": name, "run": "r", "decided_at": 0}]


def switched(**changes: Any) -> dict[str, Any]:
    """Facts right after the decision for `away` in term 1."""
    base = facts(
        home__writes="frozen",
        home__fence=fenced(1, hold="h1"),
        away__fence=fenced(None),
        away__register=decided(1, "away"),
    )
    return base | {key.replace("__", "."): value for key, value in changes.items()}


def observation(values: dict[str, Any], *unknown: str) -> Observation:
    """An observation of these facts, those named in `unknown` with a reason instead of a value."""
    made = []
    for key in sorted(set(values) | set(unknown)):
        if key in unknown:
            made.append(Fact(id=key, status=FactStatus.UNKNOWN, reason="time-out", how="test", observed_at=NOW))
        else:
            made.append(Fact(id=key, status=FactStatus.KNOWN, value=values[key], how="test", observed_at=NOW))
    return Observation(observed_at=NOW, facts=tuple(made))


def evidence(status: EvidenceStatus = EvidenceStatus.PASSED) -> tuple[Evidence, ...]:
    """The one probe of the document."""
    return (Evidence(task="T01", probe="image", status=status, detail="", observed_at=NOW),)


def plan(values: dict[str, Any] | None = None, doc: CutoverPlan | None = None, **made: Any) -> Plan:
    """A plan over these facts."""
    return make_plan(
        doc or document(),
        observation=observation(values if values is not None else facts()),
        evidence=made.get("evidence", evidence()),
        now=made.get("now", NOW),
        author=made.get("author", "bob@ops"),
        tool_version="0",
        spec_digest="sha256:0",
        spec_path="plans/move.yaml",
        direction=made.get("direction", Direction.FORWARD),
    )


def record(seq: int, kind: RecordKind, payload: dict[str, Any], *, run: str = "r", step: str | None = None) -> Record:
    """A journal record; its hashes are of no interest here."""
    return Record(
        seq=seq,
        service="hub",
        plan_name="move",
        run=run,
        epoch=1,
        at=NOW,
        kind=kind,
        step=step,
        payload=payload,
        prev="0" * 64,
        hash="0" * 64,
    )


def same(one: Any, other: Any) -> bool:
    """Equal in canonical JSON."""
    adapter: TypeAdapter[Any] = TypeAdapter(type(one))
    return canonical(adapter.dump_python(one, mode="json")) == canonical(adapter.dump_python(other, mode="json"))


def restored(**changes: Any) -> dict[str, Any]:
    """A restore drill that counts for `retirable`, but for `changes` of its record or, by the same name, its report."""
    report: dict[str, Any] = {
        "schema_version": RESTORE_DRILL,
        "endpoint": "away",
        "identity": identity("away"),
        "manifest_digest": "sha256:1",
        "encrypted": True,
        "taken_at": (NOW - timedelta(minutes=30)).isoformat(),
        "drilled_at": (NOW - timedelta(minutes=20)).isoformat(),
        "restored_on": {"system_identifier": identity("away")["system_identifier"]},
    }
    record = {"restored_on": "away", "report": report}
    record |= {name: value for name, value in changes.items() if name == "restored_on"}
    return record | {"report": report | {name: value for name, value in changes.items() if name != "restored_on"}}
