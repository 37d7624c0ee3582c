package statehub.policies.proof_before_open_test

import data.statehub.fixture
import data.statehub.policies.proof_before_open

_codes(document) := found if {
	found := fixture.codes(proof_before_open.deny) with input as document
}

_warnings(document) := found if {
	found := fixture.codes(proof_before_open.warn) with input as document
}

_opening := fixture.before(fixture.cutover, "10-open")

_out_of_sight := {"reach": "unreachable", "writes": "unknown", "data": "unknown"}

test_stranger_denies_opening_what_is_no_endpoint if {
	document := fixture.patched(_opening, "/plan/steps/9/subject", "staging")
	_codes(document) == {"proof_before_open.stranger", "proof_before_open.in_passing"}
}

test_stranger_allows_an_endpoint if _codes(_opening) == set()

test_stranger_misses_the_subject if {
	document := fixture.patched(_opening, "/plan/steps/9/subject", null)
	_codes(document) == {"proof_before_open.stranger", "proof_before_open.in_passing"}
}

test_undecided_denies_opening_before_the_decision if {
	document := fixture.patched(_opening, "/observed/world/primary", "old")
	_codes(document) == {"proof_before_open.undecided"}
}

test_undecided_denies_opening_while_a_decision_may_fall if {
	document := fixture.patched(_opening, "/observed/world/term", "pending")
	_codes(document) == {"proof_before_open.undecided"}
}

test_undecided_denies_on_the_way if {
	document := fixture.patched(fixture.cutover, "/plan/trajectory/9/primary", "old")
	_codes(document) == {"proof_before_open.undecided"}
}

test_undecided_allows_a_burned_term if {
	_codes(fixture.before(fixture.abort, "02-open")) == set()
}

test_undecided_misses_the_primary if {
	_codes(fixture.removed(_opening, "/observed/world/primary")) == {"proof_before_open.undecided"}
}

test_other_not_frozen_denies_opening_beside_a_side_that_only_waits if {
	document := fixture.patched(_opening, "/observed/world/old/writes", "held")
	_codes(document) == {"proof_before_open.other_not_frozen"}
}

test_other_not_frozen_denies_reopening_the_old_side_beside_an_unknown_one if {
	document := json.patch(fixture.before(fixture.abort, "02-open"), [
		{"op": "replace", "path": "/plan/steps/1/subject", "value": "wsl2"},
		{"op": "replace", "path": "/observed/world/primary", "value": "old"},
		{"op": "replace", "path": "/observed/world/new", "value": _out_of_sight},
	])
	_codes(document) == {"proof_before_open.other_not_frozen", "proof_before_open.in_passing"}
}

test_other_not_frozen_allows_a_frozen_one if _codes(_opening) == set()

test_other_not_frozen_misses_the_other_side if {
	_codes(fixture.removed(_opening, "/observed/world/old")) == {"proof_before_open.other_not_frozen"}
}

test_other_out_of_sight_denies_nothing_and_warns if {
	document := fixture.patched(_opening, "/observed/world/old", _out_of_sight)
	_codes(document) == set()
	_warnings(document) == {"proof_before_open.other_out_of_sight"}
}

test_other_out_of_sight_allows_a_side_that_was_looked_at_without_a_word if _warnings(_opening) == set()

test_other_out_of_sight_misses_the_reach_and_denies if {
	document := fixture.patched(_opening, "/observed/world/old", {"writes": "unknown"})
	_codes(document) == {"proof_before_open.other_not_frozen"}
	_warnings(document) == set()
}

test_decide_unproved_denies_each_part_that_is_not_proved if {
	parts := [
		{"path": "/observed/world/new/data", "value": "stale"},
		{"path": "/observed/world/new/writes", "value": "open"},
		{"path": "/observed/world/old/writes", "value": "held"},
		{"path": "/observed/world/transfer", "value": "sequenced"},
		{"path": "/observed/world/term", "value": "burned"},
		{"path": "/observed/world/primary", "value": "unknown"},
	]
	every part in parts {
		document := fixture.patched(fixture.before(fixture.cutover, "09-decide"), part.path, part.value)
		_codes(document) == {"proof_before_open.decide_unproved"}
	}
}

test_decide_unproved_allows_a_proved_world if _codes(fixture.before(fixture.cutover, "09-decide")) == set()

test_decide_unproved_misses_the_proof if {
	document := fixture.removed(fixture.before(fixture.cutover, "09-decide"), "/observed/world/transfer")
	_codes(document) == {"proof_before_open.decide_unproved"}
}

test_in_passing_denies_a_side_that_opens_without_a_step if {
	document := fixture.patched(fixture.cutover, "/plan/trajectory/9/new/writes", "open")
	_codes(document) == {"proof_before_open.in_passing"}
}

test_in_passing_allows_a_step_that_opens if _codes(fixture.cutover) == set()

test_in_passing_misses_how_a_side_was_before if {
	document := fixture.removed(fixture.cutover, "/plan/trajectory/10/new/writes")
	_codes(document) == {"proof_before_open.in_passing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"proof_before_open.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
