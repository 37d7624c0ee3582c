package statehub.policies.canary_test

import data.statehub.fixture
import data.statehub.policies.canary

test_sings_denies_the_canary_document_and_repeats_its_nonce if {
	found := canary.deny with input as {"schema": "statehub-plan/canary/v1", "nonce": "n1"}
	fixture.codes(found) == {"canary.sings"}
	{finding.evidence.nonce | some finding in found} == {"n1"}
}

test_sings_allows_a_document_about_a_plan if {
	fixture.codes(canary.deny) == set() with input as fixture.cutover
}

test_sings_misses_a_nonce_and_still_denies if {
	fixture.codes(canary.deny) == {"canary.sings"} with input as {"schema": "statehub-plan/canary/v1"}
}
