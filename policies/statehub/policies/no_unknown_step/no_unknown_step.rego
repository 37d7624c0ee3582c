# METADATA
# title: No earlier step has an unknown outcome
# description: >-
#   Prevents building on a step of which nobody knows whether it happened: the crash that leaves the outcome unknown,
#   followed by a run that repeats it. Steps that end an outage look at the world instead and are not stopped.
# custom:
#   code: no_unknown_step
#   remedy: Observe again; run `apply` or `abort`, which record what the world shows about the step.
package statehub.policies.no_unknown_step

import data.statehub.lib

# METADATA
# title: An earlier step's outcome is unknown
# description: Prevents a risky step while the journal holds an intent without an outcome.
# custom:
#   code: no_unknown_step.outcome_unknown
#   remedy: Observe again; run `apply` or `abort`, which record what the world shows about the step.
deny contains finding if {
	count(lib.risky) > 0
	some step in input.history.unknown_steps
	finding := {
		"code": "no_unknown_step.outcome_unknown",
		"level": "hard",
		"message": sprintf("how %s of an earlier run ended is unknown", [step]),
		"step": step,
		"path": "history.unknown_steps",
		"evidence": {"unknown_steps": input.history.unknown_steps},
		"remedy": "Observe again; run `apply` or `abort`, which record what the world shows about the step.",
	}
}

# METADATA
# title: The history is not in the document
# description: Prevents a journal that could not be read from passing for an empty one.
# custom:
#   code: no_unknown_step.missing
#   remedy: Make the journal readable; ask with the whole document.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.trajectory", "history.unknown_steps"})
	finding := {
		"code": "no_unknown_step.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Make the journal readable; ask with the whole document.",
	}
}
