# METADATA
# title: What a switch by replication stands on is seen
# description: >-
#   Prevents a switch on the strength of a stream that nobody could look at: an end that did not answer, a lag that is not
#   known, a disk whose command failed.
# custom:
#   code: streams_known
#   remedy: Make both ends observable, then go on with the same plan.
package statehub.policies.streams_known

import data.statehub.lib

# METADATA
# title: Holds that begin on a stream which is there already
# description: Where the plan sets the stream up first there is nothing to see yet.
_needing contains entry if {
	not lib.is_planning
	some entry in lib.switching
	not lib.comes_first("follow", entry)
}

# METADATA
# title: The stream could not be seen
# description: Prevents taking an end that does not answer for one that is fine.
# custom:
#   code: streams_known.unseen
#   remedy: Make both endpoints answer; `observe --unknown` says what does not.
deny contains finding if {
	some entry in _needing
	not lib.stream_into_new.observed == true
	finding := {
		"code": "streams_known.unseen",
		"level": "hard",
		"message": sprintf("whether %v follows could not be observed", [input.plan.new]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"stream": object.get(input, ["observed", "streams", input.plan.new], null)},
		"remedy": "Make both endpoints answer; `observe --unknown` says what does not.",
	}
}

# METADATA
# title: How far behind the stream is, is not known
# description: Prevents a hold that waits for a backlog of unknown length.
# custom:
#   code: streams_known.unmeasured
#   remedy: Look why the sender does not say; a standby, for one, cannot.
deny contains finding if {
	some entry in _needing
	lib.stream_into_new.observed == true
	some figure in {"lag_bytes", "retained_bytes"}
	not _is_measured(figure)
	finding := {
		"code": "streams_known.unmeasured",
		"level": "hard",
		"message": sprintf("%s of the stream into %v is not known", [figure, input.plan.new]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"stream": lib.stream_into_new},
		"remedy": "Look why the sender does not say; a standby, for one, cannot.",
	}
}

# METADATA
# title: A disk that is watched could not be seen
# description: Prevents a full disk from hiding behind a command that failed.
# custom:
#   code: streams_known.disk_unknown
#   remedy: Mend the command database.diskFree of that endpoint.
deny contains finding if {
	some entry in _needing
	some direction in lib.directions
	direction.sender in input.plan.disks_watched
	not _is_disk_seen(direction)
	finding := {
		"code": "streams_known.disk_unknown",
		"level": "hard",
		"message": sprintf("how much disk %v has left is not known", [direction.sender]),
		"step": entry.step.id,
		"path": sprintf("observed.facts.%v.disk_free_bytes", [direction.sender]),
		"evidence": {"fact": object.get(input, ["observed", "facts", sprintf("%v.disk_free_bytes", [direction.sender])], null)},
		"remedy": "Mend the command database.diskFree of that endpoint.",
	}
}

# METADATA
# title: A disk that nobody watches
# description: Says before the switch that a slot could fill a disk unseen.
# custom:
#   code: streams_known.disk_unwatched
#   remedy: Declare database.diskFree for that endpoint, a command that prints the bytes left where its WAL is.
warn contains finding if {
	some entry in lib.switching
	some direction in lib.directions
	not direction.sender in object.get(input, ["plan", "disks_watched"], [])
	finding := {
		"code": "streams_known.disk_unwatched",
		"level": "advisory",
		"message": sprintf("nobody watches how much disk %v has left", [direction.sender]),
		"step": entry.step.id,
		"path": "plan.disks_watched",
		"evidence": {"endpoint": direction.sender},
		"remedy": "Declare database.diskFree for that endpoint, a command that prints the bytes left where its WAL is.",
	}
}

# METADATA
# title: What this hazard reads is not in the document
# description: Prevents a comparison with something absent from being silent.
# custom:
#   code: streams_known.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "plan.method", "plan.disks_watched",
		"observed.world", "observed.streams", "observed.facts",
	})
	finding := {
		"code": "streams_known.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A figure that is a number
# description: Null stands for one that the server did not say.
_is_measured(figure) if is_number(lib.stream_into_new[figure])

# METADATA
# title: A sender whose disk was seen
# description: By the stream that runs out of it.
_is_disk_seen(direction) if is_number(input.observed.streams[direction.receiver].disk_free_bytes)
