# METADATA
# title: The endpoints are still those that were planned and approved
# description: >-
#   Prevents carrying out a plan on a database that has taken the place of the one that was looked at: a DSN that leads
#   elsewhere now, a cluster made anew, a restored copy under the old name.
# custom:
#   code: identity_unchanged
#   remedy: Find out what answers under the endpoint's name, then plan and approve again.
package statehub.policies.identity_unchanged

import data.statehub.lib

# METADATA
# title: The parts of an identity
# description: Each must be known; PostgreSQL draws the system identifier when a cluster is made.
_parts := {"system_identifier", "database", "database_oid"}

# METADATA
# title: Endpoints that the judged steps touch
# description: Once per endpoint, whatever the number of steps.
_needed contains endpoint if {
	some entry in lib.entries
	some endpoint in lib.endpoints_needed(entry)
}

# METADATA
# title: Another database answers
# description: Prevents steps whose approval was given for a different pair of databases.
# custom:
#   code: identity_unchanged.changed
#   remedy: Find out what answers under the endpoint's name, then plan and approve again.
deny contains finding if {
	some endpoint in _needed
	_known(input.plan.identities, endpoint)
	_known(input.observed.identities, endpoint)
	input.plan.identities[endpoint] != input.observed.identities[endpoint]
	finding := {
		"code": "identity_unchanged.changed",
		"level": "hard",
		"message": sprintf("%s is not the database that was planned for", [endpoint]),
		"step": null,
		"path": sprintf("observed.identities.%s", [endpoint]),
		"evidence": {
			"planned": input.plan.identities[endpoint],
			"observed": input.observed.identities[endpoint],
		},
		"remedy": "Find out what answers under the endpoint's name, then plan and approve again.",
	}
}

# METADATA
# title: The plan does not know its endpoint
# description: Prevents an approval that is bound to nothing.
# custom:
#   code: identity_unchanged.unplanned
#   remedy: Make the endpoint reachable and plan again.
deny contains finding if {
	some endpoint in _needed
	not _known(input.plan.identities, endpoint)
	finding := {
		"code": "identity_unchanged.unplanned",
		"level": "hard",
		"message": sprintf("the plan does not say which database %s is", [endpoint]),
		"step": null,
		"path": sprintf("plan.identities.%s", [endpoint]),
		"evidence": {"planned": object.get(input, ["plan", "identities", endpoint], null)},
		"remedy": "Make the endpoint reachable and plan again.",
	}
}

# METADATA
# title: Who answers is not known
# description: Prevents acting on an endpoint that could be anybody.
# custom:
#   code: identity_unchanged.unobserved
#   remedy: Make the endpoint reachable and observe again.
deny contains finding if {
	some endpoint in _needed
	not _known(input.observed.identities, endpoint)
	finding := {
		"code": "identity_unchanged.unobserved",
		"level": "hard",
		"message": sprintf("which database answers as %s is not known", [endpoint]),
		"step": null,
		"path": sprintf("observed.identities.%s", [endpoint]),
		"evidence": {"observed": object.get(input, ["observed", "identities", endpoint], null)},
		"remedy": "Make the endpoint reachable and observe again.",
	}
}

# METADATA
# title: Both endpoints are one database
# description: Prevents a "move" onto itself, in which the copy would empty the only database there is.
# custom:
#   code: identity_unchanged.same_database
#   remedy: Correct the DSN of one endpoint; physical copies of a cluster cannot be endpoints of one plan.
deny contains finding if {
	count(lib.advancing) > 0
	_known(input.observed.identities, input.plan.old)
	input.observed.identities[input.plan.old] == input.observed.identities[input.plan.new]
	finding := {
		"code": "identity_unchanged.same_database",
		"level": "hard",
		"message": sprintf("%s and %s are the same database", [input.plan.old, input.plan.new]),
		"step": null,
		"path": "observed.identities",
		"evidence": {"identity": input.observed.identities[input.plan.old]},
		"remedy": "Correct the DSN of one endpoint; physical copies of a cluster cannot be endpoints of one plan.",
	}
}

# METADATA
# title: Identities are not in the document
# description: Prevents a comparison with nothing from being silent.
# custom:
#   code: identity_unchanged.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "plan.identities",
		"observed.world", "observed.identities",
	})
	finding := {
		"code": "identity_unchanged.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: All parts of an identity are known
# description: Null and absent are not.
_known(identities, endpoint) if {
	every part in _parts {
		not identities[endpoint][part] in {null, ""}
	}
	count(identities[endpoint]) == count(_parts)
}
