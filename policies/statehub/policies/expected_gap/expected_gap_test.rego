package statehub.policies.expected_gap_test

import data.statehub.fixture
import data.statehub.policies.expected_gap

_codes(document) := found if {
	found := fixture.codes(expected_gap.deny) with input as document
}

_advice(document) := found if {
	found := fixture.codes(expected_gap.warn) with input as document
}

_holding := fixture.before(fixture.switch, "01-hold")

_predicting(document, value) := fixture.patched(document, "/observed/facts/rehearsal/value/predicted_hold_ms", value)

# As an earlier release of the tool recorded it.
_earlier(document, value) := fixture.patched(
	fixture.removed(document, "/observed/facts/rehearsal/value/predicted_hold_ms"),
	"/observed/facts/rehearsal/value/predicted_gap_ms",
	value,
)

test_too_long_denies_a_gap_beyond_the_time_out if {
	_codes(_predicting(_holding, 5001)) == {"expected_gap.too_long"}
}

test_too_long_allows_exactly_the_time_out if _codes(_predicting(_holding, 5000)) == set()

test_too_long_allows_clients_that_come_back_after_it if {
	_codes(fixture.patched(_holding, "/observed/facts/rehearsal/value/predicted_gap_ms", 9000)) == set()
}

test_too_long_denies_by_the_gap_where_the_hold_was_not_told_apart if {
	_codes(_earlier(_holding, 5001)) == {"expected_gap.too_long"}
	_codes(_earlier(_holding, 5000)) == set()
}

test_too_long_allows_a_plan_that_rehearses_first if _codes(fixture.switch_planned) == set()

test_too_long_misses_the_limit if {
	_codes(fixture.removed(_holding, "/limits/switch_timeout_ms")) == {"expected_gap.too_long", "expected_gap.missing"}
}

test_unknown_denies_a_receipt_without_a_number if _codes(_predicting(_holding, "60")) == {"expected_gap.unknown"}

test_unknown_denies_a_hold_without_a_rehearsal if {
	_codes(fixture.removed(_holding, "/observed/facts/rehearsal")) == {"expected_gap.unknown"}
}

test_unknown_allows_moves_by_dump_and_planning if {
	_codes(fixture.before(fixture.cutover, "04-hold")) == set()
	planning := fixture.patched(fixture.switch, "/phase", "plan")
	_codes(fixture.removed(planning, "/observed/facts/rehearsal")) == set()
}

test_unknown_misses_the_prediction if {
	_codes(fixture.removed(_earlier(_holding, 60), "/observed/facts/rehearsal/value/predicted_gap_ms")) == {"expected_gap.unknown"}
}

test_long_denies_nothing_and_says_how_long if _advice(_predicting(fixture.switch, 2501)) == {"expected_gap.long"}

test_long_allows_half_of_the_time_out if _advice(_predicting(fixture.switch, 2500)) == set()

test_long_misses_the_limit if {
	document := fixture.removed(_predicting(fixture.switch, 2501), "/limits/switch_timeout_ms")
	_advice(document) == set()
	_codes(document) == {"expected_gap.too_long", "expected_gap.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"expected_gap.missing"}

test_missing_allows_complete_documents if {
	every document in [fixture.followed, fixture.switch_planned, fixture.abort] {
		_codes(document) == set()
	}
}
