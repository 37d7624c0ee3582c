# METADATA
# title: Deferred lanes don't run
# description: >-
#   Prevents the follow-up work (full high availability) from starting before the move it depends on is complete and
#   has been stable. A deferred lane may be planned and shown at any time; carrying it out waits for its criteria.
# custom:
#   code: deferred_lanes
#   remedy: Wait for the entry criteria of the lane; `status` shows each one.
package statehub.policies.deferred_lanes

import data.statehub.lib

# METADATA
# title: Entry criteria that are not shown to hold
# description: Those that the plan declares, by the states that the journal and the other lanes give.
_open contains criterion if {
	some criterion in input.plan.criteria
	not _met(criterion)
}

# METADATA
# title: The lane is deferred
# description: Tells at planning what the lane waits for.
# custom:
#   code: deferred_lanes.waiting
#   remedy: Wait for the entry criteria of the lane; `status` shows each one.
warn contains finding if {
	input.phase == "plan"
	input.plan.lane == "deferred"
	count(_open) > 0
	finding := {
		"code": "deferred_lanes.waiting",
		"level": "advisory",
		"message": sprintf("this lane is deferred until: %s", [concat(", ", _open)]),
		"step": null,
		"path": "plan.lane",
		"evidence": {"open": _open, "criteria": object.get(input, ["history", "criteria"], null)},
		"remedy": "Wait for the entry criteria of the lane; `status` shows each one.",
	}
}

# METADATA
# title: An entry criterion does not hold
# description: Prevents carrying out a deferred lane too early; an unknown criterion is not a met one.
# custom:
#   code: deferred_lanes.unmet
#   remedy: Complete or supersede the lane that it waits for and let it stabilize; where that is unknown, mend what the message names; then plan again.
deny contains finding if {
	not input.phase == "plan"
	input.plan.lane == "deferred"
	count(lib.advancing) > 0
	some criterion in _open
	finding := {
		"code": "deferred_lanes.unmet",
		"level": "hard",
		"message": concat("; ", array.concat(
			[sprintf("entry criterion %s of this deferred lane does not hold", [criterion])],
			_said(criterion),
		)),
		"step": null,
		"path": sprintf("history.criteria.%s", [criterion]),
		"evidence": {"states": [state |
			some state in object.get(input, ["history", "criteria"], [])
			state.name == criterion
		]},
		"remedy": "Complete or supersede the lane that it waits for and let it stabilize; where that is unknown, mend what the message names; then plan again.",
	}
}

# METADATA
# title: A deferred lane without criteria
# description: Prevents "deferred" from meaning nothing because the list of what it waits for is empty.
# custom:
#   code: deferred_lanes.no_criteria
#   remedy: Say in `entryCriteria` what the lane waits for, or make it active.
deny contains finding if {
	input.plan.lane == "deferred"
	count(lib.advancing) > 0
	count(input.plan.criteria) == 0
	finding := {
		"code": "deferred_lanes.no_criteria",
		"level": "hard",
		"message": "this lane is deferred and declares nothing that would ever make it active",
		"step": null,
		"path": "plan.criteria",
		"evidence": {},
		"remedy": "Say in `entryCriteria` what the lane waits for, or make it active.",
	}
}

# METADATA
# title: The lane's state is none that is known
# description: Prevents a misspelt state from passing for an active one.
# custom:
#   code: deferred_lanes.unknown_state
#   remedy: Say active or deferred in `metadata.lane`.
deny contains finding if {
	lane := object.get(input, ["plan", "lane"], null)
	not lane in {"active", "deferred"}
	finding := {
		"code": "deferred_lanes.unknown_state",
		"level": "hard",
		"message": "the lane is neither active nor deferred",
		"step": null,
		"path": "plan.lane",
		"evidence": {"lane": lane},
		"remedy": "Say active or deferred in `metadata.lane`.",
	}
}

# METADATA
# title: Criteria are not in the document
# description: Prevents an absent list from passing for one without open entries.
# custom:
#   code: deferred_lanes.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.trajectory", "plan.criteria", "history.criteria"})
	finding := {
		"code": "deferred_lanes.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: What the history says of a criterion
# description: Told with the refusal, so that nobody has to look for it; a list that is empty where nothing is said.
_said(criterion) := sort([sprintf("%s: %s", [state.status, state.detail]) |
	some state in object.get(input, ["history", "criteria"], [])
	state.name == criterion
])

# METADATA
# title: A criterion that holds
# description: Every state given under its name says so, and there is one.
_met(criterion) if {
	states := {state.status | some state in input.history.criteria; state.name == criterion}
	states == {"met"}
}
