# METADATA
# title: The fallback is kept
# description: >-
#   Prevents the loss of the way back by accident: a fallback left out of the plan, overwritten by a copy in the wrong
#   direction, or retired because a block was deleted from a file.
# custom:
#   code: fallback_kept
#   remedy: Say in the plan what the other endpoint is; only `mode` retired, behind its own gate, gives it up.
package statehub.policies.fallback_kept

import data.statehub.lib

# METADATA
# title: The fallback is not the other endpoint
# description: Prevents a plan that names the primary, or a stranger, as its own fallback and so keeps none.
# custom:
#   code: fallback_kept.not_the_other_side
#   remedy: Name the endpoint that is not primary in `desired.fallback.endpoint`.
deny contains finding if {
	desired := input.plan.desired
	[desired.primary, desired.fallback.endpoint] != [input.plan.new, input.plan.old]
	finding := {
		"code": "fallback_kept.not_the_other_side",
		"level": "hard",
		"message": sprintf("the plan moves from %s to %s but wishes %s kept as fallback of %s", [
			input.plan.old,
			input.plan.new,
			desired.fallback.endpoint,
			desired.primary,
		]),
		"step": null,
		"path": "plan.desired",
		"evidence": {"desired": desired, "old": input.plan.old, "new": input.plan.new},
		"remedy": "Name the endpoint that is not primary in `desired.fallback.endpoint`.",
	}
}

# METADATA
# title: The fallback's mode is none that keeps it
# description: Prevents a misspelt or new mode from being taken for one that retains the fallback.
# custom:
#   code: fallback_kept.mode_unknown
#   remedy: Say frozen, following or retired in `desired.fallback.mode`.
deny contains finding if {
	mode := object.get(input, ["plan", "desired", "fallback", "mode"], null)
	not mode in {"frozen", "following", "retired"}
	finding := {
		"code": "fallback_kept.mode_unknown",
		"level": "hard",
		"message": "the fallback's mode is none of frozen, following and retired",
		"step": null,
		"path": "plan.desired.fallback.mode",
		"evidence": {"mode": mode},
		"remedy": "Say frozen, following or retired in `desired.fallback.mode`.",
	}
}

# METADATA
# title: Retired without a wish
# description: Prevents a step that gives up the fallback in a plan that wishes it retained.
# custom:
#   code: fallback_kept.retired_unwished
#   remedy: Leave the step out, or wish `desired.fallback.mode` retired in a plan of its own.
deny contains finding if {
	some step in input.plan.steps
	step.kind == "retire"
	not input.plan.desired.fallback.mode == "retired"
	finding := {
		"code": "fallback_kept.retired_unwished",
		"level": "hard",
		"message": sprintf("%s retires a fallback that the plan wishes retained", [step.id]),
		"step": step.id,
		"path": "plan.desired.fallback.mode",
		"evidence": {"mode": object.get(input, ["plan", "desired", "fallback", "mode"], null)},
		"remedy": "Leave the step out, or wish `desired.fallback.mode` retired in a plan of its own.",
	}
}

# METADATA
# title: The wrong side is retired
# description: Prevents retiring the endpoint that serves.
# custom:
#   code: fallback_kept.primary_retired
#   remedy: Retire the fallback only, once the register names the other endpoint primary.
deny contains finding if {
	some entry in lib.entries
	entry.step.kind == "retire"
	not _retires_fallback(entry)
	finding := {
		"code": "fallback_kept.primary_retired",
		"level": "hard",
		"message": sprintf("%s retires %v, which is not a fallback", [entry.step.id, entry.step.subject]),
		"step": entry.step.id,
		"path": "plan.steps",
		"evidence": {"subject": entry.step.subject, "primary": object.get(entry.world, "primary", null)},
		"remedy": "Retire the fallback only, once the register names the other endpoint primary.",
	}
}

# METADATA
# title: Retired in passing
# description: Prevents a plan that loses the fallback in a step that does not say so.
# custom:
#   code: fallback_kept.retired_in_passing
#   remedy: Plan again with this release of the tool, and report it if the plan is the same.
deny contains finding if {
	some i, step in input.plan.steps
	not input.plan.trajectory[i].retired
	input.plan.trajectory[i + 1].retired
	step.kind != "retire"
	finding := {
		"code": "fallback_kept.retired_in_passing",
		"level": "hard",
		"message": sprintf("the fallback is retired after %s, which is no step that retires it", [step.id]),
		"step": step.id,
		"path": sprintf("plan.trajectory[%d].retired", [i + 1]),
		"evidence": {"kind": step.kind},
		"remedy": "Plan again with this release of the tool, and report it if the plan is the same.",
	}
}

# METADATA
# title: The only good copy is overwritten
# description: Prevents a copy in the wrong direction, which empties or replaces the side that has the data.
# custom:
#   code: fallback_kept.overwritten
#   remedy: Plan again; a copy goes to the desired primary, and only while the other side is primary.
deny contains finding if {
	some entry in lib.entries
	entry.step.kind in {"prepare-target", "follow", "copy", "sync-sequences"}
	not _fills_new_side(entry)
	finding := {
		"code": "fallback_kept.overwritten",
		"level": "hard",
		"message": sprintf("%s writes into %v, which may hold the only good copy", [entry.step.id, entry.step.subject]),
		"step": entry.step.id,
		"path": "plan.steps",
		"evidence": {"subject": entry.step.subject, "primary": object.get(entry.world, "primary", null)},
		"remedy": "Plan again; a copy goes to the desired primary, and only while the other side is primary.",
	}
}

# METADATA
# title: The fallback's content goes away
# description: Prevents a plan after which the old side is empty although nobody retired it.
# custom:
#   code: fallback_kept.dropped
#   remedy: Plan again with this release of the tool, and report it if the plan is the same.
deny contains finding if {
	some i, step in input.plan.steps
	input.plan.trajectory[i].old.data != "absent"
	input.plan.trajectory[i + 1].old.data == "absent"
	finding := {
		"code": "fallback_kept.dropped",
		"level": "hard",
		"message": sprintf("after %s the old side holds no data", [step.id]),
		"step": step.id,
		"path": sprintf("plan.trajectory[%d].old.data", [i + 1]),
		"evidence": {"before": input.plan.trajectory[i].old, "after": input.plan.trajectory[i + 1].old},
		"remedy": "Plan again with this release of the tool, and report it if the plan is the same.",
	}
}

# METADATA
# title: The fallback is not in the document
# description: Prevents protection that vanishes together with its block.
# custom:
#   code: fallback_kept.missing
#   remedy: Say in `desired.fallback` which endpoint is kept and in which mode.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "plan.desired.primary",
		"plan.desired.fallback.endpoint", "plan.desired.fallback.mode", "observed.world",
	})
	finding := {
		"code": "fallback_kept.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Say in `desired.fallback` which endpoint is kept and in which mode.",
	}
}

# METADATA
# title: Retires the side that is not primary
# description: By the register, in the world before the step.
_retires_fallback(entry) if {
	entry.step.subject == input.plan.old
	entry.world.primary == "new"
}

# METADATA
# title: Fills the side that is to become primary
# description: While the other one is primary by the register.
_fills_new_side(entry) if {
	entry.step.subject == input.plan.new
	entry.world.primary == "old"
}
