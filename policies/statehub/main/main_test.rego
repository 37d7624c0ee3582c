package statehub.main_test

import data.statehub.fixture
import data.statehub.main

_hard(decision) := {finding.code | some finding in decision.findings; finding.level == "hard"}

test_every_policy_is_evaluated if {
	expected := {name | some name; data.statehub.policies[name].deny}
	{name | some name in main.verdict.evaluated} == expected with input as fixture.cutover
	count(expected) > 12
}

test_the_move_is_allowed_when_it_is_approved if {
	fixture.codes(main.verdict.findings) == set() with input as fixture.cutover
}

test_the_move_can_be_planned_before_it_is_approved if {
	planned := fixture.patched(fixture.patched(fixture.cutover, "/phase", "plan"), "/approvals", [])
	_hard(main.verdict) == set() with input as planned
	fixture.codes(main.verdict.findings) == {"gate_approved.needed"} with input as planned
}

test_every_step_of_the_move_is_allowed_in_its_turn if {
	every step in fixture.cutover.plan.steps {
		fixture.codes(main.verdict.findings) == set() with input as fixture.before(fixture.cutover, step.id)
	}
}

test_finishing_is_allowed_without_approvals_evidence_backup_or_the_old_side if {
	late := json.patch(fixture.finishing, [
		{"op": "replace", "path": "/approvals", "value": []},
		{"op": "replace", "path": "/evidence", "value": []},
		{"op": "remove", "path": "/observed/facts/backup"},
		{"op": "replace", "path": "/observed/world/backup", "value": "due"},
		{"op": "replace", "path": "/history/unknown_steps", "value": ["09-decide"]},
		{"op": "replace", "path": "/plan/refused", "value": {"code": "x", "what": "x", "remedy": "x"}},
		{"op": "replace", "path": "/limits/backup_max_age_s", "value": 99999999},
	])
	_hard(main.verdict) == set() with input as late
	every step in late.plan.steps {
		_hard(main.verdict) == set() with input as fixture.before(late, step.id)
	}
}

test_a_move_resumed_after_its_decision_is_not_asked_for_approvals_again if {
	resumed := json.patch(fixture.cutover, [
		{"op": "replace", "path": "/observed/world", "value": fixture.cutover.plan.trajectory[9]},
		{"op": "replace", "path": "/observed/facts/cluster.register/value", "value": [{"term": 2, "primary": "cluster"}]},
		{"op": "replace", "path": "/approvals", "value": []},
		{"op": "replace", "path": "/evidence", "value": []},
	])
	_hard(main.verdict) == set() with input as resumed
}

test_calling_off_is_allowed_without_approvals_evidence_or_backup if {
	bare := json.patch(fixture.abort, [
		{"op": "replace", "path": "/approvals", "value": []},
		{"op": "replace", "path": "/evidence", "value": []},
		{"op": "remove", "path": "/observed/facts/backup"},
		{"op": "replace", "path": "/history/unknown_steps", "value": ["08-freeze"]},
	])
	_hard(main.verdict) == set() with input as bare
	every step in bare.plan.steps {
		_hard(main.verdict) == set() with input as fixture.before(bare, step.id)
	}
}

test_the_retirement_is_allowed_after_drills_and_approval if {
	fixture.codes(main.verdict.findings) == set() with input as fixture.retirement
	every step in fixture.retirement.plan.steps {
		fixture.codes(main.verdict.findings) == set() with input as fixture.before(fixture.retirement, step.id)
	}
}

test_an_empty_document_is_denied_by_every_policy_but_the_canary if {
	packages := {split(code, ".")[0] | some code in _hard(main.verdict)} with input as {}
	evaluated := {name | some name in main.verdict.evaluated} with input as {}
	packages == evaluated - {"canary"}
}

# A switch by replication: before anything is set up, about to begin, and while it stabilizes.
test_every_policy_allows_a_move_by_replication if {
	every document in [fixture.switch_planned, fixture.switch, fixture.followed] {
		fixture.codes(main.verdict.findings) == set() with input as document
	}
}

test_every_policy_allows_each_step_of_a_move_by_replication if {
	every step in fixture.switch.plan.steps {
		fixture.codes(main.verdict.findings) == set() with input as fixture.before(fixture.switch, step.id)
	}
}
