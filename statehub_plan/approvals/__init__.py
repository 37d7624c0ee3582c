"""Human decisions as signed statements: what is signed, and whether it counts.

`statements` and `judge` are pure; `ssh` signs and verifies, `store` reads and writes files, and `collect` does all of
that for a plan.
"""
