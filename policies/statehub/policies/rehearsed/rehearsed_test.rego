package statehub.policies.rehearsed_test

import data.statehub.fixture
import data.statehub.policies.rehearsed

_codes(document) := found if {
	found := fixture.codes(rehearsed.deny) with input as document
}

_holding := fixture.before(fixture.switch, "01-hold")

_with_rehearsal(part, value) := fixture.patched(
	_holding,
	sprintf("/observed/facts/rehearsal/value/%s", [part]),
	value,
)

test_none_denies_a_hold_that_was_never_rehearsed if {
	_codes(fixture.patched(_holding, "/observed/facts/rehearsal/value", null)) == {"rehearsed.none"}
}

test_none_allows_a_plan_that_rehearses_first if _codes(fixture.switch_planned) == set()

test_none_allows_planning_and_moves_by_dump if {
	planning := fixture.patched(fixture.switch, "/phase", "plan")
	_codes(fixture.removed(planning, "/observed/facts/rehearsal")) == set()
	_codes(fixture.before(fixture.cutover, "04-hold")) == set()
}

test_none_misses_the_fact if {
	_codes(fixture.removed(_holding, "/observed/facts/rehearsal")) == {"rehearsed.none"}
	_codes(fixture.patched(_holding, "/observed/facts/rehearsal/status", "unknown")) == {"rehearsed.none"}
}

test_failed_denies_one_that_failed if _codes(_with_rehearsal("state", "failed")) == {"rehearsed.failed"}

test_failed_allows_one_that_passed if _codes(_holding) == set()

test_failed_misses_the_outcome if {
	_codes(fixture.removed(_holding, "/observed/facts/rehearsal/value/state")) == {"rehearsed.failed"}
}

test_not_fresh_denies_one_of_the_day_before_yesterday if {
	_codes(_with_rehearsal("at", fixture.now - 86401)) == {"rehearsed.not_fresh"}
}

test_not_fresh_denies_one_of_tomorrow if _codes(_with_rehearsal("at", fixture.now + 6)) == {"rehearsed.not_fresh"}

test_not_fresh_allows_exactly_the_limit if _codes(_with_rehearsal("at", fixture.now - 86400)) == set()

test_not_fresh_misses_the_instant_and_the_limit if {
	_codes(fixture.removed(_holding, "/observed/facts/rehearsal/value/at")) == {"rehearsed.not_fresh"}
	_codes(fixture.patched(_holding, "/limits/rehearsal_max_age_s", null)) == {"rehearsed.not_fresh"}
}

test_of_another_denies_one_of_another_term if _codes(_with_rehearsal("term", 1)) == {"rehearsed.of_another"}

test_of_another_denies_one_of_the_other_direction if {
	_codes(_with_rehearsal("stream", fixture.slot_into.wsl2)) == {"rehearsed.of_another"}
}

test_of_another_allows_the_one_of_this_switch if _codes(fixture.switch) == set()

test_of_another_misses_the_stream if {
	_codes(fixture.removed(_holding, "/observed/facts/rehearsal/value/stream")) == {"rehearsed.of_another"}
	_codes(fixture.removed(_holding, "/observed/streams/cluster")) == {"rehearsed.of_another"}
}

test_missing_denies_an_empty_document if _codes({}) == {"rehearsed.missing"}

test_missing_allows_complete_documents if {
	every document in [fixture.followed, fixture.switch_planned, fixture.abort] {
		_codes(document) == set()
	}
}
