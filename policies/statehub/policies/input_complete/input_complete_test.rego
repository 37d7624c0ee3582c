package statehub.policies.input_complete_test

import data.statehub.fixture
import data.statehub.policies.input_complete

_codes(document) := found if {
	found := fixture.codes(input_complete.deny) with input as document
}

test_schema_denies_another_version if {
	_codes(fixture.patched(fixture.cutover, "/schema", "statehub-plan/input/v2")) == {"input_complete.schema"}
}

test_schema_allows_this_version if _codes(fixture.cutover) == set()

test_schema_misses_the_schema if {
	_codes(fixture.removed(fixture.cutover, "/schema")) == {"input_complete.schema", "input_complete.missing"}
}

test_phase_denies_a_phase_of_its_own if {
	_codes(fixture.patched(fixture.cutover, "/phase", "dry-run")) == {"input_complete.phase"}
}

test_phase_allows_planning if _codes(fixture.patched(fixture.cutover, "/phase", "plan")) == set()

test_phase_misses_the_phase if {
	_codes(fixture.removed(fixture.cutover, "/phase")) == {"input_complete.phase", "input_complete.missing"}
}

test_step_denies_a_step_that_was_never_shown if {
	document := fixture.patched(fixture.before(fixture.cutover, "04-hold"), "/run/step", "04-drop")
	_codes(document) == {"input_complete.step"}
}

test_step_denies_an_id_that_two_steps_have if {
	document := fixture.patched(fixture.before(fixture.cutover, "04-hold"), "/plan/steps/4/id", "04-hold")
	_codes(document) == {"input_complete.step"}
}

test_step_allows_a_step_of_the_plan if _codes(fixture.before(fixture.cutover, "04-hold")) == set()

test_step_misses_the_step if {
	document := fixture.removed(fixture.before(fixture.cutover, "04-hold"), "/run/step")
	_codes(document) == {"input_complete.step", "input_complete.missing"}
}

test_step_incomplete_denies_a_step_without_a_gate_to_speak_of if {
	_codes(fixture.removed(fixture.cutover, "/plan/steps/3/gate")) == {"input_complete.step_incomplete"}
}

test_step_incomplete_allows_a_step_whose_gate_is_null if {
	fixture.abort.plan.steps[0].gate == null
	_codes(fixture.abort) == set()
}

test_step_incomplete_misses_everything_about_a_step if {
	_codes(fixture.patched(fixture.cutover, "/plan/steps/3", {})) == {"input_complete.step_incomplete"}
}

test_trajectory_denies_a_world_too_few if {
	_codes(fixture.removed(fixture.cutover, "/plan/trajectory/0")) == {"input_complete.trajectory"}
}

test_trajectory_allows_one_world_more_than_steps if {
	count(fixture.abort.plan.trajectory) == count(fixture.abort.plan.steps) + 1
	_codes(fixture.abort) == set()
}

test_trajectory_misses_the_trajectory if {
	_codes(fixture.removed(fixture.cutover, "/plan/trajectory")) == {"input_complete.missing"}
}

test_missing_denies_an_empty_document if {
	_codes({}) == {"input_complete.schema", "input_complete.phase", "input_complete.missing"}
}

test_missing_allows_a_complete_document if _codes(fixture.retirement) == set()
