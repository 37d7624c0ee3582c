"""`python -m statehub_plan` is the same as the installed command."""

from __future__ import annotations

from statehub_plan.cli import main

if __name__ == "__main__":
    main()
