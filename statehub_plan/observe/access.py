"""What clients are really pointed at, and whether it answers."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import JsonValue

from statehub_plan.access import endpoint_of, read_access
from statehub_plan.errors import StatehubError
from statehub_plan.model.spec import AccessPath, BridgeAccess, CommandAccess, EnvFileAccess
from statehub_plan.observe import http
from statehub_plan.observe.gather import Answers, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.redact import redact


def access_source(path: AccessPath, base_dir: Path) -> Source:
    """access.NAME {value, endpoint, answers, detail}. `endpoint` is null for a value that the plan does not know,
    `answers` is null where the path has no `probeUrl`; unknown when the value can't be read."""
    fact_id = f"access.{path.name}"

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        value = read_access(path, base_dir, timeout_s=attempt.remaining_s(), stop=attempt.stop)
        endpoint = endpoint_of(path, value)
        details = [] if endpoint else ["the plan knows no endpoint by this value"]
        answered = None
        if path.probe_url is not None:
            answered, detail = _probe(path.probe_url, attempt)
            details.append(detail)
        found: dict[str, JsonValue] = {
            "value": redact(value),
            "endpoint": endpoint,
            "answers": answered,
            "detail": "; ".join(details) or None,
        }
        answers.know(fact_id, found, began)

    return Source(name=f"access path {path.name}", promises={fact_id: _how(path)}, look=look)


def _probe(url: str, attempt: Attempt) -> tuple[bool, str]:
    try:
        answer = http.get(url, timeout_s=attempt.remaining_s(), attempt=attempt)
    except StatehubError as error:
        return False, error.what
    return answer.successful, f"GET {redact(url)}: HTTP {answer.status} in {answer.latency_ms} ms"


def _how(path: AccessPath) -> str:
    if isinstance(path, CommandAccess):
        place = " ".join(path.get)
    elif isinstance(path, BridgeAccess):
        place = f"{path.file}: {path.field} of tunnel {path.tunnel}"
    elif isinstance(path, EnvFileAccess):
        place = f"{path.file}: {path.variable}"
    else:
        place = f"{path.file}: {path.pointer}"
    return place + (f"; GET {path.probe_url}" if path.probe_url else "")
