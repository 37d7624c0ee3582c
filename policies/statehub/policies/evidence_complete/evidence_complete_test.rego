package statehub.policies.evidence_complete_test

import data.statehub.fixture
import data.statehub.policies.evidence_complete

_codes(document) := found if {
	found := fixture.codes(evidence_complete.deny) with input as document
}

_failed := fixture.patched(fixture.cutover, "/evidence/0/status", "failed")

test_failed_denies_a_move if _codes(_failed) == {"evidence_complete.failed"}

test_failed_denies_a_probe_that_passed_and_failed if {
	again := object.union(fixture.cutover.evidence[0], {"status": "failed"})
	document := fixture.patched(fixture.cutover, "/evidence", array.concat(fixture.cutover.evidence, [again]))
	_codes(document) == {"evidence_complete.failed"}
}

test_failed_denies_a_retirement if {
	_codes(fixture.patched(fixture.retirement, "/evidence/0/status", "failed")) == {"evidence_complete.failed"}
}

test_failed_allows_probes_that_passed if _codes(fixture.cutover) == set()

test_failed_allows_finishing if _codes(fixture.patched(fixture.finishing, "/evidence/0/status", "failed")) == set()

test_failed_misses_the_status if {
	_codes(fixture.removed(fixture.cutover, "/evidence/0/status")) == {"evidence_complete.unknown"}
}

test_unknown_denies_a_probe_that_could_not_be_asked if {
	_codes(fixture.patched(fixture.cutover, "/evidence/0/status", "unknown")) == {"evidence_complete.unknown"}
}

test_unknown_allows_probes_that_passed if _codes(fixture.retirement) == set()

test_unknown_misses_the_status_and_its_detail if {
	document := fixture.patched(fixture.cutover, "/evidence/0", {"task": "T01", "probe": "image"})
	_codes(document) == {"evidence_complete.unknown"}
}

test_left_out_denies_a_shorter_list if {
	_codes(fixture.patched(fixture.cutover, "/evidence", [])) == {"evidence_complete.left_out"}
}

test_left_out_allows_a_plan_without_probes if {
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/evidence", "value": []},
		{"op": "replace", "path": "/plan/tasks", "value": []},
	])
	_codes(document) == set()
}

test_left_out_misses_what_the_evidence_is_about if {
	_codes(fixture.removed(fixture.cutover, "/evidence/0/probe")) == {"evidence_complete.left_out"}
}

test_missing_denies_an_empty_document if _codes({}) == {"evidence_complete.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
