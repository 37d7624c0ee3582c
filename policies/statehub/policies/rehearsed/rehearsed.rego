# METADATA
# title: A switch by replication was rehearsed
# description: >-
#   Prevents finding out while writers wait that a table cannot be locked, that the drain does not end, or that sequences
#   cannot be set.
# custom:
#   code: rehearsed
#   remedy: Run `statehub-plan rehearse`; planning again puts a rehearsal before the hold.
package statehub.policies.rehearsed

import data.statehub.lib

# METADATA
# title: Holds that need a rehearsal on record now
# description: Where the plan rehearses first there is none yet.
_needing contains entry if {
	not lib.is_planning
	some entry in lib.switching
	not lib.comes_first("rehearse", entry)
}

# METADATA
# title: Nothing was rehearsed
# description: Prevents a first attempt on the day.
# custom:
#   code: rehearsed.none
#   remedy: Run `statehub-plan rehearse`, then go on with the same plan.
deny contains finding if {
	some entry in _needing
	not lib.rehearsal
	finding := {
		"code": "rehearsed.none",
		"level": "hard",
		"message": "no rehearsal is on record",
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {"fact": object.get(input, ["observed", "facts", "rehearsal"], null)},
		"remedy": "Run `statehub-plan rehearse`, then go on with the same plan.",
	}
}

# METADATA
# title: The newest rehearsal did not pass
# description: Prevents repeating in earnest what failed when nothing was at stake.
# custom:
#   code: rehearsed.failed
#   remedy: Mend what the rehearsal met, then rehearse again.
deny contains finding if {
	some entry in _needing
	lib.rehearsal
	not lib.rehearsal.state == "passed"
	finding := {
		"code": "rehearsed.failed",
		"level": "hard",
		"message": "the newest rehearsal did not pass",
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {"rehearsal": lib.rehearsal},
		"remedy": "Mend what the rehearsal met, then rehearse again.",
	}
}

# METADATA
# title: The rehearsal is too old
# description: Prevents relying on a rehearsal from before the last schema change or the last growth.
# custom:
#   code: rehearsed.not_fresh
#   remedy: Run `statehub-plan rehearse`, then go on with the same plan.
deny contains finding if {
	some entry in _needing
	lib.rehearsal
	not _is_fresh
	finding := {
		"code": "rehearsed.not_fresh",
		"level": "hard",
		"message": "no rehearsal within the limit is on record",
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {
			"at": object.get(lib.rehearsal, "at", null),
			"now": object.get(input, "now", null),
			"limit_s": object.get(input, ["limits", "rehearsal_max_age_s"], null),
		},
		"remedy": "Run `statehub-plan rehearse`, then go on with the same plan.",
	}
}

# METADATA
# title: The rehearsal was one of another switch
# description: Prevents a rehearsal in the other direction, or of a decision that was burned, from counting.
# custom:
#   code: rehearsed.of_another
#   remedy: Run `statehub-plan rehearse`, then go on with the same plan.
deny contains finding if {
	some entry in _needing
	lib.rehearsal
	not _is_of_this_switch
	finding := {
		"code": "rehearsed.of_another",
		"level": "hard",
		"message": "the newest rehearsal was of another decision or another stream",
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {
			"rehearsed": [object.get(lib.rehearsal, "term", null), object.get(lib.rehearsal, "stream", null)],
			"planned": [
				object.get(input, ["plan", "term"], null),
				object.get(input, ["observed", "streams", input.plan.new, "slot"], null),
			],
		},
		"remedy": "Run `statehub-plan rehearse`, then go on with the same plan.",
	}
}

# METADATA
# title: What this hazard reads is not in the document
# description: Prevents a comparison with something absent from being silent.
# custom:
#   code: rehearsed.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"now", "phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "plan.method", "plan.term",
		"observed.world", "observed.facts", "observed.streams", "limits.rehearsal_max_age_s",
	})
	finding := {
		"code": "rehearsed.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A rehearsal within the plan's limit
# description: Not of the future either, but for the tolerance of clocks.
_is_fresh if {
	limit_s := input.limits.rehearsal_max_age_s
	is_number(limit_s)
	is_number(lib.rehearsal.at)
	age_s := input.now - lib.rehearsal.at
	age_s <= limit_s
	age_s >= 0 - data.statehub.thresholds.ceilings.clock_tolerance_s
}

# METADATA
# title: A rehearsal of this decision over this stream
# description: The slot is named after the database that receives.
_is_of_this_switch if {
	lib.rehearsal.term == input.plan.term
	is_string(lib.rehearsal.stream)
	lib.rehearsal.stream == lib.stream_into_new.slot
}
