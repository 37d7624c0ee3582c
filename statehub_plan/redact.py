"""The one redactor: text and JSON values go in, the same without secrets comes out. Pure but for the register.

Two nets. Secrets that the tool itself resolved are registered and hidden wherever they appear, in every spelling that a
library may give them. Everything else is caught by shape: credentials in URIs, `password=` in conninfo and environment,
JSON members, headers, SQL, keys. Where a shape is ambiguous too much is hidden rather than too little.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

MASK = "***"

# Alternatives that all begin with a letter of their own: Python then skips from one candidate to the next, five times
# faster than with groups or flags among them.
_NAMES = (
    r"password|passwd|passphrase|pwd|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key|secret|token|credentials"
)
_HEADERS = r"authorization|proxy-authorization|cookie|set-cookie|x-api-key|x-auth-token|x-vault-token"
_ITSELF = r"eyj|gh[pousr]_|age-secret-key-1|-----begin "
_NAME, _HEADER = f"(?:{_NAMES})", f"(?:{_HEADERS})"
_SENSITIVE_KEY = re.compile(rf"(?:{_NAME}|{_HEADER}|auth)$", re.IGNORECASE)

# One pass over the lowered text finds where a shape may begin; only there the shapes of that group are tried, so that a
# megabyte costs what it holds.
_BEGINNING = re.compile(rf"{_HEADERS}|{_NAMES}|bearer|basic|://|{_ITSELF}")
_GROUPS = tuple(
    (group, re.compile(beginnings))
    for group, beginnings in (
        ("uri", "://"),
        ("header", _HEADER),
        ("name", _NAME),
        ("scheme", "bearer|basic"),
        ("itself", _ITSELF),
    )
)
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _compile(*shapes: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(shape, re.IGNORECASE) for shape in shapes)


def _members(key: str) -> tuple[re.Pattern[str], ...]:
    """A member of a JSON or Python literal, also where a JSON text is itself a JSON string."""
    return _compile(
        rf"{key}\"\s{{0,8}}:\s{{0,8}}\"(?P<secret>(?:[^\"\\]|\\.)*)",
        rf"{key}'\s{{0,8}}:\s{{0,8}}[bru]?(?P<secret>'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?)",
        rf"{key}[\"']\s{{0,8}}:\s{{0,8}}(?P<secret>-?[0-9][0-9.eE+-]*)",
        rf"{key}\\\"\s{{0,8}}:\s{{0,8}}\\\"(?P<secret>(?:\\\\(?:\\.)?|\\[^\"\\]|[^\"\\])*)",
    )


# Each names the part to hide `secret`. Values may be cut off at the end of the text: a truncated log line still holds
# its secret.
_SHAPES = {
    "name": _members(_NAME)
    + _compile(
        # conninfo, environment, query string, keyword arguments: password='it''s' PGPASSWORD=x ?sslpassword=x
        rf"{_NAME}[\"'\\]{{0,4}}[ \t]{{0,8}}=[ \t]{{0,8}}"
        r"(?P<secret>'(?:[^'\\]|\\.|'')*'?|\"(?:[^\"\\]|\\.)*\"?|(?:\\.|[^\s\"\\])+)",
        # SQL: ALTER ROLE app PASSWORD 'x'
        r"password\s{1,8}E?(?P<secret>'(?:[^'\\]|\\.|'')*'?|\$(?P<quote>\w{0,16})\$(?:(?!\$(?P=quote)\$).)*)",
    ),
    "header": _members(_HEADER)
    + _compile(rf"(?<!\w){_HEADER}[ \t]{{0,8}}[:=][ \t]{{0,8}}(?P<secret>[^\s\"'][^\r\n\"']*)"),
    "scheme": _compile(
        r"\bbearer[ \t]{1,8}(?=[^\s\"',;]*[0-9._~+/=-])(?P<secret>[^\s\"',;]+)",
        r"\bbasic[ \t]{1,8}(?=[A-Z0-9+/]*[0-9+/=])(?P<secret>[A-Z0-9+/]{6,}={0,2})",
    ),
    "itself": _compile(
        r"\b(?P<secret>eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)",
        r"\b(?P<secret>gh[pousr]_\w{16,})",
        r"\b(?P<secret>AGE-SECRET-KEY-1\w+)",
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>(?:(?!-----END)[\s\S])*)",
    ),
}
_LINE = re.compile(rf"{_NAME}:[ \t]{{1,8}}(?P<secret>[^\s#].*)", re.IGNORECASE)
_BEFORE_ON_LINE = re.compile(r"[ \t-]*[\w.-]*\Z")
_AFTER_SCHEME = re.compile(r"://(?P<rest>(?:\\.|[^\s\"\\])+)")
_CREDENTIALS_LENGTH = 4096  # cloud tokens used as passwords reach 2,000 characters
_PORT = re.compile(r"[0-9]{1,5}(?=[/?#,;:')}\]>.]|\Z)")
_PLACEHOLDER = re.compile(r"(?:\*+|<[^<>]*>|\$\{[^{}]*\}|%[sr]|\{\w*\})\Z")
_ANYWHERE_LENGTH = 6

_lock = threading.Lock()
_registered: frozenset[str] = frozenset()


def register_secret(value: str) -> None:
    """From now on `value` is hidden in all that this process puts out. Idempotent; the register only grows.

    Under three characters nothing is registered and under six only whole words are hidden: hiding every `a` would hide
    the message and not the secret.
    """
    global _registered
    if len(value) > 2 and not _PLACEHOLDER.match(value):
        with _lock:
            _registered |= {value}


def redact(text: str) -> str:
    """`text` with every registered secret and everything shaped like one replaced by `***`. Idempotent."""
    # Keyed by the register as it is now: with a cache that is cleared, a thread that observes at the same time could
    # bring back a pattern that lacks the newest secret.
    hidden = _pattern(_registered).sub(MASK, text) if _registered else text
    return _splice(hidden, find_secrets(hidden))


def is_secret_name(name: str) -> bool:
    """Whether what is called so is treated as a secret: a member of a JSON object, a column."""
    return _SENSITIVE_KEY.search(name) is not None


def redact_json(value: JsonValue) -> JsonValue:
    """`value` with every string (keys too) redacted, and with the scalars of members named like secrets hidden."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redact_json(item) for item in value]
    if isinstance(value, dict):
        return {redact(key): _redact_member(key, member) for key, member in value.items()}
    return value


def find_secrets(text: str) -> tuple[tuple[int, int], ...]:
    """Where `text` holds something shaped like a secret: disjoint (start, end) ranges in order.

    Placeholders such as `***`, `<password>` and `${NAME}` are not secrets.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_found(text)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _redact_member(key: str, member: JsonValue) -> JsonValue:
    if isinstance(member, str | int | float) and not isinstance(member, bool) and is_secret_name(key):
        return MASK
    return redact_json(member)


def _found(text: str) -> Iterator[tuple[int, int]]:
    hidden_to = 0
    for beginning in _BEGINNING.finditer(_lowered(text)):
        at = beginning.start()
        if at < hidden_to:
            continue  # inside a secret already; looking again would make nested shapes cost the square of their length
        group = next(name for name, pattern in _GROUPS if pattern.match(beginning[0]))
        for start, end in _at(text, at, group):
            hidden_to = max(hidden_to, end)
            if start < end and not _PLACEHOLDER.match(text[start:end]):
                yield start, end


def _lowered(text: str) -> str:
    """`text` in lower case, character by character: str.lower alone may make two of one."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_LOWER)


def _at(text: str, at: int, group: str) -> Iterator[tuple[int, int]]:
    if group == "uri":
        far = text.find("@", at, at + _CREDENTIALS_LENGTH) >= 0
        match = _AFTER_SCHEME.match(text, at, at + (_CREDENTIALS_LENGTH if far else 256))
        return _credentials(match) if match else iter(())
    matches = (shape.match(text, at) for shape in (*_SHAPES[group], *_line_shapes(text, at)))
    return (_inside_quotes(text, *match.span("secret")) for match in matches if match)


def _line_shapes(text: str, at: int) -> tuple[re.Pattern[str], ...]:
    """A line of YAML begins with the name: `password: x` is one, `wrong password: try again` is a sentence."""
    line_begin = text.rfind("\n", max(0, at - 128), at) + 1 or max(0, at - 128)
    return (_LINE,) if _BEFORE_ON_LINE.match(text, line_begin, at) else ()


def _inside_quotes(text: str, start: int, end: int) -> tuple[int, int]:
    if start < end and text[start] in "'\"":
        return start + 1, end - 1 if end - start > 1 and text[end - 1] == text[start] else end
    return start, end


def _credentials(match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The password of `://user:password@host`, up to the last @: unencoded ones may hold any of `/?#@`."""
    rest, start = match["rest"], match.start("rest")
    at = rest.rfind("@")
    colon = rest.find(":", 0, at if at >= 0 else len(rest))
    if at < 0 and (colon < 0 or "/" in rest[:colon] or _PORT.match(rest, colon + 1)):
        return
    if colon < 0:
        # A lone user name before the @ is a token in a web address and nothing secret in a database's.
        web = match.string[max(0, match.start() - 5) : match.start()].lower().endswith(("http", "https"))
        colon = -1 if web and not re.search(r"[/?#]", rest[:at]) else at
    elif "@" not in re.split(r"[/?#]", rest, maxsplit=1)[0] and _PORT.match(rest, colon + 1):
        return
    end = at if at >= 0 else len(rest)
    if colon + 1 < end and not _PLACEHOLDER.match(rest[colon + 1 : end]):
        yield start + colon + 1, start + end


def _splice(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += (text[done:start], MASK)
        done = end
    pieces.append(text[done:])
    return "".join(pieces)


@lru_cache(maxsize=1)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return re.compile(
        "|".join(
            re.escape(spelling) if len(spelling) >= _ANYWHERE_LENGTH else rf"(?<!\w){re.escape(spelling)}(?!\w)"
            for spelling in longest_first
        )
    )


def _spellings(secret: str) -> Iterator[str]:
    """The secret as URIs, JSON, conninfo, SQL, HTML and `repr` write it."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield json.dumps(json.dumps(secret))[3:-3]
    yield secret.replace("\\", "\\\\").replace("'", "\\'")
    yield secret.replace("'", "''")
    yield html.escape(secret)
    yield html.escape(secret, quote=False)
    yield repr(secret)[1:-1]
