package statehub.policies.gates_declared_test

import data.statehub.fixture
import data.statehub.policies.gates_declared

_codes(document) := found if {
	found := fixture.codes(gates_declared.deny) with input as document
}

test_ungated_denies_a_plan_without_gates if {
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/plan/gates", "value": []},
		{"op": "replace", "path": "/plan/steps/3/gate", "value": null},
		{"op": "replace", "path": "/plan/steps/7/gate", "value": null},
		{"op": "replace", "path": "/plan/steps/8/gate", "value": null},
		{"op": "replace", "path": "/plan/steps/10/gate", "value": null},
	])
	_codes(document) == {"gates_declared.ungated"}
}

test_ungated_denies_a_retirement_behind_the_gate_of_the_move if {
	document := fixture.patched(fixture.retirement, "/plan/steps/2/gate", "T07")
	_codes(document) == {"gates_declared.ungated", "gates_declared.dropped"}
}

test_ungated_allows_a_guarded_plan if _codes(fixture.cutover) == set()

test_ungated_misses_what_the_gate_guards if {
	document := fixture.removed(fixture.cutover, "/plan/gates/0/guards")
	_codes(document) == {"gates_declared.ungated"}
}

test_dropped_denies_a_step_without_its_gate if {
	document := fixture.patched(fixture.cutover, "/plan/steps/7/gate", null)
	_codes(document) == {"gates_declared.dropped"}
}

test_dropped_denies_two_gates_for_one_kind if {
	document := fixture.patched(fixture.cutover, "/plan/gates/1/guards", ["retire", "freeze"])
	_codes(document) == {"gates_declared.dropped"}
}

test_dropped_allows_steps_with_their_gates if _codes(fixture.retirement) == set()

test_dropped_allows_closing_a_stray_side_without_a_gate if {
	document := json.patch(fixture.abort, [
		{"op": "replace", "path": "/plan/steps/0/kind", "value": "freeze"},
		{"op": "replace", "path": "/plan/steps/0/subject", "value": "wsl2"},
	])
	_codes(document) == set()
}

test_dropped_misses_the_gate_of_a_step if {
	_codes(fixture.removed(fixture.cutover, "/plan/steps/7/gate")) == {"gates_declared.dropped"}
}

test_undeclared_denies_a_gate_that_nobody_declared if {
	_codes(fixture.patched(fixture.cutover, "/plan/steps/0/gate", "T99")) == {"gates_declared.undeclared"}
}

test_undeclared_allows_steps_without_a_gate if _codes(fixture.abort) == set()

test_undeclared_misses_the_name_of_a_gate if {
	document := fixture.removed(fixture.retirement, "/plan/gates/1/name")
	_codes(document) == {"gates_declared.undeclared", "gates_declared.ungated"}
}

test_quorum_denies_a_gate_that_opens_by_itself if {
	_codes(fixture.patched(fixture.cutover, "/plan/gates/0/quorum", 0)) == {"gates_declared.quorum"}
}

test_quorum_denies_more_keys_than_approvers if {
	_codes(fixture.patched(fixture.cutover, "/plan/gates/0/approvers", ["bea", "bea"])) == {"gates_declared.quorum"}
}

test_quorum_allows_one_of_two if _codes(fixture.patched(fixture.cutover, "/plan/gates/0/quorum", 1)) == set()

test_quorum_misses_the_quorum if {
	_codes(fixture.patched(fixture.cutover, "/plan/gates/0/quorum", null)) == {"gates_declared.quorum"}
}

test_missing_denies_an_empty_document if _codes({}) == {"gates_declared.missing"}

test_missing_allows_a_complete_document if _codes(fixture.finishing) == set()
