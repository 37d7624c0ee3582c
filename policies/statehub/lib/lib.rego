# METADATA
# title: What policies share, how the steps of a plan are looked at
# description: >-
#   The same rule serves all three phases by looking at entries, each a step with the world before it. When planning
#   and applying that is the trajectory; before one step it is that step in the world just observed.
# custom:
#   code: lib
#   remedy: Change a hazard's own rule rather than what all of them stand on.
package statehub.lib

# METADATA
# title: Kinds of step on the way to a decision
# description: Everything that prepares, pauses writes or decides; what comes later is finishing.
crossing_kinds := {
	"prepare-target", "follow", "rehearse", "hold", "copy", "drain",
	"sync-sequences", "compare", "freeze", "decide",
}

# METADATA
# title: Kinds of step that only finish what was decided
# description: Together with opening the primary, these end the outage that a decision began.
finishing_kinds := {"unfollow", "reverse-follow", "redirect", "stabilize", "document"}

# METADATA
# title: Which endpoint plays a role
# description: The roles of a world, as names of this plan's endpoints.
endpoint_of := {"old": input.plan.old, "new": input.plan.new}

# METADATA
# title: Steps to judge
# description: All steps of the plan, without those that lie behind a decision that has fallen since.
entries contains entry if {
	not input.phase == "step"
	some i, step in input.plan.steps
	not _moot(i)
	entry := {"index": i, "step": step, "world": object.get(input, ["plan", "trajectory", i], {})}
}

# METADATA
# title: The step to judge
# description: The one that is about to begin, in the world just observed.
entries contains entry if {
	input.phase == "step"
	some i, step in input.plan.steps
	step.id == input.run.step
	entry := {"index": i, "step": step, "world": object.get(input.observed, "world", {})}
}

# METADATA
# title: A step on the way to a decision that has already fallen
# description: A resumed run skips it, so what it would have needed is not asked for again.
_moot(i) if {
	input.phase == "apply"
	input.observed.world.primary == "new"
	input.plan.trajectory[0].primary == "old"
	some decided, step in input.plan.steps
	step.kind == "decide"
	i <= decided
}

# METADATA
# title: A step that leads out of an outage or closes a stray writable side
# description: >-
#   Burning a decision, opening the side that the register names primary, closing the one that it does not.
is_safety(entry) if entry.step.kind == "burn"

# METADATA
# title: Opening the primary
# description: Nobody accepts writes before it.
is_safety(entry) if {
	entry.step.kind == "open"
	entry.step.subject == endpoint_of[entry.world.primary]
}

# METADATA
# title: Closing the side that is not primary
# description: It should not have been writable.
is_safety(entry) if {
	entry.step.kind == "freeze"
	entry.step.subject in {input.plan.old, input.plan.new}
	entry.step.subject != endpoint_of[entry.world.primary]
}

# METADATA
# title: A step that finishes what was decided
# description: The register names the desired primary; whoever stops here stops in the middle.
is_finishing(entry) if {
	entry.step.kind in finishing_kinds
	entry.world.primary == "new"
}

# METADATA
# title: Steps that could as well not be taken today
# description: Everything but safety and finishing; only these may be stopped by clocks, approvals and paperwork.
advancing contains entry if {
	some entry in entries
	not is_safety(entry)
	not is_finishing(entry)
}

# METADATA
# title: Steps on the way to a decision
# description: From preparing the target to the decision itself.
crossing contains entry if {
	some entry in advancing
	entry.step.kind in crossing_kinds
}

# METADATA
# title: Holds that pause writers
# description: The beginning of a cutover's outage, whichever way rows travel.
holding contains entry if {
	some entry in crossing
	entry.step.kind == "hold"
}

# METADATA
# title: Holds of a cutover by replication
# description: What they stand on is a stream and a rehearsal.
switching contains entry if {
	input.plan.method == "replication"
	some entry in holding
}

# METADATA
# title: Both directions in which a stream can run
# description: Each endpoint as sender, with the one that receives from it.
directions := {
	{"sender": input.plan.old, "receiver": input.plan.new},
	{"sender": input.plan.new, "receiver": input.plan.old},
}

# METADATA
# title: Steps that retire the fallback
# description: The second point of no return.
retiring contains entry if {
	some entry in advancing
	entry.step.kind == "retire"
}

# METADATA
# title: Steps that cannot be taken back, and those that lead there
# description: What stands on evidence, identities and a known past.
risky := crossing | retiring

# METADATA
# title: Endpoints about which a step must know
# description: Finishing concerns the new primary alone, so that a dead old side cannot keep it closed.
endpoints_needed(entry) := {input.plan.new} if is_finishing(entry)

# METADATA
# title: Endpoints about which a safety step must know
# description: Opening concerns the side that is opened; burning and closing wait for nothing.
endpoints_needed(entry) := {entry.step.subject | entry.step.kind == "open"} if is_safety(entry)

# METADATA
# title: Endpoints about which an advancing step must know
# description: Both.
endpoints_needed(entry) := {input.plan.old, input.plan.new} if entry in advancing

# METADATA
# title: Whether a step of one kind comes before this entry
# description: Before a single step nothing is still to come, what should have happened has been observed.
comes_first(kind, entry) if {
	not input.phase == "step"
	some i, step in input.plan.steps
	step.kind == kind
	i < entry.index
}

# METADATA
# title: Not yet carrying anything out
# description: At planning, what is only not yet so is no reason to refuse to show a plan.
is_planning if input.phase == "plan"

# METADATA
# title: The stream into the endpoint that is to become primary
# description: As observed just now; undefined where the document has none.
stream_into_new := input.observed.streams[input.plan.new]

# METADATA
# title: The newest rehearsal on record
# description: Undefined where the journal has none.
rehearsal := fact.value if {
	fact := input.observed.facts.rehearsal
	fact.status == "known"
	is_object(fact.value)
}

# METADATA
# title: Paths that the input does not have
# description: Every hazard denies for each of its own; a comparison with something absent would be silent.
absent(paths) := {path |
	some path in paths
	object.get(input, split(path, "."), _nothing) == _nothing
}

# METADATA
# title: A value that no document holds
# description: Null and false are values, only absence is absence.
_nothing := {"statehub.lib": "absent"}
