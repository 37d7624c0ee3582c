"""All benchmarks, one after the other, at the sizes that docs/benchmarks.md records."""

from __future__ import annotations

import subprocess
import sys

_ALL = ("command_line", "copy", "fill", "write_gap", "zero_lag", "content_hash", "locate", "changed_keys", "preflight")


def main() -> None:
    """Each in a process of its own, so that none profits from what another has imported."""
    for name in _ALL:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
