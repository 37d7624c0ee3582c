package statehub.policies.fallback_kept_test

import data.statehub.fixture
import data.statehub.policies.fallback_kept

_codes(document) := found if {
	found := fixture.codes(fallback_kept.deny) with input as document
}

test_not_the_other_side_denies_the_primary_as_its_own_fallback if {
	document := fixture.patched(fixture.cutover, "/plan/desired/fallback/endpoint", "cluster")
	_codes(document) == {"fallback_kept.not_the_other_side"}
}

test_not_the_other_side_denies_a_wish_that_is_not_where_the_plan_goes if {
	_codes(fixture.patched(fixture.cutover, "/plan/desired/primary", "wsl2")) == {"fallback_kept.not_the_other_side"}
}

test_not_the_other_side_allows_the_other_side if _codes(fixture.cutover) == set()

test_not_the_other_side_misses_the_endpoint if {
	_codes(fixture.removed(fixture.cutover, "/plan/desired/fallback/endpoint")) == {"fallback_kept.missing"}
}

test_mode_unknown_denies_a_misspelt_mode if {
	_codes(fixture.patched(fixture.cutover, "/plan/desired/fallback/mode", "frozzen")) == {"fallback_kept.mode_unknown"}
}

test_mode_unknown_allows_a_following_fallback if {
	_codes(fixture.patched(fixture.cutover, "/plan/desired/fallback/mode", "following")) == set()
}

test_mode_unknown_misses_the_mode if {
	document := fixture.removed(fixture.cutover, "/plan/desired/fallback/mode")
	_codes(document) == {"fallback_kept.mode_unknown", "fallback_kept.missing"}
}

test_retired_unwished_denies_retiring_a_retained_fallback if {
	document := fixture.patched(fixture.retirement, "/plan/desired/fallback/mode", "frozen")
	_codes(document) == {"fallback_kept.retired_unwished"}
}

test_retired_unwished_allows_a_wish if _codes(fixture.retirement) == set()

test_retired_unwished_misses_the_fallback_block if {
	document := fixture.removed(fixture.retirement, "/plan/desired/fallback")
	_codes(document) == {
		"fallback_kept.retired_unwished",
		"fallback_kept.mode_unknown",
		"fallback_kept.missing",
	}
}

test_primary_retired_denies_retiring_the_primary if {
	document := fixture.patched(fixture.retirement, "/plan/steps/2/subject", "cluster")
	_codes(document) == {"fallback_kept.primary_retired"}
}

test_primary_retired_denies_retiring_before_the_move if {
	document := fixture.patched(fixture.before(fixture.retirement, "03-retire"), "/observed/world/primary", "old")
	_codes(document) == {"fallback_kept.primary_retired"}
}

test_primary_retired_allows_retiring_the_fallback if {
	_codes(fixture.before(fixture.retirement, "03-retire")) == set()
}

test_primary_retired_misses_the_primary if {
	document := fixture.removed(fixture.before(fixture.retirement, "03-retire"), "/observed/world/primary")
	_codes(document) == {"fallback_kept.primary_retired"}
}

test_retired_in_passing_denies_a_retirement_without_a_step if {
	_codes(fixture.patched(fixture.cutover, "/plan/trajectory/11/retired", true)) == {"fallback_kept.retired_in_passing"}
}

test_retired_in_passing_allows_a_step_that_retires if _codes(fixture.retirement) == set()

test_retired_in_passing_misses_how_it_was_before if {
	document := json.patch(fixture.cutover, [
		{"op": "remove", "path": "/plan/trajectory/10/retired"},
		{"op": "replace", "path": "/plan/trajectory/11/retired", "value": true},
	])
	_codes(document) == {"fallback_kept.retired_in_passing"}
}

test_overwritten_denies_a_copy_in_the_wrong_direction if {
	_codes(fixture.patched(fixture.cutover, "/plan/steps/4/subject", "wsl2")) == {"fallback_kept.overwritten"}
}

test_overwritten_denies_preparing_a_side_that_is_primary if {
	document := fixture.patched(fixture.before(fixture.cutover, "03-prepare-target"), "/observed/world/primary", "new")
	_codes(document) == {"fallback_kept.overwritten"}
}

test_overwritten_allows_filling_the_new_side if {
	_codes(fixture.before(fixture.cutover, "03-prepare-target")) == set()
}

test_overwritten_misses_the_subject if {
	_codes(fixture.patched(fixture.cutover, "/plan/steps/4/subject", null)) == {"fallback_kept.overwritten"}
}

test_dropped_denies_an_old_side_without_data if {
	_codes(fixture.patched(fixture.cutover, "/plan/trajectory/13/old/data", "absent")) == {"fallback_kept.dropped"}
}

test_dropped_allows_an_old_side_that_falls_behind if {
	_codes(fixture.patched(fixture.cutover, "/plan/trajectory/13/old/data", "stale")) == set()
}

test_dropped_misses_the_trajectory if {
	_codes(fixture.removed(fixture.cutover, "/plan/trajectory")) == {"fallback_kept.missing", "fallback_kept.overwritten"}
}

test_missing_denies_an_empty_document if {
	_codes({}) == {"fallback_kept.missing", "fallback_kept.mode_unknown"}
}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
