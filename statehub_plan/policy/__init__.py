"""Policies: the input document, OPA behind a strict adapter, the host that fails closed, the Rego test runner."""

from __future__ import annotations

from statehub_plan.policy.bundle import bundle_info
from statehub_plan.policy.document import BundleInfo, PolicyInput
from statehub_plan.policy.host import PolicyHost
from statehub_plan.policy.input import build_input

__all__ = ["BundleInfo", "PolicyHost", "PolicyInput", "build_input", "bundle_info"]
