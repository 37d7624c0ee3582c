# METADATA
# title: At most one endpoint accepts writes
# description: >-
#   Prevents the split brain of a cutover: two sides take writes, each acknowledges some, and one of them is lost. A
#   side counts as accepting writes unless it is proved frozen; held counts, as writers go on when the hold ends.
# custom:
#   code: one_writable
#   remedy: Close the side that is not primary first; `observe` shows which sides accept writes and why.
package statehub.policies.one_writable

import data.statehub.lib

# METADATA
# title: Steps that change no side's writability
# description: They may come before the step that closes a stray writable side.
_harmless := {"check-evidence", "backup", "restore-drill", "burn"}

# METADATA
# title: Two writable sides on the way
# description: >-
#   Prevents a plan whose steps lead through a world in which both sides take writes. A start with two is tolerated if
#   the first step that changes anything closes the side that is not primary.
# custom:
#   code: one_writable.two_on_the_way
#   remedy: Plan again; if the plan is the same, close the side that is not primary by hand and report it.
deny contains finding if {
	some i, world in input.plan.trajectory
	_two_accept(world)
	not _tolerated(i)
	finding := {
		"code": "one_writable.two_on_the_way",
		"level": "hard",
		"message": sprintf("world %d of the plan has no side that is proved frozen", [i]),
		"step": object.get(input, ["plan", "steps", i - 1, "id"], null),
		"path": sprintf("plan.trajectory[%d]", [i]),
		"evidence": json.filter(world, {"old/writes", "new/writes", "old/reach", "primary"}),
		"remedy": "Plan again; if the plan is the same, close the side that is not primary by hand and report it.",
	}
}

# METADATA
# title: A second side was opened since the plan
# description: Prevents starting a run in a world that the plan never saw.
# custom:
#   code: one_writable.opened_since
#   remedy: Find out who opened it (`observe` names the sessions), then plan again.
deny contains finding if {
	input.phase == "apply"
	_seen_open(input.observed.world, "old")
	_seen_open(input.observed.world, "new")
	not _two_accept(input.plan.trajectory[0])
	finding := {
		"code": "one_writable.opened_since",
		"level": "hard",
		"message": "both sides accept writes now; when this was planned only one did",
		"step": null,
		"path": "observed.world",
		"evidence": json.filter(input.observed.world, {"old/writes", "new/writes", "primary"}),
		"remedy": "Find out who opened it (`observe` names the sessions), then plan again.",
	}
}

# METADATA
# title: Two sides accept writes now
# description: Prevents carrying on over a split brain with any step but the one that ends it.
# custom:
#   code: one_writable.two_now
#   remedy: Close the side that is not primary; planning again makes that the first step.
deny contains finding if {
	input.phase == "step"
	some entry in lib.entries
	_two_accept(entry.world)
	not entry.step.kind in _harmless
	not _closes_stray(entry)
	finding := {
		"code": "one_writable.two_now",
		"level": "hard",
		"message": sprintf("neither side is proved frozen before %s", [entry.step.id]),
		"step": entry.step.id,
		"path": "observed.world",
		"evidence": json.filter(entry.world, {"old/writes", "new/writes", "primary"}),
		"remedy": "Close the side that is not primary; planning again makes that the first step.",
	}
}

# METADATA
# title: Writability is not in the document
# description: Prevents silence about worlds that are not there.
# custom:
#   code: one_writable.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.trajectory", "observed.world"})
	finding := {
		"code": "one_writable.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: Neither side is closed
# description: Also true of a world that says nothing about its sides.
_two_accept(world) if {
	not _closed(world, "old")
	not _closed(world, "new")
}

# METADATA
# title: Seen to accept writes
# description: A side that is out of sight was not seen to; that it is unknown is told by another package.
_seen_open(world, role) if world[role].writes in {"open", "held"}

# METADATA
# title: Proved frozen
# description: The canary write was refused.
_closed(world, role) if world[role].writes == "frozen"

# METADATA
# title: Out of sight, and frozen before the decision fell
# description: A durable freeze survives restarts; without this a dead old side would keep the new one closed for ever.
_closed(world, "old") if {
	world.primary == "new"
	world.old.reach == "unreachable"
	world.old.writes == "unknown"
}

# METADATA
# title: Two sides at the start, ended by the first step that changes anything
# description: An earlier restore that was left open for writes is where the first user stands.
_tolerated(i) if {
	changing := min([k | some k, step in input.plan.steps; not step.kind in _harmless])
	i <= changing
	_closes_stray({"step": input.plan.steps[changing], "world": input.plan.trajectory[changing]})
}

# METADATA
# title: Closes the side that is not primary
# description: Preparing the target fences it before anything else.
_closes_stray(entry) if {
	entry.step.kind in {"prepare-target", "freeze"}
	entry.step.subject in {input.plan.old, input.plan.new}
	entry.step.subject != lib.endpoint_of[entry.world.primary]
}
