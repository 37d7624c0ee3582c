# METADATA
# title: Limits are there, are numbers, and are no laxer than this bundle allows
# description: >-
#   Prevents `age > limit` from being silent because the limit is absent or a text, and a plan from giving itself a
#   backup age of a year. The ceilings are in statehub/thresholds/data.json.
# custom:
#   code: thresholds
#   remedy: Restore statehub/thresholds/data.json, or tighten the plan's limit.
package statehub.policies.thresholds

import data.statehub.lib

# METADATA
# title: Limits that a plan must have
# description: Each with a ceiling of the same name.
_required := {
	"backup_max_age_s", "observation_max_age_s", "hold_max_s", "switch_timeout_ms", "max_lag_bytes",
	"drop_slot_at_retained_bytes",
}

# METADATA
# title: Limits that are null where the plan declares no such drill, or rehearses nothing
# description: Retirement and switches by replication ask for them by themselves.
_optional := {"restore_drill_max_age_s", "failover_drill_max_age_s", "rehearsal_max_age_s"}

# METADATA
# title: Limits that count from above
# description: Each with a floor of the same name.
_floored := {"drop_slot_at_disk_free_bytes"}

# METADATA
# title: Names of all ceilings
# description: The tolerance for clocks is the bundle's alone.
_names := (_required | _optional) | {"clock_tolerance_s"}

# METADATA
# title: A ceiling is absent
# description: Prevents a bundle without its data from judging anything fine.
# custom:
#   code: thresholds.absent
#   remedy: Restore statehub/thresholds/data.json.
deny contains finding if {
	some name in _names
	not data.statehub.thresholds.ceilings[name]
	finding := {
		"code": "thresholds.absent",
		"level": "hard",
		"message": sprintf("the bundle has no ceiling %s", [name]),
		"step": null,
		"path": sprintf("thresholds.ceilings.%s", [name]),
		"evidence": {},
		"remedy": "Restore statehub/thresholds/data.json.",
	}
}

# METADATA
# title: A ceiling is no number
# description: Prevents a text, which is greater than every number, from allowing everything.
# custom:
#   code: thresholds.ceiling_type
#   remedy: Write whole numbers, not below zero, into statehub/thresholds/data.json.
deny contains finding if {
	some name in _names
	ceiling := data.statehub.thresholds.ceilings[name]
	not _number(ceiling)
	finding := {
		"code": "thresholds.ceiling_type",
		"level": "hard",
		"message": sprintf("ceiling %s is %v, not a number", [name, ceiling]),
		"step": null,
		"path": sprintf("thresholds.ceilings.%s", [name]),
		"evidence": {"ceiling": ceiling},
		"remedy": "Write whole numbers, not below zero, into statehub/thresholds/data.json.",
	}
}

# METADATA
# title: A limit is no number
# description: Prevents a comparison that can only come out one way.
# custom:
#   code: thresholds.limit_type
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some name, limit in input.limits
	name in (_required | _optional)
	not _allowed_type(name, limit)
	finding := {
		"code": "thresholds.limit_type",
		"level": "hard",
		"message": sprintf("limit %s is %v, not a number", [name, limit]),
		"step": null,
		"path": sprintf("limits.%s", [name]),
		"evidence": {"limit": limit},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A limit is laxer than the bundle allows
# description: Prevents a plan from arguing its own safety away; a run that only finishes is not stopped by it.
# custom:
#   code: thresholds.too_lax
#   remedy: Tighten the limit in the plan, then plan and approve again.
deny contains finding if {
	count(lib.risky) > 0
	some name, limit in input.limits
	_number(limit)
	ceiling := data.statehub.thresholds.ceilings[name]
	_number(ceiling)
	limit > ceiling
	finding := {
		"code": "thresholds.too_lax",
		"level": "hard",
		"message": sprintf("limit %s is %v, the bundle allows %v", [name, limit, ceiling]),
		"step": null,
		"path": sprintf("limits.%s", [name]),
		"evidence": {"limit": limit, "ceiling": ceiling},
		"remedy": "Tighten the limit in the plan, then plan and approve again.",
	}
}

# METADATA
# title: A floor is absent or no number
# description: Prevents a bundle without its data from finding any room on a disk enough.
# custom:
#   code: thresholds.floor
#   remedy: Restore the floors in statehub/thresholds/data.json.
deny contains finding if {
	some name in _floored
	not _is_floor(name)
	finding := {
		"code": "thresholds.floor",
		"level": "hard",
		"message": sprintf("the bundle has no floor %s", [name]),
		"step": null,
		"path": sprintf("thresholds.floors.%s", [name]),
		"evidence": {},
		"remedy": "Restore the floors in statehub/thresholds/data.json.",
	}
}

# METADATA
# title: A limit leaves less room than the bundle demands
# description: Prevents a plan from keeping its slot until the disk is full.
# custom:
#   code: thresholds.too_low
#   remedy: Raise the limit in the plan, then plan and approve again.
deny contains finding if {
	count(lib.risky) > 0
	some name in _floored
	limit := input.limits[name]
	floor := data.statehub.thresholds.floors[name]
	limit < floor
	finding := {
		"code": "thresholds.too_low",
		"level": "hard",
		"message": sprintf("limit %s is %v, the bundle demands %v", [name, limit, floor]),
		"step": null,
		"path": sprintf("limits.%s", [name]),
		"evidence": {"limit": limit, "floor": floor},
		"remedy": "Raise the limit in the plan, then plan and approve again.",
	}
}

# METADATA
# title: Limits are not in the document
# description: Prevents comparisons with absent limits from being silent.
# custom:
#   code: thresholds.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({sprintf("limits.%s", [name]) | some name in ((_required | _optional) | _floored)} | {
		"phase",
		"plan.steps",
		"plan.trajectory",
	})
	finding := {
		"code": "thresholds.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A number
# description: Not negative.
_number(value) if {
	is_number(value)
	value >= 0
}

# METADATA
# title: A floor that is a number
# description: Of the bundle's own data.
_is_floor(name) if _number(data.statehub.thresholds.floors[name])

# METADATA
# title: A limit of the right type
# description: Null is one for a drill that the plan does not declare.
_allowed_type(_, limit) if _number(limit)

# METADATA
# title: A drill that is not declared
# description: Nothing can be compared with it, and nothing needs it.
_allowed_type(name, limit) if {
	name in _optional
	limit == null
}
