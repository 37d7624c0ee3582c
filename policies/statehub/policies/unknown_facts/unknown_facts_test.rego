package statehub.policies.unknown_facts_test

import data.statehub.fixture
import data.statehub.policies.unknown_facts

_codes(document) := found if {
	found := fixture.codes(unknown_facts.deny) with input as document
}

_unknown := {"status": "unknown", "value": null, "observed_at": fixture.now}

test_unknown_denies_each_decisive_fact if {
	every suffix in ["reach", "identity", "writes", "register"] {
		document := fixture.patched(fixture.cutover, sprintf("/observed/facts/wsl2.%s", [suffix]), _unknown)
		_codes(document) == {"unknown_facts.unknown"}
	}
}

test_unknown_denies_opening_a_side_that_could_not_be_looked_at if {
	document := fixture.patched(fixture.before(fixture.finishing, "01-open"), "/observed/facts/cluster.writes", _unknown)
	_codes(document) == {"unknown_facts.unknown"}
}

test_unknown_allows_known_facts if _codes(fixture.cutover) == set()

test_unknown_allows_finishing_without_the_old_side if {
	_codes(fixture.patched(fixture.finishing, "/observed/facts/wsl2.writes", _unknown)) == set()
}

test_unknown_allows_burning_without_knowing_more if {
	burning := fixture.before(fixture.abort, "01-burn")
	_codes(fixture.patched(burning, "/observed/facts/cluster.writes", _unknown)) == set()
}

test_unknown_misses_the_status_of_a_fact if {
	_codes(fixture.removed(fixture.cutover, "/observed/facts/wsl2.writes/status")) == {"unknown_facts.unknown"}
}

test_not_looked_at_denies_a_shorter_observation if {
	_codes(fixture.removed(fixture.retirement, "/observed/facts/cluster.identity")) == {"unknown_facts.not_looked_at"}
}

test_not_looked_at_allows_a_complete_observation if _codes(fixture.retirement) == set()

test_not_looked_at_misses_all_facts if {
	_codes(fixture.patched(fixture.cutover, "/observed/facts", {})) == {"unknown_facts.not_looked_at"}
}

test_world_denies_a_hold_in_a_world_that_is_a_guess if {
	every path in ["primary", "term", "old/writes", "new/reach"] {
		document := fixture.patched(
			fixture.before(fixture.cutover, "04-hold"),
			sprintf("/observed/world/%s", [path]), "unknown",
		)
		_codes(document) == {"unknown_facts.world"}
	}
}

test_world_allows_a_hold_in_a_known_world if _codes(fixture.before(fixture.cutover, "04-hold")) == set()

test_world_misses_a_part_of_the_world if {
	document := fixture.removed(fixture.before(fixture.cutover, "04-hold"), "/observed/world/old/writes")
	_codes(document) == {"unknown_facts.world"}
}

test_missing_denies_an_empty_document if _codes({}) == {"unknown_facts.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
