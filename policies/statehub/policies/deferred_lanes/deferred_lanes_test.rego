package statehub.policies.deferred_lanes_test

import data.statehub.fixture
import data.statehub.policies.deferred_lanes

_codes(document) := found if {
	found := fixture.codes(deferred_lanes.deny) with input as document
}

_warnings(document) := found if {
	found := fixture.codes(deferred_lanes.warn) with input as document
}

_criterion(status) := {"name": "cutover-done", "lane": "cust-wp-0011", "status": status, "detail": ""}

_deferred(document, states) := json.patch(document, [
	{"op": "replace", "path": "/plan/lane", "value": "deferred"},
	{"op": "replace", "path": "/plan/criteria", "value": ["cutover-done"]},
	{"op": "replace", "path": "/history/criteria", "value": states},
])

_planned(document) := fixture.patched(document, "/phase", "plan")

test_waiting_denies_nothing_at_planning_and_warns if {
	document := _planned(_deferred(fixture.cutover, [_criterion("unmet")]))
	_codes(document) == set()
	_warnings(document) == {"deferred_lanes.waiting"}
}

test_waiting_allows_a_lane_whose_criteria_hold_without_a_word if {
	_warnings(_planned(_deferred(fixture.cutover, [_criterion("met")]))) == set()
}

test_waiting_misses_the_state_of_a_criterion if {
	_warnings(_planned(_deferred(fixture.cutover, []))) == {"deferred_lanes.waiting"}
}

test_unmet_denies_a_criterion_that_does_not_hold_or_is_unknown if {
	every status in ["unmet", "unknown", "nearly"] {
		_codes(_deferred(fixture.cutover, [_criterion(status)])) == {"deferred_lanes.unmet"}
	}
}

test_unmet_denies_with_what_the_history_says_of_it if {
	found := deferred_lanes.deny with input as _deferred(fixture.cutover, [object.union(
		_criterion("unknown"),
		{"detail": "no document of lane x in this folder"},
	)])
	{finding.message | some finding in found} == {concat("; ", [
		"entry criterion cutover-done of this deferred lane does not hold",
		"unknown: no document of lane x in this folder",
	])}
}

test_unmet_denies_a_criterion_that_holds_and_does_not if {
	_codes(_deferred(fixture.cutover, [_criterion("met"), _criterion("unmet")])) == {"deferred_lanes.unmet"}
}

test_unmet_denies_a_retirement_before_each_step if {
	document := fixture.before(_deferred(fixture.retirement, [_criterion("unmet")]), "01-restore-drill")
	_codes(document) == {"deferred_lanes.unmet"}
}

test_unmet_allows_a_lane_whose_criteria_hold if _codes(_deferred(fixture.cutover, [_criterion("met")])) == set()

test_unmet_allows_finishing_what_was_decided if {
	_codes(_deferred(fixture.finishing, [_criterion("unmet")])) == set()
}

test_unmet_misses_the_state_of_a_criterion if _codes(_deferred(fixture.cutover, [])) == {"deferred_lanes.unmet"}

test_no_criteria_denies_a_lane_that_waits_for_nothing if {
	document := fixture.patched(_deferred(fixture.cutover, []), "/plan/criteria", [])
	_codes(document) == {"deferred_lanes.no_criteria"}
}

test_no_criteria_allows_an_active_lane_without_any if _codes(fixture.cutover) == set()

test_no_criteria_misses_the_criteria if {
	document := fixture.removed(_deferred(fixture.cutover, []), "/plan/criteria")
	_codes(document) == {"deferred_lanes.missing"}
}

test_unknown_state_denies_a_misspelt_lane if {
	_codes(fixture.patched(fixture.cutover, "/plan/lane", "actve")) == {"deferred_lanes.unknown_state"}
}

test_unknown_state_allows_an_active_lane if _codes(fixture.retirement) == set()

test_unknown_state_misses_the_lane if {
	_codes(fixture.removed(fixture.cutover, "/plan/lane")) == {"deferred_lanes.unknown_state"}
}

test_missing_denies_an_empty_document if {
	_codes({}) == {"deferred_lanes.missing", "deferred_lanes.unknown_state"}
}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
