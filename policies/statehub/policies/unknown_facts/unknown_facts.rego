# METADATA
# title: Decisive facts are known
# description: >-
#   Prevents unknown from being taken for fine: an endpoint that did not answer, a canary write without a result, a
#   register that could not be read.
# custom:
#   code: unknown_facts
#   remedy: Remove the reason that the fact gives for being unknown, then observe again.
package statehub.policies.unknown_facts

import data.statehub.lib

# METADATA
# title: Facts that the judged steps stand on
# description: By id; those of an endpoint only where a step needs that endpoint.
_decisive contains id if {
	some entry in lib.entries
	some endpoint in lib.endpoints_needed(entry)
	some suffix in {"reach", "identity", "writes", "register"}
	id := sprintf("%s.%s", [endpoint, suffix])
}

# METADATA
# title: A decisive fact is unknown
# description: Prevents a step on the strength of something nobody could see.
# custom:
#   code: unknown_facts.unknown
#   remedy: Remove the reason that `observe` gives for it, then observe again.
deny contains finding if {
	some id in _decisive
	fact := input.observed.facts[id]
	not fact.status == "known"
	finding := {
		"code": "unknown_facts.unknown",
		"level": "hard",
		"message": sprintf("%s is unknown", [id]),
		"step": null,
		"path": sprintf("observed.facts.%s", [id]),
		"evidence": {"fact": fact},
		"remedy": "Remove the reason that `observe` gives for it, then observe again.",
	}
}

# METADATA
# title: Nobody looked at a decisive fact
# description: Prevents a shorter observation from passing for a complete one.
# custom:
#   code: unknown_facts.not_looked_at
#   remedy: Observe again with this release of the tool.
deny contains finding if {
	some id in _decisive
	not input.observed.facts[id]
	finding := {
		"code": "unknown_facts.not_looked_at",
		"level": "hard",
		"message": sprintf("nobody looked at %s", [id]),
		"step": null,
		"path": sprintf("observed.facts.%s", [id]),
		"evidence": {},
		"remedy": "Observe again with this release of the tool.",
	}
}

# METADATA
# title: The world before a risky step is not known
# description: Prevents a step whose starting point is a guess.
# custom:
#   code: unknown_facts.world
#   remedy: Observe again; `observe` names the facts that are unknown and why.
deny contains finding if {
	some entry in lib.risky
	some path in {"primary", "term", "old/reach", "old/writes", "new/reach", "new/writes"}
	object.get(entry.world, split(path, "/"), "unknown") == "unknown"
	finding := {
		"code": "unknown_facts.world",
		"level": "hard",
		"message": sprintf("%s begins in a world whose %s is unknown", [entry.step.id, replace(path, "/", ".")]),
		"step": entry.step.id,
		"path": sprintf("world.%s", [replace(path, "/", ".")]),
		"evidence": {},
		"remedy": "Observe again; `observe` names the facts that are unknown and why.",
	}
}

# METADATA
# title: Facts are not in the document
# description: Prevents silence about facts that are not there.
# custom:
#   code: unknown_facts.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "observed.facts", "observed.world",
	})
	finding := {
		"code": "unknown_facts.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}
