# METADATA
# title: Decisive facts are fresh
# description: >-
#   Prevents acting on a world that is no more: a plan saved last week, an observation that took an hour, a clock that
#   jumped. Looking again is always possible, so no step is exempt.
# custom:
#   code: observation_fresh
#   remedy: Observe again.
package statehub.policies.observation_fresh

import data.statehub.lib

# METADATA
# title: Facts that the judged steps stand on
# description: By id; those of an endpoint only where a step needs that endpoint.
_decisive contains id if {
	not input.phase == "plan"
	some entry in lib.entries
	some endpoint in lib.endpoints_needed(entry)
	some suffix in {"reach", "identity", "writes", "register"}
	id := sprintf("%s.%s", [endpoint, suffix])
}

# METADATA
# title: A decisive fact is too old
# description: Prevents deciding today on what was true yesterday.
# custom:
#   code: observation_fresh.stale
#   remedy: Observe again; `apply` does so before each step.
deny contains finding if {
	some id in _decisive
	age_s := input.now - input.observed.facts[id].observed_at
	limit_s := object.get(input, ["limits", "observation_max_age_s"], null)
	age_s > limit_s
	finding := {
		"code": "observation_fresh.stale",
		"level": "hard",
		"message": sprintf("%s was observed %v s ago", [id, age_s]),
		"step": null,
		"path": sprintf("observed.facts.%s", [id]),
		"evidence": {"age_s": age_s, "limit_s": limit_s},
		"remedy": "Observe again; `apply` does so before each step.",
	}
}

# METADATA
# title: A decisive fact is from the future
# description: Prevents a wrong clock from keeping an old fact fresh.
# custom:
#   code: observation_fresh.future
#   remedy: Correct the clock of this machine, then observe again.
deny contains finding if {
	some id in _decisive
	fact := input.observed.facts[id]
	fact.observed_at > input.now + data.statehub.thresholds.ceilings.clock_tolerance_s
	finding := {
		"code": "observation_fresh.future",
		"level": "hard",
		"message": sprintf("%s was observed after now", [id]),
		"step": null,
		"path": sprintf("observed.facts.%s", [id]),
		"evidence": {"observed_at": fact.observed_at, "now": input.now},
		"remedy": "Correct the clock of this machine, then observe again.",
	}
}

# METADATA
# title: When a decisive fact was observed is not known
# description: Prevents a fact without an instant from being for ever fresh.
# custom:
#   code: observation_fresh.undated
#   remedy: Observe again with this release of the tool.
deny contains finding if {
	some id in _decisive
	fact := object.get(input, ["observed", "facts", id], null)
	not _dated(fact)
	finding := {
		"code": "observation_fresh.undated",
		"level": "hard",
		"message": sprintf("when %s was observed is not known", [id]),
		"step": null,
		"path": sprintf("observed.facts.%s", [id]),
		"evidence": {"fact": fact},
		"remedy": "Observe again with this release of the tool.",
	}
}

# METADATA
# title: Facts or limits are not in the document
# description: Prevents a comparison with an absent limit from being silent.
# custom:
#   code: observation_fresh.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"now", "phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "observed.facts",
		"observed.world", "limits.observation_max_age_s",
	})
	finding := {
		"code": "observation_fresh.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A fact with an instant
# description: Integer seconds.
_dated(fact) if is_number(fact.observed_at)
