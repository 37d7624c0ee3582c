"""Connection strings taken apart: of a password that was written wrongly nothing is used, or told, as anything else."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from statehub_plan.errors import StatehubError
from statehub_plan.redact import register_secret

__all__ = ["parameters_of"]

_SCHEME = re.compile(r"\Apostgres(?:ql)?://")
_USER = re.compile(r"[^@/]*@")


def parameters_of(text: str, source: str) -> dict[str, Any]:
    """What libpq takes a connection string for, by parameter; everything that may be a password is registered with the
    redactor first.

    StatehubError `dsn-invalid`, which says nothing of it but its `source`, when it is none, or when it is a URL with an
    unescaped `/` or `@` in user or password: libpq ends both at the first `@`, and sees neither where a `/` comes first
    (fe-connect.c, conninfo_uri_parse_options); the rest of the password becomes a host, a port or a database.
    """
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else ""
    _register_credentials(rest)
    try:
        parameters: dict[str, Any] = conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        # libpq quotes the string in its message, and with it the password.
        raise _invalid(f"{source} does not hold a PostgreSQL connection string") from None
    if scheme and _has_slipped(rest, str(parameters.get("port") or "")):
        raise _invalid(
            f"{source} holds a connection string that libpq takes a part of the password of for a host, a port or a "
            "database: there is a / or an @ in it that is not percent-encoded"
        )
    for key in ("password", "sslpassword"):
        if parameters.get(key):
            register_secret(str(parameters[key]))
    return parameters


def _invalid(what: str) -> StatehubError:
    return StatehubError(
        code="dsn-invalid",
        what=what,
        hint="write postgresql://user:password@host:port/database (special characters percent-encoded: / as %2F, "
        "@ as %40) or host=… port=… dbname=… user=… password=…",
    )


def _register_credentials(rest: str) -> None:
    """All that a URL's password could be: from the first colon to the last @, or to the end where there is none."""
    _, colon, behind = rest.partition(":")
    secret, at, _ = behind.rpartition("@")
    if not at:
        secret = re.split(r"[/?]", behind, maxsplit=1)[0]
    if colon and not re.fullmatch(r"[0-9,]*", secret):
        register_secret(secret)


def _has_slipped(rest: str, port: str) -> bool:
    user = _USER.match(rest)
    place = rest[user.end() if user else 0 :].partition("?")[0]
    return "@" in place or not re.fullmatch(r"[0-9,]*", port)
