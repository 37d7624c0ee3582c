"""From OPA's decision to findings: whatever is not exactly a verdict denies."""

from __future__ import annotations

from typing import Any

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Level
from statehub_plan.policy.opa import OpaConnection
from statehub_plan.policy.verdict import read_decision, read_findings

PACKAGES = ("backup_fresh", "canary")


def finding(**changes: Any) -> dict[str, Any]:
    """A finding as policies write it."""
    return {
        "code": "backup_fresh.stale",
        "level": "hard",
        "message": "too old",
        "step": None,
        "path": None,
        "evidence": {},
        "remedy": "take one",
        **changes,
    }


def codes(*raw: Any) -> list[str]:
    """Codes of the findings that a decision with these is read as."""
    decision = read_decision({"evaluated": list(PACKAGES), "findings": list(raw)}, PACKAGES)
    return [each.code for each in read_findings(decision, PACKAGES)]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("malformed_verdict", {}),
        ("malformed_verdict", []),
        ("malformed_verdict", True),
        ("malformed_verdict", None),
        ("malformed_verdict", {"evaluated": list(PACKAGES)}),
        ("malformed_verdict", {"evaluated": list(PACKAGES), "findings": {}}),
        ("malformed_verdict", {"evaluated": list(PACKAGES), "findings": [], "allow": True}),
        ("malformed_verdict", {"evaluated": [1, 2], "findings": []}),
        ("nothing_evaluated", {"evaluated": [], "findings": []}),
        ("evaluated_differs", {"evaluated": ["canary"], "findings": []}),
        ("evaluated_differs", {"evaluated": ["backup_fresh", "canary", "extra"], "findings": []}),
        ("evaluated_differs", {"evaluated": ["backup_fresh", "canary", "canary"], "findings": []}),
    ],
)
def test_anything_but_a_complete_verdict_by_the_policies_on_disk_is_none(code: str, answer: Any) -> None:
    """Zero policies, other policies and answers of another shape are no verdicts."""
    with pytest.raises(StatehubError) as caught:
        read_decision(answer, PACKAGES)
    assert code == caught.value.code


def test_no_objection_by_all_policies_is_a_verdict_without_findings() -> None:
    """The only way to be allowed."""
    assert [] == codes()


@pytest.mark.parametrize(
    "raw",
    [
        "backup_fresh.stale",
        {},
        finding(code="Backup-Fresh"),
        finding(code="stale"),
        finding(message=""),
        finding(remedy=None),
        finding(step=3),
        finding(evidence=[]),
        finding(evidence={"age_s": float("nan")}),
        finding(evidence={"bytes": 2**60}),
        finding(extra=1),
        {key: value for key, value in finding().items() if key != "path"},
    ],
)
def test_an_objection_in_another_form_still_denies(raw: Any) -> None:
    """A policy whose finding is misspelt objects all the same."""
    assert ["host.malformed_finding"] == codes(raw)


def test_a_level_that_nobody_knows_denies() -> None:
    """`Hard`, `error` and `critical` are not taken for less than hard."""
    for level in ("Hard", "error", "critical", ""):
        assert ["host.unknown_level"] == codes(finding(level=level))


def test_a_code_of_no_policy_denies() -> None:
    """A finding that claims to come from elsewhere, or from the host, is not believed and not dropped."""
    assert ["host.foreign_code"] == codes(finding(code="host.undefined"))


def test_findings_are_told_the_gravest_first() -> None:
    """Then by code, step and place; the same decision is always told the same way."""
    raw: list[Any] = [
        finding(level="advisory", code="backup_fresh.a"),
        finding(level="soft", code="backup_fresh.b"),
        finding(step="02"),
        finding(step="01"),
    ]
    decision = read_decision({"evaluated": list(PACKAGES), "findings": raw}, PACKAGES)
    told = [(each.level, each.step) for each in read_findings(decision, PACKAGES)]
    assert [(Level.HARD, "01"), (Level.HARD, "02"), (Level.SOFT, None), (Level.ADVISORY, None)] == told


@pytest.mark.parametrize(
    "url",
    [
        "http://opa.example.com:8181",
        "http://10.0.0.1",
        "https://user:secret@opa.example.com",
        "https://opa.example.com/prefix",
        "https://opa.example.com?x=1",
        "http://127.0.0.1:99999999",
        "unix:///run/opa.sock",
        "opa.example.com",
        "",
    ],
)
def test_an_address_that_others_could_answer_for_is_refused(url: str) -> None:
    """Plain HTTP beyond this machine, secrets in the address, and what the client can't speak."""
    with pytest.raises(StatehubError) as caught:
        OpaConnection(url, token=None, timeout_s=1)
    assert "policy-url-invalid" == caught.value.code
    assert "secret" not in str(caught.value)
