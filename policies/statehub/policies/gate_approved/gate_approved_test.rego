package statehub.policies.gate_approved_test

import data.statehub.fixture
import data.statehub.policies.gate_approved

_codes(document) := found if {
	found := fixture.codes(gate_approved.deny) with input as document
}

_warnings(document) := found if {
	found := fixture.codes(gate_approved.warn) with input as document
}

_planned := fixture.patched(fixture.cutover, "/phase", "plan")

_with_second(part, value) := fixture.patched(fixture.cutover, sprintf("/approvals/0/approvals/1/%s", [part]), value)

test_needed_denies_nothing_at_planning_and_warns if {
	document := fixture.patched(_planned, "/approvals", [])
	_codes(document) == set()
	_warnings(document) == {"gate_approved.needed"}
}

test_needed_allows_an_approved_plan_without_a_word if _warnings(_planned) == set()

test_needed_misses_the_approvals_and_denies if {
	document := fixture.removed(_planned, "/approvals")
	_codes(document) == {"gate_approved.missing"}
	_warnings(document) == {"gate_approved.needed"}
}

test_too_few_keys_denies_one_of_two if {
	document := fixture.removed(fixture.cutover, "/approvals/0/approvals/1")
	_codes(document) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_one_key_under_two_names if {
	_codes(_with_second("fingerprint", "SHA256:b")) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_every_status_but_valid if {
	every status in ["expired", "revoked", "other-effects", "other-identity", "bad-signature", "fine"] {
		_codes(_with_second("status", status)) == {"gate_approved.too_few_keys"}
	}
}

test_too_few_keys_denies_after_either_clock_has_run_out if {
	_codes(_with_second("decide_by", fixture.now - 1)) == {"gate_approved.too_few_keys"}
	_codes(_with_second("execute_by", fixture.now - 1)) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_allows_the_later_steps_of_a_run_that_passed_the_gate_in_time if {
	late := _with_second("decide_by", fixture.now - 1)
	gate := late.approvals[0].gate
	_codes(fixture.patched(late, "/history/gates_passed", [gate])) == set()
	_codes(fixture.patched(late, "/history/gates_passed", ["another"])) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_a_run_that_passed_the_gate_after_its_last_clock if {
	late := _with_second("execute_by", fixture.now - 1)
	gate := late.approvals[0].gate
	_codes(fixture.patched(late, "/history/gates_passed", [gate])) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_a_clock_that_is_a_text if {
	_codes(_with_second("decide_by", "2027-01-15T00:00:00Z")) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_a_stranger_and_the_author if {
	_codes(_with_second("principal", "eve")) == {"gate_approved.too_few_keys"}
	_codes(_with_second("by_author", true)) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_an_approval_of_another_gate if {
	_codes(_with_second("gate", "T08")) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_whatever_the_flag_beside_the_approvals_says if {
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/approvals/0/approvals", "value": []},
		{"op": "replace", "path": "/approvals/0/satisfied", "value": true},
	])
	_codes(document) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_the_step_itself if {
	document := fixture.patched(fixture.before(fixture.cutover, "09-decide"), "/approvals", [])
	_codes(document) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_denies_a_retirement_after_its_clock if {
	document := fixture.patched(fixture.retirement, "/approvals/0/approvals/0/execute_by", fixture.now - 1)
	_codes(document) == {"gate_approved.too_few_keys"}
}

test_too_few_keys_allows_two_keys_to_the_last_second if {
	_codes(_with_second("decide_by", fixture.now)) == set()
}

test_too_few_keys_allows_the_author_where_the_plan_says_so if {
	document := fixture.patched(_with_second("by_author", true), "/plan/gates/0/author_may_approve", true)
	_codes(document) == set()
}

test_too_few_keys_allows_a_retirement_after_a_clock_for_deciding if {
	document := fixture.patched(fixture.retirement, "/approvals/0/approvals/0/decide_by", fixture.now - 1)
	_codes(document) == set()
}

test_too_few_keys_allows_redirecting_after_the_decision_whatever_the_clocks_say if {
	document := fixture.patched(fixture.before(fixture.finishing, "02-redirect"), "/approvals", [])
	_codes(document) == set()
}

test_too_few_keys_misses_a_part_of_the_approval if {
	every part in ["fingerprint", "status", "principal", "decide_by", "execute_by", "by_author", "gate"] {
		document := fixture.removed(fixture.cutover, sprintf("/approvals/0/approvals/1/%s", [part]))
		_codes(document) == {"gate_approved.too_few_keys"}
	}
}

test_too_few_keys_misses_the_gate_of_a_step_and_the_quorum if {
	without_gate := fixture.patched(fixture.removed(fixture.cutover, "/plan/steps/3/gate"), "/approvals", [])
	_codes(without_gate) == {"gate_approved.too_few_keys"}
	_codes(fixture.removed(fixture.cutover, "/plan/gates/0/quorum")) == {"gate_approved.too_few_keys"}
}

test_unknown_gate_denies_a_gate_that_is_not_declared if {
	document := fixture.patched(fixture.cutover, "/plan/steps/0/gate", "T99")
	_codes(document) == {"gate_approved.unknown_gate"}
}

test_unknown_gate_allows_declared_ones if _codes(fixture.cutover) == set()

test_unknown_gate_misses_all_gates if {
	document := fixture.removed(fixture.cutover, "/plan/gates")
	_codes(document) == {"gate_approved.missing", "gate_approved.unknown_gate"}
}

test_missing_denies_an_empty_document if _codes({}) == {"gate_approved.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
