"""Human decisions as signed statements: what is signed, by whose key, and whether it counts.

`statements`, `judge`, `signers` and `sshsig` are pure; `ssh` runs ssh-keygen, `store` reads and writes files, and
`collect` puts all of it together for a plan.
"""
