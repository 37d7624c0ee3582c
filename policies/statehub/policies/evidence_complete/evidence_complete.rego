# METADATA
# title: Earlier tasks are shown to be done
# description: >-
#   Prevents a cutover on the strength of ticked boxes. Every probe that the plan declares must have been asked and
#   must have passed; a probe that was left out is as bad as one that failed.
# custom:
#   code: evidence_complete
#   remedy: Finish the task that the probe shows to be open; `observe` asks all probes again.
package statehub.policies.evidence_complete

import data.statehub.lib

# METADATA
# title: Probes that must have passed
# description: All that the plan declares, as soon as it takes a risky step.
_demanded contains {"task": task.id, "probe": probe} if {
	count(lib.risky) > 0
	some task in input.plan.tasks
	some probe in task.probes
}

# METADATA
# title: A probe failed
# description: Prevents moving to a side whose preparation is shown not to be done.
# custom:
#   code: evidence_complete.failed
#   remedy: Finish the task, then observe again.
deny contains finding if {
	some demanded in _demanded
	some item in input.evidence
	[item.task, item.probe] == [demanded.task, demanded.probe]
	item.status == "failed"
	finding := {
		"code": "evidence_complete.failed",
		"level": "hard",
		"message": sprintf("%s: probe %s failed", [item.task, item.probe]),
		"step": null,
		"path": sprintf("evidence.%s.%s", [item.task, item.probe]),
		"evidence": {"detail": object.get(item, "detail", null)},
		"remedy": "Finish the task, then observe again.",
	}
}

# METADATA
# title: A probe could not be asked
# description: Prevents an unreachable system from counting as one that is ready.
# custom:
#   code: evidence_complete.unknown
#   remedy: Make what the probe asks reachable, then observe again.
deny contains finding if {
	some demanded in _demanded
	some item in input.evidence
	[item.task, item.probe] == [demanded.task, demanded.probe]
	status := object.get(item, "status", null)
	not status in {"passed", "failed"}
	finding := {
		"code": "evidence_complete.unknown",
		"level": "hard",
		"message": sprintf("%s: what probe %s would show is unknown", [item.task, item.probe]),
		"step": null,
		"path": sprintf("evidence.%s.%s", [item.task, item.probe]),
		"evidence": {"detail": object.get(item, "detail", null), "status": status},
		"remedy": "Make what the probe asks reachable, then observe again.",
	}
}

# METADATA
# title: A probe was left out
# description: Prevents a shorter list of evidence from passing for a complete one.
# custom:
#   code: evidence_complete.left_out
#   remedy: Observe again with the probes of the plan.
deny contains finding if {
	asked := {[item.task, item.probe] | some item in input.evidence}
	some demanded in _demanded
	not [demanded.task, demanded.probe] in asked
	finding := {
		"code": "evidence_complete.left_out",
		"level": "hard",
		"message": sprintf("%s: probe %s was not asked", [demanded.task, demanded.probe]),
		"step": null,
		"path": sprintf("evidence.%s.%s", [demanded.task, demanded.probe]),
		"evidence": {},
		"remedy": "Observe again with the probes of the plan.",
	}
}

# METADATA
# title: Tasks or evidence are not in the document
# description: Prevents a list that is absent from passing for one that is empty.
# custom:
#   code: evidence_complete.missing
#   remedy: Ask with the whole document, as the tool writes it.
deny contains finding if {
	some path in lib.absent({"phase", "plan.steps", "plan.tasks", "evidence"})
	finding := {
		"code": "evidence_complete.missing",
		"level": "hard",
		"message": sprintf("%s is not in the document", [path]),
		"step": null,
		"path": path,
		"evidence": {},
		"remedy": "Ask with the whole document, as the tool writes it.",
	}
}
