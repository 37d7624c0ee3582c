"""One question to one OPA through opa-python-client, with everything that the client lets pass turned into an error.

The client (3.0.0) answers `{}` for an undefined decision, calls a 500 "policy not found", an HTML 502 a JSON error,
follows redirects, obeys proxies and .netrc, has no limit on size and a time-out per read only. Its uploads, which
rewrite rejected policies, are not used: a bundle is loaded from disk by OPA itself.
"""

from __future__ import annotations

import importlib
import io
import threading
from concurrent.futures import CancelledError, Future
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import JsonValue

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import Frozen

if TYPE_CHECKING:
    from requests import Response

ANSWER_CAP = 4 << 20
"""Bytes of an answer; a verdict of a thousand findings has half a megabyte."""

_PACKAGE, _RULE = "statehub.main", "verdict"
# A built-in that fails (`to_number("x")`) makes its rule silently undefined unless OPA is told otherwise.
_QUERY = {"provenance": "true", "strict-builtin-errors": "true"}
_CHUNK = 1 << 16
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Answer(Frozen):
    """What OPA said: the decision, and the revisions of the bundles that it was made from."""

    result: JsonValue
    revisions: tuple[str, ...]


class OpaConnection:
    """Asks `data.statehub.main.verdict`. Each question is a connection of its own: it costs 0.2 ms on loopback, and a
    run may be silent for hours between two steps. Not thread-safe."""

    def __init__(self, url: str, *, token: str | None, timeout_s: float) -> None:
        """`url` is `http://127.0.0.1:PORT`, or `https://HOST[:PORT]`; StatehubError `policy-url-invalid` otherwise."""
        self._timeout_s = timeout_s
        self._client = _strict_client(url, token, timeout_s)

    def ask(self, document: dict[str, JsonValue]) -> Answer:
        """The decision about `document`. Blocks for at most the time-out, however slowly the other side drips.

        StatehubError, code without prefix (`timed_out`, `unreachable`, `http_status`, `content_type`, `too_large`,
        `not_json`, `undefined`), whenever there is no usable answer.
        """
        body = _within(self._timeout_s, lambda: self._post(document))
        if not isinstance(body, dict):
            raise _no_answer("not_json", "the answer is not a JSON object")
        if "result" not in body:
            raise _no_answer("undefined", f"data.{_PACKAGE}.{_RULE} is undefined there")
        return Answer(result=body["result"], revisions=_revisions(body.get("provenance")))

    def close(self) -> None:
        """Idempotent."""
        self._client.close_connection()

    def _post(self, document: dict[str, JsonValue]) -> Any:
        import requests
        import urllib3

        try:
            return self._client.query_rule(document, _PACKAGE, _RULE, query_params=_QUERY)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _no_answer("timed_out", f"no answer within {self._timeout_s:g} s") from error
        except (requests.JSONDecodeError, RecursionError) as error:
            raise _no_answer("not_json", f"the answer is not JSON: {error}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _no_answer("unreachable", f"the question could not be asked: {error}") from error


def load_client() -> None:
    """Import the client beforehand. aiohttp and requests take it a quarter of a second, which `--help` and refusals
    need not wait for."""
    importlib.import_module("opa_client.opa")


def _strict_client(url: str, token: str | None, timeout_s: float) -> Any:
    host, port, is_tls = _address(url)
    import requests
    from opa_client.opa import OpaClient

    class StrictClient(OpaClient):  # type: ignore[misc]  # published without types
        def _init_session(self) -> requests.Session:
            session: requests.Session = super()._init_session()
            session.trust_env = False  # a proxy or a .netrc entry would see, or replace, the token
            session.headers.update({"Connection": "close", "Accept-Encoding": "identity"})
            session.hooks["response"].append(_require_plain_json)
            return session

    return StrictClient(host=host, port=port, ssl=is_tls, token=token, retries=0, timeout=timeout_s)


def _address(url: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad_url(url, str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad_url(url, "it is not http://HOST:PORT or https://HOST")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password:
        raise _bad_url(url.split("@")[-1], "only scheme, host and port are allowed; a token comes separately")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise _bad_url(url, "over plain HTTP anybody on the way could allow anything")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_tls = parts.scheme == "https"
    return host, port or (443 if is_tls else 8181), is_tls


def _require_plain_json(response: Response, **_options: object) -> Response:
    """Response hook: status 200, JSON by its own account, complete, and no longer than the cap. It runs before requests
    would follow a redirect, and before the client would look at the body."""
    with closing(response.raw):
        if response.status_code != 200:
            raise _no_answer("http_status", f"the answer has HTTP status {response.status_code}: {_excerpt(response)}")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _no_answer("content_type", f"the answer is {kind or 'of no declared type'}, not application/json")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _no_answer("content_type", "the answer is compressed, which was not asked for")
        body = _body(response)
    response.raw = io.BytesIO(body)
    return response


def _body(response: Response) -> bytes:
    body = bytearray()
    while chunk := response.raw.read(_CHUNK):  # the last, empty, read is the one that notices a body cut short
        body += chunk
        if len(body) > ANSWER_CAP:
            raise _no_answer("too_large", f"the answer is longer than {ANSWER_CAP} bytes")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _no_answer("not_json", f"the answer is no UTF-8: {error}") from error
    return bytes(body)


def _excerpt(response: Response) -> str:
    return " ".join(response.raw.read(400).decode(errors="replace").split())[:200]


def _within(timeout_s: float, call: Any) -> Any:
    """The result of `call`, or `timed_out`. The client's own time-out starts anew with every byte that arrives, so a
    thread does the waiting; it is a daemon, as nothing can end it."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except StatehubError as error:
            future.set_exception(error)
        finally:
            future.cancel()  # without effect unless something unforeseen was raised: that is no answer either

    threading.Thread(target=work, name="opa-question", daemon=True).start()
    try:
        return future.result(timeout_s)
    except TimeoutError as error:
        raise _no_answer("timed_out", f"no complete answer within {timeout_s:g} s") from error
    except CancelledError as error:
        raise _no_answer("unreachable", "the client failed in a way that it never should") from error


def _revisions(provenance: JsonValue) -> tuple[str, ...]:
    bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
    found = bundles.values() if isinstance(bundles, dict) else ()
    revisions = [each.get("revision") for each in found if isinstance(each, dict)]
    return tuple(sorted(revision for revision in revisions if isinstance(revision, str)))


def _no_answer(code: str, what: str) -> StatehubError:
    return StatehubError(
        code=code,
        what=what,
        hint="no answer is a refusal: start OPA again, or correct STATEHUB_PLAN_OPA_URL and its token",
        exit_status=Exit.VETOED,
    )


def _bad_url(url: str, why: str) -> StatehubError:
    return StatehubError(
        code="policy-url-invalid",
        what=f"STATEHUB_PLAN_OPA_URL {url!r} cannot be used: {why}",
        hint="name https://HOST[:PORT], or http://127.0.0.1:PORT, and put the token into STATEHUB_PLAN_OPA_TOKEN",
    )
