# METADATA
# title: Every point of no return has a gate
# description: >-
#   Prevents a plan in which nobody has to be asked: a gate that was never declared, one that was dropped from a step,
#   one that any number of approvals or none would satisfy.
# custom:
#   code: gates_declared
#   remedy: Declare in `gates` who approves the write pause, the decision and the retirement.
package statehub.policies.gates_declared

import data.statehub.lib

# METADATA
# title: Kinds of step that nobody takes alone
# description: Pausing writes, deciding, and giving up the fallback.
_guarded_kinds := {"hold", "decide", "retire"}

# METADATA
# title: A point of no return without a gate
# description: Prevents a cutover that no human has agreed to.
# custom:
#   code: gates_declared.ungated
#   remedy: Let a gate of the plan guard this kind of step, then plan again.
deny contains finding if {
	some step in input.plan.steps
	step.kind in _guarded_kinds
	not _has_gate(step)
	finding := {
		"code": "gates_declared.ungated",
		"level": "hard",
		"message": sprintf("%s has no gate", [step.id]),
		"step": step.id,
		"path": "plan.gates",
		"evidence": {"kind": step.kind},
		"remedy": "Let a gate of the plan guard this kind of step, then plan again.",
	}
}

# METADATA
# title: A gate was dropped from a step
# description: >-
#   Prevents a step from losing the gate that the plan declares for its kind. Steps that lead out of an outage carry
#   none, nobody may have to be asked for those.
# custom:
#   code: gates_declared.dropped
#   remedy: Plan again; if two gates guard one kind of step, keep one of them.
deny contains finding if {
	some gate in input.plan.gates
	some entry in lib.advancing
	step := entry.step
	step.kind in gate.guards
	not step.gate == gate.name
	finding := {
		"code": "gates_declared.dropped",
		"level": "hard",
		"message": sprintf("%s does not carry gate %s, which guards %s", [step.id, gate.name, step.kind]),
		"step": step.id,
		"path": "plan.steps",
		"evidence": {"declared": gate.name, "carried": object.get(step, "gate", null)},
		"remedy": "Plan again; if two gates guard one kind of step, keep one of them.",
	}
}

# METADATA
# title: A step carries a gate that is not declared
# description: Prevents a gate that nobody can approve from looking like one, and one that nobody declared from passing.
# custom:
#   code: gates_declared.undeclared
#   remedy: Declare the gate in `gates`, with approvers and quorum, then plan again.
deny contains finding if {
	names := {gate.name | some gate in input.plan.gates}
	some step in input.plan.steps
	step.gate != null
	not step.gate in names
	finding := {
		"code": "gates_declared.undeclared",
		"level": "hard",
		"message": sprintf("%s carries gate %v, which the plan does not declare", [step.id, step.gate]),
		"step": step.id,
		"path": "plan.gates",
		"evidence": {"carried": step.gate},
		"remedy": "Declare the gate in `gates`, with approvers and quorum, then plan again.",
	}
}

# METADATA
# title: A quorum that cannot mean anything
# description: Prevents a gate that opens by itself, or one that never can.
# custom:
#   code: gates_declared.quorum
#   remedy: Set `quorum` to at least 1 and at most the number of approvers.
deny contains finding if {
	some gate in input.plan.gates
	not _meaningful(gate)
	finding := {
		"code": "gates_declared.quorum",
		"level": "hard",
		"message": sprintf("gate %s asks for %v of %d approvers", [gate.name, gate.quorum, count(gate.approvers)]),
		"step": null,
		"path": "plan.gates",
		"evidence": {"quorum": gate.quorum, "approvers": gate.approvers},
		"remedy": "Set `quorum` to at least 1 and at most the number of approvers.",
	}
}

# METADATA
# title: Gates are not in the document
# description: Prevents a list that is absent from passing for one that guards.
# custom:
#   code: gates_declared.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.trajectory", "plan.gates"})
	finding := {
		"code": "gates_declared.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: Carries a gate that guards its kind
# description: By the declaration, not by the step's word.
_has_gate(step) if {
	some gate in input.plan.gates
	gate.name == step.gate
	step.kind in gate.guards
}

# METADATA
# title: A quorum that distinct approvers can reach
# description: Names listed twice count once.
_meaningful(gate) if {
	gate.quorum >= 1
	gate.quorum <= count({name | some name in gate.approvers})
}
