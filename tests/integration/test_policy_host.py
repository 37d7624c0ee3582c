"""The host with a real OPA: allows what the policies allow, and denies whatever else happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from statehub_plan.errors import Exit, StatehubError
from statehub_plan.model.base import canonical, digest
from statehub_plan.model.plan import Level, Phase, Verdict
from statehub_plan.planner import Wish
from statehub_plan.policy import PolicyHost, bundle_info
from statehub_plan.policy.bundle import read_bundle
from statehub_plan.policy.server import OpaServer
from tests.integration.policy_bundles import DENY_NOTHING, NO_POLICY, bundle_of, finding, objecting
from tests.unit.explorer import initial_worlds
from tests.unit.facts import NOW
from tests.unit.policy_story import BUNDLE_DIR, asked, planned

pytestmark = pytest.mark.usefixtures("opa_path")
PLAN = planned(next(initial_worlds()), Wish(replace_target=True))
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def host(opa_path: Path) -> Iterator[PolicyHost]:
    """The real policies under a real OPA."""
    del opa_path  # only that it is there
    with PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S) as entered:
        yield entered


def verdict_of(bundle: Path, *, timeout_s: float = TIMEOUT_S, **named: Any) -> Verdict:
    """What a bundle says about the plan at planning."""
    with PolicyHost(bundle, timeout_s=timeout_s, **named) as entered:
        return entered.judge(asked(PLAN, entered.bundle), phase=Phase.PLAN, now=NOW)


def codes(verdict: Verdict) -> list[str]:
    """Codes of all findings."""
    return [each.code for each in verdict.findings]


def is_gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def own_opa(host: PolicyHost) -> OpaServer:
    """The child process of a host."""
    assert host._server is not None
    return host._server


# Allowed and denied


def test_a_plan_that_no_policy_objects_to_is_allowed(host: PolicyHost) -> None:
    """A verdict says by which policies, about which input and under which bundle."""
    document = asked(PLAN, host.bundle)
    verdict = host.judge(document, phase=Phase.PLAN, now=NOW)
    assert verdict.allowed
    assert () == verdict.findings
    assert bundle_info(BUNDLE_DIR).packages == verdict.evaluated
    assert (digest(document), host.bundle.digest, NOW) == (
        verdict.input_digest,
        verdict.bundle_digest,
        verdict.judged_at,
    )


def test_a_hazard_is_denied_with_message_and_remedy(host: PolicyHost) -> None:
    """Evidence that is not there vetoes, and says what to do."""
    verdict = host.judge(asked(PLAN, host.bundle, evidence=()), phase=Phase.PLAN, now=NOW)
    assert not verdict.allowed
    assert ["evidence_complete.left_out"] == codes(verdict)
    assert all(each.message and each.remedy for each in verdict.findings)


def test_planning_before_approval_is_allowed_and_applying_is_not(host: PolicyHost) -> None:
    """The same missing approvals are advice in one phase and a veto in the other."""
    planning = host.judge(asked(PLAN, host.bundle, gates=()), phase=Phase.PLAN, now=NOW)
    applying = host.judge(asked(PLAN, host.bundle, Phase.APPLY, gates=()), phase=Phase.APPLY, now=NOW)
    assert (True, {"gate_approved.needed"}) == (planning.allowed, set(codes(planning)))
    assert (False, {"gate_approved.too_few_keys"}) == (applying.allowed, set(codes(applying)))


def test_advice_allows_and_a_soft_finding_denies(tmp_path: Path) -> None:
    """Nothing waives a soft finding yet."""
    advisory = bundle_of(tmp_path / "advisory", objecting(finding("advisory")))
    soft = bundle_of(tmp_path / "soft", objecting(finding("soft")))
    assert (True, ["probe.objects"]) == ((found := verdict_of(advisory)).allowed, codes(found))
    assert (False, Level.SOFT) == ((found := verdict_of(soft)).allowed, found.findings[0].level)


# Documents that are not worth a question


@pytest.mark.parametrize(
    "change",
    [
        {"approvals": None},
        {"now": "1800000000"},
        {"extra": 1},
        {"now": float("nan")},
        {"phase": "apply"},
        {"bundle": {"digest": "sha256:0", "packages": ["canary"]}},
    ],
)
def test_an_unfit_document_is_denied_without_asking(host: PolicyHost, change: dict[str, Any]) -> None:
    """Incomplete, coerced, foreign, or about another phase or bundle."""
    verdict = host.judge({**asked(PLAN, host.bundle), **change}, phase=Phase.PLAN, now=NOW)
    assert (False, ["host.input_invalid"]) == (verdict.allowed, codes(verdict))


def test_a_document_about_another_moment_is_denied(host: PolicyHost) -> None:
    """A verdict is about the instant that it is asked for."""
    verdict = host.judge(asked(PLAN, host.bundle), phase=Phase.PLAN, now=NOW + timedelta(seconds=1))
    assert ["host.input_invalid"] == codes(verdict)


# Bundles that say nothing, or nothing usable


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("host.undefined", {"main": "package statehub.main\n"}),
        ("host.malformed_verdict", {"main": "package statehub.main\n\nverdict := {}\n"}),
        ("host.nothing_evaluated", {"main": 'package statehub.main\n\nverdict := {"evaluated": [], "findings": []}\n'}),
        ("host.evaluated_differs", {"probe": NO_POLICY}),
        ("host.canary_silent", {"canary": DENY_NOTHING.replace("probe", "canary")}),
        ("host.http_status", {"probe": objecting(f"{finding()}", 'to_number("x") == input.now')}),
        ("host.unknown_level", {"probe": objecting(finding("critical"))}),
        ("host.malformed_finding", {"probe": objecting('{"code": "probe.objects"}')}),
        ("host.foreign_code", {"probe": objecting(finding(code="other.objects"))}),
    ],
)
def test_a_bundle_that_gives_no_proper_verdict_denies(tmp_path: Path, code: str, changed: dict[str, str]) -> None:
    """Undefined, zero policies, a misspelt rule, a dead canary, a built-in that fails, a finding that is none."""
    verdict = verdict_of(bundle_of(tmp_path, **changed))
    assert (False, [code]) == (verdict.allowed, codes(verdict))


def test_a_policy_that_takes_too_long_denies(tmp_path: Path) -> None:
    """The time-out bounds one question, and is not tried again."""
    endless = "count([1 | some i in numbers.range(1, 20000); some j in numbers.range(1, 20000)]) > 0"
    slow = objecting(finding(), f'{{ input.schema == "statehub-plan/input/v1"; {endless} }}')
    verdict = verdict_of(bundle_of(tmp_path, slow), timeout_s=1.0)
    assert (False, ["host.timed_out"]) == (verdict.allowed, codes(verdict))


def test_an_old_dialect_is_refused_and_not_rewritten(tmp_path: Path) -> None:
    """opa-python-client would rewrite a rejected v0 policy while uploading it; nothing is uploaded here."""
    v0 = "package statehub.policies.probe\n\ndeny[x] { x := 1 }\n"
    with pytest.raises(StatehubError) as caught:
        verdict_of(bundle_of(tmp_path, v0))
    assert "policy-engine-not-started" == caught.value.code
    sources = "".join(path.read_text() for path in Path("statehub_plan/policy").glob("*.py"))
    assert re.findall(r"update_\w+|patch_data|rego_compat", sources) == []


def test_a_bundle_that_does_not_compile_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    """Exit status 1, with OPA's own words."""
    with pytest.raises(StatehubError) as caught:
        verdict_of(bundle_of(tmp_path, objecting("undefined_function(1)")))
    assert ("policy-engine-not-started", Exit.ERROR) == (caught.value.code, caught.value.exit_status)
    assert "undefined_function" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("prepare", ["missing", "empty", "stray", "displaced"])
def test_a_bundle_that_judges_nothing_is_an_error(tmp_path: Path, prepare: str) -> None:
    """Zero policies loaded is never green, nor is a policy that lies where OPA's packages would not find it."""
    bundle = tmp_path / "bundle"
    if prepare == "empty":
        bundle.mkdir()
    if prepare in ("stray", "displaced"):
        bundle = bundle_of(tmp_path)
        place = "probe.rego" if prepare == "stray" else "statehub/policies/probe/other/probe.rego"
        (bundle / place).parent.mkdir(exist_ok=True)
        (bundle / place).write_text(DENY_NOTHING)
    with pytest.raises(StatehubError) as caught:
        verdict_of(bundle)
    assert ("policy-bundle-invalid", Exit.ERROR) == (caught.value.code, caught.value.exit_status)
    assert caught.value.details


def test_without_opa_nothing_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error with the way to get one, never a pass."""
    monkeypatch.setenv("STATEHUB_PLAN_OPA_BIN", "/nonexistent/opa")
    with pytest.raises(StatehubError) as caught:
        verdict_of(BUNDLE_DIR)
    assert (Exit.ERROR, True) == (caught.value.exit_status, bool(caught.value.hint))


def test_a_program_that_only_looks_like_opa_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says the right version and ends at once."""
    fake = tmp_path / "opa"
    fake.write_text(
        "#!/bin/sh\n[ \"$1\" = version ] && echo 'Version: 1.0.0' && exit 0\necho 'no server here' >&2\nexit 3\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("STATEHUB_PLAN_OPA_BIN", str(fake))
    with pytest.raises(StatehubError) as caught:
        verdict_of(BUNDLE_DIR)
    assert "policy-engine-not-started" == caught.value.code
    assert "no server here" in str(caught.value)


def test_a_program_that_never_listens_is_given_up(tmp_path: Path) -> None:
    """And ended; what was staged for it is gone."""
    fake = tmp_path / "opa"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    staging = tmp_path / "staging"
    staging.mkdir()
    server = OpaServer(fake, read_bundle(BUNDLE_DIR), work_dir=staging)
    try:
        with pytest.raises(StatehubError) as caught:
            server.wait(0.2)
    finally:
        server.stop()
    assert "policy-engine-not-started" == caught.value.code
    assert is_gone(server.pid)
    assert [] == list(staging.iterdir())


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A full or missing disk is no traceback."""
    with pytest.raises(StatehubError) as caught:
        verdict_of(BUNDLE_DIR, work_dir=tmp_path / "missing")
    assert "policy-engine-not-started" == caught.value.code


def test_asking_a_host_that_was_not_entered_is_a_mistake_of_the_caller() -> None:
    """There is no bundle before entry."""
    with pytest.raises(RuntimeError):
        _ = PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S).bundle


# The child process


def test_the_child_is_nobody_elses_business(host: PolicyHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token in its arguments, none of this process's environment, and it listens on loopback only."""
    server = own_opa(host)
    process = Path(f"/proc/{server.pid}")
    assert server.token.encode() not in (process / "cmdline").read_bytes()
    assert {b"HOME", b"PATH"} == {
        pair.partition(b"=")[0] for pair in (process / "environ").read_bytes().split(b"\0")[:-1]
    }
    assert f"0100007F:{server.port:04X}" in (process / "net/tcp").read_text()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/policies/statehub"),
        ("PUT", "/v1/data/statehub/thresholds"),
        ("PATCH", "/v1/data/statehub"),
        ("DELETE", "/v1/policies/statehub"),
        ("GET", "/v1/policies"),
        ("GET", "/v1/data"),
        ("POST", "/v1/query"),
        ("POST", "/v1/compile"),
        ("POST", "/v1/data/statehub/policies"),
        ("GET", "/v1/config"),
        ("POST", "/"),
        ("POST", "/v1/data/statehub/main/verdict"),
    ],
)
def test_nobody_can_put_or_ask_anything_but_the_owner_its_one_question(
    host: PolicyHost, method: str, path: str
) -> None:
    """Without the token nothing works; with it, nothing but asking for the verdict."""
    server = own_opa(host)
    url = f"http://127.0.0.1:{server.port}{path}"
    for token in (None, "wrong", server.token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.request(method, url, headers=headers, json={"input": {}}, timeout=TIMEOUT_S)
        is_the_question = path.endswith("/verdict") and token == server.token
        assert (200 if is_the_question else 401) == answer.status_code


def test_the_child_ends_with_the_host_and_leaves_no_file(tmp_path: Path) -> None:
    """After `with` the process is gone; the staged bundle already was when it listened."""
    with PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S, work_dir=tmp_path) as entered:
        pid = own_opa(entered).pid
        assert [] == list(tmp_path.iterdir())
        assert not is_gone(pid)
    assert is_gone(pid)


def test_the_child_ends_when_its_owner_is_killed() -> None:
    """SIGKILL leaves no time for anything: the kernel ends the child."""
    script = (
        "import sys, time; from pathlib import Path; from statehub_plan.policy import PolicyHost\n"
        f"with PolicyHost(Path({str(BUNDLE_DIR)!r}), timeout_s=9) as host:\n"
        "    print(host._server.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not is_gone(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(pid)


def test_a_child_that_dies_in_the_middle_of_a_run_denies() -> None:
    """The next question finds nobody."""
    with PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S) as entered:
        os.kill(own_opa(entered).pid, signal.SIGKILL)
        verdict = entered.judge(asked(PLAN, entered.bundle), phase=Phase.PLAN, now=NOW)
    assert (False, ["host.unreachable"]) == (verdict.allowed, codes(verdict))


def test_what_is_judged_is_what_was_read(tmp_path: Path) -> None:
    """Policies that are changed on disk during a run do not change the run."""
    bundle = bundle_of(tmp_path, objecting(finding()))
    with PolicyHost(bundle, timeout_s=TIMEOUT_S) as entered:
        (bundle / "statehub/policies/probe/probe.rego").write_text(DENY_NOTHING)
        verdict = entered.judge(asked(PLAN, entered.bundle), phase=Phase.PLAN, now=NOW)
    assert ["probe.objects"] == codes(verdict)
    assert bundle_info(bundle).digest != verdict.bundle_digest


# A server that is named


@pytest.fixture
def named_opa(opa_path: Path) -> Iterator[OpaServer]:
    """A real OPA with the real bundle and a token, as somebody else would run it."""
    server = OpaServer(opa_path, read_bundle(BUNDLE_DIR), work_dir=None)
    try:
        server.wait(TIMEOUT_S)
        yield server
    finally:
        server.stop()


def test_a_named_server_with_this_bundle_judges(named_opa: OpaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By STATEHUB_PLAN_OPA_URL and _TOKEN; no child is started."""
    monkeypatch.setenv("STATEHUB_PLAN_OPA_URL", f"http://127.0.0.1:{named_opa.port}")
    monkeypatch.setenv("STATEHUB_PLAN_OPA_TOKEN", named_opa.token)
    with PolicyHost(BUNDLE_DIR, timeout_s=TIMEOUT_S) as entered:
        assert entered._server is None
        assert entered.judge(asked(PLAN, entered.bundle), phase=Phase.PLAN, now=NOW).allowed


def test_a_named_server_with_another_bundle_denies(named_opa: OpaServer, tmp_path: Path) -> None:
    """The digest of what is on disk is not the revision of what answers."""
    url = f"http://127.0.0.1:{named_opa.port}"
    verdict = verdict_of(bundle_of(tmp_path), url=url, token=named_opa.token)
    assert (False, ["host.bundle_differs"]) == (verdict.allowed, codes(verdict))


def test_a_wrong_token_denies(named_opa: OpaServer) -> None:
    """The server refuses, and that is no answer."""
    verdict = verdict_of(BUNDLE_DIR, url=f"http://127.0.0.1:{named_opa.port}", token="wrong")
    assert (False, ["host.http_status"]) == (verdict.allowed, codes(verdict))


def test_the_bundle_that_the_remedy_says_how_to_build_is_accepted(opa_path: Path, tmp_path: Path) -> None:
    """`opa build` with the digest as revision makes what a named server has to serve."""
    built = tmp_path / "bundle.tar.gz"
    revision = bundle_info(BUNDLE_DIR).digest
    build = ["build", "-b", str(BUNDLE_DIR), "--ignore", "*_test.rego", "-r", revision, "-o", str(built)]
    subprocess.run([str(opa_path), *build], check=True, timeout=60)
    asked_once = subprocess.run(
        [
            str(opa_path),
            "eval",
            "-b",
            str(built),
            "--stdin-input",
            "--format",
            "raw",
            "data.statehub.main.verdict.findings",
        ],
        input=canonical(asked(PLAN, bundle_info(BUNDLE_DIR))),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert b"[]" == asked_once.stdout.strip()
    inspected = subprocess.run(
        [str(opa_path), "inspect", str(built)], capture_output=True, text=True, check=True, timeout=60
    )
    assert revision[:20] in inspected.stdout.replace("\n", "")
