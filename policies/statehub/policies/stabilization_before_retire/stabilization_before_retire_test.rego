package statehub.policies.stabilization_before_retire_test

import data.statehub.fixture
import data.statehub.policies.stabilization_before_retire

_codes(document) := found if {
	found := fixture.codes(stabilization_before_retire.deny) with input as document
}

_retiring := fixture.before(fixture.retirement, "03-retire")

test_not_passed_denies_retiring_while_it_runs if {
	document := fixture.patched(_retiring, "/observed/world/stabilization", "running")
	_codes(document) == {"stabilization_before_retire.not_passed"}
}

test_not_passed_denies_a_plan_that_does_not_wait_for_it if {
	document := fixture.patched(fixture.retirement, "/plan/trajectory/2/stabilization", "none")
	_codes(document) == {"stabilization_before_retire.not_passed"}
}

test_not_passed_allows_retiring_afterwards if _codes(_retiring) == set()

test_not_passed_misses_the_state if {
	_codes(fixture.removed(_retiring, "/observed/world/stabilization")) == {"stabilization_before_retire.not_passed"}
}

test_clients_left_denies_retiring_while_some_clients_use_the_old_side if {
	document := fixture.patched(_retiring, "/observed/world/access", "split")
	_codes(document) == {"stabilization_before_retire.clients_left"}
}

test_clients_left_allows_a_side_that_nobody_uses if _codes(fixture.retirement) == set()

test_clients_left_misses_where_clients_are if {
	_codes(fixture.removed(_retiring, "/observed/world/access")) == {"stabilization_before_retire.clients_left"}
}

test_missing_denies_an_empty_document if _codes({}) == {"stabilization_before_retire.missing"}

test_missing_allows_a_complete_document if _codes(fixture.cutover) == set()
