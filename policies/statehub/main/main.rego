# METADATA
# title: The one decision that the host asks for
# description: >-
#   Collects what every hazard's policy says. The host compares `evaluated` with the packages on disk, because a
#   policy that was not loaded, or whose rule is misspelt, would otherwise simply be silent.
# custom:
#   code: main
#   remedy: Ask for data.statehub.main.verdict and nothing else.
package statehub.main

# METADATA
# title: Everything that was evaluated and everything that was found
# description: Defined for every input whatever; a document that says nothing is denied by the hazards themselves.
verdict := {
	"evaluated": [name | some name in evaluated],
	"findings": [finding | some finding in findings],
}

# METADATA
# title: The hazards that have a set of denials, empty or not
# description: A data file or a package without `deny` is not a policy and does not count as one.
evaluated contains name if {
	some name
	is_set(data.statehub.policies[name].deny)
}

# METADATA
# title: What must not be
# description: Hard and soft findings of every hazard.
findings contains finding if {
	some name in evaluated
	some finding in data.statehub.policies[name].deny
}

# METADATA
# title: What should be known
# description: Advisory findings of every hazard.
findings contains finding if {
	some name in evaluated
	some finding in data.statehub.policies[name].warn
}
