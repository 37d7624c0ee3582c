# METADATA
# title: Nothing opens without proof
# description: >-
#   Prevents a side from taking writes before the other one is proved to refuse them, and before the register says
#   that this side is primary: the order that Vitess's journal and every lost row of a cut-over race teach.
# custom:
#   code: proof_before_open
#   remedy: Plan again from the present world; the planner asks for the proof first.
package statehub.policies.proof_before_open

import data.statehub.lib

# METADATA
# title: The opposite role
# description: Whose closure must be proved.
_other := {"old": "new", "new": "old"}

# METADATA
# title: Steps that open a side
# description: With the role of the side; none for a subject that is neither endpoint.
_openings contains {"entry": entry, "role": role} if {
	some entry in lib.entries
	entry.step.kind == "open"
	some role, endpoint in lib.endpoint_of
	entry.step.subject == endpoint
}

# METADATA
# title: Opens what is no endpoint of this plan
# description: Prevents opening a database that nobody looked at.
# custom:
#   code: proof_before_open.stranger
#   remedy: Name one of the plan's two endpoints as subject of the step.
deny contains finding if {
	some entry in lib.entries
	entry.step.kind == "open"
	subject := object.get(entry.step, "subject", null)
	not subject in {input.plan.old, input.plan.new}
	finding := {
		"code": "proof_before_open.stranger",
		"level": "hard",
		"message": sprintf("%s opens something that is neither endpoint", [entry.step.id]),
		"step": entry.step.id,
		"path": "plan.steps",
		"evidence": {"subject": subject},
		"remedy": "Name one of the plan's two endpoints as subject of the step.",
	}
}

# METADATA
# title: The register does not name this side
# description: Prevents a side from serving that no decision made primary, or while a decision may still fall.
# custom:
#   code: proof_before_open.undecided
#   remedy: Decide or burn the pending term first; planning again does whichever is proved.
deny contains finding if {
	some opening in _openings
	world := opening.entry.world
	not _decided(world, opening.role)
	finding := {
		"code": "proof_before_open.undecided",
		"level": "hard",
		"message": sprintf("%s opens %s, which no settled decision names primary", [
			opening.entry.step.id,
			opening.entry.step.subject,
		]),
		"step": opening.entry.step.id,
		"path": "world.primary",
		"evidence": {
			"primary": object.get(world, "primary", null),
			"term": object.get(world, "term", null),
			"opens": opening.role,
		},
		"remedy": "Decide or burn the pending term first; planning again does whichever is proved.",
	}
}

# METADATA
# title: The other side is not proved frozen
# description: Prevents two sides from acknowledging writes at the same time.
# custom:
#   code: proof_before_open.other_not_frozen
#   remedy: Freeze the other side and let the canary write prove it; `observe` names what stands in the way.
deny contains finding if {
	some opening in _openings
	world := opening.entry.world
	other := _other[opening.role]
	not world[other].writes == "frozen"
	not _out_of_sight(world, other)
	finding := {
		"code": "proof_before_open.other_not_frozen",
		"level": "hard",
		"message": sprintf("%s opens %s while %s is not proved frozen", [
			opening.entry.step.id,
			opening.entry.step.subject,
			lib.endpoint_of[other],
		]),
		"step": opening.entry.step.id,
		"path": sprintf("world.%s.writes", [other]),
		"evidence": {"other": object.get(world, other, null)},
		"remedy": "Freeze the other side and let the canary write prove it; `observe` names what stands in the way.",
	}
}

# METADATA
# title: The other side could not be looked at
# description: >-
#   Tells that a new primary is opened on the strength of the freeze that was proved before its decision. Denying
#   instead would leave nobody accepting writes for as long as the old side is down.
# custom:
#   code: proof_before_open.other_out_of_sight
#   remedy: Keep the old side down, or let `observe` see it, until its freeze has been looked at again.
warn contains finding if {
	some opening in _openings
	world := opening.entry.world
	other := _other[opening.role]
	_out_of_sight(world, other)
	finding := {
		"code": "proof_before_open.other_out_of_sight",
		"level": "advisory",
		"message": sprintf("%s cannot be looked at; it was proved frozen before the decision", [lib.endpoint_of[other]]),
		"step": opening.entry.step.id,
		"path": sprintf("world.%s.writes", [other]),
		"evidence": {"other": world[other]},
		"remedy": "Keep the old side down, or let `observe` see it, until its freeze has been looked at again.",
	}
}

# METADATA
# title: A decision without proof
# description: >-
#   Prevents the point of no return while rows may be missing on the other side: zero lag was once read for 16 s with
#   1.5 million rows absent.
# custom:
#   code: proof_before_open.decide_unproved
#   remedy: Hold, copy, compare and freeze again; a burned term costs nothing but its number.
deny contains finding if {
	some entry in lib.entries
	entry.step.kind == "decide"
	not _proved(entry.world)
	finding := {
		"code": "proof_before_open.decide_unproved",
		"level": "hard",
		"message": sprintf("%s decides without both sides frozen, content proved equal and a pending term", [entry.step.id]),
		"step": entry.step.id,
		"path": "world",
		"evidence": {"world": entry.world},
		"remedy": "Hold, copy, compare and freeze again; a burned term costs nothing but its number.",
	}
}

# METADATA
# title: A side opens in passing
# description: Prevents an effect that no step of its own stands for and that nobody would prove anything for.
# custom:
#   code: proof_before_open.in_passing
#   remedy: Plan again with this release of the tool, and report it if the plan is the same.
deny contains finding if {
	some i, step in input.plan.steps
	some role, endpoint in lib.endpoint_of
	input.plan.trajectory[i + 1][role].writes == "open"
	not input.plan.trajectory[i][role].writes == "open"
	not _opens(step, endpoint)
	finding := {
		"code": "proof_before_open.in_passing",
		"level": "hard",
		"message": sprintf("%s accepts writes after %s, which is no step that opens it", [endpoint, step.id]),
		"step": step.id,
		"path": sprintf("plan.trajectory[%d]", [i + 1]),
		"evidence": {"before": input.plan.trajectory[i][role], "after": input.plan.trajectory[i + 1][role]},
		"remedy": "Plan again with this release of the tool, and report it if the plan is the same.",
	}
}

# METADATA
# title: Steps or worlds are not in the document
# description: Prevents silence about openings that are not there to be seen.
# custom:
#   code: proof_before_open.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "observed.world",
	})
	finding := {
		"code": "proof_before_open.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A settled decision names this role
# description: A burned term is as good as settled, it can no longer fall.
_decided(world, role) if {
	world.primary == role
	world.term in {"settled", "burned"}
}

# METADATA
# title: The old side does not answer after a decision for the new one
# description: Nothing else excuses the proof.
_out_of_sight(world, "old") if {
	world.primary == "new"
	world.old.reach == "unreachable"
	world.old.writes == "unknown"
}

# METADATA
# title: Everything that a decision stands on
# description: Each part is a fact of its own, observed after the freeze.
_proved(world) if {
	world.primary == "old"
	world.term == "pending"
	world.transfer == "proved"
	world.old.writes == "frozen"
	world.new.writes == "frozen"
	world.new.data == "equal"
}

# METADATA
# title: A step that opens this endpoint
# description: The only kind that may.
_opens(step, endpoint) if {
	step.kind == "open"
	step.subject == endpoint
}
