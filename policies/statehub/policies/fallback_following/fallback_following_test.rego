package statehub.policies.fallback_following_test

import data.statehub.fixture
import data.statehub.policies.fallback_following

_codes(document) := found if {
	found := fixture.codes(fallback_following.deny) with input as document
}

_advice(document) := found if {
	found := fixture.codes(fallback_following.warn) with input as document
}

_holding := fixture.before(fixture.switch, "01-hold")

_of_stream(part, value) := fixture.patched(_holding, sprintf("/observed/streams/cluster/%s", [part]), value)

_of_fallback(part, value) := fixture.patched(fixture.followed, sprintf("/observed/streams/wsl2/%s", [part]), value)

test_not_streaming_denies_a_switch_onto_a_side_that_lost_its_stream if {
	_codes(_of_stream("state", "lost")) == {"fallback_following.not_streaming"}
}

test_not_streaming_denies_at_apply_what_is_not_set_up_by_the_plan if {
	document := fixture.patched(fixture.switch, "/observed/streams/cluster/state", "broken")
	_codes(document) == {"fallback_following.not_streaming"}
}

test_not_streaming_allows_a_side_that_follows if _codes(_holding) == set()

test_not_streaming_allows_a_plan_that_sets_it_up_first if _codes(fixture.switch_planned) == set()

test_not_streaming_allows_showing_the_plan if {
	document := fixture.patched(fixture.patched(fixture.switch, "/phase", "plan"), "/observed/streams/cluster/state", "lost")
	_codes(document) == set()
}

test_not_streaming_allows_a_move_by_dump if _codes(fixture.before(fixture.cutover, "04-hold")) == set()

test_not_streaming_misses_the_stream if {
	_codes(fixture.removed(_holding, "/observed/streams/cluster")) == {"fallback_following.not_streaming"}
}

test_too_far_behind_denies_a_backlog_beyond_the_limit if {
	_codes(_of_stream("lag_bytes", 1073741825)) == {"fallback_following.too_far_behind"}
}

test_too_far_behind_allows_exactly_the_limit if _codes(_of_stream("lag_bytes", 1073741824)) == set()

test_too_far_behind_allows_what_streams_known_denies if _codes(_of_stream("lag_bytes", null)) == set()

test_too_far_behind_misses_the_limit if {
	document := fixture.removed(_holding, "/limits/max_lag_bytes")
	_codes(document) == {"fallback_following.too_far_behind", "fallback_following.missing"}
}

test_not_following_denies_nothing_and_says_that_it_stopped if {
	every state in ["nobody", "ready", "broken", "lost"] {
		_advice(_of_fallback("state", state)) == {"fallback_following.not_following"}
	}
}

test_not_following_allows_a_fallback_that_follows_or_is_filled if {
	_advice(fixture.followed) == set()
	_advice(_of_fallback("state", "copying")) == set()
}

test_not_lossless_denies_nothing_and_says_that_rows_may_be_missing if {
	_advice(_of_fallback("lossless", false)) == {"fallback_following.not_lossless"}
}

test_not_lossless_allows_a_fallback_that_has_everything if _advice(_of_fallback("lossless", true)) == set()

test_not_lossless_allows_what_not_following_says_already if {
	document := fixture.patched(_of_fallback("lossless", false), "/observed/streams/wsl2/state", "broken")
	_advice(document) == {"fallback_following.not_following"}
}

test_not_lossless_misses_whether_it_is if {
	_advice(fixture.removed(fixture.followed, "/observed/streams/wsl2/lossless")) == set()
}

test_not_following_allows_a_plan_that_sets_it_up if {
	document := json.patch(_of_fallback("state", "lost"), [{
		"op": "replace",
		"path": "/plan/steps/0/kind",
		"value": "reverse-follow",
	}])
	_advice(document) == set()
}

test_not_following_allows_a_frozen_fallback if {
	document := fixture.patched(_of_fallback("state", "nobody"), "/plan/desired/fallback/mode", "frozen")
	_advice(document) == set()
}

test_not_following_allows_what_is_before_the_move if _advice(fixture.switch) == set()

test_not_following_misses_the_state if {
	_advice(fixture.removed(fixture.followed, "/observed/streams/wsl2/state")) == {"fallback_following.not_following"}
}

test_behind_denies_nothing_and_says_how_far if {
	_advice(_of_fallback("lag_bytes", 67108865)) == {"fallback_following.behind"}
}

test_behind_allows_exactly_the_limit if _advice(_of_fallback("lag_bytes", 67108864)) == set()

test_behind_misses_the_limit if {
	document := fixture.removed(_of_fallback("lag_bytes", 67108865), "/limits/advise_lag_bytes")
	_advice(document) == set()
	_codes(document) == {"fallback_following.missing"}
}

test_retained_denies_nothing_and_says_how_much if {
	_advice(_of_fallback("retained_bytes", 2147483649)) == {"fallback_following.retained"}
}

test_retained_allows_exactly_the_limit if _advice(_of_fallback("retained_bytes", 2147483648)) == set()

test_retained_misses_the_limit if {
	document := fixture.removed(_of_fallback("retained_bytes", 2147483649), "/limits/advise_retained_bytes")
	_advice(document) == set()
	_codes(document) == {"fallback_following.missing"}
}

test_disk_denies_nothing_and_says_how_little if {
	_advice(_of_fallback("disk_free_bytes", 10737418239)) == {"fallback_following.disk"}
}

test_disk_allows_exactly_the_limit if _advice(_of_fallback("disk_free_bytes", 10737418240)) == set()

test_disk_misses_the_limit if {
	document := fixture.removed(_of_fallback("disk_free_bytes", 1), "/limits/advise_disk_free_bytes")
	_advice(document) == set()
	_codes(document) == {"fallback_following.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"fallback_following.missing"}

test_missing_allows_complete_documents if {
	every document in [fixture.followed, fixture.switch, fixture.cutover, fixture.abort] {
		_codes(document) == set()
	}
}
