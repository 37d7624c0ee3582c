package statehub.policies.streams_known_test

import data.statehub.fixture
import data.statehub.policies.streams_known

_codes(document) := found if {
	found := fixture.codes(streams_known.deny) with input as document
}

_advice(document) := found if {
	found := fixture.codes(streams_known.warn) with input as document
}

_holding := fixture.before(fixture.switch, "01-hold")

_of_stream(part, value) := fixture.patched(_holding, sprintf("/observed/streams/cluster/%s", [part]), value)

test_unseen_denies_a_stream_of_which_one_end_did_not_answer if {
	_codes(_of_stream("observed", false)) == {"streams_known.unseen"}
}

test_unseen_denies_at_apply_as_well if {
	_codes(fixture.patched(fixture.switch, "/observed/streams/cluster/observed", false)) == {"streams_known.unseen"}
}

test_unseen_allows_a_stream_that_was_seen if _codes(_holding) == set()

test_unseen_allows_a_plan_that_sets_the_stream_up_first if {
	document := fixture.patched(fixture.switch_planned, "/observed/streams/cluster/observed", false)
	_codes(document) == set()
}

test_unseen_allows_planning_while_nobody_answers if {
	document := fixture.patched(fixture.patched(fixture.switch, "/phase", "plan"), "/observed/streams/cluster/observed", false)
	_codes(document) == set()
}

test_unseen_allows_a_move_by_dump if _codes(fixture.before(fixture.cutover, "04-hold")) == set()

test_unseen_misses_the_stream if {
	_codes(fixture.removed(_holding, "/observed/streams/cluster")) == {
		"streams_known.unseen",
		"streams_known.disk_unknown",
	}
}

test_unmeasured_denies_a_lag_that_is_not_known if _codes(_of_stream("lag_bytes", null)) == {"streams_known.unmeasured"}

test_unmeasured_denies_a_retention_that_is_not_known if {
	_codes(_of_stream("retained_bytes", null)) == {"streams_known.unmeasured"}
}

test_unmeasured_allows_zero if _codes(_of_stream("lag_bytes", 0)) == set()

test_unmeasured_misses_the_figure if {
	_codes(fixture.removed(_holding, "/observed/streams/cluster/lag_bytes")) == {"streams_known.unmeasured"}
}

test_disk_unknown_denies_a_command_that_failed if {
	_codes(_of_stream("disk_free_bytes", null)) == {"streams_known.disk_unknown"}
}

test_disk_unknown_allows_a_disk_that_nobody_watches if {
	document := fixture.patched(_of_stream("disk_free_bytes", null), "/plan/disks_watched", ["cluster"])
	_codes(document) == set()
}

test_disk_unknown_misses_the_other_disk_as_well if {
	document := fixture.removed(_holding, "/observed/streams/wsl2/disk_free_bytes")
	_codes(document) == {"streams_known.disk_unknown"}
}

test_disk_unwatched_denies_nothing_and_says_which if {
	_advice(fixture.patched(fixture.switch, "/plan/disks_watched", ["wsl2"])) == {"streams_known.disk_unwatched"}
}

test_disk_unwatched_allows_both_watched if _advice(fixture.switch) == set()

test_disk_unwatched_misses_the_list if {
	_advice(fixture.removed(fixture.switch, "/plan/disks_watched")) == {"streams_known.disk_unwatched"}
}

test_missing_denies_an_empty_document if _codes({}) == {"streams_known.missing"}

test_missing_allows_complete_documents if {
	every document in [fixture.followed, fixture.switch_planned, fixture.abort] {
		_codes(document) == set()
	}
}
