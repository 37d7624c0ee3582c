package statehub.policies.retire_after_drills_test

import data.statehub.fixture
import data.statehub.policies.retire_after_drills

_codes(document) := found if {
	found := fixture.codes(retire_after_drills.deny) with input as document
}

_retiring := fixture.before(fixture.retirement, "03-retire")

test_not_done_denies_retiring_before_the_failover_drill if {
	document := fixture.patched(fixture.retirement, "/plan/trajectory/2/failover_drill", "due")
	_codes(document) == {"retire_after_drills.not_done"}
}

test_not_done_denies_after_a_restore_drill_that_failed if {
	document := fixture.patched(_retiring, "/observed/world/restore_drill", "failed")
	_codes(document) == {"retire_after_drills.not_done"}
}

test_not_done_allows_drills_on_the_way if _codes(fixture.retirement) == set()

test_not_done_misses_the_state_of_a_drill if {
	document := fixture.removed(_retiring, "/observed/world/restore_drill")
	_codes(document) == {"retire_after_drills.not_done"}
}

test_not_fresh_denies_a_drill_older_than_its_limit if {
	document := fixture.patched(_retiring, "/history/drills/0/at", fixture.now - 604801)
	_codes(document) == {"retire_after_drills.not_fresh"}
}

test_not_fresh_denies_a_drill_that_failed if {
	_codes(fixture.patched(_retiring, "/history/drills/1/passed", false)) == {"retire_after_drills.not_fresh"}
}

test_not_fresh_denies_a_drill_of_tomorrow if {
	document := fixture.patched(_retiring, "/history/drills/1/at", fixture.now + 6)
	_codes(document) == {"retire_after_drills.not_fresh"}
}

test_not_fresh_denies_a_drill_that_the_plan_does_not_declare if {
	document := fixture.patched(_retiring, "/limits/failover_drill_max_age_s", null)
	_codes(document) == {"retire_after_drills.not_fresh"}
}

test_not_fresh_denies_a_plan_that_runs_no_drill_and_has_none_on_record if {
	document := json.patch(fixture.retirement, [
		{"op": "replace", "path": "/plan/steps/1/kind", "value": "check-evidence"},
		{"op": "replace", "path": "/history/drills", "value": []},
	])
	_codes(document) == {"retire_after_drills.not_fresh"}
}

test_not_fresh_allows_a_drill_of_exactly_the_limit if {
	_codes(fixture.patched(_retiring, "/history/drills/0/at", fixture.now - 604800)) == set()
}

test_not_fresh_allows_a_plan_that_runs_both_drills_first if {
	_codes(fixture.patched(fixture.retirement, "/history/drills", [])) == set()
}

test_not_fresh_misses_the_records if {
	_codes(fixture.patched(_retiring, "/history/drills", [])) == {"retire_after_drills.not_fresh"}
}

test_gate_shared_denies_one_gate_for_both if {
	document := fixture.patched(fixture.retirement, "/plan/gates/1/guards", ["retire", "decide"])
	_codes(document) == {"retire_after_drills.gate_shared"}
}

test_gate_shared_allows_a_gate_of_its_own if _codes(_retiring) == set()

test_gate_shared_misses_the_gates if {
	_codes(fixture.removed(fixture.retirement, "/plan/gates")) == {"retire_after_drills.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"retire_after_drills.missing"}

test_missing_allows_a_complete_document if _codes(fixture.cutover) == set()
