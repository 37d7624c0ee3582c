"""Policies: the input document, OPA behind a strict adapter, the host that fails closed, the Rego test runner."""

from __future__ import annotations

from statehub_plan.policy.bundle import bundle_info
from statehub_plan.policy.document import BundleInfo, PolicyInput
from statehub_plan.policy.explain import PolicyExplanation, PolicySummary, explain, list_policies
from statehub_plan.policy.host import PolicyHost
from statehub_plan.policy.input import build_input
from statehub_plan.policy.testing import PolicyTestReport, run_tests

__all__ = [
    "BundleInfo",
    "PolicyExplanation",
    "PolicyHost",
    "PolicyInput",
    "PolicySummary",
    "PolicyTestReport",
    "build_input",
    "bundle_info",
    "explain",
    "list_policies",
    "run_tests",
]
