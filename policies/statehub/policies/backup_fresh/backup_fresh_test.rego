package statehub.policies.backup_fresh_test

import data.statehub.fixture
import data.statehub.policies.backup_fresh

_codes(document) := found if {
	found := fixture.codes(backup_fresh.deny) with input as document
}

_warned(document) := found if {
	found := fixture.codes(backup_fresh.warn) with input as document
}

_holding := fixture.before(fixture.cutover, "04-hold")

_with_backup(part, value) := fixture.patched(_holding, sprintf("/observed/facts/backup/value/%s", [part]), value)

_retiring := fixture.before(fixture.retirement, "03-retire")

# A plan that finds a fresh backup and therefore takes none.
_without_step := json.patch(fixture.cutover, [
	{"op": "remove", "path": "/plan/steps/1"},
	{"op": "remove", "path": "/plan/trajectory/1"},
	{"op": "replace", "path": "/observed/facts/backup/value/checksum_ok", "value": false},
])

test_not_taken_denies_a_change_before_the_backup if {
	_codes(fixture.patched(fixture.cutover, "/plan/trajectory/2/backup", "due")) == {"backup_fresh.not_taken"}
}

test_not_taken_denies_a_hold_after_the_backup_has_aged if {
	_codes(fixture.patched(_holding, "/observed/world/backup", "due")) == {"backup_fresh.not_taken"}
}

test_not_taken_allows_a_plan_that_takes_one_first if _codes(fixture.cutover) == set()

test_not_taken_allows_finishing_without_one if {
	_codes(fixture.patched(fixture.finishing, "/observed/world/backup", "due")) == set()
}

test_not_taken_denies_retiring_after_the_backup_has_aged if {
	_codes(fixture.patched(_retiring, "/observed/world/backup", "due")) == {"backup_fresh.not_taken"}
}

test_not_taken_misses_the_state_of_the_backup if {
	_codes(fixture.removed(_holding, "/observed/world/backup")) == {"backup_fresh.not_taken"}
}

test_unknown_denies_a_backup_that_could_not_be_read if {
	fact := {"status": "unknown", "value": null, "observed_at": fixture.now}
	_codes(fixture.patched(_holding, "/observed/facts/backup", fact)) == {"backup_fresh.unknown"}
}

test_unknown_allows_a_known_one if _codes(_holding) == set()

test_unknown_allows_calling_off_without_one if {
	_codes(fixture.removed(fixture.abort, "/observed/facts/backup")) == set()
}

test_unknown_misses_the_fact if {
	_codes(fixture.removed(_holding, "/observed/facts/backup")) == {"backup_fresh.unknown"}
}

test_stale_denies_a_backup_older_than_the_limit if {
	_codes(_with_backup("taken_at", fixture.now - 86401)) == {"backup_fresh.stale"}
}

test_stale_allows_a_backup_of_exactly_the_limit if {
	_codes(_with_backup("taken_at", fixture.now - 86400)) == set()
}

test_stale_misses_the_limit if {
	document := fixture.removed(_holding, "/limits/backup_max_age_s")
	_codes(document) == {"backup_fresh.stale", "backup_fresh.missing"}
}

test_future_denies_a_backup_of_tomorrow if {
	_codes(_with_backup("taken_at", fixture.now + 6)) == {"backup_fresh.future"}
}

test_future_denies_retiring_on_a_backup_of_tomorrow if {
	document := fixture.patched(_retiring, "/observed/facts/backup/value/taken_at", fixture.now + 6)
	_codes(document) == {"backup_fresh.future"}
}

test_future_allows_the_tolerance_for_clocks if {
	_codes(_with_backup("taken_at", fixture.now + 5)) == set()
}

test_future_misses_the_instant if {
	_codes(fixture.removed(_holding, "/observed/facts/backup/value/taken_at")) == {"backup_fresh.unknown"}
}

test_passed_over_denies_nothing_and_warns_of_a_backup_of_tomorrow if {
	document := _with_backup("passed_over", ["backups/wsl2-2", "backups/wsl2-3"])
	_warned(document) == {"backup_fresh.passed_over"}
	_codes(document) == set()
}

test_passed_over_allows_none if _warned(_holding) == set()

test_passed_over_allows_finishing if {
	document := fixture.patched(fixture.finishing, "/observed/facts/backup/value/passed_over", ["backups/wsl2-2"])
	_warned(document) == set()
}

test_passed_over_misses_what_an_earlier_release_did_not_say if {
	_warned(fixture.removed(_holding, "/observed/facts/backup/value/passed_over")) == set()
}

test_outdated_denies_nothing_and_warns_of_what_an_earlier_release_took if {
	document := _with_backup("outdated", ["backups/wsl2-0", "backups/wsl2-3"])
	_warned(document) == {"backup_fresh.outdated"}
	_codes(document) == set()
}

test_outdated_allows_none if _warned(_holding) == set()

test_outdated_misses_what_an_earlier_release_did_not_say if {
	_warned(fixture.removed(_holding, "/observed/facts/backup/value/outdated")) == set()
}

test_checksum_denies_changed_bytes if _codes(_with_backup("checksum_ok", false)) == {"backup_fresh.checksum"}

test_checksum_denies_an_empty_file if _codes(_with_backup("size_bytes", 0)) == {"backup_fresh.checksum"}

test_checksum_denies_where_the_plan_takes_no_backup_itself if {
	_codes(_without_step) == {"backup_fresh.checksum"}
}

test_checksum_allows_a_sound_one if _codes(_with_backup("size_bytes", 1)) == set()

test_checksum_misses_the_checksum if {
	_codes(fixture.removed(_holding, "/observed/facts/backup/value/checksum_ok")) == {"backup_fresh.checksum"}
}

test_other_database_denies_a_backup_of_another_system if {
	_codes(_with_backup("system_identifier", "42")) == {"backup_fresh.other_database"}
}

test_other_database_denies_a_backup_of_another_service_in_the_same_cluster if {
	_codes(_with_backup("database", "wiki")) == {"backup_fresh.other_database"}
	_codes(_with_backup("database_oid", 42)) == {"backup_fresh.other_database"}
}

test_other_database_denies_retiring_on_a_backup_of_the_fallback if {
	of_fallback := fixture.cutover.observed.facts.backup
	_codes(fixture.patched(_retiring, "/observed/facts/backup", of_fallback)) == {"backup_fresh.other_database"}
}

test_other_database_allows_one_of_the_primary if {
	_codes(_holding) == set()
	_codes(_retiring) == set()
}

test_other_database_misses_whose_backup_it_is if {
	every part in {"system_identifier", "database", "database_oid"} {
		document := fixture.removed(_holding, sprintf("/observed/facts/backup/value/%s", [part]))
		_codes(document) == {"backup_fresh.other_database"}
	}
}

test_other_database_misses_the_identity_of_the_primary if {
	_codes(fixture.removed(_holding, "/plan/identities/wsl2")) == {"backup_fresh.other_database"}
	unknown := fixture.patched(_holding, "/plan/identities/wsl2/database", null)
	_codes(json.patch(unknown, [{
		"op": "replace",
		"path": "/observed/facts/backup/value/database",
		"value": null,
	}])) == {"backup_fresh.other_database"}
}

test_missing_denies_an_empty_document if _codes({}) == {"backup_fresh.missing"}

test_missing_allows_a_complete_document if _codes(fixture.retirement) == set()
