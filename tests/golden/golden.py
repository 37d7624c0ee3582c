"""Rendered output beside what it was when somebody last read it. STATEHUB_PLAN_UPDATE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.console import Console, RenderableType

HERE = Path(__file__).parent
UPDATE_VARIABLE = "STATEHUB_PLAN_UPDATE_GOLDEN"


def check(name: str, text: str) -> None:
    """Compares with `tests/golden/NAME`. Digests are left out: any field of any model changes them."""
    path = HERE / name
    plain = re.sub(r"\b[0-9a-f]{64}\b", "<digest>", text)
    if os.environ.get(UPDATE_VARIABLE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plain, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == plain, f"{name} changed; read the difference, then {UPDATE_VARIABLE}=1"


def on_screen(view: RenderableType, width: int = 120) -> str:
    """What a terminal of this width without colours shows."""
    console = Console(width=width, no_color=True, highlight=False, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(view)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
