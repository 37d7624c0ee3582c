# METADATA
# title: The canary
# description: >-
#   Prevents a gate that is green because nothing is judged: an empty bundle, another server on the port, a proxy that
#   answers by itself. The host asks about a document made for this policy before every real one.
# custom:
#   code: canary
#   remedy: Load the whole bundle, and ask the OPA that has loaded it.
package statehub.policies.canary

# METADATA
# title: Denies the canary document, always
# description: The nonce shows that this very question was evaluated, not an earlier one remembered.
# custom:
#   code: canary.sings
#   remedy: "None: this finding is wanted, and only ever about a document that stands for no plan."
deny contains finding if {
	input.schema == "statehub-plan/canary/v1"
	finding := {
		"code": "canary.sings",
		"level": "hard",
		"message": "the canary is denied, as it must be",
		"step": null,
		"path": "schema",
		"evidence": {"nonce": object.get(input, "nonce", null)},
		"remedy": "None: this finding is wanted, and only ever about a document that stands for no plan.",
	}
}
