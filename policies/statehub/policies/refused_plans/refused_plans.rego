# METADATA
# title: What the planner refused is not carried out
# description: >-
#   Prevents half a plan: steps that lead somewhere, but not to the wish. Those that only end an outage are exempt,
#   since they are right whatever stands in the way afterwards.
# custom:
#   code: refused_plans
#   remedy: Remove what the refusal names, then plan again.
package statehub.policies.refused_plans

import data.statehub.lib

# METADATA
# title: The planner refused
# description: Tells at planning why the wish cannot be reached from here.
# custom:
#   code: refused_plans.refusal
#   remedy: Remove what the refusal names, then plan again.
warn contains finding if {
	input.phase == "plan"
	input.plan.refused != null
	finding := {
		"code": "refused_plans.refusal",
		"level": "advisory",
		"message": sprintf("the planner refused: %v", [object.get(input.plan.refused, "what", "no reason given")]),
		"step": null,
		"path": "plan.refused",
		"evidence": {"refused": input.plan.refused},
		"remedy": "Remove what the refusal names, then plan again.",
	}
}

# METADATA
# title: A refused plan is carried out
# description: Prevents a run whose end is known not to be the wish.
# custom:
#   code: refused_plans.carried_out
#   remedy: Plan again once what the refusal names is removed.
deny contains finding if {
	not input.phase == "plan"
	input.plan.refused != null
	not _only_ends_an_outage
	finding := {
		"code": "refused_plans.carried_out",
		"level": "hard",
		"message": sprintf("the planner refused: %v", [object.get(input.plan.refused, "what", "no reason given")]),
		"step": null,
		"path": "plan.refused",
		"evidence": {"refused": input.plan.refused},
		"remedy": "Plan again once what the refusal names is removed.",
	}
}

# METADATA
# title: Whether it was refused is not in the document
# description: Prevents an absent refusal from passing for none.
# custom:
#   code: refused_plans.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.refused", "plan.steps", "plan.trajectory"})
	finding := {
		"code": "refused_plans.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: There are steps, and none that could as well wait
# description: Opening the primary, closing a stray side, burning a decision, finishing.
_only_ends_an_outage if {
	count(lib.entries) > 0
	count(lib.advancing) == 0
}
