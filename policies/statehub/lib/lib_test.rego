package statehub.lib_test

import data.statehub.fixture
import data.statehub.lib

_ids(entries) := {entry.step.id | some entry in entries}

# A fallback that somebody opened after the move: closing it is the first thing to do.
_stray := json.patch(fixture.abort, [
	{"op": "replace", "path": "/plan/steps", "value": [{
		"id": "01-freeze",
		"kind": "freeze",
		"subject": "wsl2",
		"class": "decision",
		"gate": null,
	}]},
	{"op": "replace", "path": "/plan/trajectory/0/old/writes", "value": "open"},
])

test_planning_and_applying_judge_every_step_in_its_world if {
	worlds := [entry.world | some entry in lib.entries] with input as fixture.cutover
	worlds == array.slice(fixture.cutover.plan.trajectory, 0, 13)
}

test_a_step_is_judged_alone_in_the_observed_world if {
	document := fixture.patched(fixture.before(fixture.cutover, "04-hold"), "/observed/world", {"seen": true})
	_ids(lib.entries) == {"04-hold"} with input as document
	{entry.world | some entry in lib.entries} == {{"seen": true}} with input as document
}

test_steps_behind_a_decision_that_has_fallen_are_not_judged_again if {
	resumed := fixture.patched(fixture.cutover, "/observed/world/primary", "new")
	_ids(lib.entries) == {"10-open", "11-redirect", "12-stabilize", "13-document"} with input as resumed
}

test_steps_behind_a_decision_are_judged_in_a_new_plan if {
	planned := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/observed/world/primary", "value": "new"},
		{"op": "replace", "path": "/phase", "value": "plan"},
	])
	count(lib.entries) == 13 with input as planned
}

test_finishing_and_opening_the_primary_could_not_as_well_wait if {
	lib.advancing == set() with input as fixture.finishing
	lib.advancing == set() with input as fixture.abort
}

test_closing_a_stray_side_could_not_as_well_wait if {
	_ids(lib.entries) == {"01-freeze"} with input as _stray
	lib.advancing == set() with input as _stray
}

test_freezing_the_primary_is_on_the_way_to_a_decision if {
	document := fixture.patched(_stray, "/plan/steps/0/subject", "cluster")
	_ids(lib.crossing) == {"01-freeze"} with input as document
}

test_redirecting_before_the_decision_could_as_well_wait if {
	document := fixture.patched(fixture.before(fixture.cutover, "11-redirect"), "/observed/world/primary", "old")
	_ids(lib.advancing) == {"11-redirect"} with input as document
}

test_opening_the_side_that_is_not_primary_could_as_well_wait if {
	document := fixture.patched(fixture.before(fixture.cutover, "10-open"), "/observed/world/primary", "old")
	_ids(lib.advancing) == {"10-open"} with input as document
}

test_preparing_and_deciding_is_crossing_reading_is_not if {
	_ids(lib.crossing) == {
		"03-prepare-target", "04-hold", "05-copy", "06-sync-sequences", "07-compare", "08-freeze", "09-decide",
	} with input as fixture.cutover
}

test_retiring_is_risky_and_drills_are_not if {
	_ids(lib.risky) == {"03-retire"} with input as fixture.retirement
}

test_finishing_needs_the_new_side_and_burning_needs_none if {
	needed := {endpoint |
		some entry in lib.entries
		some endpoint in lib.endpoints_needed(entry)
	} with input as fixture.finishing
	needed == {"cluster"}
	burning := {endpoint |
		some entry in lib.entries
		some endpoint in lib.endpoints_needed(entry)
	} with input as fixture.before(fixture.abort, "01-burn")
	burning == set()
}

test_null_and_false_are_not_absent if {
	lib.absent({"a", "b", "c.d", "c.e"}) == {"c.e"} with input as {"a": null, "b": false, "c": {"d": 0}}
}
