package statehub.policies.register_forward_test

import data.statehub.fixture
import data.statehub.policies.register_forward

_codes(document) := found if {
	found := fixture.codes(register_forward.deny) with input as document
}

_with_rows(document, endpoint, rows) := fixture.patched(
	document,
	sprintf("/observed/facts/%s.register/value", [endpoint]),
	rows,
)

test_term_taken_denies_a_term_that_was_burned if {
	document := _with_rows(fixture.cutover, "cluster", [{"term": 2, "primary": null}])
	_codes(document) == {"register_forward.term_taken"}
}

test_term_taken_denies_a_term_below_one_on_either_side if {
	document := _with_rows(fixture.cutover, "wsl2", [{"term": 3, "primary": "wsl2"}])
	_codes(document) == {"register_forward.term_taken"}
}

test_term_taken_allows_the_next_free_term if _codes(fixture.cutover) == set()

test_term_taken_allows_finishing_the_term_that_was_decided if {
	_codes(_with_rows(fixture.finishing, "cluster", [{"term": 2, "primary": "cluster"}])) == set()
}

test_term_taken_misses_the_term_of_a_row if {
	document := _with_rows(fixture.cutover, "cluster", [{"primary": null}])
	_codes(document) == {"register_forward.unknown"}
}

test_primary_differs_denies_a_world_that_the_register_contradicts if {
	document := _with_rows(fixture.cutover, "cluster", [{"term": 1, "primary": "cluster"}])
	_codes(document) == {"register_forward.primary_differs"}
}

test_primary_differs_denies_finishing_after_a_later_decision if {
	document := _with_rows(fixture.finishing, "wsl2", [{"term": 3, "primary": "wsl2"}])
	_codes(document) == {"register_forward.primary_differs"}
}

test_primary_differs_allows_an_earlier_decision_that_was_overtaken if {
	document := _with_rows(
		_with_rows(fixture.finishing, "wsl2", [{"term": 1, "primary": "wsl2"}]),
		"cluster", [{"term": 2, "primary": "cluster"}, {"term": 3, "primary": null}],
	)
	_codes(document) == set()
}

test_primary_differs_misses_the_observed_primary if {
	document := fixture.removed(
		_with_rows(fixture.cutover, "wsl2", [{"term": 1, "primary": "wsl2"}]),
		"/observed/world/primary",
	)
	_codes(document) == {"register_forward.primary_differs"}
}

test_no_decision_denies_a_primary_that_moves_by_itself if {
	document := fixture.patched(fixture.cutover, "/plan/steps/8/kind", "open")
	_codes(document) == {"register_forward.no_decision"}
}

test_no_decision_denies_a_primary_that_moves_back if {
	document := fixture.patched(fixture.cutover, "/plan/trajectory/12/primary", "old")
	_codes(document) == {"register_forward.no_decision"}
}

test_no_decision_allows_a_decision if _codes(fixture.before(fixture.cutover, "09-decide")) == set()

test_no_decision_misses_the_trajectory if {
	_codes(fixture.removed(fixture.cutover, "/plan/trajectory")) == {"register_forward.missing"}
}

test_unknown_denies_a_register_that_could_not_be_read if {
	fact := {"status": "unknown", "value": null, "observed_at": fixture.now}
	_codes(fixture.patched(fixture.cutover, "/observed/facts/wsl2.register", fact)) == {"register_forward.unknown"}
}

test_unknown_allows_an_empty_register if _codes(_with_rows(fixture.cutover, "cluster", [])) == set()

test_unknown_allows_finishing_without_the_old_side if {
	fact := {"status": "unknown", "value": null, "observed_at": fixture.now}
	_codes(fixture.patched(fixture.finishing, "/observed/facts/wsl2.register", fact)) == set()
}

test_unknown_misses_the_register if {
	_codes(fixture.removed(fixture.cutover, "/observed/facts/wsl2.register")) == {"register_forward.unknown"}
}

test_missing_denies_an_empty_document if _codes({}) == {"register_forward.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
