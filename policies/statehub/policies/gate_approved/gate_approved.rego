# METADATA
# title: The gate in front of a step is approved
# description: >-
#   Prevents a guarded step without enough people behind it: an approval that expired, was revoked or covers another
#   plan, one key under two names, the author's own signature, or a flag that says the gate is open.
# custom:
#   code: gate_approved
#   remedy: Let the gate's approvers look at the plan and run `approve`.
package statehub.policies.gate_approved

import data.statehub.lib

# METADATA
# title: Guarded steps whose gate is not open
# description: >-
#   Only steps that could as well wait: once the decision has fallen, or where a step leads out of an outage, a clock
#   that ran out must not keep everybody from writing.
_closed contains {"step": entry.step, "gate": gate, "keys": keys} if {
	some entry in lib.advancing
	some gate in input.plan.gates
	_guards(gate, entry.step)
	keys := _keys(gate, entry.step)
	not _enough(keys, gate)
}

# METADATA
# title: Distinct keys that approve a step
# description: Counted here from the approvals themselves, not taken from the flag beside them.
_keys(gate, step) := {approval.fingerprint |
	some state in input.approvals
	state.gate == gate.name
	some approval in state.approvals
	approval.gate == gate.name
	approval.status == "valid"
	is_string(approval.fingerprint)
	approval.fingerprint != ""
	approval.principal in gate.approvers
	_may_count(approval, gate)
	_in_time(approval, step)
}

# METADATA
# title: The gate that a step carries
# description: By its name.
_guards(gate, step) if gate.name == step.gate

# METADATA
# title: A gate that is declared for this kind of step
# description: Whether or not the step still carries it.
_guards(gate, step) if step.kind in gate.guards

# METADATA
# title: As many keys as the gate asks for
# description: A gate without a quorum never has enough.
_enough(keys, gate) if count(keys) >= gate.quorum

# METADATA
# title: Approval is still missing
# description: Tells at planning what a run would need; a plan can be made before anybody has approved it.
# custom:
#   code: gate_approved.needed
#   remedy: Save the plan, and let the gate's approvers run `approve` on it.
warn contains finding if {
	input.phase == "plan"
	some closed in _closed
	finding := {
		"code": "gate_approved.needed",
		"level": "advisory",
		"message": sprintf("%s needs gate %s: %d of %v approvals", [
			closed.step.id,
			closed.gate.name,
			count(closed.keys),
			object.get(closed.gate, "quorum", "?"),
		]),
		"step": closed.step.id,
		"path": sprintf("approvals.%s", [closed.gate.name]),
		"evidence": {"keys": closed.keys, "quorum": object.get(closed.gate, "quorum", null)},
		"remedy": "Save the plan, and let the gate's approvers run `approve` on it.",
	}
}

# METADATA
# title: Not enough keys
# description: Prevents a guarded step that fewer people than the quorum agreed to, for this plan and at this time.
# custom:
#   code: gate_approved.too_few_keys
#   remedy: Run `approvals` to see which count and why not, then let the approvers run `approve`.
deny contains finding if {
	not input.phase == "plan"
	some closed in _closed
	finding := {
		"code": "gate_approved.too_few_keys",
		"level": "hard",
		"message": sprintf("%s: gate %s has %d of %v approvals that count", [
			closed.step.id,
			closed.gate.name,
			count(closed.keys),
			object.get(closed.gate, "quorum", "?"),
		]),
		"step": closed.step.id,
		"path": sprintf("approvals.%s", [closed.gate.name]),
		"evidence": {
			"keys": closed.keys,
			"quorum": object.get(closed.gate, "quorum", "?"),
			"given": {json.filter(approval, {"principal", "status", "decide_by", "execute_by"}) |
				some state in input.approvals
				some approval in state.approvals
				approval.gate == closed.gate.name
			},
		},
		"remedy": "Run `approvals` to see which count and why not, then let the approvers run `approve`.",
	}
}

# METADATA
# title: The gate is unknown
# description: Prevents a guarded step from passing because its gate cannot be found.
# custom:
#   code: gate_approved.unknown_gate
#   remedy: Declare the gate in `gates`, then plan again.
deny contains finding if {
	names := {gate.name | some gate in input.plan.gates}
	some entry in lib.advancing
	entry.step.gate != null
	not entry.step.gate in names
	finding := {
		"code": "gate_approved.unknown_gate",
		"level": "hard",
		"message": sprintf("%s is guarded by %v, about which nothing is known", [entry.step.id, entry.step.gate]),
		"step": entry.step.id,
		"path": "plan.gates",
		"evidence": {"carried": entry.step.gate, "declared": names},
		"remedy": "Declare the gate in `gates`, then plan again.",
	}
}

# METADATA
# title: Approvals are not in the document
# description: Prevents an absent list, or an absent clock, from being silent.
# custom:
#   code: gate_approved.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"now", "phase", "plan.steps", "plan.trajectory", "plan.gates", "approvals"})
	finding := {
		"code": "gate_approved.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: Somebody other than the author
# description: Whose key it is was found from the signature.
_may_count(approval, _) if approval.by_author == false

# METADATA
# title: The author, where the plan says so
# description: It is recorded with the approval.
_may_count(_, gate) if gate.author_may_approve == true

# METADATA
# title: In time for a step on the way to the decision
# description: Both clocks run until this run has passed the gate; that is when its approvers' decision took effect.
_in_time(approval, step) if {
	step.kind in lib.crossing_kinds
	_not_past(approval.decide_by)
	_not_past(approval.execute_by)
}

# METADATA
# title: In time for a further step behind a gate that this run has passed
# description: Nobody is asked twice within one run; the clock for executing goes on.
_in_time(approval, step) if {
	approval.gate in input.history.gates_passed
	is_number(approval.decide_by)
	step.kind in lib.crossing_kinds
	_not_past(approval.execute_by)
}

# METADATA
# title: In time for any other guarded step
# description: The clock of the decision has no meaning for it.
_in_time(approval, step) if {
	not step.kind in lib.crossing_kinds
	_not_past(approval.execute_by)
}

# METADATA
# title: A clock that has not run out
# description: A number; Rego would find every number smaller than any text.
_not_past(moment_s) if {
	is_number(moment_s)
	input.now <= moment_s
}
