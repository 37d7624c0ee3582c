package statehub.policies.one_writable_test

import data.statehub.fixture
import data.statehub.policies.one_writable

_codes(document) := found if {
	found := fixture.codes(one_writable.deny) with input as document
}

_both_open := {"old": {"reach": "reachable", "writes": "open"}, "new": {"reach": "reachable", "writes": "open"}}

test_two_on_the_way_denies_opening_beside_an_open_side if {
	document := fixture.patched(fixture.cutover, "/plan/trajectory/10/old/writes", "open")
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_denies_a_held_side_beside_an_open_one if {
	document := fixture.patched(fixture.cutover, "/plan/trajectory/10/old/writes", "held")
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_denies_a_start_that_nothing_closes if {
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/plan/steps", "value": []},
		{"op": "replace", "path": "/plan/trajectory", "value": [fixture.cutover.plan.trajectory[0]]},
	])
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_denies_a_start_that_another_step_comes_before if {
	document := fixture.patched(fixture.cutover, "/plan/steps/1/kind", "hold")
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_denies_closing_the_primary_instead if {
	document := fixture.patched(fixture.cutover, "/plan/steps/2/subject", "wsl2")
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_allows_a_start_that_the_first_change_ends if {
	_codes(fixture.cutover) == set()
}

test_two_on_the_way_allows_an_old_side_out_of_sight_after_the_decision if {
	out_of_sight := {"reach": "unreachable", "writes": "unknown", "data": "unknown"}
	document := fixture.patched(fixture.finishing, "/plan/trajectory/1/old", out_of_sight)
	_codes(document) == set()
}

test_two_on_the_way_denies_an_old_side_that_answers_and_is_unknown if {
	document := fixture.patched(fixture.finishing, "/plan/trajectory/1/old/writes", "unknown")
	_codes(document) == {"one_writable.two_on_the_way"}
}

test_two_on_the_way_misses_the_sides_of_a_world if {
	_codes(fixture.patched(fixture.cutover, "/plan/trajectory/10", {})) == {"one_writable.two_on_the_way"}
}

test_opened_since_denies_a_second_open_side_that_was_not_planned_for if {
	document := fixture.patched(fixture.finishing, "/observed/world", _both_open)
	_codes(document) == {"one_writable.opened_since"}
}

test_opened_since_allows_a_side_that_is_merely_out_of_sight if {
	document := fixture.patched(fixture.cutover, "/observed/world/new/writes", "unknown")
	not "one_writable.opened_since" in _codes(fixture.patched(document, "/phase", "apply"))
}

test_opened_since_allows_the_start_that_was_planned_for if {
	_codes(fixture.patched(fixture.cutover, "/observed/world", _both_open)) == set()
}

test_opened_since_misses_the_observed_world if {
	document := fixture.removed(fixture.finishing, "/observed/world")
	_codes(document) == {"one_writable.missing"}
}

test_two_now_denies_every_step_that_does_not_close_the_stray_side if {
	document := fixture.patched(fixture.before(fixture.cutover, "05-copy"), "/observed/world", _both_open)
	_codes(document) == {"one_writable.two_now"}
}

test_two_now_allows_closing_the_stray_side if {
	document := fixture.patched(
		fixture.before(fixture.cutover, "03-prepare-target"), "/observed/world",
		object.union(_both_open, {"primary": "old"}),
	)
	_codes(document) == set()
}

test_two_now_allows_reading if {
	document := fixture.patched(fixture.before(fixture.cutover, "02-backup"), "/observed/world", _both_open)
	_codes(document) == set()
}

test_two_now_misses_the_sides_of_the_observed_world if {
	document := fixture.patched(fixture.before(fixture.cutover, "05-copy"), "/observed/world", {})
	_codes(document) == {"one_writable.two_now"}
}

test_missing_denies_an_empty_document if _codes({}) == {"one_writable.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
