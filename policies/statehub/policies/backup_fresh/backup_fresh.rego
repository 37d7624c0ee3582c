# METADATA
# title: A fresh and sound backup of the right database
# description: >-
#   Prevents crossing over, or giving up the fallback, without a way back to the content as it was: no dump, an old one,
#   one whose bytes changed on disk, or one of another database that happens to lie in the folder.
# custom:
#   code: backup_fresh
#   remedy: Take a backup; a plan whose newest backup is not fresh begins with one.
package statehub.policies.backup_fresh

import data.statehub.lib

# METADATA
# title: Steps that need the backup on disk now
# description: Where the plan takes one first, the world before the step says so and the file cannot exist yet.
_needing contains entry if {
	some entry in lib.risky
	not lib.comes_first("backup", entry)
}

# METADATA
# title: What is known about the newest backup
# description: An object with its manifest's figures, else undefined.
_backup := fact.value if {
	fact := input.observed.facts.backup
	fact.status == "known"
	is_object(fact.value)
	is_number(fact.value.taken_at)
}

# METADATA
# title: No backup on the way
# description: Prevents a plan that changes an endpoint, or retires one, before the primary's backup is taken.
# custom:
#   code: backup_fresh.not_taken
#   remedy: Plan again; the backup comes before everything that changes an endpoint.
deny contains finding if {
	some entry in lib.risky
	not entry.world.backup == "done"
	finding := {
		"code": "backup_fresh.not_taken",
		"level": "hard",
		"message": sprintf("no fresh backup exists before %s", [entry.step.id]),
		"step": entry.step.id,
		"path": "world.backup",
		"evidence": {"backup": object.get(entry.world, "backup", null)},
		"remedy": "Plan again; the backup comes before everything that changes an endpoint.",
	}
}

# METADATA
# title: Nothing is known about the backup
# description: Prevents taking a missing folder or an unreadable manifest for a backup.
# custom:
#   code: backup_fresh.unknown
#   remedy: Make the backup folder of the plan readable, or take a backup into it.
deny contains finding if {
	some entry in _needing
	not _backup
	finding := {
		"code": "backup_fresh.unknown",
		"level": "hard",
		"message": "the newest backup is not known",
		"step": entry.step.id,
		"path": "observed.facts.backup",
		"evidence": {"fact": object.get(input, ["observed", "facts", "backup"], null)},
		"remedy": "Make the backup folder of the plan readable, or take a backup into it.",
	}
}

# METADATA
# title: The backup is too old
# description: Prevents falling back to a state that has lost a day of work.
# custom:
#   code: backup_fresh.stale
#   remedy: Take a backup and go on with the same plan.
deny contains finding if {
	some entry in _needing
	age_s := input.now - _backup.taken_at
	limit_s := object.get(input, ["limits", "backup_max_age_s"], null)
	age_s > limit_s
	finding := {
		"code": "backup_fresh.stale",
		"level": "hard",
		"message": sprintf("the newest backup is %v s old", [age_s]),
		"step": entry.step.id,
		"path": "observed.facts.backup",
		"evidence": {"age_s": age_s, "limit_s": limit_s},
		"remedy": "Take a backup and go on with the same plan.",
	}
}

# METADATA
# title: The backup is from the future
# description: Prevents a wrong clock from making an old backup look fresh.
# custom:
#   code: backup_fresh.future
#   remedy: Wait until that moment has passed, or move that backup's folder away and take another.
deny contains finding if {
	some entry in _needing
	_backup.taken_at > input.now + data.statehub.thresholds.ceilings.clock_tolerance_s
	finding := {
		"code": "backup_fresh.future",
		"level": "hard",
		"message": "the newest backup was taken after now",
		"step": entry.step.id,
		"path": "observed.facts.backup",
		"evidence": {
			"taken_at": _backup.taken_at,
			"now": input.now,
			"path": object.get(_backup, "path", null),
		},
		"remedy": "Wait until that moment has passed, or move that backup's folder away and take another.",
	}
}

# METADATA
# title: A backup from the future was passed over
# description: Tells of a clock that jumped ahead while a backup was taken, before that backup is missed.
# custom:
#   code: backup_fresh.passed_over
#   remedy: Correct the clock that wrote the manifest, and move that backup's folder away.
warn contains finding if {
	count(lib.risky) > 0
	some folder in input.observed.facts.backup.value.passed_over
	finding := {
		"code": "backup_fresh.passed_over",
		"level": "advisory",
		"message": sprintf("%s is dated in the future, and counts as no backup", [folder]),
		"step": null,
		"path": "observed.facts.backup",
		"evidence": {"path": folder, "now": input.now},
		"remedy": "Correct the clock that wrote the manifest, and move that backup's folder away.",
	}
}

# METADATA
# title: A backup of an earlier release was not counted
# description: Tells why a folder that is not empty holds no backup that counts, before somebody relies on what is there.
# custom:
#   code: backup_fresh.outdated
#   remedy: Take a backup; the earlier one can be restored by hand, but no longer be proved.
warn contains finding if {
	count(lib.risky) > 0
	some folder in input.observed.facts.backup.value.outdated
	finding := {
		"code": "backup_fresh.outdated",
		"level": "advisory",
		"message": sprintf("%s was taken by an earlier release, and counts as no backup", [folder]),
		"step": null,
		"path": "observed.facts.backup",
		"evidence": {"path": folder},
		"remedy": "Take a backup; the earlier one can be restored by hand, but no longer be proved.",
	}
}

# METADATA
# title: The backup's bytes are not what was written
# description: Prevents trusting a dump that a full disk cut short or that somebody touched.
# custom:
#   code: backup_fresh.checksum
#   remedy: Take a new backup, and look at the disk that changed this one.
deny contains finding if {
	some entry in _needing
	not _sound
	_backup
	finding := {
		"code": "backup_fresh.checksum",
		"level": "hard",
		"message": "the newest backup is empty or does not match its checksum",
		"step": entry.step.id,
		"path": "observed.facts.backup",
		"evidence": json.filter(_backup, {"checksum_ok", "size_bytes", "path"}),
		"remedy": "Take a new backup, and look at the disk that changed this one.",
	}
}

# METADATA
# title: The backup is of another database
# description: Prevents a folder shared with a test system from satisfying the rule.
# custom:
#   code: backup_fresh.other_database
#   remedy: Take a backup of the primary, into a folder that only this plan uses.
deny contains finding if {
	some entry in _needing
	not _of_primary(entry)
	_backup
	finding := {
		"code": "backup_fresh.other_database",
		"level": "hard",
		"message": "the newest backup is not one of the primary",
		"step": entry.step.id,
		"path": "observed.facts.backup",
		"evidence": {
			"backup": json.filter(_backup, _identity_parts),
			"primary": object.get(entry.world, "primary", null),
			"identities": object.get(input, ["plan", "identities"], null),
		},
		"remedy": "Take a backup of the primary, into a folder that only this plan uses.",
	}
}

# METADATA
# title: What the backup is judged by is not in the document
# description: Prevents a comparison with an absent limit from being silent.
# custom:
#   code: backup_fresh.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"now", "phase", "plan.old", "plan.steps", "plan.trajectory", "plan.identities",
		"observed.world", "observed.facts", "limits.backup_max_age_s",
	})
	finding := {
		"code": "backup_fresh.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: Complete and unchanged
# description: By its manifest, looked at just now.
_sound if {
	_backup.checksum_ok == true
	_backup.size_bytes > 0
}

# METADATA
# title: Taken from the side that is primary in the world before the step
# description: By cluster and database, since a cluster may hold two services'; never by the name of a folder.
_of_primary(entry) if {
	identity := input.plan.identities[lib.endpoint_of[entry.world.primary]]
	every part in _identity_parts {
		identity[part] != null
		_backup[part] == identity[part]
	}
}

# METADATA
# title: What tells one database from every other
# description: The parts of an identity, in a backup's fact as in the plan.
_identity_parts := {"system_identifier", "database", "database_oid"}
