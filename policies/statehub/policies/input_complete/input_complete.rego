# METADATA
# title: The document is the one that policies are written for
# description: >-
#   Prevents a verdict about half a question: a newer or older tool, another caller, a step that is not in the plan.
# custom:
#   code: input_complete
#   remedy: Use the tool and the bundle of the same release.
package statehub.policies.input_complete

import data.statehub.lib

# METADATA
# title: Unknown schema
# description: A document of another version may use the same names for other things.
# custom:
#   code: input_complete.schema
#   remedy: Use the tool and the bundle of the same release.
deny contains finding if {
	not input.schema == "statehub-plan/input/v1"
	finding := {
		"code": "input_complete.schema",
		"level": "hard",
		"message": "the document is not statehub-plan/input/v1",
		"step": null,
		"path": "schema",
		"evidence": {"schema": object.get(input, "schema", null)},
		"remedy": "Use the tool and the bundle of the same release.",
	}
}

# METADATA
# title: Unknown phase
# description: Rules that are strict only when something is carried out would take it for planning.
# custom:
#   code: input_complete.phase
#   remedy: Ask in one of the phases plan, apply and step.
deny contains finding if {
	phase := object.get(input, "phase", null)
	not phase in {"plan", "apply", "step"}
	finding := {
		"code": "input_complete.phase",
		"level": "hard",
		"message": "the phase is none of plan, apply and step",
		"step": null,
		"path": "phase",
		"evidence": {"phase": phase},
		"remedy": "Ask in one of the phases plan, apply and step.",
	}
}

# METADATA
# title: Unknown step
# description: A step that is not in the plan was neither shown nor approved, and no rule would find it to judge it.
# custom:
#   code: input_complete.step
#   remedy: Carry out the plan that was shown; plan again if another step is needed.
deny contains finding if {
	input.phase == "step"
	ids := [step.id | some step in input.plan.steps; step.id == object.get(input, ["run", "step"], null)]
	count(ids) != 1
	finding := {
		"code": "input_complete.step",
		"level": "hard",
		"message": "the step that is about to begin is not exactly one step of the plan",
		"step": null,
		"path": "run.step",
		"evidence": {"step": object.get(input, ["run", "step"], null), "found": count(ids)},
		"remedy": "Carry out the plan that was shown; plan again if another step is needed.",
	}
}

# METADATA
# title: A step lacks a part
# description: A step without kind, subject or gate would be taken for one that needs nothing.
# custom:
#   code: input_complete.step_incomplete
#   remedy: Plan again with this release of the tool.
deny contains finding if {
	some i, step in input.plan.steps
	lacking := {"id", "kind", "subject", "class", "gate"} - object.keys(step)
	count(lacking) > 0
	finding := {
		"code": "input_complete.step_incomplete",
		"level": "hard",
		"message": sprintf("step %d of the plan lacks: %s", [i + 1, concat(", ", lacking)]),
		"step": object.get(step, "id", null),
		"path": sprintf("plan.steps[%d]", [i]),
		"evidence": {"lacking": lacking},
		"remedy": "Plan again with this release of the tool.",
	}
}

# METADATA
# title: Trajectory and steps don't match
# description: A step without the world before it would be judged against nothing.
# custom:
#   code: input_complete.trajectory
#   remedy: Plan again with this release of the tool.
deny contains finding if {
	count(input.plan.trajectory) != count(input.plan.steps) + 1
	finding := {
		"code": "input_complete.trajectory",
		"level": "hard",
		"message": "the trajectory does not have one world more than there are steps",
		"step": null,
		"path": "plan.trajectory",
		"evidence": {"worlds": count(input.plan.trajectory), "steps": count(input.plan.steps)},
		"remedy": "Plan again with this release of the tool.",
	}
}

# METADATA
# title: Part of the document is missing
# description: Without this rule a policy that reads the missing part would be silent.
# custom:
#   code: input_complete.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"schema", "now", "phase", "run.step", "plan.steps", "plan.trajectory", "observed.world",
		"observed.identities", "observed.facts", "evidence", "approvals", "history", "limits", "bundle",
	})
	finding := {
		"code": "input_complete.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}
