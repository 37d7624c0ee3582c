# METADATA
# title: The decision register only moves forward
# description: >-
#   Prevents a zombie run from deciding later, a term from being used twice, and steps that stand on a primary which
#   the register no longer names.
# custom:
#   code: register_forward
#   remedy: Plan again from the registers as they are now.
package statehub.policies.register_forward

import data.statehub.lib

# METADATA
# title: What both registers hold
# description: Rows of either endpoint; a register that is not known contributes none and is denied elsewhere here.
_rows contains row if {
	some endpoint in lib.endpoint_of
	fact := input.observed.facts[sprintf("%s.register", [endpoint])]
	fact.status == "known"
	some row in fact.value
}

# METADATA
# title: The term is taken
# description: Prevents deciding or burning a term that stands in a register already.
# custom:
#   code: register_forward.term_taken
#   remedy: Plan again; a new plan takes the next free term.
deny contains finding if {
	count(lib.crossing) > 0
	some row in _rows
	row.term >= input.plan.term
	finding := {
		"code": "register_forward.term_taken",
		"level": "hard",
		"message": sprintf("term %v of this plan is not above term %v, which is on record", [input.plan.term, row.term]),
		"step": null,
		"path": "plan.term",
		"evidence": {"planned": input.plan.term, "row": row},
		"remedy": "Plan again; a new plan takes the next free term.",
	}
}

# METADATA
# title: The register names another primary
# description: Prevents steps in a world that contradicts the highest decision on record.
# custom:
#   code: register_forward.primary_differs
#   remedy: Observe and plan again; the register says who is primary, not the plan.
deny contains finding if {
	count(lib.entries) > 0
	highest := max({row.term | some row in _rows; row.primary != null})
	some row in _rows
	row.term == highest
	row.primary != null
	not _assumed(row.primary)
	finding := {
		"code": "register_forward.primary_differs",
		"level": "hard",
		"message": sprintf("term %v made %v primary, the observed world says otherwise", [highest, row.primary]),
		"step": null,
		"path": "observed.world.primary",
		"evidence": {"row": row, "primary": object.get(input, ["observed", "world", "primary"], null)},
		"remedy": "Observe and plan again; the register says who is primary, not the plan.",
	}
}

# METADATA
# title: The primary changes without a decision
# description: Prevents a trajectory in which the primary moves back, or moves in a step that records nothing.
# custom:
#   code: register_forward.no_decision
#   remedy: Plan again with this release of the tool, and report it if the plan is the same.
deny contains finding if {
	some i, step in input.plan.steps
	before := input.plan.trajectory[i].primary
	after := input.plan.trajectory[i + 1].primary
	before != after
	not _decides(step, before, after)
	finding := {
		"code": "register_forward.no_decision",
		"level": "hard",
		"message": sprintf("%s turns the primary from %v to %v without a decision", [step.id, before, after]),
		"step": step.id,
		"path": sprintf("plan.trajectory[%d].primary", [i + 1]),
		"evidence": {"before": before, "after": after, "kind": step.kind},
		"remedy": "Plan again with this release of the tool, and report it if the plan is the same.",
	}
}

# METADATA
# title: A register is not known
# description: Prevents crossing over while a decision may stand where nobody could look.
# custom:
#   code: register_forward.unknown
#   remedy: Make both databases reachable for the tool's role, then observe again.
deny contains finding if {
	count(lib.crossing) > 0
	some endpoint in lib.endpoint_of
	not _known(endpoint)
	finding := {
		"code": "register_forward.unknown",
		"level": "hard",
		"message": sprintf("the decision register of %s is not known", [endpoint]),
		"step": null,
		"path": sprintf("observed.facts.%s.register", [endpoint]),
		"evidence": {"fact": object.get(input, ["observed", "facts", sprintf("%s.register", [endpoint])], null)},
		"remedy": "Make both databases reachable for the tool's role, then observe again.",
	}
}

# METADATA
# title: Term or registers are not in the document
# description: Prevents a comparison with an absent term from being silent.
# custom:
#   code: register_forward.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.term", "plan.steps", "plan.trajectory",
		"observed.facts", "observed.world",
	})
	finding := {
		"code": "register_forward.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A register that was read
# description: A list of rows with a number each; an empty one is known to be empty.
_known(endpoint) if {
	fact := input.observed.facts[sprintf("%s.register", [endpoint])]
	fact.status == "known"
	is_array(fact.value)
	every row in fact.value {
		is_number(row.term)
	}
}

# METADATA
# title: The one way in which the primary changes
# description: Forward, from the old to the new side.
_decides(step, "old", "new") if step.kind == "decide"

# METADATA
# title: The endpoint that the observed world takes for primary
# description: Nobody's, when that world does not say.
_assumed(endpoint) if endpoint == lib.endpoint_of[input.observed.world.primary]
