"""Values in words: moments, spans, shortened JSON, step marks; user text made harmless for a terminal. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from pydantic import JsonValue

from statehub_plan.model.plan import Identity, Step
from statehub_plan.model.spec import Gate
from statehub_plan.model.steps import StepClass, StepKind

_SPAN_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def plain(text: str) -> str:
    """The text on one line, every control, format (bidirectional) and unusual separator character as an escape."""
    return _escaped(re.sub(r"[ \t\r\n]+", " ", text).strip())


def harmless(text: str) -> str:
    """A whole text for a terminal, its lines and tabs as they are, with every other such character as an escape."""
    return re.sub(r"[^\n\t]+", lambda piece: _escaped(piece[0]), text)


def _escaped(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(sign if sign.isprintable() else f"\\u{{{ord(sign):x}}}" for sign in text)
    )


def shown(value: JsonValue, limit: int = 160) -> str:
    """A JSON value in at most `limit` characters; an ellipsis says that something was left out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = plain(text) or '""'
    return text if len(text) <= limit else text[: limit - 1] + "…"


def brief(value: JsonValue, limit: int = 160) -> str:
    """A JSON value for people: `name: value` pairs without quotes and braces, in at most `limit` characters."""
    text = plain(_bare(value)) or '""'
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _bare(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_nested(inner)}" for key, inner in sorted(value.items())) or "none"
    if isinstance(value, list):
        return "; ".join(_bare(inner) for inner in value) or "none"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


def _nested(value: JsonValue) -> str:
    return f"({_bare(value)})" if isinstance(value, dict | list) and value else _bare(value)


def moment(at: datetime) -> str:
    """`2026-06-27 14:03:05 UTC`."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def exact_moment(at: datetime) -> str:
    """The same to the millisecond."""
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03} UTC"


def moment_of(epoch: JsonValue) -> str:
    """The same for whole seconds since 1970, `unknown` for anything else."""
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        return "unknown"
    return moment(datetime.fromtimestamp(epoch, UTC))


def span(seconds: float) -> str:
    """`450 ms`, `2.31 s`, `4 min 5 s`, `1 d 2 h`: two units at most."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    left, parts = round(seconds), []
    for size, unit in _SPAN_UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def mark(step: Step) -> str:
    """What a step can cost, in at most nine characters."""
    if step.kind in (StepKind.DECIDE, StepKind.RETIRE):
        return "NO RETURN"
    marks = {
        StepClass.READ: "read",
        StepClass.ONLINE: "online",
        StepClass.HOLD: "HOLD",
        StepClass.DECISION: "FREEZE",
        StepClass.AFTER: "after",
    }
    return marks[step.step_class]


def named(text: str, old: str, new: str) -> str:
    """A sentence about `the old side` and `the new side` with the endpoints' own names."""
    told = text.replace("the old side", old).replace("the new side", new)
    return re.sub(r"(?<=: )(old|new)$", lambda found: old if found[1] == "old" else new, told)


def identity_text(identity: Identity | None) -> str:
    """Which database answers, or that nobody knows."""
    if identity is None or not identity.known:
        return "identity unknown"
    return f"system {identity.system_identifier}, database {identity.database} (OID {identity.database_oid})"


def approvals_needed(gate: Gate) -> str:
    """`2 approvals of alice@ops, bob@ops`."""
    return f"{counted(gate.quorum, 'approval')} of {', '.join(sorted(gate.approvers))}"
