"""The host that judges: asks OPA one question, and denies whenever the answer is not a complete and proper verdict."""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import JsonValue, ValidationError
from rfc8785 import CanonicalizationError

from statehub_plan.components import find_opa
from statehub_plan.errors import StatehubError
from statehub_plan.model.base import canonical, epoch_s
from statehub_plan.model.plan import Level, Phase, Verdict
from statehub_plan.policy.bundle import Bundle, read_bundle
from statehub_plan.policy.document import BundleInfo, PolicyInput
from statehub_plan.policy.opa import OpaConnection, load_client
from statehub_plan.policy.server import OpaServer
from statehub_plan.policy.verdict import Decision, host_finding, read_decision, read_findings

URL_VARIABLE = "STATEHUB_PLAN_OPA_URL"
TOKEN_VARIABLE = "STATEHUB_PLAN_OPA_TOKEN"

CANARY_SCHEMA = "statehub-plan/canary/v1"
CANARY_CODE = "canary.sings"
_START_TIMEOUT_S = 20.0


class PolicyHost:
    """Judges documents against one bundle, as a context manager: OPA runs from entry to exit.

    OPA is the one named by `url` (else STATEHUB_PLAN_OPA_URL), with `token` (else STATEHUB_PLAN_OPA_TOKEN), serving
    this very bundle with its digest as revision; or, where none is named, a child process that loads the bundle from
    `bundle_dir`. Enter it in a thread that lives as long as the host is used. Not thread-safe.
    """

    def __init__(
        self,
        bundle_dir: Path,
        *,
        timeout_s: float,
        url: str | None = None,
        token: str | None = None,
        work_dir: Path | None = None,
    ) -> None:
        """Nothing is read or started before entry. `timeout_s` bounds one question."""
        self._bundle_dir = bundle_dir
        self._timeout_s = timeout_s
        self._url = url or os.environ.get(URL_VARIABLE) or None
        self._token = token or os.environ.get(TOKEN_VARIABLE) or None
        self._work_dir = work_dir
        self._server: OpaServer | None = None
        self._connection: OpaConnection | None = None
        self._bundle: Bundle | None = None

    def __enter__(self) -> Self:
        """Ready to judge: OPA listens and has loaded the bundle. About 0.3 s, mostly imports.

        StatehubError (exit status 1): bundle missing or unfit, OPA absent, bundle does not compile, URL unusable.
        """
        self._bundle = read_bundle(self._bundle_dir)
        url, token = self._url, self._token
        try:
            if url is None:
                self._server = OpaServer(find_opa(), self._bundle, work_dir=self._work_dir)
                load_client()  # while OPA loads the bundle
                self._server.wait(_START_TIMEOUT_S)
                url, token = f"http://127.0.0.1:{self._server.port}", self._server.token
            self._connection = OpaConnection(url, token=token, timeout_s=self._timeout_s)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """OPA has ended, where it was ours."""
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._connection is not None:
            self._connection.close()
        if self._server is not None:
            self._server.stop()

    @property
    def bundle(self) -> BundleInfo:
        """What judges; part of every input document."""
        return self._entered().info

    def judge(self, document: dict[str, JsonValue], *, phase: Phase, now: datetime) -> Verdict:
        """What the policies say about `document` (from `build_input`). Blocks for at most twice the time-out.

        Never raises for anything that OPA does or fails to do: that is a hard finding whose code begins with `host.`.
        Asking changes nothing and may be repeated.
        """
        bundle = self._entered().info
        evaluated: tuple[str, ...] = ()
        input_digest = "not-canonical"
        try:
            text = _canonical(document)
            input_digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
            self._require_fit(text, phase, now)
            self._hear_canary()
            decision = self._ask(document)
            evaluated, findings = tuple(sorted(decision.evaluated)), read_findings(decision, bundle.packages)
        except StatehubError as error:
            findings = (host_finding(error),)
        return Verdict(
            allowed=all(finding.level is Level.ADVISORY for finding in findings),
            phase=phase,
            evaluated=evaluated,
            findings=findings,
            input_digest=input_digest,
            bundle_digest=bundle.digest,
            judged_at=now,
        )

    def _require_fit(self, text: bytes, phase: Phase, now: datetime) -> None:
        """A document that is incomplete, or about another moment, phase or bundle, is not worth a question."""
        try:
            seen = PolicyInput.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise _unfit(f"{where}: {first['msg']} ({error.error_count()} problems in all)") from error
        if (seen.phase, seen.now, seen.bundle) != (phase, epoch_s(now), self._entered().info):
            raise _unfit("its phase, instant or bundle is not the one that is asked about")

    def _hear_canary(self) -> None:
        """A policy that must always deny does: whoever answers really evaluates, now, and with these rules."""
        nonce = secrets.token_hex(16)
        decision = self._ask({"schema": CANARY_SCHEMA, "nonce": nonce})
        if not any(_sings(finding, nonce) for finding in decision.findings):
            raise StatehubError(
                code="canary_silent",
                what="the canary policy, which must always deny, did not",
                hint="OPA answers without judging: see what else answers at that address, and `policy test` the bundle",
            )

    def _ask(self, document: dict[str, JsonValue]) -> Decision:
        assert self._connection is not None
        answer = self._connection.ask(document)
        expected = self._entered().info
        if expected.digest not in answer.revisions:
            served = ", ".join(answer.revisions) or "of no revision"
            raise StatehubError(
                code="bundle_differs",
                what=f"OPA judges with bundle {served}; the one on disk is {expected.digest}",
                hint=f"serve what `opa build -b {self._bundle_dir} --ignore '*_test.rego' -r {expected.digest}` makes",
            )
        return read_decision(answer.result, expected.packages)

    def _entered(self) -> Bundle:
        if self._bundle is None:
            raise RuntimeError("PolicyHost is a context manager; it was not entered")
        return self._bundle


def _canonical(document: dict[str, JsonValue]) -> bytes:
    try:
        return canonical(document)
    except CanonicalizationError as error:
        raise _unfit(f"it is not canonical JSON: {error}") from error


def _sings(finding: JsonValue, nonce: str) -> bool:
    if not isinstance(finding, dict):
        return False
    return (finding.get("code"), finding.get("level"), finding.get("evidence")) == (
        CANARY_CODE,
        Level.HARD,
        {"nonce": nonce},
    )


def _unfit(why: str) -> StatehubError:
    return StatehubError(
        code="input_invalid",
        what=f"what was to be judged is not a complete input document: {why}",
        hint="this is a defect of the tool: report it with the plan file; nothing is carried out",
    )
