package statehub.policies.identity_unchanged_test

import data.statehub.fixture
import data.statehub.policies.identity_unchanged

_codes(document) := found if {
	found := fixture.codes(identity_unchanged.deny) with input as document
}

_unknown := {"system_identifier": null, "database": null, "database_oid": null}

test_changed_denies_a_cluster_made_anew if {
	document := fixture.patched(fixture.cutover, "/observed/identities/cluster/system_identifier", "42")
	_codes(document) == {"identity_unchanged.changed"}
}

test_changed_denies_a_database_made_anew_even_when_finishing if {
	document := fixture.patched(fixture.finishing, "/observed/identities/cluster/database_oid", 42)
	_codes(document) == {"identity_unchanged.changed"}
}

test_changed_allows_the_same_databases if _codes(fixture.cutover) == set()

test_changed_misses_a_part_of_the_identity if {
	document := fixture.removed(fixture.cutover, "/observed/identities/cluster/database_oid")
	_codes(document) == {"identity_unchanged.unobserved"}
}

test_unplanned_denies_a_plan_that_does_not_know_its_endpoint if {
	document := fixture.patched(fixture.cutover, "/plan/identities/cluster", _unknown)
	_codes(document) == {"identity_unchanged.unplanned"}
}

test_unplanned_allows_a_plan_that_does if _codes(fixture.retirement) == set()

test_unplanned_misses_the_endpoint if {
	_codes(fixture.removed(fixture.cutover, "/plan/identities/wsl2")) == {"identity_unchanged.unplanned"}
}

test_unobserved_denies_an_endpoint_that_did_not_answer if {
	document := fixture.patched(fixture.cutover, "/observed/identities/wsl2", _unknown)
	_codes(document) == {"identity_unchanged.unobserved"}
}

test_unobserved_allows_finishing_without_the_old_side if {
	document := fixture.patched(fixture.before(fixture.finishing, "01-open"), "/observed/identities/wsl2", _unknown)
	_codes(document) == set()
}

test_unobserved_misses_the_endpoint if {
	_codes(fixture.removed(fixture.cutover, "/observed/identities/wsl2")) == {"identity_unchanged.unobserved"}
}

test_same_database_denies_a_move_onto_itself if {
	identity := fixture.cutover.plan.identities.wsl2
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/plan/identities/cluster", "value": identity},
		{"op": "replace", "path": "/observed/identities/cluster", "value": identity},
	])
	_codes(document) == {"identity_unchanged.same_database"}
}

test_same_database_allows_two_databases_of_one_cluster if {
	identity := object.union(fixture.cutover.plan.identities.wsl2, {"database": "hub2", "database_oid": 16999})
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/plan/identities/cluster", "value": identity},
		{"op": "replace", "path": "/observed/identities/cluster", "value": identity},
	])
	_codes(document) == set()
}

test_same_database_misses_both_identities if {
	document := fixture.patched(fixture.cutover, "/observed/identities", {})
	_codes(document) == {"identity_unchanged.unobserved"}
}

test_missing_denies_an_empty_document if _codes({}) == {"identity_unchanged.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
