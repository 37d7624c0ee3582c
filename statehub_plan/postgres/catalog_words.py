"""How a definition is told: as it stands, but for what looks like a secret in it. Pure.

Definitions are for everybody who sees a report, and people do keep secrets in them: in settings that applications read,
in options of foreign servers, in defaults, in the text of functions.
"""

from __future__ import annotations

import json
import re
from typing import Any

from statehub_plan.redact import MASK, redact

__all__ = ["in_words"]

_SECRETIVE = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|authorization|cookie"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key"
)
# Words that are too common elsewhere; an application's own setting or a column that is called so is better not told.
_WORDS = r"(?:^|[._-])(?:key|jwt|hmac|salt|pepper|seed|auth|dsn|signature|pin|otp)s?(?:$|[._-])"
_NAME = re.compile(rf"{_SECRETIVE}|{_WORDS}", re.IGNORECASE)
_LITERAL = re.compile(r"'(?:[^']|'')+'")
# In code only what is called so itself: a `token_kind` is none.
_ENDS_SECRETIVE = re.compile(rf"(?:{_SECRETIVE})(?:_?(?:old|new|v?\d+))?(?!\w)", re.IGNORECASE)
_IN_CODE = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\$\w*\$")
_NEAR = 60
_MOST_QUOTED = 400
_WITH_OPTIONS = frozenset({"options", "foreign options", "foreign"})
_CODE = frozenset({"routine", "trigger", "rule", "policy", "relation"})


def in_words(kind: str, name: str, aspect: str, value: Any) -> str:
    """One aspect of an object, for people; `***` in place of what looks like a secret by the object's, an option's or
    its neighbour's name, or by itself."""
    if kind == "setting" and _is_secretive_setting(name):
        return MASK
    told = _without_secret_options(value) if aspect in _WITH_OPTIONS else value
    text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False, sort_keys=True)
    if kind == "column" and aspect == "default" and _NAME.search(name.rpartition(".")[2]):
        return _LITERAL.sub(f"'{MASK}'", text)
    return redact(_without_secret_literals(text) if kind in _CODE else text)


def _is_secretive_setting(name: str) -> bool:
    """The server's own settings hold no secrets; those of applications have a dot in their name."""
    setting = name.rpartition(": ")[2]
    return "." in setting and _NAME.search(setting) is not None


def _without_secret_options(value: Any) -> Any:
    """Options as `name=value`, in whatever lists they stand."""
    if isinstance(value, list):
        return [_without_secret_options(each) for each in value]
    if not isinstance(value, str):
        return value
    option, separator, _ = value.partition("=")
    return f"{option}={MASK}" if separator and _NAME.search(option) else value


def _without_secret_literals(code: str) -> str:
    """`api_key constant text := 'x'`, `set_config('app.jwt_secret', 'x', false)`: without what stands shortly behind a
    telling name in the same line and statement."""
    pieces: list[str] = []
    done = at = 0
    while found := _IN_CODE.search(code, at):
        at = end = found.end()
        if found[0].startswith("$"):
            # Mostly the quotes of a whole body, whose own literals are looked at.
            closing = code.find(found[0], end, end + _MOST_QUOTED)
            end = closing + len(found[0]) if closing >= 0 and "\n" not in code[end:closing] else -1
        if end > 0 and not found[0].startswith("--") and _follows_secretive(code, found.start()):
            pieces += code[done : found.start()], f"'{MASK}'"
            done = at = end
    return "".join((*pieces, code[done:]))


def _follows_secretive(code: str, at: int) -> bool:
    near = re.split(r"[;\n]", code[max(0, at - _NEAR) : at])[-1]
    return _ENDS_SECRETIVE.search(near) is not None
