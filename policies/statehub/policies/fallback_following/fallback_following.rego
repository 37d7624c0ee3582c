# METADATA
# title: A fallback that is to follow does, and is not far behind
# description: >-
#   Prevents finding out on the day of the switchback that the fallback stopped following weeks ago, and a switch onto a side
#   that misses what the other one has acknowledged.
# custom:
#   code: fallback_following
#   remedy: Mend what stops the stream, or set it up anew by planning again.
package statehub.policies.fallback_following

import data.statehub.lib

# METADATA
# title: The stream into the fallback that is wished to follow
# description: Once the primary has moved; undefined otherwise.
_fallback := input.observed.streams[input.plan.desired.fallback.endpoint] if {
	input.plan.desired.fallback.mode == "following"
	input.observed.world.primary == "new"
}

# METADATA
# title: Holds that begin on a stream which is there already
# description: Where the plan sets it up first, nothing is expected of it yet.
_needing contains entry if {
	not lib.is_planning
	some entry in lib.switching
	not lib.comes_first("follow", entry)
}

# METADATA
# title: A switch onto a side that does not follow
# description: Prevents losing what was acknowledged on the other side, as with a slot that was dropped or a worker that stands still.
# custom:
#   code: fallback_following.not_streaming
#   remedy: Mend the stream; where it is lost, plan this switch again, so that it is filled anew first.
deny contains finding if {
	some entry in _needing
	not lib.stream_into_new.state == "streaming"
	finding := {
		"code": "fallback_following.not_streaming",
		"level": "hard",
		"message": sprintf("%v does not follow: %v", [input.plan.new, object.get(input, ["observed", "streams", input.plan.new, "why"], "not known")]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"stream": object.get(input, ["observed", "streams", input.plan.new], null)},
		"remedy": "Mend the stream; where it is lost, plan this switch again, so that it is filled anew first.",
	}
}

# METADATA
# title: A switch while the stream is far behind
# description: Prevents a hold during which writers wait for a backlog that cannot arrive in time.
# custom:
#   code: fallback_following.too_far_behind
#   remedy: Wait until it has caught up, or raise desired.fallback.limits.maxLag.
deny contains finding if {
	some entry in _needing
	lag_bytes := lib.stream_into_new.lag_bytes
	is_number(lag_bytes)
	limit_bytes := object.get(input, ["limits", "max_lag_bytes"], null)
	lag_bytes > limit_bytes
	finding := {
		"code": "fallback_following.too_far_behind",
		"level": "hard",
		"message": sprintf("%v is %v bytes behind", [input.plan.new, lag_bytes]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"lag_bytes": lag_bytes, "limit_bytes": limit_bytes},
		"remedy": "Wait until it has caught up, or raise desired.fallback.limits.maxLag.",
	}
}

# METADATA
# title: The fallback does not follow
# description: Says at once that there is no lossless way back, or none at the moment.
# custom:
#   code: fallback_following.not_following
#   remedy: Mend what `why` names; where the stream is lost, fill the fallback anew as README tells it (When the fallback is lost or no longer follows).
warn contains finding if {
	_fallback
	not _follows
	not _sets_it_up
	finding := {
		"code": "fallback_following.not_following",
		"level": "advisory",
		"message": sprintf("the fallback does not follow: %v", [object.get(_fallback, "why", "not known")]),
		"step": null,
		"path": "observed.streams",
		"evidence": {"stream": _fallback},
		"remedy": "Mend what `why` names; where the stream is lost, fill the fallback anew as README tells it (When the fallback is lost or no longer follows).",
	}
}

# METADATA
# title: The fallback follows and may miss rows
# description: Says at once that following is not the same as having everything, as after a failover of the fallback.
# custom:
#   code: fallback_following.not_lossless
#   remedy: Rehearse the way back, which compares both sides; where they differ, let the stream be made anew.
warn contains finding if {
	_fallback.state == "streaming"
	_fallback.lossless == false
	finding := {
		"code": "fallback_following.not_lossless",
		"level": "advisory",
		"message": sprintf("the fallback follows and the way back is not lossless: %v", [object.get(_fallback, "why", "not known")]),
		"step": null,
		"path": "observed.streams",
		"evidence": {"stream": _fallback},
		"remedy": "Rehearse the way back, which compares both sides; where they differ, let the stream be made anew.",
	}
}

# METADATA
# title: The fallback is behind
# description: Says while there is time that it falls behind.
# custom:
#   code: fallback_following.behind
#   remedy: Look what slows its apply worker down.
warn contains finding if {
	value := _fallback.lag_bytes
	is_number(value)
	limit := input.limits.advise_lag_bytes
	value > limit
	finding := {
		"code": "fallback_following.behind",
		"level": "advisory",
		"message": sprintf("the fallback is %v bytes behind", [value]),
		"step": null,
		"path": "observed.streams",
		"evidence": {"lag_bytes": value, "limit_bytes": limit},
		"remedy": "Look what slows its apply worker down.",
	}
}

# METADATA
# title: Its slot keeps much
# description: Says while there is time that WAL piles up on the primary.
# custom:
#   code: fallback_following.retained
#   remedy: Let it catch up; at dropSlotAtRetained the slot is dropped and the way back is no longer lossless.
warn contains finding if {
	value := _fallback.retained_bytes
	is_number(value)
	limit := input.limits.advise_retained_bytes
	value > limit
	finding := {
		"code": "fallback_following.retained",
		"level": "advisory",
		"message": sprintf("the fallback makes its slot keep %v bytes", [value]),
		"step": null,
		"path": "observed.streams",
		"evidence": {"retained_bytes": value, "limit_bytes": limit},
		"remedy": "Let it catch up; at dropSlotAtRetained the slot is dropped and the way back is no longer lossless.",
	}
}

# METADATA
# title: The primary's disk fills
# description: Says while there is time that the slot may have to go.
# custom:
#   code: fallback_following.disk
#   remedy: Make room on the primary; at dropSlotAtDiskFree the slot is dropped and the way back is no longer lossless.
warn contains finding if {
	value := _fallback.disk_free_bytes
	is_number(value)
	limit := input.limits.advise_disk_free_bytes
	value < limit
	finding := {
		"code": "fallback_following.disk",
		"level": "advisory",
		"message": sprintf("the fallback leaves the primary %v bytes of disk", [value]),
		"step": null,
		"path": "observed.streams",
		"evidence": {"disk_free_bytes": value, "limit_bytes": limit},
		"remedy": "Make room on the primary; at dropSlotAtDiskFree the slot is dropped and the way back is no longer lossless.",
	}
}

# METADATA
# title: What this hazard reads is not in the document
# description: Prevents a comparison with something absent from being silent.
# custom:
#   code: fallback_following.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "plan.method",
		"plan.desired.fallback.endpoint", "plan.desired.fallback.mode", "observed.world", "observed.streams",
		"limits.max_lag_bytes", "limits.advise_lag_bytes", "limits.advise_retained_bytes", "limits.advise_disk_free_bytes",
	})
	finding := {
		"code": "fallback_following.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A fallback that follows, or is on its way to
# description: Whatever else it does, advice is due.
_follows if _fallback.state in {"streaming", "copying"}

# METADATA
# title: A plan that sets the fallback up
# description: What is about to be mended needs no advice.
_sets_it_up if {
	some i, step in input.plan.steps
	step.kind == "reverse-follow"
	some entry in lib.entries
	entry.index <= i
}
