"""Any model → text, Markdown, Mermaid or HTML. Pure: no clock, no file, no network. Modules load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statehub_plan.render.comparison import comparison_view
    from statehub_plan.render.flowchart import plan_mermaid
    from statehub_plan.render.gates import gates_text
    from statehub_plan.render.history import history_text
    from statehub_plan.render.observation import observation_view
    from statehub_plan.render.operating_model import operating_model_markdown
    from statehub_plan.render.plan_text import plan_view
    from statehub_plan.render.preflight import checks_view, preflight_view
    from statehub_plan.render.pull_request import plan_markdown
    from statehub_plan.render.run_report import run_report_html
    from statehub_plan.render.status_document import status_markdown
    from statehub_plan.render.status_text import status_view
    from statehub_plan.render.stream_words import told_orphans, told_streams
    from statehub_plan.render.verdict import verdict_view

__all__ = [
    "checks_view",
    "comparison_view",
    "gates_text",
    "history_text",
    "observation_view",
    "operating_model_markdown",
    "plan_markdown",
    "plan_mermaid",
    "plan_view",
    "preflight_view",
    "run_report_html",
    "status_markdown",
    "status_view",
    "told_orphans",
    "told_streams",
    "verdict_view",
]

_MODULES = {
    "checks_view": "preflight",
    "comparison_view": "comparison",
    "gates_text": "gates",
    "history_text": "history",
    "observation_view": "observation",
    "operating_model_markdown": "operating_model",
    "plan_markdown": "pull_request",
    "plan_mermaid": "flowchart",
    "plan_view": "plan_text",
    "preflight_view": "preflight",
    "run_report_html": "run_report",
    "status_markdown": "status_document",
    "status_view": "status_text",
    "told_orphans": "stream_words",
    "told_streams": "stream_words",
    "verdict_view": "verdict",
}


def __getattr__(name: str) -> Any:
    """One renderer; only what it needs is imported, so that `--json` never pays for rich."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
