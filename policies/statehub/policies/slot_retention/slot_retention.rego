# METADATA
# title: No forgotten slot and no full disk
# description: >-
#   Prevents an outage of the primary by WAL that is kept for nobody, begun while everybody looks at the cutover.
# custom:
#   code: slot_retention
#   remedy: Drop the slot that nobody reads, or make room on that disk.
package statehub.policies.slot_retention

import data.statehub.lib

# METADATA
# title: Holds that are about to begin
# description: A plan may be made and shown before there is room.
_beginning contains entry if {
	not lib.is_planning
	some entry in lib.holding
}

# METADATA
# title: A forgotten slot keeps too much
# description: Prevents a cutover beside a slot that fills the disk for nobody.
# custom:
#   code: slot_retention.orphan
#   remedy: Drop the slot that is named there, with pg_drop_replication_slot.
deny contains finding if {
	some entry in _beginning
	some orphan in input.observed.orphans
	is_number(orphan.retained_bytes)
	limit_bytes := object.get(input, ["limits", "drop_slot_at_retained_bytes"], null)
	orphan.retained_bytes > limit_bytes
	finding := {
		"code": "slot_retention.orphan",
		"level": "hard",
		"message": sprintf("slot %v on %v keeps %v bytes for nobody", [orphan.name, orphan.endpoint, orphan.retained_bytes]),
		"step": entry.step.id,
		"path": "observed.orphans",
		"evidence": {"orphan": orphan, "limit_bytes": limit_bytes},
		"remedy": "Drop the slot that is named there, with pg_drop_replication_slot.",
	}
}

# METADATA
# title: A disk is nearly full
# description: Prevents a cutover that ends with a server which cannot write its WAL.
# custom:
#   code: slot_retention.disk
#   remedy: Make room where that server keeps its WAL.
deny contains finding if {
	some entry in _beginning
	some direction in lib.directions
	free_bytes := input.observed.streams[direction.receiver].disk_free_bytes
	is_number(free_bytes)
	limit_bytes := object.get(input, ["limits", "drop_slot_at_disk_free_bytes"], "")
	free_bytes < limit_bytes
	finding := {
		"code": "slot_retention.disk",
		"level": "hard",
		"message": sprintf("%v has %v bytes of disk left", [direction.sender, free_bytes]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"endpoint": direction.sender, "free_bytes": free_bytes, "limit_bytes": limit_bytes},
		"remedy": "Make room where that server keeps its WAL.",
	}
}

# METADATA
# title: A forgotten slot
# description: Says while there is time that WAL is kept for nobody.
# custom:
#   code: slot_retention.forgotten
#   remedy: Drop the slot that is named there, with pg_drop_replication_slot.
warn contains finding if {
	some orphan in input.observed.orphans
	not _is_small(orphan)
	finding := {
		"code": "slot_retention.forgotten",
		"level": "advisory",
		"message": sprintf("slot %v on %v is read by nobody", [orphan.name, orphan.endpoint]),
		"step": null,
		"path": "observed.orphans",
		"evidence": {"orphan": orphan},
		"remedy": "Drop the slot that is named there, with pg_drop_replication_slot.",
	}
}

# METADATA
# title: Little disk is left
# description: Says before the cutover that there is little room.
# custom:
#   code: slot_retention.disk_low
#   remedy: Make room where that server keeps its WAL.
warn contains finding if {
	some entry in lib.holding
	some direction in lib.directions
	free_bytes := input.observed.streams[direction.receiver].disk_free_bytes
	is_number(free_bytes)
	limit_bytes := input.limits.advise_disk_free_bytes
	free_bytes < limit_bytes
	finding := {
		"code": "slot_retention.disk_low",
		"level": "advisory",
		"message": sprintf("%v has %v bytes of disk left", [direction.sender, free_bytes]),
		"step": entry.step.id,
		"path": "observed.streams",
		"evidence": {"endpoint": direction.sender, "free_bytes": free_bytes, "limit_bytes": limit_bytes},
		"remedy": "Make room where that server keeps its WAL.",
	}
}

# METADATA
# title: What this hazard reads is not in the document
# description: Prevents a comparison with something absent from being silent.
# custom:
#   code: slot_retention.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({
		"phase", "plan.old", "plan.new", "plan.steps", "plan.trajectory", "observed.world", "observed.streams",
		"observed.orphans", "limits.advise_retained_bytes", "limits.drop_slot_at_retained_bytes",
		"limits.advise_disk_free_bytes", "limits.drop_slot_at_disk_free_bytes",
	})
	finding := {
		"code": "slot_retention.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}

# METADATA
# title: A slot that keeps little
# description: One of which the size is not known does not count as small.
_is_small(orphan) if {
	is_number(orphan.retained_bytes)
	orphan.retained_bytes <= input.limits.advise_retained_bytes
}
