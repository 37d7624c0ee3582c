# METADATA
# title: The fallback is retired only after drills
# description: >-
#   Prevents giving up the last way back before restoring a backup and failing over have been shown to work here,
#   recently, and before somebody agreed to that in particular.
# custom:
#   code: retire_after_drills
#   remedy: Run `drill restore` and `drill failover`; retirement has a gate of its own.
package statehub.policies.retire_after_drills

import data.statehub.lib

# METADATA
# title: The drills that retirement stands on
# description: With the step that carries each out, its part of a world, and the plan's limit for its age.
_drills := {
	"restore": {"step": "restore-drill", "world": "restore_drill", "limit": "restore_drill_max_age_s"},
	"failover": {"step": "failover-drill", "world": "failover_drill", "limit": "failover_drill_max_age_s"},
}

# METADATA
# title: A drill is not done on the way
# description: Prevents a plan that retires the fallback before, or without, the drill.
# custom:
#   code: retire_after_drills.not_done
#   remedy: Run the drill; planning again puts it before the retirement.
deny contains finding if {
	some entry in lib.retiring
	some kind, drill in _drills
	not entry.world[drill.world] == "done"
	finding := {
		"code": "retire_after_drills.not_done",
		"level": "hard",
		"message": sprintf("%s comes before a %s drill has passed", [entry.step.id, kind]),
		"step": entry.step.id,
		"path": sprintf("world.%s", [drill.world]),
		"evidence": {"drill": kind, "state": object.get(entry.world, drill.world, null)},
		"remedy": "Run the drill; planning again puts it before the retirement.",
	}
}

# METADATA
# title: No fresh drill is on record
# description: Prevents a drill of last year, or one that failed, from passing for one that shows anything today.
# custom:
#   code: retire_after_drills.not_fresh
#   remedy: Run the drill again.
deny contains finding if {
	some entry in lib.retiring
	some kind, drill in _drills
	not lib.comes_first(drill.step, entry)
	not _on_record(kind, drill)
	finding := {
		"code": "retire_after_drills.not_fresh",
		"level": "hard",
		"message": sprintf("no passed %s drill within the limit is on record", [kind]),
		"step": entry.step.id,
		"path": "history.drills",
		"evidence": {
			"drills": [record | some record in object.get(input, ["history", "drills"], []); record.kind == kind],
			"limit_s": object.get(input, ["limits", drill.limit], null),
			"now": object.get(input, "now", null),
		},
		"remedy": "Run the drill again.",
	}
}

# METADATA
# title: One gate for the cutover and the retirement
# description: Prevents an approval of the move from being taken for one of giving up the way back.
# custom:
#   code: retire_after_drills.gate_shared
#   remedy: Declare a gate of its own for the retirement.
deny contains finding if {
	some entry in lib.retiring
	some gate in input.plan.gates
	"retire" in gate.guards
	shared := {kind | some kind in gate.guards; kind in lib.crossing_kinds}
	count(shared) > 0
	finding := {
		"code": "retire_after_drills.gate_shared",
		"level": "hard",
		"message": sprintf("gate %s guards the cutover and the retirement", [gate.name]),
		"step": entry.step.id,
		"path": "plan.gates",
		"evidence": {"gate": gate.name, "guards": gate.guards},
		"remedy": "Declare a gate of its own for the retirement.",
	}
}

# METADATA
# title: Drills are not in the document
# description: Prevents absent limits or records from being silent.
# custom:
#   code: retire_after_drills.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"now", "phase", "plan.steps", "plan.trajectory", "plan.gates", "observed.world", "history.drills",
		"limits.restore_drill_max_age_s", "limits.failover_drill_max_age_s",
	})
	finding := {
		"code": "retire_after_drills.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A passed drill within the plan's limit
# description: A limit that is null stands for a drill that the plan does not declare, and so cannot have had.
_on_record(kind, drill) if {
	limit_s := input.limits[drill.limit]
	is_number(limit_s)
	some record in input.history.drills
	record.kind == kind
	record.passed == true
	age_s := input.now - record.at
	age_s <= limit_s
	age_s >= 0 - data.statehub.thresholds.ceilings.clock_tolerance_s
}
