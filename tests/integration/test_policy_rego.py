"""The shipped policies: style, documentation and tests of every rule; and the runner that checks any bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from statehub_plan.errors import StatehubError
from statehub_plan.model.plan import Level
from statehub_plan.policy import PolicyTestReport, bundle_info, explain, list_policies, run_tests
from statehub_plan.policy.explain import PolicySummary
from tests.integration.policy_bundles import bundle_of, finding, objecting
from tests.unit.policy_story import BUNDLE_DIR

pytestmark = pytest.mark.usefixtures("opa_path")
HAZARDS = BUNDLE_DIR / "statehub" / "policies"
DEMANDED = {
    "backup_fresh",
    "canary",
    "deferred_lanes",
    "evidence_complete",
    "expected_gap",
    "fallback_following",
    "fallback_kept",
    "gate_approved",
    "gates_declared",
    "identity_unchanged",
    "no_unknown_step",
    "observation_fresh",
    "one_writable",
    "proof_before_open",
    "refused_plans",
    "register_forward",
    "rehearsed",
    "retire_after_drills",
    "slot_retention",
    "stabilization_before_retire",
    "streams_known",
    "thresholds",
    "unknown_facts",
}
TESTED = """package statehub.policies.probe_test

import data.statehub.policies.probe

test_denies if count(probe.deny) == 1 with input as {"schema": "statehub-plan/input/v1"}
"""


@pytest.fixture(scope="module")
def report(opa_path: Path) -> PolicyTestReport:
    """`policy test` of the shipped bundle."""
    del opa_path  # only that it is there
    return run_tests(BUNDLE_DIR)


@pytest.fixture(scope="module")
def policies(opa_path: Path) -> tuple[PolicySummary, ...]:
    """What METADATA says about the shipped bundle."""
    del opa_path
    return list_policies(BUNDLE_DIR)


def source(name: str) -> str:
    """The text of one hazard's policy."""
    return (HAZARDS / name / f"{name}.rego").read_text()


# The shipped bundle


def test_the_shipped_policies_pass_their_tests_with_every_line_covered(report: PolicyTestReport) -> None:
    """Formatted, strict, without clock and network, all tests green, nothing skipped."""
    assert () == report.problems
    assert report.ok
    assert 100.0 == report.coverage
    assert len(report.passed) > 200


def test_every_demanded_hazard_has_a_policy(policies: tuple[PolicySummary, ...]) -> None:
    """None is lost by accident."""
    assert DEMANDED <= {policy.name for policy in policies}
    assert bundle_info(BUNDLE_DIR).packages == tuple(policy.name for policy in policies)


def test_every_policy_and_rule_says_which_incident_it_prevents(policies: tuple[PolicySummary, ...]) -> None:
    """Title, description, code and remedy above each."""
    for policy in policies:
        assert policy.title, policy.name
        assert policy.description, policy.name
        assert policy.rules, policy.name
        for rule in policy.rules:
            assert rule.title, rule.code
            assert rule.description, rule.code
            assert rule.remedy, rule.code
            assert rule.code.startswith(f"{policy.name}."), rule.code


def test_every_rego_rule_is_documented() -> None:
    """Helpers too: no rule of a policy stands without METADATA directly above it."""
    for path in sorted(BUNDLE_DIR.rglob("*.rego")):
        if path.name.endswith("_test.rego"):
            continue
        lines = path.read_text().splitlines()
        heads = [i for i, line in enumerate(lines) if re.match(r"[a-z_]", line) and not line.startswith("import ")]
        for head in heads:
            block = []
            for line in reversed(lines[:head]):
                if not line.startswith("#"):
                    break
                block.append(line)
            assert "# METADATA" in block, f"{path.name}:{head + 1}"


def test_codes_are_unique_and_are_those_of_the_findings(policies: tuple[PolicySummary, ...]) -> None:
    """METADATA and findings cannot drift apart, neither in code nor in level nor in remedy."""
    codes = [rule.code for policy in policies for rule in policy.rules]
    assert sorted(set(codes)) == sorted(codes)
    for policy in policies:
        found = re.findall(
            r'"code": "([^"]+)",\s+"level": "([^"]+)",.*?"remedy": "([^"]+)"', source(policy.name), re.DOTALL
        )
        assert sorted((rule.code, rule.level.value, rule.remedy) for rule in policy.rules) == sorted(found)


def test_hard_rules_are_denials_and_advice_is_a_warning(policies: tuple[PolicySummary, ...]) -> None:
    """Nothing in `deny` is advisory, nothing in `warn` is more."""
    advisory = {rule.code for policy in policies for rule in policy.rules if rule.level is Level.ADVISORY}
    assert {
        "backup_fresh.outdated",
        "backup_fresh.passed_over",
        "deferred_lanes.waiting",
        "expected_gap.long",
        "fallback_following.behind",
        "fallback_following.disk",
        "fallback_following.not_following",
        "fallback_following.not_lossless",
        "fallback_following.retained",
        "gate_approved.needed",
        "proof_before_open.other_out_of_sight",
        "refused_plans.refusal",
        "slot_retention.disk_low",
        "slot_retention.forgotten",
        "streams_known.disk_unwatched",
    } == advisory


def test_every_code_has_a_test_that_denies_one_that_allows_and_one_without_the_fact(
    report: PolicyTestReport, policies: tuple[PolicySummary, ...]
) -> None:
    """By name: `test_<rule>_denies…`, `…_allows…`, `…_misses…`; for a `missing` rule denying is the third."""
    for policy in policies:
        for rule in policy.rules:
            name = rule.code.partition(".")[2]
            wanted = ("denies", "allows") if name == "missing" else ("denies", "allows", "misses")
            for kind in wanted:
                prefix = f"statehub.policies.{policy.name}_test.test_{name}_{kind}"
                assert any(each.startswith(prefix) for each in report.passed), prefix


def test_no_rule_negates_a_call_or_comparison_on_the_input_itself() -> None:
    """`not input.a in {…}` and `not f(input.a)` are silent when `a` is absent: OPA looks it up before it negates. Only
    `==` and bare references are safe there; anything else goes through a rule of its own or `object.get`."""
    unsafe = re.compile(r"^\s*not (?!.* == )(?:input\.\S+ (?:in|<|<=|>|>=|!=) |is_\w+\(input\b|count\(input\b)")
    for path in sorted(BUNDLE_DIR.rglob("*.rego")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not unsafe.match(line), f"{path.name}:{number}"


def test_policies_read_neither_annotations_nor_the_world() -> None:
    """Codes are literals; no clock, no network, no chance (OPA is also run without those built-ins)."""
    for path in sorted(HAZARDS.glob("*/*.rego")):
        assert not re.search(r"\b(rego\.metadata|http\.send|time\.\w+\(|rand\.\w+\(|opa\.runtime)", path.read_text()), (
            path.name
        )


def test_a_code_is_explained_with_its_place(policies: tuple[PolicySummary, ...]) -> None:
    """`policy explain` leads to the line."""
    told = explain(BUNDLE_DIR, "one_writable.two_now")
    assert Level.HARD is told.level
    assert "split brain" in told.description
    path, _, line = told.position.partition(":")
    assert "deny contains finding if {" == (BUNDLE_DIR / path).read_text().splitlines()[int(line) - 1]
    assert told in next(policy.rules for policy in policies if policy.name == "one_writable")


def test_a_code_that_nobody_has_is_an_error_that_names_the_near_ones() -> None:
    """A typing error is not met with silence."""
    with pytest.raises(StatehubError) as caught:
        explain(BUNDLE_DIR, "one_writable.tow_now")
    assert "policy-code-unknown" == caught.value.code
    assert "one_writable.two_now" in caught.value.details


# The runner


def with_test(directory: Path, test: str | None = TESTED, *, probe: str | None = None) -> Path:
    """A bundle of main, canary and one policy, with a test of that policy alone."""
    bundle = bundle_of(directory, probe or objecting(finding()))
    if test is not None:
        (bundle / "statehub/policies/probe/probe_test.rego").write_text(test)
    return bundle


def test_zero_tests_are_a_failure(tmp_path: Path) -> None:
    """Green needs something that was run."""
    found = run_tests(with_test(tmp_path, None))
    assert not found.ok
    assert "no test was run" in found.problems
    assert 0.0 == found.coverage


def test_a_failed_and_a_skipped_test_are_failures(tmp_path: Path) -> None:
    """Both are named."""
    found = run_tests(with_test(tmp_path, TESTED + "\ntest_wrong if false\n\ntodo_test_later if true\n"))
    assert ("statehub.policies.probe_test.test_wrong",) == found.failed
    assert ("statehub.policies.probe_test.todo_test_later",) == found.skipped
    assert not found.ok


def test_a_line_that_no_test_reaches_is_named(tmp_path: Path) -> None:
    """By file and line; main is not reached at all here."""
    found = run_tests(with_test(tmp_path, probe=objecting(finding()) + "\nunused if input.now == 0\n"))
    assert "statehub/policies/probe/probe.rego:5" in found.not_covered
    assert any("main.rego" in place for place in found.not_covered)
    assert 0 < found.coverage < 100
    assert () == found.complaints
    assert not found.ok


def test_coverage_is_not_rounded_up() -> None:
    """One line among a hundred thousand is not 100 per cent: a threshold that rounds once said so."""
    found = PolicyTestReport(
        bundle=bundle_info(BUNDLE_DIR),
        passed=("a",),
        failed=(),
        skipped=(),
        covered_lines=99_999,
        not_covered=("main.rego:1",),
        complaints=(),
    )
    assert (99.999, False) == (found.coverage, found.ok)
    assert found.model_copy(update={"not_covered": ()}).ok


@pytest.mark.parametrize(
    ("probe", "complaint"),
    [
        (objecting(finding(), "http.send({}).x"), "http.send"),
        (objecting(finding(), "time.now_ns() > 1"), "time.now_ns"),
        (objecting(finding()).replace("deny", "import data.statehub.unused\n\ndeny", 1), "unused"),
        (objecting(finding()).replace(" if ", "    if "), "not formatted"),
        (objecting("undefined_function(1)"), "undefined_function"),
        (objecting(finding(), "input.plan.gatez == []"), "gatez"),
    ],
)
def test_style_forbidden_built_ins_and_misspelt_fields_are_complaints(
    tmp_path: Path, probe: str, complaint: str
) -> None:
    """A policy looks at its input and at nothing else, by the names that the input has."""
    found = run_tests(with_test(tmp_path, probe=probe))
    assert not found.ok
    assert any(complaint in line for line in found.problems), found.problems


def test_a_rule_without_metadata_cannot_be_explained(tmp_path: Path) -> None:
    """Documented under another code than the one that it finds is not documented."""
    documented = "# METADATA\n# title: t\ndeny contains"
    bundle = with_test(tmp_path, probe=objecting(finding()).replace("deny contains", documented))
    with pytest.raises(StatehubError) as caught:
        list_policies(bundle)
    assert "policy-undocumented" == caught.value.code


def test_a_bundle_that_cannot_be_parsed_is_explained_by_opas_own_words(tmp_path: Path) -> None:
    """An error with details, no traceback."""
    with pytest.raises(StatehubError) as caught:
        list_policies(bundle_of(tmp_path, objecting("{")))
    assert "policy-check-failed" == caught.value.code
    assert "probe.rego" in str(caught.value)


def test_tests_and_readmes_do_not_change_the_digest_and_policies_and_data_do(tmp_path: Path) -> None:
    """The digest says what judges, no more and no less."""
    bundle = bundle_of(tmp_path)
    before = bundle_info(bundle).digest
    (bundle / "README.md").write_text("hello")
    (bundle / "statehub/policies/probe/probe_test.rego").write_text(TESTED)
    assert before == bundle_info(bundle).digest
    (bundle / "statehub/data.json").write_text("{}")
    with_data = bundle_info(bundle).digest
    (bundle / "statehub/policies/probe/probe.rego").write_text(objecting(finding()))
    assert 3 == len({before, with_data, bundle_info(bundle).digest})
