# METADATA
# title: The fallback is retired only after stabilization
# description: >-
#   Prevents giving up the old side while the new one has yet to show that it carries the load, or while some clients
#   still use the old one.
# custom:
#   code: stabilization_before_retire
#   remedy: Let stabilization pass; `status` shows how long it still takes.
package statehub.policies.stabilization_before_retire

import data.statehub.lib

# METADATA
# title: Stabilization has not passed
# description: Prevents retiring on the day of the move.
# custom:
#   code: stabilization_before_retire.not_passed
#   remedy: Let stabilization pass; `watch` continues it.
deny contains finding if {
	some entry in lib.retiring
	not entry.world.stabilization == "passed"
	finding := {
		"code": "stabilization_before_retire.not_passed",
		"level": "hard",
		"message": sprintf("%s comes before stabilization has passed", [entry.step.id]),
		"step": entry.step.id,
		"path": "world.stabilization",
		"evidence": {"stabilization": object.get(entry.world, "stabilization", null)},
		"remedy": "Let stabilization pass; `watch` continues it.",
	}
}

# METADATA
# title: Clients still use the side that is to be retired
# description: Prevents retiring an endpoint that an access path points at.
# custom:
#   code: stabilization_before_retire.clients_left
#   remedy: Redirect every access path first; `observe` shows where each one points.
deny contains finding if {
	some entry in lib.retiring
	not entry.world.access == "new"
	finding := {
		"code": "stabilization_before_retire.clients_left",
		"level": "hard",
		"message": sprintf("%s comes while clients are not known to use the new side alone", [entry.step.id]),
		"step": entry.step.id,
		"path": "world.access",
		"evidence": {"access": object.get(entry.world, "access", null)},
		"remedy": "Redirect every access path first; `observe` shows where each one points.",
	}
}

# METADATA
# title: Worlds are not in the document
# description: Prevents silence about a retirement in a world that is not there.
# custom:
#   code: stabilization_before_retire.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.trajectory", "observed.world"})
	finding := {
		"code": "stabilization_before_retire.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}
