package statehub.policies.thresholds_test

import data.statehub.fixture
import data.statehub.policies.thresholds

_codes(document) := found if {
	found := fixture.codes(thresholds.deny) with input as document
}

_codes_under(ceilings) := found if {
	found := fixture.codes(thresholds.deny) with input as fixture.cutover
		with data.statehub.thresholds.ceilings as ceilings
}

_ceilings := data.statehub.thresholds.ceilings

test_absent_denies_a_bundle_without_a_ceiling if {
	_codes_under(object.remove(_ceilings, {"hold_max_s"})) == {"thresholds.absent"}
}

test_absent_denies_a_bundle_without_its_data if {
	found := fixture.codes(thresholds.deny) with input as fixture.cutover
		with data.statehub.thresholds as {}
	found == {"thresholds.absent", "thresholds.floor"}
}

test_absent_allows_all_ceilings if _codes_under(_ceilings) == set()

test_absent_misses_even_the_tolerance_for_clocks if {
	_codes_under(object.remove(_ceilings, {"clock_tolerance_s"})) == {"thresholds.absent"}
}

test_ceiling_type_denies_a_text_a_negative_and_null if {
	every wrong in ["3600", -1, null] {
		_codes_under(object.union(_ceilings, {"hold_max_s": wrong})) == {"thresholds.ceiling_type"}
	}
}

test_ceiling_type_allows_seconds if _codes_under(object.union(_ceilings, {"hold_max_s": 1800})) == set()

test_ceiling_type_misses_the_ceiling_and_says_so if {
	_codes_under(object.remove(_ceilings, {"backup_max_age_s"})) == {"thresholds.absent"}
}

test_limit_type_denies_a_text_and_a_null_that_means_nothing if {
	_codes(fixture.patched(fixture.cutover, "/limits/backup_max_age_s", "24h")) == {"thresholds.limit_type"}
	_codes(fixture.patched(fixture.cutover, "/limits/hold_max_s", null)) == {"thresholds.limit_type"}
}

test_limit_type_allows_a_drill_that_is_not_declared if {
	_codes(fixture.patched(fixture.cutover, "/limits/failover_drill_max_age_s", null)) == set()
}

test_limit_type_misses_the_limit if {
	_codes(fixture.removed(fixture.cutover, "/limits/hold_max_s")) == {"thresholds.missing"}
}

test_too_lax_denies_a_backup_age_of_a_year if {
	_codes(fixture.patched(fixture.cutover, "/limits/backup_max_age_s", 31536000)) == {"thresholds.too_lax"}
}

test_too_lax_allows_exactly_the_ceiling if {
	_codes(fixture.patched(fixture.cutover, "/limits/hold_max_s", _ceilings.hold_max_s)) == set()
}

test_too_lax_allows_finishing_under_a_bundle_that_became_stricter if {
	_codes(fixture.patched(fixture.finishing, "/limits/backup_max_age_s", 31536000)) == set()
}

test_too_lax_misses_the_ceiling if {
	_codes_under(object.remove(_ceilings, {"hold_max_s"})) == {"thresholds.absent"}
}

_codes_above(floors) := found if {
	found := fixture.codes(thresholds.deny) with input as fixture.cutover
		with data.statehub.thresholds.floors as floors
}

test_floor_denies_a_text_a_negative_and_null if {
	every wrong in ["256MB", -1, null] {
		_codes_above({"drop_slot_at_disk_free_bytes": wrong}) & {"thresholds.floor"} == {"thresholds.floor"}
	}
}

test_floor_allows_a_number if _codes_above({"drop_slot_at_disk_free_bytes": 1}) == set()

test_floor_misses_the_data if _codes_above({}) == {"thresholds.floor"}

test_too_low_denies_a_disk_that_may_fill_up if {
	_codes(fixture.patched(fixture.cutover, "/limits/drop_slot_at_disk_free_bytes", 1024)) == {"thresholds.too_low"}
}

test_too_low_allows_exactly_the_floor_and_finishing if {
	_codes(fixture.patched(fixture.cutover, "/limits/drop_slot_at_disk_free_bytes", 268435456)) == set()
	_codes(fixture.patched(fixture.finishing, "/limits/drop_slot_at_disk_free_bytes", 1024)) == set()
}

test_too_low_misses_the_limit if {
	_codes(fixture.removed(fixture.cutover, "/limits/drop_slot_at_disk_free_bytes")) == {"thresholds.missing"}
}

test_missing_denies_an_empty_document if _codes({}) == {"thresholds.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
