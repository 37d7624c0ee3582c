package statehub.policies.observation_fresh_test

import data.statehub.fixture
import data.statehub.policies.observation_fresh

_codes(document) := found if {
	found := fixture.codes(observation_fresh.deny) with input as document
}

_seen(document, id, moment_s) := fixture.patched(
	document,
	sprintf("/observed/facts/%s/observed_at", [id]),
	moment_s,
)

test_stale_denies_applying_on_an_old_fact if {
	_codes(_seen(fixture.cutover, "wsl2.writes", fixture.now - 121)) == {"observation_fresh.stale"}
}

test_stale_denies_opening_on_an_old_fact if {
	document := _seen(fixture.before(fixture.finishing, "01-open"), "cluster.writes", fixture.now - 121)
	_codes(document) == {"observation_fresh.stale"}
}

test_stale_allows_a_fact_of_exactly_the_limit if {
	_codes(_seen(fixture.cutover, "wsl2.writes", fixture.now - 120)) == set()
}

test_stale_allows_planning_on_a_saved_observation if {
	document := _seen(fixture.patched(fixture.cutover, "/phase", "plan"), "wsl2.writes", 0)
	_codes(document) == set()
}

test_stale_allows_finishing_although_nobody_sees_the_old_side if {
	_codes(_seen(fixture.finishing, "wsl2.writes", 0)) == set()
}

test_stale_misses_the_limit if {
	document := fixture.removed(fixture.cutover, "/limits/observation_max_age_s")
	_codes(document) == {"observation_fresh.stale", "observation_fresh.missing"}
}

test_future_denies_a_fact_of_tomorrow if {
	_codes(_seen(fixture.cutover, "wsl2.writes", fixture.now + 6)) == {"observation_fresh.future"}
}

test_future_allows_the_tolerance_for_clocks if _codes(_seen(fixture.cutover, "wsl2.writes", fixture.now + 5)) == set()

test_future_misses_the_present if {
	_codes(fixture.removed(fixture.cutover, "/now")) == {"observation_fresh.missing"}
}

test_undated_denies_an_instant_that_is_a_text if {
	_codes(_seen(fixture.cutover, "wsl2.writes", "yesterday")) == {
		"observation_fresh.undated",
		"observation_fresh.future",
	}
}

test_undated_allows_dated_facts if _codes(fixture.cutover) == set()

test_undated_misses_the_instant_and_the_fact if {
	instant := fixture.removed(fixture.cutover, "/observed/facts/wsl2.writes/observed_at")
	_codes(instant) == {"observation_fresh.undated"}
	_codes(fixture.removed(fixture.cutover, "/observed/facts/wsl2.writes")) == {"observation_fresh.undated"}
}

test_missing_denies_an_empty_document if _codes({}) == {"observation_fresh.missing"}

test_missing_allows_a_complete_document if _codes(fixture.abort) == set()
