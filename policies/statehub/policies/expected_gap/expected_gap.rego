# METADATA
# title: The hold that is to be expected fits the time-out
# description: >-
#   Prevents a hold that is given up at its time-out after everybody has waited for it, as a rehearsal could have told.
# custom:
#   code: expected_gap
#   remedy: Look in the rehearsal's receipt at what takes the time, or allow more with freeze.switchTimeout.
package statehub.policies.expected_gap

import data.statehub.lib

# METADATA
# title: Holds that a rehearsal on record speaks of
# description: Where the plan rehearses first there is none yet.
_needing contains entry if {
	not lib.is_planning
	some entry in lib.switching
	not lib.comes_first("rehearse", entry)
}

# METADATA
# title: The hold that the newest rehearsal predicts
# description: >-
#   In milliseconds, until the decision; clients that come back afterwards are no matter of the time-out. Undefined
#   where it does not say.
_predicted_ms := lib.rehearsal.predicted_hold_ms if is_number(lib.rehearsal.predicted_hold_ms)

# METADATA
# title: The hold that a rehearsal of an earlier release predicts
# description: Such a receipt has one figure for the hold and for clients that come back.
_predicted_ms := lib.rehearsal.predicted_gap_ms if {
	not "predicted_hold_ms" in object.keys(lib.rehearsal)
	is_number(lib.rehearsal.predicted_gap_ms)
}

# METADATA
# title: The hold would be longer than the time-out
# description: Prevents a switch that cannot succeed.
# custom:
#   code: expected_gap.too_long
#   remedy: Look in the rehearsal's receipt at what takes the time, or raise freeze.switchTimeout.
deny contains finding if {
	some entry in _needing
	limit_ms := object.get(input, ["limits", "switch_timeout_ms"], null)
	_predicted_ms > limit_ms
	finding := {
		"code": "expected_gap.too_long",
		"level": "hard",
		"message": sprintf("a hold of %v ms is to be expected", [_predicted_ms]),
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {"predicted_hold_ms": _predicted_ms, "limit_ms": limit_ms},
		"remedy": "Look in the rehearsal's receipt at what takes the time, or raise freeze.switchTimeout.",
	}
}

# METADATA
# title: Nobody knows how long the hold will be
# description: Prevents taking a receipt without a prediction for a short hold.
# custom:
#   code: expected_gap.unknown
#   remedy: Run `statehub-plan rehearse` with this release of the tool.
deny contains finding if {
	some entry in _needing
	not _is_predicted
	finding := {
		"code": "expected_gap.unknown",
		"level": "hard",
		"message": "no rehearsal predicts how long writers are held",
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {"fact": object.get(input, ["observed", "facts", "rehearsal"], null)},
		"remedy": "Run `statehub-plan rehearse` with this release of the tool.",
	}
}

# METADATA
# title: The hold would use up half of the time-out
# description: Says before the switch that little is left for a bad day.
# custom:
#   code: expected_gap.long
#   remedy: Look in the rehearsal's receipt at what takes the time.
warn contains finding if {
	some entry in lib.switching
	limit_ms := input.limits.switch_timeout_ms
	_predicted_ms > limit_ms / 2
	finding := {
		"code": "expected_gap.long",
		"level": "advisory",
		"message": sprintf("a hold of %v ms is to be expected", [_predicted_ms]),
		"step": entry.step.id,
		"path": "observed.facts.rehearsal",
		"evidence": {"predicted_hold_ms": _predicted_ms, "limit_ms": limit_ms},
		"remedy": "Look in the rehearsal's receipt at what takes the time.",
	}
}

# METADATA
# title: What this hazard reads is not in the document
# description: Prevents a comparison with something absent from being silent.
# custom:
#   code: expected_gap.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.steps", "plan.trajectory", "plan.method", "observed.world", "observed.facts",
		"limits.switch_timeout_ms",
	})
	finding := {
		"code": "expected_gap.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A hold that was predicted
# description: A number of milliseconds.
_is_predicted if _predicted_ms >= 0
