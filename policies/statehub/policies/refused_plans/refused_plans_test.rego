package statehub.policies.refused_plans_test

import data.statehub.fixture
import data.statehub.policies.refused_plans

_codes(document) := found if {
	found := fixture.codes(refused_plans.deny) with input as document
}

_warnings(document) := found if {
	found := fixture.codes(refused_plans.warn) with input as document
}

_refused(document) := fixture.patched(document, "/plan/refused", {
	"code": "evidence-incomplete",
	"what": "evidence is incomplete",
	"remedy": "finish T01",
})

test_refusal_denies_nothing_at_planning_and_warns if {
	document := fixture.patched(_refused(fixture.cutover), "/phase", "plan")
	_codes(document) == set()
	_warnings(document) == {"refused_plans.refusal"}
}

test_refusal_allows_a_plan_that_was_not_refused_without_a_word if {
	_warnings(fixture.patched(fixture.cutover, "/phase", "plan")) == set()
}

test_refusal_misses_its_reason_and_warns_all_the_same if {
	document := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/phase", "value": "plan"},
		{"op": "replace", "path": "/plan/refused", "value": {}},
	])
	_warnings(document) == {"refused_plans.refusal"}
}

test_carried_out_denies_applying_and_each_step if {
	_codes(_refused(fixture.cutover)) == {"refused_plans.carried_out"}
	_codes(_refused(fixture.before(fixture.cutover, "04-hold"))) == {"refused_plans.carried_out"}
}

test_carried_out_denies_a_plan_without_steps if {
	document := fixture.patched(_refused(fixture.cutover), "/plan/steps", [])
	_codes(document) == {"refused_plans.carried_out"}
}

test_carried_out_allows_steps_that_only_end_an_outage if {
	_codes(_refused(fixture.finishing)) == set()
	_codes(_refused(fixture.abort)) == set()
}

test_carried_out_misses_whether_it_was_refused if {
	_codes(fixture.removed(fixture.cutover, "/plan/refused")) == {"refused_plans.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"refused_plans.missing"}

test_missing_allows_a_complete_document if _codes(fixture.cutover) == set()
