package statehub.policies.no_unknown_step_test

import data.statehub.fixture
import data.statehub.policies.no_unknown_step

_codes(document) := found if {
	found := fixture.codes(no_unknown_step.deny) with input as document
}

_with_unknown(document) := fixture.patched(document, "/history/unknown_steps", ["05-copy"])

test_outcome_unknown_denies_a_move if {
	_codes(_with_unknown(fixture.cutover)) == {"no_unknown_step.outcome_unknown"}
}

test_outcome_unknown_denies_a_retirement if {
	_codes(_with_unknown(fixture.retirement)) == {"no_unknown_step.outcome_unknown"}
}

test_outcome_unknown_allows_a_known_past if _codes(fixture.cutover) == set()

test_outcome_unknown_allows_finishing_and_calling_off if {
	_codes(_with_unknown(fixture.finishing)) == set()
	_codes(_with_unknown(fixture.abort)) == set()
}

test_outcome_unknown_misses_the_history if {
	_codes(fixture.removed(fixture.cutover, "/history")) == {"no_unknown_step.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"no_unknown_step.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
