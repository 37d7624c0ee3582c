package statehub.policies.slot_retention_test

import data.statehub.fixture
import data.statehub.policies.slot_retention

_codes(document) := found if {
	found := fixture.codes(slot_retention.deny) with input as document
}

_advice(document) := found if {
	found := fixture.codes(slot_retention.warn) with input as document
}

_holding := fixture.before(fixture.switch, "01-hold")

_orphan(retained) := {"endpoint": "wsl2", "name": "statehub_plan_1_2", "retained_bytes": retained}

_beside(document, retained) := fixture.patched(document, "/observed/orphans", [_orphan(retained)])

test_orphan_denies_a_hold_beside_a_slot_beyond_the_limit if {
	_codes(_beside(_holding, 8589934593)) == {"slot_retention.orphan"}
}

test_orphan_denies_whatever_way_rows_travel if {
	_codes(_beside(fixture.cutover, 8589934593)) == {"slot_retention.orphan"}
}

test_orphan_allows_exactly_the_limit if _codes(_beside(_holding, 8589934592)) == set()

test_orphan_allows_planning_and_finishing if {
	_codes(_beside(fixture.patched(fixture.switch, "/phase", "plan"), 8589934593)) == set()
	_codes(_beside(fixture.followed, 8589934593)) == set()
}

test_orphan_misses_the_limit if {
	document := fixture.removed(_beside(_holding, 1), "/limits/drop_slot_at_retained_bytes")
	_codes(document) == {"slot_retention.orphan", "slot_retention.missing"}
}

test_disk_denies_a_hold_on_a_disk_below_the_limit if {
	every endpoint in ["wsl2", "cluster"] {
		path := sprintf("/observed/streams/%s/disk_free_bytes", [endpoint])
		_codes(fixture.patched(_holding, path, 4294967295)) == {"slot_retention.disk"}
	}
}

test_disk_allows_exactly_the_limit if {
	_codes(fixture.patched(_holding, "/observed/streams/wsl2/disk_free_bytes", 4294967296)) == set()
}

test_disk_allows_what_streams_known_denies if {
	_codes(fixture.patched(_holding, "/observed/streams/wsl2/disk_free_bytes", null)) == set()
}

test_disk_misses_the_limit if {
	_codes(fixture.removed(_holding, "/limits/drop_slot_at_disk_free_bytes")) == {
		"slot_retention.disk",
		"slot_retention.missing",
	}
}

test_forgotten_denies_nothing_and_names_the_slot if {
	_advice(_beside(fixture.followed, 2147483649)) == {"slot_retention.forgotten"}
}

test_forgotten_allows_a_small_one if _advice(_beside(fixture.followed, 2147483648)) == set()

test_forgotten_misses_how_much_it_keeps if {
	_advice(_beside(fixture.followed, null)) == {"slot_retention.forgotten"}
}

test_disk_low_denies_nothing_and_says_so_before_the_hold if {
	document := fixture.patched(fixture.switch, "/observed/streams/wsl2/disk_free_bytes", 10737418239)
	_advice(document) == {"slot_retention.disk_low"}
}

test_disk_low_allows_exactly_the_limit if {
	_advice(fixture.patched(fixture.switch, "/observed/streams/wsl2/disk_free_bytes", 10737418240)) == set()
}

test_disk_low_misses_the_limit if {
	document := fixture.removed(fixture.switch, "/limits/advise_disk_free_bytes")
	_advice(document) == set()
	_codes(document) == {"slot_retention.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"slot_retention.missing"}

test_missing_allows_complete_documents if {
	every document in [fixture.followed, fixture.switch, fixture.cutover, fixture.abort] {
		_codes(document) == set()
	}
}
