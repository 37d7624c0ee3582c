"""Health of an endpoint's API, as it says itself."""

from __future__ import annotations

import json
import time

from pydantic import JsonValue

from statehub_plan.jsonpointer import PointerError, resolve, same_json
from statehub_plan.model.spec import Api, duration_s
from statehub_plan.observe import http
from statehub_plan.observe.gather import Answers, Source
from statehub_plan.observe.parallel import Attempt
from statehub_plan.redact import redact


def api_source(endpoint: str, api: Api) -> Source:
    """ENDPOINT.api.health {healthy, status, latency_ms, detail}; unknown when no complete HTTP answer came."""
    fact_id = f"{endpoint}.api.health"
    url = health_url(api)

    def look(answers: Answers, attempt: Attempt) -> None:
        began = time.monotonic()
        answer = http.get(url, timeout_s=min(duration_s(api.timeout), attempt.remaining_s()), attempt=attempt)
        problem = objection(answer, api.health_pointer, api.healthy)
        answers.know(
            fact_id,
            {
                "healthy": problem is None,
                "status": answer.status,
                "latency_ms": answer.latency_ms,
                "detail": problem or f"HTTP {answer.status}",
            },
            began,
        )

    return Source(name=f"API of {endpoint}", promises={fact_id: f"GET {url}"}, look=look)


def health_url(api: Api) -> str:
    """Where health is asked for."""
    return api.base_url.rstrip("/") + api.health_path


def objection(answer: http.Answer, pointer: str | None, expected: JsonValue) -> str | None:
    """What is wrong with a health answer, redacted; None when it is 2xx and says `expected` at `pointer` (if any)."""
    if answer.location is not None and 300 <= answer.status <= 399:
        return redact(f"HTTP {answer.status} to {answer.location}, which is not followed")
    if not answer.successful:
        return f"HTTP {answer.status}"
    return None if pointer is None else mismatch(answer, pointer, expected)


def mismatch(answer: http.Answer, pointer: str, expected: JsonValue) -> str | None:
    """Why the JSON body does not say `expected` at `pointer`, redacted; None when it does."""
    try:
        found = resolve(answer.json(), pointer)
    except (PointerError, ValueError) as error:
        return redact(f"HTTP {answer.status}, but {error}")
    if same_json(found, expected):
        return None
    return redact(f"HTTP {answer.status}, but {pointer} is {shown(found)} instead of {shown(expected)}")


def shown(value: JsonValue) -> str:
    """A JSON value for a sentence, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
